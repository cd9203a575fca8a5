//! The power fails: whatever prefix of the WAL reached the disk, whole commits are there, in order.

use std::collections::BTreeMap;

use durable_core::machine::codec::decode_history;
use durable_core::machine::model::RuntimeStatus;
use durable_core::store::{HubStore as _, PartitionStore as _, SqliteStore};

use super::{Place, copy, now};
use crate::store_contract::make::{
    Owner, P0, at, begin, end, events, id, key, raise, remember, timer, write,
};

const COMMITS: i64 = 6;
const WAL_HEADER: usize = 32;
const FRAME: usize = 24 + 4096;

#[test]
fn every_cut_of_the_wal_leaves_whole_commits_in_order() {
    let place = Place::new();
    // The schema is in the database file, and all that follows in the WAL.
    drop(place.open());
    let store = place.open();
    copy(&place.path(), &place.file("base.db"));
    now(async {
        let (mut owner, _) = Owner::open(&store, P0).await;
        for n in 0..COMMITS {
            let (a, b) = (format!("a{n}"), format!("b{n}"));
            let mut first = begin(&a, 1, at(n));
            first.timer = timer(None, Some(1000 + n));
            let mut writes = vec![first, begin(&b, 1, at(n))];
            if n > 0 {
                writes.push(end(&format!("b{}", n - 1), 1, 2, at(n)));
                let mut on = write(key("a0", 1, 0));
                on.history = Some(events(1 + u64::try_from(n).expect("small"), 1, 9, at(n)));
                writes.push(on);
            }
            let mut commit = owner.group(at(n), writes);
            commit.consumed = vec![remember(&format!("e{n}"))];
            commit.counts = BTreeMap::from([(RuntimeStatus::Running, 2)]);
            owner.give(commit).await.expect("applied");
        }
    });
    // Copied as the disk would hold it, with the process still there.
    let wal = std::fs::read(place.file("hub.db-wal")).expect("a WAL");
    let salt = wal[16..24].to_vec();
    let frames = wal[WAL_HEADER..]
        .chunks(FRAME)
        .take_while(|frame| frame.len() == FRAME && frame[8..16] == salt[..])
        .count();
    assert!(frames > usize::try_from(COMMITS).expect("small") * 3, "{frames} frames");

    let cuts = (0..=frames)
        .map(|frame| WAL_HEADER + frame * FRAME)
        .flat_map(|edge| [edge, edge + 24 + 2048])
        .chain([0, 16]);
    let mut seen = std::collections::BTreeSet::new();
    for cut in cuts {
        let cut = cut.min(wal.len());
        let after = Place::new();
        copy(&place.file("base.db"), &after.path());
        std::fs::write(after.file("hub.db-wal"), &wal[..cut]).expect("written");
        let store = SqliteStore::open(after.path()).unwrap_or_else(|e| panic!("cut {cut}: {e}"));
        seen.insert(now(check(&store, cut)));
    }
    // All of them were met, and nothing else: from none to all.
    assert_eq!(seen, (0..=COMMITS).collect());
}

/// The number of commits that are there.
async fn check(store: &SqliteStore, cut: usize) -> i64 {
    let mut commits = 0;
    for n in 0..COMMITS {
        let a = store.load(&id(&format!("a{n}"))).await.expect("readable");
        let b = store.load(&id(&format!("b{n}"))).await.expect("readable");
        assert_eq!(a.is_some(), b.is_some(), "cut {cut}: half of commit {n}");
        assert!(a.is_none() || commits == n, "cut {cut}: commit {n} without the one before");
        let (Some(a), Some(_)) = (a, b) else { break };
        commits += 1;
        decode_history(&a.history).expect("whole rows");
        assert_eq!(a.timer, Some(at(1000 + n)));
    }
    if commits > 0 {
        let a0 = store.load(&id("a0")).await.expect("readable").expect("stored");
        let events = decode_history(&a0.history).expect("no gap");
        assert_eq!(events.len(), usize::try_from(commits + 1).expect("small"), "cut {cut}");
    }
    for n in 0..commits {
        let b = store.status(&id(&format!("b{n}"))).await.expect("readable").expect("stored");
        assert_eq!(b.status.is_terminal(), n + 1 < commits, "cut {cut}");
    }
    let count = store.counts().await.expect("readable");
    let running = count.get(&RuntimeStatus::Running).copied().unwrap_or(0);
    assert_eq!(running, u64::try_from(commits).expect("small") * 2, "cut {cut}");
    let timers = store.timers(P0, None, 100).await.expect("readable");
    assert_eq!(timers.timers.len(), usize::try_from(commits).expect("small"), "cut {cut}");
    let snapshot = store.open(P0).await.expect("it opens");
    assert_eq!(snapshot.consumed.len(), usize::try_from(commits).expect("small"), "cut {cut}");
    if commits > 0 {
        assert_eq!(snapshot.head.time, at(commits - 1), "cut {cut}");
        // And it goes on from there.
        store.send(&raise("a0", "after")).await.expect("no fault");
    }
    commits
}
