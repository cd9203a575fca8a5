//! What a store keeps, as plain values, and the model of a store.
//!
//! A store takes a [`Commit`] as a whole and does not look inside its events. [`StoreModel`] is the
//! reference: the memory store is the model behind a lock, and the contract tests compare every other
//! store with it.

mod commit;
mod model;
mod query;
mod snapshot;

pub use commit::{
    Begins, Commit, Consumed, Cursor, Head, HistoryAppend, InstanceWrite, OutboxWrite, PURGE_ROWS,
    RowChange, TimerMove,
};
pub use model::{Refusal, StoreModel};
pub use query::{HistoryPage, HistoryToken, ListPage, ListQuery, ListToken};
pub use snapshot::{
    AcceptOutcome, AcceptedStart, ArrivalPosition, Arrivals, DeadMessage, HistoryRow, Remains,
    SendOutcome, Snapshot, StoreLimits, StoredInstance, TimerPage, WorkResult,
};
