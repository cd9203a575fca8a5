//! One history, followed from commit to commit.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Body, Verdict, holds, last, work};
use crate::codec;
use crate::model::{
    ActivityOptions, ActivityScheduled, CallNumber, ChildCreated, Deadline, Event, EventKind,
    ExecutionKey, ExecutionNumber, ExecutionStarted, Failure, FailureClass, Payload, RuntimeStatus,
    StatusRow, Timestamp,
};
use crate::store::HistoryRow;

/// How long after a run's deadline its owner, if nothing ever happened to that, may write something of it: deliveries
/// take up to ten minutes each.
const LATENESS_MAX: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Default)]
pub(super) struct Archived {
    rows: Vec<HistoryRow>,
    pub(super) events: Vec<Event>,
    calls: BTreeMap<CallNumber, Call>,
    timers: BTreeMap<CallNumber, (Timestamp, State)>,
    children: BTreeMap<CallNumber, Child>,
    /// Calls that are to end, with the row of the history that says so.
    requested: BTreeMap<CallNumber, usize>,
    suspended: bool,
    /// Calls that answered while it was suspended: its code hears of them, one after another, when it is resumed.
    unheard: BTreeSet<CallNumber>,
    pub(super) ended: bool,
    /// It began before its time: only an end by a client can be the reason.
    too_early: Option<Timestamp>,
}

#[derive(Debug)]
struct Call {
    scheduled: ActivityScheduled,
    state: State,
}

/// A child that the execution asked for.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) created: ChildCreated,
    state: State,
}

impl Child {
    /// Whether its parent waits for it, as far as its history says.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
    Cancelled,
}

pub(super) type Bodies = BTreeMap<(ExecutionKey, CallNumber), Vec<Body>>;

impl Archived {
    /// Takes in what the store holds now: the same rows as before, and perhaps more behind them.
    pub(super) fn extend(
        &mut self,
        key: &ExecutionKey,
        rows: &[HistoryRow],
        bodies: &Bodies,
        undisturbed: bool,
    ) -> Verdict {
        let kept = rows.get(..self.rows.len()).is_some_and(|kept| kept == self.rows);
        holds(kept, || format!("I3: the stored history of {key} changed"))?;
        for row in &rows[self.rows.len()..] {
            self.append(key, row.clone(), bodies, undisturbed)?;
        }
        Ok(())
    }

    /// Takes in one more row.
    pub(super) fn append(
        &mut self,
        key: &ExecutionKey,
        row: HistoryRow,
        bodies: &Bodies,
        undisturbed: bool,
    ) -> Verdict {
        holds(row.first.0 == self.events.len() as u64, || {
            format!("I3: {key} has event {} where {} is next", row.first, self.events.len())
        })?;
        let events = codec::decode_events(&row.body)
            .map_err(|error| format!("I3: {key} does not decode: {error}"))?;
        for event in events {
            self.follow(key, &event, bodies, undisturbed)
                .map_err(|wrong| format!("{wrong} ({key}, event {})", self.events.len()))?;
            self.events.push(event);
        }
        self.rows.push(row);
        Ok(())
    }

    /// Its first event.
    pub(super) fn start(&self) -> Option<&ExecutionStarted> {
        match &self.events.first()?.is {
            EventKind::ExecutionStarted(started) => Some(started),
            _ => None,
        }
    }

    /// It, and the executions that it repeats: what succeeded in one of them is kept.
    pub(super) fn lineage(&self, key: &ExecutionKey) -> Vec<ExecutionKey> {
        let rewind = self.start().and_then(|start| start.rewind.as_ref());
        let origin = rewind.map_or(key.execution, |rewind| rewind.origin);
        (origin.0..=key.execution.0)
            .map(|execution| ExecutionKey { execution: ExecutionNumber(execution), ..key.clone() })
            .collect()
    }

    /// The execution that it repeats.
    pub(super) fn repeats(&self, key: &ExecutionKey) -> Option<ExecutionKey> {
        let start = self.start().filter(|start| start.rewind.is_some())?;
        start.continues.map(|execution| ExecutionKey { execution, ..key.clone() })
    }

    /// Whether it repeats another execution.
    pub(super) fn is_repeated(&self) -> bool {
        self.start().is_some_and(|start| start.rewind.is_some())
    }

    /// The input of the next execution, if it was continued.
    pub(super) fn continued_with(&self) -> Option<&Payload> {
        match &self.events.last()?.is {
            EventKind::ContinuedAsNew { input } => Some(input),
            _ => None,
        }
    }

    /// It continues another execution and has nothing but its start, or an end from outside behind it: nobody
    /// can say whether its first turn ran.
    pub(super) fn may_be_unturned(&self) -> bool {
        let continues = self.start().is_some_and(|start| start.continues.is_some());
        let second = self.events.get(1).map(|event| &event.is);
        let late = matches!(second, Some(EventKind::ExecutionFailed { failure }) if failure.is_of_deadline());
        continues && (late || matches!(second, None | Some(EventKind::ExecutionTerminated { .. })))
    }

    fn follow(
        &mut self,
        key: &ExecutionKey,
        event: &Event,
        bodies: &Bodies,
        undisturbed: bool,
    ) -> Verdict {
        let first = self.events.is_empty();
        holds(first == matches!(event.is, EventKind::ExecutionStarted(_)), || {
            "I3: a start that is not the first event, or none".into()
        })?;
        holds(!self.ended, || format!("I4: {} behind the end", event.is.summary()))?;
        let before = self.events.last().map_or(Timestamp::MIN, |last| last.at);
        holds(event.at >= before, || format!("I3: time went back from {before} to {}", event.at))?;
        if let Some(due) = self.too_early.filter(|_| !first) {
            // The time may have come by the clock of an owner before.
            let late = |deadline: &Deadline| deadline.has_come(event.at);
            let deadline = self.start().and_then(|started| started.deadline);
            let ended = matches!(event.is, EventKind::ExecutionTerminated { .. })
                || deadline.as_ref().is_some_and(late);
            holds(ended, || format!("I6: it began before {due}, its time"))?;
        }
        let deadline = self.start().and_then(|started| started.deadline);
        let in_time = |deadline: Deadline| event.at <= deadline.at.after(LATENESS_MAX);
        holds(!undisturbed || deadline.is_none_or(in_time), || {
            format!(
                "I6: {} at {}, long after the deadline {deadline:?}",
                event.is.summary(),
                event.at
            )
        })?;
        let by_engine = matches!(&event.is, EventKind::ExecutionFailed { failure }
            if failure.class == FailureClass::ForeignAwait || self.is_late(failure, event.at));
        holds(!self.suspended || !event.is.is_decision() || by_engine, || {
            format!("I3: {} decided while suspended", event.is.summary())
        })?;
        let resumed = matches!(event.is, EventKind::ExecutionResumed { .. });
        if !self.suspended && !resumed && !event.is.is_decision() {
            self.unheard.clear();
        }
        match &event.is {
            EventKind::ExecutionStarted(started) => {
                self.suspended = started.suspended;
                self.too_early = started.scheduled_for.filter(|due| event.at < *due);
            }
            EventKind::ActivityScheduled(scheduled) => {
                self.number_is_new(scheduled.call)?;
                let call = Call { scheduled: (**scheduled).clone(), state: State::Open };
                self.calls.insert(scheduled.call, call);
            }
            EventKind::ActivityCompleted { call, output } => {
                self.settle(*call)?;
                let keys = self.lineage(key);
                let ran = keys.iter().filter_map(|key| bodies.get(&(key.clone(), *call))).flatten();
                holds(
                    ran.clone().any(|body| body.result.as_ref() == Some(&Ok(output.clone()))),
                    || format!("I5: no body returned {output:?}, the result of call {call}"),
                )?;
            }
            EventKind::ActivityFailed { call, failure, attempts } => {
                self.settle(*call)?;
                // A rewind takes no failure back of a call that was to end.
                let to_end = self.requested.contains_key(call);
                let keys = if to_end { self.lineage(key) } else { vec![key.clone()] };
                let ran = keys.iter().filter_map(|key| bodies.get(&(key.clone(), *call))).flatten();
                let scheduled = &self.calls[call].scheduled;
                if !(to_end && failure.class == FailureClass::Cancelled) {
                    failed_rightly(scheduled, failure, *attempts, ran, undisturbed)?;
                }
            }
            EventKind::TimerCreated { call, due } => {
                self.number_is_new(*call)?;
                self.timers.insert(*call, (*due, State::Open));
            }
            EventKind::TimerFired { call } => {
                let (due, state) = self
                    .timers
                    .get_mut(call)
                    .ok_or_else(|| format!("I6: timer {call} fired and was never set"))?;
                holds(*state == State::Open, || {
                    format!("I6: timer {call} fired, it was {state:?}")
                })?;
                holds(event.at >= *due, || format!("I6: timer {call} fired before {due}"))?;
                *state = State::Done;
            }
            EventKind::CallCancelled { call } => {
                let open = self.calls.get_mut(call).map(|call| &mut call.state);
                let open = open.or_else(|| self.timers.get_mut(call).map(|(_, state)| state));
                let open = open.or_else(|| self.children.get_mut(call).map(|c| &mut c.state));
                let Some(state) = open else {
                    return Err(format!("cancel of {call}, which is nothing"));
                };
                holds(*state != State::Cancelled, || format!("{call} was cancelled twice"))?;
                *state = State::Cancelled;
            }
            EventKind::CancelRequested { call } => {
                let open = self.calls.get(call).map(|call| call.state);
                let open = open.or_else(|| self.children.get(call).map(|child| child.state));
                let open_to_the_code = open == Some(State::Open)
                    || (open == Some(State::Done) && self.unheard.contains(call));
                holds(open_to_the_code, || {
                    format!("cancel of {call} is asked for, which was {open:?}")
                })?;
                let place = self.rows.len();
                let first = self.requested.insert(*call, place).is_none();
                holds(first, || format!("cancel of {call} is asked for twice"))?;
            }
            EventKind::EventSent { call, .. } => self.number_is_new(*call)?,
            EventKind::ExecutionSuspended { .. } => self.suspended = true,
            EventKind::ExecutionResumed { .. } => self.suspended = false,
            EventKind::ChildCreated(created) => {
                self.number_is_new(created.call)?;
                let child = Child { created: (**created).clone(), state: State::Open };
                self.children.insert(created.call, child);
            }
            EventKind::ChildCompleted { call, .. } | EventKind::ChildFailed { call, .. } => {
                let child = self
                    .children
                    .get_mut(call)
                    .ok_or_else(|| format!("I4: a result of {call}, which is no child"))?;
                holds(child.state == State::Open && !child.created.detached, || {
                    format!("I4: a result of child {call}, which was {:?}", child.state)
                })?;
                child.state = State::Done;
                if self.suspended {
                    self.unheard.insert(*call);
                }
            }
            EventKind::EventRaised { .. }
            | EventKind::Patched { .. }
            | EventKind::ExecutionTerminated { .. }
            | EventKind::ExecutionCompleted { .. }
            | EventKind::ExecutionFailed { .. }
            | EventKind::ContinuedAsNew { .. } => {}
        }
        self.ended = event.is.is_terminal();
        Ok(())
    }

    /// Whether it failed because its own deadline had come.
    pub(super) fn is_late(&self, failure: &Failure, at: Timestamp) -> bool {
        let deadline = self.start().and_then(|started| started.deadline);
        deadline.is_some_and(|deadline| deadline.has_come(at) && deadline.failure() == *failure)
    }

    fn number_is_new(&self, call: CallNumber) -> Verdict {
        let given = self.calls.contains_key(&call)
            || self.timers.contains_key(&call)
            || self.children.contains_key(&call);
        holds(!given, || format!("I3: the number {call} was given twice"))
    }

    fn settle(&mut self, call: CallNumber) -> Verdict {
        let open = self
            .calls
            .get_mut(&call)
            .ok_or_else(|| format!("I5: a result of call {call}, which was never scheduled"))?;
        holds(open.state == State::Open, || {
            format!("I5: a result of call {call}, which was {:?}", open.state)
        })?;
        open.state = State::Done;
        if self.suspended {
            self.unheard.insert(call);
        }
        Ok(())
    }

    /// Whether somebody waits for the result of this call.
    pub(super) fn is_open(&self, call: CallNumber) -> bool {
        self.calls.get(&call).is_some_and(|call| call.state == State::Open)
    }

    pub(super) fn scheduled(&self, call: CallNumber) -> Option<&ActivityScheduled> {
        self.calls.get(&call).map(|call| &call.scheduled)
    }

    /// Whether it asked for the same as another execution under this number, in the same words: on another way of
    /// the code the number means something else.
    pub(super) fn asked_alike(&self, call: CallNumber, other: &Self) -> bool {
        let activity = |archived: &Self| archived.calls.get(&call).map(|c| c.scheduled.clone());
        let child = |archived: &Self| archived.children.get(&call).map(|c| c.created.clone());
        (activity(self).is_some() && activity(self) == activity(other))
            || (child(self).is_some() && child(self) == child(other))
    }

    /// Whether nothing of a call may begin any more: the last row but one of its history says that it is to end.
    pub(super) fn may_not_begin(&self, call: CallNumber) -> bool {
        self.requested.get(&call).is_some_and(|row| row + 1 < self.rows.len())
    }

    /// Whether nobody waits for this call any more.
    pub(super) fn is_cancelled(&self, call: CallNumber) -> bool {
        let state = self.calls.get(&call).map(|call| call.state);
        let state = state.or_else(|| self.children.get(&call).map(|child| child.state));
        state == Some(State::Cancelled) || self.requested.contains_key(&call)
    }

    /// The children that it asked for.
    pub(super) fn children(&self) -> impl Iterator<Item = &Child> {
        self.children.values()
    }

    /// Whether it was terminated with all its children.
    pub(super) fn ended_with_tree(&self) -> bool {
        let last = self.events.last().map(|event| &event.is);
        matches!(last, Some(EventKind::ExecutionTerminated { tree: true, .. }))
    }

    pub(super) fn child(&self, call: CallNumber) -> Option<&Child> {
        self.children.get(&call)
    }

    /// Status row and history say the same.
    pub(super) fn agrees_with(&self, row: &StatusRow) -> Verdict {
        let last = &self.events.last().expect("a history that was extended has events").is;
        let (status, output, failure) = match last {
            EventKind::ExecutionCompleted { output } => {
                (Some(RuntimeStatus::Completed), Some(output.clone()), None)
            }
            EventKind::ExecutionFailed { failure } => {
                (Some(RuntimeStatus::Failed), None, Some((**failure).clone()))
            }
            EventKind::ExecutionTerminated { reason, .. } => {
                let output = reason.as_ref().and_then(|reason| Payload::of(&**reason).ok());
                (Some(RuntimeStatus::Terminated), output, None)
            }
            _ => (None, None, None),
        };
        let key = row.key();
        match status {
            Some(status) => {
                holds(row.status == status && row.hold.is_none(), || {
                    format!("I4: {key} ended as {status}, its row says {}", row.status)
                })?;
                holds(row.output == output && row.failure == failure, || {
                    format!("I4: the row of {key} has another result than its history")
                })
            }
            None => {
                let suspended = self.suspended || row.hold.is_some();
                let status =
                    if suspended { RuntimeStatus::Suspended } else { RuntimeStatus::Running };
                holds(row.status == status, || {
                    format!("I4: {key} is {status} by its history, its row says {}", row.status)
                })
            }
        }
    }

    /// The timer row says when the instance's earliest timer is due.
    pub(super) fn earliest_timer_is(
        &self,
        key: &ExecutionKey,
        stored: Option<Timestamp>,
    ) -> Verdict {
        let open = self.timers.values().filter(|(_, state)| *state == State::Open && !self.ended);
        let deadline = self.start().filter(|_| !self.ended).and_then(|started| started.deadline);
        let deadline = deadline.map(|deadline| deadline.at);
        let earliest = open.map(|(due, _)| *due).chain(deadline).min();
        // A row that is too early does no harm.
        let right = match (earliest, stored) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(due), Some(row)) => row <= due,
        };
        holds(right, || {
            format!("I6: {key}: a timer is due at {earliest:?}, its row says {stored:?}")
        })
    }

    /// Tokens of the external events in this history.
    pub(super) fn raised(&self) -> impl Iterator<Item = u64> + '_ {
        self.events.iter().filter_map(|event| match &event.is {
            EventKind::EventRaised { input, .. } => last::token(input),
            _ => None,
        })
    }
}

/// A failure came from a body, or from the engine for a reason, and after as many attempts as the policy
/// wants.
fn failed_rightly<'a>(
    scheduled: &ActivityScheduled,
    failure: &Failure,
    attempts: u32,
    mut bodies: impl Iterator<Item = &'a Body>,
    undisturbed: bool,
) -> Verdict {
    let call = scheduled.call;
    match failure.class {
        FailureClass::Application => {
            let ran = bodies.any(|body| {
                body.attempt.0 == attempts
                    && matches!(&body.result, Some(Err(own)) if **own == *failure)
            });
            holds(ran, || format!("I5: no body failed as call {call} did in attempt {attempts}"))?;
        }
        FailureClass::Timeout => {
            let ActivityOptions { start_to_finish, heartbeat_timeout, .. } = &scheduled.options;
            let silent = failure.kind == "HeartbeatTimeout";
            let limit = if silent { heartbeat_timeout } else { start_to_finish };
            holds(limit.is_some(), || {
                format!("I5: call {call} has no such limit and failed as {}", failure.kind)
            })?;
        }
        FailureClass::WorkerLost => {}
        other => return Err(format!("I5: call {call} failed as {other:?}")),
    }
    let Some(policy) = &scheduled.options.retry else {
        return holds(attempts == 1, || {
            format!("I5: call {call} was tried {attempts} times, not once")
        });
    };
    let unbounded = policy.attempts_max == 0;
    holds(unbounded || attempts <= policy.attempts_max, || {
        format!("I5: call {call} was tried {attempts} times of {}", policy.attempts_max)
    })?;
    let final_kind = failure.permanent || policy.not_retried.contains(&failure.kind);
    let may_stop = final_kind || policy.total_time_max.is_some();
    holds(may_stop || attempts == policy.attempts_max, || {
        format!("I5: call {call} was given up after {attempts} of {}", policy.attempts_max)
    })?;
    let plain = undisturbed
        && scheduled.options.start_to_finish.is_none()
        && scheduled.options.heartbeat_timeout.is_none()
        && failure.class == FailureClass::Application
        && work(&scheduled.input).is_some_and(|work| work.hangs == 0);
    holds(!plain || !final_kind || attempts == 1, || {
        format!("I5: call {call} was retried after {:?}", failure.kind)
    })
}
