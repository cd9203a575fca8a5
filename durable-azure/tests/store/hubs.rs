//! Hubs of one account: opened, mistaken, deleted.

use std::sync::Arc;

use durable_azure::{AzureOptions, AzureStore, Connection};
use durable_core::machine::model::HubName;
use durable_core::machine::store::ListQuery;
use durable_core::store::{HubStore as _, PartitionStore as _, Store, StoreError};

use super::{connection, open, options, run};
use crate::store_contract::make::{Owner, P0, at, begin, id, raise, start};

async fn refused(options: AzureOptions) -> String {
    match AzureStore::open(&connection(), options).await {
        Err(StoreError::Unusable(why)) => why,
        other => panic!("it was opened: {other:?}"),
    }
}

#[test]
fn a_hub_is_not_opened_as_another_than_it_was_created() {
    run(async {
        let created = options(2);
        open(&created).await;
        let why = refused(AzureOptions { partitions: 3, ..created.clone() }).await;
        assert!(why.contains("2 partitions") && why.contains('3'), "{why}");
        for count in [0, 65] {
            let why = refused(AzureOptions { partitions: count, ..created.clone() }).await;
            assert!(why.contains("1 to 64"), "{why}");
        }
    });
}

#[test]
fn a_wrong_key_is_refused_with_advice_and_not_shown() {
    run(async {
        let text = durable_emulator::Emulator::shared().expect("it runs").connection_string();
        let key = durable_emulator::ACCOUNT_KEY;
        let wrong = format!("{}AAAA", &key[4..]);
        let wrong = wrong.replace('=', "") + "==";
        let connection = Connection::parse(&text.replace(key, &wrong)).expect("well-formed");
        match AzureStore::open(&connection, options(1)).await {
            Err(StoreError::Unusable(why)) => {
                assert!(why.contains("denies access") && why.contains("check"), "{why}");
                assert!(!why.contains(&wrong));
            }
            other => panic!("a wrong key was accepted: {other:?}"),
        }
    });
}

#[test]
fn hubs_of_one_account_do_not_mix_and_end_alone() {
    run(async {
        let (one, other) = (options(1), options(1));
        // A name that begins with the other's.
        let other =
            AzureOptions { hub: HubName::new(format!("{}x", one.hub)).expect("valid"), ..other };
        let (first, second) = (open(&one).await, open(&other).await);
        for (n, store) in [(1, &first), (2, &second)] {
            let owned: Arc<dyn Store> = Arc::new(store.clone());
            let (mut owner, snapshot) = Owner::open(&owned, P0).await;
            assert_eq!(snapshot.fence.0, 1);
            owner.commit(at(1), vec![begin(&format!("own{n}"), 1, at(1))]).await;
            store.accept(&start("both", n)).await.expect("nothing of it here");
            store.send(&raise("both", "e")).await.expect("no fault");
        }
        first.delete_hub().await.expect("deleted");
        first.delete_hub().await.expect("again: there is nothing left");
        assert!(first.status(&id("both")).await.is_err(), "it is gone");
        let page = second.list(&ListQuery::default(), None, 10).await.expect("no fault");
        assert_eq!(page.rows.len(), 2);
        let again = open(&one).await;
        let page = again.list(&ListQuery::default(), None, 10).await.expect("no fault");
        assert_eq!(page.rows.len(), 0, "a new hub of the name is empty");
    });
}

#[test]
fn opening_costs_little() {
    run(async {
        let options = options(4);
        open(&options).await;
        let store = open(&options).await;
        assert_eq!(store.transactions().total(), 1, "{:?}", store.transactions());
        store.open(P0).await.expect("no fault");
        let sent = store.transactions();
        // The head row read and raised; work in flight, outbox, consumed ids, garbage, starts.
        assert_eq!(sent.of("table_get") + sent.of("table_transaction"), 3, "{sent:?}");
        assert_eq!(sent.of("table_query"), 5, "{sent:?}");
    });
}
