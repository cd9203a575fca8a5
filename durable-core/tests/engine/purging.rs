//! Purging what has ended: one instance, and as many as a query finds.

use chrono::Utc;
use durable_core::machine::store::Remains;
use durable_core::prelude::*;
use durable_core::{Instances, Purged};
use futures::TryStreamExt;

use super::faulty::Fault;
use super::hub::{Hub, PATIENCE, until, until_is};
use super::on_every_store;

on_every_store! {
    an_instance_that_has_ended_is_purged_and_its_id_is_free,
    what_has_not_ended_is_not_purged,
    a_purge_says_what_it_does_not_find,
    a_purge_means_the_run_of_its_handle,
    late_events_do_not_reach_the_next_run,
    a_query_is_purged_with_the_exact_number,
    a_bulk_purge_takes_only_what_has_ended,
    a_bulk_purge_shows_its_progress_and_goes_on_where_it_was_left,
    a_purge_waits_for_a_worker,
    a_purge_survives_the_death_of_its_owner,
    starts_and_purges_race_and_no_start_is_lost,
    a_long_history_is_purged_to_the_end,
}

#[orchestrator]
async fn echo(_ctx: OrchestrationContext, text: String) -> Result<String, OrchestrationError> {
    if text == "bad" { Err(OrchestrationError::new("Bad", "no")) } else { Ok(text) }
}

#[orchestrator]
async fn linger(ctx: OrchestrationContext, _: String) -> Result<String, OrchestrationError> {
    Ok(ctx.wait_event("end").await?)
}

/// Waits for as many events, one after the other.
#[orchestrator]
async fn count(ctx: OrchestrationContext, events: u32) -> Result<u32, OrchestrationError> {
    for _ in 0..events {
        let _: u32 = ctx.wait_event("step").await?;
    }
    Ok(events)
}

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register(echo).register(linger).register(count);
    registry
}

async fn ids(query: Instances) -> Vec<String> {
    let found: Vec<_> = query.stream().try_collect().await.expect("read");
    found.iter().map(|status| status.id().to_string()).collect()
}

/// Starts it and waits for its end.
async fn ended(client: &Client, id: &str, input: &str) -> Handle<String> {
    let handle = client.start(echo, input.into()).id(id).await.expect("started");
    handle.wait().await.expect("it ends");
    handle
}

async fn an_instance_that_has_ended_is_purged_and_its_id_is_free(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        for (input, status) in [("fine", RuntimeStatus::Completed), ("bad", RuntimeStatus::Failed)]
        {
            let handle = ended(&client, id, input).await;
            assert_eq!(handle.status().await.expect("there").runtime_status(), status);
            handle.purge().await.expect("purged");
            for client in [worker.client(), hub.outside().await] {
                assert_eq!(client.status(id).await.expect("read"), None);
                assert_eq!(client.history(id).await.expect("read"), None);
                assert_eq!(ids(client.instances()).await, Vec::<String>::new());
                assert!(client.counts().await.expect("read").is_empty());
            }
            let run = (handle.id().clone(), handle.run().expect("its own"));
            let left = hub.open().remains(&[run]).await.expect("read");
            assert_eq!(left, [Remains::Nothing], "no row is left when it is answered");
            assert!(matches!(handle.status().await, Err(ClientError::NotFound(_))));
            assert!(matches!(handle.wait().await, Err(ClientError::NotFound(_))));
            assert!(matches!(handle.restart().await, Err(ClientError::NotFound(_))));
        }
        let next = ended(&client, id, "again").await;
        assert_eq!(next.output_within(PATIENCE).await.expect("completed"), "again");
        next.purge().await.expect("purged");
    }
}

async fn what_has_not_ended_is_not_purged(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let handle = client.start(linger, String::new()).id(id).await.expect("started");
        until_is(&client, id, RuntimeStatus::Running).await;
        match handle.purge().await {
            Err(ClientError::NotEnded { status, .. }) => assert_eq!(status, RuntimeStatus::Running),
            other => panic!("it runs: {other:?}"),
        }
        handle.suspend("wait").await.expect("taken");
        until_is(&client, id, RuntimeStatus::Suspended).await;
        assert!(matches!(handle.purge().await, Err(ClientError::NotEnded { .. })));
        handle.resume("go on").await.expect("taken");
        let later = client.start(linger, String::new()).delay(days(1)).await.expect("accepted");
        assert!(matches!(later.purge().await, Err(ClientError::NotEnded { .. })));
        later.terminate("not needed").await.expect("taken");
        later.wait().await.expect("ended");
        later.purge().await.expect("it has ended");

        handle.raise_event("end", "well").await.expect("taken");
        assert_eq!(handle.output_within(PATIENCE).await.expect("undisturbed"), "well");
    }
}

async fn a_purge_says_what_it_does_not_find(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let nobody = client.instance("nobody").expect("an id");
        assert!(matches!(nobody.purge().await, Err(ClientError::NotFound(_))));
        let handle = ended(&client, id, "once").await;
        handle.purge().await.expect("purged");
        assert!(matches!(handle.purge().await, Err(ClientError::NotFound(_))), "it is gone");
    }
}

async fn a_purge_means_the_run_of_its_handle(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let first = ended(&client, id, "first").await;
        let second = ended(&client, id, "second").await;
        assert!(matches!(first.purge().await, Err(ClientError::Replaced(_))));
        assert_eq!(second.output_within(PATIENCE).await.expect("it is there"), "second");
        client.instance(id).expect("an id").purge().await.expect("whichever is there");
    }
}

async fn late_events_do_not_reach_the_next_run(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let first = client.start(linger, String::new()).id(id).await.expect("started");
        first.terminate("enough").await.expect("taken");
        first.wait().await.expect("ended");
        first.purge().await.expect("purged");
        let second = client.start(linger, String::new()).id(id).await.expect("started");
        assert!(
            second.run() > first.run(),
            "its number is higher, though nothing is stored of the first"
        );
        match first.raise_event("end", "for the first").await {
            Err(ClientError::Replaced(_)) => {}
            other => panic!("that run is gone: {other:?}"),
        }
        until_is(&client, id, RuntimeStatus::Running).await;
        second.raise_event("end", "for the second").await.expect("taken");
        assert_eq!(second.output_within(PATIENCE).await.expect("completed"), "for the second");
    }
}

async fn a_query_is_purged_with_the_exact_number(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for client in [worker.client(), hub.outside().await] {
        for n in 0..30 {
            let input = if n % 3 == 0 { "bad" } else { "fine" };
            let start = client.start(echo, input.into()).id(format!("n{n}"));
            let region = if n % 2 == 0 { "eu" } else { "us" };
            start.tag("region", region).await.expect("started").wait().await.expect("ended");
        }
        let middle = client.status("n9").await.expect("read").expect("there").created_at();
        let all = || client.instances();
        let done = |purged: u64| Purged { purged, kept: 0 };
        let before = Utc::now() - chrono::TimeDelta::days(1);
        assert_eq!(all().created_to(before).purge().await.expect("none is"), done(0));
        let failed = all().status(RuntimeStatus::Failed).created_to(middle).tag("region", "eu");
        assert_eq!(failed.purge().await.expect("n0 and n6"), done(2));
        assert_eq!(client.status("n6").await.expect("read"), None);
        let left: Vec<_> = ids(all().id_prefix("n1")).await;
        assert_eq!(left.len(), 11);
        assert_eq!(all().id_prefix("n1").name("echo").purge().await.expect("purged"), done(11));
        assert_eq!(all().name("nothing").purge().await.expect("none is"), done(0));
        assert_eq!(all().purge().await.expect("the rest"), done(17));
        assert_eq!(all().purge().await.expect("nothing is left"), done(0));
        assert!(client.counts().await.expect("read").is_empty());
    }
}

async fn a_bulk_purge_takes_only_what_has_ended(hub: Hub) {
    let worker = hub.worker(registry()).await;
    for (id, client) in [("inside", worker.client()), ("outside", hub.outside().await)] {
        let active = client.start(linger, String::new()).id(id).await.expect("started");
        until_is(&client, id, RuntimeStatus::Running).await;
        ended(&client, "done", "fine").await;
        for none in [client.instances().active(), client.instances().status(RuntimeStatus::Running)]
        {
            assert_eq!(none.purge().await.expect("nothing").purged, 0);
        }
        let mixed = client.instances().status(RuntimeStatus::Running);
        assert_eq!(mixed.status(RuntimeStatus::Completed).purge().await.expect("one").purged, 1);
        assert_eq!(client.instances().purge().await.expect("none").purged, 0);
        active.raise_event("end", "well").await.expect("taken");
        assert_eq!(active.output_within(PATIENCE).await.expect("undisturbed"), "well");
        active.purge().await.expect("it has ended");
    }
}

async fn a_bulk_purge_shows_its_progress_and_goes_on_where_it_was_left(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let mut handles = Vec::new();
    for n in 0..1100 {
        handles.push(client.start(echo, "fine".into()).id(format!("{n}")).await.expect("started"));
    }
    for handle in handles {
        handle.wait().await.expect("ended");
    }
    let mut purge = client.instances().purge().stream();
    let first = purge.try_next().await.expect("no fault").expect("there are some");
    assert_eq!(first, Purged { purged: 500, kept: 0 });
    drop(purge);
    let counts = client.counts().await.expect("read");
    assert_eq!(counts.get(&RuntimeStatus::Completed), Some(&600), "no more than was polled");
    let portions: Vec<_> =
        hub.outside().await.instances().purge().stream().try_collect().await.expect("purged");
    let so_far: Vec<u64> = portions.iter().map(|portion: &Purged| portion.purged).collect();
    assert_eq!(so_far, [500, 600]);
    assert_eq!(ids(client.instances()).await, Vec::<String>::new());
}

async fn a_purge_waits_for_a_worker(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = hub.outside().await;
    for n in 0..5 {
        ended(&client, &format!("{n}"), "fine").await;
    }
    worker.shutdown().await.expect("stopped");
    let purge = tokio::spawn(async move { client.instances().purge().await });
    tokio::time::sleep(millis(50)).await;
    assert_eq!(ids(hub.outside().await.instances()).await.len(), 5, "nobody is there to do it");
    let _worker = hub.worker(registry()).await;
    assert_eq!(purge.await.expect("no panic").expect("purged").purged, 5);
}

async fn a_purge_survives_the_death_of_its_owner(hub: Hub) {
    let ways = [Fault::Busy, Fault::LostBefore, Fault::LostAfter];
    for (n, fault) in ways.into_iter().enumerate() {
        let id = &format!("n{n}");
        let worker = hub.worker(registry()).await;
        let client = worker.client();
        let handle = ended(&client, id, "fine").await;
        let mut once = Some(fault);
        hub.faults.plan(move |_, method| (method == "commit").then(|| once.take()).flatten());
        // Whoever asked is told so, or not: asked again it is done, and never by half.
        let first = handle.purge().await;
        let there = client.status(id).await.expect("read").is_some();
        match hub.outside().await.instance(id).expect("an id").purge().await {
            Ok(()) => assert!(there),
            Err(ClientError::NotFound(_)) => assert!(!there, "{first:?}"),
            other => panic!("after {first:?}: {other:?}"),
        }
        assert_eq!(client.status(id).await.expect("read"), None);
        assert!(client.counts().await.expect("read").is_empty());
        worker.shutdown().await.expect("stopped");
    }
}

/// Whoever wins: what was answered as started ends, and nothing of one run is seen in another.
async fn starts_and_purges_race_and_no_start_is_lost(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let (inside, outside) = (worker.client(), hub.outside().await);
    let purges = [inside.clone(), outside.clone()].map(|client| {
        tokio::spawn(async move {
            let mut purged = 0;
            for _ in 0..40 {
                match client.instance("one").expect("an id").purge().await {
                    Ok(()) => purged += 1,
                    Err(
                        ClientError::NotFound(_)
                        | ClientError::NotEnded { .. }
                        | ClientError::Replaced(_),
                    ) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            }
            purged
        })
    });
    let mut runs = std::collections::BTreeSet::new();
    for n in 0..60 {
        let client = if n % 2 == 0 { &inside } else { &outside };
        let handle = client.start(echo, format!("{n}")).id("one").await;
        let handle = handle.expect("the one before has ended, or is gone");
        assert!(runs.insert(handle.run().expect("its own")), "no number comes twice");
        match handle.wait().await {
            Ok(status) => {
                assert_eq!(status.output::<String>().expect("a text"), Some(format!("{n}")));
            }
            // It had ended, and somebody purged it before this one looked.
            Err(ClientError::NotFound(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    for purge in purges {
        purge.await.expect("no panic");
    }
    let left = inside.instances().purge().await.expect("purged").purged;
    assert!(left <= 1);
    until("nothing is counted", || async { inside.counts().await.expect("read").is_empty() }).await;
}

async fn a_long_history_is_purged_to_the_end(hub: Hub) {
    let worker = hub.worker(registry()).await;
    let client = worker.client();
    let handle = client.start(count, 700).id("long").await.expect("started");
    for n in 0..700_u32 {
        handle.raise_event("step", &n).await.expect("taken");
    }
    handle.output_within(PATIENCE).await.expect("completed");
    let run = (handle.id().clone(), handle.run().expect("its own"));
    handle.purge().await.expect("purged");
    let left = hub.open().remains(&[run]).await.expect("read");
    assert_eq!(left, [Remains::Nothing], "no row is left when it is answered");
}
