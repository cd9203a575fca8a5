//! One story for each line of the traits' documentation.

use std::collections::BTreeMap;
use std::sync::Arc;

use durable_core::machine::codec::{decode_history, encode_row};
use durable_core::machine::model::{
    EventSeq, InstanceId, Message, MessageBody, MessageNumber, PartitionId, Payload, ReusePolicy,
    RunNumber, RuntimeStatus,
};
use durable_core::machine::store::{
    AcceptOutcome, ArrivalPosition, Commit, InstanceWrite, ListQuery, OutboxWrite, RowChange,
    SendOutcome,
};
use durable_core::store::{Store, StoreError};

use super::Make;
use super::make::{
    Owner, P0, arrived, at, begin, begin_asked, begin_fresh, end, events, forget, id, key, member,
    raise, remember, start, status_of, timer, worker, write,
};

async fn accepted(store: &Arc<dyn Store>, text: &str, nonce: u128) -> RunNumber {
    match store.accept(&start(text, nonce)).await.expect("no fault") {
        AcceptOutcome::Accepted { run, .. } => run,
        AcceptOutcome::Active(row) => panic!("{text} is active: {row:?}"),
    }
}

async fn history_rows(store: &Arc<dyn Store>, text: &str) -> Vec<(EventSeq, Vec<u8>)> {
    let rows = store.history(&id(text)).await.expect("no fault").expect("it exists");
    rows.into_iter().map(|row| (row.first, row.body)).collect()
}

fn status(row: Option<durable_core::machine::model::StatusRow>) -> Option<RuntimeStatus> {
    row.map(|row| row.status)
}

async fn listed(store: &Arc<dyn Store>, query: &ListQuery) -> Vec<String> {
    let page = store.list(query, None, 1000).await.expect("no fault");
    page.rows.iter().map(|row| row.instance.to_string()).collect()
}

pub(crate) async fn a_fresh_hub_is_empty(make: Make<'_>) {
    let subject = make(2);
    let store = subject.store();
    assert_eq!(store.hub().partitions, 2);
    assert_eq!(store.load(&id("a")).await.expect("no fault"), None);
    assert_eq!(store.status(&id("a")).await.expect("no fault"), None);
    assert_eq!(store.history(&id("a")).await.expect("no fault"), None);
    assert_eq!(store.counts().await.expect("no fault"), BTreeMap::new());
    assert_eq!(listed(&store, &ListQuery::default()).await, Vec::<String>::new());
    let timers = store.timers(P0, None, 10).await.expect("no fault");
    assert!(timers.timers.is_empty() && !timers.more);
    let (_, snapshot) = Owner::open(&store, P0).await;
    let arrivals = store.arrivals(P0, ArrivalPosition::default(), 10).await.expect("no fault");
    assert!(arrivals.acceptances.is_empty() && arrivals.envelopes.is_empty() && !arrivals.more);
    assert!(snapshot.in_flight.is_empty());
    assert!(snapshot.outbox.is_empty());
    assert!(snapshot.consumed.is_empty());
    assert_eq!(snapshot.head.unclean_opens, 1);
}

pub(crate) async fn a_start_is_visible_once_it_was_accepted(make: Make<'_>) {
    let subject = make(1);
    let (store, client) = (subject.store(), subject.client().await);
    accepted(&client, "a", 7).await;
    let row = store.status(&id("a")).await.expect("no fault").expect("it is visible");
    assert_eq!(row.status, RuntimeStatus::Pending);
    assert_eq!(row.input, start("a", 7).input);
    assert_eq!(row.created_at, at(7));
    let stored = store.load(&id("a")).await.expect("no fault").expect("it is named");
    assert_eq!(stored.acceptance.expect("not begun").nonce, start("a", 7).nonce);
    assert_eq!(stored.history, vec![]);
    assert_eq!(listed(&store, &ListQuery::default()).await, ["a"]);
    let (_, _) = Owner::open(&store, P0).await;
    assert_eq!(arrived(&store, P0, 1, 0).await.acceptances.len(), 1);
}

pub(crate) async fn an_accept_with_the_same_nonce_is_answered_again_also_after_the_run_began(
    make: Make<'_>,
) {
    let subject = make(1);
    let store = subject.store();
    let run = accepted(&store, "a", 1).await;
    assert_eq!(accepted(&store, "a", 1).await, run);
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(10), vec![begin("a", run.0, at(10))]).await;
    assert_eq!(accepted(&store, "a", 1).await, run);
    owner.commit(at(11), vec![end("a", run.0, 2, at(11))]).await;
    assert_eq!(accepted(&store, "a", 1).await, run, "the run that it began has ended");
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!(stored.acceptance, None);
    assert_eq!(status(stored.status), Some(RuntimeStatus::Completed));
}

pub(crate) async fn a_second_start_of_an_active_id_gets_the_active_instance(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    accepted(&store, "a", 1).await;
    for reuse in [ReusePolicy::RefuseActive, ReusePolicy::UseActive, ReusePolicy::ReplaceActive] {
        let second = durable_core::machine::model::Acceptance { reuse, ..start("a", 2) };
        let AcceptOutcome::Active(row) = store.accept(&second).await.expect("no fault") else {
            panic!("{reuse:?}: a start that waits is not overtaken");
        };
        assert_eq!(row.status, RuntimeStatus::Pending);
    }
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin("a", 1, at(1))]).await;
    for reuse in [ReusePolicy::RefuseActive, ReusePolicy::UseActive] {
        let second = durable_core::machine::model::Acceptance { reuse, ..start("a", 2) };
        let AcceptOutcome::Active(row) = store.accept(&second).await.expect("no fault") else {
            panic!("{reuse:?}: the running instance has the id");
        };
        assert_eq!(row.status, RuntimeStatus::Running);
    }
    assert_eq!(
        store
            .arrivals(P0, ArrivalPosition::default(), 10)
            .await
            .expect("no fault")
            .acceptances
            .len(),
        0
    );
}

pub(crate) async fn a_start_replaces_an_instance_that_has_ended(make: Make<'_>) {
    let subject = make(1);
    let (store, client) = (subject.store(), subject.client().await);
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin("a", 5, at(1)), begin("b", 1, at(1))]).await;
    owner.commit(at(2), vec![end("a", 5, 2, at(2))]).await;
    let run = accepted(&client, "a", 9).await;
    assert_eq!(run, RunNumber(6), "above every earlier run");
    assert_eq!(
        status(store.status(&id("a")).await.expect("no fault")),
        Some(RuntimeStatus::Pending)
    );
    // A row that is there is its owner's alone: until the new run begins it is that of the old one.
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!(stored.status.map(|row| row.run), Some(RunNumber(5)));
    owner.commit(at(3), vec![begin("a", 6, at(3))]).await;
    assert_eq!(listed(&store, &ListQuery::default()).await, ["a", "b"], "newest start first");
    assert_eq!(history_rows(&store, "a").await.len(), 1, "the old history is out of reach");
    // The old run is gone for good: what still belongs to it is refused.
    let late = owner.group(at(4), vec![end("a", 5, 2, at(4))]);
    assert!(matches!(owner.give(late).await, Err(StoreError::Unusable(_))));
}

pub(crate) async fn a_child_begins_where_no_start_was_accepted(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let counts = |running: i64, completed: i64| {
        BTreeMap::from([(RuntimeStatus::Running, running), (RuntimeStatus::Completed, completed)])
    };
    let (mut owner, _) = Owner::open(&store, P0).await;
    // Nothing is stored of the id; then a run that has ended, which goes with all its rows.
    for (run, time, delta) in [(100, 100, counts(1, 0)), (101, 110, counts(1, -1))] {
        let mut begun = begin_asked("a", run, at(time));
        begun.timer = timer(None, Some(900));
        begun.in_flight = RowChange::Set(encode_row(&"work"));
        let commit = Commit { counts: delta, ..owner.group(at(time), vec![begun]) };
        owner.give(commit).await.expect("the id is free");
        let row = store.status(&id("a")).await.expect("no fault").expect("there");
        assert_eq!((row.run, row.status), (RunNumber(run), RuntimeStatus::Running));
        assert_eq!(history_rows(&store, "a").await.len(), 1);
        assert_eq!(listed(&store, &ListQuery::default()).await, ["a"]);
        let mut ended = end("a", run, 2, at(time + 1));
        ended.timer = timer(Some(900), None);
        let commit = Commit { counts: counts(-1, 1), ..owner.group(at(200), vec![ended]) };
        owner.give(commit).await.expect("it ends");
    }
    let found = store.counts().await.expect("no fault");
    assert_eq!(found, BTreeMap::from([(RuntimeStatus::Completed, 1)]));

    // A start that was accepted meanwhile, beside an ended run and where there is none: nothing is applied.
    for text in ["a", "b"] {
        let run = accepted(&store, text, 7).await;
        let (mut owner, _) = Owner::open(&store, P0).await;
        for late in [run.0 - 1, run.0 + 1] {
            let commit = owner.group(
                at(300),
                vec![
                    begin_fresh(&format!("{text}-{late}"), 1, at(300)),
                    begin_asked(text, late, at(300)),
                ],
            );
            let refused = owner.give(commit).await;
            assert!(matches!(refused, Err(StoreError::Unusable(_))), "{refused:?}");
        }
        let (mut owner, _) = Owner::open(&store, P0).await;
        assert_eq!(store.status(&id(&format!("{text}-1"))).await.expect("no fault"), None);
        assert_eq!(
            status(store.status(&id(text)).await.expect("no fault")),
            Some(RuntimeStatus::Pending)
        );
        owner.commit(at(400), vec![begin(text, run.0, at(400))]).await;
        let row = store.status(&id(text)).await.expect("no fault").expect("there");
        assert_eq!((row.run, row.status), (run, RuntimeStatus::Running));
    }
}

pub(crate) async fn a_fresh_run_begins_only_under_a_fresh_id(make: Make<'_>) {
    let subject = make(1);
    let (store, client) = (subject.store(), subject.client().await);
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin_fresh("runs", 5, at(1)), begin_fresh("over", 5, at(1))]).await;
    owner.commit(at(2), vec![end("over", 5, 2, at(2))]).await;
    let pending = accepted(&client, "pending", 7).await;
    for text in ["runs", "over", "pending"] {
        let before = store.load(&id(text)).await.expect("no fault");
        let (mut owner, _) = Owner::open(&store, P0).await;
        let late = pending.next().0;
        let commit = owner.group(
            at(3),
            vec![begin_fresh(&format!("beside-{text}"), 1, at(3)), begin_fresh(text, late, at(3))],
        );
        let refused = owner.give(commit).await;
        assert!(matches!(refused, Err(StoreError::Unusable(_))), "{text}: {refused:?}");
        let (_, _) = Owner::open(&store, P0).await;
        assert_eq!(store.load(&id(text)).await.expect("no fault"), before);
        let beside = store.status(&id(&format!("beside-{text}"))).await;
        assert_eq!(beside.expect("no fault"), None);
    }
}

pub(crate) async fn a_start_that_cannot_begin_waits_in_place_of_the_ended_run(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin("a", 5, at(1))]).await;
    owner.commit(at(2), vec![end("a", 5, 2, at(2))]).await;
    let waiting = |run| {
        let mut one = write(key("a", run, 0));
        one.status = begin("a", run, at(3)).status;
        one
    };
    let early = owner.group(at(3), vec![waiting(6)]);
    assert!(matches!(owner.give(early).await, Err(StoreError::Unusable(_))), "nobody accepted it");
    let (mut owner, _) = Owner::open(&store, P0).await;
    accepted(&store, "a", 9).await;
    owner.commit(at(3), vec![waiting(6)]).await;
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!(stored.status.map(|row| row.run), Some(RunNumber(6)));
    assert!(stored.acceptance.is_some(), "it has not begun");
    assert_eq!(history_rows(&store, "a").await, vec![], "the old history is out of reach");
    owner.commit(at(4), vec![begin("a", 6, at(4))]).await;
    assert_eq!(history_rows(&store, "a").await.len(), 1);
}

pub(crate) async fn what_a_pending_start_was_sent_goes_when_it_begins(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let due = Some(at(1_000_000));
    let later = durable_core::machine::model::Acceptance { scheduled_for: due, ..start("a", 1) };
    store.accept(&later).await.expect("no fault");
    let row = store.status(&id("a")).await.expect("no fault").expect("visible");
    assert_eq!((row.status, row.scheduled_for), (RuntimeStatus::Pending, due));
    let sent = InstanceWrite {
        in_flight: RowChange::Set(b"{\"stash\":[]}".to_vec()),
        status: Some(Box::new(row)),
        ..write(key("a", 1, 0))
    };
    owner.commit(at(1), vec![sent]).await;
    let (mut owner, snapshot) = Owner::open(&store, P0).await;
    assert_eq!(snapshot.in_flight, [id("a")], "who takes over has to look at it");
    let arrivals = arrived(&store, P0, 1, 0).await;
    assert_eq!(arrivals.acceptances[0].acceptance.scheduled_for, due);
    let begins = InstanceWrite { in_flight: RowChange::Delete, ..begin("a", 1, at(2)) };
    owner.commit(at(2), vec![begins]).await;
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!((stored.in_flight, stored.acceptance), (None, None));
    let (_, snapshot) = Owner::open(&store, P0).await;
    assert!(snapshot.in_flight.is_empty());
}

pub(crate) async fn an_active_instance_is_replaced_only_on_request_and_by_its_owner(
    make: Make<'_>,
) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin("a", 3, at(1))]).await;
    let replacing = durable_core::machine::model::Acceptance {
        reuse: ReusePolicy::ReplaceActive,
        ..start("a", 2)
    };
    assert_eq!(
        store.accept(&replacing).await.expect("no fault"),
        AcceptOutcome::Accepted { run: RunNumber(4), fresh: false }
    );
    let row = store.status(&id("a")).await.expect("no fault").expect("visible");
    assert_eq!((row.status, row.run), (RuntimeStatus::Pending, RunNumber(4)));
    // Until its owner replaces it, the old run goes on.
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!(stored.status.map(|row| row.run), Some(RunNumber(3)));
    assert_eq!(stored.history.len(), 1);
    owner.commit(at(5), vec![end("a", 3, 2, at(5)), begin("a", 4, at(5))]).await;
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!(stored.status.map(|row| row.run), Some(RunNumber(4)));
    assert_eq!(stored.acceptance, None);
    assert_eq!(stored.history.len(), 1);
}

pub(crate) async fn a_command_for_nobody_or_for_an_ended_instance_is_told_apart(make: Make<'_>) {
    let subject = make(1);
    let (store, client) = (subject.store(), subject.client().await);
    let outcome = client.send(&raise("a", "e1")).await.expect("no fault");
    assert_eq!(outcome, SendOutcome::NotFound);
    accepted(&client, "a", 1).await;
    assert_eq!(client.send(&raise("a", "e1")).await.expect("no fault"), SendOutcome::Sent);
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin("a", 1, at(1))]).await;
    assert_eq!(client.send(&raise("a", "e2")).await.expect("no fault"), SendOutcome::Sent);
    owner.commit(at(2), vec![end("a", 1, 2, at(2))]).await;
    let SendOutcome::Ended(row) = client.send(&raise("a", "e3")).await.expect("no fault") else {
        panic!("it has ended");
    };
    assert_eq!(row.status, RuntimeStatus::Completed);
    let arrivals = arrived(&store, P0, 0, 2).await;
    let mut ids: Vec<_> = arrivals.envelopes.iter().map(|envelope| &*envelope.id.0).collect();
    if store.limits().redelivers {
        ids.sort_unstable();
    }
    assert_eq!(ids, ["e1", "e2"]);
}

pub(crate) async fn a_command_arrives_once_however_often_it_is_sent(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    accepted(&store, "a", 1).await;
    for _ in 0..3 {
        assert_eq!(store.send(&raise("a", "e")).await.expect("no fault"), SendOutcome::Sent);
    }
    let first = arrived(&store, P0, 0, 1).await;
    assert_eq!(first.envelopes.len(), 1);
    let mut commit = owner.group(at(1), vec![begin("a", 1, at(1))]);
    commit.consumed = vec![remember("e")];
    owner.give(commit).await.expect("applied");
    assert_eq!(store.send(&raise("a", "e")).await.expect("no fault"), SendOutcome::Sent);
    let again = store.arrivals(P0, ArrivalPosition::default(), 10).await.expect("no fault");
    assert_eq!(again.envelopes, vec![], "it was consumed");
    // A new one is behind every position that was given out.
    assert_eq!(store.send(&raise("a", "f")).await.expect("no fault"), SendOutcome::Sent);
    let all = arrived(&store, P0, 0, 1).await;
    let new = store.arrivals(P0, first.position, 10).await.expect("no fault");
    assert_eq!(new.envelopes, all.envelopes);
    assert_eq!(new.envelopes.len(), 1);
}

pub(crate) async fn a_consumed_id_is_remembered_for_an_hour(make: Make<'_>) {
    const MINUTE: i64 = 60_000_000;
    let mut subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    for (n, (minute, consumed)) in
        [(0, remember("old")), (30, remember("young")), (61, forget("other"))].iter().enumerate()
    {
        let time = at(minute * MINUTE);
        let mut commit = owner.group(time, vec![begin(&format!("i{n}"), 1, time)]);
        commit.consumed = vec![consumed.clone()];
        owner.give(commit).await.expect("applied");
    }
    drop((owner, store));
    subject.reopen().await;
    let (_, snapshot) = Owner::open(&subject.store(), P0).await;
    let ids: Vec<_> = snapshot.consumed.iter().map(|(id, _)| &*id.0).collect();
    assert_eq!(ids, ["young"]);
    assert_eq!(snapshot.consumed[0].1, at(30 * MINUTE));
}

pub(crate) async fn arrivals_are_read_in_order_and_in_portions(make: Make<'_>) {
    let subject = make(2);
    let (store, client) = (subject.store(), subject.client().await);
    for n in 0..20 {
        accepted(&client, &format!("i{n:02}"), n + 1).await;
        let sent = client.send(&raise(&format!("i{n:02}"), &format!("e{n:02}"))).await;
        assert_eq!(sent.expect("no fault"), SendOutcome::Sent);
    }
    for partition in [P0, PartitionId(1)] {
        let mine = |text: &String| id(text).partition(2) == partition;
        let expected: Vec<_> = (0..20).map(|n| format!("i{n:02}")).filter(mine).collect();
        let (_, _) = Owner::open(&store, partition).await;
        arrived(&store, partition, expected.len(), expected.len()).await;
        let mut position = ArrivalPosition::default();
        let (mut starts, mut commands) = (Vec::new(), Vec::new());
        loop {
            let arrivals = store.arrivals(partition, position, 3).await.expect("no fault");
            assert!(arrivals.acceptances.len() <= 3 && arrivals.envelopes.len() <= 3);
            position = arrivals.position;
            starts.extend(arrivals.acceptances.iter().map(|a| a.acceptance.instance.to_string()));
            commands.extend(arrivals.envelopes.iter().map(|e| e.instance.to_string()));
            if !arrivals.more {
                break;
            }
        }
        if store.limits().redelivers {
            starts.sort_unstable();
            commands.sort_unstable();
        }
        assert_eq!(starts, expected);
        assert_eq!(commands, expected);
    }
}

pub(crate) async fn an_opening_fences_earlier_owners_off(make: Make<'_>) {
    let subject = make(2);
    let store = subject.store();
    let (mut first, one) = Owner::open(&store, P0).await;
    let (mut second, two) = Owner::open(&store, P0).await;
    let (_, other) = Owner::open(&store, PartitionId(1)).await;
    assert!(one.fence < two.fence);
    let text = (0..).map(|n| format!("i{n}")).find(|t| id(t).partition(2) == P0).expect("one");
    let commit = first.group(at(1), vec![begin(&text, 1, at(1))]);
    match first.give(commit).await {
        Err(StoreError::Fenced { newest }) => assert_eq!(newest, two.fence),
        other => panic!("a stale owner wrote: {other:?}"),
    }
    let released = first.store.release(P0, first.fence).await;
    assert!(matches!(released, Err(StoreError::Fenced { .. })));
    second.commit(at(2), vec![begin(&text, 1, at(2))]).await;
    // Partitions are fenced one by one.
    assert!(store.release(PartitionId(1), other.fence).await.is_ok());
}

pub(crate) async fn a_fenced_commit_changes_nothing(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut stale, _) = Owner::open(&store, P0).await;
    stale.commit(at(1), vec![begin("a", 1, at(1))]).await;
    accepted(&store, "b", 3).await;
    store.send(&raise("a", "e")).await.expect("no fault");
    let before = (
        store.load(&id("a")).await.expect("no fault"),
        store.counts().await.expect("no fault"),
        listed(&store, &ListQuery::default()).await,
    );
    let (_, opened) = Owner::open(&store, P0).await;
    let mut commit = stale.group(at(9), vec![end("a", 1, 2, at(9)), begin("b", 1, at(9))]);
    commit.consumed = vec![remember("e")];
    commit.counts = BTreeMap::from([(RuntimeStatus::Completed, 1)]);
    assert!(matches!(stale.give(commit).await, Err(StoreError::Fenced { .. })));
    let after = (
        store.load(&id("a")).await.expect("no fault"),
        store.counts().await.expect("no fault"),
        listed(&store, &ListQuery::default()).await,
    );
    assert_eq!(before, after);
    let arrivals = arrived(&store, P0, 1, 1).await;
    assert_eq!((arrivals.acceptances.len(), arrivals.envelopes.len()), (1, 1));
    let (_, again) = Owner::open(&store, P0).await;
    assert_eq!(again.head.time, opened.head.time);
}

pub(crate) async fn a_refused_commit_changes_nothing(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let mut begun = begin("a", 1, at(1));
    begun.timer = timer(None, Some(50));
    owner.commit(at(1), vec![begun]).await;
    let before = store.load(&id("a")).await.expect("no fault");
    let wrong = [
        ("a gap in the history", end("a", 1, 3, at(2))),
        ("another run", end("a", 2, 2, at(2))),
        ("nobody", end("z", 1, 0, at(2))),
        ("a timer elsewhere", {
            let mut write = end("a", 1, 2, at(2));
            write.timer = timer(Some(51), None);
            write
        }),
        ("a beginning without status", {
            let mut write = begin("y", 1, at(2));
            write.status = None;
            write
        }),
    ];
    for (what, write) in wrong {
        // A sound write in front of it goes with it.
        let commit = owner.group(at(2), vec![begin("b", 1, at(2)), write]);
        let refused = owner.give(commit).await;
        assert!(matches!(refused, Err(StoreError::Unusable(_))), "{what}: {refused:?}");
        assert_eq!(store.load(&id("a")).await.expect("no fault"), before, "{what}");
        assert_eq!(store.load(&id("b")).await.expect("no fault"), None, "{what}");
    }
    owner.commit(at(3), vec![begin("b", 1, at(3)), end("a", 1, 2, at(3))]).await;
    let ended = owner.group(at(4), vec![end("a", 1, 3, at(4))]);
    assert!(matches!(owner.give(ended).await, Err(StoreError::Unusable(_))), "it has ended");
}

pub(crate) async fn a_commit_is_seen_by_every_other_connection(make: Make<'_>) {
    let subject = make(1);
    let (store, client) = (subject.store(), subject.client().await);
    let (mut owner, _) = Owner::open(&store, P0).await;
    for n in 0..50_u32 {
        let time = at(i64::from(n));
        let text = format!("i{n}");
        owner.commit(time, vec![begin(&text, 1, time)]).await;
        assert!(client.status(&id(&text)).await.expect("no fault").is_some(), "{text}");
        let stored = store.load(&id(&text)).await.expect("no fault").expect("stored");
        assert_eq!(stored.history.len(), 1);
    }
}

pub(crate) async fn an_unclean_end_is_counted_and_a_release_is_not(make: Make<'_>) {
    let mut subject = make(1);
    let (_, first) = Owner::open(&subject.store(), P0).await;
    assert_eq!(first.head.unclean_opens, 1);
    subject.reopen().await;
    let (owner, second) = Owner::open(&subject.store(), P0).await;
    assert_eq!(second.head.unclean_opens, 2);
    owner.store.release(P0, owner.fence).await.expect("it is the owner");
    drop(owner);
    subject.reopen().await;
    let (mut owner, third) = Owner::open(&subject.store(), P0).await;
    assert_eq!(third.head.unclean_opens, 1);
    owner.head.probing = Some(id("suspect"));
    owner.commit(at(1), vec![begin("a", 1, at(1))]).await;
    drop(owner);
    subject.reopen().await;
    let (_, fourth) = Owner::open(&subject.store(), P0).await;
    assert_eq!(fourth.head.unclean_opens, 1, "a commit ends the count");
    assert_eq!(fourth.head.probing, Some(id("suspect")));
    assert_eq!(fourth.head.time, at(1));
}

pub(crate) async fn a_run_of_a_fresh_id_is_written_like_any_other(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let mut fresh = begin_fresh("a", 1, at(1));
    fresh.timer = timer(None, Some(100));
    fresh.in_flight = RowChange::Set(b"{}".to_vec());
    owner.commit(at(1), vec![fresh, begin_fresh("b", 1, at(1))]).await;
    owner.commit(at(2), vec![end("b", 1, 2, at(2))]).await;
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!((stored.history.len(), stored.timer), (1, Some(at(100))));
    assert_eq!(stored.in_flight.as_deref(), Some(&b"{}"[..]));
    assert_eq!(listed(&store, &ListQuery::default()).await, ["b", "a"]);
    let again = owner.group(at(3), vec![begin("c", 1, at(3)), begin("a", 2, at(3))]);
    owner.give(again).await.expect("a later run replaces it");
}

pub(crate) async fn history_comes_back_to_the_letter_and_in_order(make: Make<'_>) {
    let mut subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(0), vec![begin("a", 1, at(0)), begin("b", 1, at(0))]).await;
    let (mut next, mut rows) = (2, vec![events(0, 2, 1, at(0))]);
    for n in 1..30_u32 {
        let append = events(next, n % 4 + 1, n, at(i64::from(n)));
        next += u64::from(append.count);
        let mut one = write(key("a", 1, 0));
        one.history = Some(append.clone());
        rows.push(append);
        owner.commit(at(i64::from(n)), vec![one]).await;
    }
    let expected: Vec<_> = rows.into_iter().map(|row| (row.first, row.body)).collect();
    assert_eq!(history_rows(&store, "a").await, expected);
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    let events = decode_history(&stored.history).expect("sound");
    assert_eq!(events.len() as u64, next);
    drop((owner, store));
    subject.reopen().await;
    assert_eq!(history_rows(&subject.store(), "a").await, expected);
}

pub(crate) async fn an_ended_instance_is_loaded_without_its_history(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let mut first = begin("a", 1, at(1));
    first.in_flight = RowChange::Set(b"{\"calls\":1}".to_vec());
    owner.commit(at(1), vec![first]).await;
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!(stored.in_flight.as_deref(), Some(&b"{\"calls\":1}"[..]));
    owner.commit(at(2), vec![end("a", 1, 2, at(2))]).await;
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!(status(stored.status), Some(RuntimeStatus::Completed));
    assert_eq!((stored.history.len(), stored.in_flight, stored.timer), (0, None, None));
    assert_eq!(history_rows(&store, "a").await.len(), 2);
}

pub(crate) async fn continue_as_new_shows_only_the_newest_execution(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let mut first = begin("a", 1, at(0));
    first.timer = timer(None, Some(100));
    owner.commit(at(0), vec![first]).await;
    for execution in 1..6_u32 {
        let time = at(i64::from(execution));
        let mut last = write(key("a", 1, execution - 1));
        last.history = Some(events(2, 1, 8, time));
        last.timer = timer(Some(i64::from(execution) + 99), None);
        let mut next = write(key("a", 1, execution));
        next.history = Some(events(0, 2, execution, time));
        next.status = Some(Box::new(status_of(&next.key, RuntimeStatus::Running, time)));
        next.timer = timer(None, Some(i64::from(execution) + 100));
        owner.commit(time, vec![last, next]).await;
        let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
        assert_eq!(stored.history.len(), 1);
        assert_eq!(stored.history[0].body, events(0, 2, execution, time).body);
        assert_eq!(stored.status.map(|row| row.execution.0), Some(execution));
        assert_eq!(stored.timer, Some(at(i64::from(execution) + 100)));
        let page = store.timers(P0, None, 10).await.expect("no fault");
        assert_eq!(page.timers, vec![(at(i64::from(execution) + 100), id("a"))]);
    }
    // Several in one commit: those between are never seen.
    let mut group = vec![write(key("a", 1, 5)), write(key("a", 1, 6)), write(key("a", 1, 7))];
    group[0].history = Some(events(2, 1, 8, at(20)));
    group[1].history = Some(events(0, 3, 9, at(20)));
    group[2].history = Some(events(0, 2, 7, at(20)));
    group[2].status = Some(Box::new(status_of(&group[2].key, RuntimeStatus::Running, at(20))));
    owner.commit(at(20), group).await;
    assert_eq!(history_rows(&store, "a").await, vec![(EventSeq(0), events(0, 2, 7, at(20)).body)]);
    // And the newest goes on where it stands.
    let mut on = write(key("a", 1, 7));
    on.history = Some(events(2, 1, 3, at(21)));
    owner.commit(at(21), vec![on]).await;
    assert_eq!(history_rows(&store, "a").await.len(), 2);
}

pub(crate) async fn a_run_may_begin_and_continue_in_one_commit(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    // In place of an earlier run, whose rows go.
    let mut earlier = begin("a", 1, at(1));
    earlier.timer = timer(None, Some(100));
    earlier.in_flight = RowChange::Set(b"{}".to_vec());
    owner.commit(at(1), vec![earlier]).await;
    let mut next = write(key("a", 2, 1));
    next.history = Some(events(0, 3, 7, at(2)));
    next.status = Some(Box::new(status_of(&next.key, RuntimeStatus::Running, at(2))));
    next.timer = timer(None, Some(50));
    next.in_flight = RowChange::Set(b"{\"next\":1}".to_vec());
    owner.commit(at(2), vec![begin("a", 2, at(2)), next]).await;
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!(stored.status.map(|row| (row.run.0, row.execution.0)), Some((2, 1)));
    assert_eq!(stored.history.len(), 1);
    assert_eq!(stored.history[0].body, events(0, 3, 7, at(2)).body);
    assert_eq!(stored.in_flight, Some(b"{\"next\":1}".to_vec()));
    let page = store.timers(P0, None, 10).await.expect("no fault");
    assert_eq!(page.timers, vec![(at(50), id("a"))]);
    // A new owner finds the same.
    let (mut owner, snapshot) = Owner::open(&store, P0).await;
    assert_eq!(snapshot.in_flight, vec![id("a")]);
    let mut last = write(key("a", 2, 1));
    last.history = Some(events(3, 1, 8, at(3)));
    owner.commit(at(3), vec![last]).await;
    assert_eq!(history_rows(&store, "a").await.len(), 2);
}

pub(crate) async fn a_rewind_begins_the_next_execution_of_an_ended_run(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    owner.commit(at(1), vec![begin("a", 1, at(1))]).await;
    owner.commit(at(2), vec![end("a", 1, 2, at(2))]).await;
    let mut rewound = write(key("a", 1, 1));
    rewound.history = Some(events(0, 2, 5, at(3)));
    rewound.status = Some(Box::new(status_of(&rewound.key, RuntimeStatus::Running, at(3))));
    owner.commit(at(3), vec![rewound]).await;
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!(stored.status.map(|row| row.execution.0), Some(1));
    assert_eq!(stored.history.len(), 1);
}

pub(crate) async fn a_new_run_hides_every_row_of_the_old_one(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let mut first = begin("a", 1, at(1));
    first.timer = timer(None, Some(100));
    first.in_flight = RowChange::Set(b"{}".to_vec());
    owner.commit(at(1), vec![first]).await;
    owner.commit(at(2), vec![begin("a", 2, at(2))]).await;
    let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
    assert_eq!(stored.status.map(|row| row.run), Some(RunNumber(2)));
    assert_eq!((stored.in_flight, stored.timer), (None, None));
    assert_eq!(stored.history.len(), 1);
    assert_eq!(store.timers(P0, None, 10).await.expect("no fault").timers, vec![]);
    let (_, snapshot) = Owner::open(&store, P0).await;
    assert_eq!(snapshot.in_flight, vec![]);
    assert_eq!(listed(&store, &ListQuery::default()).await, ["a"]);
}

pub(crate) async fn timers_come_in_order_of_time_and_id(make: Make<'_>) {
    let subject = make(2);
    let store = subject.store();
    let mut expected: BTreeMap<PartitionId, Vec<(i64, InstanceId)>> = BTreeMap::new();
    for partition in [P0, PartitionId(1)] {
        let (mut owner, _) = Owner::open(&store, partition).await;
        let mut writes = Vec::new();
        for n in 0..40_i64 {
            let text = format!("i{:02}", (n * 17) % 40);
            if id(&text).partition(2) != partition {
                continue;
            }
            let due = 100 + n % 3;
            let mut write = begin(&text, 1, at(1));
            write.timer = timer(None, Some(due));
            writes.push(write);
            expected.entry(partition).or_default().push((due, id(&text)));
        }
        owner.commit(at(1), writes).await;
    }
    for (partition, mut timers) in expected {
        timers.sort();
        let timers: Vec<_> = timers.into_iter().map(|(due, id)| (at(due), id)).collect();
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.timers(partition, after, 4).await.expect("no fault");
            assert!(page.timers.len() <= 4);
            found.extend(page.timers);
            if !page.more {
                break;
            }
            after = found.last().cloned();
        }
        assert_eq!(found, timers);
    }
}

pub(crate) async fn work_in_flight_is_what_a_new_owner_gets(make: Make<'_>) {
    let mut subject = make(2);
    for partition in [P0, PartitionId(1)] {
        let store = subject.store();
        let (mut owner, _) = Owner::open(&store, partition).await;
        let mine = (0..20).map(|n| format!("i{n:02}")).filter(|t| id(t).partition(2) == partition);
        let writes: Vec<_> = mine
            .enumerate()
            .map(|(n, text)| {
                let mut write = begin(&text, 1, at(1));
                if n % 2 == 0 {
                    write.in_flight = RowChange::Set(b"{}".to_vec());
                }
                write
            })
            .collect();
        let mut expected: Vec<_> = writes
            .iter()
            .filter(|write| write.in_flight.touches())
            .map(|write| write.key.instance.clone())
            .collect();
        let gone = expected.remove(0);
        owner.commit(at(1), writes).await;
        let mut settled = write(key(gone.as_str(), 1, 0));
        settled.in_flight = RowChange::Delete;
        owner.commit(at(2), vec![settled]).await;
        drop((owner, store));
        subject.reopen().await;
        let (_, mut snapshot) = Owner::open(&subject.store(), partition).await;
        snapshot.in_flight.sort();
        assert_eq!(snapshot.in_flight, expected);
    }
}

pub(crate) async fn the_outbox_keeps_what_was_not_confirmed(make: Make<'_>) {
    let mut subject = make(3);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let message = |to: u16, number: u64| Message {
        from: P0,
        to: PartitionId(to),
        number: MessageNumber(number),
        body: MessageBody::Raise { instance: id("x"), name: "go".into(), input: Payload::null() },
    };
    let mut commit = owner.group(at(1), vec![]);
    commit.outbox = vec![
        OutboxWrite { to: PartitionId(1), messages: vec![message(1, 1), message(1, 2)] },
        OutboxWrite { to: PartitionId(2), messages: vec![message(2, 1)] },
    ];
    owner.give(commit).await.expect("applied");
    let mut commit = owner.group(at(2), vec![]);
    commit.outbox = vec![OutboxWrite { to: PartitionId(1), messages: vec![message(1, 3)] }];
    commit.outbox_done = vec![(PartitionId(1), MessageNumber(1))];
    owner.give(commit).await.expect("applied");
    drop((owner, store));
    subject.reopen().await;
    let (_, snapshot) = Owner::open(&subject.store(), P0).await;
    assert_eq!(snapshot.outbox, vec![message(1, 2), message(1, 3), message(2, 1)]);
    let (_, other) = Owner::open(&subject.store(), PartitionId(1)).await;
    assert_eq!(other.outbox, vec![], "the outbox is the sender's");
}

pub(crate) async fn lists_are_newest_first_filtered_and_paged(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    for n in 0..9_i64 {
        let text = if n % 3 == 0 { format!("Order_{n}") } else { format!("order%{n}") };
        let mut write = begin(&text, 1, at(n));
        if n % 2 == 1 {
            let status = write.status.as_mut().expect("begins");
            status.status = RuntimeStatus::Suspended;
            status.name = "other".into();
        }
        owner.commit(at(n), vec![write]).await;
    }
    accepted(&store, "last", 100).await;
    let all = listed(&store, &ListQuery::default()).await;
    assert_eq!(
        all,
        [
            "last", "order%8", "order%7", "Order_6", "order%5", "order%4", "Order_3", "order%2",
            "order%1", "Order_0"
        ]
    );
    let prefix = |text: &str| ListQuery { id_prefix: Some(text.into()), ..ListQuery::default() };
    assert_eq!(listed(&store, &prefix("Order_")).await, ["Order_6", "Order_3", "Order_0"]);
    assert_eq!(listed(&store, &prefix("order%")).await.len(), 6);
    assert_eq!(listed(&store, &prefix("%")).await.len(), 0);
    let query = ListQuery {
        statuses: vec![RuntimeStatus::Suspended, RuntimeStatus::Pending],
        ..ListQuery::default()
    };
    assert_eq!(listed(&store, &query).await, ["last", "order%7", "order%5", "Order_3", "order%1"]);
    let query = ListQuery { name: Some("other".into()), ..prefix("order%") };
    assert_eq!(listed(&store, &query).await, ["order%7", "order%5", "order%1"]);
    let query =
        ListQuery { created_from: Some(at(2)), created_to: Some(at(4)), ..ListQuery::default() };
    assert_eq!(listed(&store, &query).await, ["order%4", "Order_3", "order%2"]);
    // Pages join without a gap, also when newer starts come in between.
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(&ListQuery::default(), after, 4).await.expect("no fault");
        assert!(page.rows.len() <= 4);
        found.extend(page.rows.iter().map(|row| row.instance.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
        accepted(&store, &format!("newer{}", found.len()), 200 + found.len() as u128).await;
    }
    assert_eq!(found, all);
}

pub(crate) async fn counts_follow_starts_and_commits(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    accepted(&store, "a", 1).await;
    accepted(&store, "b", 2).await;
    let counts = store.counts().await.expect("no fault");
    assert_eq!(counts, BTreeMap::from([(RuntimeStatus::Pending, 2)]));
    let (mut owner, _) = Owner::open(&store, P0).await;
    let mut commit = owner.group(at(1), vec![begin("a", 1, at(1)), begin("b", 1, at(1))]);
    commit.counts = BTreeMap::from([(RuntimeStatus::Pending, -2), (RuntimeStatus::Running, 2)]);
    owner.give(commit).await.expect("applied");
    let mut commit = owner.group(at(2), vec![end("a", 1, 2, at(2))]);
    commit.counts = BTreeMap::from([(RuntimeStatus::Running, -1), (RuntimeStatus::Completed, 1)]);
    owner.give(commit).await.expect("applied");
    let counts = store.counts().await.expect("no fault");
    assert_eq!(
        counts,
        BTreeMap::from([(RuntimeStatus::Running, 1), (RuntimeStatus::Completed, 1)])
    );
    accepted(&store, "a", 3).await;
    let counts = store.counts().await.expect("no fault");
    assert_eq!(
        counts,
        BTreeMap::from([(RuntimeStatus::Running, 1), (RuntimeStatus::Completed, 1)]),
        "the instance that ended is replaced by the commit that begins the new run"
    );
}

pub(crate) async fn large_payloads_come_back_to_the_letter(make: Make<'_>) {
    let mut subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let text = |bytes: usize| {
        Payload::from_json(format!("{{\"text\" : \"{}ü\\n\"}}", "x".repeat(bytes))).expect("JSON")
    };
    let sizes = [10, 1_900, 2_100, 5_000, 100_000, 3_000_000, 10];
    let mut next = 2;
    owner.commit(at(0), vec![begin("a", 1, at(0))]).await;
    for (n, bytes) in sizes.into_iter().enumerate() {
        let time = at(i64::try_from(n).expect("few"));
        let mut one = write(key("a", 1, 0));
        let mut row = status_of(&one.key, RuntimeStatus::Running, time);
        row.input = text(bytes);
        row.custom_status = Some(text(bytes / 2));
        one.status = Some(Box::new(row.clone()));
        one.history = Some(events(next, 1, 4, time));
        next += 1;
        one.in_flight = RowChange::Set(text(bytes).json().as_bytes().to_vec());
        owner.commit(time, vec![one]).await;
        let stored = store.load(&id("a")).await.expect("no fault").expect("stored");
        assert_eq!(stored.status.as_ref(), Some(&row), "{bytes} bytes");
        assert_eq!(stored.in_flight.as_deref(), Some(text(bytes).json().as_bytes()));
        assert_eq!(store.status(&id("a")).await.expect("no fault"), Some(row), "{bytes} bytes");
    }
    let mut big = start("big", 9);
    big.input = text(500_000);
    store.accept(&big).await.expect("no fault");
    drop((owner, store));
    subject.reopen().await;
    let stored = subject.store().load(&id("big")).await.expect("no fault").expect("stored");
    assert_eq!(stored.acceptance.map(|acceptance| acceptance.input), Some(text(500_000)));
    assert_eq!(stored.status.map(|row| row.input), Some(text(500_000)));
}

pub(crate) async fn as_many_instances_fit_one_commit_as_the_limits_say(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let rows = begin_fresh("i", 1, at(1)).rows();
    let count = (store.limits().commit_rows_max / rows).min(500);
    let names: Vec<_> = (0..count).map(|n| format!("i{n:03}")).collect();
    owner.commit(at(1), names.iter().map(|text| begin_fresh(text, 1, at(1))).collect()).await;
    owner.commit(at(2), names.iter().map(|text| end(text, 1, 2, at(2))).collect()).await;
    for text in &names {
        assert_eq!(history_rows(&store, text).await.len(), 2);
    }
    let page = store.list(&ListQuery::default(), None, count + 1).await.expect("no fault");
    assert_eq!(page.rows.len(), count);
    assert!(page.rows.iter().all(|row| row.status == RuntimeStatus::Completed));
}

pub(crate) async fn odd_ids_are_ids_like_any_other(make: Make<'_>) {
    let subject = make(1);
    let store = subject.store();
    let (mut owner, _) = Owner::open(&store, P0).await;
    let long = "ü".repeat(256);
    let odd = ["it's \"quoted\"", "ümläut", "🦀", "a+b%20", "A", "a", " ", "_", "%", &long, "~"];
    for (n, text) in odd.into_iter().enumerate() {
        let mut write = begin(text, 1, at(1));
        write.timer = timer(None, Some(100));
        write.in_flight = RowChange::Set(format!("{n}").into_bytes());
        owner.commit(at(1), vec![write]).await;
        assert_eq!(store.send(&raise(text, text)).await.expect("no fault"), SendOutcome::Sent);
    }
    for (n, text) in odd.into_iter().enumerate() {
        let stored = store.load(&id(text)).await.expect("no fault").expect("stored");
        assert_eq!(stored.in_flight, Some(format!("{n}").into_bytes()), "{text}");
    }
    let mut sorted: Vec<_> = odd.into_iter().map(id).collect();
    sorted.sort();
    let page = store.timers(P0, None, 100).await.expect("no fault");
    assert_eq!(page.timers.into_iter().map(|(_, id)| id).collect::<Vec<_>>(), sorted);
    assert_eq!(arrived(&store, P0, 0, odd.len()).await.envelopes.len(), odd.len());
    assert_eq!(
        listed(&store, &ListQuery { id_prefix: Some("ü".into()), ..ListQuery::default() }).await,
        [long.as_str(), "ümläut"]
    );
}

pub(crate) async fn one_worker_claims_the_hub_until_it_leaves(make: Make<'_>) {
    let subject = make(2);
    let (store, other) = (subject.store(), subject.client().await);
    let (one, two) = (worker(1), worker(2));
    for partition in [P0, PartitionId(1), P0] {
        store.claim(one, partition).await.expect("nobody else is there");
    }
    store.heartbeat(&member(one)).await.expect("no fault");
    assert_eq!(other.members().await.expect("no fault"), vec![member(one)]);
    assert_eq!(store.members().await.expect("no fault"), vec![member(one)]);
    if store.hub() == other.hub() {
        for asked in [&store, &other] {
            match asked.claim(two, P0).await {
                Err(StoreError::HubInUse { pid }) => assert_eq!(pid, Some(std::process::id())),
                answer => panic!("two workers: {answer:?}"),
            }
        }
    }
    store.leave(one).await.expect("no fault");
    assert_eq!(other.members().await.expect("no fault"), vec![]);
    other.claim(two, P0).await.expect("free again");
    other.leave(two).await.expect("no fault");
}
