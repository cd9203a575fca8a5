//! Orchestrators that misbehave: they fail or are held, and their neighbours go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use durable_core::HoldReason;
use durable_core::prelude::*;
use tokio::sync::oneshot;

use super::hub::{Hub, PATIENCE, until_is};
use super::on_every_store;

on_every_store! {
    a_turn_that_never_returns_is_given_up_and_its_neighbours_go_on,
    a_first_turn_that_never_returns_is_given_up_too,
    whoever_waits_for_a_stuck_start_is_told,
    a_stuck_instance_runs_on_when_its_code_is_right,
    an_orchestrator_that_awaits_the_runtime_fails_with_a_sentence,
    an_orchestrator_that_is_woken_from_outside_fails_with_a_sentence,
    a_panicking_orchestrator_fails_and_nobody_else,
}

/// While set, `spin` does not return.
#[derive(Clone)]
struct Spins(Arc<AtomicBool>);

impl Spins {
    fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    fn spin(&self) {
        while self.0.load(Ordering::SeqCst) {
            std::thread::sleep(millis(1));
        }
    }
}

fn registry(spins: &Spins) -> Registry {
    let mut registry = Registry::new();
    let first = spins.clone();
    registry.register_orchestrator_fn("spins-first", move |_, (): ()| {
        let spins = first.clone();
        async move {
            spins.spin();
            Ok(1)
        }
    });
    let second = spins.clone();
    registry.register_orchestrator_fn("spins-later", move |ctx, (): ()| {
        let spins = second.clone();
        async move {
            ctx.wait_event::<()>("go").await?;
            spins.spin();
            Ok(2)
        }
    });
    registry.register_orchestrator_fn("waits", |ctx, (): ()| async move {
        Ok(ctx.wait_event::<u32>("n").await? + ctx.call_by_name::<u32>("three", &()).await?)
    });
    registry.register_activity_fn("three", |_, (): ()| async { Ok(3_u32) });
    registry
}

/// More than a turn takes on a machine that is busy with other tests: their neighbours are not to be held.
const STUCK_AFTER: Duration = millis(500);

async fn quick(hub: &Hub, spins: &Spins) -> Worker {
    let builder = hub.builder(registry(spins)).turn_timeout(STUCK_AFTER);
    builder.start().await.expect("started")
}

async fn neighbours_go_on(worker: &Worker, waiting: &str) {
    let client = worker.client();
    let neighbour = client.instance(waiting).expect("valid");
    tokio::time::timeout(PATIENCE, async {
        // The first try may have met the thread that is given up.
        while neighbour.raise_event("n", &4).id("once").await.is_err() {
            tokio::time::sleep(millis(5)).await;
        }
    })
    .await
    .expect("the neighbour is reached");
    let output = neighbour.output_within(PATIENCE).await.expect("completed");
    assert_eq!(output.to::<u32>().expect("a number"), 7);
    let fresh = tokio::time::timeout(PATIENCE, client.start_by_name("waits", &())).await;
    let fresh = fresh.expect("in time").expect("started");
    fresh.raise_event("n", &1).await.expect("accepted");
    fresh.output_within(PATIENCE).await.expect("completed");
}

async fn a_turn_that_never_returns_is_given_up_and_its_neighbours_go_on(hub: Hub) {
    let spins = Spins::new();
    let worker = quick(&hub, &spins).await;
    let client = worker.client();
    client.start_by_name("waits", &()).id("neighbour").await.expect("started");
    let stuck = client.start_by_name("spins-later", &()).id("stuck").await.expect("started");
    until_is(&client, "neighbour", RuntimeStatus::Running).await;
    until_is(&client, "stuck", RuntimeStatus::Running).await;
    let raised = stuck.raise_event("go", &());
    // Whether it was taken is not known; what counts is that the caller does not hang.
    let _ = tokio::time::timeout(PATIENCE, raised).await.expect("the caller is told");
    // Raised again, so that the loop is met in any case.
    let _ = hub.outside().await.instance("stuck").expect("valid").raise_event("go", &()).await;
    let status = until_is(&client, "stuck", RuntimeStatus::Suspended).await;
    assert_eq!(status.hold().expect("held").reason, HoldReason::Stuck);
    neighbours_go_on(&worker, "neighbour").await;
    spins.0.store(false, Ordering::SeqCst);
}

async fn a_first_turn_that_never_returns_is_given_up_too(hub: Hub) {
    let spins = Spins::new();
    let worker = quick(&hub, &spins).await;
    let client = worker.client();
    client.start_by_name("waits", &()).id("neighbour").await.expect("started");
    until_is(&client, "neighbour", RuntimeStatus::Running).await;
    client.start_by_name("spins-first", &()).id("stuck").await.expect("accepted");
    let status = until_is(&client, "stuck", RuntimeStatus::Suspended).await;
    assert_eq!(status.hold().expect("held").reason, HoldReason::Stuck);
    neighbours_go_on(&worker, "neighbour").await;
    spins.0.store(false, Ordering::SeqCst);
    client.instance("stuck").expect("valid").resume("repaired").await.expect("accepted");
    until_is(&client, "stuck", RuntimeStatus::Completed).await;
}

async fn whoever_waits_for_a_stuck_start_is_told(hub: Hub) {
    let spins = Spins::new();
    let worker = quick(&hub, &spins).await;
    // Its first commit is its acceptance, and that never comes.
    let start = worker.client().start_by_name("spins-first", &());
    let told = tokio::time::timeout(PATIENCE, start).await.expect("the caller is told");
    assert!(matches!(told, Err(ClientError::Unanswered)), "{told:?}");
    spins.0.store(false, Ordering::SeqCst);
}

async fn a_stuck_instance_runs_on_when_its_code_is_right(hub: Hub) {
    let spins = Spins::new();
    let worker = quick(&hub, &spins).await;
    let client = worker.client();
    client.start_by_name("spins-later", &()).id("stuck").await.expect("started");
    until_is(&client, "stuck", RuntimeStatus::Running).await;
    // From outside, so that the event is durable before the turn.
    let outside = hub.outside().await.instance("stuck").expect("valid");
    outside.raise_event("go", &()).await.expect("accepted");
    until_is(&client, "stuck", RuntimeStatus::Suspended).await;
    spins.0.store(false, Ordering::SeqCst);
    client.instance("stuck").expect("valid").resume("repaired").await.expect("accepted");
    let output = client.instance("stuck").expect("valid").output_within(PATIENCE).await;
    assert_eq!(output.expect("completed").to::<u32>().expect("a number"), 2);
}

async fn an_orchestrator_that_awaits_the_runtime_fails_with_a_sentence(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("clock", |_, (): ()| async {
        tokio::time::sleep(millis(5)).await;
        Ok(())
    });
    registry.register_orchestrator_fn("task", |_, (): ()| async {
        let (send, receive) = oneshot::channel::<()>();
        std::mem::forget(send);
        let _ = receive.await;
        Ok(())
    });
    let worker = hub.worker(registry).await;
    for (name, class) in [("clock", None), ("task", Some(FailureClass::ForeignAwait))] {
        let handle = worker.client().start_by_name(name, &()).await.expect("started");
        match handle.output_within(PATIENCE).await {
            Err(ClientError::Failed { failure, .. }) => {
                // Without a runtime on the thread, the clock of the runtime panics.
                assert!(class.is_none_or(|class| class == failure.class), "{failure}");
                let panicked = failure.class == FailureClass::Panic;
                assert!(panicked || failure.message.contains("not a durable future"), "{failure}");
            }
            other => panic!("{name} should have failed: {other:?}"),
        }
    }
}

async fn an_orchestrator_that_is_woken_from_outside_fails_with_a_sentence(hub: Hub) {
    let mut registry = Registry::new();
    // It waits for something durable too, so only the wake-up gives it away.
    registry.register_orchestrator_fn("woken", |ctx, (): ()| async move {
        let (send, receive) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            std::thread::sleep(millis(20));
            let _ = send.send(());
        });
        let _ = ctx.race(ctx.sleep(hours(1)), receive).await;
        Ok(())
    });
    let worker = hub.worker(registry).await;
    let handle = worker.client().start_by_name("woken", &()).await.expect("started");
    match handle.output_within(PATIENCE).await {
        Err(ClientError::Failed { failure, .. }) => {
            assert_eq!(failure.class, FailureClass::ForeignAwait);
            assert!(failure.message.contains("not a durable future"), "{failure}");
        }
        other => panic!("it should have failed: {other:?}"),
    }
}

async fn a_panicking_orchestrator_fails_and_nobody_else(hub: Hub) {
    let mut registry = registry(&Spins::new());
    registry.register_orchestrator_fn("panics", |ctx, late: bool| async move {
        if late {
            ctx.wait_event::<()>("go").await?;
        }
        assert!(ctx.is_replaying(), "something");
        Ok(())
    });
    let worker = hub.worker(registry).await;
    let client = worker.client();
    client.start_by_name("waits", &()).id("neighbour").await.expect("started");
    for late in [false, true] {
        let handle = client.start_by_name("panics", &late).await.expect("started");
        if late {
            handle.raise_event("go", &()).await.expect("accepted");
        }
        match handle.output_within(PATIENCE).await {
            Err(ClientError::Failed { failure, .. }) => {
                assert_eq!((failure.class, &*failure.message), (FailureClass::Panic, "something"));
            }
            other => panic!("it should have failed: {other:?}"),
        }
    }
    neighbours_go_on(&worker, "neighbour").await;
}
