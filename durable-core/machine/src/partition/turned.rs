//! What a polled turn asked for becomes part of the history, and of what the engine has to do.

use super::attempt::running_attempts;
use super::call::Phase;
use super::effect::Effect;
use super::entry::{Code, Entry, Life};
use super::turn::{Outcome, Turned};
use super::{Core, Partition};
use crate::model::{
    CallNumber, EventKind, Failure, HoldReason, InstanceId, MessageBody, RuntimeStatus, Timestamp,
    UnconsumedEvent, limits,
};
use crate::replay::Action;

impl Partition {
    /// Takes back a turn that was polled.
    pub fn turned(&mut self, turned: Turned) {
        let instance = turned.instance.clone();
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        if !matches!(entry.code, Code::Out) {
            return;
        }
        match turned.outcome {
            Outcome::Advanced(actions) => {
                entry.code = Code::Home(turned.orchestration);
                self.core.act(&instance, entry, actions);
                self.core.weigh(entry);
            }
            Outcome::Begun(actions) => {
                entry.code = Code::Home(turned.orchestration);
                self.core.rebuilt(&instance, entry);
                self.core.load_ended();
                self.core.act(&instance, entry, actions);
                self.core.weigh(entry);
            }
            Outcome::Replayed(Ok(report)) => {
                entry.code = Code::Home(turned.orchestration);
                if report.input_differences > 0 {
                    self.core.effects.push(Effect::Warn {
                        instance: instance.clone(),
                        message: format!(
                            "{} calls have another input than when they were recorded; the recorded \
                             one stands",
                            report.input_differences
                        ),
                    });
                }
                self.core.rebuilt(&instance, entry);
                self.core.weigh(entry);
                self.core.load_ended();
            }
            Outcome::Replayed(Err((divergence, mut unseen))) => {
                entry.code = Code::Away;
                if let Life::Active(run) = &mut entry.life {
                    run.unconsumed = turned.orchestration.unconsumed();
                    run.unconsumed.append(&mut unseen);
                }
                let message = divergence.to_string();
                self.core.hold(&instance, entry, HoldReason::Diverged, message);
                self.core.load_ended();
            }
            Outcome::Rewound(Ok((rewound, logged))) => {
                self.core.rewound(&instance, entry, turned.orchestration, rewound, logged);
                self.core.load_ended();
            }
            Outcome::Rewound(Err(divergence)) => {
                entry.code = Code::Away;
                let reason = format!("the code no longer fits what it did: {divergence}");
                self.core.not_rewound(&instance, entry, reason);
                self.core.load_ended();
            }
        }
        self.core.proceed(&instance, entry);
        self.settle_entry(&instance);
    }
}

impl Core {
    fn act(&mut self, instance: &InstanceId, entry: &mut Entry, actions: Vec<Action>) {
        self.act_at(instance, entry, actions, self.now);
    }

    /// At the time of the turn, unless the history is ahead of it.
    pub(super) fn act_at(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        actions: Vec<Action>,
        time: Timestamp,
    ) {
        for action in actions {
            let Life::Active(run) = &mut entry.life else { return };
            let at = time.max(run.last_at);
            match action {
                Action::SetCustomStatus(_) if planted!(CustomStatusForgotten) => {}
                Action::SetCustomStatus(status) => {
                    run.row.custom_status = Some(status);
                    run.row.updated_at = at;
                    entry.writes.status = true;
                    entry.writes.touch();
                }
                Action::Complete(output) => {
                    let cancelled = running_attempts(run);
                    self.leave_children(entry, false);
                    let Life::Active(run) = &mut entry.life else { return };
                    let kind = EventKind::ExecutionCompleted { output: output.clone() };
                    let _ = entry.writes.record(run, at, kind);
                    let status = RuntimeStatus::Completed;
                    let unconsumed = unconsumed(entry);
                    self.finish(instance, entry, status, Some(output), None, unconsumed, cancelled);
                    return;
                }
                Action::Fail(failure) => {
                    self.fail(instance, entry, failure);
                    return;
                }
                Action::ContinueAsNew(input) => {
                    self.continue_as_new(instance, entry, input);
                    return;
                }
                Action::Cancel { call } => {
                    if let Some(open) = run.calls.get(&call)
                        && matches!(open.phase, Phase::Running { .. })
                    {
                        let attempt = run.attempt_key(call, open);
                        entry.writes.effect(Effect::CancelAttempt(attempt));
                    }
                    entry.writes.in_flight |= run.calls.contains_key(&call);
                    self.leave_child(entry, call);
                    let Life::Active(run) = &mut entry.life else { return };
                    let _ = entry.writes.record(run, at, EventKind::CallCancelled { call });
                }
                Action::RequestCancel { call } => {
                    let _ = entry.writes.record(run, at, EventKind::CancelRequested { call });
                    self.end_call(entry, call);
                }
                Action::ScheduleActivity { call, .. } => {
                    let Some(kind) = action.into_event() else { continue };
                    let noted = run.succeeded(&kind).cloned();
                    let _ = entry.writes.record(run, at, kind);
                    match noted {
                        Some(noted) => super::rewind::give(entry, call, noted),
                        None => self.start_scheduled(entry, call),
                    }
                }
                Action::StartChild(created) => self.ask_for_child(entry, at, *created),
                Action::SendEvent { ref instance, ref name, ref input, .. } => {
                    let to = instance.partition(self.config.partitions);
                    let body = MessageBody::Raise {
                        instance: instance.clone(),
                        name: name.clone(),
                        input: input.clone(),
                    };
                    if !planted!(SentEventForgotten) {
                        entry.writes.outgoing.push((to, body));
                    }
                    let Some(kind) = action.into_event() else { continue };
                    let _ = entry.writes.record(run, at, kind);
                }
                Action::CreateTimer { .. } | Action::Patched { .. } => {
                    let Some(kind) = action.into_event() else { continue };
                    let _ = entry.writes.record(run, at, kind);
                }
            }
        }
        let Life::Active(run) = &entry.life else { return };
        if run.next_seq.0 >= limits::HISTORY_EVENTS_MAX {
            let failure = Failure::limit(format!(
                "the history has {} events, which is the limit for one execution; continue as new \
                 from time to time",
                run.next_seq
            ));
            self.fail(instance, entry, Box::new(failure));
        } else if run.next_due().is_some_and(|due| due <= self.now) {
            // A timer of zero length, or one set into the past.
            entry.look_at_due = true;
        }
    }

    pub(super) fn start_scheduled(&mut self, entry: &mut Entry, call: CallNumber) {
        let Life::Active(run) = &entry.life else { return };
        entry.writes.in_flight = true;
        if let Some(start) = run.start_of(call) {
            entry.writes.effect(Effect::StartAttempt(Box::new(start)));
        }
    }

    fn fail(&mut self, instance: &InstanceId, entry: &mut Entry, failure: Box<Failure>) {
        self.leave_children(entry, false);
        let Life::Active(run) = &mut entry.life else { return };
        let cancelled = running_attempts(run);
        let at = self.now.max(run.last_at);
        let kind = EventKind::ExecutionFailed { failure: failure.clone() };
        let _ = entry.writes.record(run, at, kind);
        let status = RuntimeStatus::Failed;
        let unconsumed = unconsumed(entry);
        self.finish(instance, entry, status, None, Some(*failure), unconsumed, cancelled);
    }
}

/// Events that code at home was given and did not consume.
pub(super) fn unconsumed(entry: &Entry) -> Vec<UnconsumedEvent> {
    match &entry.code {
        Code::Home(orchestration) => orchestration.unconsumed(),
        Code::Away | Code::Loading | Code::Out => Vec::new(),
    }
}
