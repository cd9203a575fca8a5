//! The client: starts instances, looks at them, and commands them, in the worker's process or another.

mod changes;
mod error;
mod export;
mod handle;
mod list;
mod purge;
mod raise;
mod restart;
mod start;
mod status;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use durable_machine::codec;
use durable_machine::model::{
    Envelope, HubName, InstanceId, Payload, RunNumber, RuntimeStatus, limits,
};
use durable_machine::partition::Answer;
use durable_machine::store::{ListQuery, ListToken, SendOutcome};
use serde::Serialize;

pub use error::ClientError;
pub use export::HistoryFile;
pub use handle::Handle;
pub use list::{InstancePage, Instances};
pub use purge::{Purge, Purged};
pub use raise::RaiseEvent;
pub use restart::Restart;
pub use start::Start;
pub use status::{History, InstanceStatus};

use crate::ids::IntoInstanceId;
use crate::orchestration::Orchestrator;
use crate::store::{Store, StoreError};
use crate::worker::{Mail, Shared, Watcher};

/// How long a client call waits for a busy store before it gives the error to its caller.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// How long the orchestrators of live workers are taken for known: asking costs a call of the store.
const REGISTERED_FOR: Duration = Duration::from_secs(10);

/// When to try again what a worker refused because its store cannot write.
const BUSY_AGAIN: Duration = Duration::from_secs(1);

/// When a store was asked for the orchestrators of live workers, and which they were.
type Registered = Option<(Instant, Vec<String>)>;

/// Speaks to a task hub. Cheap to clone.
///
/// [`Worker::client`](crate::Worker::client) gives one that reaches the worker of its own process without
/// a detour; [`Client::new`] gives one for a process that only looks and commands.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn greet(_: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
///     Ok(format!("Hello, {name}!"))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder(MemoryStore::new()).register(greet).start().await?;
/// let client = worker.client();
///
/// let handle = client.start(greet, "Ada".into()).id("greeting-1").await?;
/// assert_eq!(handle.output().await?, "Hello, Ada!");
///
/// let status = client.status("greeting-1").await?.expect("it was started");
/// assert_eq!(status.runtime_status(), RuntimeStatus::Completed);
/// assert_eq!(client.counts().await?[&RuntimeStatus::Completed], 1);
/// assert_eq!(client.hub_name().as_str(), "default");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    store: Arc<dyn Store>,
    worker: Option<Weak<Shared>>,
    /// Orchestrators that some live worker registered when the store was asked last, and when that was.
    registered: Arc<Mutex<Registered>>,
}

impl Client {
    /// A client without a worker: what it starts runs where the hub's worker is, now or later.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn greet(_: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
    /// #     Ok(format!("Hello, {name}!"))
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = MemoryStore::new();
    /// let handle = Client::new(store.clone()).start(greet, "Ada".into()).await?;
    /// assert_eq!(handle.status().await?.runtime_status(), RuntimeStatus::Pending);
    ///
    /// // Later, perhaps in another process:
    /// let worker = Worker::builder(store).register(greet).start().await?;
    /// assert_eq!(handle.output().await?, "Hello, Ada!");
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(store: impl Store) -> Self {
        Self { store: Arc::new(store), worker: None, registered: Arc::default() }
    }

    pub(crate) fn of_worker(shared: &Arc<Shared>) -> Self {
        Self {
            store: shared.store.clone(),
            worker: Some(Arc::downgrade(shared)),
            registered: Arc::default(),
        }
    }

    /// Starts an instance of an orchestrator. Once the returned value is awaited, the start is durable.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> {
    ///     Ok(2 * number)
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
    /// # let client = worker.client();
    /// // Input and output have the types of the function.
    /// let handle: Handle<u32> = client.start(double, 21).await?;
    /// assert_eq!(handle.output().await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start<O: Orchestrator>(&self, _orchestrator: O, input: O::Input) -> Start<O::Output> {
        Start::new(self.clone(), O::NAME.into(), payload(&input, "input"))
    }

    /// Starts an instance of the orchestrator registered under a name.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
    /// # let client = worker.client();
    /// let handle = client.start_by_name("double", &21).await?;
    /// assert_eq!(handle.output().await?.to::<u32>()?, 42);
    ///
    /// let unknown = client.start_by_name("treble", &21).await;
    /// assert!(matches!(unknown, Err(ClientError::UnknownOrchestrator { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_by_name<I: Serialize + ?Sized>(
        &self,
        name: impl Into<Arc<str>>,
        input: &I,
    ) -> Start<Payload> {
        Start::new(self.clone(), name.into(), payload(input, "input"))
    }

    /// A handle to an instance, whether it exists or not.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// let order = client.instance("order-7")?;
    /// assert!(matches!(order.status().await, Err(ClientError::NotFound(_))));
    ///
    /// assert!(matches!(client.instance("orders/7"), Err(ClientError::InvalidId(_))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::InvalidId`] where no instance can have that id.
    pub fn instance(&self, id: impl IntoInstanceId) -> Result<Handle<Payload>, ClientError> {
        Ok(Handle::new(self.clone(), id.into_instance_id()?, None, None))
    }

    /// A typed handle to an instance of an orchestrator, whether it exists or not.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
    /// # let client = worker.client();
    /// client.start(double, 21).id("d-1").await?;
    /// // Somewhere else, where only the id is known:
    /// let result: u32 = client.instance_of(double, "d-1")?.output().await?;
    /// assert_eq!(result, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::InvalidId`] where no instance can have that id.
    pub fn instance_of<O: Orchestrator>(
        &self,
        _orchestrator: O,
        id: impl IntoInstanceId,
    ) -> Result<Handle<O::Output>, ClientError> {
        Ok(Handle::new(self.clone(), id.into_instance_id()?, None, None))
    }

    /// The status of an instance; `None` where no instance has the id.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
    /// # let client = worker.client();
    /// client.start(double, 21).id("d-1").await?.wait().await?;
    /// assert_eq!(client.status("d-1").await?.unwrap().output::<u32>()?, Some(42));
    /// assert!(client.status("d-2").await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::InvalidId`] where no instance can have that id, or the store's error.
    pub async fn status(
        &self,
        id: impl IntoInstanceId,
    ) -> Result<Option<InstanceStatus>, ClientError> {
        let id = id.into_instance_id()?;
        Ok(retry_busy(|| self.store.status(&id)).await?.map(InstanceStatus::new))
    }

    /// Looks for instances, newest start first: by state, time, id, name, tags.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// use futures::TryStreamExt;
    ///
    /// #[orchestrator]
    /// async fn pay(_: OrchestrationContext, cents: u32) -> Result<(), OrchestrationError> {
    ///     Err(OrchestrationError::new("CardDeclined", format!("{cents} are over the limit")))
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(pay).start().await?;
    /// # let client = worker.client();
    /// client.start(pay, 700).tag("region", "eu").await?.wait().await?;
    ///
    /// let failed = client.instances().status(RuntimeStatus::Failed).tag("region", "eu");
    /// let mut found = failed.stream();
    /// while let Some(status) = found.try_next().await? {
    ///     assert_eq!(status.failure().unwrap().kind, "CardDeclined");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn instances(&self) -> Instances {
        Instances::new(self.clone())
    }

    /// One page of instances, newest start first. Pass the page's `next` to get the one behind it.
    /// [`instances`](Self::instances) puts the query together.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// let day = client.start_by_name("report", &7).id("report-7").await?;
    /// let active = client.instances().active().id_prefix("report-");
    /// let page = client.list(active.query(), None, 10).await?;
    /// assert_eq!((page.instances[0].id(), page.next), (day.id(), None));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The store's error.
    pub async fn list(
        &self,
        query: &ListQuery,
        after: Option<ListToken>,
        limit: usize,
    ) -> Result<InstancePage, ClientError> {
        let page = retry_busy(|| self.store.list(query, after, limit.max(1))).await?;
        let instances = page.rows.into_iter().map(InstanceStatus::new).collect();
        Ok(InstancePage { instances, next: page.next })
    }

    /// How many instances are in each status; statuses that none has are left out.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = Client::new(MemoryStore::new());
    /// for order in 1..=3 {
    ///     client.start_by_name("order", &order).await?;
    /// }
    /// let counts = client.counts().await?;
    /// assert_eq!(counts.get(&RuntimeStatus::Pending), Some(&3)); // no worker is there
    /// assert_eq!(counts.get(&RuntimeStatus::Failed), None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The store's error.
    pub async fn counts(&self) -> Result<BTreeMap<RuntimeStatus, u64>, ClientError> {
        Ok(retry_busy(|| self.store.counts()).await?)
    }

    /// The history of an instance's current execution; `None` where no instance has the id.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(double).start().await?;
    /// # let client = worker.client();
    /// client.start(double, 21).id("d-1").await?.wait().await?;
    /// let history = client.history("d-1").await?.expect("it was started");
    /// assert_eq!(history.events().len(), 2); // it began, and it ended
    /// assert!(client.history("d-2").await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::InvalidId`] where no instance can have that id, or the store's error; a history that
    /// cannot be read is [`StoreError::Corrupt`].
    pub async fn history(&self, id: impl IntoInstanceId) -> Result<Option<History>, ClientError> {
        let id = id.into_instance_id()?;
        let Some(rows) = retry_busy(|| self.store.history(&id)).await? else { return Ok(None) };
        let events = codec::decode_history(&rows).map_err(|source| StoreError::Corrupt {
            key: format!("the history of {id:?}"),
            source,
        })?;
        Ok(Some(History { events }))
    }

    /// The name of the hub.
    #[must_use]
    pub fn hub_name(&self) -> HubName {
        self.store.hub().name
    }

    /// Whether the worker of this client serves all that it should; `None` where there is none.
    #[cfg(feature = "http")]
    pub(crate) fn worker_serves(&self) -> Option<bool> {
        let worker = self.worker.as_ref()?;
        Some(worker.upgrade().is_some_and(|shared| shared.is_serving() && shared.serves_all()))
    }

    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn worker(&self) -> Option<Arc<Shared>> {
        self.worker.as_ref()?.upgrade().filter(|shared| shared.is_serving())
    }

    /// The worker, where it takes mail for this instance: elsewhere the way leads through the store.
    fn worker_of(&self, instance: &InstanceId) -> Option<Arc<Shared>> {
        self.worker().filter(|worker| worker.takes(instance))
    }

    fn watcher(&self, instance: &InstanceId) -> Option<Watcher> {
        self.worker()?.watch(instance)
    }

    /// Refuses a start that no live worker could run.
    async fn check_name(&self, name: &str) -> Result<(), ClientError> {
        let mut known: Vec<String> = Vec::new();
        let worker = self.worker();
        if let Some(worker) = &worker {
            let here = &worker.functions.orchestrators;
            if here.contains_key(name) {
                return Ok(());
            }
            known.extend(here.keys().cloned());
        }
        if worker.is_none_or(|worker| worker.shares_the_hub()) {
            if self.was_registered(name) {
                return Ok(());
            }
            let members = retry_busy(|| self.store.members()).await?;
            if members.is_empty() {
                return Ok(());
            }
            let theirs: Vec<_> =
                members.into_iter().flat_map(|member| member.orchestrators).collect();
            known.extend(theirs.iter().cloned());
            *self.registered.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((Instant::now(), theirs));
        }
        if known.iter().any(|known| known == name) {
            return Ok(());
        }
        known.sort_unstable();
        known.dedup();
        Err(ClientError::UnknownOrchestrator { name: name.to_owned(), known })
    }

    /// Whether a live worker had an orchestrator of that name a moment ago. Only that it had is remembered:
    /// one that is missing is looked for again.
    fn was_registered(&self, name: &str) -> bool {
        let registered = self.registered.lock().unwrap_or_else(PoisonError::into_inner);
        registered.as_ref().is_some_and(|(since, names)| {
            since.elapsed() < REGISTERED_FOR && names.iter().any(|known| known == name)
        })
    }

    async fn command(&self, envelope: Envelope, remember: bool) -> Result<(), ClientError> {
        let (instance, run) = (envelope.instance.clone(), envelope.run);
        let mut envelope = Box::new(envelope);
        if let Some(worker) = self.worker_of(&instance) {
            let told = worker.ask(&instance, |ticket| Mail::Command { envelope, remember, ticket });
            envelope = match told.await.map_err(|_| ClientError::Unanswered)? {
                Ok(Answer::Accepted) => return Ok(()),
                Ok(Answer::NotFound) => {
                    self.check_run(&instance, run).await?;
                    return Err(ClientError::NotFound(instance));
                }
                Ok(answer) => return Err(refusal(&instance, answer)),
                Err(Mail::Command { envelope, .. }) if worker.shares_the_hub() => envelope,
                Err(_) => return Err(ClientError::Unanswered),
            };
        }
        self.check_run(&instance, run).await?;
        match retry_busy(|| self.store.send(&envelope)).await? {
            SendOutcome::Sent => Ok(()),
            SendOutcome::NotFound => Err(ClientError::NotFound(instance)),
            SendOutcome::Ended(row) => Err(ClientError::Ended { instance, status: row.status }),
        }
    }
}

impl Client {
    /// Says so where the run that is meant has given way to a later one.
    async fn check_run(
        &self,
        instance: &InstanceId,
        meant: Option<RunNumber>,
    ) -> Result<(), ClientError> {
        let Some(meant) = meant else { return Ok(()) };
        match self.status(instance).await? {
            Some(status) if status.run() > meant => Err(ClientError::Replaced(instance.clone())),
            Some(_) | None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("hub", &self.store.hub())
            .field("with_worker", &self.worker().is_some())
            .finish()
    }
}

fn refusal(instance: &InstanceId, answer: Answer) -> ClientError {
    let instance = instance.clone();
    match answer {
        Answer::NotFound => ClientError::NotFound(instance),
        Answer::Finished(status) => ClientError::Ended { instance, status },
        Answer::Unfinished(status) => ClientError::NotEnded { instance, status },
        Answer::Full => ClientError::TooManyEvents(instance),
        Answer::Overloaded => ClientError::Overloaded,
        Answer::Unavailable(reason) => {
            ClientError::Store(StoreError::Busy { retry_after: BUSY_AGAIN, reason })
        }
        Answer::Refused(why) => ClientError::Refused(why),
        Answer::Started(_) | Answer::Accepted => {
            ClientError::Refused("the worker gave an answer to another question".into())
        }
    }
}

/// Writes a value of the caller's, within the payload limit.
fn payload<T: Serialize + ?Sized>(value: &T, what: &str) -> Result<Payload, ClientError> {
    let payload = Payload::of(value)
        .map_err(|error| ClientError::Payload(format!("the {what} cannot be written: {error}")))?;
    if payload.bytes() > limits::PAYLOAD_BYTES_MAX {
        return Err(ClientError::Payload(format!(
            "the {what} is larger than {} MiB; store the data elsewhere and pass a reference",
            limits::PAYLOAD_BYTES_MAX / (1024 * 1024)
        )));
    }
    Ok(payload)
}

/// Repeats a call while the store is busy, for a while.
async fn retry_busy<T, F, Fut>(mut call: F) -> Result<T, StoreError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, StoreError>>,
{
    let since = tokio::time::Instant::now();
    loop {
        match call().await {
            Err(StoreError::Busy { retry_after, .. })
                if since.elapsed() + retry_after < BUSY_MAX =>
            {
                tokio::time::sleep(retry_after).await;
            }
            result => return result,
        }
    }
}
