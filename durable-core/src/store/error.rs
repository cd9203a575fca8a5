//! What a failed store call means for its caller.

use std::time::Duration;

use durable_machine::codec::DecodeError;
use durable_machine::model::Fence;

/// Why a store call failed. Each variant is a choice of the caller.
///
/// ```
/// use durable_core::StoreError;
/// use durable_core::prelude::*;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let first = Worker::builder(store.clone()).start().await?;
/// // One worker at a time may hold this hub.
/// let second = Worker::builder(store).start().await;
/// let Err(durable_core::StartError::Store(error)) = second else { panic!("two workers") };
/// match error {
///     StoreError::HubInUse { pid } => assert_eq!(pid, Some(std::process::id())),
///     StoreError::Busy { retry_after, .. } => tokio::time::sleep(retry_after).await,
///     error => return Err(error.into()),
/// }
/// # drop(first);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not applied, for a reason that passes by itself: locked, throttled, disk full. Try again after
    /// this long.
    #[error("the store is busy: {reason}")]
    Busy {
        /// When to try again.
        retry_after: Duration,
        /// What keeps it busy, for people.
        reason: String,
    },
    /// Not applied: a newer owner holds the partition. Stop, and write nothing more.
    #[error("the partition has a newer owner (fence {newest})")]
    Fenced {
        /// The newest fence.
        newest: Fence,
    },
    /// Stored bytes cannot be read. No retry helps; they are kept for a person to look at.
    #[error("{key} cannot be read: {source}")]
    Corrupt {
        /// The row.
        key: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The answer was lost: applied or not, nobody can say. Open again and read before going on.
    #[error("the store did not say whether the write was applied: {0}")]
    Unknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another worker holds the hub.
    #[error(
        "the hub is in use by another worker{}; stop it first, or connect as a client only",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    HubInUse {
        /// Its process id, if known.
        pid: Option<u32>,
    },
    /// A newer build wrote this hub.
    #[error(
        "the hub has schema version {found}, this build reads up to {supported}; run a newer build"
    )]
    NewerSchema {
        /// The version stored.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// The hub cannot be used as asked: not a hub, other settings than it was created with, or a commit
    /// that contradicts what is stored, or whose owner knows less than is stored: the partition is opened
    /// again then.
    #[error("{0}")]
    Unusable(String),
}
