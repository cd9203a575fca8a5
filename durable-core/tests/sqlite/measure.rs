//! What a commit costs beside the least that SQLite can do on the same file system. Not a test: run it in
//! release mode, alone, with `--ignored --nocapture measure`.

use std::sync::Arc;
use std::time::Instant;

use durable_core::machine::model::RuntimeStatus;
use durable_core::machine::store::{InstanceWrite, ListQuery, RowChange};
use durable_core::store::{SqliteStore, Store};

use super::{Place, now};
use crate::store_contract::make::{
    Owner, P0, at, begin, begin_fresh, events, key, status_of, write,
};

const WARM_UP: u64 = 2_500;
const COMMITS: u64 = 2_000;
const ROUNDS: usize = 7;
const GROUP: usize = 200;

/// One-row and many-row transactions, as simple as can be.
struct Floor(rusqlite::Connection);

impl Floor {
    fn new(place: &Place) -> Self {
        let conn = rusqlite::Connection::open(place.file("floor.db")).expect("a file");
        conn.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE floor (id INTEGER PRIMARY KEY, body TEXT) STRICT;",
        )
        .expect("set up");
        Self(conn)
    }

    fn commit(&self, rows: usize) {
        let run = |sql| self.0.prepare_cached(sql).expect("sound").execute([]).map(drop);
        let body = "x".repeat(120);
        run("BEGIN IMMEDIATE").expect("begun");
        for _ in 0..rows {
            let mut insert =
                self.0.prepare_cached("INSERT INTO floor (body) VALUES (?1)").expect("sound");
            insert.execute([&body]).expect("inserted");
        }
        run("COMMIT").expect("committed");
    }
}

fn per_second(commits: u64, mut commit: impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..commits {
        commit();
    }
    commits as f64 / began.elapsed().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[test]
#[ignore = "a measurement: release mode, alone on the machine"]
fn measure_commits_beside_the_floor() {
    let place = Place::new();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(place.path()).expect("a hub"));
    let (mut owner, _) = now(Owner::open(&store, P0));
    let names: Vec<_> = (0..GROUP).map(|n| format!("chain-{n}")).collect();
    now(owner.commit(at(0), names.iter().map(|text| begin(text, 1, at(0))).collect()));
    let mut next = vec![2_u64; GROUP];
    let floor = Floor::new(&place);

    // A lone commit: one history row, and a step of a chain as the engine writes it.
    let mut lone = |in_flight: bool| {
        let mut one = write(key(&names[0], 1, 0));
        one.history = Some(events(next[0], 1, 1, at(1)));
        if in_flight {
            one.in_flight = RowChange::Set(br#"{"open":[{"call":3,"attempt":1}]}"#.to_vec());
        }
        next[0] += 1;
        let mut commit = owner.group(at(1), vec![one]);
        commit.head_changed = false;
        now(owner.give(commit)).expect("applied");
    };
    for _ in 0..WARM_UP {
        floor.commit(1);
        lone(true);
    }
    let (mut raw, mut rows, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raw.push(per_second(COMMITS, || floor.commit(1)));
        rows.push(per_second(COMMITS, || lone(false)));
        steps.push(per_second(COMMITS, || lone(true)));
    }
    let (raw, rows, steps) = (median(raw), median(rows), median(steps));
    println!("one row, by hand          {raw:>9.0} commits/s");
    println!("one history row           {rows:>9.0} commits/s, {:.2} of the floor", rows / raw);
    println!("history row and in flight {steps:>9.0} commits/s, {:.2} of the floor", steps / raw);

    let mut group = || {
        let writes = names.iter().zip(&mut next).map(|(text, next)| {
            let mut one = write(key(text, 1, 0));
            one.history = Some(events(*next, 1, 1, at(2)));
            one.in_flight = RowChange::Set(br#"{"open":[{"call":3,"attempt":1}]}"#.to_vec());
            *next += 1;
            one
        });
        let writes = writes.collect();
        let mut commit = owner.group(at(2), writes);
        commit.head_changed = false;
        now(owner.give(commit)).expect("applied");
    };
    let (mut raw, mut groups) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raw.push(per_second(COMMITS / 10, || floor.commit(GROUP)));
        groups.push(per_second(COMMITS / 10, &mut group));
    }
    let (raw, groups) = (median(raw), median(groups));
    let each = GROUP as f64;
    println!("200 rows, by hand         {raw:>9.0} commits/s, {:>9.0} rows/s", raw * each);
    println!(
        "200 instance writes       {groups:>9.0} commits/s, {:>9.0} writes/s, {:.2} of the floor",
        groups * each,
        groups / raw
    );
}

/// Instances that the lists are measured over, and every how many of them has what is looked for.
const LISTED: usize = 100_000;
const RARE: usize = 1_000;

/// The first page of filtered lists on a file with many instances that ended.
#[test]
#[ignore = "a measurement: release mode, alone on the machine"]
fn measure_filtered_lists() {
    let place = Place::new();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(place.path()).expect("a hub"));
    let (mut owner, _) = now(Owner::open(&store, P0));
    for group in 0..LISTED / GROUP {
        let one = |n: usize| {
            let n = group * GROUP + n;
            let (text, time) = (format!("instance-{n}"), at(n as i64));
            let rare = n.is_multiple_of(RARE);
            let ended = if rare { RuntimeStatus::Failed } else { RuntimeStatus::Completed };
            let mut status = status_of(&key(&text, 1, 0), ended, time);
            if rare {
                status.tags.push(("rare".into(), "yes".into()));
                status.name = "rare".into();
            }
            InstanceWrite { status: Some(Box::new(status)), ..begin_fresh(&text, 1, time) }
        };
        now(owner.commit(at(group as i64), (0..GROUP).map(one).collect()));
    }
    let query = ListQuery::default;
    let tags = vec![("rare".to_owned(), "yes".to_owned())];
    for (what, query) in [
        ("no filter", query()),
        (
            "status Failed, by the index",
            ListQuery { statuses: vec![RuntimeStatus::Failed], ..query() },
        ),
        ("status Running, none", ListQuery { statuses: vec![RuntimeStatus::Running], ..query() }),
        ("name", ListQuery { name: Some("rare".into()), ..query() }),
        ("tag", ListQuery { tags: tags.clone(), ..query() }),
        ("tag that none has", ListQuery { tags: vec![("a".into(), "b".into())], ..query() }),
        (
            "status Failed and tag",
            ListQuery { tags, statuses: vec![RuntimeStatus::Failed], ..query() },
        ),
        ("created in the oldest hundredth", ListQuery { created_to: Some(at(1000)), ..query() }),
        ("id prefix", ListQuery { id_prefix: Some("instance-99".into()), ..query() }),
    ] {
        let mut took = Vec::new();
        let mut found = 0;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            found = now(store.list(&query, None, 100)).expect("no fault").rows.len();
            took.push(began.elapsed().as_secs_f64() * 1000.0);
        }
        println!("{what:<32} {found:>4} of 100 on the page {:>8.2} ms", median(took));
    }
}
