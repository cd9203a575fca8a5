//! What arrives at an instance, and the order in which it is worked off.

use super::attempt::start_attempt;
use super::begin::Start;
use super::effect::Effect;
use super::end::Ended;
use super::entry::{Arrival, Code, Entry, Life};
use super::run::{DueItem, Stashed};
use super::{Core, Partition};
use crate::model::{EventKind, InstanceId, MessageBody, StartAttempt, limits};
use crate::store::DeadMessage;

impl Partition {
    pub(super) fn overloaded(&self) -> bool {
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
}

impl Core {
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
                DueItem::Expired => entry.arrivals.push_back(Arrival::Expired),
                DueItem::Retry(call) => {
                    // Nothing of a run begins before it is taken up: then what ran is begun again.
                    if let Some(run) = entry.active()
                        && run.taken_up
                        && !run.paused()
                    {
                        start_attempt(entry, call);
                    }
                }
                DueItem::Deadline(call) => {
                    self.attempt_is_over(instance, entry, call, StartAttempt::timed_out);
                }
                DueItem::Silence(call) => {
                    self.attempt_is_over(instance, entry, call, StartAttempt::fell_silent);
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
            // Whatever it waits for, and also while it is suspended or held.
            Arrival::Expired => {
                if let Some(run) = entry.active()
                    && let Some(deadline) = run.row.deadline.filter(|_| !run.partial)
                {
                    self.end_with(instance, entry, Ended::Failed(Box::new(deadline.failure())));
                }
            }
        }
    }

    pub(super) fn apply_message(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        body: MessageBody,
    ) {
        match body {
            MessageBody::Raise { name, input, .. } => {
                entry.keep_for_the_next_run(&name, &input, None);
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
}
