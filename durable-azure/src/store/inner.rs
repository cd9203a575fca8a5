//! What all parts of a store share.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use durable_core::machine::model::{
    Fence, InstanceId, PartitionId, RunNumber, Timestamp, WorkerId,
};
use durable_core::store::{HubInfo, StoreError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use uuid::Uuid;

use super::fleet::Membership;
use super::inbox::SCAN_EVERY;
use super::opened::Opened;
use super::work::TakenMessages;
use super::{AzureOptions, keys};
use crate::service::{Container, Queue, Service, Table};

/// The last bits of a sequence number tell processes apart.
pub(super) const SEQUENCE_BITS: u32 = 12;

/// A hub as one process sees it.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) hub: HubInfo,
    pub(super) options: AzureOptions,
    pub(super) service: Service,
    pub(super) table: Table,
    pub(super) dead: Table,
    pub(super) container: Container,
    /// One for each partition.
    pub(super) queues: Vec<Queue>,
    pub(super) work: Queue,
    pub(super) runtime: Handle,
    pub(super) membership: tokio::sync::Mutex<Membership>,
    /// What this process is made of, in the order of locking: no two are held at once.
    state: State,
}

#[derive(Debug)]
struct State {
    opened: Mutex<BTreeMap<PartitionId, Arc<Opened>>>,
    taken: Mutex<TakenMessages>,
    worker: Mutex<Option<WorkerId>>,
    beat: Mutex<Option<Instant>>,
    gone: Mutex<Gone>,
    changed: watch::Sender<u64>,
}

/// Runs of which this process has removed the last row, the newest ones: they never come back.
#[derive(Debug, Default)]
struct Gone {
    runs: HashSet<(InstanceId, RunNumber)>,
    oldest: VecDeque<(InstanceId, RunNumber)>,
}

const GONE_MAX: usize = 16_384;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(super) fn new(
        hub: HubInfo,
        options: AzureOptions,
        service: Service,
        parts: super::hub::Parts,
    ) -> Self {
        let super::hub::Parts { table, dead, container, queues, work } = parts;
        Self {
            hub,
            options,
            service,
            table,
            dead,
            container,
            queues,
            work,
            runtime: Handle::current(),
            membership: tokio::sync::Mutex::default(),
            state: State {
                opened: Mutex::default(),
                taken: Mutex::default(),
                worker: Mutex::default(),
                beat: Mutex::default(),
                gone: Mutex::default(),
                changed: watch::Sender::new(0),
            },
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.service.clock().now()
    }

    /// A number by which instances are listed: later starts have higher ones, and within this process each is
    /// given once.
    pub(super) fn sequence(&self) -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        static TAG: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
        let tag = TAG.get_or_init(|| Uuid::new_v4().as_u64_pair().0 % (1 << SEQUENCE_BITS));
        let now = u64::try_from(self.now().as_micros()).unwrap_or_default();
        let wish = (now << SEQUENCE_BITS) | tag;
        let next = |last: u64| wish.max(last + 1);
        match LAST.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last))) {
            Ok(last) | Err(last) => next(last),
        }
    }

    pub(super) fn opened(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Arc<Opened>>> {
        lock(&self.state.opened)
    }

    pub(super) fn taken(&self) -> MutexGuard<'_, TakenMessages> {
        lock(&self.state.taken)
    }

    pub(super) fn worker(&self) -> Option<WorkerId> {
        *lock(&self.state.worker)
    }

    pub(super) fn set_worker(&self, worker: WorkerId) {
        *lock(&self.state.worker) = Some(worker);
    }

    /// The worker of this process has just said that it lives.
    pub(super) fn beat(&self, at: Instant) {
        *lock(&self.state.beat) = Some(at);
    }

    /// It has left.
    pub(super) fn no_beat(&self) {
        *lock(&self.state.beat) = None;
    }

    /// Others may soon take this worker for dead. False where it does not beat at all.
    pub(super) fn may_be_dead(&self) -> bool {
        lock(&self.state.beat).is_some_and(|at| at.elapsed() > self.options.lease * 2 / 3)
    }

    pub(super) fn note_gone(&self, instance: InstanceId, run: RunNumber) {
        let mut gone = lock(&self.state.gone);
        if gone.runs.insert((instance.clone(), run)) {
            gone.oldest.push_back((instance, run));
        }
        if gone.oldest.len() > GONE_MAX
            && let Some(oldest) = gone.oldest.pop_front()
        {
            gone.runs.remove(&oldest);
        }
    }

    /// Whether this process knows that nothing of a run is left. Where it does not, a look tells.
    pub(super) fn is_gone(&self, instance: &InstanceId, run: RunNumber) -> bool {
        lock(&self.state.gone).runs.contains(&(instance.clone(), run))
    }

    pub(super) fn queue(&self, partition: PartitionId) -> Result<&Queue, StoreError> {
        self.queues.get(usize::from(partition.0)).ok_or_else(|| {
            StoreError::Unusable(format!(
                "the hub has {} partitions, and none with number {partition}",
                self.hub.partitions
            ))
        })
    }

    /// The opening that this process holds of a partition, if it does.
    pub(super) fn owned_here(&self, partition: PartitionId) -> Option<Arc<Opened>> {
        self.opened().get(&partition).filter(|opened| !opened.is_stopped()).cloned()
    }

    /// The opening with this fence.
    pub(super) async fn owned(
        &self,
        partition: PartitionId,
        fence: Fence,
    ) -> Result<Arc<Opened>, StoreError> {
        let opened = self.opened().get(&partition).cloned();
        match opened {
            Some(opened) if opened.fence == fence => return Ok(opened),
            Some(opened) if opened.fence > fence => {
                return Err(StoreError::Fenced { newest: opened.fence });
            }
            Some(_) | None => {}
        }
        let head = self.read_head(&keys::partition(partition)).await?;
        Err(match head {
            Some((row, _)) if row.fence > fence => StoreError::Fenced { newest: row.fence },
            _ => StoreError::Unusable(format!(
                "partition {partition} is not open here with fence {fence}"
            )),
        })
    }

    /// Forgets an opening, unless there is a newer one.
    pub(super) fn close(&self, opened: &Arc<Opened>) {
        let mut all = self.opened();
        if all.get(&opened.partition).is_some_and(|other| Arc::ptr_eq(other, opened)) {
            all.remove(&opened.partition);
        }
    }

    /// Something may have arrived.
    pub(super) fn changed(&self) {
        self.state.changed.send_modify(|changed| *changed += 1);
    }

    /// Waits until it is another number than `known`, or acceptance rows have to be looked for.
    pub(super) async fn until_changed(&self, known: Option<u64>) -> u64 {
        let mut changed = self.state.changed.subscribe();
        let other = changed.wait_for(|changed| Some(*changed) != known);
        let arrived = tokio::time::timeout(SCAN_EVERY, other).await;
        match arrived {
            Ok(Ok(changed)) => *changed,
            Ok(Err(_)) | Err(_) => {
                self.changed();
                *self.state.changed.borrow()
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for opened in self.opened().values() {
            opened.stop();
        }
    }
}
