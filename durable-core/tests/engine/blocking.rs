//! Activities that block their thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use durable_core::prelude::*;

use super::hub::{Hub, PATIENCE, until};
use super::on_every_store;

on_every_store! {
    a_blocking_activity_does_not_block_the_others,
    what_blocks_at_once_is_bounded,
    a_blocking_activity_is_told_that_nobody_wants_its_result,
    one_that_ignores_its_cancellation_keeps_its_thread_and_nothing_else,
    a_panicking_blocking_activity_fails_its_call_and_nothing_else,
}

/// What keeps the activity `block`, and what it does.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    /// How many are inside, the most at once, and how many left because they were told to.
    inside: AtomicU32,
    most: AtomicU32,
    told: AtomicU32,
}

impl Gate {
    fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    fn inside(&self) -> u32 {
        self.inside.load(Ordering::SeqCst)
    }
}

/// Waits on its thread for the gate.
#[activity(blocking)]
fn block(
    ctx: ActivityContext,
    State(gate): State<Arc<Gate>>,
    listens: bool,
) -> Result<(), ActivityError> {
    let inside = gate.inside.fetch_add(1, Ordering::SeqCst) + 1;
    gate.most.fetch_max(inside, Ordering::SeqCst);
    let mut told = Ok(());
    while told.is_ok() && !gate.open.load(Ordering::SeqCst) {
        std::thread::sleep(millis(1));
        if listens {
            told = ctx.check_cancelled();
        }
    }
    gate.told.fetch_add(u32::from(told.is_err()), Ordering::SeqCst);
    gate.inside.fetch_sub(1, Ordering::SeqCst);
    told
}

#[activity]
async fn hasten(number: u32) -> Result<u32, ActivityError> {
    Ok(number)
}

#[activity(blocking)]
fn divide((dividend, divisor): (u32, u32)) -> Result<u32, ActivityError> {
    Ok(dividend / divisor)
}

#[orchestrator]
async fn blocked(ctx: OrchestrationContext, listens: bool) -> Result<(), OrchestrationError> {
    Ok(ctx.call(block, &listens).await?)
}

/// Gives `block` up after a moment.
#[orchestrator]
async fn impatient(ctx: OrchestrationContext, listens: bool) -> Result<bool, OrchestrationError> {
    let work = ctx.call(block, &listens);
    Ok(matches!(ctx.race(work, ctx.sleep(millis(20))).await, Either::Left(_)))
}

#[orchestrator]
async fn hastened(ctx: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> {
    Ok(ctx.call(hasten, &number).await?)
}

#[orchestrator]
async fn divided(ctx: OrchestrationContext, both: (u32, u32)) -> Result<u32, OrchestrationError> {
    Ok(ctx.call(divide, &both).await?)
}

/// A worker with that many threads for blocking activities.
async fn worker(hub: &Hub, gate: &Arc<Gate>, threads: usize) -> Worker {
    let mut registry = Registry::new();
    registry.register(block).register(hasten).register(divide).state(gate.clone());
    registry.register(blocked).register(impatient).register(hastened).register(divided);
    let builder = hub.builder(registry).max_blocking_activities(threads);
    builder.start().await.expect("started")
}

async fn a_blocking_activity_does_not_block_the_others(hub: Hub) {
    let gate = Arc::new(Gate::default());
    let worker = worker(&hub, &gate, 2).await;
    let client = worker.client();
    let waiting = client.start(blocked, true).await.expect("started");
    until("it blocks", || async { gate.inside() == 1 }).await;
    let other = client.start(hastened, 7).await.expect("started");
    assert_eq!(other.output_within(PATIENCE).await.expect("others go on"), 7);
    // A second thread is there for the next one.
    let other = client.start(divided, (6, 2)).await.expect("started");
    assert_eq!(other.output_within(PATIENCE).await.expect("completed"), 3);
    gate.open();
    waiting.output_within(PATIENCE).await.expect("completed");
}

async fn what_blocks_at_once_is_bounded(hub: Hub) {
    let gate = Arc::new(Gate::default());
    let worker = worker(&hub, &gate, 2).await;
    let client = worker.client();
    let mut handles = Vec::new();
    for _ in 0..8 {
        handles.push(client.start(blocked, true).await.expect("started"));
    }
    until("two block", || async { gate.inside() == 2 }).await;
    gate.open();
    for handle in handles {
        handle.output_within(PATIENCE).await.expect("completed");
    }
    assert_eq!(gate.most.load(Ordering::SeqCst), 2);
}

async fn a_blocking_activity_is_told_that_nobody_wants_its_result(hub: Hub) {
    let gate = Arc::new(Gate::default());
    let worker = worker(&hub, &gate, 1).await;
    let client = worker.client();
    let dropped = client.start(impatient, true).await.expect("started");
    assert!(!dropped.output_within(PATIENCE).await.expect("completed"), "the timer wins");
    // The only thread becomes free again.
    let other = client.start(divided, (6, 2)).await.expect("started");
    assert_eq!(other.output_within(PATIENCE).await.expect("completed"), 3);
    // On a slow machine it was cancelled before it began; then nobody was inside.
    assert_eq!(gate.told.load(Ordering::SeqCst), gate.most.load(Ordering::SeqCst));
    assert_eq!(gate.inside(), 0);
    worker.shutdown().await.expect("a clean end");
}

async fn one_that_ignores_its_cancellation_keeps_its_thread_and_nothing_else(hub: Hub) {
    let gate = Arc::new(Gate::default());
    let worker = worker(&hub, &gate, 1).await;
    let client = worker.client();
    let stubborn = client.start(blocked, false).await.expect("started");
    until("it blocks", || async { gate.inside() == 1 }).await;
    stubborn.terminate("no longer wanted").await.expect("accepted");
    until("it is terminated", || async {
        let status = stubborn.status().await.expect("read");
        status.runtime_status() == RuntimeStatus::Terminated
    })
    .await;
    // Async work goes on; what blocks waits for the thread, which nobody can take away.
    let other = client.start(hastened, 7).await.expect("started");
    assert_eq!(other.output_within(PATIENCE).await.expect("others go on"), 7);
    let next = client.start(divided, (6, 2)).await.expect("started");
    assert_eq!(gate.inside(), 1);
    gate.open();
    assert_eq!(next.output_within(PATIENCE).await.expect("completed"), 3);
}

async fn a_panicking_blocking_activity_fails_its_call_and_nothing_else(hub: Hub) {
    let gate = Arc::new(Gate::default());
    let worker = worker(&hub, &gate, 1).await;
    let client = worker.client();
    let panics = client.start(divided, (6, 0)).await.expect("started");
    match panics.output_within(PATIENCE).await {
        Err(ClientError::Failed { failure, .. }) => {
            assert_eq!(failure.kind, "Panic");
            let cause = failure.cause.expect("the original");
            assert_eq!(cause.class, FailureClass::Panic);
            assert_eq!(&*cause.message, "attempt to divide by zero");
        }
        other => panic!("it should have failed: {other:?}"),
    }
    let next = client.start(divided, (6, 2)).await.expect("started");
    assert_eq!(next.output_within(PATIENCE).await.expect("the thread is there"), 3);
}
