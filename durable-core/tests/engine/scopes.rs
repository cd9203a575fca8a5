//! Calls that are cancelled together, and whose end is waited for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use durable_core::EventKind;
use durable_core::WorkerBuilder;
use durable_core::prelude::*;

use super::hub::{Hub, PATIENCE, until, until_is};
use super::on_every_store;

on_every_store! {
    a_cancel_is_over_when_the_code_of_every_call_has_returned,
    a_call_that_waits_for_a_retry_or_for_room_ends_at_once,
    a_cancel_that_was_accepted_is_kept_by_the_next_worker,
    children_of_a_scope_have_ended_with_theirs,
    a_scope_is_cancelled_with_the_one_around_it,
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>, Arc<AtomicU32>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("not poisoned").push(what.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }
}

/// Runs until it is told to end, and then takes a while to do so.
#[activity]
async fn tidy(
    ctx: ActivityContext,
    State(log): State<Log>,
    name: String,
) -> Result<(), ActivityError> {
    log.note(format!("{name} begins"));
    log.1.fetch_add(1, Ordering::SeqCst);
    ctx.cancelled().await;
    tokio::time::sleep(millis(60)).await;
    log.note(format!("{name} has stopped"));
    Err(ActivityError::new("Stopped", "it was told to"))
}

#[activity]
async fn busy(State(log): State<Log>) -> Result<(), ActivityError> {
    log.1.fetch_add(1, Ordering::SeqCst);
    Err(ActivityError::new("Busy", "come back in an hour"))
}

#[activity]
async fn note(State(log): State<Log>, what: String) -> Result<(), ActivityError> {
    log.note(what);
    Ok(())
}

/// Two activities until somebody says stop; then what they came to.
#[orchestrator]
async fn until_stopped(
    ctx: OrchestrationContext,
) -> Result<Vec<(String, bool)>, OrchestrationError> {
    let scope = ctx.scope();
    let both = ctx.join_all(["left", "right"].map(|name| scope.call(tidy, &name.to_owned())));
    let _ = ctx.race(both, ctx.wait_event::<()>("stop")).await;
    let ended = scope.cancel().await;
    ctx.call(note, &"all have ended".to_owned()).await?;
    Ok(ended.iter().map(|call| (call.name().to_owned(), call.was_cancelled())).collect())
}

#[orchestrator]
async fn tries_again(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    let scope = ctx.scope();
    let policy = RetryPolicy::fixed(hours(1));
    let mut call = scope.call(busy, &()).retry(policy);
    let _ = ctx.race(&mut call, ctx.wait_event::<()>("stop")).await;
    scope.cancel().await;
    let failure = call.await.expect_err("it never succeeds");
    Ok(failure.kind().to_owned())
}

#[orchestrator]
async fn family(ctx: OrchestrationContext, generations: u32) -> Result<(), OrchestrationError> {
    if generations == 0 {
        ctx.wait_event::<()>("never").await?;
    } else {
        ctx.child(family, &(generations - 1)).id(format!("generation-{generations}")).await?;
    }
    Ok(())
}

#[orchestrator]
async fn ends_its_child(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    let scope = ctx.scope();
    let mut child = scope.child(family, &1).id("eldest");
    let _ = ctx.race(&mut child, ctx.wait_event::<()>("stop")).await;
    let ended = scope.cancel().await;
    assert_eq!(ended.len(), 1);
    Ok(child.await.expect_err("it was terminated").kind().to_owned())
}

#[orchestrator]
async fn nested(ctx: OrchestrationContext) -> Result<(usize, bool), OrchestrationError> {
    let outer = ctx.scope();
    let inner = outer.scope();
    let calls = [outer.call(tidy, &"outer".into()), inner.call(tidy, &"inner".into())];
    let _ = ctx.race(ctx.join_all(calls), ctx.wait_event::<()>("stop")).await;
    let ended = outer.cancel().await;
    let late = inner.call(note, &"too late".into()).await;
    inner.sleep(days(1)).await;
    Ok((ended.len(), late.is_err() && inner.is_cancelled()))
}

fn registry(log: &Log) -> Registry {
    let mut registry = Registry::new();
    registry.register(tidy).register(busy).register(note).state(log.clone());
    registry.register(until_stopped).register(tries_again).register(family);
    registry.register(ends_its_child).register(nested);
    registry
}

async fn begun(log: &Log, count: u32) {
    until("they have begun", || async { log.1.load(Ordering::SeqCst) >= count }).await;
}

async fn a_cancel_is_over_when_the_code_of_every_call_has_returned(hub: Hub) {
    let log = Log::default();
    let worker = hub.worker(registry(&log)).await;
    let handle = worker.client().start(until_stopped, ()).await.expect("started");
    begun(&log, 2).await;
    handle.raise_event("stop", &()).await.expect("taken");
    let ended = handle.output_within(PATIENCE).await.expect("completed");
    assert_eq!(ended, [("tidy".to_owned(), true), ("tidy".to_owned(), true)]);
    let lines = log.lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(lines.last().map(String::as_str), Some("all have ended"), "{lines:?}");
}

async fn a_call_that_waits_for_a_retry_or_for_room_ends_at_once(hub: Hub) {
    let log = Log::default();
    let one = |builder: WorkerBuilder| builder.max_concurrent_activities(1);
    let worker = hub.worker_with(registry(&log), one).await;
    let client = worker.client();
    let handle = client.start(tries_again, ()).await.expect("started");
    begun(&log, 1).await;
    handle.raise_event("stop", &()).await.expect("taken");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), "Cancelled");

    // One of the two waits for the other's lane.
    let handle = client.start(until_stopped, ()).await.expect("started");
    begun(&log, 2).await;
    handle.raise_event("stop", &()).await.expect("taken");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed").len(), 2);
    let lines = log.lines();
    assert_eq!(lines.iter().filter(|line| line.ends_with("begins")).count(), 1, "{lines:?}");
}

async fn a_cancel_that_was_accepted_is_kept_by_the_next_worker(hub: Hub) {
    let log = Log::default();
    let worker = hub.worker(registry(&log)).await;
    let client = worker.client();
    client.start(until_stopped, ()).id("kept").await.expect("started");
    begun(&log, 2).await;
    let handle = client.instance_of(until_stopped, "kept").expect("a valid id");
    handle.raise_event("stop", &()).await.expect("taken");
    until("it is asked for", || async {
        let history = handle.history().await.expect("it can be read");
        history.events().iter().any(|event| matches!(event.is, EventKind::CancelRequested { .. }))
    })
    .await;
    worker.shutdown().await.expect("stopped");
    let worker = hub.worker(registry(&log)).await;
    let handle = worker.client().instance_of(until_stopped, "kept").expect("a valid id");
    let ended = handle.output_within(PATIENCE).await.expect("completed");
    assert_eq!(ended.len(), 2);
    let lines = log.lines();
    assert_eq!(lines.iter().filter(|line| line.ends_with("begins")).count(), 2, "{lines:?}");
}

async fn children_of_a_scope_have_ended_with_theirs(hub: Hub) {
    let log = Log::default();
    let worker = hub.worker(registry(&log)).await;
    let client = worker.client();
    let handle = client.start(ends_its_child, ()).await.expect("started");
    until_is(&client, "generation-1", RuntimeStatus::Running).await;
    handle.raise_event("stop", &()).await.expect("taken");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), "Terminated");
    let eldest = client.status("eldest").await.expect("read").expect("there");
    assert_eq!(eldest.runtime_status(), RuntimeStatus::Terminated);
    until_is(&client, "generation-1", RuntimeStatus::Terminated).await;
}

async fn a_scope_is_cancelled_with_the_one_around_it(hub: Hub) {
    let log = Log::default();
    let worker = hub.worker(registry(&log)).await;
    let handle = worker.client().start(nested, ()).await.expect("started");
    begun(&log, 2).await;
    handle.raise_event("stop", &()).await.expect("taken");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), (2, true));
    assert_eq!(log.lines().iter().filter(|line| line.ends_with("has stopped")).count(), 2);
}
