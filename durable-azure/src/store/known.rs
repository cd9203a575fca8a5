//! What the owner of a partition remembers of its instances, so that a commit is checked without reading.

use std::collections::{HashMap, HashSet};

use durable_core::machine::model::{
    EventSeq, ExecutionNumber, InstanceId, RunNumber, RuntimeStatus, StartNonce, Timestamp,
};

/// Instances remembered at most.
const KNOWN_MAX: usize = 131_072;

/// An acceptance row, as far as the commit that begins the run has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StartFacts {
    pub(super) run: RunNumber,
    /// Where the status row does not name it yet.
    pub(super) nonce: Option<StartNonce>,
    pub(super) blob: Option<String>,
}

/// What a commit is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) run: RunNumber,
    pub(super) execution: ExecutionNumber,
    /// The event that its execution's history goes on with.
    pub(super) next: EventSeq,
    pub(super) status: RuntimeStatus,
    pub(super) timer: Option<Timestamp>,
    pub(super) in_flight: bool,
    pub(super) created: u64,
    /// Its acceptance row counts for it, and not yet the sums of the head row.
    pub(super) uncounted: bool,
    /// It was purged, and its row is about to go.
    pub(super) purged: bool,
    /// The acceptance row of this very run. Nobody but the owner takes it away, when it begins.
    pub(super) start: Option<StartFacts>,
    /// Blobs that its status row and its row of work in flight name.
    pub(super) status_blob: Option<String>,
    pub(super) in_flight_blob: Option<String>,
}

/// Instances of one opening: the active ones, and those that were loaded for something else.
#[derive(Debug, Default)]
pub(super) struct Cache {
    known: HashMap<InstanceId, Known>,
    /// Instances that are being read: whether a commit touches them meanwhile.
    reading: HashMap<InstanceId, bool>,
    /// Instances of the commit under way.
    writing: HashSet<InstanceId>,
}

impl Cache {
    pub(super) fn get(&self, instance: &InstanceId) -> Option<&Known> {
        self.known.get(instance)
    }

    /// A commit of these begins to be made.
    pub(super) fn write(&mut self, instances: impl Iterator<Item = InstanceId>) {
        for instance in instances {
            if let Some(touched) = self.reading.get_mut(&instance) {
                *touched = true;
            }
            self.writing.insert(instance);
        }
    }

    /// The commit is applied: this is how its instances are now.
    pub(super) fn written(&mut self, changes: Vec<(InstanceId, Option<Known>)>) {
        self.writing.clear();
        for (instance, known) in changes {
            match known {
                Some(known) => self.keep(instance, known),
                None => {
                    self.known.remove(&instance);
                }
            }
        }
    }

    /// The commit was refused: what was known of its instances may be wrong.
    pub(super) fn refused(&mut self) {
        for instance in std::mem::take(&mut self.writing) {
            self.known.remove(&instance);
        }
    }

    /// An instance is going to be read.
    pub(super) fn read(&mut self, instance: &InstanceId) {
        let touched = self.writing.contains(instance);
        let before = self.reading.entry(instance.clone()).or_default();
        *before |= touched;
    }

    /// An instance was read. It counts only where no commit touched it meanwhile.
    pub(super) fn has_read(&mut self, instance: &InstanceId, found: Option<Known>) {
        let touched = self.reading.remove(instance).unwrap_or(true);
        if let Some(found) = found.filter(|_| !touched && !self.known.contains_key(instance)) {
            self.keep(instance.clone(), found);
        }
    }

    fn keep(&mut self, instance: InstanceId, known: Known) {
        if self.known.len() >= KNOWN_MAX
            && !self.known.contains_key(&instance)
            && let Some(any) = self.known.keys().next().cloned()
        {
            self.known.remove(&any);
        }
        self.known.insert(instance, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(run: u64) -> Known {
        Known {
            run: RunNumber(run),
            execution: ExecutionNumber(0),
            next: EventSeq(0),
            status: RuntimeStatus::Running,
            timer: None,
            in_flight: false,
            created: 1,
            uncounted: false,
            purged: false,
            start: None,
            status_blob: None,
            in_flight_blob: None,
        }
    }

    #[test]
    fn what_was_read_while_a_commit_was_under_way_does_not_count() {
        let id = InstanceId::new("a").expect("valid");
        let mut cache = Cache::default();
        cache.read(&id);
        cache.has_read(&id, Some(known(1)));
        assert_eq!(cache.get(&id), Some(&known(1)));
        // Begun before the read, applied after it.
        cache.write([id.clone()].into_iter());
        cache.read(&id);
        cache.written(vec![(id.clone(), None)]);
        cache.has_read(&id, Some(known(1)));
        assert_eq!(cache.get(&id), None);
        // Begun within the read.
        cache.read(&id);
        cache.write([id.clone()].into_iter());
        cache.has_read(&id, Some(known(1)));
        assert_eq!(cache.get(&id), None);
        cache.written(vec![(id.clone(), Some(known(2)))]);
        assert_eq!(cache.get(&id), Some(&known(2)));
        cache.write([id.clone()].into_iter());
        cache.refused();
        assert_eq!(cache.get(&id), None);
    }
}
