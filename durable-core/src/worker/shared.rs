//! What the threads of a worker, and the clients of its process, have in common.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use durable_machine::model::{InstanceId, PartitionId, WorkerId};
use durable_machine::partition::Ticket;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::WorkerOptions;
use super::executor::Executor;
use super::fleet::Fleet;
use super::mailbox::{Mail, wait_for};
use super::notify::{Notifier, Watcher};
use super::opening::{Opening, Told};
use crate::registry::Functions;
use crate::store::Store;

/// How long leaving may take at least, though the time to stop is over.
const LEAVE_MAX: Duration = Duration::from_secs(1);

/// One worker, from its start to its end.
pub(crate) struct Shared {
    pub(crate) worker: WorkerId,
    pub(crate) store: Arc<dyn Store>,
    pub(super) runtime: Handle,
    pub(super) notifier: Arc<Notifier>,
    pub(super) executor: Arc<Executor>,
    pub(crate) functions: Arc<Functions>,
    pub(super) options: WorkerOptions,
    pub(crate) partitions: u16,
    /// Where other workers may share the hub.
    pub(super) fleet: Option<Fleet>,
    /// The present opening of each partition, or the one that is about to be: mail waits for it. `None`
    /// where the partition is not this worker's.
    openings: Vec<RwLock<Option<Arc<Opening>>>>,
    stop_at: watch::Sender<Option<Instant>>,
    life: Mutex<Life>,
    /// Threads that were given up because a turn did not return.
    pub(super) given_up: AtomicUsize,
    end: watch::Sender<Option<Ended>>,
}

/// What keeps the worker from its end.
#[derive(Debug, Default)]
struct Life {
    /// Threads of partitions, and activities of others, that have not ended.
    serving: usize,
    stopping: bool,
    leaving: bool,
    left: bool,
}

/// How a worker ended.
#[derive(Debug, Clone)]
pub(super) enum Ended {
    AsTold,
    Failed(String),
}

/// What a worker is made of.
pub(super) struct Parts {
    pub(super) worker: WorkerId,
    pub(super) store: Arc<dyn Store>,
    pub(super) runtime: Handle,
    pub(super) executor: Arc<Executor>,
    pub(super) functions: Arc<Functions>,
    pub(super) options: WorkerOptions,
    pub(super) partitions: u16,
    pub(super) fleet: Option<Fleet>,
}

impl Shared {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { worker, store, runtime, executor, functions, options, partitions, fleet } =
            parts;
        Self {
            worker,
            store,
            runtime,
            notifier: Arc::default(),
            executor,
            functions,
            options,
            partitions,
            fleet,
            openings: (0..partitions).map(|_| RwLock::default()).collect(),
            stop_at: watch::channel(None).0,
            life: Mutex::default(),
            given_up: AtomicUsize::new(0),
            end: watch::channel(None).0,
        }
    }

    /// Sends to the loop of a partition; the mail comes back where the partition is not here. Once the loop
    /// has ended the mail is dropped.
    pub(crate) fn send(&self, to: PartitionId, mail: Mail) -> Result<(), Mail> {
        match self.taker(to) {
            Some(opening) => {
                opening.mailbox.send(mail);
                Ok(())
            }
            None => Err(mail),
        }
    }

    pub(crate) fn send_to_instance(&self, instance: &InstanceId, mail: Mail) -> Result<(), Mail> {
        self.send(instance.partition(self.partitions), mail)
    }

    /// Sends something that will be answered. Where it will not, the receiver sees that.
    pub(crate) fn ask(
        &self,
        instance: &InstanceId,
        mail: impl FnOnce(Ticket) -> Mail,
    ) -> oneshot::Receiver<Told> {
        match self.taker(instance.partition(self.partitions)) {
            Some(opening) => opening.ask(mail),
            None => {
                let (reply, answer) = oneshot::channel();
                let _ = reply.send(Err(mail(Ticket::default())));
                answer
            }
        }
    }

    pub(super) fn send_all(&self, mail: impl Fn() -> Mail) {
        for opening in self.present() {
            opening.mailbox.send(mail());
        }
    }

    /// Watches an instance whose changes are made here.
    pub(crate) fn watch(&self, instance: &InstanceId) -> Option<Watcher> {
        let watcher = self.notifier.watch(instance);
        // Asked after the watch began: whoever gives the partition up from now on tells the watcher.
        self.taker(instance.partition(self.partitions)).map(|_| watcher)
    }

    /// Whether mail for an instance is taken here.
    pub(crate) fn takes(&self, instance: &InstanceId) -> bool {
        self.fleet.as_ref().is_none_or(|fleet| fleet.lease.holds())
            && self.taker(instance.partition(self.partitions)).is_some()
    }

    /// Whether other workers may own what this one does not.
    pub(crate) fn shares_the_hub(&self) -> bool {
        self.fleet.is_some()
    }

    /// The opening that takes mail.
    pub(super) fn taker(&self, partition: PartitionId) -> Option<Arc<Opening>> {
        self.opening(partition).filter(|opening| !opening.is_leaving())
    }

    pub(super) fn opening(&self, partition: PartitionId) -> Option<Arc<Opening>> {
        let slot = self.openings.get(usize::from(partition.0))?;
        slot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The openings of all partitions that are this worker's.
    pub(super) fn present(&self) -> impl Iterator<Item = Arc<Opening>> {
        (0..self.partitions).filter_map(|partition| self.opening(PartitionId(partition)))
    }

    /// The first opening of a partition that is not this worker's yet. Mail for it may come before it is
    /// ready.
    pub(super) fn occupy(&self, partition: PartitionId) -> Option<Arc<Opening>> {
        let slot = self.openings.get(usize::from(partition.0))?;
        let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() {
            return None;
        }
        let opening = Arc::new(Opening::new(partition));
        *slot = Some(opening.clone());
        Some(opening)
    }

    /// The opening that follows this one; `None` where another thread has put something in its place.
    pub(super) fn follow(&self, opening: &Arc<Opening>) -> Option<Arc<Opening>> {
        let next = Arc::new(Opening::new(opening.partition));
        self.replace(opening, Some(next.clone())).then_some(next)
    }

    /// The partition is no longer this worker's. `false` where another thread has put something in its place.
    pub(super) fn vacate(&self, opening: &Arc<Opening>) -> bool {
        let vacated = self.replace(opening, None);
        if vacated {
            self.doubt(opening.partition);
            if let Some(fleet) = &self.fleet {
                fleet.changed();
            }
        }
        vacated
    }

    fn replace(&self, opening: &Arc<Opening>, by: Option<Arc<Opening>>) -> bool {
        let Some(slot) = self.openings.get(usize::from(opening.partition.0)) else { return false };
        let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
        let present = slot.as_ref().is_some_and(|present| Arc::ptr_eq(present, opening));
        if present {
            *slot = by;
        }
        present
    }

    /// Changes of a partition's instances may have been made that nobody published here.
    pub(super) fn doubt(&self, partition: PartitionId) {
        self.notifier.doubt(|instance| instance.partition(self.partitions) == partition);
    }

    /// Asks every loop to finish until then. The earliest wish counts.
    pub(super) fn stop(self: &Arc<Self>, at: Instant) {
        self.stop_at.send_modify(|stop_at| {
            *stop_at = Some(stop_at.map_or(at, |earlier| earlier.min(at)));
        });
        self.executor.stop();
        self.send_all(|| Mail::Stop(at));
        if let Some(fleet) = &self.fleet {
            fleet.stops();
        }
        self.end_if(|life| life.stopping = true);
    }

    pub(super) fn stop_at(&self) -> Option<Instant> {
        *self.stop_at.borrow()
    }

    /// Tells when it is asked to stop.
    pub(super) fn stopping(&self) -> watch::Receiver<Option<Instant>> {
        self.stop_at.subscribe()
    }

    /// Ends the worker because of something that no retry helps.
    pub(super) fn fail(self: &Arc<Self>, why: String) {
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

    /// Something begins for whose end the worker waits. `false` where it stops: nothing shall begin.
    pub(super) fn serving_begins(&self) -> bool {
        let mut life = self.life();
        if !life.stopping {
            life.serving += 1;
        }
        !life.stopping
    }

    /// What had begun has ended. The last end of a stopping worker leaves the hub.
    pub(super) fn serving_ended(self: &Arc<Self>) {
        self.end_if(|life| life.serving -= 1);
    }

    fn end_if(self: &Arc<Self>, changed: impl FnOnce(&mut Life)) {
        {
            let mut life = self.life();
            changed(&mut life);
            if life.leaving || !life.stopping || life.serving > 0 {
                return;
            }
            life.leaving = true;
        }
        if Handle::try_current().is_err() {
            self.leave();
            return;
        }
        // Within the runtime nothing may wait.
        let shared = self.clone();
        let thread = std::thread::Builder::new().name("durable-leave".into());
        if let Err(error) = thread.spawn(move || shared.leave()) {
            tracing::warn!(%error, "the worker could not leave the hub in good order");
            self.has_left();
        }
    }

    fn leave(&self) {
        let leave = async {
            match &self.fleet {
                Some(fleet) => fleet.leave(self).await,
                None => self.store.leave(self.worker).await,
            }
        };
        let at_least = Instant::now() + LEAVE_MAX;
        let end = self.stop_at().map_or(at_least, |at| at.max(at_least));
        match wait_for(&self.runtime, leave, end) {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "the worker could not leave the hub in good order");
            }
            None => tracing::warn!("the worker could not leave the hub: storage did not answer"),
        }
        self.has_left();
    }

    fn has_left(&self) {
        self.life().left = true;
        self.end.send_if_modified(|end| {
            end.get_or_insert(Ended::AsTold);
            true
        });
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it takes work: it neither stops nor has ended.
    pub(crate) fn is_serving(&self) -> bool {
        self.stop_at().is_none()
    }

    /// Whether each partition that is this worker's is served; every one, where it has the hub for itself.
    #[cfg(feature = "http")]
    pub(crate) fn serves_all(&self) -> bool {
        let present: Vec<_> = self.present().collect();
        let all_here = self.fleet.is_some() || present.len() == usize::from(self.partitions);
        all_here && present.iter().all(|opening| opening.is_served() || opening.is_leaving())
    }

    /// Whether every loop has ended, and the worker has left.
    pub(super) fn all_ended(&self) -> bool {
        self.life().left
    }

    pub(super) fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.end.subscribe()
    }
}
