//! Requests are what storage is paid by: each one sent is counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    TableGet,
    TableQuery,
    TableTransaction,
    QueuePut,
    QueueGet,
    /// A get that found no message.
    QueueGetEmpty,
    QueueDelete,
    QueueUpdate,
    QueueClear,
    BlobPut,
    BlobGet,
    BlobDelete,
    BlobList,
    /// Of a table, queue or container.
    Create,
    /// Of a table, queue or container.
    Delete,
}

impl Kind {
    /// In the order of their declaration.
    const ALL: [Self; 15] = [
        Self::TableGet,
        Self::TableQuery,
        Self::TableTransaction,
        Self::QueuePut,
        Self::QueueGet,
        Self::QueueGetEmpty,
        Self::QueueDelete,
        Self::QueueUpdate,
        Self::QueueClear,
        Self::BlobPut,
        Self::BlobGet,
        Self::BlobDelete,
        Self::BlobList,
        Self::Create,
        Self::Delete,
    ];

    /// Its name as a label.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::TableGet => "table_get",
            Self::TableQuery => "table_query",
            Self::TableTransaction => "table_transaction",
            Self::QueuePut => "queue_put",
            Self::QueueGet => "queue_get",
            Self::QueueGetEmpty => "queue_get_empty",
            Self::QueueDelete => "queue_delete",
            Self::QueueUpdate => "queue_update",
            Self::QueueClear => "queue_clear",
            Self::BlobPut => "blob_put",
            Self::BlobGet => "blob_get",
            Self::BlobDelete => "blob_delete",
            Self::BlobList => "blob_list",
            Self::Create => "create",
            Self::Delete => "delete",
        }
    }
}

/// How many requests of each kind were sent; kinds that were not are left out.
///
/// ```
/// use durable_azure::Transactions;
///
/// // What `AzureStore::transactions` gives; here nothing was sent.
/// let sent = Transactions::default();
/// assert_eq!((sent.total(), sent.of("blob_put"), sent.iter().count()), (0, 0, 0));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transactions(BTreeMap<&'static str, u64>);

impl Transactions {
    /// Of one kind.
    #[must_use]
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or_default()
    }

    /// Of all kinds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each kind with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }
}

/// The counts while they go on.
#[derive(Debug, Default)]
pub(super) struct Counter([AtomicU64; Kind::ALL.len()]);

impl Counter {
    /// The counts so far.
    pub(super) fn read(&self) -> Transactions {
        let counts = Kind::ALL.into_iter().zip(&self.0);
        let counts = counts.map(|(kind, count)| (kind.name(), count.load(Ordering::Relaxed)));
        Transactions(counts.filter(|(_, count)| *count > 0).collect())
    }

    /// A request about to be sent. It counts when the guard goes, thus also when its caller gives up waiting.
    pub(super) fn sending(&self, kind: Kind) -> Sending<'_> {
        Sending { counter: self, kind: Some(kind) }
    }

    fn add(&self, kind: Kind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
        metrics::counter!(telemetry::STORAGE_TRANSACTIONS, telemetry::KIND => kind.name())
            .increment(1);
    }
}

/// See [`Counter::sending`].
pub(super) struct Sending<'a> {
    counter: &'a Counter,
    kind: Option<Kind>,
}

impl Sending<'_> {
    /// The answer shows that it was of another kind.
    pub(super) fn was(&mut self, kind: Kind) {
        self.kind = Some(kind);
    }

    /// Nothing was sent after all.
    pub(super) fn was_not_sent(&mut self) {
        self.kind = None;
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if let Some(kind) = self.kind {
            self.counter.add(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_stand_at_their_place() {
        for (place, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{}", kind.name());
        }
    }

    #[test]
    fn what_was_sent_counts_once() {
        let counter = Counter::default();
        drop(counter.sending(Kind::QueuePut));
        drop(counter.sending(Kind::QueuePut));
        counter.sending(Kind::QueueGet).was(Kind::QueueGetEmpty);
        counter.sending(Kind::TableGet).was_not_sent();
        let counts = counter.read();
        assert_eq!(counts.iter().collect::<Vec<_>>(), [("queue_get_empty", 1), ("queue_put", 2)]);
        assert_eq!(counts.total(), 3);
        assert_eq!(counts.of("table_get"), 0);
    }
}
