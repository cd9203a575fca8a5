//! Heartbeats of running attempts: they put off the limit on silence, and say how far the attempt is.
//!
//! The details stay in memory and are written for all instances at once, so often and no more often: an attempt
//! that says a thousand times a second where it is costs no more commits than one that does so seldom. What the
//! owner's process loses is at most what was said since.

use std::collections::BTreeSet;
use std::time::Duration;

use super::attempt::open_call;
use super::call::Phase;
use super::{Core, Partition};
use crate::model::{AttemptKey, InstanceId, Payload, Timestamp};

/// Details that are in memory only.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    instances: BTreeSet<InstanceId>,
    /// When they are written.
    due: Option<Timestamp>,
}

impl Unwritten {
    fn note(&mut self, instance: &InstanceId, due: Timestamp) {
        self.due.get_or_insert(due);
        if !self.instances.contains(instance) {
            self.instances.insert(instance.clone());
        }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due
    }

    fn take(&mut self) -> BTreeSet<InstanceId> {
        self.due = None;
        std::mem::take(&mut self.instances)
    }
}

impl Partition {
    pub(super) fn heartbeat(
        &mut self,
        attempt: &AttemptKey,
        at: Timestamp,
        details: Option<Payload>,
    ) {
        let Self { entries, core } = self;
        let instance = &attempt.key.instance;
        let open = entries.get_mut(instance).and_then(|entry| open_call(entry, attempt));
        let Some(open) = open.and_then(|(run, call)| run.calls.get_mut(&call)) else {
            core.stats.dropped += 1;
            return;
        };
        // The clock looks at the call when the old time comes, and finds the new one.
        if let (Phase::Running { beat_by: Some(beat_by), .. }, Some(limit)) =
            (&mut open.phase, open.options.heartbeat_timeout)
            && !planted!(HeartbeatIgnored)
        {
            *beat_by = (*beat_by).max(at.min(core.now).after(limit));
        }
        if let Some(details) = details
            && open.details.as_ref() != Some(&details)
        {
            open.details = Some(details);
            let due = core.now.after(core.config.heartbeat_delay);
            core.unwritten.note(instance, due);
        }
    }

    /// Writes with the next commit what attempts have said, without waiting for its time: somebody else is about
    /// to run them.
    pub fn write_heartbeats(&mut self) {
        for instance in self.core.unwritten.take() {
            let Some(entry) = self.entries.get_mut(&instance) else { continue };
            if entry.active().is_some() {
                entry.writes.in_flight = true;
                entry.writes.touch();
                self.core.queue(&instance, entry);
            }
        }
    }
}

impl Core {
    pub(super) fn heartbeats_are_due(&self) -> bool {
        self.unwritten.due.is_some_and(|due| due <= self.now)
    }
}

/// How long what attempts say stays in memory, where nobody says otherwise.
pub const HEARTBEAT_DELAY: Duration = Duration::from_secs(10);
