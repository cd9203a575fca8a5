//! What an orchestrator is given.

use std::fmt;
use std::future::Future;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use ::futures::future::{Either, JoinAll, TryFuture, join_all};
use chrono::{DateTime, Utc};
use durable_machine::model::{
    ExecutionNumber, Failure, FailureClass, InstanceId, Payload, RunNumber, limits,
};
use durable_machine::replay::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Orchestrator;
use super::children::Child;
use super::combine::{Race, RaceAll, TryJoinAll};
use super::events::{EventName, WaitEvent};
use super::futures::{Call, Sleep};
use super::join_set::JoinSet;
use super::saga::Saga;
use crate::activity::Activity;
use crate::error::{
    CallError, OrchestrationError, Subject, name_failure, name_problem, payload_failure,
};
use crate::ids::IntoInstanceId;
use crate::time::{from_utc, to_utc};

/// The orchestrator's way to the world. Cheap to clone, also into helper functions and async blocks.
#[derive(Clone)]
pub struct OrchestrationContext {
    context: Context,
}

impl OrchestrationContext {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// The instance that runs.
    #[must_use]
    pub fn instance_id(&self) -> &InstanceId {
        &self.context.key().instance
    }

    /// Its run.
    #[must_use]
    pub fn run(&self) -> RunNumber {
        self.context.key().run
    }

    /// The execution of that run: 0 at first, one more after each [`continue_as_new`](Self::continue_as_new).
    #[must_use]
    pub fn execution(&self) -> ExecutionNumber {
        self.context.key().execution
    }

    /// The instance that started this one as a child.
    #[must_use]
    pub fn parent(&self) -> Option<InstanceId> {
        self.context.parent().map(|parent| parent.instance)
    }

    /// The time of what made the code run on just now: the same on every replay.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        to_utc(self.context.now())
    }

    /// When this execution began.
    #[must_use]
    pub fn started_at(&self) -> DateTime<Utc> {
        to_utc(self.context.started_at())
    }

    /// When the run has to have ended, where its start gave it a deadline. Nothing of the code runs at that time or
    /// after it: what has to happen before is bounded by [`within`](Self::within).
    #[must_use]
    pub fn deadline(&self) -> Option<DateTime<Utc>> {
        self.context.deadline().map(to_utc)
    }

    /// The version that the instance's start asked for.
    #[must_use]
    pub fn version(&self) -> Option<Arc<str>> {
        self.context.version()
    }

    /// The tags that the instance's start gave it, in that order.
    #[must_use]
    pub fn tags(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.context.tags()
    }

    /// The value of one of the instance's tags.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<Arc<str>> {
        self.context.tags().into_iter().find(|(known, _)| &**known == key).map(|(_, value)| value)
    }

    /// Whether the code repeats what was recorded. For logging only: code that decides by it no longer
    /// fits its history.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        self.context.is_replaying()
    }

    /// A UUID that is given out once, and again to the same place of the code on every replay.
    #[must_use]
    pub fn new_uuid(&self) -> Uuid {
        self.context.new_uuid()
    }

    /// A number from 0 to below 1, the same on every replay. Not for secrets.
    #[must_use]
    pub fn random(&self) -> f64 {
        // The 53 bits of an f64's precision.
        const SCALE: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.context.random() >> 11) as f64 * SCALE
    }

    /// A whole number of a range, the same on every replay. Not for secrets.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # fn example(ctx: OrchestrationContext) {
    /// let die: u8 = ctx.random_range(1..=6);
    /// let index: usize = ctx.random_range(..10);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Where the range is empty.
    #[must_use]
    pub fn random_range<T: RandomInteger>(&self, range: impl RangeBounds<T>) -> T {
        let low = match range.start_bound() {
            Bound::Included(low) => low.widen(),
            Bound::Excluded(low) => low.widen() + 1,
            Bound::Unbounded => T::MIN.widen(),
        };
        let high = match range.end_bound() {
            Bound::Included(high) => high.widen(),
            Bound::Excluded(high) => high.widen() - 1,
            Bound::Unbounded => T::MAX.widen(),
        };
        assert!(low <= high, "random_range of an empty range");
        let values = (high - low + 1).unsigned_abs();
        // Multiply and shift: no value is preferred by more than `values` in 2^64.
        let offset = (u128::from(self.context.random()) * values) >> 64;
        T::narrow(low + i128::try_from(offset).expect("below 2^64"))
    }

    /// Calls an activity, and resolves to what it returns.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn reserve(order: u64) -> Result<String, ActivityError> { Ok(order.to_string()) }
    /// # async fn example(ctx: OrchestrationContext) -> Result<(), CallError> {
    /// let reserved = ctx
    ///     .call(reserve, &7)
    ///     .retry(RetryPolicy::exponential(secs(1)).attempts(5))
    ///     .timeout(secs(30))
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The call is made when it is first awaited. The input is taken at once.
    pub fn call<A: Activity>(&self, activity: A, input: &A::Input) -> Call<A::Output> {
        let _names_the_type = activity;
        self.call_by_name(A::NAME, input)
    }

    /// Calls an activity by its name: one of another program, or one that is only known at run time.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # async fn example(ctx: OrchestrationContext) -> Result<(), CallError> {
    /// let sum: i64 = ctx.call_by_name("add", &(1, 2)).await?;
    /// # Ok(()) }
    /// ```
    pub fn call_by_name<T: DeserializeOwned>(
        &self,
        name: impl Into<Arc<str>>,
        input: &(impl Serialize + ?Sized),
    ) -> Call<T> {
        Call::new(&self.context, name.into(), input)
    }

    /// Steps that can be taken back, last one first, where a later one fails.
    pub fn saga(&self) -> Saga {
        Saga::new(self.clone())
    }

    /// Bounds anything: `None` where the time is over first. What `future` has under way then is cancelled.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn book(trip: u64) -> Result<u64, ActivityError> { Ok(trip) }
    /// # async fn example(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    /// let booked = async {
    ///     let there = ctx.call(book, &1).await?;
    ///     let back = ctx.call(book, &2).await?;
    ///     Ok::<_, CallError>((there, back))
    /// };
    /// let Some(tickets) = ctx.within(hours(2), booked).await else {
    ///     return Err(OrchestrationError::new("TooLate", "it was not booked within two hours"));
    /// };
    /// let (there, back) = tickets?;
    /// # Ok(()) }
    /// ```
    pub async fn within<F: Future>(&self, time: Duration, future: F) -> Option<F::Output> {
        match self.race(future, self.sleep(time)).await {
            Either::Left(output) => Some(output),
            Either::Right(()) => None,
        }
    }

    /// Runs another orchestrator as a child, and resolves to what it returns.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator]
    /// # async fn ship(_: OrchestrationContext, parcel: u32) -> Result<String, OrchestrationError> {
    /// #     Ok(parcel.to_string())
    /// # }
    /// # async fn example(ctx: OrchestrationContext) -> Result<(), CallError> {
    /// let receipt = ctx
    ///     .child(ship, &7)
    ///     .id("parcel-7")
    ///     .retry(RetryPolicy::exponential(minutes(1)).attempts(3))
    ///     .await?;
    /// // All parcels at once:
    /// let receipts = ctx.try_join_all((0..10).map(|parcel| ctx.child(ship, &parcel))).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// The child is started when it is first awaited. It fails with the child's own failure; with the kind
    /// `Terminated`, where somebody terminated it; `Replaced`, where a start of its id took its place;
    /// `InstanceInUse`, where an active instance has the id that was chosen for it.
    pub fn child<O: Orchestrator>(&self, orchestrator: O, input: &O::Input) -> Child<O::Output> {
        let _names_the_type = orchestrator;
        self.child_by_name(O::NAME, input)
    }

    /// Runs a child by its orchestrator's name: one of another program, or one that is only known at run time.
    pub fn child_by_name<T: DeserializeOwned>(
        &self,
        name: impl Into<Arc<str>>,
        input: &(impl Serialize + ?Sized),
    ) -> Child<T> {
        Child::new(&self.context, name.into(), input)
    }

    /// Waits this long, durably: also across restarts, for seconds or for years.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(self.context.sleep(duration))
    }

    /// Waits until then. A time that has passed is over at once.
    pub fn sleep_until(&self, time: DateTime<Utc>) -> Sleep {
        Sleep::new(self.context.timer(from_utc(time)))
    }

    /// Waits for an external event of this name, and resolves to its value.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # async fn example(ctx: OrchestrationContext) -> Result<(), CallError> {
    /// let approved = ctx.wait_event::<bool>("approved").await?;
    ///
    /// // `None`: nobody answered in a day.
    /// let answer = ctx.wait_event::<bool>("approved").timeout(hours(24)).await?;
    ///
    /// // A name with its type, written once.
    /// const APPROVED: EventName<bool> = EventName::new("approved");
    /// let approved = ctx.wait_event(APPROVED).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// An event that arrives before it is waited for is kept. Each event goes to one waiter, first come,
    /// first served.
    pub fn wait_event<T: DeserializeOwned>(&self, name: impl Into<EventName<T>>) -> WaitEvent<T> {
        WaitEvent::new(self.context.clone(), name.into().shared())
    }

    /// Sends an event to another instance, once: when this step is stored.
    ///
    /// It needs no answer and asks for none: an instance that does not exist, or has ended, drops it.
    ///
    /// # Errors
    ///
    /// Where the instance id or the name breaks a rule, or the payload has no JSON form.
    pub fn raise_event(
        &self,
        instance: impl IntoInstanceId,
        name: impl Into<Arc<str>>,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<(), CallError> {
        let name = name.into();
        let failed = |failure| CallError::new(Subject::SentEvent(name.clone()), failure);
        let instance = instance.into_instance_id().map_err(|error| {
            failed(
                Failure::new(FailureClass::Payload, "InvalidInstanceId", error.to_string())
                    .permanent(),
            )
        })?;
        if let Some(problem) = name_problem(&name) {
            return Err(failed(name_failure(problem)));
        }
        let payload =
            Payload::of(payload).map_err(|error| failed(payload_failure("the payload", &error)))?;
        self.context.raise_event(instance, name.clone(), payload);
        Ok(())
    }

    /// Whether this execution takes the new path of changed code: how instances that are under way go on with
    /// the old one.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn charge(cents: u32) -> Result<(), ActivityError> { Ok(()) }
    /// # #[activity]
    /// # async fn charge_with_tax(cents: u32) -> Result<(), ActivityError> { Ok(()) }
    /// # async fn example(ctx: OrchestrationContext, cents: u32) -> Result<(), CallError> {
    /// if ctx.patched("tax") {
    ///     ctx.call(charge_with_tax, &cents).await?;
    /// } else {
    ///     ctx.call(charge, &cents).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// Code that gets here for the first time takes the new path, which is recorded as a marker in the history.
    /// A history that passed this place without a marker is repeated on the old path. The first answer for an id
    /// stays for the whole execution, also in a loop: use a new id for each change.
    ///
    /// A patch goes in three stages, each deployed when no instance needs the one before it:
    ///
    /// 1. `if ctx.patched(id) { new } else { old }`, until no instance is left that began before it;
    /// 2. [`ctx.deprecate_patch(id)`](Self::deprecate_patch) and the new path alone, until no instance is left that
    ///    began in stage 1;
    /// 3. the new path without a word of the patch.
    ///
    /// Code that lacks a marker which its history has is held as diverged, and goes on when the right code is back.
    #[must_use]
    pub fn patched(&self, id: impl Into<Arc<str>>) -> bool {
        self.context.patched(id)
    }

    /// The second stage of a patch: only its new path is left in the code. See [`patched`](Self::patched).
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn charge_with_tax(cents: u32) -> Result<(), ActivityError> { Ok(()) }
    /// # async fn example(ctx: OrchestrationContext, cents: u32) -> Result<(), CallError> {
    /// ctx.deprecate_patch("tax");
    /// ctx.call(charge_with_tax, &cents).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// What it records says that it may be missing: histories from here on fit code of the stage before, and code
    /// without the call.
    pub fn deprecate_patch(&self, id: impl Into<Arc<str>>) {
        self.context.deprecate_patch(id);
    }

    /// Ends this execution and begins the next one of the same run, with this input and an empty history: how
    /// an orchestrator goes on for ever. It happens where the orchestrator returns what this gives.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn clean_up(day: u32) -> Result<(), ActivityError> { Ok(()) }
    /// #[orchestrator]
    /// async fn every_day(ctx: OrchestrationContext, day: u32) -> Result<(), OrchestrationError> {
    ///     ctx.call(clean_up, &day).await?;
    ///     ctx.sleep(hours(24)).await;
    ///     return ctx.continue_as_new(&(day + 1));
    /// }
    /// ```
    ///
    /// - External events that this execution has not consumed are the first that the next one gets, in their
    ///   order.
    /// - What is open is given up: activities are cancelled and their results dropped, timers are removed.
    /// - Id, run, tags, version and custom status stay; the status shows the new input, and
    ///   the history the new execution. A caller that waits for the output goes
    ///   on waiting.
    ///
    /// The input has to be one that the orchestrator takes: with another shape the instance fails here, and
    /// not in the next execution. So it does where the orchestrator calls this and returns a value after all.
    ///
    /// # Errors
    ///
    /// Always: the error ends the code, also by `?` from a helper function, and has to be returned as it is.
    /// Where the input has no JSON form or is too large, it says so, and the instance fails with it.
    #[must_use = "the execution ends only where its orchestrator returns this: `return ctx.continue_as_new(…)`"]
    pub fn continue_as_new<T>(
        &self,
        input: &(impl Serialize + ?Sized),
    ) -> Result<T, OrchestrationError> {
        let failure = match Payload::of(input) {
            Ok(input) => self.context.continue_as_new(input),
            Err(error) => payload_failure("the input of the next execution", &error),
        };
        Err(OrchestrationError::from_failure(failure))
    }

    /// Shows a value to whoever looks at the instance's status: progress, the current step.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # fn example(ctx: OrchestrationContext) -> Result<(), CallError> {
    /// ctx.set_custom_status(&json!({ "step": 2, "of": 5 }))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Where the value has no JSON form, or more than 16 KiB of it; the status stays as it was.
    pub fn set_custom_status(&self, status: &(impl Serialize + ?Sized)) -> Result<(), CallError> {
        let failed = |failure| CallError::new(Subject::CustomStatus, failure);
        let status =
            Payload::of(status).map_err(|error| failed(payload_failure("the value", &error)))?;
        if status.bytes() > limits::CUSTOM_STATUS_BYTES_MAX {
            return Err(failed(Failure::limit(format!(
                "it has {} bytes; at most {} fit. Keep large data in an activity's result and show a \
                 summary",
                status.bytes(),
                limits::CUSTOM_STATUS_BYTES_MAX
            ))));
        }
        self.context.set_custom_status(status);
        Ok(())
    }

    /// The first of two futures that is ready; the other is dropped, which cancels it. If both are, the
    /// left one.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # async fn example(ctx: OrchestrationContext) -> Result<(), CallError> {
    /// let approved = match ctx.race(ctx.wait_event("approved"), ctx.sleep(hours(24))).await {
    ///     Either::Left(answer) => answer?,
    ///     Either::Right(()) => false, // nobody answered
    /// };
    /// # Ok(()) }
    /// ```
    pub fn race<A: Future, B: Future>(&self, left: A, right: B) -> Race<A, B> {
        Race::new(left, right)
    }

    /// The first of many futures that is ready, and its place among them; the others are dropped, which
    /// cancels them. If several are, the one in front. Without any future it is never ready.
    pub fn race_all<F: Future>(&self, futures: impl IntoIterator<Item = F>) -> RaceAll<F> {
        RaceAll::new(futures)
    }

    /// An empty set of futures that run side by side: their values are taken as they come, and more can be put in
    /// meanwhile. See [`JoinSet`].
    #[must_use]
    pub fn join_set<'a, K, T>(&self) -> JoinSet<'a, K, T> {
        JoinSet::new()
    }

    /// What all of these futures resolve to, in their order.
    ///
    /// All of them run at once. To bound how many do, use `futures::stream::iter(…).buffered(n)`.
    pub fn join_all<F: Future>(&self, futures: impl IntoIterator<Item = F>) -> JoinAll<F> {
        join_all(futures)
    }

    /// The values of all of these futures in their order, or the first error, which cancels the others.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn resize(width: u32) -> Result<u32, ActivityError> { Ok(width) }
    /// # async fn example(ctx: OrchestrationContext) -> Result<(), CallError> {
    /// let widths = [100, 200, 400];
    /// let thumbs = ctx.try_join_all(widths.iter().map(|width| ctx.call(resize, width))).await?;
    /// # Ok(()) }
    /// ```
    pub fn try_join_all<F: TryFuture>(
        &self,
        futures: impl IntoIterator<Item = F>,
    ) -> TryJoinAll<F> {
        TryJoinAll::new(futures)
    }
}

impl fmt::Debug for OrchestrationContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrchestrationContext")
            .field("key", self.context.key())
            .finish_non_exhaustive()
    }
}

/// The integers that [`OrchestrationContext::random_range`] gives.
pub trait RandomInteger: sealed::Integer {}

mod sealed {
    pub trait Integer: Copy {
        const MIN: Self;
        const MAX: Self;
        fn widen(self) -> i128;
        /// Of a value within the type's range.
        fn narrow(value: i128) -> Self;
    }
}

macro_rules! random_integers {
    ($($integer:ty),*) => {
        $(
            impl RandomInteger for $integer {}

            impl sealed::Integer for $integer {
                const MIN: Self = <$integer>::MIN;
                const MAX: Self = <$integer>::MAX;
                fn widen(self) -> i128 {
                    i128::try_from(self).expect("at most 64 bits fit 128")
                }
                fn narrow(value: i128) -> Self {
                    Self::try_from(value).expect("between two values of the type")
                }
            }
        )*
    };
}

random_integers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);
