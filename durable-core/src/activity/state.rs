//! What a worker provides to its activities: connections, clients, settings.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;

use durable_machine::model::{Failure, FailureClass};

/// A parameter of an activity that is the worker's value of that type.
///
/// The value is cloned for each attempt: put what is large or shared into an `Arc`. A worker that lacks a
/// state which one of its activities needs does not start, and says so.
///
/// ```
/// use std::sync::Arc;
/// use durable_core::prelude::*;
///
/// #[derive(Clone)]
/// struct Db(Arc<str>);
///
/// #[activity]
/// async fn address(State(db): State<Db>) -> Result<String, ActivityError> {
///     Ok(db.0.to_string())
/// }
///
/// let mut registry = Registry::new();
/// registry.register(address);
/// assert!(registry.check().unwrap_err().to_string().contains("Db"));
/// registry.state(Db("localhost:5432".into()));
/// assert!(registry.check().is_ok());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State<T>(pub T);

/// The states of a worker, by their type.
///
/// ```
/// use durable_core::{FromStates, State, StateType, States};
///
/// let states = States::default(); // a worker fills it by `WorkerBuilder::state`
/// assert!(!states.has(StateType::of::<String>()));
/// assert_eq!(states.get::<String>(), None);
/// assert!(<State<String>>::from_states(&states).is_err());
/// ```
#[derive(Default)]
pub struct States(HashMap<TypeId, (StateType, Box<dyn Any + Send + Sync>)>);

impl States {
    /// Adds a state, and says whether one of its type was there before; the newer one stays.
    pub(crate) fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> bool {
        let required = StateType::of::<T>();
        self.0.insert(required.id, (required, Box::new(value))).is_some()
    }

    /// Whether there is a state of this type.
    #[must_use]
    pub fn has(&self, required: StateType) -> bool {
        self.0.contains_key(&required.id)
    }

    /// A clone of the state of this type.
    #[must_use]
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.0.get(&TypeId::of::<T>())?.1.downcast_ref::<T>().cloned()
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.0.values().map(|(required, _)| required.name).collect();
        names.sort_unstable();
        f.debug_set().entries(names).finish()
    }
}

/// A type of state, named for people.
///
/// ```
/// use durable_core::StateType;
///
/// assert_eq!(StateType::of::<String>().name(), "alloc::string::String");
/// assert_ne!(StateType::of::<String>(), StateType::of::<&str>());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateType {
    id: TypeId,
    name: &'static str,
}

impl StateType {
    /// The type `T`.
    #[must_use]
    pub fn of<T: 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }

    /// Its name with its path.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }
}

/// A parameter that is taken from the worker's states.
///
/// ```
/// use durable_core::{FromStates, State, StateType};
///
/// assert_eq!(<State<u16>>::required(), StateType::of::<u16>());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a state of an activity",
    note = "the `T` of `State<T>` is `Clone + Send + Sync + 'static`; an `Arc` around it often helps"
)]
pub trait FromStates: Sized {
    /// The type of state that it needs.
    fn required() -> StateType;

    /// Takes it.
    ///
    /// # Errors
    ///
    /// [`MissingState`] where the worker was started without it.
    fn from_states(states: &States) -> Result<Self, MissingState>;
}

impl<T: Clone + Send + Sync + 'static> FromStates for State<T> {
    fn required() -> StateType {
        StateType::of::<T>()
    }

    fn from_states(states: &States) -> Result<Self, MissingState> {
        states.get().map(State).ok_or(MissingState(Self::required()))
    }
}

/// A state that an activity needs and its worker does not have.
///
/// ```
/// use durable_core::{MissingState, StateType};
///
/// let missing = MissingState(StateType::of::<u16>());
/// assert_eq!(missing.to_string(), "the worker has no state of type `u16`");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker has no state of type `{}`", .0.name)]
pub struct MissingState(pub StateType);

impl MissingState {
    pub(crate) fn into_failure(self) -> Failure {
        Failure::new(FailureClass::Unregistered, "MissingState", self.to_string())
    }
}
