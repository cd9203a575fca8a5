//! What a client is told when it does not get what it asked for.

use std::time::Duration;

use durable_machine::model::{Failure, InstanceId, InvalidName, RuntimeStatus};

use crate::store::StoreError;

/// Why a client call did not give what was asked for.
///
/// ```
/// use durable_core::prelude::*;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = Client::new(MemoryStore::new());
/// let error = client.instance("order-7")?.terminate("stop").await.unwrap_err();
/// match &error {
///     ClientError::NotFound(instance) => assert_eq!(instance.as_str(), "order-7"),
///     ClientError::Ended { status, .. } => println!("too late, it is {status}"),
///     other => panic!("{other}"),
/// }
/// assert_eq!(error.to_string(), "there is no instance \"order-7\"");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No instance has the id.
    #[error("there is no instance {0:?}")]
    NotFound(InstanceId),
    /// The instance has ended, so nothing reaches it any more.
    #[error("instance {instance:?} has ended ({status})")]
    Ended {
        /// The instance.
        instance: InstanceId,
        /// How it ended.
        status: RuntimeStatus,
    },
    /// Only an instance that has failed can be rewound.
    #[error("instance {instance:?} is {status}; only a failed one can be rewound")]
    NotFailed {
        /// The instance.
        instance: InstanceId,
        /// Its state.
        status: RuntimeStatus,
    },
    /// The instance has not ended: only what has ended can be purged.
    #[error(
        "instance {instance:?} has not ended ({status}); terminate it first, or wait for its end"
    )]
    NotEnded {
        /// The instance.
        instance: InstanceId,
        /// Its state.
        status: RuntimeStatus,
    },
    /// A purge was accepted and is not over. It goes on by itself once a worker serves the hub; asked for again, it
    /// goes on from where it is.
    #[error(
        "the purge of instance {instance:?} is not over after {waited:?}; it goes on once a worker serves the hub"
    )]
    PurgeUnderWay {
        /// The instance.
        instance: InstanceId,
        /// How long nothing more of it happened.
        waited: Duration,
    },
    /// An active instance has the id, and the start was not to touch it.
    #[error(
        "instance {instance:?} is active ({status}); choose another id, or use_existing() or \
         replace_existing()"
    )]
    Active {
        /// The instance.
        instance: InstanceId,
        /// Its state.
        status: RuntimeStatus,
    },
    /// No live worker registers an orchestrator of that name.
    #[error("no worker of the hub registers an orchestrator {name:?}; they register: {}", known.join(", "))]
    UnknownOrchestrator {
        /// The name asked for.
        name: String,
        /// The names that are registered.
        known: Vec<String>,
    },
    /// The id breaks a rule.
    #[error("{0}")]
    InvalidId(#[from] InvalidName),
    /// A version or a tag breaks a rule.
    #[error("{0}")]
    InvalidLabel(String),
    /// A value cannot be written as JSON, is too large, or does not have the shape asked for.
    #[error("{0}")]
    Payload(String),
    /// The instance failed.
    #[error("instance {instance:?} failed: {failure}")]
    Failed {
        /// The instance.
        instance: InstanceId,
        /// Why.
        failure: Box<Failure>,
    },
    /// The instance was terminated, so there is no output.
    #[error("instance {instance:?} was terminated{}", reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Terminated {
        /// The instance.
        instance: InstanceId,
        /// The reason given.
        reason: Option<String>,
    },
    /// It took longer than the caller wanted to wait. Nothing was undone.
    #[error("waiting for instance {instance:?} was given up after {waited:?}; it goes on")]
    TimedOut {
        /// The instance.
        instance: InstanceId,
        /// How long was waited.
        waited: Duration,
    },
    /// The run that was asked for has given way to a later run of the same id.
    #[error("instance {0:?} was started anew; the run that was asked for is gone")]
    Replaced(InstanceId),
    /// The instance holds as many unconsumed events as it may.
    #[error("instance {0:?} holds as many unconsumed events as it may; let it consume some")]
    TooManyEvents(InstanceId),
    /// Too much waits for storage already. Nothing was taken; try again.
    #[error("the hub is overloaded: storage does not keep up; try again later")]
    Overloaded,
    /// The worker said no.
    #[error("{0}")]
    Refused(String),
    /// The worker ended before it could answer. Whether the call took effect is not known: look at the
    /// status, or repeat it with the same instance or event id.
    #[error("the worker ended before it answered; whether the call took effect is not known")]
    Unanswered,
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
