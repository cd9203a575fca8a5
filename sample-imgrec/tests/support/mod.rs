//! What the tests make their inputs of.

pub(crate) mod generate;
pub(crate) mod program;
