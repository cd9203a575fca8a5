//! What an activity knows about its call.

use std::fmt;
use std::sync::Arc;

use durable_machine::model::limits;
use durable_machine::model::{
    Attempt, AttemptKey, CallNumber, ExecutionKey, ExecutionNumber, Failure, FailureClass,
    InstanceId, Payload, RunNumber, StartAttempt,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cancel::{self, CancelHandle, Cancelled};
use super::heartbeat::{Heartbeats, Listener};
use crate::error::{ActivityError, payload_failure};

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
    attempt: AttemptKey,
    activity: Arc<str>,
    cancelled: Cancelled,
    heartbeats: Heartbeats,
}

impl ActivityContext {
    /// `listener` is told when the attempt reports something, unless that was not fetched yet.
    pub(crate) fn new(
        start: &StartAttempt,
        listener: Option<Arc<dyn Listener>>,
    ) -> (Self, CancelHandle) {
        let (attempt, activity) = (start.attempt.clone(), start.name.clone());
        let heartbeats = Heartbeats::new(start.heartbeat_details.clone(), listener);
        let (handle, cancelled) = cancel::channel();
        let shared = Arc::new(Shared { attempt, activity, cancelled, heartbeats });
        (Self { shared }, handle)
    }

    fn of_test(attempt: u32, details: Option<Payload>) -> (Self, CancelHandle) {
        let key = ExecutionKey {
            instance: InstanceId::new("test").expect("four letters are a valid id"),
            run: RunNumber(1),
            execution: ExecutionNumber(0),
        };
        let start = StartAttempt {
            attempt: AttemptKey { key, call: CallNumber(0), attempt: Attempt(attempt) },
            name: "test".into(),
            input: Payload::null(),
            start_to_finish: None,
            heartbeat_timeout: None,
            heartbeat_details: details,
        };
        Self::new(&start, None)
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
        Self::of_test(attempt, None)
    }

    /// Like [`for_test`](Self::for_test), where an earlier attempt reported these details last.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// #[activity]
    /// async fn import(ctx: ActivityContext, rows: u32) -> Result<u32, ActivityError> {
    ///     let done: u32 = ctx.heartbeat_details()?.unwrap_or(0);
    ///     for row in done..rows {
    ///         // … and then:
    ///         ctx.heartbeat(&(row + 1))?;
    ///     }
    ///     Ok(rows - done)
    /// }
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let ctx = ActivityContext::for_test_resuming(2, &600);
    /// assert_eq!(import.run(ctx.clone(), 1_000).await.unwrap(), 400);
    /// assert_eq!(ctx.last_heartbeat::<u32>().unwrap(), Some(1_000));
    /// assert_eq!(ctx.heartbeat_count(), 400);
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// If the details have no JSON form.
    #[must_use]
    pub fn for_test_resuming(attempt: u32, details: &(impl Serialize + ?Sized)) -> Self {
        let details = Payload::of(details);
        let details = details.unwrap_or_else(|error| panic!("the details: {error}"));
        Self::of_test(attempt, Some(details)).0
    }

    /// The instance whose orchestrator made the call.
    #[must_use]
    pub fn instance_id(&self) -> &InstanceId {
        &self.shared.attempt.key.instance
    }

    /// Its run.
    #[must_use]
    pub fn run(&self) -> RunNumber {
        self.shared.attempt.key.run
    }

    /// The execution of that run.
    #[must_use]
    pub fn execution(&self) -> ExecutionNumber {
        self.shared.attempt.key.execution
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
        self.shared.attempt.call
    }

    /// The name by which this activity was called.
    #[must_use]
    pub fn activity(&self) -> &str {
        &self.shared.activity
    }

    /// Which attempt this is, from 1. One attempt runs again under the same number when its worker died.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.shared.attempt.attempt.0
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
        let AttemptKey { key, call, .. } = &self.shared.attempt;
        let hash = key.digest("idempotency", *call);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
    }

    /// Says that the attempt goes on and how far it is: the next attempt of this call, in whatever process, is
    /// given these details by [`heartbeat_details`](Self::heartbeat_details).
    ///
    /// Cheap, and never waits: only the latest details count, and they are stored every ten seconds
    /// ([`WorkerBuilder::heartbeat_delay`](crate::WorkerBuilder::heartbeat_delay)) while the attempt runs. An
    /// attempt that fails or runs out of time loses nothing of it; one whose process dies loses what it said
    /// after the last time that it was stored. When the call has its result the details are forgotten.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # async fn insert(row: &str) -> std::io::Result<()> { Ok(()) }
    /// #[activity]
    /// async fn import(ctx: ActivityContext, rows: Vec<String>) -> Result<(), ActivityError> {
    ///     let done: usize = ctx.heartbeat_details()?.unwrap_or(0);
    ///     for (at, row) in rows.iter().enumerate().skip(done) {
    ///         insert(row).await?;
    ///         ctx.heartbeat(&(at + 1))?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// #[orchestrator]
    /// async fn nightly(ctx: OrchestrationContext, rows: Vec<String>) -> Result<(), OrchestrationError> {
    ///     let policy = RetryPolicy::fixed(secs(5)).attempts(10);
    ///     Ok(ctx.call(import, &rows).retry(policy).heartbeat_timeout(secs(30)).await?)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Where the details have no JSON form or more than 16 KiB of it. Then nothing was said.
    pub fn heartbeat(&self, details: &(impl Serialize + ?Sized)) -> Result<(), ActivityError> {
        let what = "the details of a heartbeat";
        let details = Payload::of(details)
            .map_err(|error| ActivityError::from_failure(payload_failure(what, &error)))?;
        if details.bytes() > limits::HEARTBEAT_DETAILS_BYTES_MAX {
            return Err(ActivityError::from_failure(Failure::limit(format!(
                "{what} have {} bytes; at most {} fit. Say where to go on, and keep large data elsewhere",
                details.bytes(),
                limits::HEARTBEAT_DETAILS_BYTES_MAX
            ))));
        }
        self.shared.heartbeats.report(&self.shared.attempt, details);
        Ok(())
    }

    /// Says that the attempt goes on, and nothing else: for a call with a
    /// [`heartbeat_timeout`](crate::Call::heartbeat_timeout). What was reported before stands.
    pub fn beat(&self) {
        self.shared.heartbeats.beat();
    }

    /// What an earlier attempt of this call [reported](Self::heartbeat) last, or this one before its worker died;
    /// `None` where nobody did. The attempt's own heartbeats do not change it.
    ///
    /// # Errors
    ///
    /// Where the details have another shape: another version of the code reported them.
    pub fn heartbeat_details<T: DeserializeOwned>(&self) -> Result<Option<T>, ActivityError> {
        read(self.shared.heartbeats.before())
    }

    /// What this attempt has [reported](Self::heartbeat) last: for unit tests.
    ///
    /// # Errors
    ///
    /// Where the details have another shape.
    pub fn last_heartbeat<T: DeserializeOwned>(&self) -> Result<Option<T>, ActivityError> {
        read(self.shared.heartbeats.last().as_ref())
    }

    /// How often this attempt has said that it goes on, with details or without: for unit tests.
    #[must_use]
    pub fn heartbeat_count(&self) -> u64 {
        self.shared.heartbeats.count()
    }

    pub(crate) fn heartbeats(&self) -> &Heartbeats {
        &self.shared.heartbeats
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

fn read<T: DeserializeOwned>(details: Option<&Payload>) -> Result<Option<T>, ActivityError> {
    let read = details.map(Payload::to).transpose();
    read.map_err(|error| {
        ActivityError::from_failure(payload_failure("the details of a heartbeat", &error))
    })
}

impl fmt::Debug for ActivityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActivityContext")
            .field("activity", &self.shared.activity)
            .field("key", &self.shared.attempt.key)
            .field("call", &self.shared.attempt.call)
            .field("attempt", &self.shared.attempt.attempt)
            .finish_non_exhaustive()
    }
}
