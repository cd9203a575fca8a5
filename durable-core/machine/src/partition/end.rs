//! The end of a run.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Core;
use super::attempt::running_attempts;
use super::begin::started_event;
use super::children;
use super::effect::Effect;
use super::entry::{Arrival, Entry, Life};
use super::run::Stashed;
use crate::model::{
    AttemptKey, EventKind, Failure, InstanceId, Payload, RuntimeStatus, StatusRow, UnconsumedEvent,
    limits,
};
use crate::store::Begins;

/// How a run ends from outside its code.
pub(super) enum Ended {
    Terminated {
        reason: Option<Arc<str>>,
        /// No child is spared.
        tree: bool,
    },
    Failed(Box<Failure>),
}

impl Core {
    /// Ends the run from outside its code.
    pub(super) fn end_with(&mut self, instance: &InstanceId, entry: &mut Entry, ended: Ended) {
        let now = self.now;
        let mut unconsumed = super::turned::unconsumed(entry);
        let Life::Active(run) = &mut entry.life else { return };
        unconsumed.append(&mut run.unconsumed);
        unconsumed.extend(std::mem::take(&mut run.stash).into_iter().filter_map(|stashed| {
            match stashed {
                Stashed::Raise { name, input, id } => Some(UnconsumedEvent { name, input, id }),
                Stashed::Settled { .. } | Stashed::Child { .. } | Stashed::Terminate { .. } => None,
            }
        }));
        run.hold = None;
        if let Some(mut acceptance) = run.unbegun.take() {
            unconsumed.append(&mut acceptance.raised);
            entry.writes.begins = Begins::Accepted;
            let at = now.max(run.last_at);
            let kind = started_event(*acceptance, true);
            let _ = entry.writes.record(run, at, kind);
        }
        let tree = matches!(ended, Ended::Terminated { tree: true, .. });
        self.leave_children(entry, tree);
        let Life::Active(run) = &mut entry.life else { return };
        let cancelled = running_attempts(run);
        let at = now.max(run.last_at);
        let (kind, status, output, failure) = match ended {
            Ended::Terminated { reason, tree } => (
                EventKind::ExecutionTerminated { reason: reason.clone(), tree },
                RuntimeStatus::Terminated,
                reason.and_then(|reason| Payload::of(&*reason).ok()),
                None,
            ),
            Ended::Failed(failure) => (
                EventKind::ExecutionFailed { failure: failure.clone() },
                RuntimeStatus::Failed,
                None,
                Some(*failure),
            ),
        };
        let _ = entry.writes.record(run, at, kind);
        self.finish(instance, entry, status, output, failure, unconsumed, cancelled);
    }

    /// The run has its terminal event: brings status, timers, calls and memory in line with it.
    #[allow(clippy::too_many_arguments, reason = "the facts of one ending, used by two callers")]
    pub(super) fn finish(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        status: RuntimeStatus,
        output: Option<Payload>,
        failure: Option<Failure>,
        mut unconsumed: Vec<UnconsumedEvent>,
        cancelled: Vec<AttemptKey>,
    ) {
        let Life::Active(run) = &mut entry.life else { return };
        let mut row = run.row.clone();
        row.status = status;
        row.updated_at = run.last_at.max(row.created_at);
        row.output = output;
        row.failure = failure;
        row.hold = None;
        // What was stashed and is on its way to the code stands in no row once the run has ended.
        let (stashed, rest) = std::mem::take(&mut entry.arrivals)
            .into_iter()
            .partition(|arrival| matches!(arrival, Arrival::Stashed(_)));
        entry.arrivals = rest;
        let stashed: VecDeque<Arrival> = stashed;
        entry.covered = entry.covered.saturating_sub(stashed.len());
        unconsumed.extend(stashed.into_iter().filter_map(|arrival| match arrival {
            Arrival::Stashed(Stashed::Raise { name, input, id }) => {
                Some(UnconsumedEvent { name, input, id })
            }
            _ => None,
        }));
        for event in unconsumed.into_iter().filter(|_| !planted!(UnconsumedNotListed)) {
            list_unconsumed(&mut row, event);
        }
        for attempt in cancelled {
            entry.writes.effect(Effect::CancelAttempt(attempt));
        }
        entry.writes.status = true;
        entry.writes.in_flight = true;
        entry.writes.touch();
        let result = children::result_of(&row);
        self.tell_parent(entry, &row, result);
        entry.life = Life::Ended(Box::new(row));
        self.stats.ended += 1;
        self.drop_code(entry);
        self.sync_wheel(instance, entry);
    }
}

pub(super) fn list_unconsumed(row: &mut StatusRow, event: UnconsumedEvent) {
    let known = event.id.is_some() && row.unconsumed.iter().any(|listed| listed.id == event.id);
    // What clients sent was accepted one by one. What instances send each other has no other bound.
    if !known && (event.id.is_some() || row.unconsumed.len() < limits::BUFFERED_EVENTS_MAX) {
        row.unconsumed.push(event);
    }
}
