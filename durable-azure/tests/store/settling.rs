//! Answers that are lost: what a write came to is found out, and it is applied once.

use std::sync::Arc;
use std::time::Duration;

use durable_azure::{AzureOptions, AzureStore, Connection};
use durable_core::machine::model::RuntimeStatus;
use durable_core::machine::store::{AcceptOutcome, Commit, ListQuery};
use durable_core::store::{HubStore as _, PartitionStore as _, Store, StoreError};
use durable_emulator::proxy::{Fault, FaultProxy, Plan, Rule};
use durable_emulator::{Emulator, Service};

use super::{open, options, run};
use crate::store_contract::make::{Owner, P0, at, begin, begin_asked, begin_fresh, end, id, start};

/// A hub behind a proxy, and the same without it.
struct Faulty {
    proxy: FaultProxy,
    store: AzureStore,
    direct: AzureStore,
}

impl Faulty {
    async fn new() -> Self {
        let emulator = Emulator::shared().expect("the emulator starts");
        let proxy = FaultProxy::start(emulator.endpoints(), Plan::none()).expect("a free port");
        let options = AzureOptions { request_timeout: Duration::from_secs(3), ..options(1) };
        let connection = Connection::parse(&proxy.connection_string()).expect("well-formed");
        let store = AzureStore::open(&connection, options.clone()).await.expect("the hub opens");
        Self { proxy, store, direct: open(&options).await }
    }

    fn dynamic(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    /// Transactions meet this so often.
    fn meet(&self, fault: Fault, times: u64) {
        let rule = Rule::new(fault).service(Service::Table).path("$batch").at_most(times);
        self.proxy.set_plan(Plan::none().rule(rule));
    }

    /// As the engine does: the same commit again while storage is busy.
    async fn commit(&self, owner: &Owner, commit: Commit) -> Result<(), StoreError> {
        let commit = Arc::new(commit);
        loop {
            match self.store.commit(owner.fence, Arc::clone(&commit)).await {
                Err(StoreError::Busy { retry_after, .. }) => {
                    tokio::time::sleep(retry_after.min(Duration::from_millis(200))).await;
                }
                other => return other,
            }
        }
    }
}

const FAULTS: [Fault; 6] = [
    Fault::CutAfter,
    Fault::CutBefore,
    Fault::TimedOut,
    Fault::Busy,
    Fault::BusyInTransaction,
    Fault::TooManyRequests,
];

#[test]
fn a_commit_is_applied_once_whatever_becomes_of_its_answer() {
    run(async {
        for fault in FAULTS {
            for times in [1, 2, 5] {
                let hub = Faulty::new().await;
                let (mut owner, _) = Owner::open(&hub.dynamic(), P0).await;
                hub.meet(fault, times);
                let mut first = owner.group(at(1), vec![begin_fresh("a", 1, at(1))]);
                first.counts.insert(RuntimeStatus::Running, 1);
                hub.commit(&owner, first).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
                hub.meet(fault, times);
                let mut last = owner.group(at(2), vec![end("a", 1, 2, at(2))]);
                last.counts.insert(RuntimeStatus::Running, -1);
                last.counts.insert(RuntimeStatus::Completed, 1);
                hub.commit(&owner, last).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
                let history = hub.direct.history(&id("a")).await.expect("no fault");
                assert_eq!(history.map(|rows| rows.len()), Some(2), "{fault:?}, {times} times");
                let counts = hub.direct.counts().await.expect("no fault");
                let counts: Vec<_> = counts.into_iter().collect();
                assert_eq!(counts, [(RuntimeStatus::Completed, 1)], "{fault:?}, {times} times");
            }
        }
    });
}

#[test]
fn what_became_of_a_commit_is_asked_for_when_storage_wants_to_be_asked() {
    run(async {
        let hub = Faulty::new().await;
        let (mut owner, _) = Owner::open(&hub.dynamic(), P0).await;
        let table = |fault| Rule::new(fault).service(Service::Table);
        let lost = table(Fault::CutAfter).path("$batch").at_most(1);
        let busy = table(Fault::BusyRetryAfter).method("GET").retry_after(20);
        hub.proxy.set_plan(Plan::none().rule(lost).rule(busy));
        let commit = owner.group(at(1), vec![begin_fresh("a", 1, at(1))]);
        match hub.store.commit(owner.fence, Arc::new(commit.clone())).await {
            Err(StoreError::Busy { retry_after, .. }) => {
                assert_eq!(retry_after, Duration::from_secs(20));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(hub.proxy.counts().faults(Fault::BusyRetryAfter), 1);
        hub.proxy.set_plan(Plan::none());
        hub.commit(&owner, commit).await.expect("applied before");
        let history = hub.direct.history(&id("a")).await.expect("no fault");
        assert_eq!(history.map(|rows| rows.len()), Some(1));
    });
}

#[test]
fn a_start_whose_answer_is_lost_each_time_is_not_sent_for_ever() {
    run(async {
        let hub = Faulty::new().await;
        hub.meet(Fault::TimedOut, 1000);
        let accepted = hub.store.accept(&start("a", 1)).await;
        assert!(matches!(accepted, Err(StoreError::Unknown(_))), "{accepted:?}");
        assert_eq!(hub.proxy.counts().faults(Fault::TimedOut), 5);
    });
}

#[test]
fn a_start_is_accepted_once_whatever_becomes_of_its_answer() {
    run(async {
        let hub = Faulty::new().await;
        for (n, fault) in (1_u128..).zip(FAULTS) {
            hub.meet(fault, 1);
            let text = format!("i{n}");
            let accepted = loop {
                match hub.store.accept(&start(&text, n)).await {
                    Err(StoreError::Busy { retry_after, .. }) => {
                        tokio::time::sleep(retry_after.min(Duration::from_millis(200))).await;
                    }
                    other => break other.expect("accepted"),
                }
            };
            assert!(matches!(accepted, AcceptOutcome::Accepted { .. }), "{fault:?}: {accepted:?}");
            let page = hub.direct.list(&ListQuery::default(), None, 100).await.expect("no fault");
            assert_eq!(page.rows.len() as u128, n, "{fault:?}");
        }
        let counts = hub.direct.counts().await.expect("no fault");
        assert_eq!(counts.get(&RuntimeStatus::Pending), Some(&(FAULTS.len() as u64)));
    });
}

#[test]
fn a_child_gives_way_to_a_start_that_was_accepted_while_its_commit_was_under_way() {
    run(async {
        let hub = Faulty::new().await;
        let (mut owner, _) = Owner::open(&hub.dynamic(), P0).await;
        owner.commit(at(1), vec![begin_fresh("over", 1, at(1))]).await;
        owner.commit(at(2), vec![end("over", 1, 2, at(2))]).await;
        for (text, nonce) in [("over", 7), ("new", 8)] {
            let (mut owner, _) = Owner::open(&hub.dynamic(), P0).await;
            // The rows were read, and storage is busy when it is to write.
            hub.meet(Fault::Busy, 1000);
            let commit = Arc::new(owner.group(at(3), vec![begin_asked(text, 3, at(3))]));
            let busy = hub.store.commit(owner.fence, Arc::clone(&commit)).await;
            assert!(matches!(busy, Err(StoreError::Busy { .. })), "{text}: {busy:?}");
            let accepted = hub.direct.accept(&start(text, nonce)).await.expect("no fault");
            let AcceptOutcome::Accepted { run, .. } = accepted else { panic!("{accepted:?}") };
            hub.proxy.set_plan(Plan::none());
            let refused = hub.store.commit(owner.fence, commit).await;
            assert!(matches!(refused, Err(StoreError::Unusable(_))), "{text}: {refused:?}");

            let (mut owner, _) = Owner::open(&hub.dynamic(), P0).await;
            let stored = hub.direct.load(&id(text)).await.expect("no fault").expect("stored");
            assert_eq!(stored.acceptance.map(|start| start.run), Some(run), "{text}");
            owner.commit(at(4), vec![begin(text, run.0, at(4))]).await;
            let row = hub.direct.status(&id(text)).await.expect("no fault").expect("there");
            assert_eq!((row.run, row.status), (run, RuntimeStatus::Running), "{text}");
        }
    });
}

#[test]
fn an_opening_raises_the_fence_once_whatever_becomes_of_its_answer() {
    run(async {
        let hub = Faulty::new().await;
        for (n, fault) in (1_u32..).zip([Fault::CutAfter, Fault::CutBefore, Fault::TimedOut]) {
            hub.meet(fault, 1);
            let (_, snapshot) = Owner::open(&hub.dynamic(), P0).await;
            assert_eq!(snapshot.head.unclean_opens, n, "{fault:?}");
            assert_eq!(snapshot.fence.0, u64::from(n), "{fault:?}");
        }
    });
}

#[test]
fn an_owner_that_lost_its_answer_and_its_partition_is_told_so() {
    run(async {
        let hub = Faulty::new().await;
        let (mut owner, _) = Owner::open(&hub.dynamic(), P0).await;
        let next: Arc<dyn Store> = Arc::new(hub.direct.clone());
        let (mut successor, opened) = Owner::open(&next, P0).await;
        hub.meet(Fault::CutAfter, 1);
        let late = owner.group(at(1), vec![begin("a", 1, at(1))]);
        match hub.commit(&owner, late).await {
            Err(StoreError::Fenced { newest }) => assert_eq!(newest, opened.fence),
            other => panic!("a stale owner wrote: {other:?}"),
        }
        successor.commit(at(2), vec![begin("a", 1, at(2))]).await;
    });
}

#[test]
fn nobody_knows_only_while_storage_cannot_be_asked() {
    run(async {
        let hub = Faulty::new().await;
        let (mut owner, _) = Owner::open(&hub.dynamic(), P0).await;
        let commit = owner.group(at(1), vec![begin_fresh("a", 1, at(1))]);
        let commit = Arc::new(commit);
        // Applied, and then silence.
        let lost = Rule::new(Fault::CutAfter).service(Service::Table).path("$batch").at_most(1);
        let silence = Rule::new(Fault::CutBefore).service(Service::Table).method("GET");
        hub.proxy.set_plan(Plan::none().rule(lost).rule(silence));
        let unknown = hub.store.commit(owner.fence, Arc::clone(&commit)).await;
        assert!(matches!(unknown, Err(StoreError::Unknown(_))), "{unknown:?}");
        hub.proxy.set_plan(Plan::none());
        hub.store.commit(owner.fence, commit).await.expect("it was applied");
        owner.commit(at(2), vec![end("a", 1, 2, at(2))]).await;
        let history = hub.direct.history(&id("a")).await.expect("no fault");
        assert_eq!(history.map(|rows| rows.len()), Some(2));
    });
}
