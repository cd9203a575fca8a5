//! More instances than fit into memory.

use durable_core::prelude::*;
use futures::future::try_join_all;

use super::hub::{Hub, PATIENCE};
use super::on_every_store;

on_every_store! {
    a_thousand_instances_finish_where_memory_holds_a_few,
    a_large_history_is_replayed_after_each_eviction,
}

async fn a_thousand_instances_finish_where_memory_holds_a_few(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_activity_fn("add", |_, (a, b): (u32, u32)| async move { Ok(a + b) });
    registry.register_orchestrator_fn("mixed", |ctx, n: u32| async move {
        let one = ctx.call_by_name::<u32>("add", &(n, 1)).await?;
        ctx.sleep(millis(u64::from(n % 50))).await;
        let two = ctx.wait_event::<u32>("n").await?;
        Ok(ctx.call_by_name::<u32>("add", &(one, two)).await?)
    });
    // About ten of them.
    let worker = hub.builder(registry).cache_bytes(30_000).start().await.expect("started");
    let client = worker.client();
    let starts = (0..1000_u32).map(|n| {
        let client = client.clone();
        async move { client.start_by_name("mixed", &n).await }
    });
    let handles = try_join_all(starts).await.expect("all are started");
    let raises = handles.iter().map(|handle| handle.raise_event("n", &2).into_future());
    try_join_all(raises).await.expect("all are accepted");
    for (n, handle) in (0..1000_u32).zip(&handles) {
        let output = handle.output_within(PATIENCE).await.expect("completed");
        assert_eq!(output.to::<u32>().expect("a number"), n + 3);
    }
}

async fn a_large_history_is_replayed_after_each_eviction(hub: Hub) {
    let mut registry = Registry::new();
    registry.register_activity_fn("add", |_, (a, b): (u64, u64)| async move { Ok(a + b) });
    registry.register_orchestrator_fn("sum", |ctx, count: u64| async move {
        let mut sum = 0;
        for n in 0..count {
            sum = ctx.call_by_name::<u64>("add", &(sum, n)).await?;
            if n % 10 == 0 {
                sum += ctx.wait_event::<u64>("more").await?;
            }
        }
        Ok(sum)
    });
    let worker = hub.builder(registry).cache_bytes(0).start().await.expect("started");
    let client = worker.client();
    let mut handles = Vec::new();
    for _ in 0..3 {
        handles.push(client.start_by_name("sum", &100_u64).await.expect("started"));
    }
    for _ in 0..10 {
        for handle in &handles {
            handle.raise_event("more", &1_u64).await.expect("accepted");
        }
    }
    for handle in handles {
        let output = handle.output_within(PATIENCE).await.expect("completed");
        assert_eq!(output.to::<u64>().expect("a number"), 4950 + 10);
    }
}
