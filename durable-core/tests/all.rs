//! The integration tests of the package, in one binary: it links once.

#[cfg(feature = "sqlite")]
mod sqlite;
mod store_contract;
