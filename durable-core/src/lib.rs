//! Durable workflows for Rust: async functions that survive crashes, restarts and moves between machines.
//!
//! An *orchestrator* is an ordinary async function that may run for seconds or for years. What it awaits
//! is recorded; when its process dies, another one runs it on from where it was. The work itself is done
//! by *activities*, ordinary functions that may do anything.
//!
//! ```
//! use durable_core::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! struct Order {
//!     item: String,
//!     cents: u32,
//! }
//!
//! #[derive(Clone)]
//! struct Warehouse(/* a connection pool, say */);
//!
//! #[activity]
//! async fn reserve(State(warehouse): State<Warehouse>, order: Order) -> Result<String, ActivityError> {
//!     // Any async code. It runs at least once; `ctx.idempotency_key()` helps where that matters.
//!     Ok(format!("{} reserved", order.item))
//! }
//!
//! #[activity(blocking)]
//! fn print_label(ctx: ActivityContext, reservation: String) -> Result<u64, ActivityError> {
//!     ctx.check_cancelled()?;
//!     Ok(reservation.len() as u64)
//! }
//!
//! #[orchestrator]
//! async fn place_order(ctx: OrchestrationContext, order: Order) -> Result<u64, OrchestrationError> {
//!     let reserved = ctx
//!         .call(reserve, &order)
//!         .retry(RetryPolicy::exponential(secs(1)).attempts(5))
//!         .timeout(secs(30))
//!         .await?;
//!     if order.cents > 100_000 {
//!         let approved = ctx.wait_event::<bool>("approved").timeout(hours(24)).await?;
//!         if approved != Some(true) {
//!             return Err(OrchestrationError::new("NotApproved", "nobody approved it within a day"));
//!         }
//!     }
//!     Ok(ctx.call(print_label, &reserved).await?)
//! }
//!
//! let mut registry = Registry::new();
//! registry.register(place_order).register(reserve).register(print_label);
//! registry.state(Warehouse());
//! registry.check().unwrap(); // names everything that is missing
//! ```

// The macros' code names the crate from outside, in this crate's own tests too.
#[cfg(test)]
extern crate self as durable_core;

/// The programs of the guide, so that they compile and do what is said.
#[cfg(all(doctest, feature = "testing"))]
mod guide {
    #[doc = include_str!("../../docs/guide/first-workflow.md")]
    struct FirstWorkflow;
    #[doc = include_str!("../../docs/guide/activities.md")]
    struct Activities;
    #[doc = include_str!("../../docs/guide/clients.md")]
    struct Clients;
    #[doc = include_str!("../../docs/guide/determinism.md")]
    struct Determinism;
    #[doc = include_str!("../../docs/guide/errors.md")]
    struct Errors;
    #[doc = include_str!("../../docs/guide/timers-and-events.md")]
    struct TimersAndEvents;
    #[doc = include_str!("../../docs/guide/children.md")]
    struct Children;
    #[doc = include_str!("../../docs/guide/testing.md")]
    struct Testing;
    #[doc = include_str!("../../docs/guide/versioning.md")]
    struct Versioning;
    #[doc = include_str!("../../docs/guide/operations.md")]
    struct Operations;
    #[cfg(feature = "http")]
    #[doc = include_str!("../../docs/guide/http.md")]
    struct Http;
}

mod activity;
mod client;
mod error;
#[cfg(feature = "http")]
pub mod http;
mod ids;
mod orchestration;
pub mod prelude;
mod registry;
pub mod store;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod worker;

pub use durable_machine as machine;
pub use durable_machine::model::{
    DeadLetter, Failure, FailureClass, HubName, InstanceId, InvalidName, ParentClose, Payload,
    RetryPolicy,
};
pub use futures::future::Either;

pub use activity::{
    Activity, ActivityContext, ActivityReturn, CancelHandle, FromStates, MissingState, State,
    StateType, States,
};
pub use client::{
    Client, ClientError, Handle, History, HistoryFile, InstancePage, InstanceStatus, Instances,
    Purge, Purged, RaiseEvent, Restart, Start,
};
pub use durable_machine::model::{Event, EventKind, Hold, HoldReason, RunNumber, RuntimeStatus};
pub use durable_machine::store::{ListQuery, ListToken};
pub use error::{ActivityError, CallError, OrchestrationError};
pub use ids::IntoInstanceId;
pub use orchestration::{
    Call, CancelAll, CancelledCall, Child, EventName, JoinNext, JoinSet, OrchestrationContext,
    Orchestrator, OrchestratorReturn, Race, RaceAll, RandomInteger, Saga, Scope, Sleep, TryJoinAll,
    WaitEvent, WaitEventTimeout,
};
pub use registry::{
    ActivityFn, ActivityFuture, AsyncActivityFn, BlockingActivityFn, Register, Registry,
    RegistryError, RegistryProblem,
};
pub use store::{MemoryStore, StoreError};
#[cfg(feature = "sqlite")]
pub use store::{SqliteOptions, SqliteStore};
pub use time::{days, hours, millis, minutes, secs};
pub use worker::{StartError, Worker, WorkerBuilder, WorkerFailed};

/// ```
/// use durable_core::prelude::*;
///
/// #[derive(Clone)]
/// struct Greeting(String);
///
/// #[activity]
/// async fn greet(State(greeting): State<Greeting>, name: String) -> Result<String, ActivityError> {
///     Ok(format!("{}, {name}!", greeting.0))
/// }
///
/// /// Runs on a thread where blocking is allowed.
/// #[activity(blocking, name = "FileSize")]
/// fn file_size(ctx: ActivityContext, path: std::path::PathBuf) -> Result<u64, ActivityError> {
///     ctx.check_cancelled()?;
///     Ok(std::fs::metadata(path)?.len())
/// }
///
/// assert_eq!((greet::NAME, file_size::NAME), ("greet", "FileSize"));
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// // In a unit test:
/// let greeting = greet.run(State(Greeting("Hello".into())), "Ada".into()).await.unwrap();
/// assert_eq!(greeting, "Hello, Ada!");
/// # });
/// ```
pub use durable_core_macros::activity;
/// ```
/// use durable_core::prelude::*;
///
/// #[activity]
/// async fn add((a, b): (i64, i64)) -> Result<i64, ActivityError> {
///     Ok(a + b)
/// }
///
/// /// Adds three numbers, one after the other.
/// #[orchestrator(name = "Sum")]
/// async fn sum(ctx: OrchestrationContext, three: [i64; 3]) -> Result<i64, OrchestrationError> {
///     let first = ctx.call(add, &(three[0], three[1])).await?;
///     Ok(ctx.call(add, &(first, three[2])).await?)
/// }
///
/// assert_eq!(sum::NAME, "Sum");
/// ```
pub use durable_core_macros::orchestrator;
