//! What runs in the place of an activity, and what was asked of it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use durable_machine::model::{Failure, InstanceId, Payload, StartAttempt, Timestamp, limits};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::activity::{Activity, ActivityReturn};
use crate::error::{ActivityError, OrchestrationError, payload_failure};
use crate::orchestration::{Orchestrator, OrchestratorReturn};
use crate::time::to_utc;

/// A mocked child is an instance whose code makes one call, of this and the child's name.
pub(super) const MOCK_OF_CHILD: &str = "the mock of child ";

/// Runs in the place of an activity, or of a child.
pub(super) type Mock = Rc<dyn Fn(&MockCall, Payload) -> Result<Payload, Failure>>;

/// The attempt that a mock answers, or the child.
///
/// ```
/// use durable_core::prelude::*;
/// use durable_core::testing::TestHub;
/// # #[activity]
/// # async fn price(item: String) -> Result<u32, ActivityError> { Ok(4_900) }
/// # #[orchestrator]
/// # async fn quote(ctx: OrchestrationContext, item: String) -> Result<u32, OrchestrationError> {
/// #     Ok(ctx.call(price, &item).retry(RetryPolicy::fixed(minutes(1)).attempts(3)).timeout(minutes(2)).await?)
/// # }
///
/// let hub = TestHub::new().register(quote).mock(price, |call, item| {
///     assert_eq!((call.instance_id().as_str(), item.as_str()), ("test-1", "a lamp"));
///     match call.attempt() {
///         1 => call.takes(hours(1)), // too long: it fails after two minutes
///         attempt => assert_eq!(call.number(), attempt),
///     }
///     assert!(call.now().to_rfc3339().starts_with("2025-01-01T00:0"));
///     Ok::<_, ActivityError>(4_900)
/// });
/// assert_eq!(hub.start(quote, "a lamp".into()).output().unwrap(), 4_900);
/// assert_eq!(hub.elapsed(), minutes(3));
/// ```
#[derive(Debug)]
pub struct MockCall {
    instance: InstanceId,
    attempt: u32,
    number: u32,
    at: Timestamp,
    takes: Cell<Duration>,
    before: Option<Payload>,
    heartbeats: RefCell<Vec<(Duration, Option<Payload>)>>,
}

impl MockCall {
    pub(super) fn new(start: &StartAttempt, number: u32, at: Timestamp) -> Self {
        Self {
            instance: start.attempt.key.instance.clone(),
            attempt: start.attempt.attempt.0,
            number,
            at,
            takes: Cell::new(Duration::ZERO),
            before: start.heartbeat_details.clone(),
            heartbeats: RefCell::default(),
        }
    }

    /// The instance whose orchestrator made the call; in the mock of a child, that child.
    #[must_use]
    pub fn instance_id(&self) -> &InstanceId {
        &self.instance
    }

    /// Which attempt of the call this is, from 1. A child that is tried again is another one, and this is 1 each
    /// time.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// How often this activity was begun in the hub, this time included: attempts of all calls. In the mock of a
    /// child: how many of this orchestrator were begun.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The hub's clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        to_utc(self.at)
    }

    /// Says how long the attempt takes, in virtual time, or the child; none, where nothing is said. One that takes
    /// longer than its limit fails by that.
    pub fn takes(&self, duration: Duration) {
        self.takes.set(duration);
    }

    /// Says how far the attempt is, as [`ActivityContext::heartbeat`](crate::ActivityContext::heartbeat) does: at
    /// the time that it [takes](Self::takes) by what was said before.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    ///
    /// #[activity]
    /// async fn import(rows: u32) -> Result<u32, ActivityError> {
    ///     unimplemented!("imports {rows} rows")
    /// }
    ///
    /// #[orchestrator]
    /// async fn nightly(ctx: OrchestrationContext, rows: u32) -> Result<u32, OrchestrationError> {
    ///     let policy = RetryPolicy::fixed(secs(5)).attempts(3);
    ///     Ok(ctx.call(import, &rows).retry(policy).heartbeat_timeout(secs(30)).await?)
    /// }
    ///
    /// let hub = TestHub::new().register(nightly).mock(import, |call, rows| {
    ///     let done: u32 = call.heartbeat_details().unwrap_or(0);
    ///     if done == 0 {
    ///         call.takes(secs(10));
    ///         call.heartbeat(&600); // … and then it hangs.
    ///         call.takes(hours(8));
    ///     }
    ///     Ok::<_, ActivityError>(rows - done)
    /// });
    /// assert_eq!(hub.start(nightly, 1_000).output().unwrap(), 400);
    /// assert_eq!(hub.elapsed(), secs(10 + 30 + 5));
    /// ```
    ///
    /// # Panics
    ///
    /// If the details have no JSON form, or are larger than a real attempt's may be.
    pub fn heartbeat(&self, details: &(impl Serialize + ?Sized)) {
        let details = Payload::of(details);
        let details = details.unwrap_or_else(|error| panic!("details of a heartbeat: {error}"));
        assert!(
            details.bytes() <= limits::HEARTBEAT_DETAILS_BYTES_MAX,
            "details of a heartbeat have {} bytes; at most {} fit",
            details.bytes(),
            limits::HEARTBEAT_DETAILS_BYTES_MAX
        );
        self.says(Some(details));
    }

    /// Says that the attempt goes on, and nothing else.
    pub fn beat(&self) {
        self.says(None);
    }

    /// What an earlier attempt of the call reported last.
    ///
    /// # Panics
    ///
    /// If that has another shape.
    pub fn heartbeat_details<T: DeserializeOwned>(&self) -> Option<T> {
        let details = self.before.as_ref().map(Payload::to).transpose();
        details.unwrap_or_else(|error| panic!("details of a heartbeat: {error}"))
    }

    pub(super) fn says(&self, details: Option<Payload>) {
        self.heartbeats.borrow_mut().push((self.takes.get(), details));
    }

    pub(super) fn heartbeats(&self) -> Vec<(Duration, Option<Payload>)> {
        self.heartbeats.take()
    }

    pub(super) fn duration(&self) -> Duration {
        self.takes.get()
    }
}

/// A mock that knows the activity's types.
pub(super) fn typed<A: Activity, R: ActivityReturn<Output = A::Output>>(
    mock: impl Fn(&MockCall, A::Input) -> R + 'static,
) -> Mock {
    Rc::new(move |call, input| {
        let input = input.to().map_err(|error| {
            payload_failure(format_args!("the input of activity {:?}", A::NAME), &error)
        })?;
        let output = mock(call, input).into_result().map_err(ActivityError::into_failure)?;
        Payload::of(&output).map_err(|error| {
            payload_failure(format_args!("the output of activity {:?}", A::NAME), &error)
        })
    })
}

/// A mock that knows the types of a child.
pub(super) fn typed_child<O: Orchestrator, R: OrchestratorReturn<Output = O::Output>>(
    mock: impl Fn(&MockCall, O::Input) -> R + 'static,
) -> Mock {
    Rc::new(move |call, input| {
        let input = input.to().map_err(|error| {
            payload_failure(format_args!("the input of orchestrator {:?}", O::NAME), &error)
        })?;
        let output = mock(call, input).into_result().map_err(OrchestrationError::into_failure)?;
        Payload::of(&output).map_err(|error| {
            payload_failure(format_args!("the output of orchestrator {:?}", O::NAME), &error)
        })
    })
}

/// An attempt that was begun.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    pub(super) start: StartAttempt,
    pub(super) at: Timestamp,
    pub(super) result: Result<Payload, Failure>,
}

/// One attempt of an activity, as a test looks at it.
///
/// ```
/// use durable_core::prelude::*;
/// use durable_core::testing::TestHub;
/// # #[activity]
/// # async fn charge(cents: u32) -> Result<u32, ActivityError> { Ok(cents) }
/// # #[orchestrator]
/// # async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
/// #     Ok(ctx.call(charge, &cents).retry(RetryPolicy::fixed(minutes(1)).attempts(3)).await?)
/// # }
///
/// let hub = TestHub::new().register(pay).mock(charge, |call, cents| match call.attempt() {
///     1 => Err(ActivityError::new("Busy", "try again")),
///     _ => Ok(cents),
/// });
/// hub.start(pay, 700).output().unwrap();
/// let [first, second] = &hub.calls(charge)[..] else { panic!("it is tried twice") };
/// assert_eq!((first.input, first.error.as_deref()), (700, Some("Busy")));
/// assert_eq!((second.attempt, second.began, &second.error), (2, minutes(1), &None));
/// assert_eq!(second.to_string(), "700 by test-1, attempt 2");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct TestCall<I> {
    /// The instance whose orchestrator made the call.
    pub instance: InstanceId,
    /// What the activity was called with.
    pub input: I,
    /// Which attempt of the call it was, from 1.
    pub attempt: u32,
    /// How long after the hub's start it began.
    pub began: Duration,
    /// What it was told that an earlier attempt had reported last.
    pub heartbeat_details: Option<Payload>,
    /// The kind of its error; `None` where it succeeded.
    pub error: Option<String>,
}

impl<I: DeserializeOwned> TestCall<I> {
    /// # Panics
    ///
    /// If the recorded input has another shape.
    pub(super) fn of(begun: &Begun, since: Timestamp) -> Self {
        let input = begun.start.input.to().unwrap_or_else(|error| {
            panic!("an input of activity {:?} has another shape: {error}", begun.start.name)
        });
        Self {
            instance: begun.start.attempt.key.instance.clone(),
            input,
            attempt: begun.start.attempt.attempt.0,
            began: begun.at.since(since),
            heartbeat_details: begun.start.heartbeat_details.clone(),
            error: begun.result.as_ref().err().map(|failure| failure.kind.clone()),
        }
    }
}

impl<I: fmt::Debug> fmt::Display for TestCall<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {}, attempt {}", self.input, self.instance, self.attempt)
    }
}
