//! What the engine asks of storage: three small traits, cut by who calls them.
//!
//! [`PartitionStore`] serves the worker that owns a partition, [`HubStore`] serves clients, [`Fleet`]
//! serves membership and work shared between workers. A [`Store`] is all three.
//!
//! A store keeps commits whole and does not look inside events. Its reference is
//! [`StoreModel`](durable_machine::store::StoreModel); one contract suite holds every store to it.

mod error;
mod memory;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use durable_machine::model::{
    Acceptance, AttemptKey, Envelope, Fence, HubName, InstanceId, PartitionId, Post, RunNumber,
    RuntimeStatus, StartAttempt, StatusRow, Timestamp, WorkerId,
};
use durable_machine::store::{
    AcceptOutcome, ArrivalPosition, Arrivals, Commit, HistoryPage, HistoryRow, HistoryToken,
    ListPage, ListQuery, ListToken, Remains, SendOutcome, Snapshot, StoreLimits, StoredInstance,
    TimerPage, WorkResult,
};

pub use error::StoreError;
pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};

/// Storage of a task hub.
///
/// ```
/// use durable_core::prelude::*;
/// use durable_core::store::Store;
///
/// /// Works with every store.
/// async fn start(store: impl Store) -> Result<Worker, durable_core::StartError> {
///     Worker::builder(store).start().await
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = start(MemoryStore::new()).await?;
/// assert_eq!(worker.partitions().len(), 1);
/// # Ok(())
/// # }
/// ```
pub trait Store: PartitionStore + HubStore + Fleet {}

impl<T: PartitionStore + HubStore + Fleet> Store for T {}

/// What the owner of a partition needs. Holds for every store, and the contract suite checks each line:
///
/// - A commit is applied as a whole or not at all, also across a crash in the middle of it.
/// - A commit whose fence is older than the newest one given out changes nothing and returns
///   [`StoreError::Fenced`].
/// - What a returned `commit` wrote is seen by every later call, in any process.
/// - [`StoreError::Unknown`] is returned only while storage cannot be asked what became of the commit.
/// - What a commit purges nobody sees any more: no status, list, count, history or load. It is not there in part at
///   any time, and a start that was accepted under its id stays. What is left of it goes by itself.
/// - Reads hold whole rows only; a row that cannot be read is [`StoreError::Corrupt`] and hides no other.
///
/// ```
/// use durable_core::MemoryStore;
/// use durable_core::machine::model::PartitionId;
/// use durable_core::store::PartitionStore;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let first = store.open(PartitionId(0)).await?;
/// let second = store.open(PartitionId(0)).await?; // another worker takes over
/// assert!(second.fence > first.fence);
/// # Ok::<(), durable_core::StoreError>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait PartitionStore: Send + Sync + 'static {
    /// What one commit may hold, and how messages arrive.
    fn limits(&self) -> StoreLimits;

    /// Takes over a partition: all earlier owners are fenced off from here on.
    async fn open(&self, partition: PartitionId) -> Result<Snapshot, StoreError>;

    /// Gives a partition up in good order, so that the next opening does not count as unclean.
    async fn release(&self, partition: PartitionId, fence: Fence) -> Result<(), StoreError>;

    /// Nobody here serves this opening any more, whether it was given up in good order or not: what arrives is
    /// for others. Returns at once, and may be called for an opening that is no longer known.
    fn abandon(&self, _partition: PartitionId, _fence: Fence) {}

    /// One instance with everything needed to run it on; `None` where nothing names it.
    async fn load(&self, instance: &InstanceId) -> Result<Option<StoredInstance>, StoreError>;

    /// Due times of the partition behind `after`, earliest first, at most `limit`.
    async fn timers(
        &self,
        partition: PartitionId,
        after: Option<(Timestamp, InstanceId)>,
        limit: usize,
    ) -> Result<TimerPage, StoreError>;

    /// Starts and commands for the partition behind `after`, oldest first, at most `limit` of each.
    async fn arrivals(
        &self,
        partition: PartitionId,
        after: ArrivalPosition,
        limit: usize,
    ) -> Result<Arrivals, StoreError>;

    /// Hands posts to the owner of another partition, which runs in another process. Only carries: what
    /// counts is in the outbox and the cursors, and what is lost is sent again.
    async fn post(&self, to: PartitionId, posts: Vec<Post>) -> Result<(), StoreError>;

    /// Writes one group.
    ///
    /// May do its work within the first poll, on the caller's thread, where that is faster.
    async fn commit(&self, fence: Fence, commit: Arc<Commit>) -> Result<(), StoreError>;
}

/// What clients need, in the worker's process or in any other.
///
/// ```
/// use durable_core::store::HubStore;
/// use durable_core::{InstanceId, MemoryStore};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let store = MemoryStore::new();
/// let nobody = InstanceId::new("nobody").unwrap();
/// assert!(store.status(&nobody).await?.is_none());
/// assert!(store.counts().await?.is_empty());
/// # Ok::<(), durable_core::StoreError>(())
/// # }).unwrap();
/// ```
#[async_trait]
pub trait HubStore: Send + Sync + 'static {
    /// Name and partition count of the hub.
    fn hub(&self) -> HubInfo;

    /// The hub's clock.
    fn now(&self) -> Timestamp;

    /// Makes a start durable. Idempotent by its nonce.
    async fn accept(&self, acceptance: &Acceptance) -> Result<AcceptOutcome, StoreError>;

    /// Makes a command durable, for an instance that is active; a purge, also for one that has ended. Idempotent by
    /// its envelope id.
    async fn send(&self, envelope: &Envelope) -> Result<SendOutcome, StoreError>;

    /// The status of an instance; a start that was accepted shows as pending at once.
    async fn status(&self, instance: &InstanceId) -> Result<Option<StatusRow>, StoreError>;

    /// Instances, newest start first.
    async fn list(
        &self,
        query: &ListQuery,
        after: Option<ListToken>,
        limit: usize,
    ) -> Result<ListPage, StoreError>;

    /// How far runs are gone that were to be purged, in the order asked for. What a purge leaves behind is removed in
    /// the background, by the owner or a later one: nobody sees it, and [`Remains::Nothing`] says that it is
    /// over.
    async fn remains(&self, runs: &[(InstanceId, RunNumber)]) -> Result<Vec<Remains>, StoreError>;

    /// How many instances are in each status; statuses that nobody has are left out.
    async fn counts(&self) -> Result<BTreeMap<RuntimeStatus, u64>, StoreError>;

    /// The history of an instance's current execution, also when it has ended.
    async fn history(&self, instance: &InstanceId) -> Result<Option<Vec<HistoryRow>>, StoreError>;

    /// The same in pages: at most `limit` rows behind `after`. A page says which execution it belongs to: that
    /// may be another one than that of the page before.
    async fn history_page(
        &self,
        instance: &InstanceId,
        after: Option<HistoryToken>,
        limit: usize,
    ) -> Result<Option<HistoryPage>, StoreError>;

    /// Waits until something may have arrived from outside since it last returned `known`, and returns a
    /// number for the next call; at once where `known` is `None`. May return without a reason.
    async fn changed(&self, known: Option<u64>) -> Result<u64, StoreError>;
}

/// Which hub a store holds.
///
/// ```
/// use durable_core::MemoryStore;
/// use durable_core::store::HubStore;
///
/// let hub = MemoryStore::new().with_partitions(4).hub();
/// assert_eq!((hub.name.as_str(), hub.partitions), ("default", 4));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubInfo {
    /// Its name.
    pub name: HubName,
    /// Its partition count, fixed when it was created.
    pub partitions: u16,
}

/// Membership of workers, and activities that are offered to whichever worker has room.
///
/// ```
/// use durable_core::prelude::*;
/// use durable_core::store::Fleet;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// assert!(store.members().await?.is_empty());
/// let worker = Worker::builder(store.clone()).start().await?;
/// assert_eq!(store.members().await?[0].pid, std::process::id());
/// # worker.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Fleet: Send + Sync + 'static {
    /// How several workers share the hub; `None` where one at a time holds all of it. Without sharing
    /// nobody calls [`offer`](Self::offer) and what follows it.
    fn sharing(&self) -> Option<Sharing>;

    /// Joins, or says again that this worker lives. `true` where another worker has come or gone since the
    /// last time: look at the members.
    async fn heartbeat(&self, member: &Member) -> Result<bool, StoreError>;

    /// The workers that may be alive. Where the hub is shared, whether one is alive shows by its beat, which
    /// has to rise: clocks of two machines are never compared.
    async fn members(&self) -> Result<Vec<Member>, StoreError>;

    /// Asks for a partition. `Ok` means this worker may open it; where the hub is shared, what keeps two
    /// owners apart is the fence alone.
    ///
    /// # Errors
    ///
    /// [`StoreError::HubInUse`] where another live worker holds the hub for itself.
    async fn claim(&self, worker: WorkerId, partition: PartitionId) -> Result<(), StoreError>;

    /// Leaves: the member row and all claims go.
    async fn leave(&self, worker: WorkerId) -> Result<(), StoreError>;

    /// Offers activities to other workers.
    async fn offer(&self, work: Vec<StartAttempt>) -> Result<(), StoreError>;

    /// Takes about `limit` offers (they travel in portions), hidden from others for `visibility`.
    async fn take(
        &self,
        worker: WorkerId,
        limit: usize,
        visibility: Duration,
    ) -> Result<Vec<TakenWork>, StoreError>;

    /// Hides a taken offer for longer. Whoever takes it next begins with the heartbeat details that `work` has
    /// by now.
    async fn renew(&self, work: &TakenWork, visibility: Duration) -> Result<Renewal, StoreError>;

    /// Gives taken offers back that were not begun: others see them again after `pause`. It does not count as
    /// a taking that ended without a result.
    async fn give_back(&self, work: Vec<TakenWork>, pause: Duration) -> Result<(), StoreError> {
        for work in &work {
            self.renew(work, pause).await?;
        }
        Ok(())
    }

    /// Makes a result durable on its way to the owner, who gets it with its arrivals, and removes the offer.
    /// `false` means the offer was no longer this taker's: another one may run the attempt, too, and the
    /// first result counts.
    async fn finish(&self, work: &TakenWork, result: WorkResult) -> Result<bool, StoreError>;

    /// Says that nobody waits for these offered attempts any more: whoever runs one learns of it when it
    /// renews.
    async fn withdraw(&self, attempts: Vec<AttemptKey>) -> Result<(), StoreError>;
}

/// How several workers share a hub.
///
/// ```
/// use durable_core::prelude::*;
/// use durable_core::store::{Fleet, Sharing};
///
/// let sharing = Sharing { lease: secs(10), visibility: secs(30) };
/// assert_eq!(MemoryStore::new().shared(sharing).sharing(), Some(sharing));
/// assert_eq!(MemoryStore::new().sharing(), None); // one worker at a time
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// A worker whose beat did not rise for this long is dead. It beats three times as often.
    pub lease: Duration,
    /// How long a taken offer is hidden from others, unless it is renewed.
    pub visibility: Duration,
}

/// What became of a renewal.
///
/// ```
/// use durable_core::store::Renewal;
///
/// /// Whether an attempt of a taken offer goes on.
/// fn goes_on(renewal: Renewal) -> bool {
///     match renewal {
///         Renewal::Renewed => true,
///         Renewal::Lost | Renewal::Withdrawn => false,
///     }
/// }
/// assert!(goes_on(Renewal::Renewed) && !goes_on(Renewal::Withdrawn));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The offer is still this taker's.
    Renewed,
    /// It is no longer this taker's: stop working on it.
    Lost,
    /// Nobody waits for the result: stop, and [`finish`](Fleet::finish) it.
    Withdrawn,
}

/// One start of a worker process.
///
/// ```
/// use durable_core::prelude::*;
/// use durable_core::store::Fleet;
/// # #[orchestrator]
/// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let worker = Worker::builder(store.clone()).register(double).build("1.4.0").start().await?;
/// let members = store.members().await?;
/// assert_eq!(members[0].orchestrators, ["double"]);
/// assert_eq!(members[0].build.as_deref(), Some("1.4.0"));
/// # drop(worker);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// New for each start.
    pub worker: WorkerId,
    /// Raised with each heartbeat.
    pub beat: u64,
    /// Its process id.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// The orchestrators that it registers.
    pub orchestrators: Vec<String>,
    /// Its build, where the program says so.
    pub build: Option<String>,
    /// The present boot of its host, where that is known: process ids are compared within one boot only.
    #[serde(default)]
    pub boot: String,
    /// The partitions that it owns.
    #[serde(default)]
    pub owns: Vec<PartitionId>,
    /// Orchestrators that instances need in partitions which it owns or owned last, where some workers have them
    /// and others do not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub needs: BTreeMap<PartitionId, Vec<String>>,
    /// It is about to leave: what it gives back is for others.
    #[serde(default)]
    pub leaving: bool,
}

/// An offer that this worker took.
///
/// ```
/// use durable_core::machine::model::WorkerId;
/// use durable_core::prelude::*;
/// use durable_core::store::{Fleet, TakenWork};
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let worker = WorkerId(uuid::Uuid::new_v4());
/// let taken: Vec<TakenWork> = MemoryStore::new().take(worker, 10, secs(30)).await?;
/// assert!(taken.is_empty()); // nobody offers anything
/// # Ok::<(), durable_core::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TakenWork {
    /// What to do.
    pub item: StartAttempt,
    /// Shows that it is this taker's, until its visibility ends.
    pub receipt: String,
}
