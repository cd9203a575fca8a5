//! Offered activities: several travel in one message of the queue.

use std::time::Duration;

use durable_azure::AzureStore;
use durable_core::machine::model::WorkerId;
use durable_core::store::{Fleet as _, Renewal, TakenWork};
use uuid::Uuid;

use super::{open, options, run};
use crate::store_contract::make::{offered, result};

const TAKER: WorkerId = WorkerId(Uuid::from_u128(1));
const LONG: Duration = Duration::from_secs(60);

fn calls(work: &[TakenWork]) -> Vec<u32> {
    work.iter().map(|work| work.item.attempt.call.0).collect()
}

/// Takes until something is there.
async fn take(store: &AzureStore, visibility: Duration) -> Vec<TakenWork> {
    for _ in 0..100 {
        let taken = store.take(TAKER, 32, visibility).await.expect("no fault");
        if !taken.is_empty() {
            return taken;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing is offered");
}

#[test]
fn activities_that_travelled_together_are_renewed_together() {
    run(async {
        let store = open(&options(1)).await;
        store.offer((0..8).map(offered).collect()).await.expect("no fault");
        let visibility = Duration::from_secs(3);
        let taken = take(&store, visibility).await;
        assert_eq!(calls(&taken), (0..8).collect::<Vec<_>>());
        for _ in 0..2 {
            // Each is followed by a task of its own, and all ask at the same time.
            tokio::time::sleep(visibility / 2).await;
            let before = store.transactions().of("queue_update");
            let renewals = taken.iter().map(|work| store.renew(work, visibility));
            for renewal in futures::future::join_all(renewals).await {
                assert_eq!(renewal.expect("no fault"), Renewal::Renewed);
            }
            assert_eq!(store.transactions().of("queue_update") - before, 1);
        }
        for work in &taken {
            assert!(store.finish(work, result(work)).await.expect("no fault"));
        }
        tokio::time::sleep(visibility).await;
        assert_eq!(store.take(TAKER, 32, LONG).await.expect("no fault"), vec![]);
    });
}

#[test]
fn an_offer_that_was_not_begun_is_given_back_as_often_as_it_takes() {
    run(async {
        let (store, other) = {
            let options = options(1);
            (open(&options).await, open(&options).await)
        };
        store.offer((0..3).map(offered).collect()).await.expect("no fault");
        // More often than an offer may be taken without a result.
        for _ in 0..10 {
            let taken = take(&store, LONG).await;
            assert_eq!(calls(&taken), [0, 1, 2]);
            store.give_back(taken, Duration::ZERO).await.expect("no fault");
        }
        // A part of it.
        let mine = take(&store, LONG).await;
        store.give_back(mine[1..].to_vec(), Duration::from_secs(1)).await.expect("no fault");
        let rest = take(&other, LONG).await;
        assert_eq!(calls(&rest), [1, 2]);
        for (taker, work) in [(&store, &mine[0]), (&other, &rest[0]), (&other, &rest[1])] {
            assert!(taker.finish(work, result(work)).await.expect("no fault"));
        }
    });
}

#[test]
fn an_offer_that_kills_its_takers_fails_also_where_others_gave_it_back() {
    run(async {
        let store = open(&options(1)).await;
        store.offer(vec![offered(0)]).await.expect("no fault");
        let visibility = Duration::from_secs(1);
        for _ in 0..4 {
            // Nothing is heard of this taker any more.
            take(&store, visibility).await;
            let given = take(&store, LONG).await;
            store.give_back(given, Duration::ZERO).await.expect("no fault");
        }
        take(&store, visibility).await;
        tokio::time::sleep(visibility * 3 / 2).await;
        assert_eq!(store.take(TAKER, 32, LONG).await.expect("no fault"), vec![]);
    });
}
