//! The worker: runs the orchestrations and activities of a hub in this process.

mod builder;
mod driver;
mod executor;
mod fleet;
mod lanes;
mod mailbox;
mod notify;
mod opening;
mod outgoing;
mod serve;
mod shared;
mod start;
mod watchdog;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_machine::model::PartitionId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use builder::{StartError, WorkerBuilder};
pub(crate) use mailbox::Mail;
pub(crate) use notify::Watcher;
use shared::Ended;
pub(crate) use shared::Shared;

use crate::client::Client;
use crate::store::Store;

/// Options of a worker; see the methods of [`WorkerBuilder`].
#[derive(Debug, Clone)]
pub(crate) struct WorkerOptions {
    pub(crate) activities_max: usize,
    pub(crate) blocking_activities_max: usize,
    pub(crate) activity_limits: BTreeMap<String, usize>,
    pub(crate) cache_bytes_max: usize,
    pub(crate) turn_timeout: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) cancel_grace: Duration,
    pub(crate) heartbeat_delay: Duration,
    pub(crate) build: Option<String>,
}

/// A running worker. It serves every partition that it owns until it is shut down or dropped.
///
/// Dropping it stops it at once, like a crash that leaves nothing undone: what was running is taken up by
/// the next worker. [`shutdown`](Self::shutdown) lets activities end first.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[activity]
/// async fn greet(name: String) -> Result<String, ActivityError> {
///     Ok(format!("Hello, {name}!"))
/// }
///
/// #[orchestrator]
/// async fn welcome(ctx: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
///     Ok(ctx.call(greet, &name).await?)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder(MemoryStore::new()).register(welcome).register(greet).start().await?;
/// assert_eq!(worker.partitions().len(), 1);
///
/// let handle = worker.client().start(welcome, "Ada".into()).await?;
/// assert_eq!(handle.output().await?, "Hello, Ada!");
/// worker.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    shared: Arc<Shared>,
    client: Client,
    tasks: Vec<JoinHandle<()>>,
}

/// Why a worker ended by itself.
///
/// ```
/// use durable_core::WorkerFailed;
/// use durable_core::prelude::*;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let worker = Worker::builder(MemoryStore::new()).start().await?;
/// let ended: Result<(), WorkerFailed> = worker.shutdown().await;
/// assert_eq!(ended, Ok(())); // it did not end by itself
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the worker ended: {0}")]
pub struct WorkerFailed(String);

/// A shutdown timeout that is longer than clocks go is this one.
const FAR_AWAY: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

impl Worker {
    /// Puts a worker together.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = Worker::builder(MemoryStore::new())
    ///     .max_concurrent_activities(16)
    ///     .shutdown_timeout(secs(5))
    ///     .start()
    ///     .await?;
    /// assert_eq!(worker.client().hub_name().as_str(), "default");
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(store: impl Store) -> WorkerBuilder {
        WorkerBuilder::new(Arc::new(store))
    }

    /// A client that reaches this worker without a detour. Cheap; outlives the worker as a client only.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The partitions that it serves now: all of them, unless several workers share the hub.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionId> {
        let served = self.shared.present().filter(|opening| opening.is_served());
        served.map(|opening| opening.partition).collect()
    }

    /// Stops: takes no new work, lets running activities end for as long as the worker's shutdown timeout
    /// allows, writes what they caused, and leaves the hub. What has not ended by then is taken up by the
    /// next worker.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> { ctx.sleep(millis(1)).await; Ok(()) }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = MemoryStore::new();
    /// let worker = Worker::builder(store.clone()).register(nap).start().await?;
    /// let client = worker.client();
    /// let handle = client.start(nap, ()).id("nap-1").await?;
    /// worker.shutdown().await?;
    ///
    /// // The next one takes up what was left.
    /// let worker = Worker::builder(store).register(nap).start().await?;
    /// worker.client().instance_of(nap, "nap-1")?.output().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`WorkerFailed`] where the worker had ended by itself before.
    pub async fn shutdown(self) -> Result<(), WorkerFailed> {
        let now = Instant::now();
        let end = now.checked_add(self.shared.options.shutdown_timeout).unwrap_or(now + FAR_AWAY);
        self.shared.stop(end);
        wait_for_end(&self.shared, self.shared.ended()).await
    }

    /// Returns when the worker has ended: never, unless something happens that no retry helps.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = Worker::builder(MemoryStore::new()).start().await?;
    /// tokio::select! {
    ///     ended = worker.ended() => panic!("{ended:?}"),
    ///     () = async { /* what else this program does */ } => {}
    /// }
    /// worker.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`WorkerFailed`] says what happened.
    pub async fn ended(&self) -> Result<(), WorkerFailed> {
        wait_for_end(&self.shared, self.shared.ended()).await
    }

    /// Runs until Ctrl-C (or SIGTERM), then shuts down. A second Ctrl-C ends at once.
    ///
    /// ```no_run
    /// use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> { ctx.sleep(millis(1)).await; Ok(()) }
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let worker = Worker::builder(MemoryStore::new()).register(nap).start().await?;
    ///     worker.run_until_interrupted().await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`WorkerFailed`] where the worker ended by itself.
    pub async fn run_until_interrupted(self) -> Result<(), WorkerFailed> {
        tokio::select! {
            ended = self.ended() => return ended,
            () = interrupted() => {}
        }
        tracing::info!("interrupted; finishing what runs");
        let shared = self.shared.clone();
        tokio::select! {
            ended = self.shutdown() => ended,
            () = interrupted() => {
                shared.stop(Instant::now());
                Ok(())
            }
        }
    }
}

async fn wait_for_end(
    shared: &Arc<Shared>,
    mut ended: watch::Receiver<Option<Ended>>,
) -> Result<(), WorkerFailed> {
    // A failed worker has ended when its last partition is given up, too.
    let end = ended.wait_for(|end| end.is_some() && shared.all_ended()).await;
    match end.ok().and_then(|end| end.clone()) {
        Some(Ended::Failed(why)) => Err(WorkerFailed(why)),
        Some(Ended::AsTold) | None => Ok(()),
    }
}

#[cfg(unix)]
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        let _ = tokio::signal::ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn interrupted() {
    let _ = tokio::signal::ctrl_c().await;
}

impl Drop for Worker {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.shared.stop(Instant::now());
    }
}
