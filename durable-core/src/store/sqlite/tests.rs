//! Faults that only the inside can cause: of the disk at COMMIT, of the writer, of a migration.

use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_machine::codec::encode_row;
use durable_machine::model::{
    Acceptance, CommitNumber, Fence, InstanceId, PartitionId, Payload, RunNumber, RuntimeStatus,
    StartNonce, Timestamp,
};
use durable_machine::store::{Commit, Head, ListQuery, Remains};
use futures::executor::block_on;
use rusqlite::Connection;
use tempfile::TempDir;

use super::super::{HubStore as _, PartitionStore as _, StoreError};
use super::failure::Failure;
use super::file::{self, SCHEMA};
use super::writer::Fault;
use super::{RARE, SqliteStore};

const P0: PartitionId = PartitionId(0);

fn hub() -> (TempDir, SqliteStore) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let store = SqliteStore::open(dir.path().join("hub.db")).expect("the hub opens");
    (dir, store)
}

/// A commit that changes the head only.
fn head_commit(number: u64, head_changed: bool) -> Arc<Commit> {
    Arc::new(Commit {
        partition: P0,
        number: CommitNumber(number),
        head: Head { unclean_opens: u32::try_from(number).expect("small"), ..Head::default() },
        head_changed,
        instances: Vec::new(),
        purges: Vec::new(),
        outbox: Vec::new(),
        outbox_done: Vec::new(),
        consumed: Vec::new(),
        at: Timestamp::default(),
        counts: std::collections::BTreeMap::new(),
    })
}

fn break_next(store: &SqliteStore, fault: Fault) {
    store.lane().writer().expect("alive").fault = Some(fault);
}

fn open(store: &SqliteStore) -> Fence {
    block_on(store.open(P0)).expect("opens").fence
}

#[test]
fn a_commit_whose_answer_was_lost_is_settled_by_reading() {
    for head_changed in [true, false] {
        let (_dir, store) = hub();
        let fence = open(&store);
        break_next(&store, Fault::CommitDone);
        block_on(store.commit(fence, head_commit(1, head_changed))).expect("it is in the file");
        break_next(&store, Fault::CommitLost);
        let lost = block_on(store.commit(fence, head_commit(2, head_changed)));
        assert!(matches!(lost, Err(StoreError::Busy { .. })), "{lost:?}");
        // The same bytes again.
        block_on(store.commit(fence, head_commit(2, head_changed))).expect("the fault is over");
    }
}

#[test]
fn an_outcome_is_unknown_only_while_the_file_cannot_be_asked() {
    let (_dir, store) = hub();
    let fence = open(&store);
    break_next(&store, Fault::CommitUnknown);
    let unknown = block_on(store.commit(fence, head_commit(1, true)));
    assert!(matches!(unknown, Err(StoreError::Unknown(_))), "{unknown:?}");
    // The engine opens again and reads.
    let fence = open(&store);
    block_on(store.commit(fence, head_commit(1, true))).expect("the fault is over");
}

#[test]
fn the_death_of_the_writer_is_told_at_once_to_those_that_wait_and_to_all_later_calls() {
    let (_dir, store) = hub();
    let fence = open(&store);
    break_next(&store, Fault::Panic);
    // `open` goes through the writer thread, which dies of it.
    let waiting = block_on(store.open(P0));
    assert!(matches!(waiting, Err(StoreError::Unusable(_))), "{waiting:?}");
    let began = Instant::now();
    for _ in 0..3 {
        let late = block_on(store.commit(fence, head_commit(1, true)));
        let Err(StoreError::Unusable(text)) = late else { panic!("{late:?}") };
        assert!(text.contains("a fault of the test"), "{text}");
        assert!(block_on(store.open(P0)).is_err());
        assert!(store.version().is_err());
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    // Reading goes on.
    assert!(block_on(store.counts()).is_ok());
}

#[test]
fn a_panic_on_the_callers_thread_ends_the_writer_too() {
    let (_dir, store) = hub();
    let fence = open(&store);
    break_next(&store, Fault::Panic);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        block_on(store.commit(fence, head_commit(1, true)))
    }));
    assert!(panicked.is_err(), "a small commit alone runs on the caller's thread");
    let late = block_on(store.commit(fence, head_commit(1, true)));
    assert!(matches!(late, Err(StoreError::Unusable(_))), "{late:?}");
    assert!(block_on(store.open(P0)).is_err());
}

#[test]
fn a_full_disk_stops_writing_until_there_is_room_and_never_reading() {
    let (_dir, store) = hub();
    let fence = open(&store);
    let pages = |count: u32| {
        let mut writer = store.lane().writer().expect("alive");
        let conn = writer.conn().expect("a connection");
        let set = conn.query_row(&format!("PRAGMA max_page_count = {count}"), [], |_| Ok(()));
        set.expect("a pragma");
    };
    pages(1);
    let start = |n: u128| {
        let input = Payload::of(&"x".repeat(60_000)).expect("JSON");
        let instance = InstanceId::new(format!("a{n}")).expect("valid");
        let acceptance = Acceptance::new(
            instance,
            RunNumber(1),
            StartNonce(uuid::Uuid::from_u128(n)),
            "ship".into(),
            input,
            Timestamp::default(),
        );
        block_on(store.accept(&acceptance))
    };
    let full = start(1);
    let Err(StoreError::Busy { reason, .. }) = full else { panic!("{full:?}") };
    assert!(reason.starts_with("disk full"), "{reason}");
    let listed = || block_on(store.list(&ListQuery::default(), None, 10));
    assert_eq!(listed().expect("reading goes on").rows.len(), 0, "nothing of it is there");
    assert!(block_on(store.counts()).is_ok());
    pages(1_000_000);
    start(1).expect("there is room");
    assert_eq!(listed().expect("no fault").rows.len(), 1);
    block_on(store.commit(fence, head_commit(1, true))).expect("the fence still holds");
}

#[test]
fn an_interrupted_migration_leaves_the_old_version() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut conn = Connection::open(dir.path().join("hub.db")).expect("a file");
    let migrate =
        |conn: &mut Connection, steps: &[&str]| file::migrate(conn, steps, Duration::from_secs(1));
    let version = |conn: &Connection| -> (u32, i64) {
        let version = conn.pragma_query_value(None, "user_version", |row| row.get(0));
        let count = "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'box%'";
        (version.expect("a version"), conn.query_row(count, [], |row| row.get(0)).expect("a count"))
    };
    let old = "CREATE TABLE box_one (a INTEGER) STRICT; INSERT INTO box_one VALUES (7);";
    migrate(&mut conn, &[old]).expect("created");
    assert_eq!(version(&conn), (1, 1));
    let broken =
        "CREATE TABLE box_two (a INTEGER) STRICT; DELETE FROM box_one; SELECT * FROM nobody;";
    migrate(&mut conn, &[old, broken]).expect_err("the second half of the step fails");
    assert_eq!(version(&conn), (1, 1), "the first half is not there");
    let kept: i64 = conn.query_row("SELECT a FROM box_one", [], |row| row.get(0)).expect("kept");
    assert_eq!(kept, 7);
    let sound = "CREATE TABLE box_two (a INTEGER) STRICT;";
    migrate(&mut conn, &[old, sound]).expect("migrated");
    migrate(&mut conn, &[old, sound]).expect("nothing to do");
    assert_eq!(version(&conn), (2, 2));
    let newer = migrate(&mut conn, &[old]).expect_err("written by a newer build");
    assert!(
        matches!(newer, Failure::Refused(StoreError::NewerSchema { found: 2, supported: 1 })),
        "{newer:?}"
    );
}

#[test]
fn the_wal_is_grown_once_and_the_database_is_not() {
    let (dir, store) = hub();
    let length = |name: &str| std::fs::metadata(dir.path().join(name)).expect("a file").len();
    let (database, wal) = (length("hub.db"), length("hub.db-wal"));
    open(&store);
    assert!(length("hub.db-wal") >= file::WAL_BYTES, "{wal}");
    assert!(length("hub.db") <= database.max(64 * 4096));
    assert_eq!(SCHEMA.len(), 3, "a new version needs a test with a file of each older one");
}

#[test]
fn a_file_of_an_older_version_is_migrated_with_all_that_is_in_it() {
    let second = "ALTER TABLE garbage DROP COLUMN id; INSERT INTO garbage VALUES (7); PRAGMA user_version = 2;";
    let first = format!("{second} DROP INDEX instances_troubled; PRAGMA user_version = 1;");
    [first.as_str(), second].into_iter().for_each(migrated);
}

/// A file that this makes an older one of.
fn migrated(as_it_was: &str) {
    let (dir, store) = hub();
    let one = Acceptance::new(
        InstanceId::new("a").expect("an id"),
        RunNumber(1),
        StartNonce(uuid::Uuid::from_u128(1)),
        "chain".into(),
        Payload::null(),
        Timestamp::from_micros(1),
    );
    block_on(store.accept(&one)).expect("accepted");
    drop(store);
    let path = dir.path().join("hub.db");
    let conn = Connection::open(&path).expect("the file");
    conn.execute_batch(as_it_was).expect("as it was");
    drop(conn);
    let store = SqliteStore::open(&path).expect("it is migrated");
    let query = ListQuery { statuses: vec![RuntimeStatus::Failed], ..ListQuery::default() };
    assert_eq!(block_on(store.list(&query, None, 10)).expect("the index is there").rows, []);
    let all = block_on(store.list(&ListQuery::default(), None, 10)).expect("no fault");
    assert_eq!(all.rows.len(), 1);
    let gone = block_on(store.remains(&[(InstanceId::new("b").expect("an id"), RunNumber(1))]));
    assert_eq!(gone.expect("no fault"), [Remains::Nothing], "nobody waits for garbage of nobody");
}

#[test]
fn an_unreadable_head_is_named() {
    let (_dir, store) = hub();
    open(&store);
    let spoil = store.lane().write(RARE, |tx| {
        let mut body = encode_row(&Head::default());
        body[20] ^= 1;
        tx.conn.execute(
            "UPDATE partitions SET head = ?1",
            [String::from_utf8(body).expect("still text")],
        )?;
        Ok(())
    });
    block_on(spoil).expect("spoiled");
    match block_on(store.open(P0)) {
        Err(StoreError::Corrupt { key, .. }) => assert_eq!(key, "head of partition 0"),
        other => panic!("{other:?}"),
    }
}
