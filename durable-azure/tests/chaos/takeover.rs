//! How long a partition is not served after its owner was killed or stopped.
//!
//! Measured by probes: right before the signal the parent reads which partitions the victim says it owns, and
//! right after it starts an instance in each of them that needs a single turn. The time is from the signal
//! until that instance is seen to have completed, by reading its status from the emulator, without the proxy.
//! So it holds the new owner's opening, whatever the proxy does to it, the first turn and its commit, and up to
//! [`LOOK`] of polling. What else dies meanwhile prolongs it. A victim's list may be a beat old: a partition
//! that it no longer owned shows what a start takes with a live owner, as [`Probes::served`] does on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use durable_azure::AzureStore;
use durable_core::machine::model::PartitionId;
use durable_core::prelude::*;
use durable_core::store::Fleet;
use tokio::task::JoinSet;

use super::client;
use super::hub::PARTITIONS;
use super::journal::{Journal, Note, wall};
use super::workload::{self, Story};

const LOOK: Duration = millis(10);

/// What came before a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Kill,
    Pause,
    Nothing,
}

/// Straight to the emulator.
pub(super) struct Probes {
    store: AzureStore,
    client: Client,
    journal: Journal,
    next: Arc<AtomicU64>,
    running: JoinSet<(After, Duration)>,
    ended: Vec<(After, Duration)>,
}

impl Probes {
    pub(super) fn new(store: AzureStore, journal: Journal) -> Self {
        let client = Client::new(store.clone());
        Self {
            store,
            client,
            journal,
            next: Arc::default(),
            running: JoinSet::new(),
            ended: Vec::new(),
        }
    }

    /// What this process says that it owns.
    pub(super) async fn owned_by(&self, pid: u32) -> Vec<PartitionId> {
        let members = self.store.members().await.expect("the emulator answers");
        members.into_iter().filter(|m| m.pid == pid).flat_map(|member| member.owns).collect()
    }

    /// How many processes say that they own something.
    pub(super) async fn owners(&self) -> usize {
        let members = self.store.members().await.expect("the emulator answers");
        members.iter().filter(|member| !member.owns.is_empty()).count()
    }

    pub(super) fn after(&mut self, after: After, since: Instant, partitions: Vec<PartitionId>) {
        for partition in partitions {
            let (client, journal) = (self.client.clone(), self.journal.clone());
            let id = self.id_in(partition);
            self.running.spawn(async move {
                probe(&client, &journal, id).await;
                (after, since.elapsed())
            });
        }
    }

    /// One probe in each partition, while nothing happens.
    pub(super) fn served(&mut self) {
        self.after(After::Nothing, Instant::now(), (0..PARTITIONS).map(PartitionId).collect());
    }

    /// Waits for those that run.
    pub(super) async fn settle(&mut self) {
        while let Some(measured) = self.running.join_next().await {
            self.ended.push(measured.expect("a probe does not panic"));
        }
    }

    /// Waits for all.
    pub(super) async fn times(mut self) -> Times {
        self.settle().await;
        Times(self.ended)
    }

    fn id_in(&self, partition: PartitionId) -> InstanceId {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let id = InstanceId::new(format!("probe-{number}")).expect("a valid id");
            if id.partition(PARTITIONS) == partition {
                return id;
            }
        }
    }
}

async fn probe(hub: &Client, journal: &Journal, id: InstanceId) {
    let name = id.to_string();
    journal.note(&Note::Starting { id: name.clone(), story: Story::Probe, at: wall() });
    let started = workload::start(hub, &id, &Story::Probe).await.expect("the emulator answers");
    let run = started.run().expect("a start says its run").0;
    journal.note(&Note::Accepted { id: name, run });
    loop {
        let status = started.status().await.expect("it was accepted");
        if status.has_ended() {
            return journal.note(&Note::ended(&status));
        }
        client::let_go_on(&started, &status, journal).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// What was measured.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<(After, Duration)>);

impl Times {
    pub(super) fn of(&self, after: After) -> Vec<Duration> {
        let mut times: Vec<_> =
            self.0.iter().filter(|(what, _)| *what == after).map(|(_, time)| *time).collect();
        times.sort_unstable();
        times
    }

    /// Median, largest and number, in milliseconds.
    pub(super) fn shown(&self, after: After) -> String {
        let times = self.of(after);
        let Some(max) = times.last() else { return "-".to_owned() };
        let p50 = times[times.len() / 2];
        format!("{}/{} ({})", p50.as_millis(), max.as_millis(), times.len())
    }
}
