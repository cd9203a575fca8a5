//! What an arrival does to its instance: one function a kind.

use std::collections::VecDeque;
use std::sync::Arc;

use super::call::{AfterFailure, Phase, spread};
use super::children::{self, asked_for};
use super::effect::{Answer, Effect, Ticket};
use super::entry::{Arrival, Code, Entry, Life, Source};
use super::run::{DueItem, Run, Stashed};
use super::{Core, Partition};
use crate::model::{
    Acceptance, AttemptKey, CallNumber, Command, Envelope, EnvelopeId, EventKind, ExecutionStarted,
    Failure, FailureClass, Hold, HoldReason, InstanceId, MessageBody, Payload, ReusePolicy,
    RunNumber, RuntimeStatus, StatusRow, UnconsumedEvent, limits,
};
use crate::replay::Orchestration;
use crate::store::{Begins, DeadMessage, WorkResult};

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

    pub(super) fn command(&mut self, envelope: Envelope, remember: bool, ticket: Ticket) {
        if self.overloaded() {
            self.core.effects.push(Effect::Answer { ticket, answer: Answer::Overloaded });
            return;
        }
        self.arrive_along(&envelope);
        let source = Source::Direct { ticket, id: envelope.id, remember };
        let Envelope { instance, run, command, .. } = envelope;
        self.arrive(instance, Arrival::Command { command, run, source });
    }

    pub(super) fn stored_command(&mut self, envelope: Envelope) {
        self.arrive_along(&envelope);
        let source = Source::Stored { id: envelope.id };
        let Envelope { instance, run, command, .. } = envelope;
        self.arrive(instance, Arrival::Command { command, run, source });
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

    fn overloaded(&self) -> bool {
        self.core.under_way.is_some() && self.core.dirty.len() >= self.core.config.uncommitted_max
    }

    pub(super) fn arrive(&mut self, instance: InstanceId, arrival: Arrival) {
        let entry = self.entries.entry(instance.clone()).or_insert_with(Entry::unknown);
        entry.arrivals.push_back(arrival);
        self.core.proceed(&instance, entry);
        self.settle_entry(&instance);
    }

    /// Drops an entry that says nothing.
    pub(super) fn settle_entry(&mut self, instance: &InstanceId) {
        let forget = self.entries.get(instance).is_some_and(|entry| {
            entry.idle()
                && match &entry.life {
                    Life::Absent | Life::Ended(_) | Life::Unknown => true,
                    Life::Unreadable(_) | Life::Active(_) => false,
                }
        });
        if forget && let Some(mut entry) = self.entries.remove(instance) {
            self.core.drop_code(&mut entry);
        }
    }

    pub(super) fn look_at_due(&mut self, instance: InstanceId) {
        let entry = self.entries.entry(instance.clone()).or_insert_with(Entry::unknown);
        entry.in_wheel = None;
        entry.look_at_due = true;
        self.core.proceed(&instance, entry);
        self.settle_entry(&instance);
    }

    pub(super) fn attempt_started(&mut self, attempt: &AttemptKey) {
        let now = self.core.now;
        let Some(entry) = self.entries.get_mut(&attempt.key.instance) else { return };
        if let Some((run, call)) = open_call(entry, attempt)
            && let Some(limit) = run.calls.get(&call).and_then(|open| open.options.start_to_finish)
            && let Some(open) = run.calls.get_mut(&call)
            && open.phase == (Phase::Running { deadline: None })
        {
            let deadline = now.after(limit);
            open.phase = Phase::Running { deadline: Some(deadline) };
            run.wake_call_at(deadline, call);
            self.core.sync_wheel(&attempt.key.instance, entry);
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
}

/// The open, running call that an answer of this attempt is for.
fn open_call<'a>(entry: &'a mut Entry, attempt: &AttemptKey) -> Option<(&'a mut Run, CallNumber)> {
    let run = entry.active()?;
    let old = planted!(OldExecutionAnswers) && run.key.run == attempt.key.run;
    let fits = (run.key == attempt.key || old)
        && run.calls.get(&attempt.call).is_some_and(|open| {
            open.attempt == attempt.attempt && matches!(open.phase, Phase::Running { .. })
        });
    fits.then_some((run, attempt.call))
}

impl Core {
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

    /// Works off what an instance has to do, as far as it can without its code or the store.
    pub(super) fn proceed(&mut self, instance: &InstanceId, entry: &mut Entry) {
        loop {
            if entry.look_at_due && matches!(entry.life, Life::Active(_)) {
                entry.look_at_due = false;
                self.take_due(instance, entry);
            }
            if matches!(entry.code, Code::Out | Code::Loading) {
                break;
            }
            if entry.waits_for_first_turn()
                && !entry.arrivals.front().is_some_and(Arrival::may_precede_first_turn)
            {
                break;
            }
            let outdated = !planted!(AbsenceCached)
                && matches!(entry.life, Life::Absent | Life::Ended(_))
                && entry.covered == 0
                && entry.arrivals.front().is_some_and(Arrival::comes_from_outside);
            if outdated {
                // Clients make starts durable without this owner: that an id is free, or its run over,
                // holds for what had arrived before it was read. Memory is only ahead of the store while
                // a commit is to come, after which this is called again.
                if entry.writes.any() || entry.committing {
                    break;
                }
                entry.life = Life::Unknown;
            }
            let needs_stored_end = match entry.arrivals.front() {
                // A start whose time has not come takes the place of an end that is stored, no other.
                Some(Arrival::Begin { acceptance, .. }) => self.waits(entry, acceptance),
                Some(arrival) => arrival.is_purge() && !planted!(PurgeBeforeEnd),
                None => false,
            };
            if matches!(entry.life, Life::Ended(_))
                && (entry.writes.any() || entry.committing)
                && needs_stored_end
            {
                entry.covered = 0;
                break;
            }
            // What an ended run still lists would be forgotten with its rows, and what is to be repeated is read
            // from the store: they are written first.
            let asked = entry.arrivals.front().is_some_and(Arrival::needs_what_has_ended);
            if asked
                && matches!(entry.life, Life::Ended(_))
                && (entry.writes.any() || entry.committing)
            {
                break;
            }
            let needs_load = match &entry.life {
                Life::Unknown => entry.look_at_due || !entry.arrivals.is_empty(),
                Life::Active(run) => {
                    matches!(entry.code, Code::Away)
                        && run.hold.is_none()
                        && run.unbegun.is_none()
                        && !entry.arrivals.is_empty()
                }
                Life::Absent | Life::Ended(_) | Life::Unreadable(_) => false,
            };
            if needs_load {
                self.request_load(instance, entry);
                break;
            }
            let Some(arrival) = entry.arrivals.pop_front() else {
                entry.look_at_due = false;
                break;
            };
            entry.covered = entry.covered.saturating_sub(1);
            self.apply(instance, entry, arrival);
        }
        self.queue(instance, entry);
        self.sync_wheel(instance, entry);
    }

    fn take_due(&mut self, instance: &InstanceId, entry: &mut Entry) {
        let now = self.now;
        let Some(run) = entry.active() else { return };
        for item in run.take_due(now) {
            match item {
                DueItem::Begin => {
                    let unbegun = entry.active().and_then(|run| run.unbegun.clone());
                    let begin = |acceptance| Arrival::Begin { acceptance, ticket: None };
                    entry.arrivals.extend(unbegun.map(begin));
                }
                DueItem::Timer(call) => entry.arrivals.push_back(Arrival::TimerFired(call)),
                DueItem::Retry(call) => {
                    if let Some(run) = entry.active()
                        && !run.paused()
                    {
                        start_attempt(entry, call);
                    }
                }
                DueItem::Deadline(call) => {
                    let Some(run) = entry.active() else { continue };
                    let Some(open) = run.calls.get(&call) else { continue };
                    let limit = open.options.start_to_finish.unwrap_or_default();
                    let failure = Failure::new(
                        FailureClass::Timeout,
                        "Timeout",
                        format!("an attempt of {:?} took longer than {limit:?}", open.name),
                    );
                    let cancel = Effect::CancelAttempt(run.attempt_key(call, open));
                    entry.writes.effect(cancel);
                    self.attempt_result(instance, entry, call, Err(Box::new(failure)), None);
                }
            }
        }
    }

    /// One arrival, with the code at home or not needed.
    fn apply(&mut self, instance: &InstanceId, entry: &mut Entry, arrival: Arrival) {
        match arrival {
            Arrival::Begin { acceptance, ticket } => {
                let start = ticket.map_or(Start::Stored, Start::Direct);
                self.begin(instance, entry, acceptance, start);
            }
            Arrival::Command { command, run, source } => {
                self.apply_command(instance, entry, command, run, &source);
            }
            Arrival::Message { from, number, body: MessageBody::RewindChild(start) } => {
                self.rewind_child(instance, entry, from, number, start);
            }
            Arrival::Message { from, number, body } => {
                entry.writes.applied.push((from, number));
                entry.writes.touch();
                self.apply_message(instance, entry, body);
            }
            Arrival::TimerFired(call) => {
                let Some(run) = entry.active() else { return };
                if run.hold.is_some() {
                    run.not_fired(call);
                } else if run.timers.contains_key(&call)
                    && !(planted!(SuspendedTimerLost) && run.suspended)
                {
                    self.record_and_turn(instance, entry, EventKind::TimerFired { call });
                }
            }
            Arrival::Settled { call, attempts, result, report } => {
                if let Some(report) = report {
                    entry.writes.consume_unremembered(report);
                }
                self.apply_settled(instance, entry, call, attempts, result);
            }
            Arrival::Stashed(Stashed::Raise { name, input, id }) => {
                entry.writes.in_flight = true;
                self.take_raise(instance, entry, name, input, id);
            }
            Arrival::Stashed(Stashed::Settled { call, attempts, result }) => {
                self.apply_settled(instance, entry, call, attempts, result);
            }
            Arrival::Stashed(Stashed::Child { call, execution, result }) => {
                entry.writes.in_flight = true;
                self.take_child_result(instance, entry, call, execution, result);
            }
            Arrival::Stashed(Stashed::Terminate { reason, tree }) => {
                entry.writes.in_flight = true;
                self.terminate_child(instance, entry, reason, tree);
            }
            Arrival::Reported(reported) => self.apply_reported(instance, entry, *reported),
            Arrival::Dead(dead) => {
                let DeadMessage { id, letter, .. } = *dead;
                entry.writes.consume_unremembered(id);
                let row = match &mut entry.life {
                    Life::Active(run) => &mut run.row,
                    Life::Ended(row) => &mut **row,
                    Life::Unknown | Life::Absent | Life::Unreadable(_) => return,
                };
                row.note_dead_letter(letter);
                row.updated_at = self.now.max(row.updated_at);
                entry.writes.status = true;
                entry.writes.touch();
            }
            Arrival::Fail(failure) => {
                if let Some(run) = entry.active()
                    && run.hold.is_none()
                {
                    self.end_with(instance, entry, Ended::Failed(failure));
                }
            }
        }
    }

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
                entry.writes.forget_run(row.parent.as_ref());
                entry.forget_own_arrivals();
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
        let kind = started_event(*acceptance, suspended || terminated);
        if terminated {
            // No code runs before the terminate is applied; nor does it on a replay.
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
        self.weigh(entry);
    }

    /// Whether such a command for a run waits to be applied.
    pub(super) fn commanded(
        &self,
        entry: &Entry,
        run: RunNumber,
        which: fn(&Command) -> bool,
    ) -> bool {
        entry.arrivals.iter().any(|arrival| {
            matches!(arrival, Arrival::Command { command, run: meant, source }
                if which(command)
                    && meant.is_none_or(|meant| meant == run)
                    && source.remembered().is_none_or(|id| !self.known.holds(id)))
        })
    }

    fn apply_command(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        command: Command,
        meant: Option<RunNumber>,
        source: &Source,
    ) {
        let now = self.now;
        if source.remembered().is_some_and(|id| self.known.holds(id)) {
            self.stats.dropped += 1;
            self.reply(entry, source, Answer::Accepted);
            return;
        }
        if let Command::Purge { .. } = command {
            self.purge(entry, meant, source);
            return;
        }
        let known_run = match &entry.life {
            Life::Active(run) => Some(run.key.run),
            Life::Ended(row) => Some(row.run),
            Life::Unknown | Life::Absent | Life::Unreadable(_) => None,
        };
        if let (Some(meant), Source::Stored { id }) = (meant, source)
            && known_run.is_some_and(|known| known < meant)
            && !planted!(LaterRunForgotten)
        {
            if !entry.early.iter().any(|(early, ..)| early == id) {
                entry.early.push((id.clone(), meant, command));
            }
            return;
        }
        match &mut entry.life {
            Life::Unknown | Life::Absent => {
                self.stats.dropped += 1;
                self.reply(entry, source, Answer::NotFound);
            }
            Life::Unreadable(message) => {
                let answer = Answer::Refused(format!("the instance cannot be read: {message}"));
                self.reply(entry, source, answer);
            }
            Life::Ended(row)
                if matches!(command, Command::Rewind { .. })
                    && meant.is_none_or(|meant| meant == row.run) =>
            {
                let Command::Rewind { execution, reason } = command else { return };
                self.rewind(instance, entry, execution, reason, source);
            }
            Life::Ended(row) => {
                let status = row.status;
                if let (Command::Raise { name, input }, Source::Stored { id }) = (command, source)
                    && meant.is_none_or(|run| run == row.run)
                {
                    self.take_raise(instance, entry, name, input, Some(id.clone()));
                } else {
                    self.stats.dropped += 1;
                }
                self.reply(entry, source, Answer::Finished(status));
            }
            Life::Active(run) => {
                if meant.is_some_and(|meant| meant != run.key.run) {
                    self.stats.dropped += 1;
                    self.reply(entry, source, Answer::NotFound);
                    return;
                }
                let (held, suspended) = (run.hold.is_some(), run.suspended);
                let to_come = run.is_to_come();
                if run.partial && matches!(command, Command::Terminate { .. }) {
                    let answer = Answer::Refused(
                        "its history cannot be read, so no end can be written behind it".into(),
                    );
                    self.reply(entry, source, answer);
                    return;
                }
                match command {
                    Command::Rewind { .. } => {
                        let status = run.row.status;
                        self.stats.dropped += 1;
                        let sentence = format!("it is {status}; only what failed can be rewound");
                        self.reply(entry, source, Answer::Refused(sentence));
                    }
                    Command::Raise { .. } if run.gets_with_its_start(source.id()) => {
                        self.stats.dropped += 1;
                        self.reply(entry, source, Answer::Accepted);
                    }
                    Command::Raise { name, input } => {
                        self.raise(instance, entry, name, input, Some(source.id().clone()), source);
                    }
                    Command::Terminate { .. } if planted!(TerminateForgotten) => {
                        self.reply(entry, source, Answer::Accepted);
                    }
                    Command::Terminate { reason, tree } => {
                        self.reply(entry, source, Answer::Accepted);
                        self.end_with(instance, entry, Ended::Terminated { reason, tree });
                    }
                    Command::Suspend { reason } => {
                        let already = suspended || held;
                        self.reply(entry, source, Answer::Accepted);
                        if !already && to_come {
                            suspend_start(entry, true, now);
                        } else if !already {
                            set_status(entry, RuntimeStatus::Suspended, now);
                            let kind = EventKind::ExecutionSuspended { reason };
                            self.record_and_turn(instance, entry, kind);
                        }
                    }
                    Command::Resume { reason } => {
                        self.reply(entry, source, Answer::Accepted);
                        if held {
                            self.unhold(instance, entry);
                        } else if suspended && to_come {
                            suspend_start(entry, false, now);
                        } else if suspended {
                            set_status(entry, RuntimeStatus::Running, now);
                            self.record_and_turn(
                                instance,
                                entry,
                                EventKind::ExecutionResumed { reason },
                            );
                            restart_backoffs(entry, now);
                        }
                    }
                    // Taken care of above, whatever the life of the instance is.
                    Command::Purge { .. } => {}
                }
            }
        }
    }

    /// Answers a command. One that was taken, or that the store would bring again, is noted.
    pub(super) fn reply(&mut self, entry: &mut Entry, source: &Source, answer: Answer) {
        let taken = answer == Answer::Accepted || matches!(source, Source::Stored { .. });
        if taken && let Some(id) = source.remembered() {
            self.known.note(id, self.now);
            entry.writes.consume(id);
        }
        if let Source::Direct { ticket, .. } = source {
            let effect = Effect::Answer { ticket: *ticket, answer };
            if planted!(AnswerBeforeCommit) {
                self.effects.push(effect);
                return;
            }
            entry.writes.effect(effect);
        }
    }

    fn raise(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        name: Arc<str>,
        input: Payload,
        id: Option<EnvelopeId>,
        source: &Source,
    ) {
        let Some(run) = entry.active() else { return };
        let stashed = run.stash.len();
        let buffered = match &entry.code {
            Code::Home(orchestration) => orchestration.buffered_events() + stashed,
            Code::Away | Code::Loading | Code::Out => stashed,
        };
        // What the store accepted is taken in any case: its sender was told that it is safe.
        if buffered >= limits::BUFFERED_EVENTS_MAX && matches!(source, Source::Direct { .. }) {
            self.reply(entry, source, Answer::Full);
            return;
        }
        self.reply(entry, source, Answer::Accepted);
        self.take_raise(instance, entry, name, input, id);
    }

    fn take_raise(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        name: Arc<str>,
        input: Payload,
        id: Option<EnvelopeId>,
    ) {
        let now = self.now;
        let waits = entry.waits_for_first_turn();
        match &mut entry.life {
            Life::Active(run) if run.hold.is_some() || waits || run.unbegun.is_some() => {
                run.stash.push_back(Stashed::Raise { name, input, id });
                // It may have to take the place of a run that has ended, or of one that was purged.
                entry.writes.status |= entry.stored.status.is_none_or(RuntimeStatus::is_terminal);
                entry.writes.in_flight = true;
                entry.writes.touch();
            }
            Life::Active(_) => {
                self.record_and_turn(instance, entry, EventKind::EventRaised { name, input, id });
            }
            // Accepted while the run was active, or sent by an instance: not lost, but listed.
            Life::Ended(row) => {
                list_unconsumed(row, UnconsumedEvent { name, input, id });
                row.updated_at = now.max(row.updated_at);
                entry.writes.status = true;
                entry.writes.touch();
            }
            Life::Unknown | Life::Absent | Life::Unreadable(_) => {
                self.stats.dropped += 1;
                self.effects.push(Effect::Warn {
                    instance: instance.clone(),
                    message: format!("event {name:?} was sent to an instance that is not there"),
                });
            }
        }
    }

    fn apply_message(&mut self, instance: &InstanceId, entry: &mut Entry, body: MessageBody) {
        match body {
            MessageBody::Raise { name, input, .. } => {
                self.take_raise(instance, entry, name, input, None);
            }
            // A child that has to be rewound is, before its message counts as applied.
            MessageBody::StartChild(acceptance) | MessageBody::RewindChild(acceptance) => {
                self.start_child(instance, entry, acceptance);
            }
            MessageBody::ChildEnded { parent, execution, result } => {
                self.child_ended(instance, entry, &parent, execution, result);
            }
            MessageBody::TerminateChild { parent, reason, tree, .. } => {
                self.terminate_asked(instance, entry, &parent, reason, tree);
            }
        }
    }

    fn apply_settled(
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
    fn apply_reported(&mut self, instance: &InstanceId, entry: &mut Entry, reported: WorkResult) {
        let WorkResult { id, attempt, result } = reported;
        match open_call(entry, &attempt) {
            Some((_, call)) => self.attempt_result(instance, entry, call, result, Some(id)),
            None => {
                self.stats.dropped += 1;
                entry.writes.consume_unremembered(id);
            }
        }
    }

    /// Writes an event into the history and lets the code see it.
    pub(super) fn record_and_turn(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        kind: EventKind,
    ) {
        let now = self.now;
        let Life::Active(run) = &mut entry.life else { return };
        let at = now.max(run.last_at);
        let before = run.next_seq.0;
        let event = entry.writes.record(run, at, kind);
        if before < limits::HISTORY_EVENTS_WARN && run.next_seq.0 >= limits::HISTORY_EVENTS_WARN {
            self.effects.push(Effect::Warn {
                instance: instance.clone(),
                message: format!(
                    "the history has {} events; it fails at {}. Continue as new",
                    limits::HISTORY_EVENTS_WARN,
                    limits::HISTORY_EVENTS_MAX
                ),
            });
        }
        self.give_turn(instance, entry, event);
    }

    /// Whether the time of a start has not come.
    fn waits(&self, entry: &Entry, acceptance: &Acceptance) -> bool {
        acceptance.waits_at(self.now) && !entry.was_due && !planted!(ScheduledStartEarly)
    }

    /// An active run ends because of a start whose time has not come. That start comes again when the end
    /// is stored.
    fn make_way(&mut self, instance: &InstanceId, entry: &mut Entry, acceptance: Box<Acceptance>) {
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
        entry.writes.forget_run(parent.as_ref());
        entry.forget_own_arrivals();
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

    /// Stops running an instance, for a reason that a person can read. Its history is left alone.
    pub(super) fn hold(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        reason: HoldReason,
        message: String,
    ) {
        let now = self.now;
        self.drop_code(entry);
        let Life::Active(run) = &mut entry.life else { return };
        let hold = Hold { reason, message: message.clone() };
        if run.hold.as_ref() == Some(&hold) && run.row.hold.as_ref() == Some(&hold) {
            return;
        }
        run.row.hold = Some(hold.clone());
        run.hold = Some(hold);
        entry.writes.in_flight = true;
        set_status(entry, RuntimeStatus::Suspended, now);
        self.effects.push(Effect::Held { instance: instance.clone(), message });
        self.queue(instance, entry);
        self.sync_wheel(instance, entry);
    }

    /// Tries again to run a held instance.
    fn unhold(&mut self, instance: &InstanceId, entry: &mut Entry) {
        let now = self.now;
        let Life::Active(run) = &mut entry.life else { return };
        run.hold = None;
        run.row.hold = None;
        entry.writes.in_flight = true;
        if let Some(acceptance) = run.unbegun.clone() {
            self.begin(instance, entry, acceptance, Start::Stored);
            return;
        }
        let status = if run.suspended { RuntimeStatus::Suspended } else { RuntimeStatus::Running };
        let stash = std::mem::take(&mut run.stash);
        set_status(entry, status, now);
        for stashed in stash.into_iter().rev() {
            entry.arrivals.push_front(Arrival::Stashed(stashed));
        }
        entry.look_at_due = true;
        restart_backoffs(entry, now);
        self.request_load(instance, entry);
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
        worker_build: None,
        trace: acceptance.trace,
        continues: None,
        taken_back: Vec::new(),
        rewind: None,
    }))
}

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

/// How a run ends from outside its code.
pub(super) enum Ended {
    Terminated {
        reason: Option<Arc<str>>,
        /// No child is spared.
        tree: bool,
    },
    Failed(Box<Failure>),
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
        open.phase = Phase::Running { deadline: None };
        open.offered = false;
    }
    if let Some(start) = run.start_of(call) {
        entry.writes.in_flight = true;
        entry.writes.effect(Effect::StartAttempt(Box::new(start)));
    }
}

/// Backoffs that ended while nothing could begin are looked at again.
fn restart_backoffs(entry: &mut Entry, now: crate::model::Timestamp) {
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

/// Suspends a start whose time has not come, or lets it wait for its time only.
fn suspend_start(entry: &mut Entry, suspended: bool, now: crate::model::Timestamp) {
    let Life::Active(run) = &mut entry.life else { return };
    run.suspended = suspended;
    entry.writes.in_flight = true;
    let status = if suspended { RuntimeStatus::Suspended } else { RuntimeStatus::Pending };
    set_status(entry, status, now);
}

pub(super) fn set_status(entry: &mut Entry, status: RuntimeStatus, now: crate::model::Timestamp) {
    let Life::Active(run) = &mut entry.life else { return };
    run.row.status = status;
    run.row.updated_at = now.max(run.row.updated_at);
    entry.writes.status = true;
    entry.writes.touch();
}

fn list_unconsumed(row: &mut StatusRow, event: UnconsumedEvent) {
    let known = event.id.is_some() && row.unconsumed.iter().any(|listed| listed.id == event.id);
    // What clients sent was accepted one by one. What instances send each other has no other bound.
    if !known && (event.id.is_some() || row.unconsumed.len() < limits::BUFFERED_EVENTS_MAX) {
        row.unconsumed.push(event);
    }
}

pub(super) fn unregistered(name: &str) -> String {
    format!("no orchestrator {name:?} is registered with this worker; register it and start again")
}
