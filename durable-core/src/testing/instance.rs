//! An instance in the hub of a test.

use std::cell::{RefCell, RefMut};
use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use durable_machine::model::{
    Command, Envelope, EnvelopeId, Event, InstanceId, Payload, RuntimeStatus,
};
use durable_machine::partition::Answer;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::world::{TURNS_WAITED_MAX, World};
use crate::client::InstanceStatus;
use crate::error::OrchestrationError;

/// Virtual time after which nothing is waited for any more: a hundred years.
pub(super) const EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// An instance that a test started or names.
///
/// ```
/// use durable_core::prelude::*;
/// use durable_core::testing::TestHub;
///
/// #[orchestrator]
/// async fn place_order(ctx: OrchestrationContext, item: String) -> Result<String, OrchestrationError> {
///     ctx.set_custom_status("waits for approval")?;
///     let by: String = ctx.wait_event("approved").await?;
///     Ok(format!("{item}, approved by {by}"))
/// }
///
/// let order = TestHub::new().register(place_order).start(place_order, "a lamp".into());
/// assert_eq!(order.id().as_str(), "test-1");
/// assert_eq!(order.status().runtime_status(), RuntimeStatus::Running);
/// assert_eq!(order.custom_status(), Some("waits for approval".to_string()));
///
/// order.raise_event("approved", "Ada");
/// assert_eq!(order.output().unwrap(), "a lamp, approved by Ada");
/// assert!(order.story().contains("approved"));
/// assert!(!order.history().is_empty());
/// ```
pub struct TestInstance<T> {
    world: Rc<RefCell<World>>,
    id: InstanceId,
    output: PhantomData<fn() -> T>,
}

impl<T> TestInstance<T> {
    pub(super) fn new(world: Rc<RefCell<World>>, id: InstanceId) -> Self {
        Self { world, id, output: PhantomData }
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &InstanceId {
        &self.id
    }

    /// Its status now.
    ///
    /// # Panics
    ///
    /// If no instance has the id.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> InstanceStatus {
        match self.world().status(&self.id) {
            Some(row) => InstanceStatus::new(row),
            None => panic!("no instance has the id {}", self.id),
        }
    }

    /// What its code last showed; `None` where it showed nothing.
    ///
    /// # Panics
    ///
    /// If it has another shape, or no instance has the id.
    #[must_use]
    #[track_caller]
    pub fn custom_status<S: DeserializeOwned>(&self) -> Option<S> {
        self.status().custom_status().unwrap_or_else(|error| panic!("{error}\n{}", self.story()))
    }

    /// Raises an event, and lets the instance run as far as it comes without time passing.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn approve(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    /// #     Ok(ctx.wait_event("approved").await?)
    /// # }
    ///
    /// let approval = TestHub::new().register(approve).start(approve, ());
    /// approval.raise_event("approved", &true);
    /// assert!(approval.status().has_ended());
    /// ```
    ///
    /// # Panics
    ///
    /// If the instance is not there or has ended, or the payload has no JSON form.
    #[track_caller]
    pub fn raise_event<E: Serialize + ?Sized>(&self, name: &str, payload: &E) {
        let envelope = self.envelope(raise(name, payload));
        self.command(envelope);
    }

    /// Raises an event when so much more time has passed. If the instance has ended by then, it is dropped.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn approve(ctx: OrchestrationContext) -> Result<bool, OrchestrationError> {
    /// #     Ok(ctx.wait_event("approved").timeout(hours(24)).await?.unwrap_or(false))
    /// # }
    ///
    /// // It waits for 24 hours at most.
    /// let hub = TestHub::new().register(approve);
    /// for (after, approved) in [(hours(23), true), (hours(25), false)] {
    ///     let approval = hub.start(approve, ());
    ///     approval.raise_event_after(after, "approved", &true);
    ///     assert_eq!(approval.output().unwrap(), approved);
    /// }
    /// ```
    ///
    /// # Panics
    ///
    /// If the payload has no JSON form.
    pub fn raise_event_after<E: Serialize + ?Sized>(
        &self,
        delay: Duration,
        name: &str,
        payload: &E,
    ) {
        let envelope = self.envelope(raise(name, payload));
        self.world().command_later(delay, envelope);
    }

    /// Ends it from outside.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> { ctx.sleep(days(1)).await; Ok(()) }
    ///
    /// let instance = TestHub::new().register(nap).start(nap, ());
    /// instance.terminate("it is late");
    /// let error = instance.output().unwrap_err();
    /// assert_eq!((error.kind(), error.message()), ("Terminated", "it is late"));
    /// ```
    ///
    /// # Panics
    ///
    /// If it is not there or has ended.
    #[track_caller]
    pub fn terminate(&self, reason: &str) {
        let envelope =
            self.envelope(Command::Terminate { reason: Some(reason.into()), tree: false });
        self.command(envelope);
    }

    /// Ends it from outside, with all its children: also those that would go on by themselves.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> { ctx.sleep(days(1)).await; Ok(()) }
    /// # #[orchestrator]
    /// # async fn two_naps(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    /// #     ctx.child(nap, &()).detach()?;
    /// #     ctx.sleep(days(1)).await;
    /// #     Ok(())
    /// # }
    ///
    /// let hub = TestHub::new().register(two_naps).register(nap);
    /// hub.start(two_naps, ()).terminate_tree("it is late");
    /// hub.run();
    /// let detached = hub.children(nap).remove(0);
    /// assert_eq!(detached.status().runtime_status(), RuntimeStatus::Terminated);
    /// ```
    ///
    /// # Panics
    ///
    /// If it is not there or has ended.
    #[track_caller]
    pub fn terminate_tree(&self, reason: &str) {
        let envelope =
            self.envelope(Command::Terminate { reason: Some(reason.into()), tree: true });
        self.command(envelope);
    }

    /// Holds it until it is resumed.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn take_nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> { ctx.sleep(hours(1)).await; Ok(()) }
    ///
    /// let hub = TestHub::new().register(take_nap);
    /// let nap = hub.start(take_nap, ());
    /// nap.suspend();
    /// hub.advance(hours(3));
    /// assert_eq!(nap.status().runtime_status(), RuntimeStatus::Suspended);
    /// nap.resume();
    /// nap.output().unwrap();
    /// assert_eq!(hub.elapsed(), hours(3));
    /// ```
    ///
    /// # Panics
    ///
    /// If it is not there or has ended.
    #[track_caller]
    pub fn suspend(&self) {
        let envelope = self.envelope(Command::Suspend { reason: None });
        self.command(envelope);
    }

    /// Lets it go on.
    ///
    /// # Panics
    ///
    /// If it is not there or has ended.
    #[track_caller]
    pub fn resume(&self) {
        let envelope = self.envelope(Command::Resume { reason: None });
        self.command(envelope);
    }

    /// Repeats it without its failures, after it has failed.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[activity]
    /// # async fn ship(order: u32) -> Result<u32, ActivityError> { Ok(order) }
    /// # #[orchestrator]
    /// # async fn place_order(ctx: OrchestrationContext, order: u32) -> Result<u32, OrchestrationError> {
    /// #     Ok(ctx.call(ship, &order).await?)
    /// # }
    ///
    /// let hub = TestHub::new().register(place_order).mock(ship, |call, order| match call.number() {
    ///     1 => Err(ActivityError::new("Closed", "nobody is in the warehouse")),
    ///     _ => Ok(order),
    /// });
    /// let order = hub.start(place_order, 7);
    /// assert!(order.output().unwrap_err().is("Closed"));
    /// order.rewind();
    /// assert_eq!(order.output().unwrap(), 7);
    /// ```
    ///
    /// # Panics
    ///
    /// If it is not there or has not failed.
    #[track_caller]
    pub fn rewind(&self) {
        let execution = self.status().execution();
        let envelope = self.envelope(Command::Rewind { execution, reason: None });
        self.command(envelope);
    }

    /// The events of its current run, all executions of it, in order.
    #[must_use]
    pub fn history(&self) -> Vec<Event> {
        let world = self.world();
        let histories = world.histories(&self.id);
        histories.into_iter().flat_map(|(_, events)| events.to_vec()).collect()
    }

    /// What happened to it, a line for each event, for people.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn take_nap(ctx: OrchestrationContext) -> Result<(), OrchestrationError> { ctx.sleep(hours(1)).await; Ok(()) }
    ///
    /// let nap = TestHub::new().register(take_nap).start(take_nap, ());
    /// nap.output().unwrap();
    /// println!("{}", nap.story());
    /// # assert!(nap.story().lines().count() > nap.history().len());
    /// ```
    #[must_use]
    pub fn story(&self) -> String {
        self.world().story(&self.id)
    }

    /// Lets time pass until it ends, and returns what it came to.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// use durable_core::testing::TestHub;
    /// # #[orchestrator]
    /// # async fn pay(_: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
    /// #     if cents > 500 { return Err(OrchestrationError::new("CardDeclined", "over the limit")) }
    /// #     Ok(cents)
    /// # }
    ///
    /// let hub = TestHub::new().register(pay);
    /// assert_eq!(hub.start(pay, 400).output().unwrap(), 400);
    /// assert!(hub.start(pay, 700).output().unwrap_err().is("CardDeclined"));
    /// ```
    ///
    /// # Errors
    ///
    /// The error with which it failed; kind `Terminated` where it was ended from outside.
    ///
    /// # Panics
    ///
    /// With its story, if it never ends by itself, goes on and on, is held, is not there, has an output of another shape, calls an
    /// activity or child that is neither registered nor mocked, or is not deterministic: what has ended is replayed.
    #[track_caller]
    pub fn output(&self) -> Result<T, OrchestrationError>
    where
        T: DeserializeOwned,
    {
        let until = self.world().now.after(EVER);
        let turns_before = self.world().turns_in_all();
        loop {
            let status = self.status();
            if let Some(hold) = status.hold() {
                panic!("{} is held: {}\n{}", self.id, hold.message, self.story_end());
            }
            match status.runtime_status() {
                RuntimeStatus::Completed => {
                    let output = status.row().output.clone().unwrap_or_else(Payload::null);
                    return match output.to() {
                        Ok(output) => Ok(output),
                        Err(error) => {
                            panic!("the output has another shape: {error}\n{}", self.story_end())
                        }
                    };
                }
                RuntimeStatus::Failed => {
                    let failure = status.failure().cloned();
                    return Err(failure.map_or_else(
                        || OrchestrationError::new("Failed", "without a reason"),
                        OrchestrationError::from_failure,
                    ));
                }
                RuntimeStatus::Terminated | RuntimeStatus::Canceled => {
                    let reason = status.output::<String>().ok().flatten().unwrap_or_default();
                    return Err(OrchestrationError::new("Terminated", reason));
                }
                RuntimeStatus::Running
                | RuntimeStatus::Pending
                | RuntimeStatus::Suspended
                | RuntimeStatus::ContinuedAsNew => {}
            }
            if !self.world().step(until) {
                panic!(
                    "{} does not end by itself: {}\n{}",
                    self.id,
                    self.waits_for(&status),
                    self.story_end()
                );
            }
            assert!(
                self.world().turns_in_all() - turns_before < TURNS_WAITED_MAX,
                "{} goes on and on: it has not ended after {TURNS_WAITED_MAX} turns. Where it never ends, let a \
                 time pass with hub.advance(…) and look at it then\n{}",
                self.id,
                self.story_end()
            );
        }
    }

    fn waits_for(&self, status: &InstanceStatus) -> String {
        if status.runtime_status() == RuntimeStatus::Suspended {
            return "it is suspended".to_owned();
        }
        let names = self.world().awaited_events(&self.id);
        match names.as_slice() {
            [] => "it waits for something from outside".to_owned(),
            names => {
                let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
                format!("it waits for event {}", names.join(" or "))
            }
        }
    }

    fn story_end(&self) -> String {
        self.world().story_end(&self.id)
    }

    fn envelope(&self, command: Command) -> Envelope {
        let id = EnvelopeId(format!("test-{}", self.world().number()).into());
        Envelope { id, instance: self.id.clone(), run: None, command }
    }

    #[track_caller]
    fn command(&self, envelope: Envelope) {
        let what = envelope.command.clone();
        let answer = self.world().command(envelope);
        let why = match answer {
            Some(Answer::Accepted) => return,
            Some(Answer::NotFound) => "it is not there".to_owned(),
            Some(Answer::Finished(status)) => format!("it has ended ({status})"),
            Some(Answer::Unfinished(status)) => format!("it has not ended ({status})"),
            Some(Answer::Full) => "it holds as many unconsumed events as it may".to_owned(),
            Some(Answer::Refused(why) | Answer::Unavailable(why)) => why,
            Some(Answer::Overloaded | Answer::Started(_)) | None => format!("{answer:?}"),
        };
        panic!("{} does not take {}: {why}\n{}", self.id, named(&what), self.story_end());
    }
}

fn named(command: &Command) -> String {
    match command {
        Command::Raise { name, .. } => format!("the event {name:?}"),
        Command::Terminate { .. } => "a terminate".to_owned(),
        Command::Suspend { .. } => "a suspend".to_owned(),
        Command::Resume { .. } => "a resume".to_owned(),
        Command::Rewind { .. } => "a rewind".to_owned(),
        Command::Purge { .. } => "a purge".to_owned(),
    }
}

fn raise<E: Serialize + ?Sized>(name: &str, payload: &E) -> Command {
    let input = Payload::of(payload)
        .unwrap_or_else(|error| panic!("the payload of event {name:?} has no JSON form: {error}"));
    Command::Raise { name: name.into(), input }
}

impl<T> fmt::Debug for TestInstance<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestInstance").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use crate::prelude::*;
    use crate::testing::TestHub;

    #[orchestrator]
    async fn every_second(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
        ctx.sleep(secs(1)).await;
        ctx.continue_as_new(&())
    }

    fn said(test: impl FnOnce()) -> String {
        let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("it fails");
        panic.downcast_ref::<String>().cloned().expect("a text")
    }

    #[test]
    fn what_goes_on_for_ever_is_told_with_the_end_of_its_story() {
        let hub = TestHub::new().register(every_second);
        let text = said(|| hub.start(every_second, ()).output().unwrap());
        assert!(text.starts_with("test-1 goes on and on"), "{text}");
        assert!(text.contains("hub.advance(…)") && text.contains("lines before"), "{text}");
        assert!(text.lines().count() < 110, "{text}");

        let text = said(|| hub.run());
        assert!(text.contains("goes on and on") && text.contains("use advance"), "{text}");
        // It is fit to be looked at all the same.
        hub.advance(hours(1));
    }
}
