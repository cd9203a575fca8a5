//! The workloads: activities are dispatched by the engine, start and end are seen through the client.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use durable_core::prelude::*;
use futures::stream::{self, StreamExt};
use tempfile::TempDir;

use crate::StoreKind;
use crate::azure::{self, AzureHub};
use crate::floor;
use crate::measure::{Done, Meter, Report, quantile_ms};

type Error = Box<dyn std::error::Error>;

/// How a workload is run.
pub(crate) struct Setup {
    pub(crate) store: StoreKind,
    pub(crate) connection: Option<String>,
    pub(crate) instances: Option<usize>,
    pub(crate) concurrency: Option<usize>,
    pub(crate) finished: usize,
    pub(crate) partitions: u16,
    pub(crate) dir: Option<PathBuf>,
}

#[activity]
async fn add_one(n: u64) -> Result<u64, ActivityError> {
    Ok(n + 1)
}

/// Notes when each of its calls ran.
#[activity]
async fn tick(State(ticks): State<Ticks>, n: u64) -> Result<u64, ActivityError> {
    ticks.0.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
    Ok(n + 1)
}

#[derive(Clone, Default)]
struct Ticks(Arc<Mutex<Vec<Instant>>>);

#[orchestrator]
async fn chain(ctx: OrchestrationContext, steps: u64) -> Result<u64, OrchestrationError> {
    let mut n = 0;
    for _ in 0..steps {
        n = ctx.call(add_one, &n).await?;
    }
    Ok(n)
}

#[orchestrator]
async fn long(ctx: OrchestrationContext, steps: u64) -> Result<u64, OrchestrationError> {
    let mut n = 0;
    for _ in 0..steps {
        n = ctx.call(tick, &n).await?;
    }
    Ok(n)
}

#[orchestrator]
async fn fan_out(ctx: OrchestrationContext, width: u64) -> Result<u64, OrchestrationError> {
    let calls = (0..width).map(|n| ctx.call(add_one, &n));
    Ok(ctx.try_join_all(calls).await?.into_iter().sum())
}

#[orchestrator]
async fn sleeper(ctx: OrchestrationContext, milliseconds: u64) -> Result<u64, OrchestrationError> {
    ctx.sleep(millis(milliseconds)).await;
    Ok(milliseconds)
}

#[orchestrator]
async fn waiter(ctx: OrchestrationContext) -> Result<u64, OrchestrationError> {
    Ok(ctx.wait_event::<u64>("go").await?)
}

/// A hub under test. The folder goes with it.
struct Hub {
    worker: Worker,
    ticks: Ticks,
    store: &'static str,
    folder: Option<TempDir>,
    azure: Option<AzureHub>,
}

impl Hub {
    async fn open(setup: &Setup) -> Result<Self, Error> {
        let ticks = Ticks::default();
        let (mut folder, mut azure) = (None, None);
        let (builder, store) = match setup.store {
            StoreKind::Memory => {
                let store = MemoryStore::new().with_partitions(setup.partitions);
                (Worker::builder(store), "memory")
            }
            StoreKind::Sqlite => {
                let path = folder.insert(self::folder(setup.dir.as_deref())?).path();
                (Worker::builder(sqlite(path, setup)?), "sqlite")
            }
            StoreKind::Azure => {
                let hub = AzureHub::make(setup.connection.as_deref(), setup.partitions).await?;
                let hub = azure.insert(hub);
                (Worker::builder(hub.store.clone()), hub.name())
            }
        };
        let worker = start(builder, &ticks).await?;
        let hub = Self { worker, ticks, store, folder, azure };
        hub.fill(setup.finished).await?;
        Ok(hub)
    }

    /// Storage calls so far, by kind.
    fn transactions(&self) -> BTreeMap<String, u64> {
        self.azure.as_ref().map(AzureHub::transactions).unwrap_or_default()
    }

    /// Finished instances that lie in the file while something else is measured.
    async fn fill(&self, finished: usize) -> Result<(), Error> {
        let client = &self.worker.client();
        stream::iter(0..finished)
            .map(|_| async move { client.start(chain, 5).await?.output().await })
            .buffer_unordered(1_000)
            .for_each(|_| async {})
            .await;
        Ok(())
    }

    async fn close(self) -> Result<Option<TempDir>, Error> {
        self.worker.shutdown().await?;
        if let Some(azure) = self.azure {
            azure.remove().await?;
        }
        Ok(self.folder)
    }
}

fn sqlite(folder: &Path, setup: &Setup) -> Result<SqliteStore, Error> {
    let options = durable_core::SqliteOptions {
        partitions: setup.partitions,
        ..durable_core::SqliteOptions::default()
    };
    Ok(SqliteStore::open_with(folder.join("bench.sqlite"), options)?)
}

async fn start(builder: durable_core::WorkerBuilder, ticks: &Ticks) -> Result<Worker, Error> {
    Ok(builder
        .register(chain)
        .register(long)
        .register(fan_out)
        .register(sleeper)
        .register(waiter)
        .register(add_one)
        .register(tick)
        .state(ticks.clone())
        .start()
        .await?)
}

pub(crate) fn folder(dir: Option<&Path>) -> Result<TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("durable-bench-");
    Ok(match dir {
        Some(dir) => builder.tempdir_in(dir)?,
        None => builder.tempdir()?,
    })
}

/// Chains of five activities: many at once, or one after the other.
pub(crate) async fn chain5(setup: Setup, sequential: bool) -> Result<Report, Error> {
    let instances = setup.instances.unwrap_or(if sequential { 200 } else { 2_000 });
    let concurrency = if sequential { 1 } else { setup.concurrency.unwrap_or(200) };
    let hub = Hub::open(&setup).await?;
    // A few first, so that threads and files are warm.
    hub.fill(if sequential { 20 } else { 200 }).await?;
    let client = &hub.worker.client();
    let before = hub.transactions();
    let meter = Meter::start();
    let (latencies, failed) =
        drive(
            instances,
            concurrency,
            |_| async move { client.start(chain, 5).await?.output().await },
        )
        .await;
    let report = meter.report(Done {
        workload: if sequential { "chain5_seq" } else { "chain5" }.into(),
        store: hub.store,
        concurrency,
        activities: 5 * instances,
        latencies,
        failed,
        notes: Vec::new(),
    });
    let transactions = azure::between(&before, &hub.transactions());
    let mut notes = compared(&report, hub.folder.as_ref(), sequential)?;
    if !transactions.is_empty() {
        notes.push(azure::chains(&transactions, instances, sequential));
    }
    hub.close().await?;
    Ok(Report { notes, transactions, ..report })
}

/// The ratios in which the budgets are stated, against one-row commits measured right after.
fn compared(
    report: &Report,
    folder: Option<&TempDir>,
    sequential: bool,
) -> Result<Vec<String>, Error> {
    let Some(folder) = folder else { return Ok(Vec::new()) };
    let floor = floor::one_row_commit(folder.path())?.as_secs_f64();
    Ok(vec![if sequential {
        format!(
            "{:.2} x six one-row commits of {:.3} ms (budget 1.6)",
            report.p50_ms / (6_000.0 * floor),
            floor * 1_000.0
        )
    } else {
        format!(
            "{:.2} x the one-row commits/s ({:.0}/s; budget 1.5)",
            report.per_second * floor,
            1.0 / floor
        )
    }])
}

/// Parallel activities, summed.
pub(crate) async fn fanout100(setup: Setup) -> Result<Report, Error> {
    let instances = setup.instances.unwrap_or(50);
    let concurrency = setup.concurrency.unwrap_or(5);
    let hub = Hub::open(&setup).await?;
    hub.fill(200).await?;
    let client = &hub.worker.client();
    let before = hub.transactions();
    let meter = Meter::start();
    let (latencies, failed) = drive(instances, concurrency, |_| async move {
        client.start(fan_out, 100).await?.output().await
    })
    .await;
    let report = meter.report(Done {
        workload: "fanout100".into(),
        store: hub.store,
        concurrency,
        activities: 100 * instances,
        latencies,
        failed,
        notes: Vec::new(),
    });
    let transactions = azure::between(&before, &hub.transactions());
    let notes = if transactions.is_empty() {
        Vec::new()
    } else {
        vec![azure::fan_outs(&transactions, instances)]
    };
    hub.close().await?;
    Ok(Report { notes, transactions, ..report })
}

/// Instances that sleep for a second, all at once.
pub(crate) async fn timers(setup: Setup) -> Result<Report, Error> {
    let instances = setup.instances.unwrap_or(5_000);
    let hub = Hub::open(&setup).await?;
    hub.fill(200).await?;
    let client = &hub.worker.client();
    let meter = Meter::start();
    let (latencies, failed) = drive(instances, instances, |_| async move {
        client.start(sleeper, 1_000).await?.output().await
    })
    .await;
    let report = meter.report(Done {
        workload: "timers".into(),
        store: hub.store,
        concurrency: instances,
        activities: 0,
        latencies,
        failed,
        notes: Vec::new(),
    });
    hub.close().await?;
    Ok(report)
}

/// Instances that wait for an event each, raised from 200 places at once.
pub(crate) async fn events(setup: Setup) -> Result<Report, Error> {
    let instances = setup.instances.unwrap_or(2_000);
    let concurrency = setup.concurrency.unwrap_or(200);
    let hub = Hub::open(&setup).await?;
    let client = &hub.worker.client();
    let waiting: Vec<Handle<u64>> = stream::iter(0..instances)
        .map(|_| async move { client.start(waiter, ()).await })
        .buffered(concurrency)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    let waiting = &waiting;
    let meter = Meter::start();
    let (latencies, failed) = drive(instances, concurrency, |n| async move {
        waiting[n].raise_event("go", &(n as u64)).await?;
        waiting[n].output().await
    })
    .await;
    let report = meter.report(Done {
        workload: "events".into(),
        store: hub.store,
        concurrency,
        activities: 0,
        latencies,
        failed,
        notes: Vec::new(),
    });
    hub.close().await?;
    Ok(report)
}

/// One instance whose history grows: are its last steps as fast as its first?
pub(crate) async fn long_history(setup: Setup) -> Result<Report, Error> {
    let steps = setup.instances.unwrap_or(2_000);
    let hub = Hub::open(&setup).await?;
    hub.fill(20).await?;
    let meter = Meter::start();
    let output = hub.worker.client().start(long, steps as u64).await?.output().await?;
    let ticks = hub.ticks.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let latencies: Vec<Duration> = ticks.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let part = latencies.len().min(200);
    let median = |steps: &[Duration]| {
        let mut steps = steps.to_vec();
        steps.sort_unstable();
        quantile_ms(&steps, 50)
    };
    let (first, last) = (median(&latencies[..part]), median(&latencies[latencies.len() - part..]));
    let mut notes = vec![format!(
        "step p50: first {part} {first:.3} ms, last {part} {last:.3} ms, ratio {:.2}",
        last / first
    )];
    let report = meter.report(Done {
        workload: "long_history".into(),
        store: hub.store,
        concurrency: 1,
        activities: steps,
        latencies,
        failed: usize::from(output != steps as u64),
        notes: Vec::new(),
    });
    if let Some(folder) = &hub.folder {
        let floor = floor::one_row_commit(folder.path())?.as_secs_f64() * 1_000.0;
        notes.push(format!(
            "{:.2} x a one-row commit of {floor:.3} ms per step (budget 1.6)",
            report.p50_ms / floor
        ));
    }
    hub.close().await?;
    Ok(Report { instances: 1, per_second: 1.0 / report.seconds, notes, ..report })
}

/// Fills a hub with sleeping instances and gives it to a fresh process to open: what does that cost?
pub(crate) async fn sleepers(setup: Setup, json: bool) -> Result<(), Error> {
    let instances = setup.instances.unwrap_or(100_000);
    if setup.store != StoreKind::Sqlite {
        return Err("sleepers needs a store that can be opened again: --store sqlite".into());
    }
    let hub = Hub::open(&setup).await?;
    let client = hub.worker.client();
    let started = stream::iter(0..instances)
        .map(|_| async { client.start(sleeper, 30 * 24 * 3_600_000).await.map(|_| ()) })
        .buffer_unordered(1_000)
        .collect::<Vec<_>>()
        .await;
    started.into_iter().collect::<Result<(), _>>()?;
    let Some(folder) = hub.close().await? else { return Ok(()) };
    let mut opener = std::process::Command::new(std::env::current_exe()?);
    opener.arg("--reopen").arg(folder.path()).arg("--instances").arg(instances.to_string());
    opener.arg("--partitions").arg(setup.partitions.to_string());
    if json {
        opener.arg("--json");
    }
    if opener.status()?.success() { Ok(()) } else { Err("the hub could not be opened".into()) }
}

/// Opens a hub full of sleeping instances and runs a chain in it.
pub(crate) async fn reopen(setup: Setup, folder: &Path) -> Result<Report, Error> {
    let meter = Meter::start();
    let began = Instant::now();
    let ticks = Ticks::default();
    let worker = start(Worker::builder(sqlite(folder, &setup)?), &ticks).await?;
    let opened = began.elapsed();
    let output = worker.client().start(chain, 5).await?.output().await?;
    let served = began.elapsed();
    let notes = vec![format!(
        "opened after {:.3} s, a chain served after {:.3} s (budget for a million: 2 s, 200 MiB)",
        opened.as_secs_f64(),
        served.as_secs_f64(),
    )];
    let report = meter.report(Done {
        workload: "sleepers".into(),
        store: "sqlite",
        concurrency: 1,
        activities: 5,
        latencies: vec![served],
        failed: usize::from(output != 5),
        notes,
    });
    worker.shutdown().await?;
    Ok(Report { instances: setup.instances.unwrap_or_default(), ..report })
}

/// Runs `instances` pieces of work, `concurrency` at once; returns how long each took, and how many failed.
async fn drive<F, Fut, T>(instances: usize, concurrency: usize, work: F) -> (Vec<Duration>, usize)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<T, ClientError>>,
{
    let mut failed = 0;
    let work = &work;
    let latencies = stream::iter(0..instances)
        .map(|n| async move {
            let began = Instant::now();
            let result = work(n).await;
            (began.elapsed(), result.is_err())
        })
        .buffer_unordered(concurrency)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .map(|(latency, error)| {
            failed += usize::from(error);
            latency
        })
        .collect();
    (latencies, failed)
}
