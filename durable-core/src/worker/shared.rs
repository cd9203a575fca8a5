//! What the threads of a worker, and the clients of its process, have in common.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use durable_machine::model::{ExecutionKey, InstanceId, PartitionId, WorkerId};
use durable_machine::partition::{Answer, Input, Registry as Code, Ticket};
use durable_machine::replay::{ForeignWake, OrchestratorFn};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::WorkerOptions;
use super::executor::Executor;
use super::mailbox::{Mail, Mailbox};
use super::notify::Notifier;
use crate::registry::Functions;
use crate::store::Store;

/// One worker, from its start to its end.
pub(crate) struct Shared {
    pub(crate) worker: WorkerId,
    pub(crate) store: Arc<dyn Store>,
    pub(super) runtime: Handle,
    pub(crate) notifier: Arc<Notifier>,
    pub(super) executor: Arc<Executor>,
    pub(crate) functions: Arc<Functions>,
    pub(super) options: WorkerOptions,
    pub(crate) partitions: u16,
    /// The present opening of each partition, or the one that is about to be: mail waits for it.
    openings: Vec<RwLock<Arc<Opening>>>,
    stop_at: Mutex<Option<Instant>>,
    /// Partitions whose threads have not ended.
    serving: AtomicUsize,
    /// Threads that were given up because a turn did not return.
    pub(super) given_up: AtomicUsize,
    end: watch::Sender<Option<Ended>>,
}

/// How a worker ended.
#[derive(Debug, Clone)]
pub(super) enum Ended {
    AsTold,
    Failed(String),
}

/// One opening of a partition: its loop, seen from other threads.
pub(crate) struct Opening {
    pub(super) partition: PartitionId,
    /// The partition as a metric label.
    pub(super) label: Arc<str>,
    pub(crate) mailbox: Arc<Mailbox>,
    given_up: AtomicBool,
    /// Odd while a turn is polled; raised at its begin and its end.
    turn: AtomicU64,
    /// The instance of the present turn.
    polled: Mutex<Option<InstanceId>>,
    progressed: AtomicBool,
    /// Callers who wait for an answer; `None` once no answer will come.
    callers: Mutex<Option<Callers>>,
}

/// Not the loop's own: a loop that hangs in a turn must not keep those who wait.
#[derive(Default)]
struct Callers {
    waiting: HashMap<Ticket, oneshot::Sender<Answer>>,
    last: Ticket,
}

impl Shared {
    #[allow(clippy::too_many_arguments, reason = "called once, where a worker is put together")]
    pub(super) fn new(
        worker: WorkerId,
        store: Arc<dyn Store>,
        runtime: Handle,
        executor: Arc<Executor>,
        functions: Arc<Functions>,
        options: WorkerOptions,
        partitions: u16,
    ) -> Self {
        Self {
            worker,
            store,
            runtime,
            notifier: Arc::default(),
            executor,
            functions,
            options,
            partitions,
            openings: (0..partitions)
                .map(|partition| RwLock::new(Arc::new(Opening::new(PartitionId(partition)))))
                .collect(),
            stop_at: Mutex::new(None),
            serving: AtomicUsize::new(usize::from(partitions)),
            given_up: AtomicUsize::new(0),
            end: watch::channel(None).0,
        }
    }

    /// Sends to the loop of a partition. Once it has ended the mail is dropped, and whoever waits sees that.
    pub(crate) fn send(&self, to: PartitionId, mail: Mail) {
        if let Some(opening) = self.opening(to) {
            opening.mailbox.send(mail);
        }
    }

    pub(crate) fn send_to_instance(&self, instance: &InstanceId, mail: Mail) {
        self.send(instance.partition(self.partitions), mail);
    }

    /// Sends something that will be answered. Where it will not, the receiver sees that.
    pub(crate) fn ask(
        &self,
        instance: &InstanceId,
        mail: impl FnOnce(Ticket) -> Mail,
    ) -> oneshot::Receiver<Answer> {
        match self.opening(instance.partition(self.partitions)) {
            Some(opening) => opening.ask(mail),
            None => oneshot::channel().1,
        }
    }

    pub(super) fn send_all(&self, mail: impl Fn() -> Mail) {
        for partition in 0..self.partitions {
            self.send(PartitionId(partition), mail());
        }
    }

    pub(super) fn opening(&self, partition: PartitionId) -> Option<Arc<Opening>> {
        let slot = self.openings.get(usize::from(partition.0))?;
        Some(slot.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The opening that follows one that has ended. Mail for it may come before it is ready.
    pub(super) fn next_opening(&self, partition: PartitionId) -> Arc<Opening> {
        let next = Arc::new(Opening::new(partition));
        if let Some(slot) = self.openings.get(usize::from(partition.0)) {
            *slot.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        }
        next
    }

    /// Asks every loop to finish until then. The earliest wish counts.
    pub(super) fn stop(&self, at: Instant) {
        {
            let mut stop_at = self.stop_at.lock().unwrap_or_else(PoisonError::into_inner);
            *stop_at = Some(stop_at.map_or(at, |earlier| earlier.min(at)));
        }
        self.executor.stop();
        self.send_all(|| Mail::Stop(at));
    }

    pub(super) fn stop_at(&self) -> Option<Instant> {
        *self.stop_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the worker because of something that no retry helps.
    pub(super) fn fail(&self, why: String) {
        tracing::error!(why, "the worker ends");
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(Ended::Failed(why));
            }
            first
        });
        self.stop(Instant::now());
    }

    /// A partition is no longer served. The last one leaves the hub.
    pub(super) fn serving_ended(&self) {
        if self.serving.fetch_sub(1, Ordering::AcqRel) == 1 {
            if let Err(error) = self.runtime.block_on(self.store.leave(self.worker)) {
                tracing::warn!(%error, "the worker could not leave the hub in good order");
            }
            self.end.send_if_modified(|end| {
                end.get_or_insert(Ended::AsTold);
                true
            });
        }
    }

    /// Whether it takes work: it neither stops nor has ended.
    pub(crate) fn is_serving(&self) -> bool {
        self.stop_at().is_none()
    }

    /// Whether every loop has ended.
    pub(super) fn all_ended(&self) -> bool {
        self.serving.load(Ordering::Acquire) == 0
    }

    pub(super) fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.end.subscribe()
    }
}

impl Opening {
    pub(super) fn new(partition: PartitionId) -> Self {
        Self {
            partition,
            label: partition.to_string().into(),
            mailbox: Arc::new(Mailbox::new()),
            given_up: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            polled: Mutex::new(None),
            progressed: AtomicBool::new(false),
            callers: Mutex::new(Some(Callers::default())),
        }
    }

    /// Sends something that will be answered. Where it will not, the receiver sees that.
    fn ask(&self, mail: impl FnOnce(Ticket) -> Mail) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let ticket = self.callers().as_mut().map(|callers| {
            callers.last = Ticket(callers.last.0 + 1);
            callers.waiting.insert(callers.last, reply);
            callers.last
        });
        if let Some(ticket) = ticket {
            self.mailbox.send(mail(ticket));
        }
        answer
    }

    pub(super) fn answer(&self, ticket: Ticket, answer: Answer) {
        if let Some(reply) = self.caller(ticket) {
            // Nobody may be waiting any more.
            let _ = reply.send(answer);
        }
    }

    /// Lets a caller see that no answer will come.
    pub(super) fn no_answer(&self, ticket: Ticket) {
        drop(self.caller(ticket));
    }

    fn caller(&self, ticket: Ticket) -> Option<oneshot::Sender<Answer>> {
        self.callers().as_mut()?.waiting.remove(&ticket)
    }

    /// Nothing is taken any more, and whoever waits for an answer sees that none will come.
    pub(super) fn close(&self) {
        self.mailbox.close();
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

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
        self.close();
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
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
