//! Which files are hubs, what a hub was created with, and copies of it.

use durable_core::machine::model::HubName;
use durable_core::store::{HubStore as _, SqliteOptions, SqliteStore, StoreError};

use super::{Place, now, number};
use crate::store_contract::make::{Owner, P0, at, begin, end, id, start};

fn refusal(place: &Place, options: SqliteOptions) -> String {
    match SqliteStore::open_with(place.path(), options) {
        Err(StoreError::Unusable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_hub_is_refused_with_a_sentence_and_left_alone() {
    let place = Place::new();
    std::fs::write(place.path(), "Dear diary, today I learned about file formats. ".repeat(50))
        .expect("written");
    assert!(refusal(&place, SqliteOptions::default()).contains("is not a task hub"));
    assert!(std::fs::read(place.path()).expect("there").starts_with(b"Dear diary"));

    let place = Place::new();
    place.sql().execute_batch("CREATE TABLE recipes (name TEXT)").expect("another program's");
    assert!(refusal(&place, SqliteOptions::default()).contains("another program"));
    let tables = number(&place.sql(), "SELECT count(*) FROM sqlite_schema");
    assert_eq!(tables, 1);

    assert!(matches!(SqliteStore::open(":memory:"), Err(StoreError::Unusable(_))));
    let nowhere = place.file("no/such/folder/hub.db");
    assert!(matches!(SqliteStore::open(nowhere), Err(StoreError::Unusable(_))));
}

#[test]
fn a_hub_of_a_newer_build_is_refused_with_both_versions() {
    let place = Place::new();
    drop(place.open());
    place.sql().pragma_update(None, "user_version", 99).expect("a newer build");
    match SqliteStore::open(place.path()) {
        Err(StoreError::NewerSchema { found: 99, supported: 3 }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hub_opens_only_as_it_was_created() {
    let place = Place::new();
    let name = |text: &str| HubName::new(text).expect("a valid name");
    let options = SqliteOptions { hub: name("orders"), partitions: 4, ..SqliteOptions::default() };
    let store = SqliteStore::open_with(place.path(), options.clone()).expect("created");
    assert_eq!((store.hub().name, store.hub().partitions), (name("orders"), 4));
    let other = SqliteOptions { hub: name("bills"), ..options.clone() };
    assert!(refusal(&place, other).contains("holds the task hub \"orders\", not \"bills\""));
    let other = SqliteOptions { partitions: 2, ..options.clone() };
    assert!(refusal(&place, other).contains("created with 4 partitions, not 2"));
    let other = SqliteOptions { partitions: 65, ..options };
    assert!(refusal(&place, other).contains("1 to 64"));
}

#[test]
fn rows_can_be_read_with_any_sqlite_tool() {
    let place = Place::new();
    let store = place.open();
    now(async {
        let (mut owner, _) = Owner::open(&store, P0).await;
        owner.commit(at(1), vec![begin("order-7", 1, at(1))]).await;
    });
    let row: (String, String, i64) = place
        .sql()
        .query_row("SELECT id, status, events FROM overview", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .expect("a row");
    assert_eq!(row, ("order-7".into(), "Running".into(), 2));
    let body: String = place
        .sql()
        .query_row("SELECT json_extract(body, '$.events[1].is') FROM history", [], |row| row.get(0))
        .expect("JSON");
    assert_eq!(body, r#"{"TimerFired":{"call":1001}}"#);
}

#[test]
fn a_backup_is_one_consistent_state_made_while_the_hub_is_in_use() {
    let place = Place::new();
    let store = SqliteStore::open(place.path()).expect("the hub opens");
    let shared: std::sync::Arc<dyn durable_core::store::Store> = std::sync::Arc::new(store.clone());
    let copy = place.file("copy.db");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            now(async {
                let (mut owner, _) = Owner::open(&shared, P0).await;
                for n in 0..300 {
                    let (a, b) = (format!("a{n}"), format!("b{n}"));
                    owner.commit(at(n), vec![begin(&a, 1, at(n)), begin(&b, 1, at(n))]).await;
                }
            });
        });
        while now(store.status(&id("a50"))).expect("no fault").is_none() {
            std::thread::yield_now();
        }
        now(store.backup_to(&copy)).expect("a copy");
        writer.join().expect("no panic");
    });
    let kept = SqliteStore::open(&copy).expect("the copy is a hub");
    let mut complete = 0;
    for n in 0..300 {
        let a = now(kept.history(&id(&format!("a{n}")))).expect("readable");
        let b = now(kept.history(&id(&format!("b{n}")))).expect("readable");
        assert_eq!(a.is_some(), b.is_some(), "half a commit");
        assert!(a.is_none() || n == complete, "a gap");
        complete += i64::from(a.is_some());
    }
    assert!(complete > 50);
    // It lives on its own.
    now(kept.accept(&start("new", 1))).expect("no fault");
    assert_eq!(now(shared.status(&id("new"))).expect("no fault"), None);
}

#[test]
fn a_backup_overwrites_nothing() {
    let place = Place::new();
    let store = SqliteStore::open(place.path()).expect("the hub opens");
    std::fs::write(place.file("precious"), "data").expect("written");
    let refused = now(store.backup_to(place.file("precious")));
    assert!(matches!(refused, Err(StoreError::Unusable(_))), "{refused:?}");
    assert_eq!(std::fs::read(place.file("precious")).expect("there"), b"data");
    let refused = now(store.backup_to(place.path()));
    assert!(matches!(refused, Err(StoreError::Unusable(_))), "{refused:?}");
}

#[test]
fn the_file_is_closed_with_the_last_clone() {
    let place = Place::new();
    let store = place.open();
    now(async {
        let (mut owner, _) = Owner::open(&store, P0).await;
        owner.commit(at(1), vec![begin("a", 1, at(1))]).await;
        owner.commit(at(2), vec![end("a", 1, 2, at(2))]).await;
    });
    assert!(place.bytes("hub.db-wal") > 0);
    drop(store);
    assert!(!place.file("hub.db-wal").exists(), "the last connection took it with it");
    assert_eq!(number(&place.sql(), "SELECT count(*) FROM history"), 2);
}
