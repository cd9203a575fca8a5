//! The thread that serves one partition: opens it, runs its loop, opens it again when memory cannot be
//! trusted any more; and the watchdog over turns that do not return.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use durable_machine::model::{InstanceId, PartitionId};
use durable_machine::partition::{Config, Partition};
use tokio::sync::mpsc;

use super::driver::{Driver, Exit};
use super::mailbox::Signal;
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
    // Whether this process had the partition open before.
    let mut again = !stuck.is_empty();
    // Made by whoever made this thread: mail waits until the partition is open.
    let Some(mut opening) = shared.opening(partition) else { return true };
    while shared.stop_at().is_none() {
        let mut driver = match open(shared, &opening, &stuck, again) {
            Ok(driver) => driver,
            Err(error @ (StoreError::Busy { .. } | StoreError::Unknown(_))) => {
                tracing::warn!(partition = partition.0, %error, "the partition cannot be opened yet");
                // Who has waited so far is told; who comes now waits for the next try.
                let refused = std::mem::replace(&mut opening, shared.next_opening(partition));
                refused.close();
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
                return true;
            }
        };
        if let Some(ready) = ready.take() {
            let _ = ready.send(Ok(()));
        }
        // A stop that came before the opening could be reached.
        if let Some(at) = shared.stop_at() {
            opening.mailbox.send(super::mailbox::Mail::Stop(at));
        }
        let exit = catch_unwind(AssertUnwindSafe(|| driver.run()))
            .unwrap_or_else(|_| Exit::Reopen("its loop panicked".into()));
        opening.close();
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
                opening = shared.next_opening(partition);
                again = true;
                shared.notifier.doubt();
                std::thread::sleep(OPEN_AGAIN * failures);
            }
        }
    }
    opening.close();
    true
}

fn open(
    shared: &Arc<Shared>,
    opening: &Arc<Opening>,
    stuck: &[InstanceId],
    again: bool,
) -> Result<Driver, StoreError> {
    let mut snapshot = shared.runtime.block_on(shared.store.open(opening.partition))?;
    if again {
        // The process lives, so nothing that it loaded or ran has killed it.
        snapshot.head.unclean_opens = 1;
        snapshot.head.probing = None;
    }
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
    match wait_for(shared, release, Instant::now() + left) {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::warn!(partition = partition.0, %error, "not given back"),
        None => tracing::warn!(partition = partition.0, "not given back: storage did not answer"),
    }
}

/// Waits on this thread, without the runtime's clock: the runtime may be shutting down.
fn wait_for<T>(shared: &Shared, future: impl Future<Output = T>, end: Instant) -> Option<T> {
    let signal = Arc::new(Signal::default());
    signal.attach();
    let waker = signal.clone().into();
    let mut future = pin!(future);
    loop {
        let polled = {
            let _entered = shared.runtime.enter();
            future.as_mut().poll(&mut Context::from_waker(&waker))
        };
        let left = end.saturating_duration_since(Instant::now());
        match polled {
            Poll::Ready(output) => return Some(output),
            Poll::Pending if left.is_zero() => return None,
            Poll::Pending => signal.wait(Some(left)),
        }
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
            let _ = shared.next_opening(PartitionId(partition));
            opening.give_up();
            shared.notifier.doubt();
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
