//! Attempts of activity calls: begun, answered, cancelled.

use std::time::Duration;

use super::call::{self, AfterFailure, Phase, spread};
use super::effect::Effect;
use super::entry::{Arrival, Entry, Life};
use super::run::{Run, Stashed};
use super::{Core, Partition};
use crate::model::{
    AttemptKey, CallNumber, EnvelopeId, EventKind, Failure, InstanceId, Payload, StartAttempt,
    Timestamp, limits,
};
use crate::store::WorkResult;

impl Partition {
    pub(super) fn attempt_started(&mut self, attempt: &AttemptKey) {
        let now = self.core.now;
        let Some(entry) = self.entries.get_mut(&attempt.key.instance) else { return };
        if let Some((run, call)) = open_call(entry, attempt)
            && let Some(open) = run.calls.get_mut(&call)
            && open.phase == Phase::STARTED
        {
            let after = |limit: Duration| now.after(limit);
            open.phase = Phase::Running {
                deadline: open.options.start_to_finish.map(after),
                beat_by: open.options.heartbeat_timeout.map(after),
            };
            if let Some(end) = open.phase.times_out_at() {
                run.wake_call_at(end, call);
                self.core.sync_wheel(&attempt.key.instance, entry);
            }
        }
    }

    pub(super) fn attempt_ended(
        &mut self,
        attempt: &AttemptKey,
        result: Result<Payload, Box<Failure>>,
    ) {
        let instance = &attempt.key.instance;
        let Some(entry) = self.entries.get_mut(instance) else {
            self.core.stats.dropped += 1;
            return;
        };
        let Some((_, call)) = open_call(entry, attempt) else {
            self.core.stats.dropped += 1;
            return;
        };
        self.core.attempt_result(instance, entry, call, result, None);
        self.core.proceed(instance, entry);
    }

    /// Other workers may take these attempts from now on. Recorded, so that a new owner leaves them alone;
    /// with the next commit is early enough, because until then it only runs them, too.
    pub(super) fn offered(&mut self, attempts: &[AttemptKey]) {
        for attempt in attempts {
            let instance = &attempt.key.instance;
            let Some(entry) = self.entries.get_mut(instance) else { continue };
            let Some((run, call)) = open_call(entry, attempt) else { continue };
            if let Some(open) = run.calls.get_mut(&call) {
                open.offered = true;
                entry.writes.in_flight = true;
                entry.writes.touch();
                self.core.queue(instance, entry);
            }
        }
    }
}

impl Core {
    /// An attempt failed by the clock: it is told, and what it still answers is late.
    pub(super) fn attempt_is_over(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        call: CallNumber,
        why: fn(&StartAttempt) -> Failure,
    ) {
        let Some(run) = entry.active() else { return };
        if run.calls.get(&call).is_some_and(|open| open.cancelling) {
            // It was told; when it has ended it says so.
            return;
        }
        let Some(start) = run.start_of(call) else { return };
        let failure = Box::new(why(&start));
        entry.writes.effect(Effect::CancelAttempt(start.attempt));
        self.attempt_result(instance, entry, call, Err(failure), None);
    }

    /// Takes the answer of a running attempt: settles the call, or sets up its next attempt. `report` names
    /// the message that brought it, if one did: it is consumed with what it leads to, not before.
    pub(super) fn attempt_result(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        call: CallNumber,
        result: Result<Payload, Box<Failure>>,
        report: Option<EnvelopeId>,
    ) {
        let now = self.now;
        let Some(run) = entry.active() else { return };
        let run_number = run.key.run.0;
        run.unwake_call(call);
        let Some(open) = run.calls.get_mut(&call) else { return };
        let attempts = open.attempt.0;
        let result = match result {
            Ok(output) if output.bytes() > limits::PAYLOAD_BYTES_MAX => {
                Err(Box::new(Failure::limit(format!(
                    "the result of activity {:?} is larger than {} MiB; store the data elsewhere and \
                     return a reference",
                    open.name,
                    limits::PAYLOAD_BYTES_MAX / (1024 * 1024)
                ))))
            }
            other => other,
        };
        let settled = match result {
            Ok(output) => {
                open.phase = Phase::Settled;
                Some(Ok(output))
            }
            Err(failure) => {
                let random = spread(instance.as_str(), run_number, call, open.attempt);
                match open.failed(*failure, now, random) {
                    AfterFailure::Final(failure) => Some(Err(Box::new(failure))),
                    AfterFailure::Retry { not_before } => {
                        run.wake_call_at(not_before, call);
                        self.stats.retries += 1;
                        None
                    }
                }
            }
        };
        match settled {
            Some(result) => {
                entry.arrivals.push_back(Arrival::Settled { call, attempts, result, report });
            }
            None => {
                if let Some(report) = report {
                    entry.writes.consume_unremembered(report);
                }
                entry.writes.in_flight |= !planted!(ReportConsumedEarly);
                entry.writes.touch();
                self.queue(instance, entry);
            }
        }
        self.sync_wheel(instance, entry);
    }

    /// A call is to end, and says so when it has: its attempt or its child is told, or no attempt begins any more.
    pub(super) fn end_call(&mut self, entry: &mut Entry, call: CallNumber) {
        self.leave_child(entry, call);
        let Some(run) = entry.active() else { return };
        let Some(open) = run.calls.get(&call) else { return };
        match open.phase {
            Phase::Running { .. } => {
                let attempt = run.attempt_key(call, open);
                entry.writes.effect(Effect::CancelAttempt(attempt));
            }
            Phase::Backoff { .. } => has_ended(entry, call),
            Phase::Settled => {}
        }
    }

    /// Of a call that is to end, found by a new owner: what ran with the old one has ended with it, unless it is in the
    /// store's hands. `false` where the call is not to end.
    pub(super) fn goes_on_ending(&mut self, entry: &mut Entry, call: CallNumber) -> bool {
        let Some(run) = entry.active() else { return false };
        let Some(open) = run.calls.get(&call) else { return false };
        if !open.cancelling || planted!(CancelledCallStartedAgain) {
            return false;
        }
        let (attempt, offered) = (run.attempt_key(call, open), open.offered);
        // The old owner may have offered it, or told nobody.
        entry.writes.effect(Effect::CancelAttempt(attempt));
        if !offered {
            has_ended(entry, call);
        }
        true
    }

    pub(super) fn apply_settled(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        call: CallNumber,
        attempts: u32,
        result: Result<Payload, Box<Failure>>,
    ) {
        let Some(run) = entry.active() else {
            self.stats.dropped += 1;
            return;
        };
        if !run.calls.contains_key(&call) {
            self.stats.dropped += 1;
        } else if run.hold.is_some() {
            run.stash.push_back(Stashed::Settled { call, attempts, result });
            entry.writes.in_flight = true;
            entry.writes.touch();
        } else {
            entry.writes.in_flight = true;
            let kind = match result {
                Ok(output) => EventKind::ActivityCompleted { call, output },
                Err(failure) => EventKind::ActivityFailed { call, failure, attempts },
            };
            self.record_and_turn(instance, entry, kind);
        }
    }

    /// The answer of an attempt that ran with another worker.
    pub(super) fn apply_reported(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        reported: WorkResult,
    ) {
        let WorkResult { id, attempt, result, heartbeat_details } = reported;
        match open_call(entry, &attempt) {
            Some((run, call)) => {
                if let Some(open) = run.calls.get_mut(&call)
                    && result.is_err()
                    && heartbeat_details.is_some()
                {
                    open.details = heartbeat_details;
                }
                self.attempt_result(instance, entry, call, result, Some(id));
            }
            None => {
                self.stats.dropped += 1;
                // One that came twice leaves the store with what it says, not before.
                let waits = entry.arrivals.iter().any(|arrival| {
                    matches!(arrival, Arrival::Settled { report, .. } if report.as_ref() == Some(&id))
                });
                if !waits {
                    entry.writes.consume_unremembered(id);
                }
            }
        }
    }
}

/// A call that was cancelled has ended, and none of its attempts has to say so.
fn has_ended(entry: &mut Entry, call: CallNumber) {
    let Some(run) = entry.active() else { return };
    run.unwake_call(call);
    let Some(open) = run.calls.get_mut(&call) else { return };
    open.phase = Phase::Settled;
    let attempts = open.attempt.0;
    let result = Err(Box::new(call::ended(open.last_failure.clone())));
    entry.arrivals.push_back(Arrival::Settled { call, attempts, result, report: None });
    entry.writes.in_flight = true;
    entry.writes.touch();
}

/// The open, running call that an answer of this attempt is for.
pub(super) fn open_call<'a>(
    entry: &'a mut Entry,
    attempt: &AttemptKey,
) -> Option<(&'a mut Run, CallNumber)> {
    let run = entry.active()?;
    let old = planted!(OldExecutionAnswers) && run.key.run == attempt.key.run;
    let fits = (run.key == attempt.key || old)
        && run.calls.get(&attempt.call).is_some_and(|open| {
            open.attempt == attempt.attempt && matches!(open.phase, Phase::Running { .. })
        });
    fits.then_some((run, attempt.call))
}

/// The attempts that run now, to be told that nobody waits for them.
pub(super) fn running_attempts(run: &Run) -> Vec<AttemptKey> {
    run.calls
        .iter()
        .filter(|(_, open)| matches!(open.phase, Phase::Running { .. }))
        .map(|(call, open)| run.attempt_key(*call, open))
        .collect()
}

/// Begins the next attempt of a call, after the commit that is made next.
pub(super) fn start_attempt(entry: &mut Entry, call: CallNumber) {
    let Life::Active(run) = &mut entry.life else { return };
    if let Some(open) = run.calls.get_mut(&call) {
        open.phase = Phase::STARTED;
        open.offered = false;
    }
    if let Some(start) = run.start_of(call) {
        entry.writes.in_flight = true;
        entry.writes.effect(Effect::StartAttempt(Box::new(start)));
    }
}

/// Backoffs that ended while nothing could begin are looked at again.
pub(super) fn restart_backoffs(entry: &mut Entry, now: Timestamp) {
    let Some(run) = entry.active() else { return };
    let waiting: Vec<_> = run
        .calls
        .iter()
        .filter_map(|(call, open)| match open.phase {
            Phase::Backoff { not_before } => Some((not_before.max(now), *call)),
            Phase::Running { .. } | Phase::Settled => None,
        })
        .collect();
    for (at, call) in waiting {
        run.unwake_call(call);
        run.wake_call_at(at, call);
    }
    entry.look_at_due = true;
}
