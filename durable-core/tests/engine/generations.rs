//! Orchestrators that begin again: continue-as-new, on every store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use durable_core::EventKind;
use durable_core::prelude::*;
use serde::{Deserialize, Serialize};

use super::faulty::Fault;
use super::hub::{Hub, PATIENCE, until};
use super::on_every_store;

on_every_store! {
    each_execution_begins_with_the_input_of_the_one_before,
    events_in_random_batches_are_summed_once_each_across_executions,
    the_sum_is_conserved_when_workers_die,
    an_endless_loop_that_never_waits_lets_others_run_and_can_be_ended,
    an_input_of_another_shape_fails_where_it_is_given,
    what_an_execution_left_open_never_reaches_the_next,
    changed_code_and_old_histories_live_together,
}

#[derive(Clone, Default)]
struct Looks(Arc<AtomicU32>);

#[activity]
async fn look(State(looks): State<Looks>, day: u32) -> Result<u32, ActivityError> {
    looks.0.fetch_add(1, Ordering::SeqCst);
    Ok(day)
}

#[orchestrator]
async fn monitor(ctx: OrchestrationContext, day: u32) -> Result<u32, OrchestrationError> {
    ctx.set_custom_status(&day)?;
    let seen = ctx.call(look, &day).await?;
    ctx.sleep(millis(5)).await;
    if seen < 5 {
        return ctx.continue_as_new(&(seen + 1));
    }
    Ok(seen)
}

async fn each_execution_begins_with_the_input_of_the_one_before(hub: Hub) {
    let looks = Looks::default();
    let mut registry = Registry::new();
    registry.register(monitor).register(look).state(looks.clone());
    let worker = hub.worker(registry).await;
    let handle = worker.client().start(monitor, 1).await.expect("started");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), 5);
    assert_eq!(looks.0.load(Ordering::SeqCst), 5);

    let status = handle.status().await.expect("it is there");
    assert_eq!(status.execution().0, 4);
    assert_eq!(Some(status.run()), handle.run());
    assert_eq!(status.input::<u32>().expect("a number"), 5);
    assert_eq!(status.custom_status::<u32>().expect("a number"), Some(5));
    let history = handle.history().await.expect("it is there");
    let EventKind::ExecutionStarted(started) = &history.events()[0].is else {
        panic!("begins with {:?}", history.events()[0])
    };
    assert_eq!(started.continues.map(|execution| execution.0), Some(3));
    assert_eq!(history.events().len(), 6, "of the last execution alone");
    worker.shutdown().await.expect("a clean end");
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sum {
    left: u32,
    sum: u64,
    /// How many events each execution takes.
    batch: u32,
}

#[orchestrator]
async fn total(ctx: OrchestrationContext, so_far: Sum) -> Result<u64, OrchestrationError> {
    let Sum { mut left, mut sum, batch } = so_far;
    for _ in 0..batch.min(left) {
        sum += ctx.wait_event::<u64>("add").await?;
        left -= 1;
    }
    if left == 0 { Ok(sum) } else { ctx.continue_as_new(&Sum { left, sum, batch }) }
}

/// Numbers that look random, the same in each run of the test.
fn numbers() -> impl FnMut(u32) -> u32 {
    let mut state = 0x2545_f491_u32;
    move |below| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % below
    }
}

async fn events_in_random_batches_are_summed_once_each_across_executions(hub: Hub) {
    let mut registry = Registry::new();
    registry.register(total);
    let worker = hub.worker(registry).await;
    let client = worker.client();
    let mut below = numbers();
    for batch in [1, 3, 7] {
        let count = 60;
        let input = Sum { left: count, sum: 0, batch };
        let handle = client.start(total, input).await.expect("started");
        let (mut sent, mut expected) = (0, 0);
        while sent < count {
            let burst = (1 + below(12)).min(count - sent);
            let raises = (sent..sent + burst)
                .map(|n| handle.raise_event("add", &(1_u64 << (n % 40))).into_future());
            futures::future::try_join_all(raises).await.expect("all are accepted");
            expected += (sent..sent + burst).map(|n| 1_u64 << (n % 40)).sum::<u64>();
            sent += burst;
            if below(3) == 0 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), expected, "{batch}");
        let status = handle.status().await.expect("it is there");
        assert_eq!(status.execution().0, count.div_ceil(batch) - 1);
        assert!(status.unconsumed().is_empty());
    }
    worker.shutdown().await.expect("a clean end");
}

async fn the_sum_is_conserved_when_workers_die(hub: Hub) {
    let outside = hub.outside().await;
    let input = Sum { left: 60, sum: 0, batch: 4 };
    let handle = outside.start(total, input).id("sum-1").await.expect("accepted");
    for n in 1..=60_u64 {
        handle.raise_event("add", &n).await.expect("accepted");
    }
    let mut deaths = 0;
    let output = loop {
        // The first two processes die behind one of their first commits.
        let mut commits = 0;
        hub.faults.plan(move |_, method| {
            commits += u64::from(method == "commit");
            (method == "commit" && commits == 2 && deaths < 2).then_some(Fault::Dies)
        });
        let mut registry = Registry::new();
        registry.register(total);
        let start = hub.builder(registry).start();
        let died = until("its process dies", || async { hub.faults.dead() });
        let worker = tokio::select! {
            started = start => started.expect("the worker starts"),
            () = died => {
                deaths += 1;
                continue;
            }
        };
        let died = until("its process dies", || async { hub.faults.dead() });
        tokio::select! {
            output = handle.output_within(PATIENCE) => break output.expect("completed"),
            () = died => deaths += 1,
        }
        drop(worker);
    };
    hub.faults.heal();
    assert_eq!(output, (1..=60).sum::<u64>());
    assert!(deaths > 0, "no process died");
    let status = handle.status().await.expect("it is there");
    assert_eq!(status.execution().0, 14);
    assert_eq!(Some(status.run()), handle.run());
}

async fn an_endless_loop_that_never_waits_lets_others_run_and_can_be_ended(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("endless", |ctx, n: u64| async move {
        ctx.continue_as_new::<()>(&(n + 1))
    });
    registry.register_orchestrator_fn("calm", |_, n: u64| async move { Ok(n) });
    let worker = hub.worker(registry).await;
    let client = worker.client();
    let endless = client.start_by_name("endless", &0_u64).await.expect("started");
    for n in 0..20_u64 {
        let calm = client.start_by_name("calm", &n).await.expect("started");
        let output = calm.output_within(PATIENCE).await.expect("completed");
        assert_eq!(output.to::<u64>().expect("a number"), n);
    }
    until("some generations", || async {
        endless.status().await.expect("it is there").execution().0 > 20
    })
    .await;
    endless.terminate("enough").await.expect("accepted");
    let status = endless.wait().await.expect("it ends");
    assert_eq!(status.runtime_status(), RuntimeStatus::Terminated);
    worker.shutdown().await.expect("a clean end");
}

async fn an_input_of_another_shape_fails_where_it_is_given(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("typed", |ctx, _: u64| async move {
        ctx.continue_as_new::<()>(&"text")
    });
    registry.register_orchestrator_fn("ignored", |ctx, _: u64| async move {
        drop(ctx.continue_as_new::<()>(&1));
        Ok(())
    });
    let worker = hub.worker(registry).await;
    for (name, sentence) in [
        ("typed", "the input with which orchestrator \"typed\" continues"),
        ("ignored", "return ctx.continue_as_new"),
    ] {
        let handle = worker.client().start_by_name(name, &1_u64).await.expect("started");
        let error = handle.output_within(PATIENCE).await.expect_err("it fails");
        assert!(error.to_string().contains(sentence), "{error}");
        assert_eq!(handle.status().await.expect("it is there").execution().0, 0);
    }
    worker.shutdown().await.expect("a clean end");
}

async fn what_an_execution_left_open_never_reaches_the_next(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_activity_fn("slow", |ctx, n: u32| async move {
        if n == 0 {
            ctx.cancelled().await;
        }
        Ok(n)
    });
    registry.register_orchestrator_fn("restless", |ctx, n: u32| async move {
        let open = ctx.call_by_name::<u32>("slow", &n);
        match ctx.race(open, ctx.wait_event::<()>("next")).await {
            Either::Left(result) => Ok(result?),
            Either::Right(_) => ctx.continue_as_new(&(n + 1)),
        }
    });
    let worker = hub.worker(registry).await;
    let handle = worker.client().start_by_name("restless", &0_u32).await.expect("started");
    handle.raise_event("next", &()).await.expect("accepted");
    let output = handle.output_within(PATIENCE).await.expect("completed");
    assert_eq!(output.to::<u32>().expect("a number"), 1);
    worker.shutdown().await.expect("a clean end");
}

/// The build of one stage of a patch: what it calls when it is told to go.
fn build(stage: u32) -> Registry {
    let mut registry = Registry::new();
    registry.register_activity_fn("charge", |_, name: String| async move { Ok(name) });
    registry.register_orchestrator_fn("pay", move |ctx, (): ()| async move {
        ctx.wait_event::<()>("begin").await?;
        let new = match stage {
            0 => false,
            1 => ctx.patched("tax"),
            2 => {
                ctx.deprecate_patch("tax");
                true
            }
            _ => true,
        };
        let name = if new { "with tax" } else { "without" };
        // Who is under way here is asked for its path again by each later build.
        let charged = ctx.call_by_name::<String>("charge", &name).await?;
        ctx.sleep(millis(1)).await;
        ctx.wait_event::<()>("end").await?;
        Ok(charged)
    });
    registry
}

async fn changed_code_and_old_histories_live_together(hub: Hub) {
    // Each stage starts an instance, brings it past the patch, and finds those of the stage before it.
    let stages = ["without", "with tax", "with tax", "with tax"];
    for (stage, charged) in (0..).zip(stages) {
        let worker = hub.worker(build(stage)).await;
        let client = worker.client();
        if stage > 0 {
            let earlier = client.instance(format!("pay-{}", stage - 1)).expect("valid");
            earlier.raise_event("end", &()).await.expect("accepted");
            let output = earlier.output_within(PATIENCE).await.expect("it fits this build, too");
            assert_eq!(output.to::<String>().expect("a text"), stages[stage as usize - 1]);
        }
        let id = format!("pay-{stage}");
        let handle = client.start_by_name("pay", &()).id(id).await.expect("started");
        handle.raise_event("begin", &()).await.expect("accepted");
        until("it is past the patch", || async {
            let history = handle.history().await.expect("it is there");
            history.events().iter().any(|event| matches!(event.is, EventKind::TimerFired { .. }))
        })
        .await;
        let history = handle.history().await.expect("it is there");
        let marked =
            history.events().iter().any(|event| matches!(event.is, EventKind::Patched { .. }));
        assert_eq!(marked, stage == 1 || stage == 2, "stage {stage}: {charged}");
        worker.shutdown().await.expect("a clean end");
    }
}
