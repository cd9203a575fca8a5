//! What only the rows themselves show, against the emulator.

mod dangling;
mod dead_letters;
mod purged;
mod set_back;

use std::sync::Arc;
use std::time::Duration;

use durable_core::machine::codec::encode_row;
use durable_core::machine::model::{
    Acceptance, HubName, InstanceId, PartitionId, Payload, RunNumber, StartNonce, StatusRow,
    Timestamp,
};
use durable_core::machine::store::{
    ArrivalPosition, Begins, Commit, Head, HistoryAppend, InstanceWrite, ListQuery, RowChange,
};
use durable_core::store::{HubStore as _, PartitionStore as _, StoreError};
use durable_emulator::Emulator;
use uuid::Uuid;

use super::wire::Wire;
use super::{AzureOptions, AzureStore, accept, keys, wire};
use crate::connection::Connection;
use crate::service::{Op, Row, Value};

const P0: PartitionId = PartitionId(0);

async fn hub() -> AzureStore {
    let emulator = Emulator::shared().expect("the emulator starts");
    let connection = Connection::parse(&emulator.connection_string()).expect("well-formed");
    let name = format!("u{}", &Uuid::new_v4().simple().to_string()[..20]);
    let options = AzureOptions {
        hub: HubName::new(name).expect("letters and digits"),
        partitions: 1,
        visibility: Duration::from_secs(1),
        idle_poll_max: Duration::from_millis(200),
        ..AzureOptions::default()
    };
    AzureStore::open(&connection, options).await.expect("the hub opens")
}

fn id(text: &str) -> InstanceId {
    InstanceId::new(text).expect("valid")
}

fn start(text: &str, input: Payload) -> Acceptance {
    Acceptance::new(
        id(text),
        RunNumber(7),
        StartNonce(Uuid::new_v4()),
        "chain".into(),
        input,
        Timestamp::from_micros(1_700_000_000_000_000),
    )
}

fn large(text: &str) -> Payload {
    Payload::of(&text.repeat(100_000)).expect("JSON")
}

async fn rows(store: &AzureStore) -> Vec<Row> {
    store.inner.range("p00", "", &[]).await.expect("no fault")
}

/// The one write of a commit that begins a run.
fn begin(start: &Acceptance, number: u64, in_flight: Option<Payload>) -> Commit {
    let status = StatusRow {
        status: durable_core::machine::model::RuntimeStatus::Running,
        ..StatusRow::pending(start)
    };
    let write = InstanceWrite {
        key: status.key(),
        begins: Begins::Accepted,
        history: Some(HistoryAppend {
            first: durable_core::machine::model::EventSeq(0),
            count: 1,
            at: start.accepted_at,
            body: start.input.json().as_bytes().to_vec(),
        }),
        status: Some(Box::new(status)),
        in_flight: in_flight
            .map_or(RowChange::Keep, |body| RowChange::Set(body.json().as_bytes().to_vec())),
        timer: None,
    };
    commit(number, vec![write])
}

fn commit(number: u64, instances: Vec<InstanceWrite>) -> Commit {
    Commit {
        partition: P0,
        number: durable_core::machine::model::CommitNumber(number),
        head: Head::default(),
        head_changed: true,
        instances,
        purges: Vec::new(),
        outbox: Vec::new(),
        outbox_done: Vec::new(),
        consumed: Vec::new(),
        at: Timestamp::from_micros(1_700_000_000_000_000),
        counts: Default::default(),
    }
}

async fn blobs(store: &AzureStore) -> Vec<String> {
    let page = store.inner.container.list("", None).await.expect("no fault");
    page.blobs.into_iter().map(|blob| blob.name).collect()
}

/// Until it holds, or five seconds have gone.
async fn soon(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..100 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within five seconds: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_can_read_the_rows() {
    let store = hub().await;
    let order = start("order 7", Payload::from_json(r#"{"pizza":"Margherita"}"#).expect("JSON"));
    store.accept(&order).await.expect("no fault");
    let rows = rows(&store).await;
    let keys: Vec<_> = rows.iter().map(|row| row.key.split('|').next().unwrap_or("")).collect();
    assert_eq!(keys, ["i", "n", "s"]);
    let status = &rows[0];
    assert_eq!(status.key, "i|order!207");
    for (column, says) in [
        ("id", "order 7"),
        ("name", "chain"),
        ("status", "Pending"),
        ("created_time", "2023-11-14T22:13:20.000000Z"),
    ] {
        assert_eq!(status.text(column), Some(says), "{column}");
    }
    assert!(status.text("body").expect("a text").contains(r#""pizza":"Margherita""#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_processed_is_kept_with_its_reason_and_hides_nothing() {
    let store = hub().await;
    let inner = &store.inner;
    let queue = inner.queue(P0).expect("a partition");
    queue.put("hello").await.expect("put");
    queue.put(r#"{"v":1,"row":{"Start":{}}}"#).await.expect("put");
    let newer = String::from_utf8(encode_row(&Wire::Posts(Vec::new()))).expect("text");
    let newer = newer.replace("\"v\":1", "\"v\":2");
    queue.put(&newer).await.expect("put");
    let offer = wire::text(&inner.container, &Wire::Work(Vec::new())).await.expect("small");
    queue.put(&offer).await.expect("put");
    let fine = start("fine", Payload::null());
    store.accept(&fine).await.expect("no fault");
    store.open(P0).await.expect("no fault");
    let dead = async || {
        let query = crate::service::Query::default();
        inner.dead.query(&query, None).await.expect("no fault").rows
    };
    // The sum of the newer one is wrong, too: it is damaged for this build.
    soon("dead letters", async || dead().await.len() == 4).await;
    for row in dead().await {
        assert!(!row.text("reason").expect("a reason").is_empty());
        assert!(row.text("body").is_some());
    }
    let arrivals = store.arrivals(P0, ArrivalPosition::default(), 10).await.expect("no fault");
    assert_eq!(arrivals.acceptances.len(), 1);
    let left = queue.get(32, Duration::from_secs(1)).await.expect("no fault");
    assert!(left.iter().all(|message| message.text.contains("fine")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_cannot_be_read_is_named_and_hides_no_other() {
    let store = hub().await;
    for text in ["a", "b", "c"] {
        store.accept(&start(text, Payload::null())).await.expect("no fault");
    }
    let inner = &store.inner;
    for key in [keys::status(&id("b")), keys::acceptance(&id("b"))] {
        let columns = [("body".into(), Value::Text("{\"v\":1,\"row\":…".into()))].into();
        let op = Op::Merge { key, columns };
        inner.table.transact("p00", &[op]).await.expect("written");
    }
    match store.load(&id("b")).await {
        Err(StoreError::Corrupt { key, .. }) => assert!(key.contains("i|b"), "{key}"),
        other => panic!("it was read: {other:?}"),
    }
    let filtered = ListQuery { name: Some("chain".into()), ..ListQuery::default() };
    for query in [ListQuery::default(), filtered] {
        let page = store.list(&query, None, 10).await.expect("no fault");
        let held: Vec<_> = page.rows.iter().map(|row| row.hold.is_some()).collect();
        assert_eq!(held, [false, true, false]);
    }
    store.open(P0).await.expect("no fault");
    let arrivals = store.arrivals(P0, ArrivalPosition::default(), 10).await.expect("no fault");
    assert_eq!(arrivals.acceptances.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_payloads_go_to_blobs_and_leave_none_behind() {
    let store = hub().await;
    let first = start("a", large("x"));
    store.accept(&first).await.expect("no fault");
    assert_eq!(blobs(&store).await.len(), 3, "of the status row, the acceptance and the message");
    let snapshot = store.open(P0).await.expect("no fault");
    let commit = begin(&first, 1, Some(large("work")));
    store.commit(snapshot.fence, Arc::new(commit)).await.expect("applied");
    let stored = store.load(&first.instance).await.expect("no fault").expect("stored");
    assert_eq!(stored.in_flight.as_deref(), Some(large("work").json().as_bytes()));
    assert_eq!(stored.history[0].body, first.input.json().as_bytes());
    soon("status, history and work in flight", async || blobs(&store).await.len() == 3).await;
    // A new run takes its place.
    let second = Acceptance { run: RunNumber(8), input: Payload::null(), ..start("a", large("")) };
    let commit = begin(&second, 2, None);
    store.commit(snapshot.fence, Arc::new(commit)).await.expect("applied");
    soon("nothing is left of the first run", async || blobs(&store).await.is_empty()).await;
    soon("nor its rows", async || {
        let keys: Vec<_> = rows(&store).await.into_iter().map(|row| row.key).collect();
        let kinds: Vec<_> = keys.iter().map(|key| &key[..2]).collect();
        kinds == ["!h", "h|", "i|", "n|"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_command_travels_in_a_blob() {
    let store = hub().await;
    store.accept(&start("a", Payload::null())).await.expect("no fault");
    let snapshot = store.open(P0).await.expect("no fault");
    let envelope = durable_core::machine::model::Envelope {
        id: durable_core::machine::model::EnvelopeId("e".into()),
        instance: id("a"),
        run: None,
        command: durable_core::machine::model::Command::Raise {
            name: "go".into(),
            input: large("event"),
        },
    };
    accept::send(&store.inner, &envelope).await.expect("no fault");
    let find = async || {
        store.arrivals(P0, ArrivalPosition::default(), 10).await.expect("no fault").envelopes
    };
    soon("it arrives", async || find().await == [envelope.clone()]).await;
    let mut commit = commit(1, Vec::new());
    commit
        .consumed
        .push(durable_core::machine::store::Consumed { id: envelope.id.clone(), remember: true });
    store.commit(snapshot.fence, Arc::new(commit)).await.expect("applied");
    soon("its blob goes with it", async || blobs(&store).await.is_empty()).await;
}
