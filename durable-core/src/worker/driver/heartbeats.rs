//! What running attempts say: fetched from them, and handed to the partition.
//!
//! An attempt that reports all the time wakes the loop no more than twice a second. Where a time limit is over, what
//! was said by then is fetched first, so that nobody fails who spoke in time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use durable_machine::model::Timestamp;
use durable_machine::partition::{AttemptKey, Input};

use super::Driver;
use crate::activity::{ActivityContext, CancelHandle};

/// How soon after the last time an attempt is listened to again.
const PACE: Duration = Duration::from_secs(1);

/// An attempt that was handed to the executor.
pub(super) struct Running {
    pub(super) cancel: CancelHandle,
    pub(super) context: ActivityContext,
    heard_at: Option<Instant>,
}

impl Running {
    pub(super) fn new(context: ActivityContext, cancel: CancelHandle) -> Self {
        Self { cancel, context, heard_at: None }
    }
}

/// Attempts that are listened to.
#[derive(Default)]
pub(super) struct Listening {
    /// They have reported something, and did so not long before, too.
    later: BTreeMap<AttemptKey, Instant>,
    /// They have begun, and have a time limit.
    timed: BTreeSet<AttemptKey>,
}

impl Listening {
    pub(super) fn began(&mut self, attempt: &AttemptKey) {
        self.timed.insert(attempt.clone());
    }

    pub(super) fn ended(&mut self, attempt: &AttemptKey) {
        self.later.remove(attempt);
        self.timed.remove(attempt);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.later.values().min().copied()
    }
}

impl Driver {
    /// The time until which all that attempts have said is known to the partition, if it matters.
    pub(super) fn now(&mut self) -> Timestamp {
        let now = self.shared.store.now();
        if !self.listening.timed.is_empty()
            && self.partition.next_due().is_some_and(|due| due <= now)
        {
            for attempt in self.listening.timed.clone() {
                self.hear(&attempt);
            }
        }
        now
    }

    /// An attempt has something to say.
    pub(super) fn reported(&mut self, attempt: AttemptKey) {
        let Some(running) = self.running.get(&attempt) else { return };
        match running.heard_at.map(|at| at + PACE).filter(|again| *again > Instant::now()) {
            Some(again) => drop(self.listening.later.insert(attempt, again)),
            None => self.hear(&attempt),
        }
    }

    /// Hears those who have waited for it.
    pub(super) fn hear_later(&mut self) {
        if self.listening.later.is_empty() {
            return;
        }
        let now = Instant::now();
        let due = self.listening.later.iter().filter(|(_, at)| **at <= now);
        for attempt in due.map(|(attempt, _)| attempt.clone()).collect::<Vec<_>>() {
            self.listening.later.remove(&attempt);
            self.hear(&attempt);
        }
    }

    /// Hears everybody, and has it stored: somebody else is about to run them.
    pub(super) fn hear_all(&mut self) {
        for attempt in self.running.keys().cloned().collect::<Vec<_>>() {
            self.hear(&attempt);
        }
        self.partition.write_heartbeats();
    }

    pub(super) fn hear(&mut self, attempt: &AttemptKey) {
        let Some(running) = self.running.get_mut(attempt) else { return };
        let Some(said) = running.context.heartbeats().fetch() else { return };
        running.heard_at = Some(Instant::now());
        let now = self.shared.store.now();
        let at = now.before(said.at.elapsed());
        let input = Input::Heartbeat { attempt: attempt.clone(), at, details: said.details };
        self.partition.handle(now, input);
        if self.stop_at.is_some() {
            self.partition.write_heartbeats();
        }
    }
}
