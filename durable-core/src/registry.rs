//! Which functions a worker has, by name, and the states they need.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use durable_machine::model::{Failure, Payload, limits};
use durable_machine::replay::OrchestratorFn;

use crate::activity::{Activity, ActivityContext, ActivityReturn, MissingState, StateType, States};
use crate::error::{ActivityError, OrchestrationError, name_problem, payload_failure};
use crate::orchestration::{OrchestrationContext, Orchestrator, OrchestratorReturn};

/// The future of an attempt.
///
/// ```
/// use durable_core::{ActivityFuture, Payload};
///
/// let done: ActivityFuture = Box::pin(async { Ok(Payload::null()) });
/// let result = futures::executor::block_on(done);
/// assert_eq!(result, Ok(Payload::null()));
/// ```
pub type ActivityFuture = Pin<Box<dyn Future<Output = Result<Payload, Failure>> + Send>>;

/// An activity as the engine runs it: from a call's input to its stored result.
///
/// The input is read when it is called, so call it where a panic of a deserializer is caught.
///
/// ```
/// use std::sync::Arc;
/// use durable_core::{ActivityContext, ActivityFn, Payload, States};
///
/// let echo = ActivityFn::Blocking(Arc::new(|_context, input, _states| Ok(input)));
/// let ActivityFn::Blocking(code) = &echo else { unreachable!() };
/// let output = code(ActivityContext::for_test(1), Payload::null(), &States::default());
/// assert_eq!(output, Ok(Payload::null()));
/// ```
#[derive(Clone)]
pub enum ActivityFn {
    /// On the async runtime.
    Async(AsyncActivityFn),
    /// On a thread where blocking is allowed.
    Blocking(BlockingActivityFn),
}

/// An activity that awaits.
///
/// ```
/// use std::sync::Arc;
/// use durable_core::{ActivityContext, AsyncActivityFn, Payload, States};
///
/// let echo: AsyncActivityFn = Arc::new(|_context, input, _states| Box::pin(async { Ok(input) }));
/// let run = echo(ActivityContext::for_test(1), Payload::null(), &States::default());
/// assert_eq!(futures::executor::block_on(run), Ok(Payload::null()));
/// ```
pub type AsyncActivityFn =
    Arc<dyn Fn(ActivityContext, Payload, &States) -> ActivityFuture + Send + Sync>;

/// An activity that blocks its thread.
///
/// ```
/// use std::sync::Arc;
/// use durable_core::{ActivityContext, BlockingActivityFn, Payload, States};
///
/// let echo: BlockingActivityFn = Arc::new(|_context, input, _states| Ok(input));
/// let output = echo(ActivityContext::for_test(1), Payload::null(), &States::default());
/// assert_eq!(output, Ok(Payload::null()));
/// ```
pub type BlockingActivityFn =
    Arc<dyn Fn(ActivityContext, Payload, &States) -> Result<Payload, Failure> + Send + Sync>;

impl fmt::Debug for ActivityFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async(_) => "Async",
            Self::Blocking(_) => "Blocking",
        })
    }
}

/// What can be registered: the values that [`#[orchestrator]`](macro@crate::orchestrator) and
/// [`#[activity]`](macro@crate::activity) make.
///
/// ```
/// use durable_core::prelude::*;
/// use durable_core::{Register, Registry};
///
/// #[activity]
/// async fn reserve(item: String) -> Result<(), ActivityError> {
///     Ok(())
/// }
///
/// /// A part of a program can say in one value what it adds.
/// struct Warehouse;
///
/// impl Register for Warehouse {
///     fn register(self, registry: &mut Registry) {
///         registry.register(reserve).state("warehouse.db".to_string());
///     }
/// }
///
/// let mut registry = Registry::new();
/// registry.register(Warehouse);
/// assert_eq!(registry.activities().collect::<Vec<_>>(), ["reserve"]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither an orchestrator nor an activity",
    label = "not marked with `#[orchestrator]` or `#[activity]`",
    note = "register a closure with `register_activity_fn` or `register_orchestrator_fn`"
)]
pub trait Register {
    /// Puts it into a registry.
    fn register(self, registry: &mut Registry);
}

/// The functions and states of a worker.
///
/// Orchestrators and activities have names of their own: one of each may have the same.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[activity]
/// async fn greet(State(greeting): State<String>, name: String) -> Result<String, ActivityError> {
///     Ok(format!("{greeting}, {name}!"))
/// }
///
/// #[orchestrator]
/// async fn welcome(ctx: OrchestrationContext, name: String) -> Result<String, OrchestrationError> {
///     Ok(ctx.call(greet, &name).await?)
/// }
///
/// /// What the worker has, and the tests.
/// fn registry() -> Registry {
///     let mut registry = Registry::new();
///     registry.register(welcome).register(greet).state("Hello".to_string());
///     registry
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// assert_eq!(registry().orchestrators().collect::<Vec<_>>(), ["welcome"]);
/// assert_eq!(registry().activities().collect::<Vec<_>>(), ["greet"]);
/// registry().check()?;
///
/// let worker = Worker::builder(MemoryStore::new()).registry(registry()).start().await?;
/// let welcomed = worker.client().start(welcome, "Ada".into()).await?;
/// assert_eq!(welcomed.output().await?, "Hello, Ada!");
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Registry {
    orchestrators: BTreeMap<String, OrchestratorFn>,
    activities: BTreeMap<String, ActivityFn>,
    states: States,
    required: Vec<(String, StateType)>,
    problems: Vec<RegistryProblem>,
}

impl Registry {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an orchestrator or activity.
    pub fn register(&mut self, function: impl Register) -> &mut Self {
        function.register(self);
        self
    }

    /// Provides a state to the activities that have it as a [`State<T>`](crate::State) parameter.
    pub fn state<T: Clone + Send + Sync + 'static>(&mut self, state: T) -> &mut Self {
        if self.states.insert(state) {
            self.problems.push(RegistryProblem::TwoStates { state: StateType::of::<T>() });
        }
        self
    }

    /// Adds an activity that is a closure. Use [`Payload`] as its input or output where their shape is
    /// not known.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// let mut registry = Registry::new();
    /// registry.register_activity_fn("echo", |_ctx, input: Payload| async move { Ok(input) });
    /// registry.register_activity_fn("add", |_ctx, (a, b): (i64, i64)| async move { Ok(a + b) });
    /// assert_eq!(registry.activities().collect::<Vec<_>>(), ["add", "echo"]);
    /// ```
    pub fn register_activity_fn<F, Fut, I, O>(
        &mut self,
        name: impl Into<String>,
        function: F,
    ) -> &mut Self
    where
        F: Fn(ActivityContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, ActivityError>> + Send + 'static,
        I: DeserializeOwned,
        O: Serialize,
    {
        let name = name.into();
        let erased = erase_async(name.as_str().into(), move |context, _states, input: I| {
            Ok(function(context, input))
        });
        self.insert_activity(name, erased);
        self
    }

    /// Adds a blocking activity that is a closure.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// let mut registry = Registry::new();
    /// registry.register_blocking_activity_fn("size", |_ctx, path: String| {
    ///     Ok(std::fs::metadata(path)?.len())
    /// });
    /// assert_eq!(registry.activities().collect::<Vec<_>>(), ["size"]);
    /// ```
    pub fn register_blocking_activity_fn<F, I, O>(
        &mut self,
        name: impl Into<String>,
        function: F,
    ) -> &mut Self
    where
        F: Fn(ActivityContext, I) -> Result<O, ActivityError> + Send + Sync + 'static,
        I: DeserializeOwned,
        O: Serialize,
    {
        let name = name.into();
        let erased = erase_blocking(name.as_str().into(), move |context, _states, input: I| {
            Ok(function(context, input))
        });
        self.insert_activity(name, erased);
        self
    }

    /// Adds an orchestrator that is a closure.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut registry = Registry::new();
    /// registry.register_orchestrator_fn("double", |_ctx, number: u32| async move { Ok(2 * number) });
    ///
    /// let worker = Worker::builder(MemoryStore::new()).registry(registry).start().await?;
    /// let doubled = worker.client().start_by_name("double", &21).await?.output().await?;
    /// assert_eq!(doubled.json(), "42");
    /// # Ok(())
    /// # }
    /// ```
    pub fn register_orchestrator_fn<F, Fut, I, O>(
        &mut self,
        name: impl Into<String>,
        function: F,
    ) -> &mut Self
    where
        F: Fn(OrchestrationContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, OrchestrationError>> + Send + 'static,
        I: DeserializeOwned,
        O: Serialize,
    {
        let name = name.into();
        let erased = erase_orchestrator(name.as_str().into(), function);
        self.insert_orchestrator(name, erased);
        self
    }

    /// Adds the code of an orchestrator. For generated code.
    #[doc(hidden)]
    pub fn add_orchestrator<O, F, Fut>(&mut self, function: F)
    where
        O: Orchestrator,
        F: Fn(OrchestrationContext, O::Input) -> Fut + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: OrchestratorReturn<Output = O::Output>,
    {
        self.insert_orchestrator(O::NAME.into(), erase_orchestrator(O::NAME.into(), function));
    }

    /// Adds the code of an activity. For generated code.
    #[doc(hidden)]
    pub fn add_activity<A, F, Fut>(&mut self, required: &[StateType], function: F)
    where
        A: Activity,
        F: Fn(ActivityContext, &States, A::Input) -> Result<Fut, MissingState>
            + Send
            + Sync
            + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: ActivityReturn<Output = A::Output>,
    {
        self.require(A::NAME, required);
        self.insert_activity(A::NAME.into(), erase_async(A::NAME.into(), function));
    }

    /// Adds the code of a blocking activity. For generated code.
    #[doc(hidden)]
    pub fn add_blocking_activity<A, F, R>(&mut self, required: &[StateType], function: F)
    where
        A: Activity,
        F: Fn(ActivityContext, &States, A::Input) -> Result<R, MissingState>
            + Send
            + Sync
            + 'static,
        R: ActivityReturn<Output = A::Output>,
    {
        self.require(A::NAME, required);
        self.insert_activity(A::NAME.into(), erase_blocking(A::NAME.into(), function));
    }

    /// Names of the orchestrators, in order.
    pub fn orchestrators(&self) -> impl Iterator<Item = &str> {
        self.orchestrators.keys().map(String::as_str)
    }

    /// Names of the activities, in order.
    pub fn activities(&self) -> impl Iterator<Item = &str> {
        self.activities.keys().map(String::as_str)
    }

    /// Whether a worker can start with it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once.
    pub fn check(&self) -> Result<(), RegistryError> {
        let missing = self.required.iter().filter(|(_, state)| !self.states.has(*state)).map(
            |(activity, state)| RegistryProblem::MissingState {
                activity: activity.clone(),
                state: *state,
            },
        );
        let problems: Vec<_> = self.problems.iter().cloned().chain(missing).collect();
        if problems.is_empty() { Ok(()) } else { Err(RegistryError { problems }) }
    }

    /// What is wrong with it, but for states that only these activities lack.
    #[cfg(feature = "testing")]
    pub(crate) fn problems_but_states_of(
        &self,
        excused: impl Fn(&str) -> bool,
    ) -> Vec<RegistryProblem> {
        let problems = self.check().err().map(|error| error.problems).unwrap_or_default();
        let counts = |problem: &RegistryProblem| match problem {
            RegistryProblem::MissingState { activity, .. } => !excused(activity),
            RegistryProblem::TwoFunctions { .. }
            | RegistryProblem::BadName { .. }
            | RegistryProblem::TwoStates { .. } => true,
        };
        problems.into_iter().filter(counts).collect()
    }

    /// The code of its orchestrators, by name.
    #[cfg(feature = "testing")]
    pub(crate) fn orchestrator_functions(&self) -> &BTreeMap<String, OrchestratorFn> {
        &self.orchestrators
    }

    /// The activity of this name.
    #[cfg(feature = "testing")]
    pub(crate) fn activity(&self, name: &str) -> Option<&ActivityFn> {
        self.activities.get(name)
    }

    /// Its states.
    #[cfg(feature = "testing")]
    pub(crate) fn states(&self) -> &States {
        &self.states
    }

    /// Checks it and takes it apart, for a worker.
    #[allow(dead_code, reason = "called where a worker starts")]
    pub(crate) fn into_functions(self) -> Result<Functions, RegistryError> {
        self.check()?;
        Ok(Functions {
            orchestrators: self.orchestrators,
            activities: self.activities,
            states: Arc::new(self.states),
        })
    }

    fn require(&mut self, activity: &str, required: &[StateType]) {
        self.required.extend(required.iter().map(|state| (activity.to_owned(), *state)));
    }

    fn insert_orchestrator(&mut self, name: String, code: OrchestratorFn) {
        self.check_name("orchestrator", &name);
        if self.orchestrators.insert(name.clone(), code).is_some() {
            self.problems.push(RegistryProblem::TwoFunctions { kind: "orchestrator", name });
        }
    }

    fn insert_activity(&mut self, name: String, code: ActivityFn) {
        self.check_name("activity", &name);
        if self.activities.insert(name.clone(), code).is_some() {
            self.problems.push(RegistryProblem::TwoFunctions { kind: "activity", name });
        }
    }

    fn check_name(&mut self, kind: &'static str, name: &str) {
        if let Some(problem) = name_problem(name) {
            let shown = name.chars().take(40).collect();
            self.problems.push(RegistryProblem::BadName { kind, name: shown, problem });
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("orchestrators", &self.orchestrators.keys())
            .field("activities", &self.activities)
            .field("states", &self.states)
            .finish_non_exhaustive()
    }
}

/// A checked registry: what a worker runs.
#[allow(dead_code, reason = "read by the worker")]
pub(crate) struct Functions {
    pub(crate) orchestrators: BTreeMap<String, OrchestratorFn>,
    pub(crate) activities: BTreeMap<String, ActivityFn>,
    pub(crate) states: Arc<States>,
}

/// Everything that is wrong with a registry.
///
/// ```
/// use durable_core::prelude::*;
/// # #[activity]
/// # async fn save(State(db): State<String>) -> Result<(), ActivityError> { Ok(()) }
///
/// let mut registry = Registry::new();
/// registry.register(save).register_orchestrator_fn("", |_ctx, (): ()| async { Ok(()) });
/// let error = registry.check().unwrap_err();
/// assert_eq!(error.problems().len(), 2);
/// assert_eq!(error.to_string().lines().count(), 2);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    problems: Vec<RegistryProblem>,
}

impl RegistryError {
    /// The problems, in the order of registration, missing states last.
    #[must_use]
    pub fn problems(&self) -> &[RegistryProblem] {
        &self.problems
    }
}

impl fmt::Display for RegistryError {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the worker cannot start")?;
        for (position, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if position == 0 { ": " } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for RegistryError {}

/// One thing that is wrong with a registry.
///
/// ```
/// use durable_core::RegistryProblem;
/// use durable_core::prelude::*;
/// # #[activity]
/// # async fn save(State(db): State<String>) -> Result<(), ActivityError> { Ok(()) }
///
/// let mut registry = Registry::new();
/// registry.register(save);
/// match &registry.check().unwrap_err().problems()[0] {
///     RegistryProblem::MissingState { activity, state } => {
///         assert_eq!((activity.as_str(), state.name()), ("save", "alloc::string::String"));
///     }
///     other => panic!("{other}"),
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryProblem {
    /// Two functions of one kind have one name.
    #[error(
        "two {} are named {name:?}; give one another name with #[{kind}(name = \"…\")]",
        plural(kind)
    )]
    TwoFunctions {
        /// `orchestrator` or `activity`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A name that cannot be stored.
    #[error("the {kind} {name:?} cannot be registered: {problem}")]
    BadName {
        /// `orchestrator` or `activity`.
        kind: &'static str,
        /// The name, or its beginning.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An activity needs a state that was not provided.
    #[error(
        "activity {activity:?} has a parameter State<{}>, and no state of that type was provided; \
         add it with .state(…)",
        state.name()
    )]
    MissingState {
        /// The activity.
        activity: String,
        /// The type of the state.
        state: StateType,
    },
    /// Two states of one type: an activity could not tell which it gets.
    #[error(
        "two states of type {} were provided; wrap one in a type of its own",
        state.name()
    )]
    TwoStates {
        /// The type.
        state: StateType,
    },
}

fn plural(kind: &str) -> &'static str {
    if kind == "activity" { "activities" } else { "orchestrators" }
}

fn erase_orchestrator<F, Fut, I>(name: Arc<str>, function: F) -> OrchestratorFn
where
    F: Fn(OrchestrationContext, I) -> Fut + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: OrchestratorReturn,
    <Fut::Output as OrchestratorReturn>::Output: Serialize,
    I: DeserializeOwned,
{
    Arc::new(move |context, input| {
        let started = input
            .to::<I>()
            .map(|input| function(OrchestrationContext::new(context.clone()), input))
            .map_err(|error| {
                payload_failure(format_args!("the input of orchestrator {name:?}"), &error)
            });
        let name = name.clone();
        Box::pin(async move {
            let returned = started?.await.into_result().map_err(OrchestrationError::into_returned);
            if let Err(failure) = &returned
                && let Some(Err(error)) = context.continues_with(failure).map(Payload::to::<I>)
            {
                let what = format_args!("the input with which orchestrator {name:?} continues");
                return Err(payload_failure(what, &error));
            }
            let output = returned?;
            // The machine refuses an output that is too large.
            Payload::of(&output).map_err(|error| {
                payload_failure(format_args!("the output of orchestrator {name:?}"), &error)
            })
        })
    })
}

fn erase_async<F, Fut, I>(name: Arc<str>, function: F) -> ActivityFn
where
    F: Fn(ActivityContext, &States, I) -> Result<Fut, MissingState> + Send + Sync + 'static,
    Fut: Future + Send + 'static,
    Fut::Output: ActivityReturn,
    <Fut::Output as ActivityReturn>::Output: Serialize,
    I: DeserializeOwned,
{
    ActivityFn::Async(Arc::new(move |context, input, states| {
        let started = read_input(&name, &input)
            .and_then(|input| function(context, states, input).map_err(MissingState::into_failure));
        let name = name.clone();
        Box::pin(async move { written_output(&name, started?.await) })
    }))
}

fn erase_blocking<F, I, R>(name: Arc<str>, function: F) -> ActivityFn
where
    F: Fn(ActivityContext, &States, I) -> Result<R, MissingState> + Send + Sync + 'static,
    R: ActivityReturn,
    R::Output: Serialize,
    I: DeserializeOwned,
{
    ActivityFn::Blocking(Arc::new(move |context, input, states| {
        let input = read_input(&name, &input)?;
        let returned = function(context, states, input).map_err(MissingState::into_failure)?;
        written_output(&name, returned)
    }))
}

fn read_input<I: DeserializeOwned>(name: &str, input: &Payload) -> Result<I, Failure> {
    input
        .to()
        .map_err(|error| payload_failure(format_args!("the input of activity {name:?}"), &error))
}

fn written_output<R>(name: &str, returned: R) -> Result<Payload, Failure>
where
    R: ActivityReturn,
    R::Output: Serialize,
{
    let output = returned.into_result().map_err(ActivityError::into_failure)?;
    let output = Payload::of(&output).map_err(|error| {
        payload_failure(format_args!("the output of activity {name:?}"), &error)
    })?;
    if output.bytes() > limits::PAYLOAD_BYTES_MAX {
        return Err(Failure::limit(format!(
            "the output of activity {name:?} is larger than {} MiB; store the data elsewhere and \
             return a reference",
            limits::PAYLOAD_BYTES_MAX / (1024 * 1024)
        )));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[derive(Clone)]
    struct Db;

    #[activity]
    async fn save(State(_db): State<Db>, State(_limit): State<u16>) -> Result<(), ActivityError> {
        Ok(())
    }

    #[orchestrator]
    async fn keep(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
        Ok(ctx.call(save, &()).await?)
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let mut registry = Registry::new();
        registry.register(save).register(keep).register(keep);
        registry.register_activity_fn("save", |_, (): ()| async { Ok(()) });
        registry.register_orchestrator_fn("", |_, (): ()| async { Ok(()) });
        registry.state(1_u8).state(2_u8);
        let error = registry.check().expect_err("much is wrong");
        assert_eq!(error.problems().len(), 6);
        let text = error.to_string();
        for sentence in [
            "the worker cannot start: two orchestrators are named \"keep\"; give one another name",
            "two activities are named \"save\"",
            "the orchestrator \"\" cannot be registered: the name is empty",
            "two states of type u8",
            "activity \"save\" has a parameter State<durable_core::registry::tests::Db>",
            "activity \"save\" has a parameter State<u16>",
        ] {
            assert!(text.contains(sentence), "{text}");
        }
        assert!(registry.into_functions().is_err());
    }

    #[test]
    fn a_complete_registry_names_its_functions() {
        let mut registry = Registry::new();
        registry.register(save).register(keep).state(Db).state(5_u16);
        // An orchestrator and an activity may share a name.
        registry.register_activity_fn("keep", |_, (): ()| async { Ok(()) });
        assert_eq!(registry.check(), Ok(()));
        assert_eq!(registry.orchestrators().collect::<Vec<_>>(), ["keep"]);
        assert_eq!(registry.activities().collect::<Vec<_>>(), ["keep", "save"]);
        let shown = format!("{registry:?}");
        assert!(shown.contains("\"save\": Async") && shown.contains("u16"), "{shown}");
    }
}
