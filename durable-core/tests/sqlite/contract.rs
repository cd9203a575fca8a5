//! The contract of stores.

use std::sync::Arc;

use async_trait::async_trait;
use durable_core::store::{SqliteOptions, SqliteStore, Store};
use tempfile::TempDir;

use crate::store_contract::{Subject, contract_tests, unshared_contract_tests};

/// A file with a worker's store, and stores of other processes that are clients.
struct File {
    dir: TempDir,
    options: SqliteOptions,
    store: Option<SqliteStore>,
}

impl File {
    fn open(&self) -> SqliteStore {
        SqliteStore::open_with(self.dir.path().join("hub.db"), self.options.clone())
            .expect("the hub opens")
    }
}

#[async_trait]
impl Subject for File {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone().expect("open between calls"))
    }

    async fn client(&self) -> Arc<dyn Store> {
        Arc::new(self.open())
    }

    async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.open());
    }
}

fn make(partitions: u16) -> Box<dyn Subject> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let options = SqliteOptions { partitions, ..SqliteOptions::default() };
    let mut file = File { dir, options, store: None };
    file.store = Some(file.open());
    Box::new(file)
}

contract_tests!(make, futures::executor::block_on);
unshared_contract_tests!(make, futures::executor::block_on);
