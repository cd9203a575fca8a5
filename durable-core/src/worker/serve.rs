//! The thread that serves one partition: opens it, runs its loop, opens it again when memory cannot be
//! trusted any more; and the watchdog over turns that do not return.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use durable_machine::model::{InstanceId, PartitionId};
use durable_machine::partition::{Config, Partition};
use tokio::sync::mpsc;

use super::driver::{Driver, Exit};
use super::shared::{Opening, OpeningCode, Shared};
use crate::store::StoreError;
use crate::telemetry;

/// Openings in a row without a commit after which the worker ends.
const FAILURES_MAX: u32 = 5;

/// Wait before a partition is opened again, times the failures in a row.
const OPEN_AGAIN: Duration = Duration::from_millis(100);

/// Threads given up for turns that do not return, after which the process ends: each one may burn a core.
const GIVEN_UP_MAX: usize = 4;

/// Instances with something uncommitted from which on new work is refused while a commit cannot be written.
const UNCOMMITTED_MAX: usize = 10_000;

/// Reports to whoever starts the worker that a partition is served, or why not.
pub(super) type Ready = mpsc::UnboundedSender<Result<(), StoreError>>;

/// Starts the thread of a partition.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    partition: PartitionId,
    stuck: Vec<InstanceId>,
    ready: Option<Ready>,
) -> std::io::Result<()> {
    let shared = shared.clone();
    std::thread::Builder::new()
        .name(format!("durable-partition-{partition}"))
        .spawn(move || {
            if serve(&shared, partition, stuck, ready) {
                shared.serving_ended();
            }
        })
        .map(|_| ())
}

/// Serves until told to stop. `false` when another thread has taken this one's place.
fn serve(
    shared: &Arc<Shared>,
    partition: PartitionId,
    stuck: Vec<InstanceId>,
    mut ready: Option<Ready>,
) -> bool {
    let mut failures = 0;
    while shared.stop_at().is_none() {
        let opening = Arc::new(Opening::new(partition));
        let mut driver = match open(shared, &opening, &stuck) {
            Ok(driver) => driver,
            Err(error @ (StoreError::Busy { .. } | StoreError::Unknown(_))) => {
                tracing::warn!(partition = partition.0, %error, "the partition cannot be opened yet");
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
                return true;
            }
        };
        shared.set_opening(opening.clone());
        if let Some(ready) = ready.take() {
            let _ = ready.send(Ok(()));
        }
        // A stop that came before the opening could be reached.
        if let Some(at) = shared.stop_at() {
            opening.mailbox.send(super::mailbox::Mail::Stop(at));
        }
        let exit = catch_unwind(AssertUnwindSafe(|| driver.run()))
            .unwrap_or_else(|_| Exit::Reopen("its loop panicked".into()));
        opening.mailbox.close();
        if opening.is_given_up() {
            return false;
        }
        match exit {
            Exit::Stopped => {
                give_back(shared, partition, &driver);
                return true;
            }
            Exit::Lost => {
                shared.fail(format!("partition {partition} was taken over by another owner"));
                return true;
            }
            Exit::Reopen(why) => {
                failures = if opening.has_progressed() { 1 } else { failures + 1 };
                metrics::counter!(telemetry::PARTITIONS_REOPENED).increment(1);
                tracing::error!(partition = partition.0, why, "the partition is opened again");
                if failures >= FAILURES_MAX {
                    shared.fail(format!("partition {partition} failed {failures} times: {why}"));
                    return true;
                }
                std::thread::sleep(OPEN_AGAIN * failures);
            }
        }
    }
    true
}

fn open(
    shared: &Arc<Shared>,
    opening: &Arc<Opening>,
    stuck: &[InstanceId],
) -> Result<Driver, StoreError> {
    let snapshot = shared.runtime.block_on(shared.store.open(opening.partition))?;
    let fence = snapshot.fence;
    let config = Config {
        partition: opening.partition,
        partitions: shared.partitions,
        limits: shared.store.limits(),
        cache_bytes_max: shared.options.cache_bytes_max / usize::from(shared.partitions),
        uncommitted_max: UNCOMMITTED_MAX,
        stuck: stuck.to_vec(),
    };
    let code = Arc::new(OpeningCode {
        functions: shared.functions.clone(),
        mailbox: opening.mailbox.clone(),
    });
    let partition = Partition::open(config, code, snapshot, shared.store.now());
    Ok(Driver::new(shared.clone(), opening.clone(), partition, fence))
}

/// Gives the partition up in good order, if all that it did is durable.
fn give_back(shared: &Shared, partition: PartitionId, driver: &Driver) {
    if !driver.is_clean() {
        tracing::warn!(
            partition = partition.0,
            "stopped before everything had ended; the next start takes up the rest"
        );
        return;
    }
    let left = shared.stop_at().map_or(Duration::ZERO, |at| {
        at.saturating_duration_since(Instant::now()).max(Duration::from_millis(100))
    });
    let release = shared.store.release(partition, driver.fence());
    let released = shared.runtime.block_on(async { tokio::time::timeout(left, release).await });
    match released {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(partition = partition.0, %error, "not given back"),
        Err(_) => tracing::warn!(partition = partition.0, "not given back: storage did not answer"),
    }
}

/// Watches over the turns of all partitions until the worker has ended.
pub(super) fn watch_turns(shared: &Arc<Shared>) {
    let limit = shared.options.turn_timeout;
    let pause = (limit / 10).clamp(Duration::from_millis(5), Duration::from_millis(250));
    let mut seen: HashMap<u16, (u64, Instant)> = HashMap::new();
    while !shared.all_ended() {
        std::thread::sleep(pause);
        for partition in 0..shared.partitions {
            let Some(opening) = shared.opening(PartitionId(partition)) else { continue };
            let Some((turn, instance)) = opening.polled_turn() else {
                seen.remove(&partition);
                continue;
            };
            let since = match seen.get(&partition) {
                Some((same, since)) if *same == turn => *since,
                Some(_) | None => {
                    seen.insert(partition, (turn, Instant::now()));
                    continue;
                }
            };
            if since.elapsed() < limit || opening.is_given_up() {
                continue;
            }
            tracing::error!(
                partition,
                %instance,
                ?limit,
                "a turn does not return; its thread is given up and the instance held. Move loops and \
                 blocking calls into activities"
            );
            opening.give_up();
            seen.remove(&partition);
            if shared.given_up.fetch_add(1, Ordering::AcqRel) + 1 > GIVEN_UP_MAX {
                tracing::error!("too many threads were given up; the process ends");
                std::process::exit(70);
            }
            if let Err(error) = spawn(shared, PartitionId(partition), vec![instance], None) {
                shared.fail(format!("no thread for partition {partition}: {error}"));
            }
        }
    }
}
