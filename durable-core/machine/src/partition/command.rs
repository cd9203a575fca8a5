//! What clients ask of an instance, and events for it.

use std::sync::Arc;

use super::attempt::restart_backoffs;
use super::effect::{Answer, Effect, Ticket};
use super::end::{Ended, list_unconsumed};
use super::entry::{Arrival, Code, Entry, Life, Source, set_status};
use super::run::Stashed;
use super::{Core, Partition};
use crate::model::{
    Command, Envelope, EnvelopeId, EventKind, InstanceId, Payload, RunNumber, RuntimeStatus,
    Timestamp, UnconsumedEvent, limits,
};

impl Partition {
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
}

impl Core {
    pub(super) fn apply_command(
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
                        self.raise(instance, entry, name, input, meant, source);
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
        meant: Option<RunNumber>,
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
        let id = Some(source.id().clone());
        if meant.is_none() {
            entry.keep_for_the_next_run(&name, &input, id.as_ref());
        }
        self.take_raise(instance, entry, name, input, id);
    }

    pub(super) fn take_raise(
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
}

/// Suspends a start whose time has not come, or lets it wait for its time only.
fn suspend_start(entry: &mut Entry, suspended: bool, now: Timestamp) {
    let Life::Active(run) = &mut entry.life else { return };
    run.suspended = suspended;
    entry.writes.in_flight = true;
    let status = if suspended { RuntimeStatus::Suspended } else { RuntimeStatus::Pending };
    set_status(entry, status, now);
}
