//! What a fault of the service means for a caller of the store.

use std::time::Duration;

use durable_core::machine::codec::DecodeError;
use durable_core::store::StoreError;

use crate::connection::ConnectError;
use crate::service::Fault;

/// Wait where storage cannot be reached or does not answer.
const UNREACHABLE_WAIT: Duration = Duration::from_secs(1);

/// A fault of a read, or of a write that was certainly not applied.
pub(super) fn not_applied(fault: Fault) -> StoreError {
    match fault {
        Fault::Throttled { retry_after, reason } => StoreError::Busy { retry_after, reason },
        Fault::Unreachable { .. } | Fault::Unknown { .. } => {
            StoreError::Busy { retry_after: UNREACHABLE_WAIT, reason: fault.to_string() }
        }
        Fault::Refused { ref code, .. } => StoreError::Unusable(match code.as_str() {
            "TableNotFound" | "QueueNotFound" | "ContainerNotFound" => {
                format!("the hub is not there, or only parts of it ({fault}): was it deleted?")
            }
            _ => fault.to_string(),
        }),
        Fault::Denied { .. } | Fault::Malformed { .. } => StoreError::Unusable(fault.to_string()),
    }
}

/// A fault of a write that may have been applied, and of which nothing more can be found out.
pub(super) fn maybe_applied(fault: Fault) -> StoreError {
    match fault {
        Fault::Unknown { .. } => StoreError::Unknown(Box::new(fault)),
        other @ (Fault::Throttled { .. }
        | Fault::Refused { .. }
        | Fault::Unreachable { .. }
        | Fault::Denied { .. }
        | Fault::Malformed { .. }) => not_applied(other),
    }
}

/// Whether it is worth trying again after a while.
pub(super) fn passes(fault: &Fault) -> bool {
    matches!(fault, Fault::Throttled { .. } | Fault::Unknown { .. } | Fault::Unreachable { .. })
}

/// How long storage asks to wait.
pub(super) fn retry_after(error: &StoreError) -> Duration {
    match error {
        StoreError::Busy { retry_after, .. } => *retry_after,
        _ => Duration::ZERO,
    }
}

/// A row that cannot be read, by its keys.
pub(super) fn corrupt(partition: &str, key: &str, source: DecodeError) -> StoreError {
    StoreError::Corrupt { key: format!("row {key:?} of partition {partition}"), source }
}

pub(super) fn damaged(partition: &str, key: &str, what: impl Into<String>) -> StoreError {
    corrupt(partition, key, DecodeError::Damaged(what.into()))
}

impl From<ConnectError> for Unconnected {
    fn from(error: ConnectError) -> Self {
        Self(error)
    }
}

/// A connection that cannot be used.
pub(super) struct Unconnected(ConnectError);

impl From<Unconnected> for StoreError {
    fn from(Unconnected(error): Unconnected) -> Self {
        Self::Unusable(error.to_string())
    }
}
