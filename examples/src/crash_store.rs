//! A store that ends the process at a chosen write: to see, and to test, that nothing is lost or done twice.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use durable_core::machine::model::{
    Acceptance, AttemptKey, Envelope, Fence, PartitionId, Post, StartAttempt, StatusRow, Timestamp,
    WorkerId,
};
use durable_core::machine::store::{
    AcceptOutcome, ArrivalPosition, Arrivals, Commit, HistoryPage, HistoryRow, HistoryToken,
    ListPage, Remains, SendOutcome, Snapshot, StoreLimits, StoredInstance, TimerPage, WorkResult,
};
use durable_core::store::{
    Fleet, HubInfo, HubStore, Member, PartitionStore, Renewal, Sharing, Store, TakenWork,
};
use durable_core::{InstanceId, ListQuery, ListToken, RunNumber, RuntimeStatus, StoreError};

/// Passes every call on to another store, and counts those that write. At the chosen one the process ends
/// by [`std::process::abort`], which runs no destructor and flushes no buffer, like a `SIGKILL`.
pub struct CrashStore {
    store: Arc<dyn Store>,
    crash: Option<(u64, Side)>,
    writes: AtomicU64,
}

/// On which side of a write the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before it took effect.
    Before,
    /// When it is durable and nobody has learned of it.
    After,
}

impl CrashStore {
    /// Ends the process at that write, counted from 1; `None` never does.
    pub fn new(store: Arc<dyn Store>, crash: Option<(u64, Side)>) -> Self {
        Self { store, crash, writes: AtomicU64::new(0) }
    }

    async fn write<T>(
        &self,
        what: impl fmt::Display + Send,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed) + 1;
        self.crash_at(number, Side::Before, &what);
        let result = work.await;
        self.crash_at(number, Side::After, &what);
        result
    }

    #[allow(clippy::print_stderr, reason = "nothing can be said after it")]
    fn crash_at(&self, number: u64, side: Side, what: &impl fmt::Display) {
        if self.crash == Some((number, side)) {
            let side = if side == Side::Before { "before" } else { "after" };
            eprintln!("crashing on purpose {side} write {number} ({what})");
            std::process::abort();
        }
    }
}

#[async_trait]
impl PartitionStore for CrashStore {
    fn limits(&self) -> StoreLimits {
        self.store.limits()
    }

    async fn open(&self, partition: PartitionId) -> Result<Snapshot, StoreError> {
        self.write("opening", self.store.open(partition)).await
    }

    async fn release(&self, partition: PartitionId, fence: Fence) -> Result<(), StoreError> {
        self.write("giving back", self.store.release(partition, fence)).await
    }

    fn abandon(&self, partition: PartitionId, fence: Fence) {
        self.store.abandon(partition, fence);
    }

    async fn load(&self, instance: &InstanceId) -> Result<Option<StoredInstance>, StoreError> {
        self.store.load(instance).await
    }

    async fn timers(
        &self,
        partition: PartitionId,
        after: Option<(Timestamp, InstanceId)>,
        limit: usize,
    ) -> Result<TimerPage, StoreError> {
        self.store.timers(partition, after, limit).await
    }

    async fn arrivals(
        &self,
        partition: PartitionId,
        after: ArrivalPosition,
        limit: usize,
    ) -> Result<Arrivals, StoreError> {
        self.store.arrivals(partition, after, limit).await
    }

    async fn post(&self, to: PartitionId, posts: Vec<Post>) -> Result<(), StoreError> {
        self.write("post", self.store.post(to, posts)).await
    }

    async fn commit(&self, fence: Fence, commit: Arc<Commit>) -> Result<(), StoreError> {
        let what = format!("commit {}", commit.number);
        self.write(what, self.store.commit(fence, commit)).await
    }
}

#[async_trait]
impl HubStore for CrashStore {
    fn hub(&self) -> HubInfo {
        self.store.hub()
    }

    fn now(&self) -> Timestamp {
        self.store.now()
    }

    async fn accept(&self, acceptance: &Acceptance) -> Result<AcceptOutcome, StoreError> {
        self.write("acceptance", self.store.accept(acceptance)).await
    }

    async fn send(&self, envelope: &Envelope) -> Result<SendOutcome, StoreError> {
        self.write("command", self.store.send(envelope)).await
    }

    async fn status(&self, instance: &InstanceId) -> Result<Option<StatusRow>, StoreError> {
        self.store.status(instance).await
    }

    async fn list(
        &self,
        query: &ListQuery,
        after: Option<ListToken>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        self.store.list(query, after, limit).await
    }

    async fn remains(&self, runs: &[(InstanceId, RunNumber)]) -> Result<Vec<Remains>, StoreError> {
        self.store.remains(runs).await
    }

    async fn counts(&self) -> Result<BTreeMap<RuntimeStatus, u64>, StoreError> {
        self.store.counts().await
    }

    async fn history(&self, instance: &InstanceId) -> Result<Option<Vec<HistoryRow>>, StoreError> {
        self.store.history(instance).await
    }

    async fn history_page(
        &self,
        instance: &InstanceId,
        after: Option<HistoryToken>,
        limit: usize,
    ) -> Result<Option<HistoryPage>, StoreError> {
        self.store.history_page(instance, after, limit).await
    }

    async fn changed(&self, known: Option<u64>) -> Result<u64, StoreError> {
        self.store.changed(known).await
    }
}

#[async_trait]
impl Fleet for CrashStore {
    fn sharing(&self) -> Option<Sharing> {
        self.store.sharing()
    }

    async fn heartbeat(&self, member: &Member) -> Result<bool, StoreError> {
        self.write("heartbeat", self.store.heartbeat(member)).await
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.store.members().await
    }

    async fn claim(&self, worker: WorkerId, partition: PartitionId) -> Result<(), StoreError> {
        self.write("claim", self.store.claim(worker, partition)).await
    }

    async fn leave(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.write("leaving", self.store.leave(worker)).await
    }

    async fn offer(&self, work: Vec<StartAttempt>) -> Result<(), StoreError> {
        self.write("offer", self.store.offer(work)).await
    }

    async fn take(
        &self,
        worker: WorkerId,
        limit: usize,
        visibility: Duration,
    ) -> Result<Vec<TakenWork>, StoreError> {
        self.store.take(worker, limit, visibility).await
    }

    async fn renew(&self, work: &TakenWork, visibility: Duration) -> Result<Renewal, StoreError> {
        self.write("renewal", self.store.renew(work, visibility)).await
    }

    async fn give_back(&self, work: Vec<TakenWork>, pause: Duration) -> Result<(), StoreError> {
        self.write("giving back offers", self.store.give_back(work, pause)).await
    }

    async fn finish(&self, work: &TakenWork, result: WorkResult) -> Result<bool, StoreError> {
        self.write("finish", self.store.finish(work, result)).await
    }

    async fn withdraw(&self, attempts: Vec<AttemptKey>) -> Result<(), StoreError> {
        self.write("withdrawal", self.store.withdraw(attempts)).await
    }
}
