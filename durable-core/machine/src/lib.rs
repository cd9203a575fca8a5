//! The pure state machine of `durable-core`.
//!
//! No runtime, clock, IO, threads, randomness or hash maps: time is an argument, order is explicit, and
//! the same inputs give the same outputs on any machine. That is what lets a simulator run it a million
//! times.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`model`] | ids, times, payloads, events, messages, statuses, failures, limits |
//! | [`codec`] | how they become bytes: versioned, checked, readable |
//! | [`replay`] | an orchestrator's code against its history |
//! | [`partition`] | a share of a hub's instances: inputs in, effects and commits out |
//! | [`store`] | commits and snapshots as values, and the model of a store |
//! | `sim` | with the feature `sim`: the seeded simulation of all of them |

/// Whether a bug is planted here on purpose, so that the simulation proves that it notices; never so
/// without the feature `sim`.
#[cfg(feature = "sim")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::sim::is_planted($crate::sim::Planted::$bug)
    };
}
#[cfg(not(feature = "sim"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub mod codec;
pub mod model;
pub mod partition;
pub mod replay;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;
