//! Putting a worker together: everything that is missing or wrong is said before it starts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_machine::partition::HEARTBEAT_DELAY;

use super::{Worker, WorkerOptions, start};
use crate::registry::{Register, Registry, RegistryError};
use crate::store::{Store, StoreError};

/// Why a worker did not start.
///
/// ```
/// use durable_core::StartError;
/// use durable_core::prelude::*;
/// # #[activity]
/// # async fn save(State(db): State<String>) -> Result<(), ActivityError> { Ok(()) }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let refused = Worker::builder(MemoryStore::new()).register(save).start().await;
/// let Err(StartError::Registry(error)) = refused else { panic!("it has no state of type String") };
/// assert!(error.to_string().contains("activity \"save\" has a parameter State<"));
///
/// let refused = Worker::builder(MemoryStore::new()).max_concurrent_activities(0).start().await;
/// assert!(matches!(refused, Err(StartError::Option(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Functions or states are missing or double.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An option has a value that makes no sense.
    #[error("{0}")]
    Option(String),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Not called within a Tokio runtime, or no thread could be started.
    #[error("{0}")]
    Runtime(String),
}

/// Collects what a worker runs and how. Every option has a default.
///
/// ```
/// use durable_core::prelude::*;
/// # #[activity]
/// # async fn greet(State(greeting): State<String>, name: String) -> Result<String, ActivityError> {
/// #     Ok(format!("{greeting}, {name}!"))
/// # }
/// # #[orchestrator]
/// # async fn welcome(ctx: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
/// #     Ok(ctx.call(greet, &name).await?)
/// # }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder(MemoryStore::new())
///     .register(welcome)
///     .register(greet)
///     .state("Hello".to_string())
///     .max_concurrent_activities(64)
///     .max_blocking_activities(4)
///     .activity_limit("greet", 8)
///     .cache_bytes(64 * 1024 * 1024)
///     .turn_timeout(secs(2))
///     .shutdown_timeout(secs(10))
///     .cancel_grace(secs(5))
///     .build("1.4.0")
///     .start()
///     .await?;
/// let handle = worker.client().start(welcome, "Ada".into()).await?;
/// assert_eq!(handle.output().await?, "Hello, Ada!");
/// # Ok(())
/// # }
/// ```
#[must_use = "a worker runs after `start`"]
pub struct WorkerBuilder {
    store: Arc<dyn Store>,
    registry: Registry,
    options: WorkerOptions,
}

impl WorkerBuilder {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            store,
            registry: Registry::new(),
            options: WorkerOptions {
                activities_max: 256,
                blocking_activities_max: 2 * cores,
                activity_limits: BTreeMap::new(),
                cache_bytes_max: 256 * 1024 * 1024,
                turn_timeout: Duration::from_secs(5),
                shutdown_timeout: Duration::from_secs(30),
                cancel_grace: Duration::from_secs(10),
                heartbeat_delay: HEARTBEAT_DELAY,
                build: None,
            },
        }
    }

    /// Adds an orchestrator or activity.
    pub fn register(mut self, function: impl Register) -> Self {
        self.registry.register(function);
        self
    }

    /// Provides a state to the activities that have it as a [`State<T>`](crate::State) parameter.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.registry.state(state);
        self
    }

    /// Takes functions and states that were collected before; they replace those added so far.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// How many async activities run at once; the rest waits in order. Default 256.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// static RUNNING: AtomicU32 = AtomicU32::new(0);
    ///
    /// #[activity]
    /// async fn alone(part: u32) -> Result<bool, ActivityError> {
    ///     let others = RUNNING.fetch_add(1, Ordering::SeqCst);
    ///     tokio::task::yield_now().await;
    ///     RUNNING.fetch_sub(1, Ordering::SeqCst);
    ///     Ok(others == 0)
    /// }
    ///
    /// #[orchestrator]
    /// async fn parts(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     let each = ctx.try_join_all((0..10).map(|part| ctx.call(alone, &part))).await?;
    ///     Ok(each.into_iter().all(|was_alone| was_alone))
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = Worker::builder(MemoryStore::new()).register(parts).register(alone);
    /// let worker = builder.max_concurrent_activities(1).start().await?;
    /// assert!(worker.client().start(parts, ()).await?.output().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_concurrent_activities(mut self, max: usize) -> Self {
        self.options.activities_max = max;
        self
    }

    /// How many blocking activities run at once; the rest waits in order. Default: twice the cores.
    ///
    /// Nobody can take a thread away: an activity that ignores its cancellation keeps its place until it
    /// returns. [`check_cancelled`](crate::ActivityContext::check_cancelled) now and then ends it earlier.
    pub fn max_blocking_activities(mut self, max: usize) -> Self {
        self.options.blocking_activities_max = max;
        self
    }

    /// How many attempts of one activity run at once on this worker, where that is to be fewer than of all
    /// others: for a service that takes no more, say. They have places of their own, beside those of
    /// [`max_concurrent_activities`](Self::max_concurrent_activities), so that neither waits for the other.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn charge(order: u64) -> Result<(), ActivityError> { Ok(()) }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = Worker::builder(MemoryStore::new()).register(charge).activity_limit("charge", 4);
    /// let worker = builder.start().await?;
    /// # worker.shutdown().await?;
    ///
    /// // A name that nobody registers is refused.
    /// let wrong = Worker::builder(MemoryStore::new()).activity_limit("chrage", 4).start().await;
    /// assert!(wrong.err().is_some_and(|error| error.to_string().contains("chrage")));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Workers that share a hub keep their limits each for itself: what waits here may run on another one.
    pub fn activity_limit(mut self, name: impl Into<String>, max: usize) -> Self {
        self.options.activity_limits.insert(name.into(), max);
        self
    }

    /// How many bytes orchestrations may take in memory, over all partitions; beyond it idle ones leave
    /// and are rebuilt from their histories when something arrives. Default 256 MiB.
    pub fn cache_bytes(mut self, max: usize) -> Self {
        self.options.cache_bytes_max = max;
        self
    }

    /// How long one turn of an orchestrator may take before its instance is held. Default 5 s.
    pub fn turn_timeout(mut self, limit: Duration) -> Self {
        self.options.turn_timeout = limit;
        self
    }

    /// How long [`Worker::shutdown`] waits for running activities. Default 30 s.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn download(ctx: ActivityContext) -> Result<(), ActivityError> { ctx.cancelled().await; Ok(()) }
    /// # #[orchestrator]
    /// # async fn fetch(ctx: OrchestrationContext) -> Result<(), OrchestrationError> { Ok(ctx.call(download, &()).await?) }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = Worker::builder(MemoryStore::new()).register(fetch).register(download);
    /// let worker = builder.shutdown_timeout(millis(10)).start().await?;
    /// worker.client().start(fetch, ()).await?;
    /// worker.shutdown().await?; // does not wait for a long download
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.options.shutdown_timeout = limit;
        self
    }

    /// How long an async activity that was cancelled may take to end before it is dropped. Default 10 s.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.options.cancel_grace = grace;
        self
    }

    /// How long what activities report by [`heartbeat`](crate::ActivityContext::heartbeat) may stay in memory before
    /// it is stored: what a process that dies loses of it at most. Default 10 s. While activities report, each
    /// partition makes a commit so often and no more often, for all of them.
    pub fn heartbeat_delay(mut self, delay: Duration) -> Self {
        self.options.heartbeat_delay = delay;
        self
    }

    /// Names the program's build, for people who look at the fleet.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::store::Fleet;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = MemoryStore::new();
    /// let worker = Worker::builder(store.clone()).build("1.4.0").start().await?;
    /// assert_eq!(store.members().await?[0].build.as_deref(), Some("1.4.0"));
    /// # worker.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn build(mut self, build: impl Into<String>) -> Self {
        self.options.build = Some(build.into());
        self
    }

    /// Starts the worker on the present Tokio runtime. When this returns, every partition is served; where
    /// several workers share the hub, every one that is this worker's share and not another one's yet.
    ///
    /// # Errors
    ///
    /// [`StartError`]: what is missing, which option makes no sense, or why the store cannot be used.
    pub async fn start(self) -> Result<Worker, StartError> {
        let Self { store, registry, options } = self;
        check(&options)?;
        let known = |name: &str| registry.activities().any(|known| known == name);
        if let Some(name) = options.activity_limits.keys().find(|name| !known(name)) {
            let what =
                format!("activity_limit of {name:?}: no activity of that name is registered");
            return Err(StartError::Option(what));
        }
        start::start(store, registry, options).await
    }
}

fn check(options: &WorkerOptions) -> Result<(), StartError> {
    let wrong = |what: &str| Err(StartError::Option(what.to_owned()));
    if options.activities_max == 0 {
        return wrong("max_concurrent_activities must be at least 1");
    }
    if options.blocking_activities_max == 0 {
        return wrong("max_blocking_activities must be at least 1");
    }
    if let Some((name, _)) = options.activity_limits.iter().find(|(_, max)| **max == 0) {
        return wrong(&format!("activity_limit of {name:?} must be at least 1"));
    }
    if options.turn_timeout.is_zero() {
        return wrong("turn_timeout must be longer than nothing");
    }
    Ok(())
}
