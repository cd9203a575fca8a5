//! Azure Storage (Tables, Queues and Blobs) as a store for `durable-core`.

mod connection;
// The store is what uses it.
#[allow(dead_code, unused_imports, reason = "the store on top of it is being written")]
mod service;
pub mod telemetry;

pub use connection::{ConnectError, Connection, Endpoints, TokenCredential};
