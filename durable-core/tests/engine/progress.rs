//! What activities report with their heartbeats: it reaches the next attempt, wherever that runs, and who falls
//! silent fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use durable_core::prelude::*;
use durable_core::store::Sharing;

use super::faulty::{Faults, TestStore};
use super::hub::{Hub, PATIENCE, tell, until};
use super::on_every_store;
use super::several::{One, PARTITIONS, ids_of, until_balanced};

const ROWS: u32 = 1_000;

/// A table, and the attempts that filled it: it outlives the workers, as a database does.
#[derive(Clone, Default)]
struct Table {
    /// How often each row was inserted.
    rows: Arc<Mutex<BTreeMap<u32, u32>>>,
    /// Where each attempt began.
    began_at: Arc<Mutex<Vec<u32>>>,
    /// The import waits at this row, as long as it is not set to another.
    stop_at: Arc<AtomicU32>,
}

impl Table {
    fn insert(&self, row: u32) {
        *self.rows.lock().expect("no panic here").entry(row).or_default() += 1;
    }

    fn len(&self) -> usize {
        self.rows.lock().expect("no panic here").len()
    }

    fn inserted_twice(&self) -> usize {
        self.rows.lock().expect("no panic here").values().filter(|times| **times > 1).count()
    }

    fn began(&self, at: u32) {
        self.began_at.lock().expect("no panic here").push(at);
    }

    fn began_at(&self) -> Vec<u32> {
        self.began_at.lock().expect("no panic here").clone()
    }

    /// The same table, as the next process sees it: what of the last one still runs stays where it is.
    fn of_next_process(&self) -> Self {
        Self { stop_at: Arc::new(AtomicU32::new(u32::MAX)), ..self.clone() }
    }

    fn stop_at(&self, row: u32) {
        self.stop_at.store(row, Ordering::SeqCst);
    }

    fn stops_at(&self, row: u32) -> bool {
        self.stop_at.load(Ordering::SeqCst) == row
    }
}

#[activity]
async fn import(
    ctx: ActivityContext,
    State(table): State<Table>,
    rows: u32,
) -> Result<u32, ActivityError> {
    let done = ctx.heartbeat_details()?.unwrap_or(0);
    table.began(done);
    for row in done..rows {
        while table.stops_at(row) {
            ctx.check_cancelled()?;
            tokio::time::sleep(millis(2)).await;
        }
        table.insert(row);
        ctx.heartbeat(&(row + 1))?;
    }
    Ok(rows)
}

#[orchestrator]
async fn nightly(ctx: OrchestrationContext, rows: u32) -> Result<u32, OrchestrationError> {
    Ok(ctx.call(import, &rows).await?)
}

/// Its attempts hang, each for good, behind so many rows.
#[activity(blocking)]
fn hang_twice(ctx: ActivityContext, State(table): State<Table>) -> Result<u32, ActivityError> {
    let done: u32 = ctx.heartbeat_details()?.unwrap_or(0);
    table.began(done);
    if ctx.attempt() == 3 {
        return Ok(done);
    }
    for row in done..done + 5 {
        ctx.heartbeat(&(row + 1))?;
        std::thread::sleep(millis(20));
    }
    while !ctx.is_cancelled() {
        std::thread::sleep(millis(2));
    }
    Err(ActivityError::new("TooLate", "nobody hears this"))
}

#[orchestrator]
async fn patient(ctx: OrchestrationContext, (): ()) -> Result<u32, OrchestrationError> {
    let policy = RetryPolicy::fixed(millis(1)).attempts(3);
    Ok(ctx.call(hang_twice, &()).retry(policy).heartbeat_timeout(secs(1)).await?)
}

/// Fails three times, each time a little further.
#[activity]
async fn step_by_step(ctx: ActivityContext) -> Result<Vec<u32>, ActivityError> {
    let mut done: Vec<u32> = ctx.heartbeat_details()?.unwrap_or_default();
    done.push(ctx.attempt());
    ctx.heartbeat(&done)?;
    if ctx.attempt() < 4 { Err(ActivityError::new("Busy", "come back later")) } else { Ok(done) }
}

#[orchestrator]
async fn persistent(ctx: OrchestrationContext, (): ()) -> Result<Vec<u32>, OrchestrationError> {
    let policy = RetryPolicy::fixed(millis(1)).attempts(5);
    Ok(ctx.call(step_by_step, &()).retry(policy).await?)
}

/// Silent, unless it is told otherwise.
#[activity]
async fn dig(ctx: ActivityContext, speaks: bool) -> Result<String, ActivityError> {
    ctx.heartbeat("at work")?;
    for _ in 0..10 {
        tokio::time::sleep(millis(100)).await;
        if speaks {
            ctx.beat();
        }
    }
    Ok("done".into())
}

#[orchestrator]
async fn listen(ctx: OrchestrationContext, speaks: bool) -> Result<String, OrchestrationError> {
    match ctx.call(dig, &speaks).heartbeat_timeout(millis(500)).await {
        Ok(done) => Ok(done),
        Err(error) if error.is("HeartbeatTimeout") && error.is_timeout() => {
            let last: String = error.details().unwrap_or_default();
            Ok(format!("{}; last heard: {last}", error.message()))
        }
        Err(error) => Err(error.into()),
    }
}

fn registry(table: &Table) -> Registry {
    let mut registry = Registry::new();
    registry.register(nightly).register(import).register(patient).register(hang_twice);
    registry.register(persistent).register(step_by_step).register(listen).register(dig);
    registry.state(table.clone());
    registry
}

async fn an_import_that_was_killed_in_the_middle_goes_on_where_it_was(hub: Hub) {
    let table = Table::default();
    table.stop_at(600);
    let worker = hub.builder(registry(&table)).heartbeat_delay(millis(20));
    let worker = worker.start().await.expect("started");
    worker.client().start(nightly, ROWS).id("nightly").await.expect("accepted");
    until("it is in the middle", || async { table.len() == 600 }).await;
    // What it reported is stored soon.
    let outside = hub.outside().await;
    let store = hub.open();
    let id = InstanceId::new("nightly").expect("valid");
    until("that is stored", || async {
        let stored = store.load(&id).await.expect("no faults").expect("it is there");
        let row = String::from_utf8(stored.in_flight.unwrap_or_default()).expect("text");
        row.contains(r#""details":600"#)
    })
    .await;
    drop(worker);
    let worker = hub.worker(registry(&table.of_next_process())).await;
    let handle = outside.instance_of(nightly, "nightly").expect("valid");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), ROWS);
    assert_eq!(table.began_at(), [0, 600]);
    assert_eq!((table.len(), table.inserted_twice()), (1_000, 0));
    worker.shutdown().await.expect("a clean end");
}

async fn a_worker_that_leaves_tells_the_next_how_far_its_activities_are(hub: Hub) {
    let table = Table::default();
    table.stop_at(300);
    // Stored long after this story by itself.
    let builder = hub.builder(registry(&table)).shutdown_timeout(millis(200));
    let worker = builder.start().await.expect("started");
    worker.client().start(nightly, ROWS).id("nightly").await.expect("accepted");
    until("it is in the middle", || async { table.len() == 300 }).await;
    worker.shutdown().await.expect("an end");
    let worker = hub.worker(registry(&table.of_next_process())).await;
    let handle = worker.client().instance_of(nightly, "nightly").expect("valid");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), ROWS);
    assert_eq!(table.began_at(), [0, 300]);
    worker.shutdown().await.expect("a clean end");
}

async fn an_attempt_that_hangs_is_followed_by_one_that_goes_on(hub: Hub) {
    let table = Table::default();
    let worker = hub.worker(registry(&table)).await;
    let handle = worker.client().start(patient, ()).id("patient").await.expect("accepted");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), 10);
    assert_eq!(table.began_at(), [0, 5, 10]);
    worker.shutdown().await.expect("a clean end");
}

async fn what_failed_attempts_reported_is_there_at_once(hub: Hub) {
    let worker = hub.worker(registry(&Table::default())).await;
    let handle = worker.client().start(persistent, ()).id("persistent").await.expect("accepted");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), [1, 2, 3, 4]);
    let history = handle.history().await.expect("read");
    assert_eq!(history.events().len(), 4, "a history knows nothing of heartbeats");
    worker.shutdown().await.expect("a clean end");
}

async fn who_speaks_in_time_is_not_given_up(hub: Hub) {
    let worker = hub.worker(registry(&Table::default())).await;
    let client = worker.client();
    let speaks = client.start(listen, true).id("speaks").await.expect("accepted");
    let silent = client.start(listen, false).id("silent").await.expect("accepted");
    assert_eq!(speaks.output_within(PATIENCE).await.expect("completed"), "done");
    assert_eq!(
        silent.output_within(PATIENCE).await.expect("completed"),
        "an attempt of \"dig\" gave no heartbeat for 500ms; last heard: at work"
    );
    worker.shutdown().await.expect("a clean end");
}

on_every_store! {
    an_import_that_was_killed_in_the_middle_goes_on_where_it_was,
    a_worker_that_leaves_tells_the_next_how_far_its_activities_are,
    an_attempt_that_hangs_is_followed_by_one_that_goes_on,
    what_failed_attempts_reported_is_there_at_once,
    who_speaks_in_time_is_not_given_up,
}

#[test]
fn an_activity_whose_worker_dies_goes_on_where_its_last_renewal_says() {
    let sharing = Sharing { lease: secs(2), visibility: millis(600) };
    tell(Hub::shared(PARTITIONS, sharing), |hub: Hub| async move {
        let (at_a, at_b) = (Table::default(), Table::default());
        let (in_the_lane, rest) = (400, 600);
        at_a.stop_at(1);
        at_b.stop_at(rest);
        let one_lane = |builder: durable_core::WorkerBuilder| builder.max_concurrent_activities(1);
        let a = One::start_with(&hub, registry(&at_a), one_lane).await;
        let (faults, renewals) = (Faults::default(), Arc::new(AtomicU32::new(0)));
        let counted = renewals.clone();
        faults.plan(move |_, method| {
            counted.fetch_add(u32::from(method == "renew"), Ordering::SeqCst);
            None
        });
        let store = TestStore::new(hub.open(), faults);
        let link = store.link();
        let worker = Worker::builder(store).registry(registry(&at_b)).start().await;
        let b = One { worker: worker.expect("started"), link };
        until_balanced(&[&a, &b]).await;
        // What takes the lane of the owner, until it is told to end.
        let ids = ids_of(&a, "import", 2);
        a.client().start(nightly, in_the_lane).id(&ids[0]).await.expect("accepted");
        until("the lane is taken", || async { at_a.len() == 1 }).await;
        a.client().start(nightly, ROWS).id(&ids[1]).await.expect("accepted");
        until("the other worker is in the middle", || async { at_b.len() == 600 }).await;
        // The second renewal from now on follows one that began behind row 600.
        let before = renewals.load(Ordering::SeqCst);
        until("a renewal has said so", || async { renewals.load(Ordering::SeqCst) >= before + 2 })
            .await;
        b.kill();
        at_a.stop_at(u32::MAX);
        for (id, rows) in [(&ids[0], in_the_lane), (&ids[1], ROWS)] {
            let handle = a.client().instance_of(nightly, id.as_str()).expect("valid");
            assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), rows);
        }
        assert_eq!(at_b.began_at(), [0]);
        assert_eq!(at_a.began_at(), [0, 600]);
    });
}
