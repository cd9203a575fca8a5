//! Rows that are missing though others say that they are there.

use std::sync::Arc;
use std::time::Duration;

use durable_core::prelude::*;
use tokio::sync::Notify;

use super::{hub, rows, soon};
use crate::service::Op;
use crate::store::AzureStore;

#[derive(Clone)]
struct Released(Arc<Notify>);

#[activity]
async fn work(State(released): State<Released>) -> Result<u32, ActivityError> {
    released.0.notified().await;
    Ok(7)
}

#[orchestrator]
async fn waits_and_works(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    ctx.wait_event::<()>("go").timeout(hours(1)).await?;
    // One that is retried stands in the row of work in flight.
    let retry = RetryPolicy::fixed(millis(1)).attempts(3);
    Ok(ctx.call(work, &()).retry(retry).await?)
}

/// Removes the one row of a kind by hand, once it is there.
async fn remove(store: &AzureStore, kind: &str) {
    let there = async || rows(store).await.iter().any(|row| row.key.starts_with(kind));
    soon("the row is there", there).await;
    let rows = rows(store).await;
    let row = rows.iter().find(|row| row.key.starts_with(kind)).expect("it was there");
    let op = Op::Delete { key: row.key.clone(), etag: None };
    store.inner.table.transact("p00", &[op]).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_was_removed_by_hand_stops_neither_its_instance_nor_the_partition() {
    let store = hub().await;
    let released = Released(Arc::new(Notify::new()));
    let worker = Worker::builder(store.clone())
        .register(waits_and_works)
        .register(work)
        .state(released.clone())
        .start()
        .await
        .unwrap();
    let started = worker.client().start(waits_and_works, ()).await.unwrap();
    remove(&store, "t|").await;
    started.raise_event("go", &()).await.unwrap();
    remove(&store, "w|").await;
    released.0.notify_one();
    assert_eq!(started.output_within(Duration::from_secs(20)).await.unwrap(), 7);
    worker.shutdown().await.unwrap();
}
