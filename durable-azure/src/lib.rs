//! Azure Storage (Tables, Queues and Blobs) as a store for `durable-core`, shared by any number of workers.
//!
//! [`AzureStore::open`] makes a store of a [`Connection`] and [`AzureOptions`]; give it to
//! `Worker::builder` or `Client::new`. `docs/guide/azure.md` in the repository shows a whole program and what
//! the account needs; `docs/design/azure-storage.md` describes every row.

mod connection;
mod service;
mod store;
pub mod telemetry;

pub use connection::{ConnectError, Connection, Endpoints, TokenCredential};
pub use service::Transactions;
pub use store::{AzureOptions, AzureStore};

/// The program in the guide compiles.
#[cfg(doctest)]
#[doc = include_str!("../../docs/guide/azure.md")]
struct Guide;
