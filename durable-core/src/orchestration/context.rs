//! What an orchestrator is given.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use durable_machine::model::{
    ExecutionNumber, Failure, FailureClass, InstanceId, Payload, RunNumber, limits,
};
use durable_machine::replay::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Orchestrator;
use super::children::Child;
use super::events::{EventName, WaitEvent};
use super::futures::{Call, Sleep};
use super::saga::Saga;
use super::scope::Scope;
use crate::activity::Activity;
use crate::error::{CallError, Subject, name_failure, name_problem, payload_failure};
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
}

impl fmt::Debug for OrchestrationContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrchestrationContext")
            .field("key", self.context.key())
            .finish_non_exhaustive()
    }
}
