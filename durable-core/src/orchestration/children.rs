//! Child orchestrations.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use ::futures::future::FusedFuture;
use durable_machine::model::{
    Attempt, Failure, FailureClass, InstanceId, ParentClose, Payload, RetryPolicy, Timestamp,
};
use durable_machine::replay::{ChildCall, ChildOptions, Context, Timer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{CallError, Subject, name_failure, name_problem, payload_failure};
use crate::ids::IntoInstanceId;

/// A child orchestration; resolves to what it returns. Dropped before, it terminates the child, unless
/// [`parent_close`](Self::parent_close) says otherwise.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[orchestrator]
/// async fn ship(_: OrchestrationContext, parcel: u32) -> Result<String, OrchestrationError> {
///     match parcel {
///         0 => Err(OrchestrationError::new("Lost", "nobody knows where it is")),
///         parcel => Ok(format!("receipt {parcel}")),
///     }
/// }
///
/// #[orchestrator]
/// async fn place_order(ctx: OrchestrationContext, parcel: u32) -> Result<String, OrchestrationError> {
///     match ctx.child(ship, &parcel).await {
///         Ok(receipt) => Ok(receipt),
///         Err(error) if error.is("Lost") => Ok(format!("{} failed", error.child().unwrap())),
///         Err(error) => Err(error.into()),
///     }
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let hub = TestHub::new().register(place_order).register(ship);
/// assert_eq!(hub.start(place_order, 7).output().unwrap(), "receipt 7");
/// assert_eq!(hub.start(place_order, 0).output().unwrap(), "ship failed");
/// # }
/// ```
#[must_use = "a child is started when it is awaited, or by `detach`"]
pub struct Child<T> {
    context: Context,
    name: Arc<str>,
    /// Or why the child cannot be started.
    input: Result<Payload, Box<Failure>>,
    id: Option<InstanceId>,
    close: Option<ParentClose>,
    retry: Option<RetryPolicy>,
    time_limit: Option<Duration>,
    attempt: Attempt,
    first_at: Option<Timestamp>,
    step: Step,
    output: PhantomData<fn() -> T>,
}

enum Step {
    /// The next attempt is to be started.
    Asking,
    Running(ChildCall),
    /// The delay before the next attempt.
    Delayed(Timer),
    Done,
}

impl<T> Child<T> {
    pub(super) fn new(
        context: &Context,
        name: Arc<str>,
        input: &(impl Serialize + ?Sized),
    ) -> Self {
        let input = match name_problem(&name) {
            Some(problem) => Err(Box::new(name_failure(problem))),
            None => {
                Payload::of(input).map_err(|error| Box::new(payload_failure("its input", &error)))
            }
        };
        Self {
            context: context.clone(),
            name,
            input,
            id: None,
            close: None,
            retry: None,
            time_limit: None,
            attempt: Attempt::FIRST,
            first_at: None,
            step: Step::Asking,
            output: PhantomData,
        }
    }

    /// Chooses the child's instance id. The id of an active instance fails the call with the kind
    /// `InstanceInUse`; an instance that has ended is replaced.
    ///
    /// Without it the child gets an id that begins with its parent's and that no other child has.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn ship(_: OrchestrationContext, parcel: u32) -> Result<(), OrchestrationError> { Ok(()) }
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext, parcel: u32) -> Result<(), OrchestrationError> {
    ///     Ok(ctx.child(ship, &parcel).id(format!("parcel-{parcel}")).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place_order).register(ship);
    /// let order = hub.start(place_order, 7);
    /// order.output().unwrap();
    /// assert_eq!(hub.instance("parcel-7").status().parent(), Some(order.id()));
    /// # }
    /// ```
    pub fn id(mut self, id: impl IntoInstanceId) -> Self {
        match id.into_instance_id() {
            Ok(id) => self.id = Some(id),
            Err(error) => {
                let kind = "InvalidInstanceId";
                let failure = Failure::new(FailureClass::Payload, kind, error.to_string());
                self.input = Err(Box::new(failure.permanent()));
            }
        }
        self
    }

    /// How a child that failed is tried again: as a new instance each time, or, under an id of your choice, as a
    /// new run in place of the one that failed. Without it, it is not. The delays are durable timers.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn ship(_: OrchestrationContext, parcel: u32) -> Result<(), OrchestrationError> { Ok(()) }
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext, parcel: u32) -> Result<(), OrchestrationError> {
    ///     Ok(ctx.child(ship, &parcel).retry(RetryPolicy::fixed(minutes(10)).attempts(3)).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place_order).mock_child(ship, |child, _| match child.number() {
    ///     3 => Ok(()),
    ///     _ => Err(OrchestrationError::new("Lost", "nobody knows where it is")),
    /// });
    /// hub.start(place_order, 7).output().unwrap();
    /// assert_eq!(hub.elapsed(), minutes(20));
    /// # }
    /// ```
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// How long the child may take from its start to its end, all its executions together. If it has not ended by
    /// then, it fails with the kind `DeadlineExceeded`, as does this call, and is tried again as
    /// [`retry`](Self::retry) says. No code of the child runs any more then; see
    /// [`Start::time_limit`](crate::Start::time_limit).
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn ship(ctx: OrchestrationContext, parcel: u32) -> Result<(), OrchestrationError> {
    /// #     ctx.sleep(days(30)).await;
    /// #     Ok(())
    /// # }
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext, parcel: u32) -> Result<bool, OrchestrationError> {
    ///     match ctx.child(ship, &parcel).time_limit(days(7)).await {
    ///         Err(error) if error.is("DeadlineExceeded") => Ok(false),
    ///         shipped => Ok(shipped.map(|()| true)?),
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place_order).register(ship);
    /// assert!(!hub.start(place_order, 7).output().unwrap());
    /// assert_eq!(hub.elapsed(), days(7));
    /// # }
    /// ```
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// What becomes of the child when nobody waits for it any more, because its parent has ended or this future
    /// was dropped. A child that is awaited is terminated, one that was [detached](Self::detach) goes on, where
    /// nothing else is said.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn audit(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    ///     ctx.sleep(days(1)).await;
    ///     Ok(())
    /// }
    ///
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    ///     let child = ctx.child(audit, &()).id("audit-7").parent_close(ParentClose::Abandon);
    ///     ctx.race(child, ctx.sleep(hours(1))).await; // an hour is enough for this one
    ///     Ok(())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place_order).register(audit);
    /// hub.start(place_order, ()).output().unwrap();
    /// hub.run();
    /// assert_eq!(hub.instance("audit-7").status().runtime_status(), RuntimeStatus::Completed);
    /// # }
    /// ```
    pub fn parent_close(mut self, close: ParentClose) -> Self {
        self.close = Some(close);
        self
    }

    /// Starts the child and does not wait for it. Returns its instance id; whether it can begin is not known yet.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn send_report(_: OrchestrationContext, day: u32) -> Result<(), OrchestrationError> { Ok(()) }
    /// #[orchestrator]
    /// async fn close_day(ctx: OrchestrationContext, day: u32) -> Result<String, OrchestrationError> {
    ///     let report = ctx.child(send_report, &day).detach()?;
    ///     Ok(report.to_string())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(close_day).register(send_report);
    /// let report = hub.start(close_day, 7).output().unwrap();
    /// hub.run();
    /// assert_eq!(hub.instance(report).status().runtime_status(), RuntimeStatus::Completed);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Where the instance id or the name breaks a rule, or the input has no JSON form or is too large.
    pub fn detach(self) -> Result<InstanceId, CallError> {
        let failed = |failure| CallError::new(Subject::Child(self.name.clone()), failure);
        let input = self.input.map_err(|failure| failed(*failure))?;
        let close = self.close.unwrap_or(ParentClose::Abandon);
        let options = ChildOptions { id: self.id, close, time_limit: self.time_limit };
        self.context.start_child(self.name.clone(), input, options).map_err(failed)
    }

    fn begin(&mut self) -> Result<ChildCall, Failure> {
        let input = self.input.clone().map_err(|failure| *failure)?;
        let (close, time_limit) = (self.close.unwrap_or_default(), self.time_limit);
        let options = ChildOptions { id: self.id.clone(), close, time_limit };
        self.first_at.get_or_insert(self.context.now());
        Ok(self.context.child(self.name.clone(), input, options))
    }

    /// When the next attempt may begin, if there is one.
    fn next_attempt(&self, failure: &Failure) -> Option<Timestamp> {
        // The 53 bits of an f64's precision.
        const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
        let policy = self.retry.as_ref()?;
        let random = (self.context.random() >> 11) as f64 * SCALE;
        let now = self.context.now();
        policy.next_attempt(self.attempt, failure, self.first_at.unwrap_or(now), now, random)
    }
}

impl<T: DeserializeOwned> Future for Child<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let result = loop {
            match &mut this.step {
                Step::Asking => match this.begin() {
                    Ok(call) => this.step = Step::Running(call),
                    Err(failure) => break Err(failure),
                },
                Step::Running(call) => match Pin::new(call).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(output)) => {
                        break output.to().map_err(|error| payload_failure("its output", &error));
                    }
                    Poll::Ready(Err(failure)) => match this.next_attempt(&failure) {
                        Some(at) => {
                            this.attempt = this.attempt.next();
                            this.step = Step::Delayed(this.context.timer(at));
                        }
                        None => break Err(failure),
                    },
                },
                Step::Delayed(timer) => match Pin::new(timer).poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => this.step = Step::Asking,
                },
                Step::Done => return Poll::Pending,
            }
        };
        this.step = Step::Done;
        let failed = |failure| CallError::new(Subject::Child(this.name.clone()), failure);
        Poll::Ready(result.map_err(failed))
    }
}

impl<T: DeserializeOwned> FusedFuture for Child<T> {
    fn is_terminated(&self) -> bool {
        matches!(self.step, Step::Done)
    }
}
