//! Children: asked for by a turn of the parent, begun by the owner of their partition, and heard of again when
//! they end. Everything that the two tell each other is a message between partitions.

use std::sync::Arc;

use uuid::Uuid;

use super::begin::{Start, started_event};
use super::effect::Effect;
use super::end::Ended;
use super::entry::set_status;
use super::entry::{Entry, Life};
use super::run::{Child, Run, Stashed};
use super::{Core, Partition, rewind};
use crate::model::{
    Acceptance, CallNumber, ChildCreated, Deadline, EventKind, ExecutionNumber, Failure,
    FailureClass, Hold, InstanceId, MessageBody, ParentClose, ParentLink, Payload, RunNumber,
    RuntimeStatus, StartNonce, StatusRow, Timestamp,
};
use crate::store::Begins;

impl Partition {
    /// An id that was made for a child is in no row: the owner need not look before it begins it. Where somebody
    /// used it all the same, the store refuses the commit, and the next owner looks. A careful owner looks, too,
    /// so that the child is named before it runs.
    pub(super) fn expect_child(&mut self, acceptance: &Acceptance) {
        if made_for(acceptance)
            && !self.core.is_careful()
            && (!self.core.config.looks_first || planted!(MadeIdNotLookedFor))
            && !self.entries.contains_key(&acceptance.instance)
        {
            let mut entry = Entry::unknown();
            entry.life = Life::Absent;
            entry.covered = 1;
            self.entries.insert(acceptance.instance.clone(), entry);
        }
    }
}

impl Core {
    /// A turn asks for a child.
    pub(super) fn ask_for_child(
        &mut self,
        entry: &mut Entry,
        at: Timestamp,
        created: ChildCreated,
    ) {
        let Life::Active(run) = &mut entry.life else { return };
        let call = created.call;
        let asked = EventKind::ChildCreated(Box::new(created.clone()));
        if let Some(noted) = run.succeeded(&asked).cloned() {
            let _ = entry.writes.record(run, at, asked);
            rewind::give(entry, call, noted);
            return;
        }
        let to = created.instance.partition(self.config.partitions);
        let start = Box::new(start_of_child(run, at, &created));
        let body = if run.unsucceeded.contains(&created) && !planted!(ChildNotRewound) {
            MessageBody::RewindChild(start)
        } else {
            MessageBody::StartChild(start)
        };
        if planted!(ChildStartedTwice) {
            entry.writes.outgoing.push((to, body.clone()));
        }
        entry.writes.outgoing.push((to, body));
        let _ = entry.writes.record(run, at, asked);
    }

    /// The message that asks for a child.
    pub(super) fn start_child(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        mut acceptance: Box<Acceptance>,
    ) {
        let refusal = match &entry.life {
            Life::Active(_) if planted!(ChildReplacesActive) => None,
            Life::Active(run) => Some(format!("it is {}", run.row.status)),
            Life::Unreadable(message) => Some(format!("its rows cannot be read: {message}")),
            Life::Unknown | Life::Absent | Life::Ended(_) if entry.start_waits => {
                Some("another start of it was accepted".into())
            }
            Life::Ended(row) => {
                acceptance.run = acceptance.run.max(row.run.next());
                None
            }
            Life::Unknown | Life::Absent => {
                // Nothing is stored of a run that was purged since it was asked for.
                if let Some(purged) = self.head.purged.filter(|_| !planted!(PurgedRunComesBack)) {
                    acceptance.run = acceptance.run.max(purged.next());
                }
                None
            }
        };
        let Some(reason) = refusal else {
            self.begin(instance, entry, acceptance, Start::Asked);
            return;
        };
        let message = format!("the instance id {:?} is in use: {reason}", instance.as_str());
        match &acceptance.parent {
            Some(parent) if !parent.detached => {
                self.refuse_parent(entry, parent, "InstanceInUse", message);
            }
            Some(_) | None => {
                let message = format!("a child was not started: {message}");
                self.effects.push(Effect::Warn { instance: instance.clone(), message });
            }
        }
    }

    /// The run of a child begins, and its first turn has to wait.
    pub(super) fn begin_held(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        mut run: Run,
        acceptance: Acceptance,
        hold: Hold,
    ) {
        run.resumes = true;
        entry.was_due = false;
        run.row.updated_at = self.now.max(run.row.created_at);
        entry.writes.begins = asked_for(&acceptance, entry.stored.status.is_some());
        self.stats.started += 1;
        // The code sees its start when the resume behind it comes; nor does it before on a replay.
        let kind = started_event(acceptance, true);
        let _ = entry.writes.record(&mut run, self.now, kind);
        entry.life = Life::Active(Box::new(run));
        self.hold(instance, entry, hold.reason, hold.message);
    }

    /// The code of a child is there that could not begin before.
    pub(super) fn begin_at_last(&mut self, instance: &InstanceId, entry: &mut Entry) {
        let now = self.now;
        let Life::Active(run) = &mut entry.life else { return };
        if std::mem::take(&mut run.resumes) {
            entry.writes.in_flight = true;
            set_status(entry, RuntimeStatus::Running, now);
            self.record_and_turn(instance, entry, EventKind::ExecutionResumed { reason: None });
        }
    }

    /// Tells a parent that its child cannot do what it asked for: the call ends with this failure.
    pub(super) fn refuse_parent(
        &self,
        entry: &mut Entry,
        parent: &ParentLink,
        error: &str,
        reason: String,
    ) {
        let failure = Failure::new(FailureClass::Cancelled, error, reason);
        let to = parent.instance.partition(self.config.partitions);
        let body = MessageBody::ChildEnded {
            parent: parent.clone(),
            execution: ExecutionNumber(0),
            result: Err(Box::new(failure)),
        };
        entry.writes.outgoing.push((to, body));
        entry.writes.touch();
    }

    /// A run has ended: whoever waits for it is told.
    pub(super) fn tell_parent(
        &mut self,
        entry: &mut Entry,
        row: &StatusRow,
        result: Result<Payload, Box<Failure>>,
    ) {
        if let Some(parent) = row.parent.clone().filter(|parent| !parent.detached)
            && !planted!(ChildEndForgotten)
        {
            let to = parent.instance.partition(self.config.partitions);
            let body = MessageBody::ChildEnded { parent, execution: row.execution, result };
            entry.writes.outgoing.push((to, body));
            entry.writes.touch();
        }
    }

    /// A child says that it has ended.
    pub(super) fn child_ended(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        parent: &ParentLink,
        execution: ExecutionNumber,
        result: Result<Payload, Box<Failure>>,
    ) {
        let (later_run, later_execution) =
            (planted!(ChildAnswersLaterRun), planted!(ChildAnswersLaterExecution));
        let fits = entry.active().is_some_and(|run| {
            run.key == parent.key() || later_run || (later_execution && run.key.run == parent.run)
        });
        if fits {
            self.take_child_result(instance, entry, parent.call, execution, result);
        } else {
            self.stats.dropped += 1;
        }
    }

    pub(super) fn take_child_result(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        call: CallNumber,
        execution: ExecutionNumber,
        result: Result<Payload, Box<Failure>>,
    ) {
        let Some(run) = entry.active() else {
            self.stats.dropped += 1;
            return;
        };
        // Which calls are open is not known of a history that could not be read.
        if !run.partial && !run.children.get(&call).is_some_and(Child::is_awaited) {
            self.stats.dropped += 1;
        } else if run.hold.is_some() {
            run.stash.push_back(Stashed::Child { call, execution, result });
            entry.writes.in_flight = true;
            entry.writes.touch();
        } else {
            let kind = match result {
                Ok(output) => EventKind::ChildCompleted { call, execution, output },
                Err(failure) => EventKind::ChildFailed { call, execution, failure },
            };
            self.record_and_turn(instance, entry, kind);
        }
    }

    /// Nobody waits for a child any more.
    pub(super) fn leave_child(&mut self, entry: &mut Entry, call: CallNumber) {
        let Some(run) = entry.active() else { return };
        if let Some(child) = run.children.get(&call).filter(|child| child.is_awaited()) {
            let reason = format!("{} no longer waits for it", run.key.instance);
            let message = terminate(run, call, child, reason.into(), false);
            self.send_to_child(entry, message);
        }
    }

    /// An execution ends, or has to give way, in front of its terminal event.
    /// `tree` says that no child is spared.
    pub(super) fn leave_children(&mut self, entry: &mut Entry, tree: bool) {
        self.leave_all(entry, "has ended", tree && !planted!(TreeSparesAbandoned));
    }

    /// An execution ends, and the run goes on with the next: its children are not that one's.
    pub(super) fn leave_children_behind(&mut self, entry: &mut Entry) {
        if !planted!(ChildrenKeptOnContinue) {
            self.leave_all(entry, "has continued as new", false);
        }
    }

    fn leave_all(&mut self, entry: &mut Entry, why: &str, tree: bool) {
        let Some(run) = entry.active() else { return };
        if run.children.is_empty() {
            return;
        }
        let reason: Arc<str> = format!("its parent {} {why}", run.key.instance).into();
        let messages: Vec<_> = run
            .children
            .iter()
            .map(|(call, child)| terminate(run, *call, child, reason.clone(), tree))
            .collect();
        for message in messages {
            self.send_to_child(entry, message);
        }
    }

    fn send_to_child(&mut self, entry: &mut Entry, message: Option<MessageBody>) {
        if let Some(body) = message.filter(|_| !planted!(TerminateNotPassedOn)) {
            let to = body.instance().partition(self.config.partitions);
            entry.writes.outgoing.push((to, body));
            entry.writes.touch();
        }
    }

    /// A parent wants its child terminated. A later run of the id is none of its business.
    pub(super) fn terminate_asked(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        parent: &ParentLink,
        reason: Option<Arc<str>>,
        tree: bool,
    ) {
        let fits = entry.active().is_some_and(|run| {
            run.row.parent.as_ref() == Some(parent) || planted!(TerminateReachesLaterRun)
        });
        if fits {
            self.terminate_child(instance, entry, reason, tree);
        } else {
            self.stats.dropped += 1;
        }
    }

    pub(super) fn terminate_child(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        reason: Option<Arc<str>>,
        tree: bool,
    ) {
        match entry.active() {
            Some(run) if run.partial => {
                run.stash.push_back(Stashed::Terminate { reason, tree });
                entry.writes.in_flight = true;
                entry.writes.touch();
            }
            Some(_) => self.end_with(instance, entry, Ended::Terminated { reason, tree }),
            None => self.stats.dropped += 1,
        }
    }
}

/// What a parent says to a child that ends with it.
fn terminate(
    run: &Run,
    call: CallNumber,
    child: &Child,
    reason: Arc<str>,
    tree: bool,
) -> Option<MessageBody> {
    let close =
        if tree || planted!(AbandonedEndsToo) { ParentClose::Terminate } else { child.close };
    match close {
        ParentClose::Terminate => Some(MessageBody::TerminateChild {
            instance: child.instance.clone(),
            parent: run.link(call, child.detached),
            reason: Some(reason),
            tree: tree && !planted!(TreeEndsAtChildren),
        }),
        ParentClose::Abandon => None,
    }
}

/// How a child is asked for.
pub(super) fn start_of_child(run: &Run, at: Timestamp, created: &ChildCreated) -> Acceptance {
    // The number of its message says that it is the same start: no client asks for it again.
    let nonce = StartNonce(Uuid::nil());
    Acceptance {
        deadline: created.time_limit.map(|limit| Deadline::after(at, limit)),
        parent: Some(run.link(created.call, created.detached)),
        ..Acceptance::new(
            created.instance.clone(),
            RunNumber(u64::try_from(at.as_micros()).unwrap_or(1)),
            nonce,
            created.name.clone(),
            created.input.clone(),
            at,
        )
    }
}

/// Whether the id is the one that was made for this child.
fn made_for(acceptance: &Acceptance) -> bool {
    acceptance
        .parent
        .as_ref()
        .is_some_and(|parent| parent.key().child_id(parent.call) == acceptance.instance)
}

/// How the run of a child begins.
pub(super) fn asked_for(acceptance: &Acceptance, stored: bool) -> Begins {
    if made_for(acceptance) && !stored { Begins::Fresh } else { Begins::Asked }
}

/// How the parent hears of a run that has ended.
pub(super) fn result_of(row: &StatusRow) -> Result<Payload, Box<Failure>> {
    match (row.status, &row.failure) {
        (RuntimeStatus::Completed, _) => Ok(row.output.clone().unwrap_or_else(Payload::null)),
        (_, Some(failure)) => Err(Box::new(failure.clone())),
        (_, None) => {
            let reason = row.output.as_ref().and_then(|reason| reason.to::<String>().ok());
            let message = reason.unwrap_or_else(|| "it was terminated".into());
            let failure = Failure::new(FailureClass::Cancelled, "Terminated", message);
            Err(Box::new(failure.permanent()))
        }
    }
}

/// A later start took a child's place.
pub(super) fn replaced() -> Failure {
    let message = "another start of its id took its place";
    Failure::new(FailureClass::Cancelled, "Replaced", message).permanent()
}
