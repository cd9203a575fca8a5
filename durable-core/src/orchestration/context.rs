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
use super::scope::Scope;
use crate::activity::Activity;
use crate::error::{
    CallError, OrchestrationError, Subject, name_failure, name_problem, payload_failure,
};
use crate::ids::IntoInstanceId;
use crate::time::{from_utc, to_utc};

/// The orchestrator's way to the world. Cheap to clone, also into helper functions and async blocks.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[activity]
/// async fn remind(bill: String) -> Result<(), ActivityError> {
///     // Sends a letter.
///     Ok(())
/// }
///
/// #[orchestrator]
/// async fn collect(ctx: OrchestrationContext, bill: String) -> Result<i64, OrchestrationError> {
///     let began = ctx.now();
///     for letters in 0..3 {
///         ctx.set_custom_status(&json!({ "letters": letters }))?;
///         if ctx.wait_event::<()>("paid").timeout(days(14)).await?.is_some() {
///             break;
///         }
///         ctx.call(remind, &bill).retry(RetryPolicy::fixed(hours(1))).await?;
///     }
///     Ok((ctx.now() - began).num_days())
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// let hub = TestHub::new().register(collect).register(remind);
/// let bill = hub.start(collect, "bill 7".into());
/// bill.raise_event_after(days(20), "paid", &());
/// assert_eq!(bill.output().unwrap(), 20);
/// assert_eq!(hub.calls(remind).len(), 1);
/// # }
/// ```
#[derive(Clone)]
pub struct OrchestrationContext {
    context: Context,
}

impl OrchestrationContext {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// The instance that runs.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    ///     Ok(format!("receipt of {}", ctx.instance_id()))
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place_order);
    /// assert_eq!(hub.start_as("order-7", place_order, ()).output().unwrap(), "receipt of order-7");
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn thrice(ctx: OrchestrationContext) -> Result<u64, OrchestrationError> {
    ///     match ctx.execution().0 {
    ///         2 => Ok(ctx.execution().0.into()),
    ///         _ => ctx.continue_as_new(&()),
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// assert_eq!(TestHub::new().register(thrice).start(thrice, ()).output().unwrap(), 2);
    /// # }
    /// ```
    #[must_use]
    pub fn execution(&self) -> ExecutionNumber {
        self.context.key().execution
    }

    /// The instance that started this one as a child.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn parcel(ctx: OrchestrationContext) -> Result<Option<String>, OrchestrationError> {
    ///     Ok(ctx.parent().map(|parent| parent.to_string()))
    /// }
    ///
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<Option<String>, OrchestrationError> {
    ///     Ok(ctx.child(parcel, &()).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(parcel).register(place_order);
    /// let of_an_order = hub.start_as("order-7", place_order, ()).output().unwrap();
    /// assert_eq!(of_an_order.as_deref(), Some("order-7"));
    /// assert_eq!(hub.start(parcel, ()).output().unwrap(), None);
    /// # }
    /// ```
    #[must_use]
    pub fn parent(&self) -> Option<InstanceId> {
        self.context.parent().map(|parent| parent.instance)
    }

    /// The time of what made the code run on just now: the same on every replay.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn nap(ctx: OrchestrationContext) -> Result<i64, OrchestrationError> {
    ///     let before = ctx.now();
    ///     assert_eq!(before, ctx.started_at());
    ///     ctx.sleep(minutes(20)).await;
    ///     Ok((ctx.now() - before).num_minutes())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// assert_eq!(TestHub::new().register(nap).start(nap, ()).output().unwrap(), 20);
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn report(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     let deadline = ctx.deadline();
    ///     // A short form, where little time is left.
    ///     Ok(deadline.is_some_and(|deadline| deadline - ctx.now() < chrono::TimeDelta::hours(1)))
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(report).start().await?;
    /// # let client = worker.client();
    /// assert!(client.start(report, ()).time_limit(minutes(10)).await?.output().await?);
    /// assert!(!client.start(report, ()).await?.output().await?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<DateTime<Utc>> {
        self.context.deadline().map(to_utc)
    }

    /// The version that the instance's start asked for.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    ///     match ctx.version().as_deref() {
    ///         None | Some("1") => Ok(100),
    ///         Some(_) => Ok(120), // with the new tax
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// # let client = worker.client();
    /// assert_eq!(client.start(place_order, ()).version("2").await?.output().await?, 120);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn version(&self) -> Option<Arc<str>> {
        self.context.version()
    }

    /// The tags that the instance's start gave it, in that order.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    ///     assert_eq!(ctx.tags().len(), 2);
    ///     Ok(ctx.tag("region").unwrap_or_default().to_string())
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(place_order).start().await?;
    /// # let client = worker.client();
    /// let start = client.start(place_order, ()).tag("customer", "c-12").tag("region", "eu");
    /// assert_eq!(start.await?.output().await?, "eu");
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    ///     ctx.sleep(minutes(20)).await;
    ///     if !ctx.is_replaying() {
    ///         // Shown once. `tracing` lines need no such question: they are silent on a replay.
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// TestHub::new().register(nap).start(nap, ()).output().unwrap();
    /// # }
    /// ```
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        self.context.is_replaying()
    }

    /// A UUID that is given out once, and again to the same place of the code on every replay.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn pay(key: String) -> Result<String, ActivityError> { Ok(key) }
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     let key = ctx.new_uuid().to_string();
    ///     let paid = ctx.call(pay, &key).await?; // the same key, also after a crash
    ///     Ok(paid == key && key != ctx.new_uuid().to_string())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place_order).register(pay);
    /// assert!(hub.start(place_order, ()).output().unwrap());
    /// # }
    /// ```
    #[must_use]
    pub fn new_uuid(&self) -> Uuid {
        self.context.new_uuid()
    }

    /// A number from 0 to below 1, the same on every replay. Not for secrets.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn sample(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     let one_in_ten = ctx.random() < 0.1;
    ///     Ok(one_in_ten)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// TestHub::new().register(sample).start(sample, ()).output().unwrap();
    /// # }
    /// ```
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
    /// #[orchestrator]
    /// async fn dice(ctx: OrchestrationContext) -> Result<u8, OrchestrationError> {
    ///     let index: usize = ctx.random_range(..10);
    ///     assert!(index < 10);
    ///     Ok(ctx.random_range(1..=6))
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let rolled = TestHub::new().register(dice).start(dice, ()).output().unwrap();
    /// assert!((1..=6).contains(&rolled));
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
    /// #[activity]
    /// async fn reserve(order: u64) -> Result<String, ActivityError> {
    ///     Ok(format!("order {order} is reserved"))
    /// }
    ///
    /// #[orchestrator]
    /// async fn place(ctx: OrchestrationContext, order: u64) -> Result<String, OrchestrationError> {
    ///     let reserved = ctx
    ///         .call(reserve, &order)
    ///         .retry(RetryPolicy::exponential(secs(1)).attempts(5))
    ///         .timeout(secs(30))
    ///         .await?;
    ///     Ok(reserved)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place).register(reserve);
    /// assert_eq!(hub.start(place, 7).output().unwrap(), "order 7 is reserved");
    /// # }
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
    /// #[orchestrator]
    /// async fn three(ctx: OrchestrationContext) -> Result<i64, OrchestrationError> {
    ///     let sum: i64 = ctx.call_by_name("add", &(1, 2)).await?;
    ///     Ok(sum)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let mut registry = Registry::new();
    /// registry.register(three);
    /// registry.register_activity_fn("add", |_, (a, b): (i64, i64)| async move { Ok(a + b) });
    /// assert_eq!(TestHub::new().registry(registry).start(three, ()).output().unwrap(), 3);
    /// # }
    /// ```
    pub fn call_by_name<T: DeserializeOwned>(
        &self,
        name: impl Into<Arc<str>>,
        input: &(impl Serialize + ?Sized),
    ) -> Call<T> {
        Call::new(&self.context, name.into(), input)
    }

    /// A group of calls that can be cancelled together, and whose end can be waited for. It is a context itself: what is
    /// called by it belongs to it. See [`Scope`].
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn convert(picture: u32) -> Result<u32, ActivityError> { Ok(picture) }
    /// # async fn example(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    /// let scope = ctx.scope();
    /// let pictures = ctx.join_all((0..10).map(|picture| scope.call(convert, &picture)));
    /// if ctx.within(minutes(10), pictures).await.is_none() {
    ///     for call in scope.cancel().await {
    ///         println!("{} ended: {}", call.name(), call.was_cancelled());
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn scope(&self) -> Scope {
        Scope::new(Self { context: self.context.scope() })
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Steps that can be taken back, last one first, where a later one fails.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn book(hotel: String) -> Result<(), ActivityError> { Err(ActivityError::new("Full", "no room is left")) }
    /// # #[activity]
    /// # async fn cancel(hotel: String) -> Result<(), ActivityError> { Ok(()) }
    /// #[orchestrator]
    /// async fn stay(ctx: OrchestrationContext, hotel: String) -> Result<(), OrchestrationError> {
    ///     let mut saga = ctx.saga();
    ///     saga.undo_with(cancel, &hotel)?;
    ///     let booked = ctx.call(book, &hotel).await;
    ///     saga.settle(booked).await
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(stay).register(book).register(cancel);
    /// assert!(hub.start(stay, "Ritz".into()).output().unwrap_err().is("Full"));
    /// assert_eq!(hub.calls(cancel).len(), 1);
    /// # }
    /// ```
    pub fn saga(&self) -> Saga {
        Saga::new(self.clone())
    }

    /// Bounds anything: `None` where the time is over first. What `future` has under way then is cancelled.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn book(trip: u64) -> Result<u64, ActivityError> { Ok(trip) }
    /// #[orchestrator]
    /// async fn travel(ctx: OrchestrationContext) -> Result<(u64, u64), OrchestrationError> {
    ///     let booked = async {
    ///         let there = ctx.call(book, &1).await?;
    ///         let back = ctx.call(book, &2).await?;
    ///         Ok::<_, CallError>((there, back))
    ///     };
    ///     let Some(tickets) = ctx.within(hours(2), booked).await else {
    ///         return Err(OrchestrationError::new("TooLate", "it was not booked within two hours"));
    ///     };
    ///     Ok(tickets?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(travel).mock(book, |call, trip| {
    ///     call.takes(if call.number() == 1 { hours(3) } else { minutes(5) });
    ///     Ok::<_, ActivityError>(trip)
    /// });
    /// assert!(hub.start(travel, ()).output().unwrap_err().is("TooLate"));
    /// assert_eq!(hub.start(travel, ()).output().unwrap(), (1, 2));
    /// # }
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
    /// #[orchestrator]
    /// async fn ship(_: OrchestrationContext, parcel: u32) -> Result<String, OrchestrationError> {
    ///     Ok(format!("receipt {parcel}"))
    /// }
    ///
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<Vec<String>, OrchestrationError> {
    ///     let first = ctx
    ///         .child(ship, &7)
    ///         .id("parcel-7")
    ///         .retry(RetryPolicy::exponential(minutes(1)).attempts(3))
    ///         .await?;
    ///     assert_eq!(first, "receipt 7");
    ///     // All the others at once:
    ///     Ok(ctx.try_join_all((8..10).map(|parcel| ctx.child(ship, &parcel))).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place_order).register(ship);
    /// assert_eq!(hub.start(place_order, ()).output().unwrap(), ["receipt 8", "receipt 9"]);
    /// assert_eq!(hub.instance("parcel-7").status().runtime_status(), RuntimeStatus::Completed);
    /// # }
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
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[orchestrator(name = "Ship")]
    /// # async fn ship(_: OrchestrationContext, parcel: u32) -> Result<String, OrchestrationError> {
    /// #     Ok(format!("receipt {parcel}"))
    /// # }
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    ///     Ok(ctx.child_by_name("Ship", &7).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place_order).register(ship);
    /// assert_eq!(hub.start(place_order, ()).output().unwrap(), "receipt 7");
    /// # }
    /// ```
    pub fn child_by_name<T: DeserializeOwned>(
        &self,
        name: impl Into<Arc<str>>,
        input: &(impl Serialize + ?Sized),
    ) -> Child<T> {
        Child::new(&self.context, name.into(), input)
    }

    /// Waits this long, durably: also across restarts, for seconds or for years.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    ///     ctx.sleep(days(30)).await;
    ///     Ok(())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(nap);
    /// hub.start(nap, ()).output().unwrap();
    /// assert_eq!(hub.elapsed(), days(30));
    /// # }
    /// ```
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(self.context.sleep(duration))
    }

    /// Waits until then. A time that has passed is over at once.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// use chrono::{DateTime, Utc};
    ///
    /// #[orchestrator]
    /// async fn alarm(ctx: OrchestrationContext, at: DateTime<Utc>) -> Result<bool, OrchestrationError> {
    ///     ctx.sleep_until(at).await;
    ///     Ok(ctx.now() >= at)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(alarm);
    /// let noon = hub.now() + hours(12);
    /// assert!(hub.start(alarm, noon).output().unwrap());
    /// assert_eq!(hub.elapsed(), hours(12));
    /// # }
    /// ```
    pub fn sleep_until(&self, time: DateTime<Utc>) -> Sleep {
        Sleep::new(self.context.timer(from_utc(time)))
    }

    /// Waits for an external event of this name, and resolves to its value.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// // A name with its type, written once.
    /// const APPROVED: EventName<bool> = EventName::new("approved");
    ///
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     // `None`: nobody answered in a day.
    ///     let colour = ctx.wait_event::<String>("colour").timeout(hours(24)).await?;
    ///     assert_eq!(colour, None);
    ///     Ok(ctx.wait_event(APPROVED).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let order = TestHub::new().register(place_order).start(place_order, ());
    /// order.raise_event("approved", &true);
    /// assert!(order.output().unwrap());
    /// # }
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
    /// ```
    /// # use durable_core::prelude::*;
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    ///     Ok(ctx.wait_event("paid").await?)
    /// }
    ///
    /// #[orchestrator]
    /// async fn payment(ctx: OrchestrationContext, cents: u32) -> Result<(), OrchestrationError> {
    ///     ctx.raise_event("order-7", "paid", &cents)?;
    ///     Ok(())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(place_order).register(payment);
    /// let order = hub.start_as("order-7", place_order, ());
    /// hub.start(payment, 700).output().unwrap();
    /// assert_eq!(order.output().unwrap(), 700);
    /// # }
    /// ```
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
    /// # async fn charge(cents: u32) -> Result<u32, ActivityError> { Ok(cents) }
    /// # #[activity]
    /// # async fn charge_with_tax(cents: u32) -> Result<u32, ActivityError> { Ok(cents + cents / 5) }
    /// #[orchestrator]
    /// async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
    ///     if ctx.patched("tax") {
    ///         Ok(ctx.call(charge_with_tax, &cents).await?)
    ///     } else {
    ///         Ok(ctx.call(charge, &cents).await?)
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(pay).register(charge).register(charge_with_tax);
    /// assert_eq!(hub.start(pay, 100).output().unwrap(), 120); // a new one
    /// # }
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
    /// # async fn charge_with_tax(cents: u32) -> Result<u32, ActivityError> { Ok(cents + cents / 5) }
    /// #[orchestrator]
    /// async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
    ///     ctx.deprecate_patch("tax");
    ///     Ok(ctx.call(charge_with_tax, &cents).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(pay).register(charge_with_tax);
    /// assert_eq!(hub.start(pay, 100).output().unwrap(), 120);
    /// # }
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
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(every_day).register(clean_up);
    /// let daily = hub.start(every_day, 1);
    /// hub.advance(days(365));
    /// assert_eq!(daily.status().input::<u32>().unwrap(), 366);
    /// assert_eq!(daily.status().execution().0, 365);
    /// # }
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
    /// #[orchestrator]
    /// async fn import_files(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    ///     ctx.set_custom_status(&json!({ "step": 2, "of": 5 }))?;
    ///     ctx.wait_event::<()>("next").await?;
    ///     ctx.set_custom_status("done")?;
    ///     Ok(())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let import = TestHub::new().register(import_files).start(import_files, ());
    /// assert_eq!(import.custom_status(), Some(json!({ "step": 2, "of": 5 })));
    /// import.raise_event("next", &());
    /// assert_eq!(import.custom_status(), Some("done".to_string()));
    /// # }
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
    /// #[orchestrator]
    /// async fn approve(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     match ctx.race(ctx.wait_event("approved"), ctx.sleep(hours(24))).await {
    ///         Either::Left(answer) => Ok(answer?),
    ///         Either::Right(()) => Ok(false), // nobody answered
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(approve);
    /// let answered = hub.start(approve, ());
    /// answered.raise_event_after(hours(3), "approved", &true);
    /// assert!(answered.output().unwrap());
    /// assert!(!hub.start(approve, ()).output().unwrap());
    /// # }
    /// ```
    pub fn race<A: Future, B: Future>(&self, left: A, right: B) -> Race<A, B> {
        Race::new(left, right)
    }

    /// The first of many futures that is ready, and its place among them; the others are dropped, which
    /// cancels them. If several are, the one in front. Without any future it is never ready.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn ask(mirror: String) -> Result<String, ActivityError> { Ok(mirror) }
    /// #[orchestrator]
    /// async fn fastest(ctx: OrchestrationContext) -> Result<(usize, String), OrchestrationError> {
    ///     let mirrors = ["de", "fr", "us"].map(String::from);
    ///     let (place, answer) = ctx.race_all(mirrors.iter().map(|mirror| ctx.call(ask, mirror))).await;
    ///     Ok((place, answer?))
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(fastest).mock(ask, |call, mirror| {
    ///     call.takes(if mirror == "fr" { millis(20) } else { secs(1) });
    ///     Ok::<_, ActivityError>(mirror)
    /// });
    /// assert_eq!(hub.start(fastest, ()).output().unwrap(), (1, "fr".to_string()));
    /// # }
    /// ```
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
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn visit(site: String) -> Result<u32, ActivityError> {
    /// #     if site == "b" { return Err(ActivityError::new("Gone", "it is not there any more")) }
    /// #     Ok(200)
    /// # }
    /// #[orchestrator]
    /// async fn crawl(ctx: OrchestrationContext, sites: Vec<String>) -> Result<usize, OrchestrationError> {
    ///     // A site that fails does not stop the others.
    ///     let visited = ctx.join_all(sites.iter().map(|site| ctx.call(visit, site))).await;
    ///     Ok(visited.iter().filter(|result| result.is_ok()).count())
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(crawl).register(visit);
    /// assert_eq!(hub.start(crawl, ["a", "b", "c"].map(String::from).into()).output().unwrap(), 2);
    /// # }
    /// ```
    pub fn join_all<F: Future>(&self, futures: impl IntoIterator<Item = F>) -> JoinAll<F> {
        join_all(futures)
    }

    /// The values of all of these futures in their order, or the first error, which cancels the others.
    ///
    /// ```
    /// # use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn resize(width: u32) -> Result<String, ActivityError> { Ok(format!("{width}.jpg")) }
    /// #[orchestrator]
    /// async fn thumbnails(ctx: OrchestrationContext) -> Result<Vec<String>, OrchestrationError> {
    ///     let widths = [100, 200, 400];
    ///     Ok(ctx.try_join_all(widths.iter().map(|width| ctx.call(resize, width))).await?)
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(thumbnails).register(resize);
    /// let thumbs = hub.start(thumbnails, ()).output().unwrap();
    /// assert_eq!(thumbs, ["100.jpg", "200.jpg", "400.jpg"]);
    /// # }
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
///
/// ```
/// # use durable_core::prelude::*;
/// use durable_core::RandomInteger;
///
/// /// One of two, by a coin that falls the same way on every replay.
/// fn either<T: RandomInteger>(ctx: &OrchestrationContext, heads: T, tails: T) -> T {
///     if ctx.random_range(0..2_u8) == 0 { heads } else { tails }
/// }
///
/// #[orchestrator]
/// async fn toss(ctx: OrchestrationContext) -> Result<i64, OrchestrationError> {
///     Ok(either(&ctx, -1, 1))
/// }
///
/// # #[cfg(feature = "testing")] {
/// # use durable_core::testing::TestHub;
/// assert_eq!(TestHub::new().register(toss).start(toss, ()).output().unwrap().abs(), 1);
/// # }
/// ```
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
