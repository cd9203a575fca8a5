//! The thread that serves one partition: opens it, runs its loop, opens it again when memory cannot be
//! trusted any more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use durable_machine::model::InstanceId;
use durable_machine::partition::{Config, Partition};
use tokio::sync::mpsc;

use super::driver::{Driver, Exit};
use super::mailbox::{Mail, wait_for};
use super::opening::{Opening, OpeningCode};
use super::shared::Shared;
use crate::store::StoreError;
use crate::telemetry;

/// Openings in a row without a commit after which the worker ends.
const FAILURES_MAX: u32 = 5;

/// Wait before a partition is opened again, times the failures in a row.
const OPEN_AGAIN: Duration = Duration::from_millis(100);

/// How long storage has at least to take a partition back.
const RELEASE_MIN: Duration = Duration::from_millis(100);

/// Instances with something uncommitted from which on new work is refused while a commit cannot be written.
const UNCOMMITTED_MAX: usize = 10_000;

/// Reports to whoever starts the worker that a partition is served, or why not.
pub(super) type Ready = mpsc::UnboundedSender<Result<(), StoreError>>;

/// Why a thread no longer serves its partition.
enum Left {
    /// Nothing is to be done about it.
    Done,
    /// Another thread has its place, or whoever took that away has seen to it.
    Replaced,
}

/// Starts the thread of a partition that is not served yet. A worker that stops starts none.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    opening: &Arc<Opening>,
    ready: Option<Ready>,
) -> std::io::Result<()> {
    if !shared.serving_begins() {
        return Ok(());
    }
    spawn_counted(shared, opening, Vec::new(), ready).inspect_err(|_| shared.serving_ended())
}

/// Starts the thread of a partition whose end the worker waits for already.
pub(super) fn spawn_counted(
    shared: &Arc<Shared>,
    opening: &Arc<Opening>,
    stuck: Vec<InstanceId>,
    ready: Option<Ready>,
) -> std::io::Result<()> {
    let (shared, opening) = (shared.clone(), opening.clone());
    std::thread::Builder::new()
        .name(format!("durable-partition-{}", opening.partition))
        .spawn(move || match serve(&shared, opening, stuck, ready) {
            Left::Done => shared.serving_ended(),
            Left::Replaced => {}
        })
        .map(|_| ())
}

/// Serves until the partition is lost or given back, or the worker stops.
fn serve(
    shared: &Arc<Shared>,
    mut opening: Arc<Opening>,
    stuck: Vec<InstanceId>,
    mut ready: Option<Ready>,
) -> Left {
    let partition = opening.partition;
    let mut failures = 0;
    // Whether this process had the partition open before.
    let mut again = !stuck.is_empty();
    while shared.stop_at().is_none() {
        let opened = open(shared, &opening, &stuck, again);
        if opening.is_given_up() {
            if let Ok(driver) = &opened {
                shared.store.abandon(partition, driver.fence());
            }
            return Left::Replaced;
        }
        let mut driver = match opened {
            Ok(driver) => driver,
            Err(error) if shared.fleet.is_some() => {
                return not_opened(shared, &opening, error, ready);
            }
            Err(error @ (StoreError::Busy { .. } | StoreError::Unknown(_))) => {
                tracing::warn!(partition = partition.0, %error, "the partition cannot be opened yet");
                // Who has waited so far is told; who comes now waits for the next try.
                let Some(next) = shared.follow(&opening) else { return Left::Replaced };
                std::mem::replace(&mut opening, next).close();
                std::thread::sleep(OPEN_AGAIN);
                continue;
            }
            Err(error) => {
                match ready.take() {
                    Some(ready) => {
                        let _ = ready.send(Err(error));
                    }
                    None => shared.fail(format!("partition {partition} cannot be opened: {error}")),
                }
                opening.close();
                return leave(shared, &opening);
            }
        };
        opening.serve();
        if let Some(fleet) = &shared.fleet {
            fleet.served();
        }
        if let Some(ready) = ready.take() {
            let _ = ready.send(Ok(()));
        }
        // A stop that came before the opening could be reached.
        if let Some(at) = shared.stop_at() {
            opening.mailbox.send(Mail::Stop(at));
        }
        let exit = catch_unwind(AssertUnwindSafe(|| driver.run()))
            .unwrap_or_else(|_| Exit::Reopen("its loop panicked".into()));
        opening.close();
        if opening.is_given_up() {
            shared.store.abandon(partition, driver.fence());
            return Left::Replaced;
        }
        if matches!(exit, Exit::Stopped) {
            give_back(shared, &driver);
        }
        shared.store.abandon(partition, driver.fence());
        match exit {
            Exit::Stopped => return leave(shared, &opening),
            Exit::Lost if shared.fleet.is_some() => {
                tracing::info!(partition = partition.0, "lost: another owner has opened it");
                return leave(shared, &opening);
            }
            Exit::Lost => {
                shared.fail(format!("partition {partition} was taken over by another owner"));
                return leave(shared, &opening);
            }
            Exit::Reopen(why) => {
                failures = if opening.has_progressed() { 1 } else { failures + 1 };
                metrics::counter!(telemetry::PARTITIONS_REOPENED).increment(1);
                tracing::error!(partition = partition.0, why, "the partition is opened again");
                if let Some(fleet) = &shared.fleet {
                    if failures >= FAILURES_MAX {
                        tracing::error!(
                            partition = partition.0,
                            why,
                            failures,
                            "it is left alone for a while"
                        );
                        fleet.avoid_for_a_lease(partition);
                        return leave(shared, &opening);
                    }
                    // Somebody else may have it by now, or shall have it.
                    if opening.is_leaving() || !fleet.lease.holds() {
                        return leave(shared, &opening);
                    }
                } else if failures >= FAILURES_MAX {
                    shared.fail(format!("partition {partition} failed {failures} times: {why}"));
                    return leave(shared, &opening);
                }
                let Some(next) = shared.follow(&opening) else { return Left::Replaced };
                opening = next;
                again = true;
                shared.doubt(partition);
                std::thread::sleep(OPEN_AGAIN * failures);
            }
        }
    }
    opening.close();
    leave(shared, &opening)
}

/// The partition is no longer this worker's, unless another thread has taken this one's place.
fn leave(shared: &Shared, opening: &Arc<Opening>) -> Left {
    if shared.vacate(opening) { Left::Done } else { Left::Replaced }
}

/// A partition of a shared hub that cannot be opened is left to whoever can; the others are served.
fn not_opened(
    shared: &Shared,
    opening: &Arc<Opening>,
    error: StoreError,
    ready: Option<Ready>,
) -> Left {
    let partition = opening.partition;
    if let Some(fleet) = &shared.fleet {
        match error {
            StoreError::Busy { .. } | StoreError::Unknown(_) | StoreError::Fenced { .. } => {
                tracing::warn!(partition = partition.0, %error, "the partition cannot be opened yet");
                fleet.avoid_briefly(partition);
            }
            StoreError::Corrupt { .. }
            | StoreError::HubInUse { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::Unusable(_) => {
                tracing::error!(partition = partition.0, %error, "the partition cannot be opened");
                fleet.avoid_for_a_lease(partition);
                if let Some(ready) = ready {
                    let _ = ready.send(Err(error));
                }
            }
        }
    }
    opening.close();
    leave(shared, opening)
}

fn open(
    shared: &Arc<Shared>,
    opening: &Arc<Opening>,
    stuck: &[InstanceId],
    again: bool,
) -> Result<Driver, StoreError> {
    let mut snapshot = shared.runtime.block_on(shared.store.open(opening.partition))?;
    let fence = snapshot.fence;
    let ours = shared.fleet.as_ref().is_some_and(|fleet| fleet.opened(opening.partition, fence));
    if again || ours {
        // The process lives, so nothing that it loaded or ran has killed it.
        snapshot.head.unclean_opens = 1;
        snapshot.head.probing = None;
    }
    let config = Config {
        partition: opening.partition,
        partitions: shared.partitions,
        limits: shared.store.limits(),
        cache_bytes_max: shared.options.cache_bytes_max / usize::from(shared.partitions),
        uncommitted_max: UNCOMMITTED_MAX,
        heartbeat_delay: shared.options.heartbeat_delay,
        stuck: stuck.to_vec(),
        looks_first: again,
    };
    let code = Arc::new(OpeningCode {
        functions: shared.functions.clone(),
        mailbox: opening.mailbox.clone(),
    });
    let partition = Partition::open(config, code, snapshot, shared.store.now());
    Ok(Driver::new(shared.clone(), opening.clone(), partition, fence))
}

/// Gives the partition back in good order, if all that it did is durable.
fn give_back(shared: &Shared, driver: &Driver) {
    let partition = driver.partition_id();
    if !driver.is_clean() {
        tracing::warn!(
            partition = partition.0,
            "stopped before everything had ended; the next start takes up the rest"
        );
        return;
    }
    let least = Instant::now() + RELEASE_MIN;
    let end = driver.stop_at().map_or(least, |at| at.max(least));
    let release = shared.store.release(partition, driver.fence());
    match wait_for(&shared.runtime, release, end) {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::warn!(partition = partition.0, %error, "not given back"),
        None => tracing::warn!(partition = partition.0, "not given back: storage did not answer"),
    }
}
