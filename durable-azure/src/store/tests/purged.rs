//! What a purge leaves in storage: nothing, wherever it was interrupted.

use std::sync::Arc;

use durable_core::machine::model::{
    EventSeq, ExecutionKey, ExecutionNumber, InstanceId, RuntimeStatus, StatusRow,
};
use durable_core::machine::store::Remains;

use super::*;
use crate::service::Columns;
use crate::store::garbage;
use crate::store::rows::{RUN, id_columns, number, set_created, set_purged};

fn key(text: &str) -> ExecutionKey {
    ExecutionKey { instance: id(text), run: RunNumber(7), execution: ExecutionNumber(0) }
}

/// An instance that has ended: three history rows, one of them in a blob, as its status is.
async fn has_ended(store: &AzureStore, text: &str) {
    let first = start(text, large("x"));
    store.accept(&first).await.expect("no fault");
    let snapshot = store.open(P0).await.expect("no fault");
    let begin = begin(&first, 1, None);
    store.commit(snapshot.fence, Arc::new(begin)).await.expect("applied");
    for n in 2..=3_u64 {
        let write = InstanceWrite {
            key: key(text),
            begins: Begins::No,
            history: Some(HistoryAppend {
                first: EventSeq(n - 1),
                count: 1,
                at: first.accepted_at,
                body: b"{}".to_vec(),
            }),
            status: (n == 3).then(|| {
                let status = RuntimeStatus::Completed;
                Box::new(StatusRow { status, ..StatusRow::pending(&first) })
            }),
            in_flight: RowChange::Keep,
            timer: None,
        };
        let commit = commit(n, vec![write]);
        store.commit(snapshot.fence, Arc::new(commit)).await.expect("applied");
    }
    store.release(P0, snapshot.fence).await.expect("released");
    // Of the acceptance and its message.
    soon("blobs of the start are gone", async || blobs(store).await.len() == 2).await;
}

/// Whether anything in tables or blobs names it.
async fn is_named(store: &AzureStore, text: &str) -> bool {
    let encoded = keys::id(text);
    let rows = rows(store).await;
    let row = rows.iter().any(|row| {
        let names = |value: &Value| matches!(value, Value::Text(says) if says.contains(text));
        row.key.contains(&encoded) || row.columns.values().any(names)
    });
    let plain = keys::plain(&id(text));
    row || blobs(store).await.iter().any(|blob| blob.contains(&plain))
}

async fn nothing_is_left(store: &AzureStore, text: &str) {
    soon("nothing names it", async || !is_named(store, text).await).await;
    let remains = store.remains(&[(id(text), RunNumber(7))]).await.expect("no fault");
    assert_eq!(remains, [Remains::Nothing]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_and_no_blob_names_what_was_purged() {
    let store = hub().await;
    has_ended(&store, "order 7").await;
    let snapshot = store.open(P0).await.expect("no fault");
    let purge = Commit { purges: vec![key("order 7")], ..commit(1, Vec::new()) };
    store.commit(snapshot.fence, Arc::new(purge)).await.expect("applied");
    nothing_is_left(&store, "order 7").await;
}

/// The rows of a purge whose commit was applied, and nothing of what follows.
async fn marked(store: &AzureStore, instance: &InstanceId) {
    let row = store.inner.row("p00", &keys::status(instance)).await.expect("no fault");
    let created = row.expect("there").int("created").expect("a number").cast_unsigned();
    let mut mark = Columns::new();
    set_purged(&mut mark, true);
    let mut named = id_columns(instance);
    named.insert(RUN.into(), number(7));
    set_created(&mut named, created);
    let ops = [
        Op::Merge { key: keys::status(instance), columns: mark },
        Op::Insert { key: keys::garbage(instance, RunNumber(7)), columns: named },
    ];
    store.inner.table.transact("p00", &ops).await.expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_purge_is_finished_by_whoever_opens_the_partition() {
    // One row after the other is gone when the process dies, in the order in which they go.
    let kinds = ["", "h|", "n|", "i|"];
    for gone in 1..=kinds.len() {
        let store = hub().await;
        has_ended(&store, "order 7").await;
        marked(&store, &id("order 7")).await;
        for kind in kinds.iter().take(gone).filter(|kind| !kind.is_empty()) {
            for row in rows(&store).await.iter().filter(|row| row.key.starts_with(kind)) {
                garbage::remove_row(&store.inner, "p00", &row.key).await.expect("removed");
            }
        }
        assert_eq!(store.status(&id("order 7")).await.expect("no fault"), None, "nobody sees it");
        let remains = store.remains(&[(id("order 7"), RunNumber(7))]).await.expect("no fault");
        assert_eq!(remains, [Remains::Rest], "and it is not over");
        store.open(P0).await.expect("no fault");
        soon("no row names it", async || {
            rows(&store).await.iter().all(|row| row.key == keys::HEAD)
        })
        .await;
        if gone < 2 {
            nothing_is_left(&store, "order 7").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_comes_while_the_rest_is_removed_is_not_removed_with_it() {
    let store = hub().await;
    has_ended(&store, "a").await;
    marked(&store, &id("a")).await;
    let second = Acceptance { run: RunNumber(8), ..start("a", Payload::null()) };
    store.accept(&second).await.expect("it is accepted");
    let shown = store.status(&id("a")).await.expect("no fault").expect("it is seen");
    assert_eq!((shown.run, shown.status), (RunNumber(8), RuntimeStatus::Pending));
    let snapshot = store.open(P0).await.expect("no fault");
    let remains = async || store.remains(&[(id("a"), RunNumber(7))]).await.expect("no fault");
    soon("the first run is gone", async || remains().await == [Remains::Nothing]).await;
    let shown = store.status(&id("a")).await.expect("no fault").expect("it is still there");
    assert_eq!(shown.run, RunNumber(8));
    let begin = begin(&second, 1, None);
    store.commit(snapshot.fence, Arc::new(begin)).await.expect("it begins");
    soon("what the first left goes", async || {
        let rows = rows(&store).await;
        let kinds: Vec<_> = rows.iter().map(|row| &row.key[..2]).collect();
        kinds == ["!h", "h|", "i|", "n|"]
    })
    .await;
    assert!(blobs(&store).await.is_empty(), "the status of the first stood in one");
    assert_eq!(remains().await, [Remains::Nothing]);
    let row = store.inner.row("p00", &keys::status(&id("a"))).await.expect("no fault");
    let row = row.expect("there");
    assert_eq!(row.bool("purged"), Some(false));
    assert_eq!(row.int("waiting"), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_of_a_purge_that_was_not_applied_takes_nothing() {
    let store = hub().await;
    has_ended(&store, "a").await;
    let mut named = id_columns(&id("a"));
    named.insert(RUN.into(), number(7));
    set_created(&mut named, 1);
    let op = Op::Insert { key: keys::garbage(&id("a"), RunNumber(7)), columns: named };
    store.inner.table.transact("p00", &[op]).await.expect("written");
    store.open(P0).await.expect("no fault");
    soon("it is no garbage", async || {
        rows(&store).await.iter().all(|row| !row.key.starts_with("g|"))
    })
    .await;
    let history = store.history(&id("a")).await.expect("no fault").expect("it is there");
    assert_eq!(history.len(), 3);
}
