//! The integration tests of the package, in one binary: it links once.

mod refusals;
