//! A store that does what another one does, and fails where a test wants it to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use durable_core::machine::model::{
    Acceptance, AttemptKey, Envelope, Fence, InstanceId, PartitionId, Post, StartAttempt,
    StatusRow, Timestamp, WorkerId,
};
use durable_core::machine::store::{
    AcceptOutcome, ArrivalPosition, Arrivals, Commit, HistoryPage, HistoryRow, HistoryToken,
    ListPage, ListQuery, ListToken, Remains, SendOutcome, Snapshot, StoreLimits, StoredInstance,
    TimerPage, WorkResult,
};
use durable_core::store::{
    Fleet, HubInfo, HubStore, Member, PartitionStore, Renewal, Sharing, Store, StoreError,
    TakenWork,
};
use durable_core::{RunNumber, RuntimeStatus};
use tokio::sync::watch;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Refused for a reason that passes at once.
    Busy,
    /// Refused until there is room.
    Full,
    /// Refused for longer than a client waits.
    Throttled,
    /// Not done, and nobody is told so.
    LostBefore,
    /// Done, and nobody is told so.
    LostAfter,
    /// Refused because of a newer owner, who does not exist.
    Fenced,
    /// Done; then the caller's process is as good as dead: no later call does anything.
    Dies,
}

impl Fault {
    fn error(self) -> StoreError {
        match self {
            Self::Busy => StoreError::Busy {
                retry_after: Duration::from_millis(5),
                reason: "the test wants it so".into(),
            },
            Self::Full => StoreError::Busy {
                retry_after: Duration::from_millis(200),
                reason: "disk full (the test's)".into(),
            },
            Self::Throttled => StoreError::Busy {
                retry_after: Duration::from_millis(29_500),
                reason: "throttled (the test's)".into(),
            },
            Self::LostBefore | Self::LostAfter | Self::Dies => {
                StoreError::Unknown("the answer was lost".into())
            }
            Self::Fenced => StoreError::Fenced { newest: Fence(u64::MAX) },
        }
    }
}

type Plan = dyn FnMut(u64, &'static str) -> Option<Fault> + Send;
type LookPlan = dyn FnMut(&'static str) -> Option<Fault> + Send;

/// Decides the fate of every call that reads or writes; shared by the clones of a [`TestStore`].
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    calls: u64,
    injected: u64,
    /// Whether the process that opened the newest store is dead.
    dead: Arc<AtomicBool>,
    plan: Option<Box<Plan>>,
    looks: Option<Box<LookPlan>>,
    abandoned: Vec<PartitionId>,
}

impl Faults {
    /// Asks the plan about each call from now on, by its number (from 1) and the method's name.
    pub(crate) fn plan(
        &self,
        plan: impl FnMut(u64, &'static str) -> Option<Fault> + Send + 'static,
    ) {
        let mut state = self.0.lock().expect("no test panics here");
        state.calls = 0;
        state.plan = Some(Box::new(plan));
    }

    /// Asks this plan about each look of a client from now on, by the method's name. They are not counted.
    pub(crate) fn plan_looks(
        &self,
        plan: impl FnMut(&'static str) -> Option<Fault> + Send + 'static,
    ) {
        self.0.lock().expect("no test panics here").looks = Some(Box::new(plan));
    }

    pub(crate) fn heal(&self) {
        let mut state = self.0.lock().expect("no test panics here");
        (state.plan, state.looks) = (None, None);
    }

    /// Calls since the plan was set.
    pub(crate) fn calls(&self) -> u64 {
        self.0.lock().expect("no test panics here").calls
    }

    /// Faults that were injected.
    pub(crate) fn injected(&self) -> u64 {
        self.0.lock().expect("no test panics here").injected
    }

    /// Partitions that were abandoned, each as often as it was.
    pub(crate) fn abandoned(&self) -> Vec<PartitionId> {
        self.0.lock().expect("no test panics here").abandoned.clone()
    }

    /// Whether the process that opened the newest store is dead.
    pub(crate) fn dead(&self) -> bool {
        self.0.lock().expect("no test panics here").dead.load(Ordering::SeqCst)
    }

    fn look(&self, method: &'static str) -> Option<Fault> {
        let mut state = self.0.lock().expect("no test panics here");
        state.looks.as_mut().and_then(|plan| plan(method))
    }

    fn next(&self, method: &'static str, dead: &AtomicBool) -> Option<Fault> {
        if dead.load(Ordering::SeqCst) {
            return Some(Fault::LostBefore);
        }
        let mut state = self.0.lock().expect("no test panics here");
        state.calls += 1;
        let number = state.calls;
        let fault = state.plan.as_mut().and_then(|plan| plan(number, method));
        state.injected += u64::from(fault.is_some());
        if fault == Some(Fault::Dies) {
            dead.store(true, Ordering::SeqCst);
        }
        fault
    }
}

/// What lies between a worker and the storage. Each [`TestStore`] has its own, its clones share it.
#[derive(Clone)]
pub(crate) struct Link {
    state: Arc<watch::Sender<LinkState>>,
    wedge: Arc<AtomicU8>,
}

/// Whether the next commit is to keep its thread, and whether one does.
const NO_WEDGE: u8 = 0;
const WEDGE_NEXT: u8 = 1;
const WEDGED: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LinkState {
    Up,
    Stuck,
    Cut,
}

impl Link {
    fn new() -> Self {
        Self { state: Arc::new(watch::Sender::new(LinkState::Up)), wedge: Arc::default() }
    }

    /// Calls wait from now on, as if the process were stopped.
    pub(crate) fn stick(&self) {
        self.state.send_replace(LinkState::Stuck);
    }

    /// Calls fail from now on and do nothing, as if the process were dead.
    pub(crate) fn cut(&self) {
        self.state.send_replace(LinkState::Cut);
    }

    /// Calls go through, those that waited too.
    pub(crate) fn mend(&self) {
        self.state.send_replace(LinkState::Up);
    }

    /// The next commit does not give its thread back.
    pub(crate) fn wedge_next_commit(&self) {
        self.wedge.store(WEDGE_NEXT, Ordering::SeqCst);
    }

    pub(crate) fn is_wedged(&self) -> bool {
        self.wedge.load(Ordering::SeqCst) == WEDGED
    }

    pub(crate) fn unwedge(&self) {
        self.wedge.store(NO_WEDGE, Ordering::SeqCst);
    }

    fn wedge(&self) {
        let next =
            self.wedge.compare_exchange(WEDGE_NEXT, WEDGED, Ordering::SeqCst, Ordering::SeqCst);
        while next.is_ok() && self.is_wedged() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    async fn pass(&self) -> Result<(), StoreError> {
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| *state != LinkState::Stuck).await;
        match state.map(|state| *state) {
            Ok(LinkState::Up | LinkState::Stuck) | Err(_) => Ok(()),
            Ok(LinkState::Cut) => Err(StoreError::Unknown("the link is cut".into())),
        }
    }
}

/// A store with [`Faults`]. Without a plan it does what the inner one does.
#[derive(Clone)]
pub(crate) struct TestStore {
    inner: Arc<dyn Store>,
    faults: Faults,
    /// Clones live and die together.
    dead: Arc<AtomicBool>,
    link: Link,
}

impl TestStore {
    /// A store of a process that has just begun.
    pub(crate) fn new(inner: Arc<dyn Store>, faults: Faults) -> Self {
        let dead = Arc::new(AtomicBool::new(false));
        faults.0.lock().expect("no test panics here").dead = dead.clone();
        Self { inner, faults, dead, link: Link::new() }
    }

    pub(crate) fn link(&self) -> Link {
        self.link.clone()
    }

    /// A call without faults.
    async fn plain<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.link.pass().await?;
        call.await
    }

    /// A call by which a client looks at something.
    async fn look<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.link.pass().await?;
        match self.faults.look(method) {
            None => call.await,
            Some(fault) => Err(fault.error()),
        }
    }

    async fn call<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.link.pass().await?;
        match self.faults.next(method, &self.dead) {
            None => call.await,
            Some(
                fault @ (Fault::Busy
                | Fault::Full
                | Fault::Throttled
                | Fault::LostBefore
                | Fault::Fenced),
            ) => Err(fault.error()),
            Some(fault @ (Fault::LostAfter | Fault::Dies)) => {
                call.await?;
                Err(fault.error())
            }
        }
    }
}

#[async_trait]
impl PartitionStore for TestStore {
    fn limits(&self) -> StoreLimits {
        self.inner.limits()
    }

    async fn open(&self, partition: PartitionId) -> Result<Snapshot, StoreError> {
        self.call("open", self.inner.open(partition)).await
    }

    async fn release(&self, partition: PartitionId, fence: Fence) -> Result<(), StoreError> {
        self.call("release", self.inner.release(partition, fence)).await
    }

    fn abandon(&self, partition: PartitionId, fence: Fence) {
        self.faults.0.lock().expect("no test panics here").abandoned.push(partition);
        self.inner.abandon(partition, fence);
    }

    async fn load(&self, instance: &InstanceId) -> Result<Option<StoredInstance>, StoreError> {
        self.call("load", self.inner.load(instance)).await
    }

    async fn timers(
        &self,
        partition: PartitionId,
        after: Option<(Timestamp, InstanceId)>,
        limit: usize,
    ) -> Result<TimerPage, StoreError> {
        self.call("timers", self.inner.timers(partition, after, limit)).await
    }

    async fn arrivals(
        &self,
        partition: PartitionId,
        after: ArrivalPosition,
        limit: usize,
    ) -> Result<Arrivals, StoreError> {
        self.call("arrivals", self.inner.arrivals(partition, after, limit)).await
    }

    async fn post(&self, to: PartitionId, posts: Vec<Post>) -> Result<(), StoreError> {
        self.call("post", self.inner.post(to, posts)).await
    }

    async fn commit(&self, fence: Fence, commit: Arc<Commit>) -> Result<(), StoreError> {
        self.link.wedge();
        self.call("commit", self.inner.commit(fence, commit)).await
    }
}

#[async_trait]
impl HubStore for TestStore {
    fn hub(&self) -> HubInfo {
        self.inner.hub()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    async fn accept(&self, acceptance: &Acceptance) -> Result<AcceptOutcome, StoreError> {
        self.call("accept", self.inner.accept(acceptance)).await
    }

    async fn send(&self, envelope: &Envelope) -> Result<SendOutcome, StoreError> {
        self.call("send", self.inner.send(envelope)).await
    }

    async fn status(&self, instance: &InstanceId) -> Result<Option<StatusRow>, StoreError> {
        self.look("status", self.inner.status(instance)).await
    }

    async fn list(
        &self,
        query: &ListQuery,
        after: Option<ListToken>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        self.look("list", self.inner.list(query, after, limit)).await
    }

    async fn remains(&self, runs: &[(InstanceId, RunNumber)]) -> Result<Vec<Remains>, StoreError> {
        self.look("remains", self.inner.remains(runs)).await
    }

    async fn counts(&self) -> Result<BTreeMap<RuntimeStatus, u64>, StoreError> {
        self.look("counts", self.inner.counts()).await
    }

    async fn history(&self, instance: &InstanceId) -> Result<Option<Vec<HistoryRow>>, StoreError> {
        self.look("history", self.inner.history(instance)).await
    }

    async fn history_page(
        &self,
        instance: &InstanceId,
        after: Option<HistoryToken>,
        limit: usize,
    ) -> Result<Option<HistoryPage>, StoreError> {
        self.look("history_page", self.inner.history_page(instance, after, limit)).await
    }

    async fn changed(&self, known: Option<u64>) -> Result<u64, StoreError> {
        self.plain(self.inner.changed(known)).await
    }
}

#[async_trait]
impl Fleet for TestStore {
    fn sharing(&self) -> Option<Sharing> {
        self.inner.sharing()
    }

    async fn heartbeat(&self, member: &Member) -> Result<bool, StoreError> {
        self.call("heartbeat", self.inner.heartbeat(member)).await
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.plain(self.inner.members()).await
    }

    async fn claim(&self, worker: WorkerId, partition: PartitionId) -> Result<(), StoreError> {
        self.call("claim", self.inner.claim(worker, partition)).await
    }

    /// Never fails: the lock of a process dies with it.
    async fn leave(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.plain(self.inner.leave(worker)).await
    }

    async fn offer(&self, work: Vec<StartAttempt>) -> Result<(), StoreError> {
        self.call("offer", self.inner.offer(work)).await
    }

    async fn take(
        &self,
        worker: WorkerId,
        limit: usize,
        visibility: Duration,
    ) -> Result<Vec<TakenWork>, StoreError> {
        self.call("take", self.inner.take(worker, limit, visibility)).await
    }

    async fn renew(&self, work: &TakenWork, visibility: Duration) -> Result<Renewal, StoreError> {
        self.call("renew", self.inner.renew(work, visibility)).await
    }

    async fn give_back(&self, work: Vec<TakenWork>, pause: Duration) -> Result<(), StoreError> {
        self.call("give_back", self.inner.give_back(work, pause)).await
    }

    async fn finish(&self, work: &TakenWork, result: WorkResult) -> Result<bool, StoreError> {
        self.call("finish", self.inner.finish(work, result)).await
    }

    async fn withdraw(&self, attempts: Vec<AttemptKey>) -> Result<(), StoreError> {
        self.call("withdraw", self.inner.withdraw(attempts)).await
    }
}
