//! Several workers on one hub: which partitions are this one's, and activities that wait for room.
//!
//! Four tasks share a [`Fleet`]: `beat` says that this worker lives and what it owns, `look` watches the
//! other workers and claims and gives back partitions as `balance` decides, and `offer` and `take` move
//! waiting activities to where there is room. What keeps two owners of a partition apart is the store's
//! fence alone: everything here may be late or wrong and costs only work done twice.
//! `docs/design/fleet.md` has the states and invariants.

mod balance;
mod beat;
mod lease;
mod look;
mod offer;
mod take;
mod view;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use durable_machine::model::{Fence, PartitionId, WorkerId};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub(super) use beat::join;
pub(super) use lease::Lease;

use balance::Names;

use super::mailbox::Mail;
use super::opening::Opening;
use super::serve::{self, Ready};
use super::shared::Shared;
use crate::store::{Member, Sharing, StoreError};
use crate::telemetry;

/// How long a partition that is given back waits for its running activities. What runs longer is begun
/// again by the next owner.
const GIVE_BACK_MAX: Duration = Duration::from_secs(5);

/// The shortest time between two looks, and between two tries.
const SOON: Duration = Duration::from_millis(100);

/// What the tasks of one worker know of the fleet and tell each other.
pub(super) struct Fleet {
    sharing: Sharing,
    pub(super) lease: Arc<Lease>,
    membership: tokio::sync::Mutex<Membership>,
    /// Beat at once: others shall see what has changed.
    beat: Notify,
    /// Look at the members at once.
    look: Notify,
    /// Whether another worker lives that will stay.
    company: watch::Sender<bool>,
    /// Raised with each change of what this worker owns.
    changes: watch::Sender<u64>,
    /// The last look left nothing to be claimed.
    settled: AtomicBool,
    own: Mutex<Own>,
}

/// The worker's row.
struct Membership {
    member: Member,
    left: bool,
}

/// What is known of partitions beside who owns them.
#[derive(Default)]
struct Own {
    /// Not to be claimed before then: something was wrong with them here.
    avoided: BTreeMap<PartitionId, Instant>,
    /// The fence of this worker's last opening.
    fences: BTreeMap<PartitionId, Fence>,
    /// Orchestrators that instances need in partitions that are this worker's, or were until another one has them:
    /// those that some workers have and others lack.
    needs: BTreeMap<PartitionId, Names>,
    /// Told about openings, while the worker starts.
    starting: Option<Ready>,
}

impl Fleet {
    pub(super) fn new(sharing: Sharing, member: Member, starting: Ready) -> Self {
        Self {
            sharing,
            lease: Arc::new(Lease::new(sharing.lease)),
            membership: tokio::sync::Mutex::new(Membership { member, left: false }),
            beat: Notify::new(),
            look: Notify::new(),
            company: watch::channel(false).0,
            changes: watch::channel(0).0,
            settled: AtomicBool::new(false),
            own: Mutex::new(Own { starting: Some(starting), ..Own::default() }),
        }
    }

    /// How often the others are looked at while there are any, and how long to wait after something failed.
    fn step(&self) -> Duration {
        (self.sharing.lease / 10).max(SOON)
    }

    /// What this worker owns has changed: others shall see it, and whoever waits for it looks.
    pub(super) fn changed(&self) {
        self.served();
        self.beat.notify_one();
        self.look.notify_one();
    }

    /// A partition needs an orchestrator that is missing here: another worker may have it.
    pub(super) fn lacks(&self) {
        self.look.notify_one();
    }

    /// A partition is served.
    pub(super) fn served(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Whether another worker lives that will stay.
    pub(super) fn company(&self) -> watch::Receiver<bool> {
        self.company.subscribe()
    }

    /// A partition is to be left alone by this worker for a while.
    pub(super) fn avoid(&self, partition: PartitionId, pause: Duration) {
        self.settled.store(false, Ordering::Release);
        self.own().avoided.insert(partition, Instant::now() + pause);
        self.look.notify_one();
    }

    /// After a failure that may pass at once.
    pub(super) fn avoid_briefly(&self, partition: PartitionId) {
        self.avoid(partition, self.step());
    }

    /// After a failure that may last.
    pub(super) fn avoid_for_a_lease(&self, partition: PartitionId) {
        self.avoid(partition, self.sharing.lease.max(SOON));
    }

    /// Notes an opening. Whether this worker had the partition open before, and nobody since.
    pub(super) fn opened(&self, partition: PartitionId, fence: Fence) -> bool {
        let before = self.own().fences.insert(partition, fence);
        before.is_some_and(|before| before.0.checked_add(1) == Some(fence.0))
    }

    /// The fence of this worker's last opening.
    fn fence(&self, partition: PartitionId) -> Option<Fence> {
        self.own().fences.get(&partition).copied()
    }

    pub(super) fn stops(&self) {
        self.lease.wake();
        self.beat.notify_one();
        self.look.notify_one();
    }

    /// Leaves the hub: no beat follows.
    pub(super) async fn leave(&self, shared: &Shared) -> Result<(), StoreError> {
        let mut membership = self.membership.lock().await;
        membership.left = true;
        self.beat.notify_one();
        shared.store.leave(shared.worker).await
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the tasks.
pub(super) fn spawn(shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
    vec![
        tokio::spawn(beat::run(shared.clone())),
        tokio::spawn(look::run(shared.clone())),
        tokio::spawn(offer::run(shared.clone())),
        tokio::spawn(take::run(shared.clone())),
    ]
}

/// Waits until each partition of this worker's present share is served.
pub(super) async fn settle(shared: &Shared) {
    let Some(fleet) = &shared.fleet else { return };
    let mut changes = fleet.changes.subscribe();
    let is_settled = |_: &u64| {
        fleet.settled.load(Ordering::Acquire)
            && fleet.own().avoided.is_empty()
            && shared.present().all(|opening| opening.is_served())
    };
    let _ = changes.wait_for(is_settled).await;
    fleet.own().starting = None;
}

/// Claims a partition and begins to serve it. Whether it is this worker's now, or about to be.
async fn claim(
    shared: &Arc<Shared>,
    fleet: &Fleet,
    partition: PartitionId,
    from: Option<WorkerId>,
) -> bool {
    let claimed =
        tokio::time::timeout(fleet.sharing.lease / 3, shared.store.claim(shared.worker, partition));
    match claimed.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(partition = partition.0, %error, "the partition cannot be claimed");
            fleet.avoid_briefly(partition);
            return false;
        }
        Err(_) => {
            tracing::warn!(partition = partition.0, "the partition cannot be claimed in time");
            fleet.avoid_briefly(partition);
            return false;
        }
    }
    if !shared.serving_begins() {
        return false;
    }
    let Some(opening) = shared.occupy(partition) else {
        shared.serving_ended();
        return false;
    };
    match from {
        Some(dead) => {
            metrics::counter!(telemetry::PARTITIONS_TAKEN_OVER).increment(1);
            tracing::info!(partition = partition.0, %dead, "claimed: its owner is dead");
        }
        None => tracing::info!(partition = partition.0, "claimed: nobody owned it"),
    }
    let starting = fleet.own().starting.clone();
    if let Err(error) = serve::spawn_counted(shared, &opening, Vec::new(), starting) {
        tracing::error!(partition = partition.0, %error, "no thread for the partition");
        fleet.avoid_briefly(partition);
        opening.close();
        shared.vacate(&opening);
        shared.serving_ended();
        return false;
    }
    true
}

/// Gives a partition back in good order, while the others go on.
fn give_back(opening: &Opening, why: &str) {
    tracing::info!(partition = opening.partition.0, why, "giving the partition back");
    opening.leave();
    opening.mailbox.send(Mail::Stop(Instant::now() + GIVE_BACK_MAX));
}

/// Stops counting on a partition: its loop ends when it next comes round, and nothing is given back.
fn lose(shared: &Arc<Shared>, opening: &Arc<Opening>, why: &str) {
    tracing::warn!(partition = opening.partition.0, why, "the partition is lost");
    opening.give_up();
    let fence = shared.fleet.as_ref().and_then(|fleet| fleet.fence(opening.partition));
    if let Some(fence) = fence {
        shared.store.abandon(opening.partition, fence);
    }
    // Otherwise the watchdog has put another one in its place, or its thread has ended.
    if shared.vacate(opening) {
        shared.serving_ended();
    }
}

#[cfg(test)]
mod tests;
