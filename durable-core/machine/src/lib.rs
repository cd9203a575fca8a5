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

pub mod codec;
pub mod model;
pub mod partition;
pub mod replay;
pub mod store;
