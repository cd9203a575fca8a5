//! Calls and timers.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use ::futures::future::FusedFuture;
use durable_machine::model::{ActivityOptions, Failure, Payload, RetryPolicy};
use durable_machine::replay::{ActivityCall, Context, Timer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{CallError, Subject, name_failure, name_problem, payload_failure};

/// A call of an activity; resolves to what the activity returns. Dropped before, it cancels the call.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[activity]
/// async fn price(item: String) -> Result<u32, ActivityError> {
///     match item.as_str() {
///         "a lamp" => Ok(4_900),
///         _ => Err(ActivityError::new("Unknown", "there is no such item").permanent()),
///     }
/// }
///
/// #[orchestrator]
/// async fn quote(ctx: OrchestrationContext, item: String) -> Result<u32, OrchestrationError> {
///     let policy = RetryPolicy::exponential(secs(1)).attempts(5);
///     match ctx.call(price, &item).retry(policy).timeout(secs(30)).await {
///         Ok(cents) => Ok(cents),
///         Err(error) if error.is("Unknown") => Ok(0),
///         Err(error) => Err(error.into()),
///     }
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let hub = TestHub::new().register(quote).register(price);
/// assert_eq!(hub.start(quote, "a lamp".into()).output().unwrap(), 4_900);
/// assert_eq!(hub.start(quote, "a unicorn".into()).output().unwrap(), 0);
/// assert_eq!(hub.calls(price).len(), 2); // the permanent error was not retried
/// # }
/// ```
#[must_use = "a call is made when it is awaited"]
pub struct Call<T> {
    activity: Arc<str>,
    step: Step,
    output: PhantomData<fn() -> T>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are the large one, and a box costs each call"
)]
enum Step {
    Calling(ActivityCall),
    /// The call could not be made.
    Refused(Box<Failure>),
    Done,
}

impl<T> Call<T> {
    pub(super) fn new(
        context: &Context,
        activity: Arc<str>,
        input: &(impl Serialize + ?Sized),
    ) -> Self {
        let step = match (name_problem(&activity), Payload::of(input)) {
            (None, Ok(input)) => {
                Step::Calling(context.activity(activity.clone(), input, ActivityOptions::default()))
            }
            (Some(problem), _) => Step::Refused(Box::new(name_failure(problem))),
            (None, Err(error)) => Step::Refused(Box::new(payload_failure("its input", &error))),
        };
        Self { activity, step, output: PhantomData }
    }

    /// How failures are retried. Without it, they are not. Has no effect on a call that was awaited.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn price(item: String) -> Result<u32, ActivityError> { Ok(4_900) }
    /// #[orchestrator]
    /// async fn quote(ctx: OrchestrationContext, item: String) -> Result<u32, OrchestrationError> {
    ///     Ok(ctx.call(price, &item).retry(RetryPolicy::fixed(minutes(1)).attempts(3)).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(quote).mock(price, |call, _| match call.attempt() {
    ///     1 | 2 => Err(ActivityError::new("Busy", "try again")),
    ///     _ => Ok(4_900),
    /// });
    /// assert_eq!(hub.start(quote, "a lamp".into()).output().unwrap(), 4_900);
    /// assert_eq!(hub.elapsed(), minutes(2));
    /// # }
    /// ```
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        if let Some(options) = self.options() {
            options.retry = Some(policy);
        }
        self
    }

    /// How long one attempt may take from its start to its end; one that takes longer is cancelled, fails
    /// with the kind `Timeout`, and is retried as the policy says.
    ///
    /// To bound the call as a whole, [`race`](super::OrchestrationContext::race) it with a
    /// [`sleep`](super::OrchestrationContext::sleep).
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn price(item: String) -> Result<u32, ActivityError> { Ok(4_900) }
    /// #[orchestrator]
    /// async fn quote(ctx: OrchestrationContext, item: String) -> Result<u32, OrchestrationError> {
    ///     Ok(ctx.call(price, &item).timeout(secs(30)).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(quote).mock(price, |call, _| {
    ///     call.takes(hours(1));
    ///     Ok::<_, ActivityError>(4_900)
    /// });
    /// assert!(hub.start(quote, "a lamp".into()).output().unwrap_err().is("Timeout"));
    /// assert_eq!(hub.elapsed(), secs(30));
    /// # }
    /// ```
    pub fn timeout(mut self, attempt: Duration) -> Self {
        if let Some(options) = self.options() {
            options.start_to_finish = Some(attempt);
        }
        self
    }

    /// How long one attempt may go on without a heartbeat
    /// ([`ActivityContext::heartbeat`](crate::ActivityContext::heartbeat), or
    /// [`beat`](crate::ActivityContext::beat)); one that is silent for longer is cancelled, fails with the kind
    /// `HeartbeatTimeout`, and is retried as the policy says.
    ///
    /// So an attempt that hangs is noticed long before the [`timeout`](Self::timeout) of one that takes its time.
    pub fn heartbeat_timeout(mut self, silence: Duration) -> Self {
        if let Some(options) = self.options() {
            options.heartbeat_timeout = Some(silence);
        }
        self
    }

    /// Says that it takes back what an earlier call did.
    pub(super) fn compensating(mut self) -> Self {
        if let Some(options) = self.options() {
            options.compensates = true;
        }
        self
    }

    fn options(&mut self) -> Option<&mut ActivityOptions> {
        match &mut self.step {
            Step::Calling(call) => call.options(),
            Step::Refused(_) | Step::Done => None,
        }
    }
}

impl<T: DeserializeOwned> Future for Call<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let result = match &mut this.step {
            Step::Calling(call) => match Pin::new(call).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(output)) => {
                    output.to().map_err(|error| payload_failure("its output", &error))
                }
                Poll::Ready(Err(failure)) => Err(failure),
            },
            Step::Refused(failure) => Err((**failure).clone()),
            Step::Done => return Poll::Pending,
        };
        this.step = Step::Done;
        Poll::Ready(
            result.map_err(|failure| {
                CallError::new(Subject::Activity(this.activity.clone()), failure)
            }),
        )
    }
}

impl<T: DeserializeOwned> FusedFuture for Call<T> {
    fn is_terminated(&self) -> bool {
        matches!(self.step, Step::Done)
    }
}

/// A durable timer. Dropped before it fires, it is removed.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn two_naps(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
///     // Both run from here on: together they take the longer one's time.
///     let (short, long) = (ctx.sleep(hours(1)), ctx.sleep(hours(2)));
///     ctx.join_all([short, long]).await;
///     Ok(())
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let hub = TestHub::new().register(two_naps);
/// hub.start(two_naps, ()).output().unwrap();
/// assert_eq!(hub.elapsed(), hours(2));
/// # }
/// ```
#[must_use = "a timer is set when it is awaited"]
pub struct Sleep(Option<Timer>);

impl Sleep {
    pub(super) fn new(timer: Timer) -> Self {
        Self(Some(timer))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Some(timer) = &mut self.0 else { return Poll::Pending };
        let polled = Pin::new(timer).poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl FusedFuture for Sleep {
    fn is_terminated(&self) -> bool {
        self.0.is_none()
    }
}
