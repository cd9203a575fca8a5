//! The hub of a test.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use durable_machine::model::{Acceptance, Deadline, InstanceId, Payload, RunNumber, StartNonce};
use durable_machine::store::AcceptOutcome;
use uuid::Uuid;

use super::TestInstance;
use super::mock::{self, MockCall, TestCall};
use super::world::{TURNS_WAITED_MAX, World};
use crate::activity::{Activity, ActivityReturn};
use crate::error::{ActivityError, OrchestrationError};
use crate::ids::IntoInstanceId;
use crate::orchestration::{Orchestrator, OrchestratorReturn};
use crate::registry::{Register, Registry};
use crate::time::{from_utc, to_utc};

/// A hub in memory with its worker, on the test's own thread and with virtual time.
///
/// Time passes only in [`advance`](Self::advance), [`run`](Self::run) and
/// [`TestInstance::output`]: it jumps to what happens next. A hub begins at 2025-01-01T00:00:00Z; each run of
/// a test is the same. Activities that are registered and not mocked really run, and take no virtual time.
///
/// Use it in a plain `#[test]`, or in an async one: nothing of it is async.
///
/// ```
/// use durable_core::prelude::*;
/// use durable_core::testing::TestHub;
///
/// #[activity]
/// async fn greet(name: String) -> Result<String, ActivityError> {
///     Ok(format!("Hello, {name}!"))
/// }
///
/// #[orchestrator]
/// async fn greet_tomorrow(ctx: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
///     ctx.sleep(days(1)).await;
///     Ok(ctx.call(greet, &name).await?)
/// }
///
/// let hub = TestHub::new().register(greet_tomorrow).register(greet);
/// let greeting = hub.start(greet_tomorrow, "Ada".into());
/// assert_eq!(greeting.output().unwrap(), "Hello, Ada!");
/// assert_eq!(hub.elapsed(), days(1));
/// assert_eq!(hub.now().to_rfc3339(), "2025-01-02T00:00:00+00:00");
/// ```
pub struct TestHub {
    world: Rc<RefCell<World>>,
}

impl Default for TestHub {
    fn default() -> Self {
        Self::new()
    }
}

impl TestHub {
    /// An empty hub.
    #[must_use]
    pub fn new() -> Self {
        Self { world: Rc::new(RefCell::new(World::new())) }
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    /// Adds an orchestrator or activity.
    #[must_use]
    pub fn register(self, function: impl Register) -> Self {
        self.world().registry.register(function);
        self
    }

    /// Provides a state to the activities that have it as a [`State<T>`](crate::State) parameter.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    ///
    /// #[activity]
    /// async fn greet(State(greeting): State<String>) -> Result<String, ActivityError> {
    ///     Ok(greeting)
    /// }
    /// # #[orchestrator]
    /// # async fn welcome(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    /// #     Ok(ctx.call(greet, &()).await?)
    /// # }
    ///
    /// let hub = TestHub::new().register(welcome).register(greet).state("Hello".to_string());
    /// assert_eq!(hub.start(welcome, ()).output().unwrap(), "Hello");
    /// ```
    #[must_use]
    pub fn state<T: Clone + Send + Sync + 'static>(self, state: T) -> Self {
        self.world().registry.state(state);
        self
    }

    /// Takes functions and states that were collected before, such as those of the real worker; they replace
    /// those added so far.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn double(_: OrchestrationContext, number: u32) -> Result<u32, OrchestrationError> { Ok(2 * number) }
    ///
    /// /// What the real worker has.
    /// fn registry() -> Registry {
    ///     let mut registry = Registry::new();
    ///     registry.register(double);
    ///     registry
    /// }
    ///
    /// let hub = TestHub::new().registry(registry());
    /// assert_eq!(hub.start(double, 21).output().unwrap(), 42);
    /// ```
    #[must_use]
    pub fn registry(self, registry: Registry) -> Self {
        self.world().registry = registry;
        self
    }

    /// Runs `mock` in the place of an activity. It sees which attempt it is, and may say how long it takes; its
    /// panics fail the test.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[activity]
    /// # async fn charge(cents: u32) -> Result<String, ActivityError> { unimplemented!() }
    /// # #[orchestrator]
    /// # async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<String, OrchestrationError> {
    /// #     Ok(ctx.call(charge, &cents).retry(RetryPolicy::fixed(minutes(1)).attempts(3)).await?)
    /// # }
    ///
    /// let hub = TestHub::new().register(pay).mock(charge, |call, cents| match call.attempt() {
    ///     1 => Err(ActivityError::new("Busy", "try again")),
    ///     _ => Ok(format!("{cents} are paid")),
    /// });
    /// assert_eq!(hub.start(pay, 700).output().unwrap(), "700 are paid");
    /// assert_eq!(hub.elapsed(), minutes(1));
    /// ```
    #[must_use]
    pub fn mock<A, R>(self, _activity: A, mock: impl Fn(&MockCall, A::Input) -> R + 'static) -> Self
    where
        A: Activity,
        R: ActivityReturn<Output = A::Output>,
    {
        self.world().mocks.insert(A::NAME.to_owned(), mock::typed::<A, R>(mock));
        self
    }

    /// The same for an activity that is called by its name.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    ///
    /// #[orchestrator]
    /// async fn sum(ctx: OrchestrationContext) -> Result<i64, OrchestrationError> {
    ///     Ok(ctx.call_by_name("add", &(1, 2)).await?)
    /// }
    ///
    /// let hub = TestHub::new().register(sum).mock_by_name("add", |_call, input| {
    ///     let (a, b): (i64, i64) = input.to()?;
    ///     Ok(Payload::of(&(a + b))?)
    /// });
    /// assert_eq!(hub.start(sum, ()).output().unwrap(), 3);
    /// ```
    #[must_use]
    pub fn mock_by_name(
        self,
        name: impl Into<String>,
        mock: impl Fn(&MockCall, Payload) -> Result<Payload, ActivityError> + 'static,
    ) -> Self {
        let mock =
            move |call: &MockCall, input| mock(call, input).map_err(ActivityError::into_failure);
        self.world().mocks.insert(name.into(), Rc::new(mock));
        self
    }

    /// Runs `mock` in the place of an orchestrator: of children that others start, so that their parent is tested
    /// alone. The child is an instance all the same, with an id and a status. The mock may say how long it takes;
    /// its panics fail the test.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    ///
    /// #[orchestrator]
    /// async fn ship(ctx: OrchestrationContext, parcel: u32) -> Result<String, OrchestrationError> {
    ///     unimplemented!("ships {parcel} of {:?}", ctx.parent())
    /// }
    ///
    /// #[orchestrator]
    /// async fn order(ctx: OrchestrationContext, parcels: u32) -> Result<usize, OrchestrationError> {
    ///     let shipped = ctx.try_join_all((0..parcels).map(|n| ctx.child(ship, &n))).await?;
    ///     Ok(shipped.len())
    /// }
    ///
    /// let hub = TestHub::new().register(order).mock_child(ship, |child, parcel| match parcel {
    ///     7 => Err(OrchestrationError::new("Lost", "nobody knows where it is")),
    ///     _ => {
    ///         child.takes(days(2));
    ///         Ok(format!("receipt {parcel}"))
    ///     }
    /// });
    /// assert_eq!(hub.start(order, 3).output().unwrap(), 3);
    /// assert_eq!(hub.elapsed(), days(2));
    /// assert!(hub.start(order, 9).output().unwrap_err().is("Lost"));
    /// ```
    #[must_use]
    pub fn mock_child<O, R>(
        self,
        _orchestrator: O,
        mock: impl Fn(&MockCall, O::Input) -> R + 'static,
    ) -> Self
    where
        O: Orchestrator,
        R: OrchestratorReturn<Output = O::Output>,
    {
        self.world().mock_child(O::NAME, mock::typed_child::<O, R>(mock));
        self
    }

    /// The same for a child that is started by its orchestrator's name.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    ///
    /// #[orchestrator]
    /// async fn place_order(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    ///     Ok(ctx.child_by_name("Ship", &7).await?)
    /// }
    ///
    /// let hub = TestHub::new().register(place_order).mock_child_by_name("Ship", |_child, parcel| {
    ///     Ok(Payload::of(&format!("receipt {}", parcel.json()))?)
    /// });
    /// assert_eq!(hub.start(place_order, ()).output().unwrap(), "receipt 7");
    /// ```
    #[must_use]
    pub fn mock_child_by_name(
        self,
        name: &str,
        mock: impl Fn(&MockCall, Payload) -> Result<Payload, OrchestrationError> + 'static,
    ) -> Self {
        let mock = move |call: &MockCall, input| {
            mock(call, input).map_err(OrchestrationError::into_failure)
        };
        self.world().mock_child(name, Rc::new(mock));
        self
    }

    /// Sets the clock before anything was started.
    ///
    /// ```
    /// use durable_core::testing::TestHub;
    ///
    /// let leap_day = "2028-02-29T12:00:00Z".parse().unwrap();
    /// assert_eq!(TestHub::new().starting_at(leap_day).now(), leap_day);
    /// ```
    #[must_use]
    pub fn starting_at(self, time: DateTime<Utc>) -> Self {
        {
            let mut world = self.world();
            world.begin = from_utc(time);
            world.now = world.begin;
        }
        self
    }

    /// The hub's clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        to_utc(self.world().now)
    }

    /// Virtual time since the hub began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        let world = self.world();
        world.now.since(world.begin)
    }

    /// Starts an orchestrator under the next of the ids `test-1`, `test-2`, …, and lets it run as far as it comes
    /// without time passing.
    ///
    /// # Panics
    ///
    /// If the functions of the hub do not fit together, or the input has no JSON form.
    #[track_caller]
    pub fn start<O: Orchestrator>(
        &self,
        orchestrator: O,
        input: O::Input,
    ) -> TestInstance<O::Output> {
        let id = format!("test-{}", self.world().number());
        self.start_as(id, orchestrator, input)
    }

    /// Starts an orchestrator under an id. An ended instance of it is replaced.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn place_order(ctx: OrchestrationContext) -> Result<String, OrchestrationError> {
    /// #     Ok(format!("receipt of {}", ctx.instance_id()))
    /// # }
    ///
    /// let hub = TestHub::new().register(place_order);
    /// assert_eq!(hub.start_as("order-7", place_order, ()).output().unwrap(), "receipt of order-7");
    /// ```
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start); if the id breaks a rule of [`InstanceId`], or an active instance has it.
    #[track_caller]
    pub fn start_as<O: Orchestrator>(
        &self,
        id: impl IntoInstanceId,
        orchestrator: O,
        input: O::Input,
    ) -> TestInstance<O::Output> {
        self.begin(id, orchestrator, input, None)
    }

    /// Starts an orchestrator whose run has to have ended by then, under the next id.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    ///
    /// #[orchestrator]
    /// async fn approval(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    ///     Ok(ctx.wait_event("approved").await?)
    /// }
    ///
    /// let hub = TestHub::new().register(approval);
    /// let late = hub.start_within(days(3), approval, ());
    /// assert!(late.output().unwrap_err().is("DeadlineExceeded"));
    /// assert_eq!(hub.elapsed(), days(3));
    /// ```
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[track_caller]
    pub fn start_within<O: Orchestrator>(
        &self,
        time_limit: Duration,
        orchestrator: O,
        input: O::Input,
    ) -> TestInstance<O::Output> {
        let id = format!("test-{}", self.world().number());
        self.begin(id, orchestrator, input, Some(time_limit))
    }

    #[track_caller]
    fn begin<O: Orchestrator>(
        &self,
        id: impl IntoInstanceId,
        _orchestrator: O,
        input: O::Input,
        time_limit: Option<Duration>,
    ) -> TestInstance<O::Output> {
        let id = match id.into_instance_id() {
            Ok(id) => id,
            Err(error) => panic!("{error}"),
        };
        let input = Payload::of(&input)
            .unwrap_or_else(|error| panic!("the input of {:?} has no JSON form: {error}", O::NAME));
        let mut world = self.world();
        let now = world.now;
        let number = world.number();
        let acceptance = Acceptance::new(
            id.clone(),
            RunNumber(u64::try_from(now.as_micros()).unwrap_or(1)),
            StartNonce(Uuid::from_u128(number.into())),
            O::NAME.into(),
            input,
            now,
        );
        let deadline = time_limit.map(|limit| Deadline::after(now, limit));
        let acceptance = Acceptance { deadline, ..acceptance };
        match world.accept(acceptance) {
            AcceptOutcome::Accepted { .. } => TestInstance::new(self.world.clone(), id),
            AcceptOutcome::Active(row) => panic!("instance {id} exists and is {}", row.status),
        }
    }

    /// An instance that something else started: a child, say.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn ship(_: OrchestrationContext, parcel: u32) -> Result<u32, OrchestrationError> { Ok(parcel) }
    /// # #[orchestrator]
    /// # async fn place_order(ctx: OrchestrationContext) -> Result<u32, OrchestrationError> {
    /// #     Ok(ctx.child(ship, &7).id("parcel-7").await?)
    /// # }
    ///
    /// let hub = TestHub::new().register(place_order).register(ship);
    /// hub.start(place_order, ()).output().unwrap();
    /// assert_eq!(hub.instance("parcel-7").status().name(), "ship");
    /// ```
    ///
    /// # Panics
    ///
    /// If the id breaks a rule of [`InstanceId`].
    #[track_caller]
    pub fn instance(&self, id: impl IntoInstanceId) -> TestInstance<Payload> {
        let id: InstanceId = match id.into_instance_id() {
            Ok(id) => id,
            Err(error) => panic!("{error}"),
        };
        TestInstance::new(self.world.clone(), id)
    }

    /// The children of this orchestrator that were begun, in that order, mocked ones included.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn ship(_: OrchestrationContext, parcel: u32) -> Result<u32, OrchestrationError> { Ok(parcel) }
    /// # #[orchestrator]
    /// # async fn place_order(ctx: OrchestrationContext) -> Result<Vec<u32>, OrchestrationError> {
    /// #     Ok(ctx.try_join_all([7, 8].iter().map(|parcel| ctx.child(ship, parcel))).await?)
    /// # }
    ///
    /// let hub = TestHub::new().register(place_order).register(ship);
    /// hub.start(place_order, ()).output().unwrap();
    /// let parcels: Vec<u32> = hub.children(ship).iter().map(|child| child.output().unwrap()).collect();
    /// assert_eq!(parcels, [7, 8]);
    /// ```
    pub fn children<O: Orchestrator>(&self, _orchestrator: O) -> Vec<TestInstance<O::Output>> {
        let world = self.world();
        let of_it = world.children.iter().filter(|(name, _)| **name == *O::NAME);
        of_it.map(|(_, id)| TestInstance::new(self.world.clone(), id.clone())).collect()
    }

    /// Lets so much time pass, with all that happens in it.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[activity]
    /// # async fn clean_up(day: u32) -> Result<(), ActivityError> { Ok(()) }
    ///
    /// #[orchestrator]
    /// async fn every_day(ctx: OrchestrationContext, day: u32) -> Result<(), OrchestrationError> {
    ///     ctx.call(clean_up, &day).await?;
    ///     ctx.sleep(days(1)).await;
    ///     return ctx.continue_as_new(&(day + 1));
    /// }
    ///
    /// let hub = TestHub::new().register(every_day).register(clean_up);
    /// hub.start(every_day, 1);
    /// hub.advance(days(6));
    /// assert_eq!(hub.calls(clean_up).len(), 7);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`TestInstance::output`] does for what is wrong with the code.
    #[track_caller]
    pub fn advance(&self, duration: Duration) {
        let mut world = self.world();
        let until = world.now.after(duration);
        while world.step(until) {}
        world.now = until;
    }

    /// Lets time pass until nothing happens by itself any more: all that is left waits for the test.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn place_order(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    /// #     ctx.sleep(hours(1)).await;
    /// #     Ok(ctx.wait_event("approved").await?)
    /// # }
    ///
    /// let hub = TestHub::new().register(place_order);
    /// let order = hub.start(place_order, ());
    /// hub.run(); // until it waits for its approval
    /// assert_eq!(hub.elapsed(), hours(1));
    /// order.raise_event("approved", &());
    /// order.output().unwrap();
    /// ```
    ///
    /// # Panics
    ///
    /// As [`TestInstance::output`] does for what is wrong with the code; and after a hundred virtual years or 300 000
    /// turns, if something goes on for ever: then use [`advance`](Self::advance).
    #[track_caller]
    pub fn run(&self) {
        let mut world = self.world();
        let until = world.now.after(super::instance::EVER);
        let turns_before = world.turns_in_all();
        while world.step(until) {
            let turns = world.turns_in_all() - turns_before;
            assert!(
                turns < TURNS_WAITED_MAX,
                "something goes on and on, {TURNS_WAITED_MAX} turns by now: use advance"
            );
        }
        assert!(world.now < until, "something goes on for ever: use advance");
    }

    /// The worker dies and another takes its place: what is not stored is gone, and orchestrators are rebuilt by
    /// replay. Attempts that ran begin again.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[activity]
    /// # async fn charge(cents: u32) -> Result<u32, ActivityError> { Ok(cents) }
    /// # #[orchestrator]
    /// # async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
    /// #     let paid = ctx.call(charge, &cents).await?;
    /// #     ctx.sleep(hours(1)).await;
    /// #     Ok(paid)
    /// # }
    ///
    /// let hub = TestHub::new().register(pay).register(charge);
    /// let payment = hub.start(pay, 700);
    /// hub.advance(minutes(10));
    /// hub.restart_worker();
    /// assert_eq!(payment.output().unwrap(), 700);
    /// assert_eq!(hub.calls(charge).len(), 1); // what is recorded is not done again
    /// ```
    #[track_caller]
    pub fn restart_worker(&self) {
        self.world().lose_memory();
    }

    /// The attempts of an activity, in the order in which they began.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[activity]
    /// # async fn charge(cents: u32) -> Result<u32, ActivityError> { Ok(cents) }
    /// # #[orchestrator]
    /// # async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
    /// #     Ok(ctx.call(charge, &cents).await?)
    /// # }
    ///
    /// let hub = TestHub::new().register(pay).register(charge);
    /// hub.start(pay, 700).output().unwrap();
    /// hub.start(pay, 800).output().unwrap();
    /// let charged: Vec<u32> = hub.calls(charge).into_iter().map(|call| call.input).collect();
    /// assert_eq!(charged, [700, 800]);
    /// ```
    ///
    /// # Panics
    ///
    /// If one was called by name, with an input of another shape.
    pub fn calls<A: Activity>(&self, _activity: A) -> Vec<TestCall<A::Input>> {
        let world = self.world();
        let of_it = world.begun.iter().filter(|begun| *begun.start.name == *A::NAME);
        of_it.map(|begun| TestCall::of(begun, world.begin)).collect()
    }
}
