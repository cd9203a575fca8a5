//! Durable workflows.

pub use durable_machine as machine;

pub mod store;
