//! Looking for instances, at their histories, and waiting for what they show.

use durable_core::prelude::*;
use durable_core::{EventKind, Instances};
use futures::{StreamExt, TryStreamExt};

use super::hub::{Hub, PATIENCE, until_is};
use super::on_every_store;

on_every_store! {
    a_query_finds_what_fits_all_of_its_conditions,
    a_stream_goes_through_all_pages,
    a_history_is_read_in_pages,
    a_status_is_waited_for_until_it_is_as_wanted,
}

#[orchestrator]
async fn echo(_ctx: OrchestrationContext, text: String) -> Result<String, OrchestrationError> {
    Ok(text)
}

#[orchestrator]
async fn linger(ctx: OrchestrationContext, _: String) -> Result<String, OrchestrationError> {
    Ok(ctx.wait_event("end").await?)
}

/// Shows how many events it got, and ends with the last.
#[orchestrator]
async fn progress(ctx: OrchestrationContext, events: u32) -> Result<u32, OrchestrationError> {
    for n in 1..=events {
        let _: u32 = ctx.wait_event("step").await?;
        ctx.set_custom_status(&n)?;
    }
    Ok(events)
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(echo).register(linger).register(progress);
    registry
}

async fn ids(query: Instances) -> Vec<String> {
    let found: Vec<_> = query.stream().try_collect().await.expect("read");
    found.iter().map(|status| status.id().to_string()).collect()
}

async fn a_query_finds_what_fits_all_of_its_conditions(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    for (n, region) in ["eu", "us", "eu", "us"].into_iter().enumerate() {
        let start = client.start(linger, "[\"region\",\"eu\"]".into()).id(format!("wait-{n}"));
        start.tag("region", region).tag("tier", "1").await.expect("started");
        until_is(&client, &format!("wait-{n}"), RuntimeStatus::Running).await;
    }
    let middle = client.status("wait-2").await.expect("read").expect("there").created_at();
    let echo_eu = client.start(echo, "a".into()).id("echo-eu").tag("region", "eu");
    echo_eu.await.expect("started").wait().await.expect("ended");
    client.instance("wait-3").expect("an id").terminate("enough").await.expect("taken");
    until_is(&client, "wait-3", RuntimeStatus::Terminated).await;
    for client in [worker.client(), hub.outside().await] {
        let all = || client.instances();
        assert_eq!(ids(all()).await, ["echo-eu", "wait-3", "wait-2", "wait-1", "wait-0"]);
        assert_eq!(ids(all().tag("region", "eu")).await, ["echo-eu", "wait-2", "wait-0"]);
        assert_eq!(ids(all().tag("region", "eu").tag("tier", "1")).await, ["wait-2", "wait-0"]);
        assert_eq!(ids(all().tag("region", "e")).await, Vec::<String>::new());
        assert_eq!(ids(all().tag("tier", "eu")).await, Vec::<String>::new());
        assert_eq!(ids(all().ended()).await, ["echo-eu", "wait-3"]);
        assert_eq!(ids(all().status(RuntimeStatus::Terminated)).await, ["wait-3"]);
        let troubled = all().status(RuntimeStatus::Terminated).status(RuntimeStatus::Failed);
        assert_eq!(ids(troubled.tag("region", "us")).await, ["wait-3"]);
        assert_eq!(ids(all().active().id_prefix("wait-")).await, ["wait-2", "wait-1", "wait-0"]);
        assert_eq!(ids(all().of(echo)).await, ["echo-eu"]);
        assert_eq!(ids(all().created_from(middle)).await, ["echo-eu", "wait-3", "wait-2"]);
        assert_eq!(ids(all().created_to(middle).tag("region", "us")).await, ["wait-1"]);
    }
}

async fn a_stream_goes_through_all_pages(hub: Hub) {
    let client = hub.outside().await;
    for n in 0..230 {
        let start = client.start(echo, String::new()).id(format!("{n}"));
        start.tag("odd", (n % 2).to_string()).await.expect("accepted");
    }
    assert_eq!(ids(client.instances()).await.len(), 230);
    let odd = ids(client.instances().tag("odd", "1").status(RuntimeStatus::Pending)).await;
    assert_eq!(odd.len(), 115);
    assert_eq!((odd[0].as_str(), odd[114].as_str()), ("229", "1"));
    let first: Vec<_> = client.instances().stream().take(2).try_collect().await.expect("read");
    assert_eq!(first.len(), 2);
}

async fn a_history_is_read_in_pages(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start(progress, 150).id("long").await.expect("started");
    for n in 0..150_u32 {
        handle.raise_event("step", &n).await.expect("taken");
    }
    handle.output_within(PATIENCE).await.expect("completed");
    for client in [worker.client(), hub.outside().await] {
        let handle = client.instance("long").expect("an id");
        let paged: Vec<_> = handle.history_events().try_collect().await.expect("read");
        assert_eq!(paged, handle.history().await.expect("read").events());
        assert!(matches!(paged[0].is, EventKind::ExecutionStarted(_)));
        assert!(matches!(paged.last().expect("some").is, EventKind::ExecutionCompleted { .. }));
        let nobody = client.instance("nobody").expect("an id");
        let found: Result<Vec<_>, _> = nobody.history_events().try_collect().await;
        assert!(matches!(found, Err(ClientError::NotFound(_))), "{found:?}");
    }
}

async fn a_status_is_waited_for_until_it_is_as_wanted(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let handle = client.start(progress, 3).id(id).await.expect("started");
        let at_least = |wanted: u32| {
            move |status: &durable_core::InstanceStatus| {
                status.custom_status::<u32>().ok().flatten().is_some_and(|n| n >= wanted)
            }
        };
        match handle.wait_until_within(millis(20), at_least(1)).await {
            Err(ClientError::TimedOut { .. }) => {}
            other => panic!("nothing has happened: {other:?}"),
        }
        handle.raise_event("step", &1).await.expect("taken");
        handle.wait_until_within(PATIENCE, at_least(1)).await.expect("it goes on");
        for n in 2..=3 {
            handle.raise_event("step", &n).await.expect("taken");
        }
        match handle.wait_until_within(PATIENCE, at_least(4)).await {
            Err(ClientError::Ended { status, .. }) => assert_eq!(status, RuntimeStatus::Completed),
            other => panic!("it ends before: {other:?}"),
        }
        handle.wait_until(at_least(3)).await.expect("it was so at the end");
    }
}
