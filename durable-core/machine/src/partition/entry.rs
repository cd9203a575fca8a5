//! One instance in the memory of its partition: what is known, where its code is, what is not stored yet.

use std::collections::VecDeque;
use std::sync::Arc;

use super::effect::{Effect, Ticket};
use super::rewind::Rewinding;
use super::run::{Run, Stashed};
use crate::codec::{self, EventEncoder};
use crate::model::{
    Acceptance, CallNumber, Command, EnvelopeId, Event, EventKind, EventSeq, ExecutionKey, Failure,
    Hold, MessageBody, MessageNumber, ParentLink, PartitionId, Payload, RunNumber, RuntimeStatus,
    StatusRow, Timestamp,
};
use crate::replay::Orchestration;
use crate::store::{
    Begins, Consumed, DeadMessage, HistoryAppend, InstanceWrite, RowChange, TimerMove, WorkResult,
};

pub(super) struct Entry {
    pub(super) life: Life,
    pub(super) code: Code,
    /// Waits for the code to be at home, in the order of arrival.
    pub(super) arrivals: VecDeque<Arrival>,
    /// So many of them, from the front, had arrived before the store was read last.
    pub(super) covered: usize,
    /// Why its start was held before, found in its row of work in flight.
    pub(super) told: Option<Hold>,
    /// Its start was suspended before its time came, says the same row.
    pub(super) told_suspended: bool,
    /// The time of its start had come, though the clock of this owner may be behind.
    pub(super) was_due: bool,
    /// A start of it is accepted and waits behind what is known here, because there is no code for it.
    pub(super) start_waits: bool,
    /// Stored commands for a later run, whose acceptance this owner has not seen or cannot begin yet.
    /// They stay in the store, too, until that run takes them.
    pub(super) early: Vec<(EnvelopeId, RunNumber, Command)>,
    /// Something is due, to be looked at once the instance is loaded.
    pub(super) look_at_due: bool,
    pub(super) writes: Writes,
    pub(super) stored: Stored,
    /// In the queue of instances with something to write.
    pub(super) queued: bool,
    /// Part of the commit under way.
    pub(super) committing: bool,
    /// The due time under which the wheel knows it.
    pub(super) in_wheel: Option<Timestamp>,
    /// It has failed, and is about to be repeated.
    pub(super) rewinding: Option<Box<Rewinding>>,
    /// Bytes that its code is taken to cost while it is in memory.
    pub(super) weight: usize,
    /// When it was last used, in turns of the partition.
    pub(super) used: u64,
}

/// What is known of the instance.
pub(super) enum Life {
    /// Nothing: it has to be loaded.
    Unknown,
    /// No instance has the id.
    Absent,
    /// A run that has not ended.
    Active(Box<Run>),
    /// A run that has ended.
    Ended(Box<StatusRow>),
    /// Its rows cannot be read.
    Unreadable(String),
}

/// Where the instance's code is.
pub(super) enum Code {
    /// Not in memory.
    Away,
    /// Being read from the store.
    Loading,
    /// Here, waiting.
    Home(Box<Orchestration>),
    /// Handed out in a turn.
    Out,
}

/// What happened to an instance and is not in its history yet.
pub(super) enum Arrival {
    Begin {
        acceptance: Box<Acceptance>,
        ticket: Option<Ticket>,
    },
    Command {
        command: Command,
        run: Option<RunNumber>,
        source: Source,
    },
    Message {
        from: PartitionId,
        number: MessageNumber,
        body: MessageBody,
    },
    TimerFired(CallNumber),
    Settled {
        call: CallNumber,
        attempts: u32,
        result: Result<Payload, Box<Failure>>,
        /// The message that brought it.
        report: Option<EnvelopeId>,
    },
    /// What arrived while the instance was held.
    Stashed(Stashed),
    /// The result of an attempt that ran with another worker.
    Reported(Box<WorkResult>),
    /// Something that was sent can never be applied.
    Dead(Box<DeadMessage>),
    /// The engine ends the execution.
    Fail(Box<Failure>),
    /// The run's deadline has come.
    Expired,
}

impl Arrival {
    /// Whether it may be applied between the start of an execution and its first turn: it records nothing, or
    /// the end.
    pub(super) fn may_precede_first_turn(&self) -> bool {
        !matches!(self, Self::Command { command: Command::Suspend { .. }, .. })
    }

    /// Whether it is about a run that has ended, all of which has to be in the store.
    pub(super) fn needs_what_has_ended(&self) -> bool {
        match self {
            Self::Message { body, .. } => {
                matches!(body, MessageBody::StartChild(_) | MessageBody::RewindChild(_))
            }
            Self::Command { command, .. } => matches!(command, Command::Rewind { .. }),
            _ => false,
        }
    }

    pub(super) fn is_purge(&self) -> bool {
        matches!(self, Self::Command { command: Command::Purge { .. }, .. })
    }

    /// Whether it may be about something that the store has and this owner has not read.
    pub(super) fn comes_from_outside(&self) -> bool {
        match self {
            Self::Begin { ticket, .. } => ticket.is_none(),
            Self::Command { .. } | Self::Message { .. } | Self::Reported(_) | Self::Dead(_) => true,
            Self::TimerFired(_)
            | Self::Settled { .. }
            | Self::Stashed(_)
            | Self::Fail(_)
            | Self::Expired => false,
        }
    }
}

/// Who sent a command, and what it takes to make its arrival idempotent.
#[derive(Clone)]
pub(super) enum Source {
    /// A caller in this process.
    Direct { ticket: Ticket, id: EnvelopeId, remember: bool },
    /// The store, which holds it until the commit that consumes it.
    Stored { id: EnvelopeId },
    /// Another instance's command names this one, too. Nobody waits for it, and nothing is consumed with it.
    Along { id: EnvelopeId },
}

impl Source {
    pub(super) fn id(&self) -> &EnvelopeId {
        match self {
            Self::Direct { id, .. } | Self::Stored { id } | Self::Along { id } => id,
        }
    }

    /// The id by which a second arrival is recognised, if it has to be.
    pub(super) fn remembered(&self) -> Option<&EnvelopeId> {
        match self {
            Self::Direct { remember: false, .. } | Self::Along { .. } => None,
            Self::Direct { id, .. } | Self::Stored { id } => Some(id),
        }
    }
}

/// What the store holds of the rows that are compared before they are written, as of the last commit
/// handed to it.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) status: Option<RuntimeStatus>,
    pub(super) timer: Option<Timestamp>,
    pub(super) in_flight: Option<Vec<u8>>,
}

/// What the next commit that includes the instance has to write, and the effects that belong to it.
#[derive(Default)]
pub(super) struct Writes {
    /// Executions that ended and were continued since the last commit: what there is to write of them.
    closed: Vec<InstanceWrite>,
    events: EventEncoder,
    first: EventSeq,
    last_at: Timestamp,
    pub(super) begins: Begins,
    pub(super) status: bool,
    pub(super) in_flight: bool,
    /// The instance goes. What it was ended with is stored already.
    pub(super) purge: Option<ExecutionKey>,
    pub(super) effects: Vec<Effect>,
    pub(super) outgoing: Vec<(PartitionId, MessageBody)>,
    pub(super) consumed: Vec<Consumed>,
    /// Events for whatever run the id has, taken for one whose rewind is not stored: where an accepted start wins
    /// over the rewind, they are for the run that it begins.
    pub(super) raised: Vec<Stashed>,
    pub(super) applied: Vec<(PartitionId, MessageNumber)>,
    /// Something to write or to answer.
    any: bool,
    /// An event that somebody may wait for: any but the result of an activity.
    urgent: bool,
}

impl Writes {
    pub(super) fn touch(&mut self) {
        self.any = true;
    }

    pub(super) fn any(&self) -> bool {
        self.any
    }

    /// Bytes of the events that wait.
    pub(super) fn bytes(&self) -> usize {
        self.events.bytes() + self.closed.iter().map(InstanceWrite::bytes).sum::<usize>()
    }

    /// Rows beside those that every instance may need.
    pub(super) fn rows(&self) -> usize {
        self.outgoing.len() + self.closed.iter().map(InstanceWrite::rows).sum::<usize>()
    }

    /// Executions that were continued since the last commit.
    pub(super) fn closed(&self) -> usize {
        self.closed.len()
    }

    /// The execution has its last event, and the next one begins: what there is to write of it is complete.
    pub(super) fn close(&mut self, run: &Run) {
        let (begins, history) = (std::mem::take(&mut self.begins), self.take_history());
        self.closed.push(InstanceWrite {
            key: run.key.clone(),
            begins,
            history,
            status: begins.a_run().then(|| Box::new(run.row.clone())),
            in_flight: RowChange::Keep,
            timer: None,
        });
    }

    /// Whether a run is to begin of which nothing was accepted.
    pub(super) fn begins_without_acceptance(&self) -> bool {
        let closed = self.closed.iter().map(|write| write.begins);
        closed.chain([self.begins]).any(|begins| matches!(begins, Begins::Fresh | Begins::Asked))
    }

    fn take_history(&mut self) -> Option<HistoryAppend> {
        let count = self.events.count();
        (count > 0).then(|| HistoryAppend {
            first: self.first,
            count,
            at: self.last_at,
            body: self.events.finish(),
        })
    }

    /// Adds an event to the history.
    pub(super) fn record(&mut self, run: &mut Run, at: Timestamp, kind: EventKind) -> Event {
        let event = Event { at, is: kind };
        self.urgent |= !matches!(
            event.is,
            EventKind::ActivityCompleted { .. } | EventKind::ActivityFailed { .. }
        );
        if self.events.count() == 0 {
            self.first = run.next_seq;
        }
        let before = self.events.bytes();
        self.events.push(&event);
        run.history_bytes += self.events.bytes() - before;
        run.note(&event);
        self.last_at = at;
        self.any = true;
        event
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
        self.any = true;
    }

    /// Notes that a message was taken whose second arrival does no harm, such as a result: it matches no open
    /// attempt then.
    pub(super) fn consume_unremembered(&mut self, id: EnvelopeId) {
        if planted!(ReportNotConsumed) {
            return;
        }
        self.consumed.push(Consumed { id, remember: false });
        self.any = true;
    }

    /// Whether all that waits is results that lead to nothing yet: nobody misses them before more have come.
    pub(super) fn may_wait(&self) -> bool {
        !self.urgent
            && !self.begins.a_run()
            && !self.status
            && self.purge.is_none()
            && self.effects.is_empty()
            && self.outgoing.is_empty()
            && self.applied.is_empty()
    }

    /// Notes that a command was taken whose second arrival must be recognised.
    pub(super) fn consume(&mut self, id: &EnvelopeId) {
        self.consumed.push(Consumed { id: id.clone(), remember: true });
        self.any = true;
        self.urgent = true;
    }

    /// What the parent of a run hears of its end is that another start took its place.
    pub(super) fn tell_replaced(&mut self, parent: Option<&ParentLink>) {
        for (_, body) in &mut self.outgoing {
            if let MessageBody::ChildEnded { parent: told, result, .. } = body
                && Some(&*told) == parent
            {
                *result = Err(Box::new(super::children::replaced()));
            }
        }
    }

    /// The run is replaced before these writes were committed: what its turns caused never happened.
    /// Answers stay, and so does what was consumed. `parent` is whom the run would have told its end.
    pub(super) fn forget_run(&mut self, parent: Option<&ParentLink>) {
        let _ = self.events.finish();
        self.closed.clear();
        self.outgoing.retain(|(_, body)| match body {
            MessageBody::Raise { .. }
            | MessageBody::StartChild(_)
            | MessageBody::RewindChild(_) => false,
            // Children of turns that are stored end with it; others have never begun.
            MessageBody::TerminateChild { .. } | MessageBody::ChildEnded { .. } => true,
        });
        self.tell_replaced(parent);
        self.effects.retain(|effect| matches!(effect, Effect::Answer { .. }));
        self.begins = Begins::No;
        self.status = false;
        self.in_flight = false;
    }
}

impl Entry {
    pub(super) fn unknown() -> Self {
        Self {
            life: Life::Unknown,
            code: Code::Away,
            arrivals: VecDeque::new(),
            covered: 0,
            early: Vec::new(),
            told: None,
            told_suspended: false,
            was_due: false,
            start_waits: false,
            look_at_due: false,
            writes: Writes::default(),
            stored: Stored::default(),
            queued: false,
            committing: false,
            in_wheel: None,
            rewinding: None,
            weight: 0,
            used: 0,
        }
    }

    /// Nothing of it has to be kept in memory for the sake of correctness.
    pub(super) fn idle(&self) -> bool {
        !self.queued
            && !self.committing
            && !self.writes.any()
            && self.arrivals.is_empty()
            && self.early.is_empty()
            && !self.look_at_due
            && !matches!(self.code, Code::Out | Code::Loading)
    }

    /// The run gives way to another before its writes were committed. `parent` is whom it would have told its end.
    pub(super) fn give_way(&mut self, parent: Option<&ParentLink>) {
        self.writes.forget_run(parent);
        self.forget_own_arrivals();
        let raised = std::mem::take(&mut self.writes.raised);
        for stashed in raised.into_iter().rev() {
            self.arrivals.push_front(Arrival::Stashed(stashed));
        }
    }

    /// Notes an event for whatever run the id has, while the run was rewound and the store still has its failure.
    pub(super) fn keep_for_the_next_run(
        &mut self,
        name: &Arc<str>,
        input: &Payload,
        id: Option<&EnvelopeId>,
    ) {
        let runs = matches!(&self.life, Life::Active(run) if run.unbegun.is_none());
        let failed = self.stored.status == Some(RuntimeStatus::Failed);
        if runs && failed && !self.writes.begins.a_run() {
            let (name, input, id) = (name.clone(), input.clone(), id.cloned());
            self.writes.raised.push(Stashed::Raise { name, input, id });
        }
    }

    /// Results, timers and stashed events of a run that gives way are not the next one's, whose calls have
    /// the same numbers.
    pub(super) fn forget_own_arrivals(&mut self) {
        self.covered = 0;
        if planted!(ResultReachesNextRun) {
            return;
        }
        let _ = self.forget_results();
        self.arrivals.retain(|arrival| !matches!(arrival, Arrival::Stashed(_)));
    }

    /// Results and timers of an execution that ended are not the next one's. Says how many there were.
    pub(super) fn forget_results(&mut self) -> usize {
        let before = self.arrivals.len();
        self.covered = 0;
        for arrival in &mut self.arrivals {
            if let Arrival::Settled { report, .. } = arrival
                && let Some(report) = report.take()
            {
                self.writes.consume_unremembered(report);
            }
        }
        self.arrivals.retain(|arrival| match arrival {
            Arrival::Begin { .. }
            | Arrival::Command { .. }
            | Arrival::Message { .. }
            | Arrival::Reported(_)
            | Arrival::Dead(_)
            | Arrival::Stashed(Stashed::Raise { .. } | Stashed::Terminate { .. }) => true,
            Arrival::TimerFired(_)
            | Arrival::Settled { .. }
            | Arrival::Stashed(Stashed::Settled { .. } | Stashed::Child { .. })
            | Arrival::Fail(_)
            | Arrival::Expired => false,
        });
        before - self.arrivals.len()
    }

    /// Starts that had arrived before the store was read, which has no acceptance of them any more: they have
    /// begun, and what became of them was purged. Says how many there were.
    pub(super) fn forget_starts(&mut self) -> u64 {
        if planted!(PurgedStartBegins) {
            return 0;
        }
        let before = self.arrivals.len();
        let mut place = 0;
        self.arrivals.retain(|arrival| {
            place += 1;
            place > self.covered || !matches!(arrival, Arrival::Begin { ticket: None, .. })
        });
        let forgotten = before - self.arrivals.len();
        self.covered -= forgotten;
        forgotten as u64
    }

    pub(super) fn active(&mut self) -> Option<&mut Run> {
        match &mut self.life {
            Life::Active(run) => Some(run),
            Life::Unknown | Life::Absent | Life::Ended(_) | Life::Unreadable(_) => None,
        }
    }

    /// The rows that a commit has to write for this instance, with the effects that belong to them.
    /// None where only effects remain; one for each execution that they touch, in order.
    pub(super) fn take_writes(&mut self) -> (Vec<InstanceWrite>, Writes) {
        let mut writes = std::mem::take(&mut self.writes);
        let mut own = std::mem::take(&mut writes.closed);
        if own.iter().any(|write| write.begins.a_run()) {
            // The write that begins the run takes the rows of an earlier one away.
            self.stored.timer = None;
            self.stored.in_flight = None;
        }
        let history = writes.take_history();
        let (key, row, timer, in_flight) = match &self.life {
            Life::Active(run) => {
                // While no earlier row is known and nothing is recorded differently, the encoded row
                // need not be made: most instances write it once and delete it at their end.
                let in_flight = if writes.in_flight || writes.begins.a_run() {
                    let on_the_way = self.arrivals.iter().filter_map(|arrival| match arrival {
                        Arrival::Stashed(stashed) => Some(stashed),
                        _ => None,
                    });
                    run.in_flight(on_the_way).map(|row| codec::encode_row(&row))
                } else {
                    self.stored.in_flight.clone()
                };
                let due = if run.partial { self.stored.timer } else { run.stored_due() };
                (run.key.clone(), &run.row, due, in_flight)
            }
            Life::Ended(row) => (row.key(), &**row, None, None),
            Life::Unknown | Life::Absent | Life::Unreadable(_) => return (own, writes),
        };
        // A store removes that of an earlier run when a new one begins, not that of the same run's start.
        let in_flight_change = match (self.stored.in_flight.take(), &in_flight) {
            (None, None) => RowChange::Keep,
            (Some(old), Some(new)) if old == *new && !writes.begins.a_run() => RowChange::Keep,
            (_, Some(new)) => RowChange::Set(new.clone()),
            (Some(_), None) => RowChange::Delete,
        };
        // The timer row of an earlier run goes when a new one begins, also where both have the same time.
        let moves = if writes.begins.a_run() {
            timer.is_some() || self.stored.timer.is_some()
        } else {
            self.stored.timer != timer
        };
        let timer_move = moves.then_some(TimerMove { from: self.stored.timer, to: timer });
        let write = InstanceWrite {
            key,
            begins: writes.begins,
            history,
            status: writes.status.then(|| Box::new(row.clone())),
            in_flight: in_flight_change,
            timer: timer_move,
        };
        if writes.status {
            writes.effects.push(Effect::StatusChanged(Arc::new(row.clone())));
        }
        self.stored.timer = timer;
        self.stored.in_flight = in_flight;
        let touches = write.begins.a_run()
            || write.history.is_some()
            || write.status.is_some()
            || write.in_flight.touches()
            || write.timer.is_some();
        own.extend(touches.then_some(write));
        (own, writes)
    }
}

/// Shows another status from the next commit on.
pub(super) fn set_status(entry: &mut Entry, status: RuntimeStatus, now: Timestamp) {
    let Life::Active(run) = &mut entry.life else { return };
    run.row.status = status;
    run.row.updated_at = now.max(run.row.updated_at);
    entry.writes.status = true;
    entry.writes.touch();
}
