//! A hub for a story: on the emulator, with workers that come one after the other.

use std::future::Future;
use std::time::Duration;

use durable_azure::AzureOptions;
use durable_core::InstanceStatus;
use durable_core::prelude::*;

use crate::store::{open, options, run};

/// Longer than any story takes on a busy machine: what is not over by then never will be.
const STORY_MAX: Duration = secs(300);

/// How long a story waits for one thing.
pub(crate) const PATIENCE: Duration = secs(90);

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

    pub(crate) async fn worker(&self, registry: Registry) -> Worker {
        let store = open(&self.options).await;
        let builder = Worker::builder(store).registry(registry).shutdown_timeout(secs(5));
        builder.start().await.expect("the worker starts")
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

/// Waits until `what` holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(millis(20)).await;
    }
}

/// Waits until the status of an instance is as wanted.
pub(crate) async fn until_status(
    client: &Client,
    id: &str,
    wanted: impl Fn(&InstanceStatus) -> bool,
) -> InstanceStatus {
    let id = InstanceId::new(id).expect("a valid id");
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let status = client.status(&id).await.expect("the status can be read");
        if let Some(status) = &status
            && wanted(status)
        {
            return status.clone();
        }
        assert!(tokio::time::Instant::now() < end, "in vain: {id} is {status:?}");
        tokio::time::sleep(millis(20)).await;
    }
}

/// Waits until an instance has this status.
pub(crate) async fn until_is(client: &Client, id: &str, wanted: RuntimeStatus) -> InstanceStatus {
    until_status(client, id, |status| status.runtime_status() == wanted).await
}
