//! The integration tests of the package, in one binary: it links once.

mod budgets;
#[cfg(unix)]
mod chaos;
mod engine;
mod smoke;
mod store;
#[path = "../../durable-core/tests/store_contract/mod.rs"]
mod store_contract;
