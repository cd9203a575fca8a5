//! A hub for a story: on the emulator, with workers that come one after the other.

use std::future::Future;
use std::time::Duration;

use durable_azure::AzureOptions;
use durable_core::WorkerBuilder;
use durable_core::prelude::*;

pub(crate) use super::until::{until, until_is, until_status};
use crate::store::{open, options, run};

/// Longer than any story takes on a busy machine: what is not over by then never will be.
const STORY_MAX: Duration = secs(300);

/// How long a story waits for one thing.
pub(crate) const PATIENCE: Duration = secs(90);

/// How often it looks meanwhile.
pub(crate) const LOOK: Duration = millis(20);

/// An empty hub.
pub(crate) struct Hub {
    options: AzureOptions,
}

impl Hub {
    /// The same, still empty, with this many partitions.
    pub(crate) fn with_partitions(self, partitions: u16) -> Self {
        Self { options: AzureOptions { partitions, ..self.options } }
    }

    /// The same, with workers that take each other for dead after this time.
    pub(crate) fn with_lease(self, lease: Duration) -> Self {
        Self { options: AzureOptions { lease, ..self.options } }
    }

    /// A client of another process.
    pub(crate) async fn outside(&self) -> Client {
        Client::new(open(&self.options).await)
    }

    pub(crate) async fn worker(&self, registry: Registry) -> Worker {
        self.worker_with(registry, |builder| builder).await
    }

    /// A worker with options, on a store of its own.
    pub(crate) async fn worker_with(
        &self,
        registry: Registry,
        options: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
    ) -> Worker {
        let store = open(&self.options).await;
        let builder = Worker::builder(store).registry(registry).shutdown_timeout(secs(5));
        options(builder).start().await.expect("the worker starts")
    }
}

/// Runs a story on a runtime of its own, with an end in any case.
pub(crate) fn tell<F, Fut>(story: F)
where
    F: FnOnce(Hub) -> Fut,
    Fut: Future<Output = ()>,
{
    let hub = Hub { options: options(1) };
    let told = run(async { tokio::time::timeout(STORY_MAX, story(hub)).await });
    assert!(told.is_ok(), "the story did not end");
}
