//! The watchdog over turns that do not return.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use durable_machine::model::InstanceId;

use super::opening::Opening;
use super::serve;
use super::shared::Shared;

/// Threads given up for turns that do not return, after which the process ends: each one may burn a core.
const GIVEN_UP_MAX: usize = 4;

/// Watches over the turns of all partitions until the worker has ended.
pub(super) fn watch_turns(shared: &Arc<Shared>) {
    let limit = shared.options.turn_timeout;
    let pause = (limit / 10).clamp(Duration::from_millis(5), Duration::from_millis(250));
    let mut seen: HashMap<u16, (u64, Instant)> = HashMap::new();
    while !shared.all_ended() {
        std::thread::sleep(pause);
        let mut before = std::mem::take(&mut seen);
        for opening in shared.present() {
            let partition = opening.partition.0;
            let Some((turn, instance)) = opening.polled_turn() else { continue };
            let since = match before.remove(&partition) {
                Some((same, since)) if same == turn => since,
                Some(_) | None => Instant::now(),
            };
            if since.elapsed() < limit || opening.is_given_up() {
                seen.insert(partition, (turn, since));
                continue;
            }
            give_up(shared, &opening, instance);
        }
    }
}

/// Has the partition opened again on another thread, with the instance held.
fn give_up(shared: &Arc<Shared>, opening: &Arc<Opening>, instance: InstanceId) {
    let partition = opening.partition;
    // Otherwise the partition has left this worker, and its thread with it.
    let Some(next) = shared.follow(opening) else { return };
    tracing::error!(
        partition = partition.0,
        %instance,
        limit = ?shared.options.turn_timeout,
        "a turn does not return; its thread is given up and the instance held. Move loops and \
         blocking calls into activities"
    );
    opening.give_up();
    shared.doubt(partition);
    if shared.given_up.fetch_add(1, Ordering::AcqRel) + 1 > GIVEN_UP_MAX {
        tracing::error!("too many threads were given up; the process ends");
        std::process::exit(70);
    }
    if let Err(error) = serve::spawn_counted(shared, &next, vec![instance], None) {
        shared.fail(format!("no thread for partition {partition}: {error}"));
        next.close();
        shared.serving_ended();
    }
}
