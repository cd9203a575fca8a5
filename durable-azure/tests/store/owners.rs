//! Two processes, and what they have in their hands when a partition moves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_azure::AzureOptions;
use durable_core::machine::model::RunNumber;
use durable_core::machine::store::AcceptOutcome;
use durable_core::store::{HubStore as _, PartitionStore as _, Store, StoreError};

use super::{open, options, run};
use crate::store_contract::make::{
    Owner, P0, arrived, at, begin, begin_fresh, id, key, raise, remember, start, write,
};

#[test]
fn what_an_owner_held_reaches_the_next_at_once() {
    run(async {
        let options = AzureOptions { visibility: Duration::from_secs(60), ..options(1) };
        let (one, two) = (open(&options).await, open(&options).await);
        let (first, second): (Arc<dyn Store>, Arc<dyn Store>) =
            (Arc::new(one.clone()), Arc::new(two.clone()));
        let (mut owner, _) = Owner::open(&first, P0).await;
        owner.commit(at(1), vec![begin("a", 1, at(1))]).await;
        two.accept(&start("b", 1)).await.expect("no fault");
        two.send(&raise("a", "e")).await.expect("no fault");
        arrived(&first, P0, 1, 1).await;
        one.release(P0, owner.fence).await.expect("it is the owner");
        let began = Instant::now();
        let (mut stale, _) = Owner::open(&second, P0).await;
        let arrivals = arrived(&second, P0, 1, 1).await;
        assert!(began.elapsed() < Duration::from_secs(20), "long before its visibility ended");
        assert_eq!((arrivals.acceptances.len(), arrivals.envelopes.len()), (1, 1));
        // The same without a release: the old owner gives back what it held when it learns of it.
        Owner::open(&first, P0).await;
        let late = stale.group(at(2), vec![begin("b", 1, at(2))]);
        assert!(matches!(stale.give(late).await, Err(StoreError::Fenced { .. })));
        let began = Instant::now();
        arrived(&first, P0, 1, 1).await;
        assert!(began.elapsed() < Duration::from_secs(20), "long before its visibility ended");
    });
}

#[test]
fn what_is_not_served_any_more_is_left_to_others() {
    run(async {
        let options = AzureOptions { visibility: Duration::from_secs(60), ..options(1) };
        let (one, two) = (open(&options).await, open(&options).await);
        let (first, second): (Arc<dyn Store>, Arc<dyn Store>) =
            (Arc::new(one.clone()), Arc::new(two.clone()));
        let (mut owner, _) = Owner::open(&first, P0).await;
        owner.commit(at(1), vec![begin("a", 1, at(1))]).await;
        two.send(&raise("a", "before")).await.expect("no fault");
        arrived(&first, P0, 0, 1).await;
        one.accept(&start("here", 1)).await.expect("no fault");
        // It was not given back in good order; storage did not answer, or it was lost.
        one.abandon(P0, owner.fence);
        let began = Instant::now();
        let (other, _) = Owner::open(&second, P0).await;
        let accepted = one.accept(&start("later", 1)).await.expect("no fault");
        assert_eq!(accepted, AcceptOutcome::Accepted { run: RunNumber(1), fresh: false });
        for n in 0..10 {
            one.send(&raise("a", &format!("after {n}"))).await.expect("no fault");
        }
        let arrivals = arrived(&second, P0, 2, 11).await;
        assert!(began.elapsed() < Duration::from_secs(20), "long before a visibility ended");
        assert_eq!((arrivals.acceptances.len(), arrivals.envelopes.len()), (2, 11));
        // The opening that is meant is the one that is known.
        two.abandon(P0, other.fence);
        let (newer, _) = Owner::open(&first, P0).await;
        one.abandon(P0, owner.fence);
        two.accept(&start("last", 1)).await.expect("no fault");
        arrived(&first, P0, 3, 11).await;
        one.release(P0, newer.fence).await.expect("it is the owner");
    });
}

#[test]
fn a_start_accepted_while_its_partition_is_given_back_reaches_the_next_owner() {
    run(async {
        let options = options(1);
        let (one, two) = (open(&options).await, open(&options).await);
        let (first, second): (Arc<dyn Store>, Arc<dyn Store>) =
            (Arc::new(one.clone()), Arc::new(two.clone()));
        let (owner, _) = Owner::open(&first, P0).await;
        // The next owner looks for acceptance rows before this start, and hears of it all the same.
        let starts = (0..20).map(|n| {
            let one = one.clone();
            async move { one.accept(&start(&format!("s{n}"), 1)).await.expect("no fault") }
        });
        let given = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            one.release(P0, owner.fence).await.expect("it is the owner");
            Owner::open(&second, P0).await;
        };
        futures::join!(futures::future::join_all(starts), given);
        arrived(&second, P0, 20, 0).await;
    });
}

#[test]
fn what_was_consumed_is_recognised_for_an_hour_from_each_opening_on() {
    run(async {
        const HOUR: i64 = 3_600_000_000;
        let store = open(&options(1)).await;
        let owned: Arc<dyn Store> = Arc::new(store.clone());
        let (mut owner, _) = Owner::open(&owned, P0).await;
        owner.commit(at(0), vec![begin_fresh("a", 1, at(0))]).await;
        let mut commit = owner.group(at(1), vec![]);
        commit.consumed = vec![remember("e")];
        owner.give(commit).await.expect("applied");
        // It died before its message was removed, and nobody opened the partition for a day.
        for day in 1..3 {
            let (mut next, snapshot) = Owner::open(&owned, P0).await;
            assert_eq!(snapshot.consumed.len(), 1);
            next.commit(at(24 * HOUR * day), vec![begin_fresh(&format!("b{day}"), 1, at(1))]).await;
        }
    });
}

#[test]
fn a_start_is_fresh_where_nothing_else_of_its_id_can_be_stored() {
    run(async {
        let options = options(1);
        let (one, two) = (open(&options).await, open(&options).await);
        let owned: Arc<dyn Store> = Arc::new(one.clone());
        let (mut owner, _) = Owner::open(&owned, P0).await;
        // By a client of the owner's process.
        let here = one.accept(&start("here", 1)).await.expect("no fault");
        assert_eq!(here, AcceptOutcome::Accepted { run: RunNumber(1), fresh: true });
        // By another process.
        let there = two.accept(&start("there", 2)).await.expect("no fault");
        assert_eq!(there, AcceptOutcome::Accepted { run: RunNumber(1), fresh: false });
        let arrivals = arrived(&owned, P0, 2, 0).await;
        let fresh = |text: &str| {
            let found = arrivals.acceptances.iter().find(|s| s.acceptance.instance == id(text));
            found.map(|start| start.fresh)
        };
        assert_eq!(fresh("there"), Some(true));
        let before = one.transactions();
        owner.commit(at(3), vec![begin("here", 1, at(3)), begin("there", 1, at(3))]).await;
        let after = one.transactions();
        assert_eq!(after.of("table_get"), before.of("table_get"), "nothing is looked up");
        assert_eq!(after.of("table_transaction"), before.of("table_transaction") + 1);
        // Begun twice is refused, whoever remembers what.
        let again = owner.group(at(4), vec![begin("here", 1, at(4))]);
        assert!(matches!(owner.give(again).await, Err(StoreError::Unusable(_))));
    });
}

#[test]
fn a_start_that_has_begun_is_not_passed_on_by_a_late_message() {
    run(async {
        let options = options(1);
        let (one, two) = (open(&options).await, open(&options).await);
        two.accept(&start("a", 1)).await.expect("no fault");
        // The row is found before the message is.
        let owned: Arc<dyn Store> = Arc::new(one.clone());
        let (mut owner, _) = Owner::open(&owned, P0).await;
        owner.commit(at(1), vec![begin("a", 1, at(1))]).await;
        drop((owner, owned));
        let next: Arc<dyn Store> = Arc::new(two.clone());
        Owner::open(&next, P0).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(arrived(&next, P0, 0, 0).await.acceptances, vec![]);
    });
}

#[test]
fn a_commit_of_a_running_instance_reads_nothing() {
    run(async {
        let store = open(&options(1)).await;
        let owned: Arc<dyn Store> = Arc::new(store.clone());
        let (mut owner, _) = Owner::open(&owned, P0).await;
        owner.commit(at(0), vec![begin_fresh("a", 1, at(0))]).await;
        let before = store.transactions();
        for n in 1..=5_u32 {
            let mut one = write(key("a", 1, 0));
            let time = at(i64::from(n));
            one.history = Some(crate::store_contract::make::events(u64::from(n) + 1, 1, n, time));
            owner.commit(time, vec![one]).await;
        }
        let after = store.transactions();
        assert_eq!(after.of("table_transaction") - before.of("table_transaction"), 5);
        assert_eq!(after.of("table_get"), before.of("table_get"));
        assert_eq!(after.of("table_query"), before.of("table_query"));
    });
}

#[test]
fn a_command_costs_one_message_and_its_removal() {
    run(async {
        let options = options(1);
        let (one, two) = (open(&options).await, open(&options).await);
        let owned: Arc<dyn Store> = Arc::new(one.clone());
        let (mut owner, _) = Owner::open(&owned, P0).await;
        owner.commit(at(0), vec![begin_fresh("a", 1, at(0))]).await;
        let (clients, owners) = (two.transactions(), one.transactions());
        two.send(&raise("a", "e")).await.expect("no fault");
        arrived(&owned, P0, 0, 1).await;
        let mut commit = owner.group(at(1), vec![]);
        commit.consumed = vec![remember("e")];
        owner.give(commit).await.expect("applied");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(two.transactions().total() - clients.total(), 2, "a look and a message");
        let spent = |kind| one.transactions().of(kind) - owners.of(kind);
        assert_eq!(spent("queue_get"), 1);
        assert_eq!(spent("queue_delete"), 1);
        assert_eq!(spent("table_transaction"), 1);
    });
}
