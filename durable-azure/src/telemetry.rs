//! Every name that this crate gives to metrics.

/// Counter: requests sent to storage, each try for itself, by [`KIND`].
pub const STORAGE_TRANSACTIONS: &str = "durable_storage_transactions_total";

/// Label: what a request asked for.
pub const KIND: &str = "kind";
