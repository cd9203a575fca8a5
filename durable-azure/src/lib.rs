//! Azure Storage (Tables, Queues and Blobs) as a store for `durable-core`.

mod connection;
#[allow(dead_code, unused_imports, reason = "the store on top of it is being written")]
mod service;
mod store;
pub mod telemetry;

pub use connection::{ConnectError, Connection, Endpoints, TokenCredential};
pub use service::Transactions;
pub use store::{AzureOptions, AzureStore};
