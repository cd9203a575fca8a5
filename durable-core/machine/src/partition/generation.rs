//! Executions: the generations of a run.
//!
//! One commit ends an execution and begins the next, whose first turn is mostly part of it, too. Where code
//! continues again and again without waiting, every second first turn waits until its start is durable, so
//! that others have their turns, a commit stays small, and commands are applied.

use super::Core;
use super::attempt::running_attempts;
use super::effect::Effect;
use super::entry::{Arrival, Code, Entry, Life};
use super::run::{Run, Stashed};
use super::turned::unconsumed;
use crate::model::{
    Command, EventKind, ExecutionKey, ExecutionStarted, HoldReason, InstanceId, Payload,
    RuntimeStatus, UnconsumedEvent,
};
use crate::replay::Orchestration;

/// Executions that one commit may end and continue with the next one's first turn.
const CONTINUED_AT_ONCE: usize = 1;

impl Core {
    /// The code ended its execution: the next one begins, and with it what was not consumed.
    pub(super) fn continue_as_new(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        input: Payload,
    ) {
        let kept = unconsumed(entry);
        self.drop_code(entry);
        let Life::Active(run) = &mut entry.life else { return };
        for attempt in running_attempts(run) {
            entry.writes.effect(Effect::CancelAttempt(attempt));
        }
        self.leave_children_behind(entry);
        let Life::Active(run) = &mut entry.life else { return };
        let at = self.now.max(run.last_at);
        let kind = EventKind::ContinuedAsNew { input: input.clone() };
        let _ = entry.writes.record(run, at, kind);
        entry.writes.close(run);

        let execution = run.key.execution;
        let mut row = run.row.clone();
        row.execution = execution.next();
        // The code may never wait: a suspend that waits holds for the first turn, or it would never come.
        let suspends = |command: &Command| matches!(command, Command::Suspend { .. });
        let suspended = self.commanded(entry, row.run, suspends);
        let Life::Active(run) = &entry.life else { return };
        row.status = if suspended { RuntimeStatus::Suspended } else { RuntimeStatus::Running };
        row.updated_at = at.max(row.updated_at);
        row.input = input;
        let started = EventKind::ExecutionStarted(Box::new(ExecutionStarted {
            name: row.name.clone(),
            input: row.input.clone(),
            suspended,
            parent: row.parent.clone(),
            version: row.version.clone(),
            tags: row.tags.clone(),
            scheduled_for: None,
            deadline: row.deadline.filter(|_| !planted!(DeadlineNotCarriedOver)),
            worker_build: None,
            trace: run.trace.clone(),
            continues: Some(execution),
            taken_back: Vec::new(),
            rewind: None,
        }));
        let key = ExecutionKey { execution: row.execution, ..run.key.clone() };
        let mut next = Run::new(key, row);
        let start = entry.writes.record(&mut next, at, started);
        next.unturned = true;
        next.start = Some(Box::new(start));
        entry.life = Life::Active(Box::new(next));
        entry.writes.status = true;
        entry.writes.in_flight = true;
        if !planted!(OldExecutionAnswers) {
            self.stats.dropped += entry.forget_results() as u64;
        }
        hand_over(entry, kept);
        self.stats.continued += 1;
        self.begin_again(instance, entry);
    }

    /// Brings the code of an execution whose start is recorded.
    fn begin_again(&mut self, instance: &InstanceId, entry: &mut Entry) {
        let Life::Active(run) = &entry.life else { return };
        let key = run.key.clone();
        let Some(code) = self.registry.orchestrator(&run.row.name) else {
            let message = format!("no orchestrator {:?} is registered any more", run.row.name);
            self.hold(instance, entry, HoldReason::UnknownOrchestrator, message);
            return;
        };
        let foreign = self.registry.foreign_wake(&key);
        entry.code = Code::Home(Box::new(Orchestration::new(key, code, foreign)));
        if entry.writes.closed() <= CONTINUED_AT_ONCE || run.suspended {
            self.first_turn(instance, entry);
        }
    }

    /// Hands out the first turn of an execution that continues another one.
    pub(super) fn first_turn(&mut self, instance: &InstanceId, entry: &mut Entry) {
        let Life::Active(run) = &mut entry.life else { return };
        let Some(start) = run.start.take() else { return };
        run.unturned = false;
        for stashed in std::mem::take(&mut run.stash).into_iter().rev() {
            entry.arrivals.push_front(Arrival::Stashed(stashed));
        }
        entry.writes.in_flight = true;
        entry.writes.touch();
        self.give_turn(instance, entry, *start);
    }
}

/// Events that an execution has not consumed are the first that its successor gets, in their order. Until
/// they are in its history they are in the row of work in flight.
fn hand_over(entry: &mut Entry, mut kept: Vec<UnconsumedEvent>) {
    if planted!(EventsLostOnContinue) {
        return;
    }
    if planted!(EventsTurnedOnContinue) {
        kept.reverse();
    }
    for UnconsumedEvent { name, input, id } in kept.into_iter().rev() {
        let stashed = Stashed::Raise { name, input, id };
        if planted!(EventsDoubledOnContinue) {
            entry.arrivals.push_front(Arrival::Stashed(stashed.clone()));
        }
        entry.arrivals.push_front(Arrival::Stashed(stashed));
    }
}

impl Entry {
    /// Its code is here, and its first turn waits until its start is durable. What arrives is stashed.
    pub(super) fn waits_for_first_turn(&self) -> bool {
        matches!(self.code, Code::Home(_))
            && matches!(&self.life, Life::Active(run) if run.unturned)
    }
}
