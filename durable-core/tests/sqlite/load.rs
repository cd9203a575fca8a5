//! Many at once, large files, and what is left behind.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use durable_core::machine::model::{PartitionId, RuntimeStatus};
use durable_core::machine::store::ListQuery;
use durable_core::store::{SqliteOptions, SqliteStore, Store, StoreError};

use super::{Place, now, number, soon};
use crate::store_contract::make::{
    Owner, P0, at, begin, end, events, id, key, start, status_of, timer, write,
};

#[test]
fn a_small_commit_alone_is_ready_at_the_first_poll() {
    let place = Place::new();
    let store = place.open();
    let (mut owner, _) = now(Owner::open(&store, P0));
    // The writer thread looks for garbage now and then, and may be slow to let go of the connection on a
    // busy machine. Alone is who finds it quiet, so that is waited for, by the count of commits.
    let mut in_a_row = 0;
    for n in 0..5_000 {
        let commit = owner.group(at(n), vec![begin(&format!("i{n}"), 1, at(n))]);
        let mut given = pin!(owner.give(commit));
        match given.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => {
                result.expect("applied");
                in_a_row += 1;
            }
            Poll::Pending => {
                now(given).expect("applied");
                in_a_row = 0;
            }
        }
        if in_a_row == 20 {
            return;
        }
    }
    panic!("never 20 in a row");
}

#[test]
fn a_refused_commit_leaves_the_others_of_its_group_alone() {
    const PARTITIONS: u16 = 8;
    let place = Place::new();
    let options = SqliteOptions { partitions: PARTITIONS, ..SqliteOptions::default() };
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open_with(place.path(), options).expect("the hub opens"));
    let mut owners: Vec<_> = (0..PARTITIONS)
        .map(|partition| now(Owner::open(&store, PartitionId(partition))).0)
        .collect();
    let names = |partition: u16| {
        (0..).map(|n| format!("i{n}")).filter(move |t| id(t).partition(PARTITIONS).0 == partition)
    };
    for round in 0..20_usize {
        // More rows than run on the caller's thread, so that they meet in the queue.
        let commits = owners.iter_mut().enumerate().map(|(partition, owner)| {
            let partition = u16::try_from(partition).expect("few");
            let mut writes: Vec<_> = names(partition)
                .skip(round * 40)
                .take(40)
                .map(|text| begin(&text, 1, at(1)))
                .collect();
            if partition % 2 == 1 {
                writes.push(end("nobody", 1, 0, at(1)));
                // Of this partition or not, it is refused.
            }
            let commit = owner.group(at(1), writes);
            async move { owner.give(commit).await }
        });
        let answers = now(futures::future::join_all(commits));
        for (partition, answer) in answers.into_iter().enumerate() {
            let refused = matches!(answer, Err(StoreError::Unusable(_)));
            assert_eq!(refused, partition % 2 == 1, "round {round}: {answer:?}");
        }
    }
    let page = now(store.list(&ListQuery::default(), None, 10_000)).expect("no fault");
    assert_eq!(page.rows.len(), 20 * 40 * usize::from(PARTITIONS) / 2);
    assert!(page.rows.iter().all(|row| row.instance.partition(PARTITIONS).0 % 2 == 0));
}

#[test]
fn many_clients_share_transactions() {
    const CLIENTS: u32 = 2000;
    let place = Place::new();
    let store = place.open();
    let frames = || place.bytes("hub.db-wal") / 4120;
    let before = frames();
    let mut accepts: Vec<_> =
        (0..CLIENTS).map(|n| start(&format!("i{n}"), u128::from(n))).collect();
    for (n, accept) in accepts.iter_mut().enumerate() {
        accept.accepted_at = at(n as i64);
    }
    let answers = now(futures::future::join_all(accepts.iter().map(|start| store.accept(start))));
    assert!(answers.iter().all(Result::is_ok));
    // A transaction for each would be six pages or more for each.
    let written = frames() - before;
    assert!(written < u64::from(CLIENTS) * 2, "{written} pages for {CLIENTS} starts");
    let counts = now(store.counts()).expect("no fault");
    assert_eq!(counts[&RuntimeStatus::Pending], u64::from(CLIENTS));
}

#[test]
fn the_wal_stays_bounded_under_a_busy_writer_and_readers() {
    let place = Place::new();
    let store = place.open();
    let done = AtomicBool::new(false);
    let most = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    now(store.list(&ListQuery::default(), None, 100)).expect("no fault");
                }
            });
        }
        let mut most = 0;
        now(async {
            let (mut owner, _) = Owner::open(&store, P0).await;
            for n in 0..300_i64 {
                let writes = (0..100).map(|k| begin(&format!("i{n}-{k}"), 1, at(n))).collect();
                owner.commit(at(n), writes).await;
                most = most.max(place.bytes("hub.db-wal"));
            }
        });
        done.store(true, Ordering::Relaxed);
        most
    });
    let database = place.bytes("hub.db");
    assert!(database > 8 * 1024 * 1024, "{database} bytes: enough to have grown it");
    assert!(most < 40 * 1024 * 1024, "the WAL grew to {most} bytes");
}

#[test]
fn old_executions_and_runs_are_removed_in_the_background() {
    let place = Place::new();
    let store = place.open();
    now(async {
        let (mut owner, _) = Owner::open(&store, P0).await;
        owner.commit(at(0), vec![begin("monitor", 1, at(0))]).await;
        // One history longer than a portion.
        for n in 0..1200 {
            let mut one = write(key("monitor", 1, 0));
            one.history = Some(events(2 + n, 1, 3, at(0)));
            owner.commit(at(0), vec![one]).await;
        }
        for execution in 1..200_u32 {
            let time = at(100 + i64::from(execution));
            let mut again = write(key("monitor", 1, execution));
            again.history = Some(events(0, 1, 4, time));
            again.status = Some(Box::new(status_of(&again.key, RuntimeStatus::Running, time)));
            owner.commit(time, vec![again]).await;
        }
        for run in 1..50 {
            let time = at(1000 + i64::try_from(run).expect("small"));
            owner.commit(time, vec![begin("again", run, time)]).await;
            owner.commit(time, vec![end("again", run, 2, time)]).await;
        }
    });
    let conn = place.sql();
    soon("the garbage is gone", || number(&conn, "SELECT count(*) FROM garbage") == 0);
    assert_eq!(number(&conn, "SELECT count(*) FROM history"), 3, "one of monitor, two of again");
    let kept = now(store.history(&id("again"))).expect("no fault").expect("stored");
    assert_eq!(kept.len(), 2);
    let kept = now(store.history(&id("monitor"))).expect("no fault").expect("stored");
    assert_eq!(kept.len(), 1);
}

#[test]
fn garbage_of_an_earlier_process_is_removed_by_the_next_owner() {
    let place = Place::new();
    drop(place.open());
    place
        .sql()
        .execute_batch(
            "INSERT INTO garbage (log) VALUES (900);
             INSERT INTO history (log, first, events, at, body) VALUES (900, 0, 1, 0, '{}'), (900, 1, 1, 0, '{}');",
        )
        .expect("left behind");
    let store = place.open();
    now(Owner::open(&store, P0));
    let conn = place.sql();
    soon("the garbage is gone", || number(&conn, "SELECT count(*) FROM history") == 0);
}

#[test]
fn a_page_of_timers_costs_the_page_and_not_all_timers() {
    const TIMERS: i64 = 100_000;
    let place = Place::new();
    let store = place.open();
    let (mut owner, _) = now(Owner::open(&store, P0));
    for chunk in 0..TIMERS / 10_000 {
        let writes = (chunk * 10_000..(chunk + 1) * 10_000).map(|n| {
            let mut write = begin(&format!("sleeper-{n:06}"), 1, at(0));
            write.timer = timer(None, Some(n / 10));
            write
        });
        now(owner.commit(at(0), writes.collect()));
    }
    let began = Instant::now();
    let page = now(store.timers(P0, None, 500)).expect("no fault");
    let middle = Some((at(TIMERS / 20), id("sleeper-050005")));
    let next = now(store.timers(P0, middle, 500)).expect("no fault");
    let took = began.elapsed();
    assert_eq!((page.timers.len(), page.more), (500, true));
    assert_eq!(next.timers[0], (at(TIMERS / 20), id("sleeper-050006")));
    assert!(took < Duration::from_millis(100), "two pages took {took:?}");
    // A new owner does not read them: none has work in flight.
    drop((owner, store));
    let began = Instant::now();
    let store = place.open();
    let (_, snapshot) = now(Owner::open(&store, P0));
    assert_eq!(snapshot.in_flight, vec![]);
    assert!(began.elapsed() < Duration::from_secs(1), "opening took {:?}", began.elapsed());
}
