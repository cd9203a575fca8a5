//! What is taken from the store must have led to something by then.

use super::{Checker, InFlightSeen, Verdict, holds};
use crate::codec;
use crate::partition::AttemptKey;
use crate::store::{Commit, StoreModel, WorkResult};

/// The results of offered attempts that a commit takes from the store.
pub(in crate::sim) fn taken(commit: &Commit, store: &StoreModel) -> Vec<WorkResult> {
    let consumed = |result: &WorkResult| commit.consumed.iter().any(|taken| taken.id == result.id);
    store.results().filter(|result| consumed(result)).cloned().collect()
}

impl Checker {
    /// No call still waits for a result that the store no longer has.
    pub(in crate::sim) fn results_are_kept(
        &self,
        taken: &[WorkResult],
        store: &StoreModel,
    ) -> Verdict {
        for WorkResult { id, attempt, .. } in taken {
            let key = &attempt.key;
            if self.damaged.contains(&key.instance)
                || store.results().any(|other| other.attempt == *attempt)
            {
                continue;
            }
            let Some(stored) = store.load(&key.instance) else { continue };
            let current = stored.status.is_some_and(|row| {
                row.run == key.run && row.execution == key.execution && !row.status.is_terminal()
            });
            let Some(body) = stored.in_flight.filter(|_| current) else { continue };
            let Ok(seen) = codec::decode_row::<InFlightSeen>(&body) else { continue };
            holds(!seen.awaits(attempt), || {
                format!(
                    "I2: {id} of {key} {} attempt {} left the store, and its call still waits",
                    attempt.call, attempt.attempt
                )
            })?;
        }
        Ok(())
    }
}

impl InFlightSeen {
    fn awaits(&self, attempt: &AttemptKey) -> bool {
        let stashed = self.stash.iter().any(|stashed| {
            stashed.get("Settled").and_then(|settled| settled.get("call"))
                == serde_json::to_value(attempt.call).ok().as_ref()
        });
        let open = self.calls.get(&attempt.call);
        !stashed && open.is_some_and(|open| open.offered && open.attempt == attempt.attempt)
    }
}
