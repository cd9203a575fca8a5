//! Several workers of a shared hub in one process, each with its own link to the storage.

use std::collections::BTreeSet;

use durable_core::WorkerBuilder;
use durable_core::machine::model::PartitionId;
use durable_core::prelude::*;
use durable_core::store::Sharing;

use super::faulty::{Faults, Link, TestStore};
use super::hub::{Hub, until};

/// Short, so that the dead are soon known to be; what is slower than this moves once more, and works.
pub(crate) const SHARING: Sharing = Sharing { lease: millis(500), visibility: millis(400) };

/// For those who do not wait for a death.
pub(crate) const USUAL: Sharing = Sharing { lease: secs(3), visibility: secs(2) };

pub(crate) const PARTITIONS: u16 = 6;

pub(crate) fn hub() -> Hub {
    Hub::shared(PARTITIONS, SHARING)
}

/// A worker with its own link to the hub's storage.
pub(crate) struct One {
    pub(crate) worker: Worker,
    pub(crate) link: Link,
}

impl One {
    pub(crate) async fn start(hub: &Hub, registry: Registry) -> Self {
        Self::start_with(hub, registry, |builder| builder).await
    }

    pub(crate) async fn start_with(
        hub: &Hub,
        registry: Registry,
        options: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
    ) -> Self {
        let store = TestStore::new(hub.open(), Faults::default());
        let link = store.link();
        let builder = Worker::builder(store).registry(registry).shutdown_timeout(secs(60));
        Self { worker: options(builder).start().await.expect("the worker starts"), link }
    }

    pub(crate) fn owned(&self) -> BTreeSet<PartitionId> {
        self.worker.partitions().into_iter().collect()
    }

    pub(crate) fn client(&self) -> Client {
        self.worker.client()
    }

    /// Dead as after a `SIGKILL`: it leaves nothing in good order.
    pub(crate) fn kill(self) {
        self.link.cut();
    }
}

/// Whether each has its share, and every partition is with one of them.
pub(crate) fn balanced(workers: &[&One]) -> bool {
    let all = usize::from(PARTITIONS);
    let (least, most) = (all / workers.len(), all.div_ceil(workers.len()));
    let together: BTreeSet<_> = workers.iter().flat_map(|one| one.owned()).collect();
    let counts: Vec<usize> = workers.iter().map(|one| one.owned().len()).collect();
    together.len() == all
        && counts.iter().sum::<usize>() == all
        && counts.iter().all(|count| (least..=most).contains(count))
}

pub(crate) async fn until_balanced(workers: &[&One]) {
    until("each has its share", || async { balanced(workers) }).await;
}

/// Ids of instances that live in a partition of this worker.
pub(crate) fn ids_of(one: &One, prefix: &str, count: usize) -> Vec<String> {
    let owned = one.owned();
    let ids = (0..).map(|n| format!("{prefix}-{n}")).filter(|id| {
        let id = InstanceId::new(id.as_str()).expect("valid");
        owned.contains(&id.partition(PARTITIONS))
    });
    ids.take(count).collect()
}
