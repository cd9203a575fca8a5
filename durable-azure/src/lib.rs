//! Azure Storage (Tables, Queues and Blobs) as a store for `durable-core`.
//!
//! This crate holds no code yet. `durable-core` runs on a SQLite file today; the store traits, the
//! row layout and the event format it uses are the ones this crate will implement.
