//! Calls of activities: results, failures, retries, limits of time, cancellation.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use durable_core::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use super::hub::{Hub, PATIENCE, until};
use super::on_every_store;

on_every_store! {
    a_typed_call_returns_what_the_activity_returns,
    a_failing_call_is_retried_as_its_policy_says,
    a_call_without_policy_fails_at_the_first_failure,
    a_permanent_error_is_not_retried,
    an_attempt_that_takes_too_long_is_told_and_retried,
    a_panicking_activity_fails_its_call_and_nothing_else,
    an_unknown_activity_fails_the_call_by_name,
    an_error_keeps_its_type_across_the_boundary,
    the_idempotency_key_is_one_for_all_attempts_and_owners,
    a_dropped_call_is_cancelled_in_its_activity,
    an_activity_that_ignores_its_cancellation_is_dropped_after_the_grace,
    what_runs_at_once_is_bounded,
    an_activity_with_a_limit_of_its_own_keeps_it_and_holds_nobody_up,
    an_activity_of_another_input_shape_fails_with_a_sentence,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().expect("no panic here").push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no panic here").clone()
    }
}

#[activity]
async fn pack(State(journal): State<Journal>, order: Order) -> Result<Order, ActivityError> {
    journal.note(format!("packed {}", order.item));
    Ok(Order { count: order.count * 2, ..order })
}

#[orchestrator]
async fn pack_twice(ctx: OrchestrationContext, order: Order) -> Result<Order, OrchestrationError> {
    let once = ctx.call(pack, &order).await?;
    Ok(ctx.call(pack, &once).await?)
}

async fn a_typed_call_returns_what_the_activity_returns(hub: Hub) {
    let journal = Journal::default();
    let mut registry = Registry::new();
    registry.register(pack_twice).register(pack).state(journal.clone());
    let worker = hub.worker(registry).await;
    let order = Order { item: "lamp".into(), count: 1 };
    let packed = worker.client().start(pack_twice, order).await.expect("started").output().await;
    assert_eq!(packed.expect("completed"), Order { item: "lamp".into(), count: 4 });
    assert_eq!(journal.lines(), ["packed lamp", "packed lamp"]);
    worker.shutdown().await.expect("a clean end");
}

/// Runs `body` as the activity `work`, called by an orchestrator that returns what becomes of it.
fn calling<F, Fut>(policy: Option<RetryPolicy>, body: F) -> Registry
where
    F: Fn(ActivityContext, u32) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<u32, ActivityError>> + Send + 'static,
{
    let mut registry = Registry::new();
    registry.register_activity_fn("work", body);
    registry.register_orchestrator_fn("call", move |ctx, input: u32| {
        let policy = policy.clone();
        async move {
            let mut call = ctx.call_by_name::<u32>("work", &input);
            if let Some(policy) = policy {
                call = call.retry(policy);
            }
            Ok(call.await?)
        }
    });
    registry
}

async fn outcome(worker: &Worker, input: u32) -> Result<u32, ClientError> {
    let handle = worker.client().start_by_name("call", &input).await?;
    handle.output_within(PATIENCE).await?.to().map_err(|e| ClientError::Payload(e.to_string()))
}

fn failure(outcome: Result<u32, ClientError>) -> durable_core::Failure {
    match outcome {
        Err(ClientError::Failed { failure, .. }) => *failure,
        other => panic!("it should have failed: {other:?}"),
    }
}

async fn a_failing_call_is_retried_as_its_policy_says(hub: Hub) {
    let policy = RetryPolicy::fixed(millis(2)).attempts(3);
    let worker = hub
        .worker(calling(Some(policy), |ctx, fails: u32| async move {
            if ctx.attempt() <= fails {
                return Err(ActivityError::new("Busy", format!("attempt {}", ctx.attempt())));
            }
            Ok(ctx.attempt())
        }))
        .await;
    assert_eq!(outcome(&worker, 2).await.expect("the third attempt succeeds"), 3);
    let failure = failure(outcome(&worker, 3).await);
    assert_eq!((&*failure.kind, &*failure.message), ("Busy", "attempt 3"));
}

async fn a_call_without_policy_fails_at_the_first_failure(hub: Hub) {
    let worker = hub
        .worker(calling(None, |ctx, _| async move {
            Err(ActivityError::new("Busy", format!("attempt {}", ctx.attempt())))
        }))
        .await;
    assert_eq!(failure(outcome(&worker, 0).await).message, "attempt 1");
}

async fn a_permanent_error_is_not_retried(hub: Hub) {
    let policy = RetryPolicy::fixed(millis(1)).attempts(5).except("Excepted");
    let worker = hub
        .worker(calling(Some(policy), |ctx, permanent: u32| async move {
            let attempt = format!("attempt {}", ctx.attempt());
            Err(if permanent == 1 {
                ActivityError::new("Busy", attempt).permanent()
            } else {
                ActivityError::new("Excepted", attempt)
            })
        }))
        .await;
    for permanent in [0, 1] {
        assert_eq!(failure(outcome(&worker, permanent).await).message, "attempt 1");
    }
}

#[orchestrator]
async fn impatient(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    let call = ctx.call_by_name::<String>("slow", &()).timeout(millis(20));
    Ok(call.retry(RetryPolicy::fixed(millis(1)).attempts(2)).await?)
}

async fn an_attempt_that_takes_too_long_is_told_and_retried(hub: Hub) {
    let told = Journal::default();
    let journal = told.clone();
    let mut registry = Registry::new();
    registry.register(impatient).register_activity_fn("slow", move |ctx, (): ()| {
        let journal = journal.clone();
        async move {
            if ctx.attempt() > 1 {
                return Ok("the second was quick".to_owned());
            }
            ctx.cancelled().await;
            journal.note("told");
            Ok("too late".to_owned())
        }
    });
    let worker = hub.worker(registry).await;
    let handle = worker.client().start(impatient, ()).await.expect("started");
    assert_eq!(handle.output().await.expect("completed"), "the second was quick");
    until("the first attempt is told", || async { told.lines() == ["told"] }).await;

    // Without another attempt the call fails, and says why.
    let policy = RetryPolicy::fixed(millis(1)).attempts(1);
    let mut registry = Registry::new();
    registry.register_activity_fn("slow", |ctx, (): ()| async move {
        ctx.cancelled().await;
        Ok(())
    });
    registry.register_orchestrator_fn("fails", move |ctx, (): ()| {
        let policy = policy.clone();
        async move {
            let call = ctx.call_by_name::<()>("slow", &()).timeout(millis(5)).retry(policy);
            let error = call.await.expect_err("it takes too long");
            Ok((error.is_timeout(), error.to_string()))
        }
    });
    worker.shutdown().await.expect("a clean end");
    let worker = hub.worker(registry).await;
    let handle = worker.client().start_by_name("fails", &()).await.expect("started");
    let (timeout, text): (bool, String) =
        handle.output().await.expect("completed").to().expect("a pair");
    assert!(timeout && text.contains("took longer than 5ms"), "{text}");
}

async fn a_panicking_activity_fails_its_call_and_nothing_else(hub: Hub) {
    let worker = hub
        .worker(calling(None, |_, input: u32| async move {
            assert!(input != 13, "no {input} please");
            Ok(input)
        }))
        .await;
    let failure = failure(outcome(&worker, 13).await);
    assert_eq!(failure.kind, "Panic");
    let cause = failure.cause.expect("the original");
    assert_eq!((cause.class, &*cause.message), (FailureClass::Panic, "no 13 please"));
    assert_eq!(outcome(&worker, 14).await.expect("the worker goes on"), 14);
}

async fn an_unknown_activity_fails_the_call_by_name(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("call", |ctx, _: u32| async move {
        Ok(ctx.call_by_name::<u32>("nobody-knows-it", &()).await?)
    });
    let worker = hub.worker(registry).await;
    let failure = failure(outcome(&worker, 0).await);
    assert_eq!(failure.kind, "Unregistered");
    let cause = failure.cause.expect("the original");
    assert_eq!(cause.class, FailureClass::Unregistered);
    assert!(cause.message.contains("\"nobody-knows-it\""), "{}", cause.message);
}

async fn an_error_keeps_its_type_across_the_boundary(hub: Hub) {
    #[derive(Debug, thiserror::Error)]
    #[error("the bank is closed")]
    struct Closed;
    let mut registry = Registry::new();
    registry.register_activity_fn("charge", |_, order: Order| async move {
        Err::<(), _>(
            ActivityError::new("CardDeclined", "over the limit").details(&order).caused_by(Closed),
        )
    });
    registry.register_orchestrator_fn("pay", |ctx, order: Order| async move {
        let error = ctx.call_by_name::<()>("charge", &order).await.expect_err("it is declined");
        assert!(error.is("CardDeclined") && error.activity() == Some("charge"));
        assert_eq!(error.details::<Order>(), Some(order));
        assert_eq!(error.details::<u32>(), None);
        Err::<(), _>(error.into())
    });
    let worker = hub.worker(registry).await;
    let order = Order { item: "lamp".into(), count: 3 };
    let handle = worker.client().start_by_name("pay", &order).await.expect("started");
    let status = handle.wait().await.expect("it ends");
    assert_eq!(status.runtime_status(), RuntimeStatus::Failed);
    let failure = status.failure().expect("why");
    assert_eq!(failure.class, FailureClass::Application);
    assert_eq!((&*failure.kind, &*failure.message), ("CardDeclined", "over the limit"));
    let details = failure.details.as_ref().expect("details").to::<Order>();
    assert_eq!(details.expect("an order"), order);
    let cause = failure.cause.as_ref().expect("a cause");
    assert_eq!((&*cause.kind, &*cause.message), ("Closed", "the bank is closed"));
}

async fn the_idempotency_key_is_one_for_all_attempts_and_owners(hub: Hub) {
    let keys = Journal::default();
    let release = Arc::new(AtomicBool::new(false));
    let registry = || {
        let (keys, release) = (keys.clone(), release.clone());
        let policy = RetryPolicy::fixed(millis(1)).attempts(3);
        calling(Some(policy), move |ctx, _| {
            let (keys, release) = (keys.clone(), release.clone());
            async move {
                keys.note(format!("{} {}", ctx.attempt(), ctx.idempotency_key()));
                if ctx.attempt() == 1 {
                    return Err(ActivityError::new("Busy", "again"));
                }
                if !release.load(Ordering::SeqCst) {
                    ctx.cancelled().await;
                }
                Ok(1)
            }
        })
    };
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start_by_name("call", &0).id("keys").await.expect("started");
    until("the second attempt runs", || async { keys.lines().len() == 2 }).await;
    // The first owner is gone in the middle of the second attempt.
    release.store(true, Ordering::SeqCst);
    drop(worker);
    let next = hub.worker(registry()).await;
    let status = next.client().instance("keys").expect("valid").wait().await.expect("it ends");
    assert_eq!(status.runtime_status(), RuntimeStatus::Completed);
    let lines = keys.lines();
    let key = |line: &str| line.split_once(' ').expect("two words").1.to_owned();
    assert!(lines.len() >= 3 && lines[2].starts_with("2 "), "{lines:?}");
    assert!(lines.iter().all(|line| key(line) == key(&lines[0])), "{lines:?}");
    drop(handle);
    // Another call has another key.
    assert_eq!(outcome(&next, 0).await.expect("completed"), 1);
    assert_ne!(key(keys.lines().last().expect("noted")), key(&lines[0]));
}

#[orchestrator]
async fn unless_told(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    let work = ctx.call_by_name::<()>("endless", &());
    Ok(matches!(ctx.race(work, ctx.wait_event::<()>("enough")).await, Either::Left(_)))
}

#[orchestrator]
async fn race_against_time(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    let work = ctx.call_by_name::<()>("endless", &());
    Ok(matches!(ctx.race(work, ctx.sleep(millis(20))).await, Either::Left(_)))
}

async fn a_dropped_call_is_cancelled_in_its_activity(hub: Hub) {
    let (began, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let telling = (began.clone(), told.clone());
    let mut registry = Registry::new();
    registry.register(unless_told).register_activity_fn("endless", move |ctx, (): ()| {
        let (began, told) = telling.clone();
        async move {
            began.notify_one();
            ctx.cancelled().await;
            told.notify_one();
            Ok(())
        }
    });
    let worker = hub.worker(registry).await;
    let handle = worker.client().start(unless_told, ()).await.expect("started");
    began.notified().await;
    handle.raise_event("enough", &()).await.expect("taken");
    assert!(!handle.output().await.expect("completed"), "the event wins");
    tokio::time::timeout(PATIENCE, told.notified()).await.expect("the activity is told");
    // Its late answer changes nothing.
    worker.shutdown().await.expect("a clean end");
    let history = hub.outside().await.history(handle.id()).await.expect("read").expect("there");
    let ends = history.events().iter().filter(|event| event.is.is_terminal()).count();
    assert_eq!(ends, 1, "{history:?}");
}

async fn an_activity_that_ignores_its_cancellation_is_dropped_after_the_grace(hub: Hub) {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let dropped = Arc::new(Notify::new());
    let noticing = dropped.clone();
    let mut registry = calling(None, |_, input: u32| async move { Ok(input) });
    registry.register(race_against_time).register_activity_fn("endless", move |_, (): ()| {
        let guard = Dropped(noticing.clone());
        async move {
            let _guard = guard;
            std::future::pending::<()>().await;
            Ok(())
        }
    });
    let builder = hub.builder(registry).max_concurrent_activities(1).cancel_grace(millis(10));
    let worker = builder.start().await.expect("started");
    let handle = worker.client().start(race_against_time, ()).await.expect("started");
    assert!(!handle.output().await.expect("completed"), "the timer wins");
    tokio::time::timeout(PATIENCE, dropped.notified()).await.expect("it is dropped");
    // Its place is free.
    assert_eq!(outcome(&worker, 5).await.expect("the next one runs"), 5);
}

async fn what_runs_at_once_is_bounded(hub: Hub) {
    let (now, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (running, seen) = (now.clone(), most.clone());
    let mut registry = Registry::new();
    registry.register_activity_fn("work", move |_, (): ()| {
        let (running, seen) = (running.clone(), seen.clone());
        async move {
            seen.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(millis(2)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    registry.register_orchestrator_fn("many", |ctx, (): ()| async move {
        let calls = (0..40).map(|_| ctx.call_by_name::<()>("work", &()));
        Ok(ctx.try_join_all(calls).await?.len())
    });
    let builder = hub.builder(registry).max_concurrent_activities(3);
    let worker = builder.start().await.expect("started");
    let handle = worker.client().start_by_name("many", &()).await.expect("started");
    assert_eq!(handle.output().await.expect("completed").to::<usize>().expect("a number"), 40);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

/// How many of the limited activity run, and ran at most; how many of the others are done.
#[derive(Clone, Copy, Default)]
struct Places {
    now: u32,
    most: u32,
    others_done: u32,
}

async fn an_activity_with_a_limit_of_its_own_keeps_it_and_holds_nobody_up(hub: Hub) {
    let places = watch::Sender::new(Places::default());
    let (rare, common) = (places.clone(), places.clone());
    let mut registry = Registry::new();
    registry.register_activity_fn("rare", move |_, (): ()| {
        let places = rare.clone();
        async move {
            places.send_modify(|places| {
                places.now += 1;
                places.most = places.most.max(places.now);
            });
            // They go on when all the others are done, in whose way they must not be, and both places are taken.
            let over = |places: &Places| places.most >= 2 && places.others_done == 20;
            places.subscribe().wait_for(over).await?;
            places.send_modify(|places| places.now -= 1);
            Ok(())
        }
    });
    registry.register_activity_fn("common", move |_, (): ()| {
        common.send_modify(|places| places.others_done += 1);
        async move { Ok(()) }
    });
    registry.register_orchestrator_fn("many", |ctx, (): ()| async move {
        let rare = (0..10).map(|_| ctx.call_by_name::<()>("rare", &()));
        let common = (0..20).map(|_| ctx.call_by_name::<()>("common", &()));
        Ok(ctx.try_join_all(rare.chain(common)).await?.len())
    });
    let builder = hub.builder(registry).max_concurrent_activities(3).activity_limit("rare", 2);
    let worker = builder.start().await.expect("started");
    let handle = worker.client().start_by_name("many", &()).await.expect("started");
    assert_eq!(handle.output().await.expect("completed").to::<usize>().expect("a number"), 30);
    let Places { most, others_done, .. } = *places.borrow();
    assert_eq!((most, others_done), (2, 20));
}

async fn an_activity_of_another_input_shape_fails_with_a_sentence(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_activity_fn("work", |_, order: Order| async move { Ok(order.count) });
    registry.register_orchestrator_fn("call", |ctx, number: u32| async move {
        Ok(ctx.call_by_name::<u32>("work", &number).await?)
    });
    let worker = hub.worker(registry).await;
    let failure = failure(outcome(&worker, 1).await);
    assert_eq!(failure.kind, "Payload");
    let text = failure.to_string();
    assert!(text.contains("the input of activity \"work\""), "{text}");
}
