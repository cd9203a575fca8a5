//! Every name that this crate gives to metrics and to the fields of its log lines.
//!
//! Metrics go through the `metrics` facade: install a recorder to see them. Log lines and spans go through
//! `tracing`.
//!
//! ```
//! use durable_core::telemetry;
//!
//! /// A line of a dashboard.
//! fn query(metric: &str) -> String {
//!     format!("sum(rate({metric}[5m]))")
//! }
//! assert_eq!(query(telemetry::COMMITS), "sum(rate(durable_commits_total[5m]))");
//! ```

/// Counter: runs that began.
pub const INSTANCES_STARTED: &str = "durable_instances_started_total";
/// Counter: runs that ended.
pub const INSTANCES_ENDED: &str = "durable_instances_ended_total";
/// Counter: instances that were purged.
pub const INSTANCES_PURGED: &str = "durable_instances_purged_total";
/// Counter: executions that ended to begin the next one of their run.
pub const EXECUTIONS_CONTINUED: &str = "durable_executions_continued_total";
/// Gauge: instances in memory.
pub const INSTANCES_RESIDENT: &str = "durable_instances_resident";
/// Gauge: bytes that orchestrations in memory are taken to cost.
pub const CACHE_BYTES: &str = "durable_cache_bytes";
/// Counter: orchestrations that left memory to make room.
pub const EVICTIONS: &str = "durable_evictions_total";
/// Counter: histories that were replayed.
pub const REPLAYS: &str = "durable_replays_total";
/// Counter: turns that were polled live.
pub const TURNS: &str = "durable_turns_total";
/// Counter: commits handed to the store.
pub const COMMITS: &str = "durable_commits_total";
/// Histogram: seconds from handing a commit to the store to its answer.
pub const COMMIT_SECONDS: &str = "durable_commit_seconds";
/// Counter: commits that the store could not take at once.
pub const COMMITS_RETRIED: &str = "durable_commits_retried_total";
/// Counter: duplicates and late answers that were dropped.
pub const DROPPED: &str = "durable_arrivals_dropped_total";
/// Counter: attempts of activities that are tried again after a failure.
pub const ACTIVITY_RETRIES: &str = "durable_activity_retries_total";
/// Counter: attempts of activities that were started.
pub const ACTIVITIES_STARTED: &str = "durable_activities_started_total";
/// Counter: attempts of activities that failed.
pub const ACTIVITIES_FAILED: &str = "durable_activities_failed_total";
/// Gauge: attempts of activities that run now.
pub const ACTIVITIES_RUNNING: &str = "durable_activities_running";
/// Gauge: attempts that wait because as many run as may.
pub const ACTIVITIES_WAITING: &str = "durable_activities_waiting";
/// Counter: instances that the engine began to hold.
pub const INSTANCES_HELD: &str = "durable_instances_held_total";
/// Counter: partitions that were opened again after a failure.
pub const PARTITIONS_REOPENED: &str = "durable_partitions_reopened_total";
/// Gauge: partitions that this worker owns.
pub const PARTITIONS_OWNED: &str = "durable_partitions_owned";
/// Counter: partitions that were claimed because their owner was dead.
pub const PARTITIONS_TAKEN_OVER: &str = "durable_partitions_taken_over_total";
/// Counter: attempts of activities that were offered to other workers.
pub const ACTIVITIES_OFFERED: &str = "durable_activities_offered_total";
/// Counter: attempts of activities that were taken from what workers offer.
pub const ACTIVITIES_TAKEN: &str = "durable_activities_taken_total";

/// Field and label: the partition.
pub const PARTITION: &str = "partition";
/// Field: the instance.
pub const INSTANCE: &str = "instance";
/// Field: its run.
pub const RUN: &str = "run";
/// Field: the orchestrator's name.
pub const ORCHESTRATOR: &str = "orchestrator";
/// Field: the activity's name.
pub const ACTIVITY: &str = "activity";
/// Field: the attempt of an activity.
pub const ATTEMPT: &str = "attempt";
