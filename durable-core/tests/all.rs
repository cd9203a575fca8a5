//! The integration tests of the package, in one binary: it links once.

#[cfg(feature = "sqlite")]
mod engine;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "sqlite")]
mod kill;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store_contract;
#[cfg(feature = "testing")]
mod testing;
