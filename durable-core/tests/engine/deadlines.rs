//! Runs that have to end by a time.

use chrono::{TimeDelta, Utc};
use durable_core::prelude::*;

use super::hub::{Hub, PATIENCE, until_is};
use super::on_every_store;

on_every_store! {
    a_run_that_has_not_ended_at_its_deadline_fails_and_its_activity_is_told,
    a_run_that_ends_in_time_is_left_alone,
    the_deadline_is_counted_from_the_time_of_a_later_start,
    a_deadline_comes_while_the_run_is_suspended_and_while_nobody_serves_it,
    a_deadline_holds_for_all_executions_of_a_run,
    a_child_has_a_time_limit_of_its_own,
    a_restart_and_a_rewind_give_the_length_anew,
}

#[activity]
async fn endless(ctx: ActivityContext) -> Result<(), ActivityError> {
    ctx.cancelled().await;
    Err(ctx
        .check_cancelled()
        .map_or_else(Into::into, |()| ActivityError::new("Woken", "for nothing")))
}

#[orchestrator]
async fn works_for_ever(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    Ok(ctx.call(endless, &()).await?)
}

#[orchestrator]
async fn waits(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    ctx.set_custom_status(&ctx.deadline().map(|deadline| deadline.timestamp_micros()))?;
    Ok(ctx.wait_event("end").await?)
}

/// Begins again and again.
#[orchestrator]
async fn ticks(ctx: OrchestrationContext, round: u32) -> Result<(), OrchestrationError> {
    ctx.sleep(millis(20)).await;
    ctx.continue_as_new(&(round + 1))
}

#[orchestrator]
async fn asks_child(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    match ctx.child(waits, &()).id("late-child").time_limit(millis(100)).await {
        Ok(said) => Ok(said),
        Err(error) if error.is("DeadlineExceeded") => Ok("too late".into()),
        Err(error) => Err(error.into()),
    }
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(endless).register(works_for_ever).register(waits);
    registry.register(ticks).register(asks_child);
    registry
}

/// Waits until it has failed because of its deadline, not before it.
async fn is_late<T>(handle: &Handle<T>) {
    let status = tokio::time::timeout(PATIENCE, handle.wait()).await;
    let status = status.expect("it ends").expect("it can be read");
    assert_eq!(status.runtime_status(), RuntimeStatus::Failed);
    let failure = status.failure().expect("it says why");
    assert_eq!(failure.kind, "DeadlineExceeded");
    let deadline = status.deadline().expect("it has one");
    assert!(status.updated_at() >= deadline, "{:?} is before {deadline}", status.updated_at());
}

async fn a_run_that_has_not_ended_at_its_deadline_fails_and_its_activity_is_told(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for client in [worker.client(), hub.outside().await] {
        let handle = client.start(works_for_ever, ()).time_limit(millis(150)).await;
        is_late(&handle.expect("started")).await;
        let soon = Utc::now() + TimeDelta::milliseconds(100);
        let handle = client.start(waits, ()).deadline(soon).await.expect("started");
        is_late(&handle).await;
        let past = client.start(waits, ()).deadline(soon - TimeDelta::hours(1)).await;
        let past = past.expect("started");
        is_late(&past).await;
        let status = past.status().await.expect("there");
        assert_eq!(status.custom_status::<i64>().expect("a number"), None, "no code has run");
    }
    // The worker stops at once: the activity has ended when it was told.
    worker.shutdown().await.expect("stopped");
}

async fn a_run_that_ends_in_time_is_left_alone(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start(waits, ()).id("quick").time_limit(hours(1)).await.expect("started");
    let status = until_is(&client, "quick", RuntimeStatus::Running).await;
    let deadline = status.deadline().expect("it has one");
    assert_eq!(deadline, status.created_at() + TimeDelta::hours(1));
    handle.raise_event("end", "done").await.expect("taken");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), "done");
    let status = handle.status().await.expect("there");
    let seen = status.custom_status::<i64>().expect("a number");
    assert_eq!(seen, Some(deadline.timestamp_micros()));
    assert_eq!(status.deadline(), Some(deadline));
}

async fn the_deadline_is_counted_from_the_time_of_a_later_start(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let start = worker.client().start(waits, ()).delay(millis(200)).time_limit(millis(100));
    let handle = start.await.expect("accepted");
    let status = handle.status().await.expect("there");
    let due = status.scheduled_for().expect("a time");
    assert_eq!(status.deadline(), Some(due + TimeDelta::milliseconds(100)));
    is_late(&handle).await;
}

async fn a_deadline_comes_while_the_run_is_suspended_and_while_nobody_serves_it(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start(waits, ()).id("held").time_limit(millis(300)).await.expect("started");
    until_is(&client, "held", RuntimeStatus::Running).await;
    handle.suspend("wait").await.expect("taken");
    is_late(&handle).await;

    let left = client.start(waits, ()).id("left").time_limit(millis(100)).await.expect("started");
    left.suspend("wait").await.expect("taken");
    worker.shutdown().await.expect("stopped");
    tokio::time::sleep(millis(150)).await;
    let worker = hub.worker(registry()).await;
    is_late(&worker.client().instance_of(waits, left.id()).expect("a valid id")).await;
}

async fn a_deadline_holds_for_all_executions_of_a_run(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let handle = worker.client().start(ticks, 0).time_limit(millis(300)).await.expect("started");
    is_late(&handle).await;
    assert!(handle.status().await.expect("there").execution().0 > 0);
}

async fn a_child_has_a_time_limit_of_its_own(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start(asks_child, ()).await.expect("started");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), "too late");
    is_late(&client.instance("late-child").expect("a valid id")).await;
}

async fn a_restart_and_a_rewind_give_the_length_anew(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle =
        client.start(waits, ()).id("again").time_limit(millis(100)).await.expect("started");
    is_late(&handle).await;
    let first = handle.status().await.expect("there").deadline().expect("one");

    handle.rewind("once more").await.expect("taken");
    is_late(&handle).await;
    let second = handle.status().await.expect("there").deadline().expect("one");
    assert!(second > first, "{second} is not after {first}");

    let again = handle.restart().await.expect("started");
    let status = again.status().await.expect("there");
    let length = status.deadline().expect("one") - status.created_at();
    assert_eq!(length, TimeDelta::milliseconds(100));
    is_late(&again).await;
}
