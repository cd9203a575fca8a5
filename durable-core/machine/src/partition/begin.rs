//! The begin of a run: accepted, asked for by a parent, or in place of another run.

use std::collections::VecDeque;
use std::sync::Arc;

use super::call::Phase;
use super::children::{self, asked_for};
use super::effect::{Answer, Effect, Ticket};
use super::end::Ended;
use super::entry::{Arrival, Code, Entry, Life, Source};
use super::run::{Run, Stashed};
use super::{Core, Partition};
use crate::model::{
    Acceptance, Command, EventKind, ExecutionStarted, Hold, HoldReason, InstanceId, Payload,
    ReusePolicy, RuntimeStatus, UnconsumedEvent,
};
use crate::replay::Orchestration;
use crate::store::Begins;

/// How a start reached its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// From the owner's own process; a caller waits.
    Direct(Ticket),
    /// Accepted, and in the store.
    Stored,
    /// In a message: another instance asks for a child.
    Asked,
}

impl Partition {
    /// Starts an instance under an id that was made for it, without an acceptance in the store.
    pub(super) fn start(&mut self, acceptance: Box<Acceptance>, ticket: Ticket) {
        let refusal = if self.overloaded() {
            Some(Answer::Overloaded)
        } else if acceptance.waits_at(self.core.now) {
            Some(Answer::Refused("a start at a later time has to be accepted by the store".into()))
        } else if self.core.registry.orchestrator(&acceptance.name).is_none() {
            Some(Answer::Refused(unregistered(&acceptance.name)))
        } else if self.entries.contains_key(&acceptance.instance) {
            Some(Answer::Refused("the instance id is in use".into()))
        } else {
            None
        };
        if let Some(answer) = refusal {
            self.core.effects.push(Effect::Answer { ticket, answer });
            return;
        }
        let instance = acceptance.instance.clone();
        let mut entry = Entry::unknown();
        entry.life = Life::Absent;
        self.entries.insert(instance.clone(), entry);
        self.arrive(instance, Arrival::Begin { acceptance, ticket: Some(ticket) });
    }

    /// The store holds nothing of the id but the acceptance that comes next, with its pending status.
    pub(super) fn expect_fresh(&mut self, instance: &InstanceId) {
        if !self.entries.contains_key(instance) {
            let mut entry = Entry::unknown();
            entry.life = Life::Absent;
            entry.covered = 1;
            entry.stored.status = Some(RuntimeStatus::Pending);
            self.entries.insert(instance.clone(), entry);
        }
    }
}

impl Core {
    pub(super) fn begin(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        acceptance: Box<Acceptance>,
        start: Start,
    ) {
        let code = self.registry.orchestrator(&acceptance.name);
        let waits = self.waits(entry, &acceptance);
        if start == Start::Stored && entry.writes.begins_without_acceptance() {
            // The child's id was found free, and was not: the store is going to refuse the commit. Or it is
            // the start of an earlier run, once more.
            self.stats.dropped += 1;
            return;
        }
        match &entry.life {
            Life::Active(run) if run.unbegun.is_none() => {
                if acceptance.run <= run.key.run {
                    self.stats.dropped += 1;
                    return;
                }
                if waits {
                    self.make_way(instance, entry, acceptance);
                    return;
                }
                if code.is_none() {
                    // The active run goes on; the acceptance waits for a worker that has the code.
                    entry.start_waits = true;
                    let message = unregistered(&acceptance.name);
                    self.effects.push(Effect::Warn { instance: instance.clone(), message });
                    return;
                }
                // Only a start that replaces, or one that raced with a rewind or with the start of a child,
                // gets here: it wins.
                debug_assert!(
                    acceptance.reuse == ReusePolicy::ReplaceActive
                        || run.row.parent.is_some()
                        || run.key.execution.0 > 0
                );
                self.replace(instance, entry);
            }
            Life::Active(unbegun) => {
                let older = acceptance.run < unbegun.key.run;
                if older || (waits && unbegun.key.run == acceptance.run) {
                    self.stats.dropped += 1;
                    return;
                }
                // The same start again. It is tried once more only where its reason may have passed.
                let stays = unbegun.hold.as_ref().is_some_and(|hold| {
                    code.is_none() || hold.reason != HoldReason::UnknownOrchestrator
                });
                if stays && unbegun.key.run == acceptance.run {
                    self.stats.dropped += 1;
                    return;
                }
            }
            Life::Ended(row) => {
                if acceptance.run <= row.run && !planted!(StartTakenTwice) {
                    self.stats.dropped += 1;
                    return;
                }
                if code.is_none() && !waits && start != Start::Asked {
                    // The store has the ended run's row: as above.
                    entry.start_waits = true;
                    let message = unregistered(&acceptance.name);
                    self.effects.push(Effect::Warn { instance: instance.clone(), message });
                    return;
                }
                // An end that is not stored yet never happened: its events are not the new run's.
                let parent = row.parent.clone();
                entry.give_way(parent.as_ref());
            }
            Life::Unreadable(_) => {
                // A new run needs nothing of what cannot be read.
                entry.stored.status = None;
            }
            Life::Absent | Life::Unknown => {}
        }
        for (id, run, command) in std::mem::take(&mut entry.early).into_iter().rev() {
            let source = Source::Stored { id };
            entry.arrivals.push_front(Arrival::Command { command, run: Some(run), source });
        }
        let mut run = Run::beginning(&acceptance);
        run.suspended = std::mem::take(&mut entry.told_suspended);
        if let Life::Active(unbegun) = &mut entry.life {
            run.stash = std::mem::take(&mut unbegun.stash);
            run.suspended |= unbegun.suspended;
        }
        if waits {
            if run.suspended {
                run.row.status = RuntimeStatus::Suspended;
            }
            run.unbegun = Some(acceptance);
            entry.life = Life::Active(Box::new(run));
            return;
        }
        entry.was_due = true;
        let was_suspended = std::mem::take(&mut run.suspended);
        // A start of which nothing is stored but that it was accepted. (What takes the place of an earlier
        // run could not be held: that run's row stands in the store until the new one begins. Nor can what
        // its caller starts directly: there is no row of it at all.)
        // A child that was asked for has a history from its start.
        let holdable = match start {
            Start::Direct(_) => false,
            Start::Stored => !matches!(entry.life, Life::Ended(_) | Life::Unreadable(_)),
            Start::Asked => true,
        };
        let told = entry.told.take();
        let hold = self.told_to_hold(instance, told).filter(|_| holdable).or_else(|| {
            let message = unregistered(&acceptance.name);
            code.is_none().then_some(Hold { reason: HoldReason::UnknownOrchestrator, message })
        });
        if start == Start::Asked
            && let Some(hold) = hold
        {
            self.begin_held(instance, entry, run, *acceptance, hold);
            return;
        }
        let (Some(code), None) = (code, &hold) else {
            run.unbegun = Some(acceptance);
            entry.life = Life::Active(Box::new(run));
            if let Some(hold) = hold {
                self.hold(instance, entry, hold.reason, hold.message);
            }
            return;
        };
        // Commands that reached the instance while it was pending hold for its first turn.
        let commanded = |which| self.commanded(entry, acceptance.run, which);
        let suspended =
            was_suspended || commanded(|command| matches!(command, Command::Suspend { .. }));
        let terminated = commanded(|command| matches!(command, Command::Terminate { .. }));
        let expired = run.row.deadline.is_some_and(|deadline| deadline.has_come(self.now));
        if terminated {
            // In front of all others: a resume before it would let the code run after all.
            let (mut first, rest): (VecDeque<_>, VecDeque<_>) =
                entry.arrivals.drain(..).partition(|arrival| {
                    matches!(arrival, Arrival::Command { command: Command::Terminate { .. }, .. })
                });
            first.extend(rest);
            entry.arrivals = first;
        }
        let key = run.key.clone();
        run.row.status = if suspended { RuntimeStatus::Suspended } else { RuntimeStatus::Running };
        run.row.updated_at = self.now.max(run.row.created_at);
        let mut stash = std::mem::take(&mut run.stash);
        for event in acceptance.raised.iter().rev().filter(|_| !planted!(StartEventForgotten)) {
            let UnconsumedEvent { name, input, id } = event.clone();
            if let Some(id) = &id {
                // The caller may repeat the start, and meet the run that it began.
                self.known.note(id, self.now);
                entry.writes.consume(id);
            }
            stash.push_front(Stashed::Raise { name, input, id });
        }
        entry.life = Life::Active(Box::new(run));
        entry.code = Code::Home(Box::new(Orchestration::new(
            key.clone(),
            code,
            self.registry.foreign_wake(&key),
        )));
        entry.writes.begins = match start {
            Start::Direct(_) => Begins::Fresh,
            Start::Stored => Begins::Accepted,
            Start::Asked => asked_for(&acceptance, entry.stored.status.is_some()),
        };
        entry.writes.status = true;
        entry.was_due = false;
        self.stats.started += 1;
        if let Start::Direct(ticket) = start {
            let answer = Answer::Started(key.run);
            entry.writes.effect(Effect::Answer { ticket, answer });
        }
        let kind = started_event(*acceptance, suspended || terminated || expired);
        if terminated || expired {
            // No code runs before its end is recorded; nor does it on a replay.
            let now = self.now;
            if let Life::Active(run) = &mut entry.life {
                let at = now.max(run.last_at);
                let _ = entry.writes.record(run, at, kind);
            }
        } else {
            self.record_and_turn(instance, entry, kind);
        }
        for stashed in stash.into_iter().rev() {
            entry.arrivals.push_front(Arrival::Stashed(stashed));
        }
        if expired && !terminated {
            entry.arrivals.push_front(Arrival::Expired);
        }
        self.weigh(entry);
    }

    /// Whether the time of a start has not come.
    pub(super) fn waits(&self, entry: &Entry, acceptance: &Acceptance) -> bool {
        acceptance.waits_at(self.now) && !entry.was_due && !planted!(ScheduledStartEarly)
    }

    /// An active run ends because of a start whose time has not come. That start comes again when the end
    /// is stored.
    pub(super) fn make_way(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        acceptance: Box<Acceptance>,
    ) {
        let Life::Active(run) = &entry.life else { return };
        if run.partial {
            // No end can be written behind what cannot be read: it stays until its successor begins.
            let message = "it cannot be read, and stays until the start that replaces it is due";
            self.effects.push(Effect::Warn { instance: instance.clone(), message: message.into() });
            return;
        }
        let parent = run.row.parent.clone();
        let reason = Some("replaced by a new start".into());
        self.end_with(instance, entry, Ended::Terminated { reason, tree: false });
        entry.writes.tell_replaced(parent.as_ref());
        entry.forget_own_arrivals();
        entry.arrivals.push_front(Arrival::Begin { acceptance, ticket: None });
    }

    /// An active run gives way to a new one: what of it is not committed never happened, and what is
    /// stored goes with the commit that begins the new run.
    fn replace(&mut self, instance: &InstanceId, entry: &mut Entry) {
        let parent = entry.active().and_then(|run| run.row.parent.clone());
        entry.give_way(parent.as_ref());
        self.leave_children(entry, false);
        let Life::Active(run) = &mut entry.life else { return };
        for (call, open) in &run.calls {
            if matches!(open.phase, Phase::Running { .. }) {
                let attempt = run.attempt_key(*call, open);
                entry.writes.effect(Effect::CancelAttempt(attempt));
            }
        }
        let mut row = run.row.clone();
        row.status = RuntimeStatus::Terminated;
        row.updated_at = self.now.max(row.updated_at);
        row.output = Payload::of("replaced by a new start").ok();
        entry.writes.effect(Effect::StatusChanged(Arc::new(row.clone())));
        self.tell_parent(entry, &row, Err(Box::new(children::replaced())));
        entry.life = Life::Ended(Box::new(row));
        self.stats.ended += 1;
        self.drop_code(entry);
        self.sync_wheel(instance, entry);
    }
}

pub(super) fn started_event(acceptance: Acceptance, suspended: bool) -> EventKind {
    EventKind::ExecutionStarted(Box::new(ExecutionStarted {
        name: acceptance.name,
        input: acceptance.input,
        suspended,
        parent: acceptance.parent,
        version: acceptance.version,
        tags: acceptance.tags,
        scheduled_for: acceptance.scheduled_for,
        deadline: acceptance.deadline,
        worker_build: None,
        trace: acceptance.trace,
        continues: None,
        taken_back: Vec::new(),
        rewind: None,
    }))
}

pub(super) fn unregistered(name: &str) -> String {
    format!("no orchestrator {name:?} is registered with this worker; register it and start again")
}
