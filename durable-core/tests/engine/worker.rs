//! The life of a worker: start, stop, and what the next one finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use durable_core::prelude::*;
use durable_core::{MemoryStore, StartError, StoreError};
use tokio::sync::Semaphore;

use super::faulty::Fault;
use super::hub::{Hub, PATIENCE, until, until_is};
use super::{on_every_store, on_stores_of_one_worker};

on_stores_of_one_worker! {
    a_second_worker_is_refused_with_the_process_id,
    a_start_that_fails_leaves_the_hub_free,
}

on_every_store! {
    a_shutdown_lets_running_activities_end,
    a_shutdown_starts_nothing_more,
    a_shutdown_ends_in_time_though_an_activity_does_not,
    a_shutdown_may_wait_for_ever,
    an_attempt_that_outlives_clean_shutdowns_is_not_taken_for_lost,
    a_dropped_worker_leaves_its_work_to_the_next,
    a_worker_starts_again_at_once_and_many_times,
    a_stopped_worker_leaves_its_client_a_client,
    what_is_not_registered_any_more_is_held_until_it_is_again,
    code_that_no_longer_fits_is_held_until_it_fits_again,
}

#[derive(Clone)]
struct Missing;

#[activity]
async fn needs(State(_missing): State<Missing>) -> Result<(), ActivityError> {
    Ok(())
}

/// Waits for a permit, and counts its runs.
#[derive(Clone)]
struct Gate {
    runs: Arc<AtomicU32>,
    permits: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self { runs: Arc::default(), permits: Arc::new(Semaphore::new(0)) }
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

#[activity]
async fn pass(State(gate): State<Gate>) -> Result<(), ActivityError> {
    gate.runs.fetch_add(1, Ordering::SeqCst);
    gate.permits.acquire().await?.forget();
    Ok(())
}

#[orchestrator]
async fn pass_twice(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    ctx.call(pass, &()).await?;
    ctx.call(pass, &()).await?;
    Ok(2)
}

fn gated(gate: &Gate) -> Registry {
    let mut registry = Registry::new();
    registry.register(pass).register(pass_twice).state(gate.clone());
    registry
}

#[test]
fn everything_that_is_wrong_is_said_before_a_worker_starts() {
    super::hub::tell(Hub::in_memory(), |hub: Hub| async move {
        let builder = Worker::builder(hub.store()).register(needs).register(needs);
        let text = builder.start().await.map(|_| ()).expect_err("much is wrong").to_string();
        assert!(text.contains("two activities are named \"needs\""), "{text}");
        assert!(text.contains("State<") && text.contains("Missing"), "{text}");
        let builder = || Worker::builder(MemoryStore::new());
        for (builder, sentence) in [
            (builder().max_concurrent_activities(0), "max_concurrent_activities"),
            (builder().max_blocking_activities(0), "max_blocking_activities"),
            (builder().turn_timeout(Duration::ZERO), "turn_timeout"),
            (builder().activity_limit("work", 0), "activity_limit of \"work\" must be at least 1"),
            (builder().activity_limit("wrok", 1), "activity_limit of \"wrok\": no activity"),
        ] {
            let error = builder.start().await.map(|_| ()).expect_err("it makes no sense");
            assert!(matches!(error, StartError::Option(_)));
            assert!(error.to_string().starts_with(sentence), "{error}");
        }
    });
}

#[test]
fn a_worker_wants_a_runtime() {
    let start = Worker::builder(MemoryStore::new()).start();
    let error = futures::executor::block_on(start).map(|_| ()).expect_err("no runtime");
    assert_eq!(error.to_string(), "a worker starts within a Tokio runtime");
}

async fn a_second_worker_is_refused_with_the_process_id(hub: Hub) {
    let gate = Gate::new();
    let worker = hub.worker(gated(&gate)).await;
    let error = hub.builder(gated(&gate)).start().await.map(|_| ()).expect_err("one at a time");
    match error {
        StartError::Store(StoreError::HubInUse { pid }) => {
            assert_eq!(pid, Some(std::process::id()))
        }
        other => panic!("{other}"),
    }
    // The first one is none the worse for it.
    gate.permits.add_permits(2);
    let handle = worker.client().start(pass_twice, ()).await.expect("started");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), 2);
    worker.shutdown().await.expect("a clean end");
    hub.worker(gated(&gate)).await;
}

async fn a_shutdown_lets_running_activities_end(hub: Hub) {
    let gate = Gate::new();
    let worker = hub.worker(gated(&gate)).await;
    worker.client().start(pass_twice, ()).id("x").await.expect("started");
    until("the first call runs", || async { gate.runs() == 1 }).await;
    let opens = gate.permits.clone();
    let (ended, ()) = tokio::join!(worker.shutdown(), async move {
        tokio::time::sleep(millis(20)).await;
        opens.add_permits(1);
    });
    ended.expect("a clean end");
    assert_eq!(gate.runs(), 1, "the second call is left to the next worker");
    let worker = hub.worker(gated(&gate)).await;
    gate.permits.add_permits(1);
    let handle = worker.client().instance_of(pass_twice, "x").expect("valid");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), 2);
    assert_eq!(gate.runs(), 2, "nothing ran twice");
}

async fn a_shutdown_starts_nothing_more(hub: Hub) {
    let gate = Gate::new();
    let builder = hub.builder(gated(&gate)).max_concurrent_activities(1);
    let worker = builder.start().await.expect("started");
    for n in 0..5 {
        worker.client().start(pass_twice, ()).id(format!("n{n}")).await.expect("started");
    }
    until("one call runs", || async { gate.runs() == 1 }).await;
    let permits = gate.permits.clone();
    let since = Instant::now();
    let (ended, ()) = tokio::join!(worker.shutdown(), async move {
        tokio::time::sleep(millis(20)).await;
        permits.add_permits(1);
    });
    ended.expect("a clean end");
    assert!(since.elapsed() < secs(3), "what waits for its turn is not waited for");
    assert_eq!(gate.runs(), 1, "those that waited did not start");
    gate.permits.add_permits(9);
    let worker = hub.worker(gated(&gate)).await;
    for n in 0..5 {
        let handle = worker.client().instance(format!("n{n}")).expect("valid");
        handle.output_within(PATIENCE).await.expect("completed");
    }
    assert_eq!(gate.runs(), 10, "nothing ran twice");
}

async fn a_shutdown_ends_in_time_though_an_activity_does_not(hub: Hub) {
    let gate = Gate::new();
    let builder = hub.builder(gated(&gate)).shutdown_timeout(millis(100));
    let worker = builder.start().await.expect("started");
    let handle = worker.client().start(pass_twice, ()).id("x").await.expect("started");
    until("it runs", || async { gate.runs() == 1 }).await;
    let since = Instant::now();
    worker.shutdown().await.expect("it ends");
    let took = since.elapsed();
    assert!((millis(100)..secs(4)).contains(&took), "{took:?}");
    drop(handle);
    gate.permits.add_permits(9);
    let worker = hub.worker(gated(&gate)).await;
    let handle = worker.client().instance_of(pass_twice, "x").expect("valid");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), 2);
}

async fn a_shutdown_may_wait_for_ever(hub: Hub) {
    let gate = Gate::new();
    let builder = hub.builder(gated(&gate)).shutdown_timeout(Duration::MAX);
    let worker = builder.start().await.expect("started");
    worker.client().start(pass_twice, ()).id("x").await.expect("started");
    until("it runs", || async { gate.runs() == 1 }).await;
    gate.permits.add_permits(9);
    worker.shutdown().await.expect("it ends");
}

async fn an_attempt_that_outlives_clean_shutdowns_is_not_taken_for_lost(hub: Hub) {
    let gate = Gate::new();
    for run in 1..=5 {
        let builder = hub.builder(gated(&gate)).shutdown_timeout(millis(10));
        let worker = builder.start().await.expect("started");
        if run == 1 {
            worker.client().start(pass_twice, ()).id("x").await.expect("started");
        }
        until("it runs", || async { gate.runs() == run }).await;
        worker.shutdown().await.expect("it ends");
    }
    gate.permits.add_permits(9);
    let worker = hub.worker(gated(&gate)).await;
    let handle = worker.client().instance_of(pass_twice, "x").expect("valid");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), 2);
}

async fn a_dropped_worker_leaves_its_work_to_the_next(hub: Hub) {
    let gate = Gate::new();
    let worker = hub.worker(gated(&gate)).await;
    for n in 0..10 {
        worker.client().start(pass_twice, ()).id(format!("n{n}")).await.expect("started");
    }
    until("all run", || async { gate.runs() == 10 }).await;
    gate.permits.add_permits(5);
    drop(worker);
    let worker = hub.worker(gated(&gate)).await;
    gate.permits.add_permits(100);
    for n in 0..10 {
        let handle = worker.client().instance(format!("n{n}")).expect("valid");
        handle.output_within(PATIENCE).await.expect("completed");
    }
}

async fn a_worker_starts_again_at_once_and_many_times(hub: Hub) {
    let gate = Gate::new();
    gate.permits.add_permits(1000);
    // One store for all of them: nothing but the worker ends.
    let store = hub.store();
    for round in 0..6 {
        let builder = Worker::builder(store.clone()).registry(gated(&gate));
        let worker = builder.start().await.expect("the last one has left or is leaving");
        let id = format!("round-{round}");
        let handle = worker.client().start(pass_twice, ()).id(&id).await.expect("started");
        assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), 2);
        if round % 2 == 0 {
            worker.shutdown().await.expect("a clean end");
        } else {
            drop(worker);
        }
    }
}

async fn a_stopped_worker_leaves_its_client_a_client(hub: Hub) {
    let gate = Gate::new();
    gate.permits.add_permits(9);
    let worker = hub.worker(gated(&gate)).await;
    let client = worker.client();
    worker.shutdown().await.expect("a clean end");
    let handle = client.start(pass_twice, ()).await.expect("accepted");
    let named = client.start(pass_twice, ()).id("named").await.expect("accepted");
    until_is(&client, "named", RuntimeStatus::Pending).await;
    let next = hub.worker(gated(&gate)).await;
    for handle in [handle, named] {
        assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), 2);
    }
    next.shutdown().await.expect("a clean end");
}

async fn a_start_that_fails_leaves_the_hub_free(hub: Hub) {
    let gate = Gate::new();
    for method in ["claim", "heartbeat", "open"] {
        // The same store again and again: nothing may stay claimed in it.
        let store = hub.store();
        let mut failed = false;
        hub.faults.plan(move |_, called| {
            (called == method && !std::mem::replace(&mut failed, true)).then_some(Fault::Fenced)
        });
        let builder = Worker::builder(store.clone()).registry(gated(&gate));
        assert!(builder.start().await.is_err(), "{method} fails");
        hub.faults.heal();
        let builder = Worker::builder(store).registry(gated(&gate));
        let worker = builder.start().await.expect("the hub is free");
        worker.shutdown().await.expect("a clean end");
    }
}

async fn what_is_not_registered_any_more_is_held_until_it_is_again(hub: Hub) {
    let gate = Gate::new();
    // The activity does not end by itself, and is not waited for.
    let builder = |registry| hub.builder(registry).shutdown_timeout(millis(50));
    let worker = builder(gated(&gate)).start().await.expect("started");
    worker.client().start(pass_twice, ()).id("running").await.expect("started");
    until("it runs", || async { gate.runs() == 1 }).await;
    worker.shutdown().await.expect("it ends");
    let pending = hub.outside().await;
    pending.start(pass_twice, ()).id("pending").await.expect("accepted");

    let mut other = Registry::new();
    other.register_orchestrator_fn("other", |_, (): ()| async { Ok(()) });
    // The attempt that ran is started again, whoever has the orchestrator.
    other.register(pass).state(gate.clone());
    let worker = builder(other).start().await.expect("started");
    let client = worker.client();
    for id in ["running", "pending"] {
        let status = until_is(&client, id, RuntimeStatus::Suspended).await;
        let hold = status.hold().expect("the engine holds it");
        assert!(hold.message.contains("no orchestrator \"pass_twice\""), "{}", hold.message);
    }
    let handle = client.start_by_name("other", &()).await.expect("started");
    handle.output_within(PATIENCE).await.expect("others run");
    worker.shutdown().await.expect("a clean end");

    gate.permits.add_permits(9);
    let worker = hub.worker(gated(&gate)).await;
    for id in ["running", "pending"] {
        let handle = worker.client().instance(id).expect("valid");
        handle.output_within(PATIENCE).await.expect("completed");
        assert!(handle.status().await.expect("there").hold().is_none());
    }
}

async fn code_that_no_longer_fits_is_held_until_it_fits_again(hub: Hub) {
    let build = |name: &'static str| {
        let mut registry = Registry::new();
        for known in ["first", "second"] {
            registry.register_activity_fn(known, |_, (): ()| async { Ok(()) });
        }
        registry.register_orchestrator_fn("steps", move |ctx, (): ()| async move {
            ctx.call_by_name::<()>(name, &()).await?;
            ctx.wait_event::<u32>("go").await.map_err(Into::into)
        });
        registry
    };
    let worker = hub.worker(build("first")).await;
    let client = worker.client();
    let handle = client.start_by_name("steps", &()).id("x").await.expect("started");
    until("the call has come back", || async {
        handle.history().await.expect("read").events().len() == 3
    })
    .await;
    worker.shutdown().await.expect("a clean end");

    let worker = hub.worker(build("second")).await;
    let client = worker.client();
    let handle = client.instance("x").expect("valid");
    handle.raise_event("go", &7).await.expect("accepted");
    let status = until_is(&client, "x", RuntimeStatus::Suspended).await;
    let message = &status.hold().expect("held").message;
    assert!(message.contains("\"first\"") && message.contains("\"second\""), "{message}");
    // Another try with the same code changes nothing, and loses nothing.
    handle.resume("perhaps now").await.expect("accepted");
    until("it is held again", || async { handle.status().await.expect("there").hold().is_some() })
        .await;
    worker.shutdown().await.expect("a clean end");

    let worker = hub.worker(build("first")).await;
    let handle = worker.client().instance("x").expect("valid");
    let output = handle.output_within(PATIENCE).await.expect("completed");
    assert_eq!(output.to::<u32>().expect("a number"), 7);
}
