//! Rewind: the run of a failed instance goes on with an execution that repeats the failed one without its
//! failures.
//!
//! The failed history is read, the code repeats it in one turn, and one commit begins the next execution with
//! all that is kept. Until that commit the instance has failed and nothing else; what asked for the rewind is
//! consumed by it. So a crash on the way leaves the wish where it was, or takes it with its caller.

use super::begin::unregistered;
use super::call::Phase;
use super::children::{result_of, start_of_child};
use super::effect::{Answer, Effect};
use super::entry::{Arrival, Code, Entry, Life, Source};
use super::run::{Child, Run, Stashed};
use super::turn::{Repetition, Turn};
use super::{Core, Partition};
use crate::codec::{self, DecodeError};
use crate::model::{
    Acceptance, CallNumber, Deadline, Event, EventKind, ExecutionKey, ExecutionNumber,
    ExecutionStarted, Failure, InstanceId, MessageBody, MessageNumber, ParentLink, PartitionId,
    Rewind, RuntimeStatus, Succeeded, UnconsumedEvent,
};
use crate::replay::{Action, Orchestration, Rewound, Step, failures};
use crate::store::HistoryRow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rewind under way: the failed history is being read, or repeated.
pub(super) struct Rewinding {
    reason: Option<Arc<str>>,
    asked: Asked,
}

enum Asked {
    /// A client.
    Command(Source),
    /// The parent, which goes on to wait for it as this call.
    Message { from: PartitionId, number: MessageNumber, parent: ParentLink },
}

impl Partition {
    /// The failed history was read.
    pub(super) fn history_loaded(
        &mut self,
        key: &ExecutionKey,
        found: Result<Vec<HistoryRow>, DecodeError>,
    ) {
        let instance = &key.instance;
        let Some(entry) = self.entries.get_mut(instance) else { return };
        if !matches!(entry.code, Code::Loading) || entry.rewinding.is_none() {
            return;
        }
        let decoded = found.and_then(|rows| codec::decode_history(&rows));
        let turn = decoded
            .map_err(|error| format!("its history cannot be read: {error}"))
            .and_then(|failed| self.core.repeat(key, entry, failed));
        match turn {
            Ok(turn) => {
                entry.code = Code::Out;
                self.core.turns.push_back(turn);
            }
            Err(reason) => {
                entry.code = Code::Away;
                self.core.load_ended();
                self.core.not_rewound(instance, entry, reason);
                self.core.proceed(instance, entry);
                self.settle_entry(&key.instance);
            }
        }
    }
}

impl Core {
    /// A client wants an ended instance rewound.
    pub(super) fn rewind(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        execution: ExecutionNumber,
        reason: Option<Arc<str>>,
        source: &Source,
    ) {
        let Life::Ended(row) = &entry.life else { return };
        let status = row.status;
        if status != RuntimeStatus::Failed || row.execution != execution {
            self.stats.dropped += 1;
            self.reply(entry, source, Answer::Finished(status));
            return;
        }
        if self.registry.orchestrator(&row.name).is_none() {
            let message = unregistered(&row.name);
            match source {
                Source::Direct { .. } => self.reply(entry, source, Answer::Refused(message)),
                // It stays in the store, for a worker that has the code.
                Source::Stored { .. } | Source::Along { .. } => {
                    self.effects.push(Effect::Warn { instance: instance.clone(), message });
                }
            }
            return;
        }
        self.read_failed(entry, Rewinding { reason, asked: Asked::Command(source.clone()) });
    }

    fn read_failed(&mut self, entry: &mut Entry, rewinding: Rewinding) {
        let Life::Ended(row) = &entry.life else { return };
        let key = row.key();
        entry.rewinding = Some(Box::new(rewinding));
        entry.code = Code::Loading;
        self.load_begins();
        self.effects.push(Effect::LoadHistory(key));
    }

    /// The turn that repeats a failed history.
    fn repeat(
        &mut self,
        key: &ExecutionKey,
        entry: &Entry,
        failed: Vec<Event>,
    ) -> Result<Turn, String> {
        let (Life::Ended(row), Some(rewinding)) = (&entry.life, &entry.rewinding) else {
            return Err("it is not the failed execution any more".into());
        };
        let first = failed.first().map(|event| (event.at, &event.is));
        let last = failed.last().map(|event| &event.is);
        let (
            Some((at, EventKind::ExecutionStarted(start))),
            Some(EventKind::ExecutionFailed { .. }),
        ) = (first, last)
        else {
            return Err("its history does not end with a failure".into());
        };
        let compensates = |event: &Event| matches!(&event.is, EventKind::ActivityScheduled(scheduled) if scheduled.options.compensates);
        if failed.iter().any(compensates) && !planted!(CompensatedRewound) {
            return Err("it has taken back what it had done; restart it instead".into());
        }
        let code = self.registry.orchestrator(&row.name).ok_or_else(|| unregistered(&row.name))?;
        let origin = start.rewind.as_ref().map_or(row.execution, |rewind| rewind.origin);
        let reason = rewinding.reason.clone();
        let parent = match &rewinding.asked {
            Asked::Message { parent, .. } => Some(parent.clone()),
            Asked::Command(_) => row.parent.clone(),
        };
        let start = ExecutionStarted {
            parent,
            // One that never ran begins now, whatever it waited for.
            suspended: start.suspended && failed.len() > 2,
            deadline: start.deadline.map(|deadline| Deadline::after(self.now, deadline.limit)),
            continues: Some(row.execution),
            taken_back: failures(&failed),
            rewind: Some(Box::new(Rewind {
                origin,
                reason,
                succeeded: Vec::new(),
                children: Vec::new(),
            })),
            ..(**start).clone()
        };
        let start = Event { at, is: EventKind::ExecutionStarted(Box::new(start)) };
        let next = ExecutionKey { execution: row.execution.next(), ..key.clone() };
        let foreign = self.registry.foreign_wake(&next);
        // Which of the listed events are in the history is known when it is replayed.
        let before = (!row.unconsumed.is_empty())
            .then(|| Box::new(Orchestration::new(key.clone(), code.clone(), None)));
        let orchestration = Box::new(Orchestration::new(next, code.clone(), foreign));
        let instance = key.instance.clone();
        let fits = Box::new(Orchestration::new(key.clone(), code, None));
        let repetition = Repetition { start, failed, now: self.now, fits, before };
        Ok(Turn::rewind(instance, orchestration, repetition))
    }

    pub(super) fn not_rewound(&mut self, instance: &InstanceId, entry: &mut Entry, reason: String) {
        let Some(rewinding) = entry.rewinding.take() else { return };
        let message = format!("it is not rewound: {reason}");
        self.effects.push(Effect::Warn { instance: instance.clone(), message });
        match rewinding.asked {
            Asked::Command(source) => self.reply(entry, &source, Answer::Refused(reason)),
            Asked::Message { from, number, parent } => {
                entry.writes.applied.push((from, number));
                self.refuse_parent(entry, &parent, "NotRewound", reason);
            }
        }
    }

    /// The failed execution was repeated: the next one begins with what is kept of it.
    pub(super) fn rewound(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        orchestration: Box<Orchestration>,
        rewound: Rewound,
        logged: Option<usize>,
    ) {
        let Some(rewinding) = entry.rewinding.take() else { return };
        let Life::Ended(row) = &entry.life else { return };
        let mut row = (**row).clone();
        let listed = std::mem::take(&mut row.unconsumed);
        let late = row.failure.as_ref().is_some_and(Failure::is_of_deadline);
        let mut again = if late {
            not_in_history(listed, &rewound)
        } else {
            listed.into_iter().skip(logged.unwrap_or(usize::MAX)).collect()
        };
        row.execution = row.execution.next();
        row.status = RuntimeStatus::Running;
        row.output = None;
        row.failure = None;
        row.updated_at = self.now.max(row.updated_at);
        if let Asked::Message { parent, .. } = &rewinding.asked {
            row.parent = Some(parent.clone());
        }
        let key = orchestration.key().clone();
        entry.life = Life::Active(Box::new(Run::new(key.clone(), row)));
        entry.code = Code::Home(orchestration);
        entry.writes.status = true;
        entry.writes.in_flight = true;
        entry.writes.touch();
        self.stats.rewound += 1;
        match rewinding.asked {
            Asked::Command(source) => self.reply(entry, &source, Answer::Accepted),
            Asked::Message { from, number, .. } => entry.writes.applied.push((from, number)),
        }
        let mut asked = BTreeMap::new();
        for step in rewound.steps {
            let Life::Active(run) = &mut entry.life else { break };
            let (at, kind) = match step {
                Step::Kept(Event { at, is }) => (at, Some(is)),
                // Begun below, with those that are repeated.
                Step::Asked { at, action: action @ Action::ScheduleActivity { .. } } => {
                    (at, action.into_event())
                }
                Step::Asked { at, action } => {
                    self.act_at(instance, entry, vec![action], at);
                    continue;
                }
            };
            if let Some(kind) = kind {
                match &kind {
                    EventKind::ActivityScheduled(scheduled) => {
                        asked.insert(scheduled.call, kind.clone());
                    }
                    EventKind::ChildCreated(created) => {
                        asked.insert(created.call, kind.clone());
                    }
                    _ => {}
                }
                let at = at.max(run.last_at);
                let _ = entry.writes.record(run, at, kind);
            }
        }
        let goes_on = entry.active().is_some_and(|run| run.key == key);
        if goes_on {
            if let Life::Active(run) = &mut entry.life
                && run.suspended
            {
                run.row.status = RuntimeStatus::Suspended;
            }
            self.begin_open(entry, &asked);
            entry.look_at_due = true;
            self.weigh(entry);
        }
        again.extend(rewound.left);
        for event in again.into_iter().rev() {
            let stashed = Stashed::Raise { name: event.name, input: event.input, id: event.id };
            entry.arrivals.push_front(Arrival::Stashed(stashed));
        }
    }

    /// What has no result runs, or goes on.
    fn begin_open(&mut self, entry: &mut Entry, asked: &BTreeMap<CallNumber, EventKind>) {
        let Life::Active(run) = &entry.life else { return };
        let paused = run.paused();
        for call in run.running_calls() {
            if planted!(RewoundCallNotStarted) {
                break;
            }
            if self.goes_on_ending(entry, call) {
                continue;
            }
            let Some(run) = entry.active() else { return };
            let noted = asked.get(&call).and_then(|asked| run.succeeded(asked)).cloned();
            let Some(open) = run.calls.get_mut(&call) else { continue };
            if let Some(noted) = noted {
                give(entry, call, noted);
            } else if paused {
                open.phase = Phase::Backoff { not_before: self.now };
            } else {
                self.start_scheduled(entry, call);
            }
        }
        for asked in asked.values() {
            let EventKind::ChildCreated(created) = asked else { continue };
            let Some(run) = entry.active() else { return };
            if planted!(ChildNotRewound)
                || !run.children.get(&created.call).is_some_and(Child::is_awaited)
            {
                continue;
            }
            if let Some(noted) = run.succeeded(asked).cloned() {
                give(entry, created.call, noted);
            } else if run.children.get(&created.call).is_some_and(|child| child.cancelling) {
                let result = Err(Box::new(super::call::ended(None)));
                let (call, execution) = (created.call, ExecutionNumber(0));
                let stashed = Stashed::Child { call, execution, result };
                entry.arrivals.push_back(Arrival::Stashed(stashed));
            } else {
                let to = created.instance.partition(self.config.partitions);
                let start = start_of_child(run, self.now, created);
                entry.writes.outgoing.push((to, MessageBody::RewindChild(Box::new(start))));
            }
        }
    }

    /// The parent was rewound and waits for this child again.
    pub(super) fn rewind_child(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        from: PartitionId,
        number: MessageNumber,
        start: Box<Acceptance>,
    ) {
        let Some(parent) = start.parent.clone() else { return };
        let ours = |link: Option<&ParentLink>| {
            link.is_some_and(|link| {
                let after = ParentLink { execution: link.execution.next(), ..link.clone() };
                after == parent
            })
        };
        match &mut entry.life {
            Life::Ended(row)
                if ours(row.parent.as_ref()) && row.status == RuntimeStatus::Failed =>
            {
                let asked = Asked::Message { from, number, parent };
                self.read_failed(entry, Rewinding { reason: None, asked });
                return;
            }
            Life::Ended(row)
                if ours(row.parent.as_ref()) && row.status == RuntimeStatus::Completed =>
            {
                row.parent = Some(parent);
                entry.writes.status = true;
                let row = row.clone();
                let result = result_of(&row);
                self.tell_parent(entry, &row, result);
            }
            Life::Active(run) if ours(run.row.parent.as_ref()) => {
                run.row.parent = Some(parent);
                entry.writes.status = true;
            }
            // Terminated with its parent, purged, or never begun.
            _ => self.start_child(instance, entry, start),
        }
        entry.writes.applied.push((from, number));
        entry.writes.touch();
    }
}

/// Of the events that a run left, those that its code never got: where it was held when its deadline came, nobody
/// said which of the others its code had consumed.
fn not_in_history(listed: Vec<UnconsumedEvent>, rewound: &Rewound) -> Vec<UnconsumedEvent> {
    let kept = rewound.steps.iter().filter_map(|step| match step {
        Step::Kept(Event { is: EventKind::EventRaised { name, input, id }, .. }) => {
            Some(UnconsumedEvent { name: name.clone(), input: input.clone(), id: id.clone() })
        }
        Step::Kept(_) | Step::Asked { .. } => None,
    });
    let mut history: Vec<_> = kept.chain(rewound.left.iter().cloned()).collect();
    let unknown = |event: &UnconsumedEvent| {
        let place = history.iter().position(|known| known == event);
        place.map(|place| history.swap_remove(place)).is_none()
    };
    listed.into_iter().filter(unknown).collect()
}

/// A call has the result that it had in the execution that is repeated. It arrives as what was stashed does: until it
/// is in the history, it is in the row of work in flight.
pub(super) fn give(entry: &mut Entry, call: CallNumber, noted: Succeeded) {
    let Succeeded { asked, output, execution } = noted;
    let stashed = if matches!(asked, EventKind::ChildCreated(_)) {
        Stashed::Child { call, execution, result: Ok(output) }
    } else {
        if let Some(open) = entry.active().and_then(|run| run.calls.get_mut(&call)) {
            open.phase = Phase::Settled;
        }
        Stashed::Settled { call, attempts: 1, result: Ok(output) }
    };
    entry.arrivals.push_back(Arrival::Stashed(stashed));
    entry.writes.in_flight = true;
    entry.writes.touch();
}
