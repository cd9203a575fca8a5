//! A hub in memory: for tests, examples, and programs that do not mind losing it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::watch;
use uuid::Uuid;

use durable_machine::model::{
    Acceptance, AttemptKey, Envelope, Fence, HubName, InstanceId, PartitionId, Post, RunNumber,
    RuntimeStatus, StartAttempt, StatusRow, Timestamp, WorkerId,
};
use durable_machine::store::{
    AcceptOutcome, ArrivalPosition, Arrivals, Commit, HistoryPage, HistoryRow, HistoryToken,
    ListPage, ListQuery, ListToken, Refusal, Remains, SendOutcome, Snapshot, StoreLimits,
    StoreModel, StoredInstance, TimerPage, WorkResult,
};

use super::{
    Fleet, HubInfo, HubStore, Member, PartitionStore, Renewal, Sharing, StoreError, TakenWork,
};

/// The host's clock.
pub(super) fn host_clock() -> Timestamp {
    let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |us| -us),
    };
    Timestamp::from_micros(micros)
}

/// The name of a hub where nobody says another.
pub(super) fn default_hub_name() -> HubName {
    HubName::new("default").expect("seven letters are a hub name")
}

/// A hub that lives as long as the last clone of this value. Nothing is written anywhere.
///
/// It is the [`StoreModel`] behind a lock, so it keeps every rule of a store exactly. All its futures but
/// `changed` are ready at their first poll. One worker at a time may hold it, as with a file, unless it is
/// [`shared`](Self::shared).
///
/// ```
/// use durable_core::prelude::*;
/// # #[orchestrator]
/// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let worker = Worker::builder(store.clone()).register(double).start().await?;
/// worker.client().start(double, 21).id("d-1").await?.wait().await?;
/// worker.shutdown().await?;
///
/// // What was stored is there as long as a clone is.
/// let status = Client::new(store).status("d-1").await?.unwrap();
/// assert_eq!(status.output::<u32>()?, Some(42));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
    hub: HubInfo,
    sharing: Option<Sharing>,
}

#[derive(Debug)]
struct Shared {
    model: StoreModel,
    members: BTreeMap<WorkerId, Member>,
    holder: Option<WorkerId>,
    work: BTreeMap<u64, Offer>,
    offered: u64,
    /// What owners sent to partitions of other owners.
    posts: BTreeMap<PartitionId, Vec<Post>>,
    /// How often something arrived.
    arrived: watch::Sender<u64>,
    /// How often a worker came or went.
    moved: u64,
    /// What of that a worker was told.
    told: BTreeMap<WorkerId, u64>,
    /// Attempts that nobody waits for any more.
    withdrawn: BTreeSet<AttemptKey>,
}

#[derive(Debug)]
struct Offer {
    item: StartAttempt,
    hidden_until: Timestamp,
    receipt: Option<String>,
}

impl MemoryStore {
    /// An empty hub named `default`, with one partition.
    #[must_use]
    pub fn new() -> Self {
        Self::with_hub(HubInfo { name: default_hub_name(), partitions: 1 })
    }

    /// The same, empty, with this many partitions; at least one.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = Worker::builder(MemoryStore::new().with_partitions(4)).start().await?;
    /// assert_eq!(worker.partitions().len(), 4);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_partitions(self, partitions: u16) -> Self {
        let hub = HubInfo { partitions: partitions.max(1), ..self.hub };
        Self { sharing: self.sharing, ..Self::with_hub(hub) }
    }

    /// The same, for several workers at a time, as on storage that many machines reach.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::store::Sharing;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sharing = Sharing { lease: secs(10), visibility: secs(30) };
    /// let store = MemoryStore::new().with_partitions(4).shared(sharing);
    /// let first = Worker::builder(store.clone()).start().await?;
    /// let second = Worker::builder(store).start().await?; // two at a time
    /// # drop((first, second));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn shared(self, sharing: Sharing) -> Self {
        Self { sharing: Some(sharing), ..self }
    }

    /// For tests: the worker is dead, as after a `SIGKILL`. Its member row and its claims go, and
    /// nothing is released: the next opening of its partitions counts as unclean.
    pub fn evict(&self, worker: WorkerId) {
        self.lock().forget(worker);
    }

    fn with_hub(hub: HubInfo) -> Self {
        let shared = Shared {
            model: StoreModel::new(hub.partitions),
            members: BTreeMap::new(),
            holder: None,
            work: BTreeMap::new(),
            offered: 0,
            posts: BTreeMap::new(),
            arrived: watch::Sender::new(0),
            moved: 0,
            told: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
        };
        Self { shared: Arc::new(Mutex::new(shared)), hub, sharing: None }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A panic under the lock can only come from a broken invariant of the model, and a test that
        // sees one wants to look at what is there.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn arrived(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
    }

    fn forget(&mut self, worker: WorkerId) {
        if self.members.remove(&worker).is_some() {
            self.moved += 1;
        }
        self.told.remove(&worker);
        if self.holder == Some(worker) {
            self.holder = None;
        }
    }

    /// The offer that this receipt still stands for.
    fn taken(&mut self, receipt: &str) -> Option<(u64, &mut Offer)> {
        self.work
            .iter_mut()
            .find(|(_, offer)| offer.receipt.as_deref() == Some(receipt))
            .map(|(number, offer)| (*number, offer))
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Fenced { newest } => Self::Fenced { newest },
            Refusal::Outdated(what) | Refusal::Contradiction(what) => Self::Unusable(what),
        }
    }
}

#[async_trait]
impl PartitionStore for MemoryStore {
    fn limits(&self) -> StoreLimits {
        StoreLimits {
            commit_rows_max: 100_000,
            commit_bytes_max: 16 * 1024 * 1024,
            redelivers: false,
            result_delay: Duration::ZERO,
        }
    }

    async fn open(&self, partition: PartitionId) -> Result<Snapshot, StoreError> {
        Ok(self.lock().model.open(partition))
    }

    async fn release(&self, partition: PartitionId, fence: Fence) -> Result<(), StoreError> {
        Ok(self.lock().model.release(partition, fence)?)
    }

    async fn load(&self, instance: &InstanceId) -> Result<Option<StoredInstance>, StoreError> {
        Ok(self.lock().model.load(instance))
    }

    async fn timers(
        &self,
        partition: PartitionId,
        after: Option<(Timestamp, InstanceId)>,
        limit: usize,
    ) -> Result<TimerPage, StoreError> {
        Ok(self.lock().model.timers(partition, after.as_ref(), limit))
    }

    async fn arrivals(
        &self,
        partition: PartitionId,
        after: ArrivalPosition,
        limit: usize,
    ) -> Result<Arrivals, StoreError> {
        let mut shared = self.lock();
        let mut arrivals = shared.model.arrivals(partition, after, limit);
        arrivals.posts = shared.posts.remove(&partition).unwrap_or_default();
        Ok(arrivals)
    }

    async fn post(&self, to: PartitionId, posts: Vec<Post>) -> Result<(), StoreError> {
        let mut shared = self.lock();
        shared.posts.entry(to).or_default().extend(posts);
        shared.arrived();
        Ok(())
    }

    async fn commit(&self, fence: Fence, commit: Arc<Commit>) -> Result<(), StoreError> {
        Ok(self.lock().model.commit(fence, &commit)?)
    }
}

#[async_trait]
impl HubStore for MemoryStore {
    fn hub(&self) -> HubInfo {
        self.hub.clone()
    }

    fn now(&self) -> Timestamp {
        host_clock()
    }

    async fn accept(&self, acceptance: &Acceptance) -> Result<AcceptOutcome, StoreError> {
        let mut shared = self.lock();
        shared.arrived();
        Ok(shared.model.accept(acceptance))
    }

    async fn send(&self, envelope: &Envelope) -> Result<SendOutcome, StoreError> {
        let mut shared = self.lock();
        shared.arrived();
        Ok(shared.model.send(envelope))
    }

    async fn status(&self, instance: &InstanceId) -> Result<Option<StatusRow>, StoreError> {
        Ok(self.lock().model.status(instance))
    }

    async fn list(
        &self,
        query: &ListQuery,
        after: Option<ListToken>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        Ok(self.lock().model.list(query, after, limit))
    }

    async fn remains(&self, runs: &[(InstanceId, RunNumber)]) -> Result<Vec<Remains>, StoreError> {
        Ok(self.lock().model.remains(runs))
    }

    async fn counts(&self) -> Result<BTreeMap<RuntimeStatus, u64>, StoreError> {
        Ok(self.lock().model.counts())
    }

    async fn history(&self, instance: &InstanceId) -> Result<Option<Vec<HistoryRow>>, StoreError> {
        Ok(self.lock().model.history(instance))
    }

    async fn history_page(
        &self,
        instance: &InstanceId,
        after: Option<HistoryToken>,
        limit: usize,
    ) -> Result<Option<HistoryPage>, StoreError> {
        Ok(self.lock().model.history_page(instance, after, limit))
    }

    /// Here the clients of this process are what other processes are to a file.
    async fn changed(&self, known: Option<u64>) -> Result<u64, StoreError> {
        let mut arrived = self.lock().arrived.subscribe();
        let changed = arrived.wait_for(|arrived| Some(*arrived) != known).await;
        Ok(changed.map_or(0, |arrived| *arrived))
    }
}

#[async_trait]
impl Fleet for MemoryStore {
    fn sharing(&self) -> Option<Sharing> {
        self.sharing
    }

    async fn heartbeat(&self, member: &Member) -> Result<bool, StoreError> {
        let mut shared = self.lock();
        if shared.members.insert(member.worker, member.clone()).is_none() {
            shared.moved += 1;
            let moved = shared.moved;
            shared.told.insert(member.worker, moved);
            return Ok(true);
        }
        let moved = shared.moved;
        Ok(shared.told.insert(member.worker, moved) != Some(moved))
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        Ok(self.lock().members.values().cloned().collect())
    }

    async fn claim(&self, worker: WorkerId, _partition: PartitionId) -> Result<(), StoreError> {
        if self.sharing.is_some() {
            return Ok(());
        }
        let mut shared = self.lock();
        if shared.holder.is_some_and(|holder| holder != worker) {
            return Err(StoreError::HubInUse { pid: Some(std::process::id()) });
        }
        shared.holder = Some(worker);
        Ok(())
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.lock().forget(worker);
        Ok(())
    }

    async fn offer(&self, work: Vec<StartAttempt>) -> Result<(), StoreError> {
        let mut shared = self.lock();
        for item in work {
            shared.offered += 1;
            let number = shared.offered;
            shared.work.insert(number, Offer { item, hidden_until: Timestamp::MIN, receipt: None });
        }
        Ok(())
    }

    async fn take(
        &self,
        _worker: WorkerId,
        limit: usize,
        visibility: Duration,
    ) -> Result<Vec<TakenWork>, StoreError> {
        let now = host_clock();
        let mut shared = self.lock();
        let open = shared.work.values_mut().filter(|offer| offer.hidden_until <= now).take(limit);
        Ok(open
            .map(|offer| {
                let receipt = Uuid::new_v4().to_string();
                offer.hidden_until = now.after(visibility);
                offer.receipt = Some(receipt.clone());
                TakenWork { item: offer.item.clone(), receipt }
            })
            .collect())
    }

    async fn renew(&self, work: &TakenWork, visibility: Duration) -> Result<Renewal, StoreError> {
        let mut shared = self.lock();
        let withdrawn = shared.withdrawn.contains(&work.item.attempt);
        let Some((_, offer)) = shared.taken(&work.receipt) else { return Ok(Renewal::Lost) };
        offer.hidden_until = host_clock().after(visibility);
        offer.item.heartbeat_details.clone_from(&work.item.heartbeat_details);
        Ok(if withdrawn { Renewal::Withdrawn } else { Renewal::Renewed })
    }

    async fn finish(&self, work: &TakenWork, result: WorkResult) -> Result<bool, StoreError> {
        let mut shared = self.lock();
        shared.withdrawn.remove(&result.attempt);
        shared.model.report(result);
        shared.arrived();
        let Some((number, _)) = shared.taken(&work.receipt) else { return Ok(false) };
        Ok(shared.work.remove(&number).is_some())
    }

    async fn withdraw(&self, attempts: Vec<AttemptKey>) -> Result<(), StoreError> {
        let mut shared = self.lock();
        let open: BTreeSet<_> =
            shared.work.values().map(|offer| &offer.item.attempt).cloned().collect();
        shared.withdrawn.extend(attempts.into_iter().filter(|attempt| open.contains(attempt)));
        Ok(())
    }
}
