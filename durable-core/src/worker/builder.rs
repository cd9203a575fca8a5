//! Putting a worker together: everything that is missing or wrong is said before it starts.

use std::sync::Arc;
use std::time::Duration;

use durable_machine::model::{PartitionId, WorkerId};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::executor::Executor;
use super::mailbox::Mail;
use super::shared::Shared;
use super::{Worker, WorkerOptions, serve};
use crate::client::Client;
use crate::registry::{Register, Registry, RegistryError};
use crate::store::{Member, Store, StoreError};

/// How often a worker says that it lives. Others judge by several of these.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long a worker waits for one of its own process that is ending, and how often it looks.
const LEAVING_MAX: Duration = Duration::from_secs(1);
const LEAVING_PAUSE: Duration = Duration::from_millis(5);

/// However quiet it is, arrivals are read this often: a wake-up may have been lost.
const LOOK_ANYWAY: Duration = Duration::from_secs(300);

/// Wait after a store could not say whether something arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Why a worker did not start.
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
                cache_bytes_max: 256 * 1024 * 1024,
                turn_timeout: Duration::from_secs(5),
                shutdown_timeout: Duration::from_secs(30),
                cancel_grace: Duration::from_secs(10),
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
    pub fn max_concurrent_activities(mut self, max: usize) -> Self {
        self.options.activities_max = max;
        self
    }

    /// How many blocking activities run at once. Default: twice the cores.
    pub fn max_blocking_activities(mut self, max: usize) -> Self {
        self.options.blocking_activities_max = max;
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
    pub fn shutdown_timeout(mut self, limit: Duration) -> Self {
        self.options.shutdown_timeout = limit;
        self
    }

    /// How long an async activity that was cancelled may take to end before it is dropped. Default 10 s.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.options.cancel_grace = grace;
        self
    }

    /// Names the program's build, for people who look at the fleet.
    pub fn build(mut self, build: impl Into<String>) -> Self {
        self.options.build = Some(build.into());
        self
    }

    /// Starts the worker on the present Tokio runtime. When this returns, every partition is served.
    ///
    /// # Errors
    ///
    /// [`StartError`]: what is missing, which option makes no sense, or why the store cannot be used.
    pub async fn start(self) -> Result<Worker, StartError> {
        let Self { store, registry, options } = self;
        check(&options)?;
        let orchestrators: Vec<String> = registry.orchestrators().map(str::to_owned).collect();
        let functions = Arc::new(registry.into_functions()?);
        let runtime = Handle::try_current()
            .map_err(|_| StartError::Runtime("a worker starts within a Tokio runtime".into()))?;
        let worker = WorkerId(Uuid::new_v4());
        let partitions = store.hub().partitions;
        let mut member = Member {
            worker,
            beat: 0,
            pid: std::process::id(),
            host: host_name(),
            orchestrators,
            build: options.build.clone(),
            boot: boot_id(),
            owns: (0..partitions).map(PartitionId).collect(),
        };
        if let Err(error) = join(&*store, &member, partitions).await {
            // What was claimed before must not stay claimed.
            let _ = store.leave(worker).await;
            return Err(error.into());
        }
        let executor = Arc::new(Executor::new(
            runtime.clone(),
            functions.clone(),
            options.activities_max,
            options.blocking_activities_max,
            options.cancel_grace,
        ));
        let shared = Arc::new(Shared::new(
            worker,
            store.clone(),
            runtime,
            executor,
            functions,
            options,
            partitions,
        ));
        let client = Client::of_worker(&shared);
        let mut running = Worker { shared: shared.clone(), client, tasks: Vec::new() };
        let (ready, mut served) = mpsc::unbounded_channel();
        for partition in 0..partitions {
            serve::spawn(&shared, PartitionId(partition), Vec::new(), Some(ready.clone()))
                .map_err(no_thread)?;
        }
        drop(ready);
        while let Some(opened) = served.recv().await {
            opened?;
        }
        let watched = shared.clone();
        std::thread::Builder::new()
            .name("durable-watchdog".into())
            .spawn(move || serve::watch_turns(&watched))
            .map_err(no_thread)?;
        running.tasks.push(tokio::spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                member.beat += 1;
                if let Err(error) = store.heartbeat(&member).await {
                    tracing::warn!(%error, "the heartbeat could not be written");
                }
            }
        }));
        running.tasks.push(tokio::spawn(watch_arrivals(shared)));
        Ok(running)
    }
}

/// Claims every partition and says that the worker lives.
async fn join(store: &dyn Store, member: &Member, partitions: u16) -> Result<(), StoreError> {
    let since = tokio::time::Instant::now();
    for partition in 0..partitions {
        while let Err(error) = store.claim(member.worker, PartitionId(partition)).await {
            // A worker of this process that was dropped leaves on threads of its own.
            let ours = matches!(error, StoreError::HubInUse { pid } if pid == Some(member.pid));
            if !ours || since.elapsed() > LEAVING_MAX {
                return Err(error);
            }
            tokio::time::sleep(LEAVING_PAUSE).await;
        }
    }
    store.heartbeat(member).await.map(|_| ())
}

/// Tells the loops when another process wrote to the hub.
async fn watch_arrivals(shared: Arc<Shared>) {
    let mut known = None;
    loop {
        match tokio::time::timeout(LOOK_ANYWAY, shared.store.changed(known)).await {
            Ok(Ok(version)) => known = Some(version),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the store cannot say whether something arrived");
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            Err(_) => {}
        }
        shared.send_all(|| Mail::CheckArrivals);
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
    if options.turn_timeout.is_zero() {
        return wrong("turn_timeout must be longer than nothing");
    }
    Ok(())
}

fn no_thread(error: std::io::Error) -> StartError {
    StartError::Runtime(format!("a thread could not be started: {error}"))
}

/// The host's name, for people. Not used to tell hosts apart.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

/// Tells this boot of the host from others; empty where the system does not say.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}
