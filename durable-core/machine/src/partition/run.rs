//! What the engine knows of an active run beside its code: position, open calls and timers, holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::call::{Call, CallRecord, Phase};
use crate::codec::{self, DecodeError};
use crate::model::{
    Acceptance, AttemptKey, CallNumber, ChildCreated, EnvelopeId, Event, EventKind, EventSeq,
    ExecutionKey, ExecutionNumber, Failure, Hold, InstanceId, ParentClose, ParentLink, Payload,
    StartAttempt, StatusRow, Succeeded, Timestamp, TraceContext, UnconsumedEvent,
};

#[derive(Debug)]
pub(super) struct Run {
    pub(super) key: ExecutionKey,
    pub(super) row: StatusRow,
    pub(super) next_seq: EventSeq,
    /// Time of the last event: the instance's clock never runs behind it.
    pub(super) last_at: Timestamp,
    pub(super) suspended: bool,
    pub(super) hold: Option<Hold>,
    /// What arrived while held.
    pub(super) stash: VecDeque<Stashed>,
    /// Its open calls are this owner's work: begun here, or begun again after an earlier owner.
    pub(super) taken_up: bool,
    /// Its history could not be read, so position and open work are not known.
    pub(super) partial: bool,
    /// While that is so: what the row of work in flight says of calls, to be written back as it was.
    pub(super) records: BTreeMap<CallNumber, CallRecord>,
    /// An earlier row of work in flight that could not be read.
    pub(super) kept: Option<String>,
    /// External events that a diverged history is known not to have consumed.
    pub(super) unconsumed: Vec<UnconsumedEvent>,
    /// The start that could not begin: its time has not come, or no code for it is registered here.
    pub(super) unbegun: Option<Box<Acceptance>>,
    /// Its first turn is that of a resume, because it could not have one at its start.
    pub(super) resumes: bool,
    pub(super) calls: BTreeMap<CallNumber, Call>,
    /// Children whose end it has not heard of.
    pub(super) children: BTreeMap<CallNumber, Child>,
    pub(super) timers: BTreeMap<CallNumber, Timestamp>,
    /// Open timers in the order in which they are due, those that fire right now included.
    timers_due: BTreeSet<(Timestamp, CallNumber)>,
    /// Timers whose firing is on the way into the history.
    firing: BTreeSet<CallNumber>,
    /// When open calls need the clock: the end of a backoff, or of a time limit.
    calls_due: BTreeSet<(Timestamp, CallNumber)>,
    /// The execution continues another one, and its first turn waits until its start is durable.
    pub(super) unturned: bool,
    /// That start, while it is in memory.
    pub(super) start: Option<Box<Event>>,
    /// What succeeded in the execution that this one repeats, behind a failure.
    pub(super) succeeded: Vec<Succeeded>,
    /// Children of that execution that had not succeeded, asked for behind a failure.
    pub(super) unsucceeded: Vec<ChildCreated>,
    /// W3C trace context of the run's start.
    pub(super) trace: Option<TraceContext>,
    /// That its deadline has come is on the way into the history.
    expired: bool,
    /// Bytes of the events recorded so far: the measure of what a replayed copy costs in memory.
    pub(super) history_bytes: usize,
}

/// A child that was created and has not ended, as far as its parent knows: of one that is not awaited it never
/// hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child {
    pub(super) instance: InstanceId,
    pub(super) detached: bool,
    pub(super) close: ParentClose,
    /// Its call was dropped, and it goes on by itself.
    pub(super) left: bool,
    /// It is to end, and its end is waited for.
    pub(super) cancelling: bool,
}

impl Child {
    /// Whether the parent's code hears of its end.
    pub(super) fn is_awaited(&self) -> bool {
        !(self.detached || self.left)
    }
}

/// An arrival that waits in the in-flight row of a held instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Stashed {
    Raise {
        name: Arc<str>,
        input: Payload,
        id: Option<EnvelopeId>,
    },
    Settled {
        call: CallNumber,
        attempts: u32,
        result: Result<Payload, Box<Failure>>,
    },
    Child {
        call: CallNumber,
        execution: ExecutionNumber,
        result: Result<Payload, Box<Failure>>,
    },
    /// Its parent wants it terminated, and no end can be written behind a history that cannot be read.
    Terminate {
        reason: Option<Arc<str>>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tree: bool,
    },
}

/// The row of work in flight: what of a run is in no history. There is one while calls are open or the
/// instance is held, so that a new owner finds what it has to take up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct InFlight {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) calls: BTreeMap<CallNumber, CallRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hold: Option<Hold>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) resumes: bool,
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub(super) stash: VecDeque<Stashed>,
    /// The history holds the start of the execution, whose first turn has not run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unturned: bool,
    /// A row that could not be read, kept for a build that can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kept: Option<String>,
    /// A start whose time has not come was suspended by a client.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) suspended: bool,
}

impl InFlight {
    /// Reads the row, and the one that it keeps. With an error what could not be read is kept.
    pub(super) fn read(row: Option<&[u8]>) -> (Self, Option<DecodeError>) {
        let Some(row) = row else { return (Self::default(), None) };
        let mut outer = match codec::decode_row::<Self>(row) {
            Ok(outer) => outer,
            Err(error) => {
                let kept = Some(String::from_utf8_lossy(row).into_owned());
                return (Self { kept, ..Self::default() }, Some(error));
            }
        };
        let Some(kept) = outer.kept.take() else { return (outer, None) };
        match codec::decode_row::<Self>(kept.as_bytes()) {
            Ok(mut inner) => {
                inner.stash.append(&mut outer.stash);
                (Self { hold: outer.hold, ..inner }, None)
            }
            Err(error) => (Self { kept: Some(kept), ..outer }, Some(error)),
        }
    }
}

/// Something of a run that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DueItem {
    /// The run may begin.
    Begin,
    Timer(CallNumber),
    /// A backoff is over.
    Retry(CallNumber),
    /// The running attempt took too long.
    Deadline(CallNumber),
    /// It gave no heartbeat for too long.
    Silence(CallNumber),
    /// The run did not end in time.
    Expired,
}

impl Run {
    pub(super) fn new(key: ExecutionKey, row: StatusRow) -> Self {
        Self {
            key,
            row,
            next_seq: EventSeq(0),
            last_at: Timestamp::MIN,
            suspended: false,
            hold: None,
            stash: VecDeque::new(),
            taken_up: true,
            partial: false,
            records: BTreeMap::new(),
            kept: None,
            unconsumed: Vec::new(),
            unbegun: None,
            resumes: false,
            calls: BTreeMap::new(),
            children: BTreeMap::new(),
            timers: BTreeMap::new(),
            timers_due: BTreeSet::new(),
            firing: BTreeSet::new(),
            calls_due: BTreeSet::new(),
            unturned: false,
            start: None,
            succeeded: Vec::new(),
            unsucceeded: Vec::new(),
            trace: None,
            expired: false,
            history_bytes: 0,
        }
    }

    /// The run as an acceptance begins it.
    pub(super) fn beginning(acceptance: &Acceptance) -> Self {
        let key = ExecutionKey {
            instance: acceptance.instance.clone(),
            run: acceptance.run,
            execution: ExecutionNumber(0),
        };
        Self::new(key, StatusRow::pending(acceptance))
    }

    /// Rebuilds from what is stored.
    pub(super) fn restored(row: StatusRow, events: &[Event], in_flight: InFlight) -> Self {
        let mut run = Self::new(row.key(), row);
        run.taken_up = false;
        for event in events {
            run.note(event);
        }
        for (call, record) in &in_flight.calls {
            if let Some(open) = run.calls.get_mut(call) {
                open.restore(record);
                if let Phase::Backoff { not_before } = open.phase {
                    run.calls_due.insert((not_before, *call));
                }
            }
        }
        for stashed in &in_flight.stash {
            if let Stashed::Settled { call, .. } = stashed
                && let Some(open) = run.calls.get_mut(call)
            {
                open.phase = Phase::Settled;
            }
        }
        run.hold = in_flight.hold;
        run.resumes = in_flight.resumes;
        run.stash = in_flight.stash;
        run.unturned = in_flight.unturned && !planted!(FirstTurnForgotten);
        run
    }

    /// Follows an event that is, or becomes, part of the history.
    pub(super) fn note(&mut self, event: &Event) {
        self.next_seq = self.next_seq.next();
        self.last_at = self.last_at.max(event.at);
        match &event.is {
            EventKind::ExecutionStarted(started) => {
                self.suspended = started.suspended;
                self.row.deadline = started.deadline;
                self.trace.clone_from(&started.trace);
                if let Some(rewind) = &started.rewind {
                    self.succeeded.clone_from(&rewind.succeeded);
                    self.unsucceeded.clone_from(&rewind.children);
                }
            }
            EventKind::ActivityScheduled(scheduled) => {
                self.calls.insert(scheduled.call, Call::scheduled(scheduled, event.at));
            }
            EventKind::ActivityCompleted { call, .. } | EventKind::ActivityFailed { call, .. } => {
                self.calls.remove(call);
                self.calls_due.retain(|(_, due)| due != call);
            }
            EventKind::TimerCreated { call, due } => {
                self.timers.insert(*call, *due);
                self.timers_due.insert((*due, *call));
            }
            EventKind::TimerFired { call } => self.remove_timer(*call),
            EventKind::CallCancelled { call } => {
                if !planted!(CancelledTimerFires) {
                    self.remove_timer(*call);
                }
                self.calls.remove(call);
                match self.children.get_mut(call) {
                    Some(child) if child.close == ParentClose::Abandon => child.left = true,
                    Some(_) | None => drop(self.children.remove(call)),
                }
                self.calls_due.retain(|(_, due)| due != call);
            }
            EventKind::CancelRequested { call } => {
                if let Some(open) = self.calls.get_mut(call) {
                    open.cancelling = true;
                }
                if let Some(child) = self.children.get_mut(call) {
                    child.cancelling = true;
                }
            }
            EventKind::ChildCreated(created) => {
                self.children.insert(
                    created.call,
                    Child {
                        instance: created.instance.clone(),
                        detached: created.detached,
                        close: created.close,
                        left: false,
                        cancelling: false,
                    },
                );
            }
            EventKind::ChildCompleted { call, .. } | EventKind::ChildFailed { call, .. } => {
                self.children.remove(call);
            }
            EventKind::ExecutionSuspended { .. } => self.suspended = true,
            EventKind::ExecutionResumed { .. } => self.suspended = false,
            EventKind::ExecutionTerminated { .. }
            | EventKind::ExecutionCompleted { .. }
            | EventKind::ExecutionFailed { .. }
            | EventKind::ContinuedAsNew { .. } => self.forget_work(),
            EventKind::EventRaised { .. }
            | EventKind::EventSent { .. }
            | EventKind::Patched { .. } => {}
        }
    }

    fn remove_timer(&mut self, call: CallNumber) {
        if let Some(due) = self.timers.remove(&call) {
            self.timers_due.remove(&(due, call));
            self.firing.remove(&call);
        }
    }

    fn forget_work(&mut self) {
        self.calls.clear();
        self.children.clear();
        self.calls_due.clear();
        self.timers.clear();
        self.timers_due.clear();
        self.firing.clear();
    }

    /// The earliest open timer, or the deadline: what the store's timer row says. One that fires right now counts
    /// until its event is recorded, so that a crash in between loses nothing.
    pub(super) fn stored_due(&self) -> Option<Timestamp> {
        if self.unbegun.is_some() {
            return None;
        }
        let timer = self.timers_due.first().map(|(due, _)| *due);
        let deadline = self.row.deadline.filter(|_| !planted!(DeadlineNotStored));
        timer.into_iter().chain(deadline.map(|deadline| deadline.at)).min()
    }

    /// When it fails, if it has not ended by then. No end can be written behind what cannot be read, and what waits
    /// for its time is not late.
    fn expires(&self) -> Option<Timestamp> {
        let held = self.hold.is_some();
        let cannot = self.expired || self.partial || self.is_to_come();
        let deadline = self.row.deadline.filter(|_| !cannot);
        deadline
            .filter(|_| !(held && planted!(DeadlineForgottenWhileHeld)))
            .map(|deadline| deadline.at)
    }

    /// When this run next needs the clock.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        if self.hold.is_some() {
            return self.expires();
        }
        if let Some(unbegun) = &self.unbegun {
            return unbegun.scheduled_for;
        }
        let timer =
            self.timers_due.iter().find(|(_, call)| !self.firing.contains(call)).map(|(at, _)| *at);
        let call = self.calls_due.first().map(|(at, _)| *at);
        timer.into_iter().chain(call).chain(self.expires()).min()
    }

    /// Takes what is due, in order of due times.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<DueItem> {
        let now =
            if planted!(TimerEarly) { now.after(std::time::Duration::from_secs(1)) } else { now };
        let expires = self.expires().filter(|at| *at <= now);
        self.expired |= expires.is_some();
        if self.hold.is_some() {
            return expires.map(|_| DueItem::Expired).into_iter().collect();
        }
        if let Some(unbegun) = &self.unbegun {
            return if unbegun.waits_at(now) { Vec::new() } else { vec![DueItem::Begin] };
        }
        let mut due: Vec<(Timestamp, DueItem)> = self
            .timers_due
            .iter()
            .take_while(|(at, _)| *at <= now)
            .filter(|(_, call)| !self.firing.contains(call))
            .map(|(at, call)| (*at, DueItem::Timer(*call)))
            .collect();
        for (_, item) in &due {
            if let DueItem::Timer(call) = item {
                self.firing.insert(*call);
            }
        }
        while let Some((at, call)) = self.calls_due.first().copied().filter(|(at, _)| *at <= now) {
            self.calls_due.remove(&(at, call));
            match self.calls.get(&call).map(|open| open.phase) {
                Some(Phase::Backoff { .. }) => due.push((at, DueItem::Retry(call))),
                Some(phase @ Phase::Running { deadline, .. }) => match phase.times_out_at() {
                    // A heartbeat put it off.
                    Some(later) if later > now => drop(self.calls_due.insert((later, call))),
                    Some(end) if deadline == Some(end) => due.push((at, DueItem::Deadline(call))),
                    Some(_) => due.push((at, DueItem::Silence(call))),
                    None => {}
                },
                Some(Phase::Settled) | None => {}
            }
        }
        due.extend(expires.map(|at| (at, DueItem::Expired)));
        due.sort_by_key(|(at, _)| *at);
        due.into_iter().map(|(_, item)| item).collect()
    }

    /// Looks at a call again at that time.
    pub(super) fn wake_call_at(&mut self, at: Timestamp, call: CallNumber) {
        self.calls_due.insert((at, call));
    }

    pub(super) fn unwake_call(&mut self, call: CallNumber) {
        self.calls_due.retain(|(_, due)| *due != call);
    }

    /// It has not begun, because its time has not come.
    pub(super) fn is_to_come(&self) -> bool {
        self.unbegun.is_some() && self.hold.is_none()
    }

    /// Whether it has not begun, and its start brings this event.
    pub(super) fn gets_with_its_start(&self, id: &EnvelopeId) -> bool {
        let brings = |start: &Acceptance| start.raised.iter().any(|e| e.id.as_ref() == Some(id));
        self.unbegun.as_deref().is_some_and(brings)
    }

    /// No new attempt begins: suspended or held.
    pub(super) fn paused(&self) -> bool {
        self.suspended || self.hold.is_some()
    }

    /// What a child of this call answers to.
    pub(super) fn link(&self, call: CallNumber, detached: bool) -> ParentLink {
        let ExecutionKey { instance, run, execution } = self.key.clone();
        ParentLink { instance, run, execution, call, detached }
    }

    pub(super) fn attempt_key(&self, call: CallNumber, open: &Call) -> AttemptKey {
        AttemptKey { key: self.key.clone(), call, attempt: open.attempt }
    }

    /// The result that the same call had in the execution that this one repeats.
    pub(super) fn succeeded(&self, asked: &EventKind) -> Option<&Succeeded> {
        self.succeeded.iter().find(|noted| noted.asked == *asked && !planted!(SuccessRunsAgain))
    }

    pub(super) fn start_of(&self, call: CallNumber) -> Option<StartAttempt> {
        let open = self.calls.get(&call)?;
        Some(StartAttempt {
            attempt: self.attempt_key(call, open),
            name: open.name.clone(),
            input: open.input.clone(),
            start_to_finish: open.options.start_to_finish,
            heartbeat_timeout: open.options.heartbeat_timeout,
            heartbeat_details: if planted!(DetailsOfAnotherCall) {
                self.calls.values().find_map(|open| open.details.clone())
            } else {
                open.details.clone()
            },
        })
    }

    /// Open calls that ran, or were to run, with an earlier owner.
    pub(super) fn running_calls(&self) -> Vec<CallNumber> {
        self.calls
            .iter()
            .filter(|(_, open)| matches!(open.phase, Phase::Running { .. }))
            .map(|(call, _)| *call)
            .collect()
    }

    /// A due timer could not be recorded: it is looked at again when the hold is over.
    pub(super) fn not_fired(&mut self, call: CallNumber) {
        self.firing.remove(&call);
    }

    /// What the in-flight row has to hold; `None` when there need not be one. What was stashed is on its
    /// way into the history when the hold is over: it stays in the row until it is there.
    pub(super) fn in_flight<'a>(
        &self,
        on_the_way: impl Iterator<Item = &'a Stashed>,
    ) -> Option<InFlight> {
        let mut stash = self.stash.clone();
        stash.extend(on_the_way.cloned());
        if planted!(StashNotStored) {
            stash.clear();
        }
        let suspended = self.unbegun.is_some() && self.suspended;
        let nothing = self.calls.is_empty() && self.hold.is_none() && stash.is_empty();
        if nothing && !self.unturned && !suspended {
            return None;
        }
        let calls = if self.partial {
            self.records.clone()
        } else {
            let records = self.calls.iter();
            records.filter_map(|(call, open)| Some((*call, open.record()?))).collect()
        };
        let (hold, kept) = (self.hold.clone(), self.kept.clone());
        let (resumes, unturned) = (self.resumes, self.unturned);
        Some(InFlight { calls, hold, resumes, stash, unturned, kept, suspended })
    }
}
