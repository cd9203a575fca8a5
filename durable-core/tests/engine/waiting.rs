//! What an orchestrator waits for: timers, external events, and several things at once.

use std::time::Instant;

use ::futures::future::FutureExt;
use ::futures::{StreamExt, select_biased, stream};
use chrono::{DateTime, TimeDelta, Utc};
use durable_core::prelude::*;
use uuid::Uuid;

use super::hub::{Hub, PATIENCE, until_is, until_status};
use super::on_every_store;

on_every_store! {
    timers_of_no_time_in_the_past_and_short_fire_and_never_early,
    a_timer_of_400_days_waits_until_its_instance_is_terminated,
    a_timer_fires_after_a_restart_too,
    events_are_kept_until_they_are_waited_for_and_come_in_order,
    an_event_of_another_name_wakes_nobody,
    an_event_with_an_id_of_the_caller_counts_once,
    a_wait_with_a_time_limit_gives_up_and_leaves_the_event_to_the_next,
    what_is_not_waited_for_is_listed_at_the_end,
    the_first_of_a_race_wins_and_a_tie_goes_to_the_left,
    many_calls_at_once_all_come_back_in_order,
    calls_are_buffered_and_selected_with_plain_futures,
    the_custom_status_is_seen_while_it_runs_and_the_watch_ends,
    time_and_chance_are_the_same_on_every_replay,
}

async fn timers_of_no_time_in_the_past_and_short_fire_and_never_early(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("timers", |ctx, (): ()| async move {
        let begin = ctx.now();
        ctx.sleep(Duration::ZERO).await;
        ctx.sleep_until(begin - TimeDelta::days(3)).await;
        let before = ctx.now();
        ctx.sleep(millis(30)).await;
        Ok((ctx.now() - before).num_microseconds())
    });
    let worker = hub.worker(registry).await;
    let since = Instant::now();
    let handle = worker.client().start_by_name("timers", &()).await.expect("started");
    let slept: i64 = handle.output().await.expect("completed").to().expect("a number");
    assert!(slept >= 30_000, "slept {slept} us");
    assert!(since.elapsed() >= millis(30));
}

#[orchestrator]
async fn sleep_for(
    ctx: OrchestrationContext,
    duration: Duration,
) -> Result<(), OrchestrationError> {
    ctx.sleep(duration).await;
    Ok(())
}

fn sleepers() -> Registry {
    let mut registry = Registry::new();
    registry.register(sleep_for);
    registry
}

async fn a_timer_of_400_days_waits_until_its_instance_is_terminated(hub: Hub) {
    let worker = hub.worker(sleepers()).await;
    let client = worker.client();
    let handle = client.start(sleep_for, days(400)).id("monitor").await.expect("started");
    until_is(&client, "monitor", RuntimeStatus::Running).await;
    handle.terminate("not needed").await.expect("accepted");
    let status = handle.wait().await.expect("it ends");
    assert_eq!(status.runtime_status(), RuntimeStatus::Terminated);
    assert_eq!(status.output::<String>().expect("a text").as_deref(), Some("not needed"));
    match handle.output().await {
        Err(ClientError::Terminated { reason, .. }) => {
            assert_eq!(reason.as_deref(), Some("not needed"));
        }
        other => panic!("terminated has no output: {other:?}"),
    }
}

async fn a_timer_fires_after_a_restart_too(hub: Hub) {
    let worker = hub.worker(sleepers()).await;
    let client = worker.client();
    client.start(sleep_for, millis(150)).id("short").await.expect("started");
    client.start(sleep_for, Duration::ZERO).id("none").await.expect("started");
    worker.shutdown().await.expect("a clean end");
    let worker = hub.worker(sleepers()).await;
    for id in ["short", "none"] {
        let handle = worker.client().instance(id).expect("valid");
        handle.output_within(PATIENCE).await.expect("completed");
    }
}

/// Waits for as many events of a name as it is told, and returns their values.
fn collectors() -> Registry {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn(
        "collect",
        |ctx, (name, count): (String, usize)| async move {
            let mut values = Vec::new();
            for _ in 0..count {
                values.push(ctx.wait_event::<u32>(name.clone()).await?);
            }
            Ok(values)
        },
    );
    registry
}

async fn events_are_kept_until_they_are_waited_for_and_come_in_order(hub: Hub) {
    let mut registry = collectors();
    registry.register_orchestrator_fn("late", |ctx, (): ()| async move {
        ctx.wait_event::<()>("go").await?;
        let first = ctx.wait_event::<u32>("n");
        let second = ctx.wait_event::<u32>("n");
        let (second, first) = (second.await?, first.await?);
        Ok((first, second))
    });
    let worker = hub.worker(registry).await;
    let handle = worker.client().start_by_name("late", &()).await.expect("started");
    for n in 1..=2_u32 {
        handle.raise_event("n", &n).await.expect("accepted");
    }
    handle.raise_event("go", &()).await.expect("accepted");
    // Whoever is polled first is served first.
    let pair: (u32, u32) = handle.output().await.expect("completed").to().expect("a pair");
    assert_eq!(pair, (2, 1));

    let start = worker.client().start_by_name("collect", &("n", 50));
    let handle = start.await.expect("started");
    for n in 0..50_u32 {
        handle.raise_event("n", &n).await.expect("accepted");
    }
    let values: Vec<u32> = handle.output().await.expect("completed").to().expect("numbers");
    assert_eq!(values, (0..50).collect::<Vec<_>>());
}

async fn an_event_of_another_name_wakes_nobody(hub: Hub) {
    let worker = hub.worker(collectors()).await;
    let client = worker.client();
    let start = client.start_by_name("collect", &("right", 1)).id("names");
    let handle = start.await.expect("started");
    for name in ["wrong", "Right", "right "] {
        handle.raise_event(name, &1).await.expect("accepted");
    }
    handle.raise_event("right", &2).await.expect("accepted");
    let values: Vec<u32> = handle.output().await.expect("completed").to().expect("numbers");
    assert_eq!(values, [2]);
}

async fn an_event_with_an_id_of_the_caller_counts_once(hub: Hub) {
    let worker = hub.worker(collectors()).await;
    let outside = hub.outside().await;
    let start = worker.client().start_by_name("collect", &("n", 3)).id("once");
    let handle = start.await.expect("started");
    let other = outside.instance("once").expect("valid");
    for _ in 0..3 {
        handle.raise_event("n", &1).id("first").await.expect("accepted");
        other.raise_event("n", &1).id("first").await.expect("accepted");
    }
    other.raise_event("n", &2).id("second").await.expect("accepted");
    handle.raise_event("n", &2).id("second").await.expect("accepted");
    // The same id for another instance is another event.
    let start = worker.client().start_by_name("collect", &("n", 1)).id("other");
    let another = start.await.expect("started");
    another.raise_event("n", &9).id("first").await.expect("accepted");
    another.output_within(PATIENCE).await.expect("completed");
    // Across a restart it is known, too.
    until_status(&outside, "once", |status| !status.has_ended()).await;
    worker.shutdown().await.expect("a clean end");
    let worker = hub.worker(collectors()).await;
    let handle = worker.client().instance("once").expect("valid");
    handle.raise_event("n", &1).id("first").await.expect("accepted");
    handle.raise_event("n", &3).id("third").await.expect("accepted");
    let values: Vec<u32> =
        handle.output_within(PATIENCE).await.expect("completed").to().expect("numbers");
    assert_eq!(values, [1, 2, 3]);
}

async fn a_wait_with_a_time_limit_gives_up_and_leaves_the_event_to_the_next(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("limited", |ctx, (): ()| async move {
        let nobody = ctx.wait_event::<u32>("n").timeout(millis(5)).await?;
        ctx.set_custom_status("waits on")?;
        let somebody = ctx.wait_event::<u32>("n").timeout(hours(1)).await?;
        Ok((nobody, somebody))
    });
    let worker = hub.worker(registry).await;
    let client = worker.client();
    let start = client.start_by_name("limited", &()).id("limited");
    let handle = start.await.expect("started");
    let gave_up = |status: &durable_core::InstanceStatus| {
        status.custom_status::<String>().expect("a text").as_deref() == Some("waits on")
    };
    until_status(&client, "limited", gave_up).await;
    handle.raise_event("n", &4).await.expect("accepted");
    let pair: (Option<u32>, Option<u32>) =
        handle.output().await.expect("completed").to().expect("a pair");
    assert_eq!(pair, (None, Some(4)));
}

async fn what_is_not_waited_for_is_listed_at_the_end(hub: Hub) {
    let worker = hub.worker(collectors()).await;
    let start = worker.client().start_by_name("collect", &("n", 1));
    let handle = start.await.expect("started");
    handle.raise_event("left", &"over").await.expect("accepted");
    handle.raise_event("n", &1).await.expect("accepted");
    let status = handle.wait().await.expect("it ends");
    let left: Vec<_> = status.unconsumed().iter().map(|event| &*event.name).collect();
    assert_eq!(left, ["left"]);
}

async fn the_first_of_a_race_wins_and_a_tie_goes_to_the_left(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("races", |ctx, (): ()| async move {
        let mut winners = Vec::new();
        let event = ctx.wait_event::<u32>("never");
        match ctx.race(event, ctx.sleep(millis(1))).await {
            Either::Left(_) => winners.push("event"),
            Either::Right(()) => winners.push("timer"),
        }
        let (left, right) = (ctx.sleep(Duration::ZERO), ctx.sleep(Duration::ZERO));
        match ctx.race(left, right).await {
            Either::Left(()) => winners.push("left"),
            Either::Right(()) => winners.push("right"),
        }
        let sleeps = [hours(1), millis(3), hours(2)].map(|time| ctx.sleep(time));
        let (place, ()) = ctx.race_all(sleeps).await;
        winners.push(if place == 1 { "the short one" } else { "a long one" });
        Ok(winners.into_iter().map(str::to_owned).collect::<Vec<_>>())
    });
    let worker = hub.worker(registry).await;
    let handle = worker.client().start_by_name("races", &()).await.expect("started");
    let winners: Vec<String> = handle.output().await.expect("completed").to().expect("texts");
    assert_eq!(winners, ["timer", "left", "the short one"]);
}

#[activity(name = "square")]
async fn multiply(n: u64) -> Result<u64, ActivityError> {
    Ok(n * n)
}

#[orchestrator]
async fn multiply_many(ctx: OrchestrationContext, count: u64) -> Result<u64, OrchestrationError> {
    let squares = ctx.join_all((0..count).map(|n| ctx.call(multiply, &n))).await;
    for (n, square) in squares.into_iter().enumerate() {
        let n = n as u64;
        if square? != n * n {
            return Err(OrchestrationError::new("OutOfOrder", format!("at {n}")));
        }
    }
    Ok(count)
}

async fn many_calls_at_once_all_come_back_in_order(hub: Hub) {
    let mut registry = Registry::new();
    registry.register(multiply).register(multiply_many);
    let worker = hub.worker(registry).await;
    for count in [0, 1, 31, 100, 2000] {
        let handle = worker.client().start(multiply_many, count).await.expect("started");
        assert_eq!(handle.output().await.expect("completed"), count);
    }
}

async fn calls_are_buffered_and_selected_with_plain_futures(hub: Hub) {
    let mut registry = Registry::new();
    registry.register(multiply);
    registry.register_orchestrator_fn("buffered", |ctx, (): ()| async move {
        let calls = (0..100_u64).map(|n| ctx.call(multiply, &n));
        let squares: Vec<_> = stream::iter(calls).buffer_unordered(7).collect().await;
        let mut sum = 0;
        for square in squares {
            sum += square?;
        }
        let mut call = ctx.call(multiply, &10);
        let mut timer = ctx.sleep(hours(1));
        let selected = select_biased! {
            square = call => square?,
            () = timer => 0,
        };
        let both = ::futures::join!(ctx.call(multiply, &2), ctx.sleep(millis(1)).map(|()| 1));
        Ok((sum, selected, both.0? + both.1))
    });
    let worker = hub.worker(registry).await;
    let handle = worker.client().start_by_name("buffered", &()).await.expect("started");
    let all: (u64, u64, u64) = handle.output().await.expect("completed").to().expect("numbers");
    assert_eq!(all, ((0..100).map(|n| n * n).sum(), 100, 5));
}

async fn the_custom_status_is_seen_while_it_runs_and_the_watch_ends(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("steps", |ctx, (): ()| async move {
        for step in 1..=3_u32 {
            ctx.set_custom_status(&json!({ "step": step }))?;
            ctx.wait_event::<()>("next").await?;
        }
        Ok("done".to_owned())
    });
    let worker = hub.worker(registry).await;
    for client in [worker.client(), hub.outside().await] {
        let handle = client.start_by_name("steps", &()).await.expect("started");
        let mut seen = Vec::new();
        let mut ends = 0;
        let watched = handle.watch();
        let mut watched = std::pin::pin!(watched);
        while let Some(status) = watched.next().await {
            let status = status.expect("the status can be read");
            ends += u32::from(status.has_ended());
            let shown = status.custom_status::<serde_json::Value>().expect("JSON");
            if let Some(step) = shown.and_then(|shown| shown["step"].as_u64())
                && seen.last() != Some(&step)
            {
                seen.push(step);
                handle.raise_event("next", &()).await.expect("accepted");
            }
        }
        assert_eq!((seen, ends), (vec![1, 2, 3], 1));
    }
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Drawn {
    began: DateTime<Utc>,
    now: DateTime<Utc>,
    ids: [Uuid; 2],
    fraction: f64,
    die: u8,
}

async fn time_and_chance_are_the_same_on_every_replay(hub: Hub) {
    let registry = || {
        let mut registry = Registry::new();
        registry.register_orchestrator_fn("draw", |ctx, (): ()| async move {
            let drawn = Drawn {
                began: ctx.started_at(),
                now: ctx.now(),
                ids: [ctx.new_uuid(), ctx.new_uuid()],
                fraction: ctx.random(),
                die: ctx.random_range(1..=6),
            };
            ctx.set_custom_status(&drawn)?;
            ctx.wait_event::<()>("tell").await?;
            Ok(drawn)
        });
        registry
    };
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    client.start_by_name("draw", &()).id("draw").await.expect("started");
    let drawn =
        |status: &durable_core::InstanceStatus| status.custom_status::<Drawn>().expect("drawn");
    let first = until_status(&client, "draw", |status| drawn(status).is_some()).await;
    let first = drawn(&first).expect("just seen");
    worker.shutdown().await.expect("a clean end");
    let worker = hub.worker(registry()).await;
    let handle = worker.client().instance("draw").expect("valid");
    handle.raise_event("tell", &()).await.expect("accepted");
    let told: Drawn = handle.output_within(PATIENCE).await.expect("completed").to().expect("drawn");
    assert_eq!(told, first);
    assert_ne!(told.ids[0], told.ids[1]);
    assert!((0.0..1.0).contains(&told.fraction) && (1..=6).contains(&told.die));
    // Another instance draws something else.
    let other = worker.client().start_by_name("draw", &()).await.expect("started");
    other.raise_event("tell", &()).await.expect("accepted");
    let other: Drawn = other.output().await.expect("completed").to().expect("drawn");
    assert_ne!(other.ids[0], told.ids[0]);
}
