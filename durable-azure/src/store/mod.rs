//! A hub in Azure Storage. How it is kept there is described in `docs/design/azure-storage.md`.

mod accept;
mod body;
mod commit;
mod facts;
mod failure;
mod fleet;
mod garbage;
mod head;
mod hub;
mod inbox;
mod inner;
mod keys;
mod known;
mod list;
mod opened;
mod ops;
mod plan;
mod poller;
mod read;
mod rows;
#[cfg(test)]
mod tests;
mod wire;
mod work;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use durable_core::machine::model::{
    Acceptance, AttemptKey, Envelope, Fence, HubName, InstanceId, PartitionId, Post, RunNumber,
    RuntimeStatus, StatusRow, Timestamp, WorkerId,
};
use durable_core::machine::partition::StartAttempt;
use durable_core::machine::store::{
    AcceptOutcome, ArrivalPosition, Arrivals, Commit, HistoryPage, HistoryRow, HistoryToken,
    ListPage, ListQuery, ListToken, Remains, SendOutcome, Snapshot, StoreLimits, StoredInstance,
    TimerPage, WorkResult,
};
use durable_core::store::{
    Fleet, HubInfo, HubStore, Member, PartitionStore, Renewal, Sharing, StoreError, TakenWork,
};

use crate::connection::Connection;
use crate::service::Transactions;
use inner::Inner;

/// Bytes of all bodies of a commit. In their JSON form they are longer; what is too much then goes to blobs.
const COMMIT_BYTES_MAX: usize = 3 * 1024 * 1024;
/// How long a commit that only records results may wait for more of them.
const RESULT_DELAY: Duration = Duration::from_millis(100);

/// How a hub in Azure Storage is used.
///
/// ```
/// use std::time::Duration;
/// use durable_azure::AzureOptions;
/// use durable_core::HubName;
///
/// let options = AzureOptions {
///     hub: HubName::new("orders")?,
///     lease: Duration::from_secs(15), // a dead worker's share is taken over after this long
///     ..AzureOptions::default()
/// };
/// assert_eq!(options.hub.as_str(), "orders");
/// # Ok::<(), durable_core::InvalidName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureOptions {
    /// Name of the hub, `default` by default. Several hubs live in one account without knowing of each other.
    pub hub: HubName,
    /// Partition count, fixed when the hub is created: 1 to 64.
    pub partitions: u16,
    /// A worker that does not beat for this long is taken for dead.
    pub lease: Duration,
    /// How long a message that was taken is hidden from others, in whole seconds.
    pub visibility: Duration,
    /// The longest wait between two looks into a queue in which nothing was found.
    pub idle_poll_max: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
}

impl Default for AzureOptions {
    fn default() -> Self {
        Self {
            hub: HubName::new("default").expect("seven letters are a hub name"),
            partitions: 4,
            lease: Duration::from_secs(30),
            visibility: Duration::from_secs(30),
            idle_poll_max: Duration::from_secs(30),
            request_timeout: Duration::from_secs(15),
        }
    }
}

/// A hub in Azure Tables, Queues and Blobs. Clones are the same store.
///
/// Its work is done by the Tokio runtime in which it was opened, which has to be there for as long as it is used.
///
/// ```no_run
/// use durable_azure::{AzureOptions, AzureStore, Connection};
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn greet(_: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
///     Ok(format!("Hello, {name}!"))
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let store = AzureStore::open(&Connection::emulator(), AzureOptions::default()).await?;
///     let worker = Worker::builder(store.clone()).register(greet).start().await?;
///     let handle = worker.client().start(greet, "Ada".into()).await?;
///     assert_eq!(handle.output().await?, "Hello, Ada!");
///
///     println!("{} requests were sent", store.transactions().total());
///     worker.shutdown().await?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct AzureStore {
    inner: Arc<Inner>,
}

impl AzureStore {
    /// Opens a hub, and creates it where there is none of that name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unusable`] where the account cannot be used, or the hub was created with another partition count or
    /// another spelling of its name; [`StoreError::Busy`] where storage does not answer.
    pub async fn open(connection: &Connection, options: AzureOptions) -> Result<Self, StoreError> {
        Ok(Self { inner: Arc::new(hub::open(connection, options).await?) })
    }

    /// Deletes the hub with all its instances: its tables, queues and container. Other hubs of the account are not
    /// touched. Where it is interrupted it can be called again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] where storage does not answer.
    pub async fn delete_hub(&self) -> Result<(), StoreError> {
        self.run(|inner| async move { hub::delete(&inner).await }).await
    }

    /// Removes blobs older than a day that no row names, as crashes leave behind, and returns how many. It reads all
    /// rows of the hub: once a month is often enough.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] where storage does not answer.
    pub async fn sweep(&self) -> Result<usize, StoreError> {
        self.run(|inner| async move { garbage::sweep(&inner).await }).await
    }

    /// How many requests were sent by this store so far, by kind: what storage is paid by.
    #[must_use]
    pub fn transactions(&self) -> Transactions {
        self.inner.service.transactions()
    }

    /// Runs to its end, also where the caller gives up waiting: half-sent commits have to be settled.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let task = self.inner.runtime.spawn(work(Arc::clone(&self.inner)));
        task.await.map_err(|error| StoreError::Unknown(Box::new(error)))?
    }
}

#[async_trait]
impl PartitionStore for AzureStore {
    fn limits(&self) -> StoreLimits {
        StoreLimits {
            commit_rows_max: commit::ROWS_MAX,
            commit_bytes_max: COMMIT_BYTES_MAX,
            redelivers: true,
            result_delay: RESULT_DELAY,
        }
    }

    async fn open(&self, partition: PartitionId) -> Result<Snapshot, StoreError> {
        self.run(move |inner| async move { opened::open(&inner, partition).await }).await
    }

    async fn release(&self, partition: PartitionId, fence: Fence) -> Result<(), StoreError> {
        self.run(move |inner| async move { opened::release(&inner, partition, fence).await }).await
    }

    fn abandon(&self, partition: PartitionId, fence: Fence) {
        let opened = self.inner.opened().get(&partition).cloned();
        if let Some(opened) = opened.filter(|opened| opened.fence == fence) {
            poller::lost(&self.inner, &opened);
        }
    }

    async fn load(&self, instance: &InstanceId) -> Result<Option<StoredInstance>, StoreError> {
        let instance = instance.clone();
        self.run(move |inner| async move { inner.load(&instance).await }).await
    }

    async fn timers(
        &self,
        partition: PartitionId,
        after: Option<(Timestamp, InstanceId)>,
        limit: usize,
    ) -> Result<TimerPage, StoreError> {
        self.run(move |inner| async move { inner.timers(partition, after, limit).await }).await
    }

    async fn arrivals(
        &self,
        partition: PartitionId,
        after: ArrivalPosition,
        limit: usize,
    ) -> Result<Arrivals, StoreError> {
        self.run(
            move |inner| async move { poller::arrivals(&inner, partition, after, limit).await },
        )
        .await
    }

    async fn post(&self, to: PartitionId, posts: Vec<Post>) -> Result<(), StoreError> {
        self.run(move |inner| async move {
            for portion in wire::portions(posts, usize::MAX) {
                accept::put(&inner, to, &wire::Wire::Posts(portion)).await?;
            }
            Ok(())
        })
        .await
    }

    async fn commit(&self, fence: Fence, commit: Arc<Commit>) -> Result<(), StoreError> {
        self.run(move |inner| async move { commit::commit(&inner, fence, &commit).await }).await
    }
}

#[async_trait]
impl HubStore for AzureStore {
    fn hub(&self) -> HubInfo {
        self.inner.hub.clone()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    async fn accept(&self, acceptance: &Acceptance) -> Result<AcceptOutcome, StoreError> {
        let acceptance = acceptance.clone();
        self.run(move |inner| async move { accept::accept(&inner, &acceptance).await }).await
    }

    async fn send(&self, envelope: &Envelope) -> Result<SendOutcome, StoreError> {
        let envelope = envelope.clone();
        self.run(move |inner| async move { accept::send(&inner, &envelope).await }).await
    }

    async fn remains(&self, runs: &[(InstanceId, RunNumber)]) -> Result<Vec<Remains>, StoreError> {
        let runs = runs.to_vec();
        self.run(|inner| async move { garbage::remains(&inner, &runs).await }).await
    }

    async fn status(&self, instance: &InstanceId) -> Result<Option<StatusRow>, StoreError> {
        let instance = instance.clone();
        self.run(move |inner| async move { inner.status(&instance).await }).await
    }

    async fn list(
        &self,
        query: &ListQuery,
        after: Option<ListToken>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        let query = query.clone();
        self.run(move |inner| async move { inner.list(&query, after, limit).await }).await
    }

    async fn counts(&self) -> Result<BTreeMap<RuntimeStatus, u64>, StoreError> {
        self.run(|inner| async move { inner.counts().await }).await
    }

    async fn history(&self, instance: &InstanceId) -> Result<Option<Vec<HistoryRow>>, StoreError> {
        let instance = instance.clone();
        self.run(move |inner| async move { inner.history(&instance).await }).await
    }

    async fn history_page(
        &self,
        instance: &InstanceId,
        after: Option<HistoryToken>,
        limit: usize,
    ) -> Result<Option<HistoryPage>, StoreError> {
        let instance = instance.clone();
        self.run(move |inner| async move { inner.history_page(&instance, after, limit).await })
            .await
    }

    async fn changed(&self, known: Option<u64>) -> Result<u64, StoreError> {
        Ok(self.inner.until_changed(known).await)
    }
}

#[async_trait]
impl Fleet for AzureStore {
    fn sharing(&self) -> Option<Sharing> {
        let options = &self.inner.options;
        Some(Sharing { lease: options.lease, visibility: options.visibility })
    }

    async fn heartbeat(&self, member: &Member) -> Result<bool, StoreError> {
        let member = member.clone();
        self.run(move |inner| async move { fleet::heartbeat(&inner, &member).await }).await
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.run(|inner| async move { fleet::members(&inner).await }).await
    }

    async fn claim(&self, worker: WorkerId, _partition: PartitionId) -> Result<(), StoreError> {
        self.inner.set_worker(worker);
        Ok(())
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.run(move |inner| async move { fleet::leave(&inner, worker).await }).await
    }

    async fn offer(&self, work: Vec<StartAttempt>) -> Result<(), StoreError> {
        self.run(move |inner| async move { work::offer(&inner, work).await }).await
    }

    async fn take(
        &self,
        _worker: WorkerId,
        limit: usize,
        visibility: Duration,
    ) -> Result<Vec<TakenWork>, StoreError> {
        self.run(move |inner| async move { work::take(&inner, limit, visibility).await }).await
    }

    async fn renew(&self, work: &TakenWork, visibility: Duration) -> Result<Renewal, StoreError> {
        let work = work.clone();
        self.run(move |inner| async move { work::renew(&inner, &work, visibility).await }).await
    }

    async fn give_back(&self, work: Vec<TakenWork>, pause: Duration) -> Result<(), StoreError> {
        self.run(move |inner| async move { work::give_back(&inner, &work, pause).await }).await
    }

    async fn finish(&self, work: &TakenWork, result: WorkResult) -> Result<bool, StoreError> {
        let work = work.clone();
        self.run(move |inner| async move { work::finish(&inner, &work, result).await }).await
    }

    async fn withdraw(&self, attempts: Vec<AttemptKey>) -> Result<(), StoreError> {
        self.run(move |inner| async move { work::withdraw(&inner, &attempts).await }).await
    }
}
