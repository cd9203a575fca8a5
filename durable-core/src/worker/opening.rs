//! One opening of a partition: its loop, as other threads see it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use durable_machine::model::{ExecutionKey, InstanceId, PartitionId};
use durable_machine::partition::{Answer, Input, Needs, Registry as Code, Ticket};
use durable_machine::replay::{ForeignWake, OrchestratorFn};
use tokio::sync::oneshot;

use super::mailbox::{Mail, Mailbox};
use crate::registry::Functions;

/// What becomes of mail that wants an answer: the answer, or the mail itself where no loop took it. One that
/// was taken and gets no answer has an unknown outcome: then the receiver is closed.
pub(crate) type Told = Result<Answer, Mail>;

/// From the moment that a partition is to be opened to the end of its loop.
pub(crate) struct Opening {
    pub(super) partition: PartitionId,
    /// The partition as a metric label.
    pub(super) label: Arc<str>,
    pub(crate) mailbox: Arc<Mailbox>,
    /// The store has opened it.
    served: AtomicBool,
    /// It is to be given back, to be served elsewhere.
    leaving: AtomicBool,
    given_up: AtomicBool,
    /// Odd while a turn is polled; raised at its begin and its end.
    turn: AtomicU64,
    /// The instance of the present turn.
    polled: Mutex<Option<InstanceId>>,
    progressed: AtomicBool,
    /// Which orchestrators its instances were seen to need.
    needs: Mutex<Needs>,
    passes: Passes,
    /// Callers who wait for an answer; `None` once no answer will come.
    callers: Mutex<Option<Callers>>,
}

/// Whether the loop comes round.
#[derive(Default)]
struct Passes {
    asked: AtomicU64,
    shown: AtomicU64,
}

/// Not the loop's own: a loop that hangs in a turn must not keep those who wait.
#[derive(Default)]
struct Callers {
    waiting: HashMap<Ticket, oneshot::Sender<Told>>,
    last: Ticket,
}

impl Opening {
    pub(super) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            label: partition.to_string().into(),
            mailbox: Arc::new(Mailbox::new()),
            served: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            polled: Mutex::new(None),
            progressed: AtomicBool::new(false),
            needs: Mutex::default(),
            passes: Passes::default(),
            callers: Mutex::new(Some(Callers::default())),
        }
    }

    /// Sends something that will be answered. Where it will not, the receiver sees that.
    pub(super) fn ask(&self, mail: impl FnOnce(Ticket) -> Mail) -> oneshot::Receiver<Told> {
        let (reply, answer) = oneshot::channel();
        let ticket = {
            let mut callers = self.callers();
            let Some(callers) = callers.as_mut() else {
                let _ = reply.send(Err(mail(Ticket::default())));
                return answer;
            };
            callers.last = Ticket(callers.last.0 + 1);
            callers.waiting.insert(callers.last, reply);
            callers.last
        };
        if let Err(mail) = self.mailbox.try_send(mail(ticket)) {
            self.not_taken(mail);
        }
        answer
    }

    pub(super) fn answer(&self, ticket: Ticket, answer: Answer) {
        if let Some(reply) = self.caller(ticket) {
            // Nobody may be waiting any more.
            let _ = reply.send(Ok(answer));
        }
    }

    /// Gives mail back to its sender: nothing of it was done.
    pub(super) fn not_taken(&self, mail: Mail) {
        if let Some(reply) = mail.ticket().and_then(|ticket| self.caller(ticket)) {
            let _ = reply.send(Err(mail));
        }
    }

    fn caller(&self, ticket: Ticket) -> Option<oneshot::Sender<Told>> {
        self.callers().as_mut()?.waiting.remove(&ticket)
    }

    /// Nothing is taken any more. Whoever waits gets back what was not taken, and otherwise sees that no
    /// answer will come.
    pub(super) fn close(&self) {
        for mail in self.mailbox.close() {
            self.not_taken(mail);
        }
        *self.callers() = None;
    }

    fn callers(&self) -> MutexGuard<'_, Option<Callers>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn turn_begins(&self, instance: &InstanceId) {
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner) = Some(instance.clone());
        self.turn.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn turn_ends(&self) {
        self.turn.fetch_add(1, Ordering::AcqRel);
    }

    /// Number and instance of the turn that is polled right now.
    pub(super) fn polled_turn(&self) -> Option<(u64, InstanceId)> {
        let turn = self.turn.load(Ordering::Acquire);
        let polled = self.polled.lock().unwrap_or_else(PoisonError::into_inner).clone();
        polled.filter(|_| turn % 2 == 1).map(|instance| (turn, instance))
    }

    /// Begins and ends of turns so far.
    pub(super) fn turns(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// Its loop is to show that it comes round.
    pub(super) fn ask_for_pass(&self) {
        self.passes.asked.fetch_add(1, Ordering::AcqRel);
        self.mailbox.wake();
    }

    /// The loop comes round.
    pub(super) fn pass(&self) {
        self.passes.shown.store(self.passes.asked.load(Ordering::Acquire), Ordering::Release);
    }

    /// Whether the loop came round since it was last asked to.
    pub(super) fn has_passed(&self) -> bool {
        self.passes.shown.load(Ordering::Acquire) == self.passes.asked.load(Ordering::Acquire)
    }

    pub(super) fn serve(&self) {
        self.served.store(true, Ordering::Release);
    }

    pub(super) fn is_served(&self) -> bool {
        self.served.load(Ordering::Acquire)
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Its thread is no longer counted on; it ends when it next comes round.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.close();
        self.mailbox.wake();
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Says which orchestrators its instances were seen to need.
    pub(super) fn say_needs(&self, needs: &Needs) {
        needs.clone_into(&mut self.needs.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn needs(&self) -> Needs {
        self.needs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A commit went through.
    pub(super) fn progressed(&self) {
        self.progressed.store(true, Ordering::Release);
    }

    pub(super) fn has_progressed(&self) -> bool {
        self.progressed.load(Ordering::Acquire)
    }
}

/// The worker's orchestrators, as one opening of a partition sees them.
pub(super) struct OpeningCode {
    pub(super) functions: Arc<Functions>,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Code for OpeningCode {
    fn orchestrator(&self, name: &str) -> Option<OrchestratorFn> {
        self.functions.orchestrators.get(name).cloned()
    }

    fn foreign_wake(&self, key: &ExecutionKey) -> Option<ForeignWake> {
        let (mailbox, key) = (self.mailbox.clone(), key.clone());
        Some(Arc::new(move || mailbox.send(Mail::Input(Input::WokenFromOutside(key.clone())))))
    }
}
