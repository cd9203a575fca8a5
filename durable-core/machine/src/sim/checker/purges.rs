//! What must hold of a purge: only what ended and was asked for goes, all of it, and for good.

use super::{Checker, Verdict, holds};
use crate::model::{ExecutionKey, InstanceId};
use crate::sim::journal::Journal;
use crate::store::StoreModel;

impl Checker {
    /// Runs that were purged.
    pub(in crate::sim) fn purged(&self) -> u64 {
        let runs = self.runs.values().flat_map(|runs| runs.values());
        runs.filter(|run| run.purged).count() as u64
    }

    /// Whether some run of an instance was purged.
    pub(in crate::sim) fn was_purged(&self, instance: &InstanceId) -> bool {
        self.runs.get(instance).is_some_and(|runs| runs.values().any(|run| run.purged))
    }

    /// A commit that purges an instance took effect.
    pub(super) fn purge_is_right(
        &mut self,
        key: &ExecutionKey,
        store: &StoreModel,
        journal: &Journal,
    ) -> Verdict {
        let ExecutionKey { instance, run, .. } = key;
        holds(journal.purges.contains_key(&(instance.clone(), *run)), || {
            format!("I10: {key} was purged, and nobody asked for that")
        })?;
        let seen = self.runs.get_mut(instance).and_then(|runs| runs.get_mut(run));
        let damaged = self.damaged.contains(instance);
        let ended = seen.as_ref().is_some_and(|seen| seen.row.status.is_terminal());
        holds(ended || damaged, || format!("I10: {key} was purged, and had not ended"))?;
        let stored = store.load(instance);
        let row = stored.and_then(|stored| stored.status);
        holds(row.is_none() && store.history(instance).is_none(), || {
            format!("I10: {key} was purged, and is there")
        })?;
        // A start that was accepted meanwhile is no part of it.
        holds(store.status(instance).is_none_or(|row| row.run > *run), || {
            format!("I10: {key} was purged, and is seen")
        })?;
        if let Some(seen) = seen {
            seen.purged = true;
        }
        Ok(())
    }
}
