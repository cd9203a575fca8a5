//! What a program with durable workflows uses: `use durable_core::prelude::*;`
//!
//! ```
//! use durable_core::prelude::*;
//!
//! #[orchestrator]
//! async fn nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
//!     ctx.sleep(millis(1)).await;
//!     Ok(())
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let worker = Worker::builder(MemoryStore::new()).register(nap).start().await?;
//! worker.client().start(nap, ()).await?.output().await?;
//! # Ok(())
//! # }
//! ```

pub use std::time::Duration;

pub use durable_machine::model::{
    FailureClass, InstanceId, ParentClose, Payload, RetryPolicy, RuntimeStatus,
};
pub use futures::future::Either;
pub use serde_json::json;

pub use crate::activity::{Activity, ActivityContext, State};
pub use crate::client::{Client, ClientError, Handle};
pub use crate::error::{ActivityError, CallError, OrchestrationError};
pub use crate::orchestration::{EventName, OrchestrationContext, Orchestrator};
pub use crate::registry::Registry;
pub use crate::store::MemoryStore;
#[cfg(feature = "sqlite")]
pub use crate::store::SqliteStore;
pub use crate::time::{days, hours, millis, minutes, secs};
pub use crate::worker::Worker;
pub use crate::{activity, orchestrator};
