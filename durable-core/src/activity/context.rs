//! What an activity knows about its call.

use std::fmt;
use std::sync::Arc;

use durable_machine::model::{
    Attempt, CallNumber, ExecutionKey, ExecutionNumber, Failure, FailureClass, InstanceId,
    RunNumber,
};

use super::cancel::{self, CancelHandle, Cancelled};
use crate::error::ActivityError;

/// The call that an activity works for. Cheap to clone, also into tasks and threads.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[activity]
/// async fn charge(ctx: ActivityContext, cents: u32) -> Result<String, ActivityError> {
///     // A payment service that takes such keys does a thing once for each.
///     let key = ctx.idempotency_key();
///     Ok(format!("{cents} for {} by the key {key}, attempt {}", ctx.instance_id(), ctx.attempt()))
/// }
///
/// #[orchestrator]
/// async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<String, OrchestrationError> {
///     Ok(ctx.call(charge, &cents).await?)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(pay).register(charge).start().await?;
/// # let client = worker.client();
/// let paid = client.start(pay, 700).id("order-7").await?.output().await?;
/// assert!(paid.starts_with("700 for order-7 by the key ") && paid.ends_with(", attempt 1"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ActivityContext {
    shared: Arc<Shared>,
}

struct Shared {
    key: ExecutionKey,
    call: CallNumber,
    activity: Arc<str>,
    attempt: Attempt,
    cancelled: Cancelled,
}

impl ActivityContext {
    pub(crate) fn new(
        key: ExecutionKey,
        call: CallNumber,
        activity: Arc<str>,
        attempt: Attempt,
    ) -> (Self, CancelHandle) {
        let (handle, cancelled) = cancel::channel();
        let shared = Arc::new(Shared { key, call, activity, attempt, cancelled });
        (Self { shared }, handle)
    }

    /// A context for unit tests: call 0, attempt 1, of an instance named `test`; never cancelled.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// #[activity]
    /// async fn greet(ctx: ActivityContext, name: String) -> Result<String, ActivityError> {
    ///     Ok(format!("Hello, {name}, attempt {}!", ctx.attempt()))
    /// }
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let greeting = greet.run(ActivityContext::for_test(1), "Ada".into()).await.unwrap();
    /// assert_eq!(greeting, "Hello, Ada, attempt 1!");
    /// # });
    /// ```
    #[must_use]
    pub fn for_test(attempt: u32) -> Self {
        Self::for_test_cancellable(attempt).0
    }

    /// Like [`for_test`](Self::for_test), with the handle that cancels it.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// let (context, handle) = ActivityContext::for_test_cancellable(3);
    /// assert_eq!((context.instance_id().as_str(), context.attempt()), ("test", 3));
    /// assert!(!context.is_cancelled());
    /// handle.cancel();
    /// assert!(context.is_cancelled());
    /// ```
    ///
    /// # Panics
    ///
    /// Never: the instance id is valid.
    #[must_use]
    pub fn for_test_cancellable(attempt: u32) -> (Self, CancelHandle) {
        let key = ExecutionKey {
            instance: InstanceId::new("test").expect("four letters are a valid id"),
            run: RunNumber(1),
            execution: ExecutionNumber(0),
        };
        Self::new(key, CallNumber(0), "test".into(), Attempt(attempt))
    }

    /// The instance whose orchestrator made the call.
    #[must_use]
    pub fn instance_id(&self) -> &InstanceId {
        &self.shared.key.instance
    }

    /// Its run.
    #[must_use]
    pub fn run(&self) -> RunNumber {
        self.shared.key.run
    }

    /// The execution of that run.
    #[must_use]
    pub fn execution(&self) -> ExecutionNumber {
        self.shared.key.execution
    }

    /// The call's number in that execution.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// let context = ActivityContext::for_test(1);
    /// assert_eq!((context.run().0, context.execution().0, context.call().0), (1, 0, 0));
    /// assert_eq!(context.activity(), "test");
    /// ```
    #[must_use]
    pub fn call(&self) -> CallNumber {
        self.shared.call
    }

    /// The name by which this activity was called.
    #[must_use]
    pub fn activity(&self) -> &str {
        &self.shared.activity
    }

    /// Which attempt this is, from 1. One attempt runs again under the same number when its worker died.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.shared.attempt.0
    }

    /// A key that names this call and no other: for services that do a thing once for each key.
    ///
    /// It is the same in every attempt, on every worker. It has the form of a UUID, so that it fits
    /// wherever such keys are taken.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// let (first, second) = (ActivityContext::for_test(1), ActivityContext::for_test(2));
    /// assert_eq!(first.idempotency_key(), second.idempotency_key()); // attempts of one call
    /// assert_eq!(first.idempotency_key().len(), 36);
    /// ```
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let Shared { key, call, .. } = &*self.shared;
        let hash = key.digest("idempotency", *call);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
    }

    /// Whether the result is no longer wanted: the orchestrator dropped the call or ended, the attempt ran
    /// out of time, or the worker stops.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.is_set()
    }

    /// Waits until the result is no longer wanted.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// #[activity]
    /// async fn download(ctx: ActivityContext) -> Result<bool, ActivityError> {
    ///     let whole_file = std::future::pending::<()>(); // a slow one
    ///     tokio::select! {
    ///         () = whole_file => Ok(true),
    ///         () = ctx.cancelled() => Ok(false), // leave nothing half done
    ///     }
    /// }
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let (context, handle) = ActivityContext::for_test_cancellable(1);
    /// handle.cancel();
    /// assert!(!download.run(context).await.unwrap());
    /// # });
    /// ```
    pub async fn cancelled(&self) {
        self.shared.cancelled.wait().await;
    }

    /// An error, as soon as the result is no longer wanted: for loops and blocking activities, with `?`.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// #[activity(blocking)]
    /// fn add_up(ctx: ActivityContext, numbers: Vec<u64>) -> Result<u64, ActivityError> {
    ///     let mut sum = 0;
    ///     for number in numbers {
    ///         ctx.check_cancelled()?;
    ///         sum += number;
    ///     }
    ///     Ok(sum)
    /// }
    ///
    /// let (context, handle) = ActivityContext::for_test_cancellable(1);
    /// assert_eq!(add_up.run(context.clone(), vec![1, 2, 3]).unwrap(), 6);
    /// handle.cancel();
    /// assert!(add_up.run(context, vec![1, 2, 3]).unwrap_err().is("Cancelled"));
    /// ```
    ///
    /// # Errors
    ///
    /// An error of kind `Cancelled`.
    pub fn check_cancelled(&self) -> Result<(), ActivityError> {
        if self.is_cancelled() {
            Err(ActivityError::from_failure(Failure::new(
                FailureClass::Cancelled,
                "Cancelled",
                "the result of this attempt is no longer wanted",
            )))
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for ActivityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActivityContext")
            .field("activity", &self.shared.activity)
            .field("key", &self.shared.key)
            .field("call", &self.shared.call)
            .field("attempt", &self.shared.attempt)
            .finish_non_exhaustive()
    }
}
