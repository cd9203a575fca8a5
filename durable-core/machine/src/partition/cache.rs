//! Orchestrations stay in memory between turns, up to a budget of bytes. Beyond it idle ones leave, least
//! recently used first, and are rebuilt from their histories when something arrives.

use super::entry::{Code, Entry, Life};
use super::{Core, Partition};
use crate::model::InstanceId;

/// What an orchestration is taken to cost beside its history: futures, maps, ids. A future's real size
/// cannot be asked for; this is the middle of what the examples measure.
const WEIGHT_MIN: usize = 2048;

/// Payloads of a history are parsed into the code's own values: about as much again.
const HISTORY_FACTOR: usize = 2;

/// Room is made down to this share of the budget, so that the scan for it is paid rarely.
const ROOM_NUMERATOR: usize = 3;
const ROOM_DENOMINATOR: usize = 4;

impl Core {
    /// Counts an orchestration that is at home.
    pub(super) fn weigh(&mut self, entry: &mut Entry) {
        let weight = match (&entry.life, &entry.code) {
            (Life::Active(run), Code::Home(_) | Code::Out) => {
                WEIGHT_MIN + HISTORY_FACTOR * run.history_bytes
            }
            _ => 0,
        };
        self.resident_bytes = self.resident_bytes + weight - entry.weight;
        entry.weight = weight;
    }

    /// The code leaves memory.
    pub(super) fn drop_code(&mut self, entry: &mut Entry) {
        entry.code = Code::Away;
        self.resident_bytes -= entry.weight;
        entry.weight = 0;
    }
}

impl Partition {
    /// Evicts idle orchestrations where the budget is exceeded. What is uncommitted stays.
    pub(super) fn make_room(&mut self) {
        if self.core.resident_bytes <= self.core.config.cache_bytes_max {
            return;
        }
        let target = self.core.config.cache_bytes_max / ROOM_DENOMINATOR * ROOM_NUMERATOR;
        let mut idle: Vec<(u64, InstanceId)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.idle() || planted!(UncommittedEvicted))
            .filter(|(_, entry)| matches!(entry.code, Code::Home(_)))
            .map(|(instance, entry)| (entry.used, instance.clone()))
            .collect();
        idle.sort_unstable();
        for (_, instance) in idle {
            if self.core.resident_bytes <= target {
                break;
            }
            self.evict(&instance);
        }
    }

    /// Drops an instance's code, and all that is known of it unless attempts of it run here.
    fn evict(&mut self, instance: &InstanceId) {
        let Some(entry) = self.entries.get_mut(instance) else { return };
        self.core.drop_code(entry);
        self.core.stats.evictions += 1;
        let Life::Active(run) = &entry.life else { return };
        if run.calls.is_empty() {
            if let Some(due) = entry.in_wheel {
                self.core.wheel.evicted(due, instance);
            }
            self.entries.remove(instance);
        }
    }
}
