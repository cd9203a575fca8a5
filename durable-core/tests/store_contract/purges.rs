//! What a purge leaves, and what it must not take.

use std::sync::Arc;

use durable_core::machine::model::{
    Command, Envelope, EnvelopeId, Payload, ReusePolicy, RunNumber, RuntimeStatus, StatusRow,
};
use durable_core::machine::store::{
    AcceptOutcome, Commit, InstanceWrite, ListQuery, Remains, SendOutcome,
};
use durable_core::store::{Store, StoreError};

use super::Make;
use super::make::{
    Owner, P0, arrived, at, at_rest, begin, begin_fresh, end, events, id, key, raise, start,
    status_of, write,
};

/// How a purged instance looks: like one that never was.
async fn is_gone(store: &Arc<dyn Store>, text: &str) {
    let instance = id(text);
    assert_eq!(store.status(&instance).await.expect("no fault"), None, "{text}");
    assert_eq!(store.load(&instance).await.expect("no fault"), None, "{text}");
    assert_eq!(store.history(&instance).await.expect("no fault"), None, "{text}");
    let page = store.history_page(&instance, None, 10).await.expect("no fault");
    assert_eq!(page, None, "{text}");
    assert_eq!(store.send(&raise(text, "late")).await.expect("no fault"), SendOutcome::NotFound);
    for query in
        [ListQuery::default(), ListQuery { name: Some("chain".into()), ..ListQuery::default() }]
    {
        let listed = store.list(&query, None, 1000).await.expect("no fault");
        assert!(listed.rows.iter().all(|row| row.instance != instance), "{text} is listed");
    }
}

async fn accepted(store: &Arc<dyn Store>, text: &str, nonce: u128) -> RunNumber {
    let start = durable_core::machine::model::Acceptance {
        run: RunNumber(u64::try_from(nonce).expect("small")),
        ..start(text, nonce)
    };
    match store.accept(&start).await.expect("no fault") {
        AcceptOutcome::Accepted { run, .. } => run,
        AcceptOutcome::Active(row) => panic!("{text} is active: {row:?}"),
    }
}

fn purge(text: &str, run: u64, envelope: &str) -> Envelope {
    Envelope {
        id: EnvelopeId(envelope.into()),
        instance: id(text),
        run: Some(RunNumber(run)),
        command: Command::Purge { also: vec![(id("another"), RunNumber(7))] },
    }
}

/// With its counts, as an owner writes it.
fn counted(mut commit: Commit, completed: i64) -> Commit {
    commit.counts.insert(RuntimeStatus::Completed, completed);
    commit
}

/// An instance with a history of several rows, and payloads that stand by themselves.
async fn has_ended(owner: &mut Owner, text: &str, run: u64, large: bool) {
    let mut first = begin_fresh(text, run, at(1));
    if large {
        let payload = Payload::of(&"x".repeat(200_000)).expect("JSON");
        let row = first.status.as_deref().expect("a status").clone();
        first.status = Some(Box::new(StatusRow { input: payload, ..row }));
    }
    owner.commit(at(1), vec![first]).await;
    let mut next = write(key(text, run, 0));
    next.history = Some(events(2, 3, 4, at(2)));
    owner.commit(at(2), vec![next]).await;
    let last = end(text, run, 5, at(3));
    let commit = counted(owner.group(at(3), vec![last]), 1);
    owner.give(commit).await.expect("it ends");
}

pub(crate) async fn what_was_purged_is_seen_by_nobody_and_leaves_nothing(make: Make<'_>) {
    let mut subject = make(1);
    let (store, client) = (subject.store(), subject.client().await);
    let (mut owner, _) = Owner::open(&store, P0).await;
    for (text, large) in [("a", false), ("b", true), ("stays", false)] {
        has_ended(&mut owner, text, 5, large).await;
    }
    let found = store.remains(&[(id("a"), RunNumber(5)), (id("c"), RunNumber(5))]).await;
    assert_eq!(found.expect("no fault"), [Remains::There, Remains::Nothing]);
    let commit = counted(owner.purge(at(4), vec![key("a", 5, 0), key("b", 5, 0)]), -2);
    owner.give(commit).await.expect("applied");
    // At once, for everybody.
    for store in [&store, &client] {
        is_gone(store, "a").await;
        is_gone(store, "b").await;
    }
    let counts = store.counts().await.expect("no fault");
    assert_eq!(counts.get(&RuntimeStatus::Completed), Some(&1));
    assert_eq!(at_rest(&client, &[("a", 5), ("b", 5)]).await, [Remains::Nothing; 2]);
    let again = owner.purge(at(5), vec![key("a", 5, 0)]);
    assert!(matches!(owner.give(again).await, Err(StoreError::Unusable(_))), "it is not there");
    drop((store, client));
    subject.reopen().await;
    let store = subject.store();
    let (_, _) = Owner::open(&store, P0).await;
    is_gone(&store, "a").await;
    assert_eq!(
        store.history(&id("stays")).await.expect("no fault").map(|rows| rows.len()),
        Some(3)
    );
}

pub(crate) async fn a_long_history_goes_with_its_purge(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin_fresh("a", 5, at(1)), begin_fresh("b", 5, at(1))]).await;
    // More rows than one transaction removes.
    for n in 0..320 {
        let mut next = write(key("a", 5, 0));
        next.history = Some(events(2 + n, 1, 4, at(2)));
        owner.commit(at(2), vec![next]).await;
    }
    owner.commit(at(3), vec![end("a", 5, 322, at(3))]).await;
    let commit = owner.purge(at(4), vec![key("a", 5, 0)]);
    owner.give(commit).await.expect("applied");
    is_gone(&store, "a").await;
    assert_eq!(at_rest(&store, &[("a", 5)]).await, [Remains::Nothing]);
    let rows = store.history(&id("b")).await.expect("no fault").expect("it is there");
    assert_eq!(rows.len(), 1, "what is beside it stays");
}

pub(crate) async fn only_the_run_that_is_meant_is_purged_and_only_after_its_end(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin("a", 5, at(1)), begin("b", 5, at(1))]).await;
    owner.commit(at(2), vec![end("b", 5, 2, at(2))]).await;
    let last = || end("a", 5, 2, at(3));
    let wrong: [(Vec<InstanceWrite>, &str, u64); 4] = [
        (vec![], "a", 5),       // active
        (vec![], "b", 4),       // another run
        (vec![], "c", 5),       // nobody
        (vec![last()], "a", 5), // ends in the same commit
    ];
    for (instances, text, run) in wrong {
        let purges = vec![key(text, run, 0)];
        let commit = Commit { purges, ..owner.group(at(3), instances) };
        let refused = owner.give(commit).await;
        assert!(matches!(refused, Err(StoreError::Unusable(_))), "{text} {run}: {refused:?}");
        let (next, _) = Owner::open(&store, P0).await;
        owner = next;
    }
    for (text, status) in [("a", RuntimeStatus::Running), ("b", RuntimeStatus::Completed)] {
        let row = store.status(&id(text)).await.expect("no fault").expect("it stays");
        assert_eq!(row.status, status);
    }
    let fenced = owner.purge(at(4), vec![key("b", 5, 0)]);
    let (_, _) = Owner::open(&store, P0).await;
    assert!(matches!(owner.give(fenced).await, Err(StoreError::Fenced { .. })));
    assert!(store.status(&id("b")).await.expect("no fault").is_some(), "it stays");
}

pub(crate) async fn a_purged_id_begins_anew_at_once(make: Make<'_>) {
    let subject = make(1);
    let (store, client) = (subject.store(), subject.client().await);
    let (mut owner, _) = Owner::open(&store, P0).await;
    for round in 0..3_u64 {
        // Whether the rest of the last round is gone or not.
        let run = accepted(&client, "a", u128::from(10 * (round + 1))).await;
        let row = store.status(&id("a")).await.expect("no fault").expect("visible at once");
        assert_eq!((row.status, row.run), (RuntimeStatus::Pending, run));
        let stored = store.load(&id("a")).await.expect("no fault").expect("named");
        assert_eq!(stored.acceptance.map(|start| start.run), Some(run));
        assert_eq!(stored.history, vec![]);
        let starts = arrived(&store, P0, 1, 0).await.acceptances;
        assert_eq!(starts[0].acceptance.run, run);
        owner.commit(at(1), vec![begin("a", run.0, at(1))]).await;
        assert_eq!(
            store.history(&id("a")).await.expect("no fault").map(|rows| rows.len()),
            Some(1)
        );
        owner.commit(at(2), vec![end("a", run.0, 2, at(2))]).await;
        let commit = owner.purge(at(3), vec![key("a", run.0, 0)]);
        owner.give(commit).await.expect("applied");
        is_gone(&store, "a").await;
    }
    assert_eq!(at_rest(&store, &[("a", 30)]).await, [Remains::Nothing]);
}

pub(crate) async fn a_start_that_was_accepted_before_the_purge_stays(make: Make<'_>) {
    let subject = make(1);
    let (store, client) = (subject.store(), subject.client().await);
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin("a", 5, at(1)), begin("b", 5, at(1))]).await;
    owner.commit(at(2), vec![end("a", 5, 2, at(2)), end("b", 5, 2, at(2))]).await;
    for text in ["a", "b"] {
        assert_eq!(accepted(&client, text, 9).await, RunNumber(9));
    }
    let commit = owner.purge(at(3), vec![key("a", 5, 0), key("b", 5, 0)]);
    owner.give(commit).await.expect("applied");
    for text in ["a", "b"] {
        for store in [&store, &client] {
            let row = store.status(&id(text)).await.expect("no fault").expect("it was accepted");
            assert_eq!((row.status, row.run), (RuntimeStatus::Pending, RunNumber(9)));
        }
        let stored = store.load(&id(text)).await.expect("no fault").expect("named");
        assert_eq!(stored.acceptance.map(|start| start.run), Some(RunNumber(9)));
        assert_eq!((stored.status, stored.history), (None, vec![]));
        assert_eq!(store.history(&id(text)).await.expect("no fault"), None);
        assert_eq!(at_rest(&store, &[(text, 5)]).await, [Remains::Nothing]);
        let again = durable_core::machine::model::Acceptance {
            reuse: ReusePolicy::ReplaceActive,
            ..start(text, 11)
        };
        let refused = client.accept(&again).await.expect("no fault");
        assert!(matches!(refused, AcceptOutcome::Active(_)), "one waits already: {refused:?}");
        assert_eq!(accepted(&client, text, 9).await, RunNumber(9), "its answer may have been lost");
    }
    // One begins, the other shows first why it cannot.
    let begins = begin("a", 9, at(4));
    let mut waits = write(key("b", 9, 0));
    waits.status = Some(Box::new(status_of(&waits.key, RuntimeStatus::Suspended, at(4))));
    owner.commit(at(4), vec![begins, waits]).await;
    assert_eq!(store.history(&id("a")).await.expect("no fault").map(|rows| rows.len()), Some(1));
    let row = store.status(&id("b")).await.expect("no fault").expect("there");
    assert_eq!(row.status, RuntimeStatus::Suspended);
    owner.commit(at(5), vec![begin("b", 9, at(5))]).await;
    for text in ["a", "b"] {
        let row = store.status(&id(text)).await.expect("no fault").expect("there");
        assert_eq!((row.status, row.run), (RuntimeStatus::Running, RunNumber(9)));
        // Who purged it may know better than that another run is there.
        let remains = at_rest(&store, &[(text, 5)]).await;
        assert!(matches!(remains[..], [Remains::Replaced | Remains::Nothing]), "{remains:?}");
    }
    let listed = store.list(&ListQuery::default(), None, 10).await.expect("no fault");
    assert_eq!(listed.rows.len(), 2, "each once");
}

pub(crate) async fn a_purge_reaches_the_owner_of_what_has_ended(make: Make<'_>) {
    let subject = make(1);
    let (store, client) = (subject.store(), subject.client().await);
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin("a", 5, at(1))]).await;
    owner.commit(at(2), vec![end("a", 5, 2, at(2))]).await;
    let envelope = purge("a", 5, "p1");
    assert_eq!(client.send(&envelope).await.expect("no fault"), SendOutcome::Sent);
    assert_eq!(client.send(&envelope).await.expect("no fault"), SendOutcome::Sent);
    let found = arrived(&store, P0, 0, 1).await;
    assert_eq!(found.envelopes, [envelope], "to the letter, and once");
    let nobody = purge("nobody", 5, "p2");
    assert_eq!(client.send(&nobody).await.expect("no fault"), SendOutcome::NotFound);
    let refused = client.send(&raise("a", "e1")).await.expect("no fault");
    assert!(matches!(refused, SendOutcome::Ended(_)), "other commands are not for what has ended");
    let mut commit = owner.purge(at(3), vec![key("a", 5, 0)]);
    commit.consumed.push(super::make::forget("p1"));
    owner.give(commit).await.expect("applied");
    assert_eq!(client.send(&purge("a", 5, "p3")).await.expect("no fault"), SendOutcome::NotFound);
}

pub(crate) async fn as_many_purges_fit_one_commit_as_the_limits_say(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let most = store.limits().commit_rows_max.min(400) / durable_core::machine::store::PURGE_ROWS;
    let texts: Vec<_> = (0..most).map(|n| format!("n{n}")).collect();
    for portion in texts.chunks(15) {
        let begins = portion.iter().map(|text| begin_fresh(text, 5, at(1))).collect();
        owner.commit(at(1), begins).await;
        let ends = portion.iter().map(|text| end(text, 5, 2, at(2))).collect();
        owner.commit(at(2), ends).await;
    }
    let keys = texts.iter().map(|text| key(text, 5, 0)).collect();
    let commit = owner.purge(at(3), keys);
    assert!(commit.rows() <= store.limits().commit_rows_max);
    owner.give(commit).await.expect("it fits");
    let runs: Vec<_> = texts.iter().map(|text| (text.as_str(), 5)).collect();
    assert_eq!(at_rest(&store, &runs).await, vec![Remains::Nothing; most]);
    let listed = store.list(&ListQuery::default(), None, 10).await.expect("no fault");
    assert_eq!(listed.rows, vec![]);
}
