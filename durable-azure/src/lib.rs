//! Azure Storage (Tables, Queues and Blobs) as a store for `durable-core`.

mod connection;
mod service;
mod store;
pub mod telemetry;

pub use connection::{ConnectError, Connection, Endpoints, TokenCredential};
pub use service::Transactions;
pub use store::{AzureOptions, AzureStore};
