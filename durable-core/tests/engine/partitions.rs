//! A hub of several partitions: instances of all of them speak to each other.

use std::time::Instant;

use durable_core::prelude::*;
use durable_core::{EventKind, Worker};

use super::hub::{Hub, PATIENCE};
use super::on_every_store;

on_every_store! {
    events_between_partitions_arrive_once_over_restarts,
    what_was_sent_before_a_restart_arrives_promptly_after_it,
    every_partition_serves_and_lists_are_of_all,
}

const RECEIVERS: u32 = 8;
const EACH: u32 = 25;

fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.register_activity_fn("nothing", |_, (): ()| async { Ok(()) });
    // Sends to every receiver, a step between any two sends.
    registry.register_orchestrator_fn("send", |ctx, sender: u32| async move {
        for n in 0..EACH {
            for receiver in 0..RECEIVERS {
                ctx.raise_event(format!("receiver-{receiver}"), "n", &(sender, n))?;
            }
            ctx.call_by_name::<()>("nothing", &()).await?;
        }
        Ok(())
    });
    registry.register_orchestrator_fn("receive", |ctx, senders: u32| async move {
        let mut got = Vec::new();
        for _ in 0..senders * EACH {
            got.push(ctx.wait_event::<(u32, u32)>("n").await?);
        }
        // Whatever comes a second time is seen at the end.
        ctx.wait_event::<()>("end").await?;
        Ok(got)
    });
    registry
}

async fn events_between_partitions_arrive_once_over_restarts(hub: Hub) {
    let hub = hub.with_partitions(4);
    let senders = 3;
    let mut worker = hub.worker(registry()).await;
    let client = worker.client();
    for receiver in 0..RECEIVERS {
        let start = client.start_by_name("receive", &senders).id(format!("receiver-{receiver}"));
        start.await.expect("started");
    }
    for sender in 0..senders {
        let start = client.start_by_name("send", &sender).id(format!("sender-{sender}"));
        start.await.expect("started");
    }
    for restart in 0..4 {
        tokio::time::sleep(millis(10)).await;
        if restart % 2 == 0 {
            drop(worker);
        } else {
            worker.shutdown().await.expect("a clean end");
        }
        worker = hub.worker(registry()).await;
    }
    for sender in 0..senders {
        let handle = worker.client().instance(format!("sender-{sender}")).expect("valid");
        handle.output_within(PATIENCE).await.expect("completed");
    }
    for receiver in 0..RECEIVERS {
        let handle = worker.client().instance(format!("receiver-{receiver}")).expect("valid");
        handle.raise_event("end", &()).await.expect("accepted");
        let output = handle.output_within(PATIENCE).await.expect("completed");
        let got: Vec<(u32, u32)> = output.to().expect("pairs");
        for sender in 0..senders {
            let of: Vec<u32> = got.iter().filter(|(s, _)| *s == sender).map(|(_, n)| *n).collect();
            assert_eq!(of, (0..EACH).collect::<Vec<_>>(), "once and in order");
        }
        let status = handle.status().await.expect("there");
        assert!(status.unconsumed().is_empty(), "{:?}", status.unconsumed());
    }
}

async fn what_was_sent_before_a_restart_arrives_promptly_after_it(hub: Hub) {
    let hub = hub.with_partitions(4);
    let registry = || {
        let mut registry = Registry::new();
        registry.register_orchestrator_fn("send", |ctx, to: Vec<String>| async move {
            for to in to {
                ctx.raise_event(to, "n", &1)?;
            }
            Ok(())
        });
        registry.register_orchestrator_fn("wait", |ctx, (): ()| async move {
            Ok(ctx.wait_event::<u32>("n").await?)
        });
        registry
    };
    for round in 0..4 {
        let worker = hub.worker(registry()).await;
        let ids: Vec<String> = (0..8).map(|n| format!("{round}-{n}")).collect();
        for id in &ids {
            worker.client().start_by_name("wait", &()).id(id).await.expect("started");
        }
        worker.client().start_by_name("send", &ids).await.expect("started");
        // Some of what was sent is confirmed by now, and some is not.
        drop(worker);
        let since = Instant::now();
        let worker = hub.worker(registry()).await;
        for id in &ids {
            let handle = worker.client().instance(id).expect("valid");
            handle.output_within(PATIENCE).await.expect("completed");
        }
        assert!(since.elapsed() < secs(5), "it took {:?}", since.elapsed());
        worker.shutdown().await.expect("a clean end");
    }
}

async fn every_partition_serves_and_lists_are_of_all(hub: Hub) {
    let hub = hub.with_partitions(4);
    let mut registry = Registry::new();
    registry.register_orchestrator_fn("which", |ctx, (): ()| async move {
        Ok(ctx.instance_id().partition(4).0)
    });
    let worker: Worker = hub.worker(registry).await;
    let mut of = [0; 4];
    for n in 0..40 {
        let start = worker.client().start_by_name("which", &()).id(format!("n{n}"));
        let output = start.await.expect("started").output_within(PATIENCE).await;
        of[output.expect("completed").to::<usize>().expect("a number")] += 1;
    }
    assert!(of.iter().all(|n| *n > 0), "{of:?}");
    let page = worker.client().list(&Default::default(), None, 100).await.expect("read");
    let listed: Vec<_> = page.instances.iter().map(|status| status.id().to_string()).collect();
    assert_eq!(listed, (0..40).rev().map(|n| format!("n{n}")).collect::<Vec<_>>());
    let first = worker.client().history(page.instances[0].id()).await.expect("read");
    assert!(matches!(first.expect("there").events()[0].is, EventKind::ExecutionStarted(_)));
}
