//! The contract of stores.

use std::sync::Arc;

use async_trait::async_trait;
use durable_azure::{AzureOptions, AzureStore};
use durable_core::store::Store;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::{open, options, run};
use crate::store_contract::{Subject, contract_tests, shared_contract_tests};

/// A hub with a worker's store, and stores of other processes that are clients.
struct Hub {
    options: AzureOptions,
    store: Option<AzureStore>,
}

#[async_trait]
impl Subject for Hub {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone().expect("open between calls"))
    }

    async fn client(&self) -> Arc<dyn Store> {
        Arc::new(open(&self.options).await)
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(open(&self.options).await);
    }
}

fn make(partitions: u16) -> Box<dyn Subject> {
    let options = options(partitions);
    let store = block_in_place(|| Handle::current().block_on(open(&options)));
    Box::new(Hub { options, store: Some(store) })
}

contract_tests!(make, run);
shared_contract_tests!(make, run);
