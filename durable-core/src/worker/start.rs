//! Starting a worker: it joins the hub, and its partitions are opened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use durable_machine::model::{PartitionId, WorkerId};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::builder::StartError;
use super::executor::Executor;
use super::fleet::{self, Fleet};
use super::mailbox::Mail;
use super::shared::{Parts, Shared};
use super::{Worker, WorkerOptions, serve, watchdog};
use crate::client::Client;
use crate::registry::Registry;
use crate::store::{Member, Store, StoreError};
use crate::telemetry;

/// How often a worker that has the hub for itself says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long a worker waits for one of its own process that is ending, and how often it looks.
const LEAVING_MAX: Duration = Duration::from_secs(1);
const LEAVING_PAUSE: Duration = Duration::from_millis(5);

/// However quiet it is, arrivals are read this often: a wake-up may have been lost.
const LOOK_ANYWAY: Duration = Duration::from_secs(300);

/// Wait after a store could not say whether something arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Starts a worker on the present runtime.
pub(super) async fn start(
    store: Arc<dyn Store>,
    registry: Registry,
    options: WorkerOptions,
) -> Result<Worker, StartError> {
    let orchestrators: Vec<String> = registry.orchestrators().map(str::to_owned).collect();
    let functions = Arc::new(registry.into_functions()?);
    let runtime = Handle::try_current()
        .map_err(|_| StartError::Runtime("a worker starts within a Tokio runtime".into()))?;
    let worker = WorkerId(Uuid::new_v4());
    let partitions = store.hub().partitions;
    let member = Member {
        worker,
        beat: 0,
        pid: std::process::id(),
        host: host_name(),
        orchestrators,
        build: options.build.clone(),
        boot: boot_id(),
        owns: Vec::new(),
        needs: BTreeMap::new(),
        leaving: false,
    };
    let (ready, mut served) = mpsc::unbounded_channel();
    let fleet = store.sharing().map(|sharing| Fleet::new(sharing, member.clone(), ready.clone()));
    if let Err(error) = join(&*store, fleet.as_ref(), &member, partitions).await {
        // What was claimed before must not stay claimed.
        let _ = store.leave(worker).await;
        return Err(error.into());
    }
    let executor = Arc::new(Executor::new(
        runtime.clone(),
        functions.clone(),
        &options,
        fleet.as_ref().map(|fleet| fleet.lease.clone()),
    ));
    let shared = Arc::new(Shared::new(Parts {
        worker,
        store,
        runtime,
        executor,
        functions,
        options,
        partitions,
        fleet,
    }));
    let client = Client::of_worker(&shared);
    let mut running = Worker { shared: shared.clone(), client, tasks: Vec::new() };
    if shared.fleet.is_some() {
        drop(ready);
        running.tasks.extend(fleet::spawn(&shared));
        tokio::select! {
            refused = refusal(&mut served) => return Err(refused.into()),
            () = fleet::settle(&shared) => {}
        }
    } else {
        serve_all(&shared, ready)?;
        while let Some(opened) = served.recv().await {
            opened?;
        }
        running.tasks.push(tokio::spawn(beat(shared.clone(), member)));
    }
    let watched = shared.clone();
    std::thread::Builder::new()
        .name("durable-watchdog".into())
        .spawn(move || watchdog::watch_turns(&watched))
        .map_err(no_thread)?;
    running.tasks.push(tokio::spawn(watch_arrivals(shared)));
    Ok(running)
}

/// Says that the worker lives. One that has the hub for itself claims every partition before.
async fn join(
    store: &dyn Store,
    fleet: Option<&Fleet>,
    member: &Member,
    partitions: u16,
) -> Result<(), StoreError> {
    if let Some(fleet) = fleet {
        return fleet::join(store, fleet).await;
    }
    let since = tokio::time::Instant::now();
    for partition in (0..partitions).map(PartitionId) {
        while let Err(error) = store.claim(member.worker, partition).await {
            // A worker of this process that was dropped leaves on threads of its own.
            let ours = matches!(error, StoreError::HubInUse { pid } if pid == Some(member.pid));
            if !ours || since.elapsed() > LEAVING_MAX {
                return Err(error);
            }
            tokio::time::sleep(LEAVING_PAUSE).await;
        }
    }
    let owns = (0..partitions).map(PartitionId).collect();
    store.heartbeat(&Member { owns, ..member.clone() }).await.map(|_| ())
}

/// Begins to serve every partition of the hub.
fn serve_all(shared: &Arc<Shared>, ready: serve::Ready) -> Result<(), StartError> {
    // All have a place before one is open: the first may have a message for the last.
    for partition in (0..shared.partitions).map(PartitionId) {
        shared.occupy(partition);
    }
    metrics::gauge!(telemetry::PARTITIONS_OWNED).set(f64::from(shared.partitions));
    for opening in shared.present() {
        serve::spawn(shared, &opening, Some(ready.clone())).map_err(no_thread)?;
    }
    Ok(())
}

/// The first refusal of a store to open a partition, if there is one.
async fn refusal(served: &mut mpsc::UnboundedReceiver<Result<(), StoreError>>) -> StoreError {
    loop {
        match served.recv().await {
            Some(Err(error)) => return error,
            Some(Ok(())) => {}
            None => std::future::pending().await,
        }
    }
}

/// Says again and again that a worker lives that has the hub for itself.
async fn beat(shared: Arc<Shared>, mut member: Member) {
    member.owns = (0..shared.partitions).map(PartitionId).collect();
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        member.beat += 1;
        if let Err(error) = shared.store.heartbeat(&member).await {
            tracing::warn!(%error, "the heartbeat could not be written");
        }
    }
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

fn no_thread(error: std::io::Error) -> StartError {
    StartError::Runtime(format!("a thread could not be started: {error}"))
}

/// The host's name.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

/// Tells this boot of the host from others, and where process ids are counted apart (as in containers),
/// this space of them from others; empty where the system does not say.
fn boot_id() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let space = std::fs::read_link("/proc/self/ns/pid");
    match (boot, space) {
        (Ok(boot), Ok(space)) => format!("{} {}", boot.trim(), space.display()),
        _ => String::new(),
    }
}
