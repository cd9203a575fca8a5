//! A hub in one SQLite file. `docs/design/storage.md` has the layout and the reasons.

mod backup;
mod chores;
mod client;
mod commit;
mod failure;
mod file;
mod fleet;
mod keys;
mod lock;
mod partition;
mod readers;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use futures::channel::oneshot;

use durable_machine::model::{
    Acceptance, AttemptKey, Envelope, Fence, HubName, InstanceId, PartitionId, Post, RunNumber,
    RuntimeStatus, StartAttempt, StatusRow, Timestamp, WorkerId,
};
use durable_machine::store::{
    AcceptOutcome, ArrivalPosition, Arrivals, Commit, HistoryPage, HistoryRow, HistoryToken,
    InstanceWrite, ListPage, ListQuery, ListToken, Remains, SendOutcome, Snapshot, StoreLimits,
    StoredInstance, TimerPage, WorkResult,
};

use super::memory::{default_hub_name, host_clock};
use super::{
    Fleet, HubInfo, HubStore, Member, PartitionStore, Renewal, Sharing, StoreError, TakenWork,
};
use lock::{Try, WorkerLock};
use readers::Readers;
use writer::{Kind, Lane, Writer};

/// Purges up to which it may: each of them removes a history.
const INLINE_PURGES_MAX: usize = 4;

/// Rows up to which a commit may run on the caller's thread. It blocks that thread for about the time of
/// one disk flush; larger ones gain nothing from it, because a wake-up is small beside them.
const INLINE_ROWS_MAX: usize = 64;

/// Small writes: may run on the caller's thread, and check before they write.
const SMALL: Kind = Kind { inline: true, isolated: false, bytes: 512 };

/// Whatever is opened once in a while: on the writer thread, alone with its savepoint.
const RARE: Kind = Kind { inline: false, isolated: true, bytes: 4096 };

/// How often the file is asked whether another process wrote: while one does, and at rest.
const POLL_BUSY: Duration = Duration::from_millis(20);
const POLL_IDLE: Duration = Duration::from_millis(250);

/// How a hub is opened.
///
/// ```
/// use durable_core::prelude::*;
/// use durable_core::{HubName, SqliteOptions};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.db");
/// let options = SqliteOptions { hub: HubName::new("orders")?, ..SqliteOptions::default() };
/// let store = SqliteStore::open_with(&path, options.clone())?;
/// assert_eq!(Client::new(store).hub_name(), options.hub);
///
/// // A hub keeps its name.
/// assert!(SqliteStore::open(&path).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Name of the hub; must be the one that it was created with.
    pub hub: HubName,
    /// Its partition count, fixed when it is created. One is fastest: a transaction serves all partitions
    /// anyway, and each further one only makes commits smaller.
    pub partitions: u16,
    /// How long a write waits for another process that writes.
    pub busy_timeout: Duration,
    /// Bytes of pages that each connection keeps. More is not faster: a commit scans them.
    pub cache_bytes: usize,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            hub: default_hub_name(),
            partitions: 1,
            busy_timeout: Duration::from_secs(5),
            cache_bytes: 8 * 1024 * 1024,
        }
    }
}

/// A hub in one SQLite file.
///
/// At most one worker process at a time; any number of processes may be clients. Clones share the
/// connections; the file is closed with the last of them.
///
/// What was answered is on the disk (`synchronous=FULL`). Beside the file stand its WAL (`-wal`, `-shm`),
/// which belong to it, and a lock file (`.lock`), which says who the worker is.
///
/// ```
/// use durable_core::prelude::*;
/// # #[orchestrator]
/// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("orders.db");
/// let worker = Worker::builder(SqliteStore::open(&path)?).register(double).start().await?;
/// worker.client().start(double, 21).id("d-1").await?.wait().await?;
/// worker.shutdown().await?;
///
/// // Another time, perhaps in another process:
/// let client = Client::new(SqliteStore::open(&path)?);
/// assert_eq!(client.status("d-1").await?.unwrap().output::<u32>()?, Some(42));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    options: SqliteOptions,
    lane: Arc<Lane>,
    readers: Readers,
    lock: WorkerLock,
    thread: Option<JoinHandle<()>>,
    /// Starts and commands through this store, whose worker may not know of them: a connection does not see
    /// its own writes as a change of the file.
    arrived: AtomicU64,
}

impl SqliteStore {
    /// Opens the hub `default` with one partition, and creates it where the file does not exist.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("orders.db");
    /// let store = SqliteStore::open(&path)?;
    /// assert!(path.exists());
    /// # drop(store);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`open_with`](Self::open_with).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, SqliteOptions::default())
    }

    /// Opens a hub, and creates it where the file does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] where the file is no hub, or was created with another name or partition
    /// count; [`StoreError::NewerSchema`] where a newer build wrote it; [`StoreError::Busy`] where another
    /// process keeps it locked.
    pub fn open_with(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let conn = file::open_hub(&path, &options)?;
        let lane = Arc::new(Lane::new(Writer::new(path.clone(), options.clone(), conn)));
        let serving = Arc::clone(&lane);
        let thread = std::thread::Builder::new()
            .name("durable-sqlite".into())
            .spawn(move || serving.serve())
            .map_err(|error| {
                StoreError::Unusable(format!("the writer thread could not be started: {error}"))
            })?;
        Ok(Self {
            inner: Arc::new(Inner {
                readers: Readers::new(path.clone(), options.clone()),
                lock: WorkerLock::beside(&path),
                thread: Some(thread),
                arrived: AtomicU64::new(0),
                path,
                options,
                lane,
            }),
        })
    }

    /// Copies the hub, while it is in use, to a file that must not exist yet. The copy is one consistent
    /// state and opens like any hub.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, copy) = (folder.path().join("orders.db"), folder.path().join("copy.db"));
    /// let store = SqliteStore::open(path)?;
    /// Client::new(store.clone()).start_by_name("order", &7).id("order-7").await?;
    /// store.backup_to(&copy).await?;
    /// assert!(Client::new(SqliteStore::open(&copy)?).status("order-7").await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] where the file exists or cannot be written, [`StoreError::Busy`] where the
    /// disk is full or the hub locked. No copy is left then.
    pub async fn backup_to(&self, path: impl AsRef<Path>) -> Result<(), StoreError> {
        let to = path.as_ref().to_owned();
        self.elsewhere(move |inner| backup::copy(&inner.path, &inner.options, &to)).await
    }

    /// Runs something longer on a thread of its own, so that no caller's thread is blocked.
    async fn elsewhere<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let store = self.clone();
        std::thread::Builder::new()
            .name("durable-sqlite-read".into())
            .spawn(move || {
                let result = work(&store.inner);
                // In this order: who has the answer may expect the file to be closed with the last clone.
                drop(store);
                let _ = reply.send(result);
            })
            .map_err(|error| {
                StoreError::Unusable(format!("a thread could not be started: {error}"))
            })?;
        answer
            .await
            .map_err(|_| StoreError::Unusable("a read of the SQLite store panicked".into()))?
    }

    fn lane(&self) -> &Lane {
        &self.inner.lane
    }

    fn partitions(&self) -> u16 {
        self.inner.options.partitions
    }

    /// A number that changes whenever another process wrote to the file, or a client of this one sent
    /// something.
    fn version(&self) -> Result<u64, StoreError> {
        // Both only grow, so that their sum changes when one of them does.
        let arrived = self.inner.arrived.load(Ordering::Relaxed);
        Ok(self.lane().version()?.wrapping_add(arrived))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.inner.path)
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.lane.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer thread of the SQLite store panicked");
        }
    }
}

#[async_trait]
impl PartitionStore for SqliteStore {
    fn limits(&self) -> StoreLimits {
        StoreLimits {
            commit_rows_max: 100_000,
            commit_bytes_max: 16 * 1024 * 1024,
            redelivers: false,
            result_delay: Duration::ZERO,
        }
    }

    async fn open(&self, partition: PartitionId) -> Result<Snapshot, StoreError> {
        let partitions = self.partitions();
        if partition.0 >= partitions {
            return Err(StoreError::Unusable(format!(
                "the hub has {partitions} partitions; there is no partition {partition}"
            )));
        }
        if let Ok(conn) = self.lane().writer()?.conn() {
            file::grow_wal(conn, &self.inner.path);
        }
        let snapshot =
            self.lane().write(RARE, move |tx| partition::open(tx, partition, partitions)).await?;
        Ok(snapshot)
    }

    async fn release(&self, partition: PartitionId, fence: Fence) -> Result<(), StoreError> {
        self.lane().write(RARE, move |tx| partition::release(tx, partition, fence)).await
    }

    async fn load(&self, instance: &InstanceId) -> Result<Option<StoredInstance>, StoreError> {
        self.inner.readers.read(|conn| partition::load(conn, instance))
    }

    async fn timers(
        &self,
        partition: PartitionId,
        after: Option<(Timestamp, InstanceId)>,
        limit: usize,
    ) -> Result<TimerPage, StoreError> {
        self.inner.readers.read(|conn| partition::timers(conn, partition, after.as_ref(), limit))
    }

    async fn arrivals(
        &self,
        partition: PartitionId,
        after: ArrivalPosition,
        limit: usize,
    ) -> Result<Arrivals, StoreError> {
        let (arrivals, dead) =
            self.inner.readers.read(|conn| partition::arrivals(conn, partition, after, limit))?;
        if !dead.is_empty() {
            self.lane().write(RARE, move |tx| partition::bury(tx, &dead)).await?;
        }
        Ok(arrivals)
    }

    async fn post(&self, _to: PartitionId, _posts: Vec<Post>) -> Result<(), StoreError> {
        Err(not_shared())
    }

    async fn commit(&self, fence: Fence, commit: Arc<Commit>) -> Result<(), StoreError> {
        let kind = Kind {
            inline: commit.rows() <= INLINE_ROWS_MAX && commit.purges.len() <= INLINE_PURGES_MAX,
            isolated: true,
            bytes: commit.instances.iter().map(InstanceWrite::bytes).sum(),
        };
        let partitions = self.partitions();
        self.lane().write(kind, move |tx| commit::apply(tx, partitions, fence, &commit)).await
    }
}

#[async_trait]
impl HubStore for SqliteStore {
    fn hub(&self) -> HubInfo {
        HubInfo { name: self.inner.options.hub.clone(), partitions: self.partitions() }
    }

    fn now(&self) -> Timestamp {
        host_clock()
    }

    async fn accept(&self, acceptance: &Acceptance) -> Result<AcceptOutcome, StoreError> {
        let (partitions, acceptance) = (self.partitions(), acceptance.clone());
        let kind = Kind { bytes: SMALL.bytes + 2 * acceptance.input.bytes(), ..SMALL };
        let accepted =
            self.lane().write(kind, move |tx| client::accept(tx, partitions, &acceptance)).await;
        self.inner.arrived.fetch_add(1, Ordering::Relaxed);
        accepted
    }

    async fn send(&self, envelope: &Envelope) -> Result<SendOutcome, StoreError> {
        let (partitions, envelope) = (self.partitions(), envelope.clone());
        let sent =
            self.lane().write(SMALL, move |tx| client::send(tx, partitions, &envelope)).await;
        self.inner.arrived.fetch_add(1, Ordering::Relaxed);
        sent
    }

    async fn status(&self, instance: &InstanceId) -> Result<Option<StatusRow>, StoreError> {
        self.inner.readers.read(|conn| rows::visible_status(conn, instance))
    }

    async fn list(
        &self,
        query: &ListQuery,
        after: Option<ListToken>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        if *query == ListQuery::default() {
            return self.inner.readers.read(|conn| client::list(conn, query, after, limit));
        }
        // A filter may pass over any number of rows.
        let query = query.clone();
        self.elsewhere(move |inner| {
            inner.readers.read(|conn| client::list(conn, &query, after, limit))
        })
        .await
    }

    async fn remains(&self, runs: &[(InstanceId, RunNumber)]) -> Result<Vec<Remains>, StoreError> {
        self.inner.readers.read(|conn| client::remains(conn, runs))
    }

    async fn counts(&self) -> Result<BTreeMap<RuntimeStatus, u64>, StoreError> {
        self.inner.readers.read(client::counts)
    }

    async fn history(&self, instance: &InstanceId) -> Result<Option<Vec<HistoryRow>>, StoreError> {
        self.inner.readers.read(|conn| {
            partition::log_of(conn, instance)?.map(|log| partition::history(conn, log)).transpose()
        })
    }

    async fn history_page(
        &self,
        instance: &InstanceId,
        after: Option<HistoryToken>,
        limit: usize,
    ) -> Result<Option<HistoryPage>, StoreError> {
        self.inner.readers.read(|conn| partition::history_page(conn, instance, after, limit))
    }

    async fn changed(&self, known: Option<u64>) -> Result<u64, StoreError> {
        let mut pause = POLL_BUSY;
        loop {
            let version = self.version()?;
            if Some(version) != known {
                return Ok(version);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLL_IDLE);
        }
    }
}

#[async_trait]
impl Fleet for SqliteStore {
    fn sharing(&self) -> Option<Sharing> {
        None
    }

    async fn heartbeat(&self, member: &Member) -> Result<bool, StoreError> {
        let member = member.clone();
        self.lane().write(SMALL, move |tx| fleet::heartbeat(tx, &member)).await?;
        Ok(false)
    }

    /// The worker that holds the lock of the file, once it said that it lives: there is no other.
    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let Some(worker) = self.inner.lock.holder()? else { return Ok(Vec::new()) };
        Ok(self.inner.readers.read(|conn| fleet::member(conn, worker))?.into_iter().collect())
    }

    async fn claim(&self, worker: WorkerId, _partition: PartitionId) -> Result<(), StoreError> {
        let mut tried = self.inner.lock.try_take(worker)?;
        if matches!(tried, Try::Theirs { .. }) {
            tried = self.elsewhere(move |inner| try_for_a_while(&inner.lock, worker)).await?;
        }
        if let Try::Theirs { pid } = tried {
            return Err(StoreError::HubInUse { pid });
        }
        if tried == Try::Taken {
            self.lane().write(RARE, move |tx| fleet::remove_others(tx, worker)).await?;
        }
        Ok(())
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), StoreError> {
        let removed = self.lane().write(RARE, move |tx| fleet::remove(tx, worker)).await;
        // A row that could not be removed does not count without the lock.
        self.inner.lock.give_up(worker);
        removed
    }

    async fn offer(&self, _work: Vec<StartAttempt>) -> Result<(), StoreError> {
        Err(not_shared())
    }

    async fn take(
        &self,
        _worker: WorkerId,
        _limit: usize,
        _visibility: Duration,
    ) -> Result<Vec<TakenWork>, StoreError> {
        Err(not_shared())
    }

    async fn renew(&self, _work: &TakenWork, _visibility: Duration) -> Result<Renewal, StoreError> {
        Err(not_shared())
    }

    async fn finish(&self, _work: &TakenWork, _result: WorkResult) -> Result<bool, StoreError> {
        Err(not_shared())
    }

    async fn withdraw(&self, _attempts: Vec<AttemptKey>) -> Result<(), StoreError> {
        Err(not_shared())
    }
}

/// What is asked for takes a second worker, and a file has one at a time.
fn not_shared() -> StoreError {
    StoreError::Unusable("a hub in a file is not shared between workers".into())
}

fn try_for_a_while(lock: &WorkerLock, worker: WorkerId) -> Result<Try, StoreError> {
    let mut tried = lock.try_take(worker)?;
    for _ in 0..lock::TRIES {
        if !matches!(tried, Try::Theirs { .. }) {
            break;
        }
        std::thread::sleep(lock::BETWEEN_TRIES);
        tried = lock.try_take(worker)?;
    }
    Ok(tried)
}
