//! Storage that is set back: a restored backup, or a failover to a copy that lags behind.

use std::collections::BTreeSet;
use std::time::Duration;

use durable_core::prelude::*;
use durable_core::{Client, InstanceStatus};

use super::super::rows::columns_of;
use super::{hub, id, rows};
use crate::service::{Op, Row};
use crate::store::AzureStore;

#[orchestrator]
async fn two_events(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    let one = ctx.wait_event::<u32>("one").await?;
    ctx.set_custom_status(&one)?;
    let two = ctx.wait_event::<u32>("two").await?;
    Ok(one + two)
}

/// Makes the rows of the partition what they were, behind everybody's back.
async fn set_back(store: &AzureStore, earlier: Vec<Row>) {
    let there: BTreeSet<String> = earlier.iter().map(|row| row.key.clone()).collect();
    let now = rows(store).await;
    let gone = now.into_iter().filter(|row| !there.contains(&row.key));
    let mut ops: Vec<_> = gone.map(|row| Op::Delete { key: row.key, etag: None }).collect();
    ops.extend(
        earlier.into_iter().map(|row| Op::Put { key: row.key.clone(), columns: columns_of(row) }),
    );
    store.inner.table.transact("p00", &ops).await.expect("no fault");
}

async fn until(client: &Client, holds: impl Fn(&InstanceStatus) -> bool) {
    for _ in 0..400 {
        if client.status(id("order")).await.expect("no fault").as_ref().is_some_and(&holds) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not within ten seconds");
}

fn saw_the_first(status: &InstanceStatus) -> bool {
    status.custom_status::<u32>().expect("a number").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_storage_was_set_back_goes_on_from_what_is_there() {
    let store = hub().await;
    let worker = Worker::builder(store.clone()).register(two_events).start().await.unwrap();
    let client = worker.client();
    let handle = client.start(two_events, ()).id("order").await.unwrap();
    until(&client, |status| status.runtime_status() == RuntimeStatus::Running).await;
    let earlier = rows(&store).await;
    let fence = store.inner.read_head("p00").await.unwrap().expect("opened").0.fence;
    handle.raise_event("one", &1).await.unwrap();
    until(&client, saw_the_first).await;

    set_back(&store, earlier).await;
    // The owner notices with its next commit, does not write over what is there, and opens the partition again.
    handle.raise_event("two", &20).await.ok();
    let reopened = async || store.inner.read_head("p00").await.unwrap().unwrap().0.fence > fence;
    super::soon("it is opened again", reopened).await;
    // What came after the point of the copy is lost: here the first event, which is sent once more.
    until(&client, |status| !saw_the_first(status)).await;
    handle.raise_event("one", &300).await.unwrap();
    until(&client, saw_the_first).await;
    handle.raise_event("two", &4).id("again").await.unwrap();
    let sum = handle.output_within(Duration::from_secs(20)).await.unwrap();
    assert!([304, 320].contains(&sum), "{sum}: of the second event only one was taken");
    worker.shutdown().await.unwrap();
}
