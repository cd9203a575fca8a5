//! What a start can be given: a later time, a version, tags.

use chrono::{TimeDelta, Utc};
use durable_core::InstanceStatus;
use durable_core::prelude::*;

use super::hub::{Hub, PATIENCE, until_is};
use super::on_every_store;

on_every_store! {
    a_start_waits_for_its_time_and_begins_then,
    a_start_that_waits_survives_its_worker,
    a_start_that_waits_is_terminated,
    a_start_that_waits_keeps_what_it_is_sent,
    a_start_that_waits_begins_suspended_where_it_was_suspended,
    a_later_start_ends_the_active_run_that_it_replaces,
    version_and_tags_are_seen_by_the_code_and_in_the_status,
    labels_beyond_their_limits_are_refused_with_the_rule,
    an_event_starts_the_instance_that_it_is_for,
    an_event_with_a_start_reaches_exactly_the_run_of_its_handle,
}

#[orchestrator]
async fn began(ctx: OrchestrationContext, _: ()) -> Result<i64, OrchestrationError> {
    Ok(ctx.now().timestamp_micros())
}

#[orchestrator]
async fn linger(ctx: OrchestrationContext, _: ()) -> Result<String, OrchestrationError> {
    Ok(ctx.wait_event("end").await?)
}

#[orchestrator]
async fn labels(ctx: OrchestrationContext, _: ()) -> Result<String, OrchestrationError> {
    let tags: Vec<String> = ctx.tags().iter().map(|(k, v)| format!("{k}={v}")).collect();
    let version = ctx.version().unwrap_or_default();
    Ok(format!("{version}: {}; region {:?}", tags.join(" "), ctx.tag("region").as_deref()))
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(began).register(linger).register(labels);
    registry
}

async fn a_start_waits_for_its_time_and_begins_then(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for client in [worker.client(), hub.outside().await] {
        let handle = client.start(began, ()).delay(millis(150)).await.expect("accepted");
        let status = handle.status().await.expect("it is visible");
        let due = status.scheduled_for().expect("it says when");
        assert!(due > status.created_at());
        let time = handle.output_within(PATIENCE).await.expect("completed");
        assert!(time >= due.timestamp_micros(), "{time} is before {due}");

        let now = client.start(labels, ()).at(Utc::now() - TimeDelta::days(1)).await;
        now.expect("accepted").output_within(PATIENCE).await.expect("a past time is now");
    }
}

async fn a_start_that_waits_survives_its_worker(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let soon = client.start(began, ()).id("soon").delay(millis(300)).await.expect("accepted");
    client.start(began, ()).id("far").delay(days(400)).await.expect("accepted");
    assert_eq!(soon.status().await.expect("there").runtime_status(), RuntimeStatus::Pending);
    worker.shutdown().await.expect("stopped");

    let outside = hub.outside().await;
    outside.start(began, ()).id("between").delay(millis(10)).await.expect("accepted");
    let worker = hub.worker(registry()).await;
    for id in ["soon", "between"] {
        let handle = worker.client().instance(id).expect("a valid id");
        handle.output_within(PATIENCE).await.expect("completed");
    }
    let far = worker.client().status("far").await.expect("read").expect("there");
    assert_eq!(far.runtime_status(), RuntimeStatus::Pending);
}

async fn a_start_that_waits_is_terminated(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for client in [worker.client(), hub.outside().await] {
        let handle = client.start(began, ()).delay(days(1)).await.expect("accepted");
        handle.terminate("not needed").await.expect("taken");
        let status = handle.wait().await.expect("it ends");
        assert_eq!(status.runtime_status(), RuntimeStatus::Terminated);
        assert_eq!(status.output::<String>().expect("a text").as_deref(), Some("not needed"));
    }
}

async fn a_start_that_waits_keeps_what_it_is_sent(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start(linger, ()).delay(millis(400)).await.expect("accepted");
    handle.raise_event("end", "early").await.expect("taken");
    worker.shutdown().await.expect("stopped");
    let worker = hub.worker(registry()).await;
    let handle = worker.client().instance_of(linger, handle.id()).expect("a valid id");
    assert_eq!(handle.output_within(PATIENCE).await.expect("completed"), "early");
}

async fn a_start_that_waits_begins_suspended_where_it_was_suspended(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start(began, ()).id("held").delay(millis(100)).await.expect("accepted");
    handle.suspend("wait").await.expect("taken");
    let other = client.start(began, ()).delay(millis(200)).await.expect("accepted");
    other.output_within(PATIENCE).await.expect("the later one began");
    until_is(&client, "held", RuntimeStatus::Suspended).await;
    handle.resume("now").await.expect("taken");
    handle.output_within(PATIENCE).await.expect("completed");
}

async fn a_later_start_ends_the_active_run_that_it_replaces(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    client.start(linger, ()).id("one").await.expect("started");
    until_is(&client, "one", RuntimeStatus::Running).await;
    let start = client.start(linger, ()).id("one").replace_existing().delay(millis(200));
    let second = start.await.expect("accepted");
    until_is(&client, "one", RuntimeStatus::Pending).await;
    second.raise_event("end", "for the second").await.expect("taken");
    assert_eq!(second.output_within(PATIENCE).await.expect("completed"), "for the second");
}

async fn version_and_tags_are_seen_by_the_code_and_in_the_status(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for client in [worker.client(), hub.outside().await] {
        let start = client.start(labels, ()).version("2.1").tag("region", "us");
        let handle = start.tag("customer", "c 12").tag("region", "eu").await.expect("started");
        let output = handle.output_within(PATIENCE).await.expect("completed");
        assert_eq!(output, "2.1: customer=c 12 region=eu; region Some(\"eu\")");
        let status: InstanceStatus = handle.status().await.expect("there");
        assert_eq!(status.version(), Some("2.1"));
        assert_eq!(status.tags().collect::<Vec<_>>(), [("customer", "c 12"), ("region", "eu")]);
        assert_eq!((status.tag("customer"), status.tag("team")), (Some("c 12"), None));
    }
}

async fn labels_beyond_their_limits_are_refused_with_the_rule(hub: Hub) {
    let client = hub.outside().await;
    let start = || client.start(labels, ());
    let many = (0..33).fold(start(), |start, n| start.tag(format!("k{n}"), "v"));
    for (start, rule) in [
        (many, "at most 32 tags, these are 33"),
        (start().tag("", "v"), "a tag's key has 1 to 128 bytes"),
        (start().tag("k".repeat(129), "v"), "a tag's key has 1 to 128 bytes"),
        (start().tag("k", "v".repeat(513)), "at most 512 bytes, that of \"k\" has 513"),
        (start().version(""), "a version has 1 to 128 bytes"),
        (start().version("v".repeat(129)), "a version has 1 to 128 bytes"),
    ] {
        match start.await {
            Err(ClientError::InvalidLabel(said)) => assert!(said.contains(rule), "{said}"),
            other => panic!("{rule}: {other:?}"),
        }
    }
    let fine = (0..32).fold(start(), |start, n| start.tag(format!("{n:0>128}"), "v".repeat(512)));
    fine.version("v".repeat(128)).await.expect("the limits themselves are fine");
}

/// Adds up what it is sent, and ends with the third.
#[orchestrator]
async fn cart(ctx: OrchestrationContext, _: ()) -> Result<Vec<u32>, OrchestrationError> {
    let mut items = Vec::new();
    for _ in 0..3 {
        items.push(ctx.wait_event("add").await?);
    }
    Ok(items)
}

fn shop() -> Registry {
    let mut registry = Registry::new();
    registry.register(cart);
    registry
}

async fn an_event_starts_the_instance_that_it_is_for(hub: Hub) {
    let worker = hub.worker(shop()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let add = |item: u32, click: &str| {
            client.start(cart, ()).id(id).with_event("add", &item).event_id(click)
        };
        let first = add(1, "click-1").await.expect("started");
        let again = add(1, "click-1").await.expect("nothing new");
        let second = add(2, "click-2").await.expect("raised");
        assert_eq!((again.run(), second.run()), (first.run(), first.run()));
        let third = add(3, "click-3").await.expect("raised");
        assert_eq!(third.output_within(PATIENCE).await.expect("completed"), [1, 2, 3]);
        let next = add(4, "click-4").await.expect("started anew");
        assert!(next.run() > first.run());
        until_is(&client, id, RuntimeStatus::Running).await;
        next.terminate("enough").await.expect("taken");
        let status = next.wait().await.expect("ended");
        assert_eq!(status.unconsumed().len(), 0, "it was consumed");
    }
}

/// Many at once, while runs end all the time: each event is in exactly one run, that of its handle.
async fn an_event_with_a_start_reaches_exactly_the_run_of_its_handle(hub: Hub) {
    let worker = hub.worker(shop()).await;
    let clients = [worker.client(), hub.outside().await];
    let mut added = Vec::new();
    for n in 0..30_u32 {
        let client = clients[n as usize % 2].clone();
        added.push(tokio::spawn(async move {
            let start = client.start(cart, ()).id("one").with_event("add", &n);
            (n, start.await.expect("raised").run().expect("known"))
        }));
    }
    let mut runs = std::collections::BTreeMap::<_, Vec<u32>>::new();
    for added in added {
        let (n, run) = added.await.expect("no panic");
        runs.entry(run).or_default().push(n);
    }
    let last = *runs.keys().next_back().expect("some");
    assert!(runs.values().all(|events| !events.is_empty()), "{runs:?}");
    let status = clients[0].status("one").await.expect("read").expect("there");
    assert_eq!(status.run(), last, "no run began without an event");
    // All of the last run are seen in its history, whatever became of them.
    let handle = clients[0].instance("one").expect("a valid id");
    super::hub::until("the events are in the history, or listed", || async {
        let history = handle.history().await.expect("read");
        let raised =
            |e: &&durable_core::Event| matches!(e.is, durable_core::EventKind::EventRaised { .. });
        let status = handle.status().await.expect("there");
        let there = history.events().iter().filter(raised).count() + status.unconsumed().len();
        there == runs[&last].len()
    })
    .await;
}
