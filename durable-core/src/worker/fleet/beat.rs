//! Saying that this worker lives: only while it does, loops included.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_machine::model::PartitionId;

use super::balance::Names;
use super::{Fleet, lose};
use crate::store::{Member, Store, StoreError};
use crate::telemetry;
use crate::worker::mailbox::Mail;
use crate::worker::opening::Opening;
use crate::worker::shared::Shared;

/// How long an opening may take before it is given up, unless the lease is longer.
const OPENING_MAX: Duration = Duration::from_secs(60);

/// The first beat. Where it fails the worker does not start.
pub(in crate::worker) async fn join(store: &dyn Store, fleet: &Fleet) -> Result<(), StoreError> {
    let sent = Instant::now();
    let membership = fleet.membership.lock().await;
    store.heartbeat(&membership.member).await?;
    fleet.lease.renewed(sent);
    Ok(())
}

/// Beats three times a lease, and at once when this worker's partitions have changed.
pub(super) async fn run(shared: Arc<Shared>) {
    let Some(fleet) = &shared.fleet else { return };
    let every = fleet.sharing.lease / 3;
    let again = fleet.sharing.lease / 12;
    let mut loops = Loops::default();
    let mut pause = every;
    loop {
        let _ = tokio::time::timeout(pause, fleet.beat.notified()).await;
        if !loops.all_come_round(&shared, fleet) {
            pause = again;
            continue;
        }
        match beat(&shared, fleet).await {
            Beat::Sent => {
                loops.ask(&shared);
                pause = every;
            }
            Beat::Failed => pause = again,
            Beat::Left => return,
        }
    }
}

enum Beat {
    Sent,
    Failed,
    Left,
}

async fn beat(shared: &Arc<Shared>, fleet: &Fleet) -> Beat {
    let mut membership = fleet.membership.lock().await;
    if membership.left {
        return Beat::Left;
    }
    let owns: Vec<_> = shared.present().map(|opening| opening.partition).collect();
    #[allow(clippy::cast_precision_loss, reason = "a gauge shows magnitudes")]
    metrics::gauge!(telemetry::PARTITIONS_OWNED).set(owns.len() as f64);
    membership.member.beat += 1;
    membership.member.leaving = !shared.is_serving();
    membership.member.owns = owns;
    membership.member.needs = needs(fleet);
    let (over, sent) = (fleet.lease.is_over(), Instant::now());
    let written = shared.store.heartbeat(&membership.member);
    let moved = match tokio::time::timeout(fleet.sharing.lease / 3, written).await {
        Ok(Ok(moved)) => moved,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the heartbeat could not be written");
            return Beat::Failed;
        }
        Err(_) => {
            tracing::warn!("the heartbeat could not be written in time");
            return Beat::Failed;
        }
    };
    if moved {
        fleet.look.notify_one();
    }
    if over && (moved || !is_alone(shared, &membership.member, fleet).await) {
        // Others may have had its partitions since then, and given them back: what its loops know is old.
        for opening in shared.present() {
            lose(shared, &opening, "this worker did not beat for a lease");
        }
        fleet.look.notify_one();
    }
    let held = fleet.lease.holds();
    fleet.lease.renewed(sent);
    if !held {
        tracing::info!("the heartbeat is written again; work goes on");
        shared.send_all(|| Mail::CheckArrivals);
    }
    Beat::Sent
}

fn needs(fleet: &Fleet) -> BTreeMap<PartitionId, Vec<String>> {
    let own = fleet.own();
    let texts = |names: &Names| names.iter().map(|name| name.to_string()).collect();
    own.needs.iter().map(|(partition, names)| (*partition, texts(names))).collect()
}

/// Whether no other worker can have seen that this one was silent.
async fn is_alone(shared: &Shared, me: &Member, fleet: &Fleet) -> bool {
    let members = tokio::time::timeout(fleet.sharing.lease / 3, shared.store.members()).await;
    members.is_ok_and(|members| {
        members.is_ok_and(|members| members.iter().all(|member| member.worker == me.worker))
    })
}

/// Which loops come round.
#[derive(Default)]
struct Loops {
    seen: BTreeMap<PartitionId, Seen>,
}

/// What one loop showed last, and since when it shows no more.
struct Seen {
    opening: Arc<Opening>,
    turns: u64,
    since: Instant,
}

impl Loops {
    /// Whether every loop has come round since it was asked to. One that has not for half a lease is given
    /// up. A turn that takes long is not this task's: the watchdog has an eye on it.
    fn all_come_round(&mut self, shared: &Arc<Shared>, fleet: &Fleet) -> bool {
        let now = Instant::now();
        let mut all = true;
        let mut before = std::mem::take(&mut self.seen);
        for opening in shared.present() {
            let turns = opening.turns();
            let served = opening.is_served();
            let moves = (served && opening.has_passed()) || turns % 2 == 1;
            let known = before
                .remove(&opening.partition)
                .filter(|seen| Arc::ptr_eq(&seen.opening, &opening) && seen.turns == turns);
            let since = if moves { now } else { known.map_or(now, |seen| seen.since) };
            let limit = if served {
                all &= moves || since == now;
                fleet.sharing.lease / 2
            } else if !shared.is_serving() {
                fleet.sharing.lease / 3
            } else {
                fleet.sharing.lease.max(OPENING_MAX)
            };
            if now.saturating_duration_since(since) > limit {
                let why = if served { "its loop does not come round" } else { "it does not open" };
                lose(shared, &opening, why);
                continue;
            }
            self.seen.insert(opening.partition, Seen { opening, turns, since });
        }
        all
    }

    fn ask(&self, shared: &Shared) {
        for opening in shared.present().filter(|opening| opening.is_served()) {
            opening.ask_for_pass();
        }
    }
}
