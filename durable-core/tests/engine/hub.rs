//! A hub for a test: where it is stored, the workers that serve it, and waiting without guessing.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use durable_core::prelude::*;
use durable_core::store::{Sharing, SqliteOptions, Store};
use durable_core::{MemoryStore, WorkerBuilder};
use tempfile::TempDir;

use super::faulty::{Faults, TestStore};
pub(crate) use super::until::{until, until_is, until_status};

/// Longer than any story takes on a busy machine: what is not over by then never will be.
const STORY_MAX: Duration = secs(120);

/// How long a story waits for one thing.
pub(crate) const PATIENCE: Duration = secs(30);

/// How often it looks meanwhile.
pub(crate) const LOOK: Duration = millis(2);

/// An empty hub, and the faults of the stores that are opened on it.
pub(crate) struct Hub {
    place: Place,
    partitions: u16,
    pub(crate) faults: Faults,
}

enum Place {
    Memory(MemoryStore),
    File(TempDir),
}

impl Hub {
    pub(crate) fn in_memory() -> Self {
        Self { place: Place::Memory(MemoryStore::new()), partitions: 1, faults: Faults::default() }
    }

    pub(crate) fn in_a_file() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { place: Place::File(folder), partitions: 1, faults: Faults::default() }
    }

    /// For several workers at a time.
    pub(crate) fn shared(partitions: u16, sharing: Sharing) -> Self {
        let store = MemoryStore::new().with_partitions(partitions).shared(sharing);
        Self { place: Place::Memory(store), partitions, faults: Faults::default() }
    }

    /// The same, still empty, with this many partitions.
    pub(crate) fn with_partitions(mut self, partitions: u16) -> Self {
        if let Place::Memory(store) = &mut self.place {
            *store = store.clone().with_partitions(partitions);
        }
        self.partitions = partitions;
        self
    }

    /// The database file, where there is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Memory(_) => None,
            Place::File(folder) => Some(folder.path().join("hub.db")),
        }
    }

    /// The hub in memory itself.
    pub(crate) fn memory(&self) -> MemoryStore {
        match &self.place {
            Place::Memory(store) => store.clone(),
            Place::File(_) => panic!("it is in a file"),
        }
    }

    /// As another process would open it. A hub in memory has no other process.
    pub(crate) fn open(&self) -> Arc<dyn Store> {
        match &self.place {
            Place::Memory(store) => Arc::new(store.clone()),
            Place::File(_) => {
                let path = self.file().expect("it is in a file");
                let options =
                    SqliteOptions { partitions: self.partitions, ..SqliteOptions::default() };
                Arc::new(SqliteStore::open_with(path, options).expect("the hub opens"))
            }
        }
    }

    /// A store with the hub's faults.
    pub(crate) fn store(&self) -> TestStore {
        TestStore::new(self.open(), self.faults.clone())
    }

    /// A client of another process.
    #[allow(clippy::unused_async, reason = "on other stores it takes time")]
    pub(crate) async fn outside(&self) -> Client {
        Client::new(TestStore::new(self.open(), Faults::default()))
    }

    /// A worker's builder on a store of its own.
    pub(crate) fn builder(&self, registry: Registry) -> WorkerBuilder {
        Worker::builder(self.store()).registry(registry).shutdown_timeout(secs(5))
    }

    pub(crate) async fn worker(&self, registry: Registry) -> Worker {
        self.worker_with(registry, |builder| builder).await
    }

    /// A worker with options.
    pub(crate) async fn worker_with(
        &self,
        registry: Registry,
        options: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
    ) -> Worker {
        options(self.builder(registry)).start().await.expect("the worker starts")
    }
}

/// Runs a story on a runtime of its own, with an end in any case.
pub(crate) fn tell<F, Fut>(hub: Hub, story: F)
where
    F: FnOnce(Hub) -> Fut,
    Fut: Future<Output = ()>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let told = runtime.block_on(async { tokio::time::timeout(STORY_MAX, story(hub)).await });
    // What a story left hanging on purpose must not keep the process.
    runtime.shutdown_background();
    assert!(told.is_ok(), "the story did not end");
}
