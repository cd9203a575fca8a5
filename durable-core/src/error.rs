//! Errors that keep their type across the boundary of a process.
//!
//! | type | who sees it |
//! | --- | --- |
//! | [`ActivityError`] | returned by activities |
//! | [`CallError`] | given to orchestrators, where they await a call or an event |
//! | [`OrchestrationError`] | returned by orchestrators |
//! | [`Failure`] | stored; what each of the others is made of |
//!
//! A failure has a *kind*, which is a name to decide by (`"CardDeclined"`), a message for people,
//! optional details of any serde type, and its causes. Errors of other libraries become failures by `?`:
//! their kind is the name of their type, their message what they display, their causes their sources.
//!
//! ```
//! use durable_core::prelude::*;
//!
//! #[activity]
//! async fn charge(cents: u32) -> Result<(), ActivityError> {
//!     let limit: u32 = "5000".parse()?; // any error type: this one would be a `ParseIntError`
//!     if cents > limit {
//!         return Err(ActivityError::new("CardDeclined", "the amount is over the card's limit")
//!             .details(&limit)
//!             .permanent());
//!     }
//!     Ok(())
//! }
//!
//! #[orchestrator]
//! async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
//!     match ctx.call(charge, &cents).await {
//!         Ok(()) => Ok(cents),
//!         // Whatever the card allows, then.
//!         Err(error) if error.is("CardDeclined") => Ok(error.details().unwrap_or(0)),
//!         // Ends the orchestration with the same kind, message and details.
//!         Err(error) => Err(error.into()),
//!     }
//! }
//! ```

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use durable_machine::model::{Failure, FailureClass, InvalidPayload, Payload, limits};

/// Sources of a foreign error that are kept. Real chains have two or three.
const CAUSES_MAX: usize = 32;

macro_rules! returned_error {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Every `std::error::Error` converts into it by `?`, which is why it does not implement that
        /// trait itself. What is no such type, as `Box<dyn Error>` and the errors of `anyhow` are not, converts by
        #[doc = concat!("[`from_dyn`](", stringify!($name), "::from_dyn).")]
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name(Box<Failure>);

        impl $name {
            /// An error of this kind: a name that callers decide by, and a sentence for people.
            ///
            /// ```
            #[doc = concat!("use durable_core::", stringify!($name), ";")]
            ///
            #[doc = concat!("let error = ", stringify!($name), "::new(\"CardDeclined\", \"over the limit\");")]
            /// assert_eq!(error.to_string(), "CardDeclined: over the limit");
            /// ```
            pub fn new(kind: impl Into<String>, message: impl fmt::Display) -> Self {
                Self(Box::new(Failure::new(
                    FailureClass::Application,
                    kind,
                    message.to_string(),
                )))
            }

            /// Attaches a value that callers can read with [`CallError::details`]. Where it has no JSON
            /// form or is too large, the message says so instead.
            ///
            /// ```
            #[doc = concat!("use durable_core::", stringify!($name), ";")]
            ///
            #[doc = concat!("let error = ", stringify!($name), "::new(\"CardDeclined\", \"over the limit\").details(&500);")]
            /// let details = error.failure().details.as_ref().unwrap();
            /// assert_eq!(details.to::<u32>().unwrap(), 500);
            /// ```
            #[must_use]
            pub fn details<T: Serialize + ?Sized>(mut self, details: &T) -> Self {
                attach(&mut self.0, details);
                self
            }

            /// Says that another attempt cannot help: whatever its policy, the call is not retried.
            ///
            /// ```
            #[doc = concat!("use durable_core::", stringify!($name), ";")]
            ///
            #[doc = concat!("assert!(", stringify!($name), "::new(\"CardDeclined\", \"over the limit\").permanent().is_permanent());")]
            /// ```
            #[must_use]
            pub fn permanent(mut self) -> Self {
                self.0.permanent = true;
                self
            }

            /// Names the cause: any error. What it was caused by comes along.
            ///
            /// ```
            #[doc = concat!("use durable_core::", stringify!($name), ";")]
            ///
            /// let cause = "x".parse::<u32>().unwrap_err();
            #[doc = concat!("let error = ", stringify!($name), "::new(\"BadInput\", \"this is no number\").caused_by(cause);")]
            /// assert_eq!(error.failure().cause.as_ref().unwrap().kind, "ParseIntError");
            /// ```
            #[must_use]
            pub fn caused_by(mut self, cause: impl Into<Self>) -> Self {
                self.0.cause = Some(cause.into().0);
                self
            }

            /// The kind.
            #[must_use]
            pub fn kind(&self) -> &str {
                &self.0.kind
            }

            /// Whether it is of this kind.
            #[must_use]
            pub fn is(&self, kind: &str) -> bool {
                self.0.kind == kind
            }

            /// The sentence for people.
            #[must_use]
            pub fn message(&self) -> &str {
                &self.0.message
            }

            /// Whether another attempt cannot help.
            #[must_use]
            pub fn is_permanent(&self) -> bool {
                self.0.permanent
            }

            /// The stored form.
            #[must_use]
            pub fn failure(&self) -> &Failure {
                &self.0
            }

            /// The error of a stored form.
            #[must_use]
            pub fn from_failure(failure: Failure) -> Self {
                Self(Box::new(failure))
            }

            /// The stored form.
            #[must_use]
            pub fn into_failure(self) -> Failure {
                *self.0
            }
        }

        impl $name {
            /// An error whose type is not known: a `Box<dyn Error>`, or one of `anyhow`. Its kind is `Error`, its message
            /// what it displays, its causes its sources.
            ///
            /// ```
            #[doc = concat!("use durable_core::", stringify!($name), ";")]
            /// use std::error::Error;
            ///
            /// fn read_settings() -> Result<u32, Box<dyn Error + Send + Sync>> {
            ///     Err("there are none".into())
            /// }
            ///
            #[doc = concat!("let settings = read_settings().map_err(|error| ", stringify!($name), "::from_dyn(&*error));")]
            /// assert_eq!(settings.unwrap_err().to_string(), "Error: there are none");
            /// ```
            #[must_use]
            pub fn from_dyn(error: &(dyn Error + 'static)) -> Self {
                Self(Box::new(failure_of_dyn(error)))
            }
        }

        impl<E: Error + 'static> From<E> for $name {
            fn from(error: E) -> Self {
                Self(Box::new(failure_of(&error)))
            }
        }

        impl fmt::Display for $name {
            /// Kind and message, then the causes.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

returned_error! {
    /// Why an attempt of an activity failed.
    ///
    /// The attempt is repeated as the call's [`RetryPolicy`](crate::RetryPolicy) says, unless the error is
    /// [`permanent`](Self::permanent) or of a kind that the policy excepts.
    ///
    /// ```
    /// use durable_core::prelude::*;
    ///
    /// #[activity]
    /// async fn charge(cents: u32) -> Result<u32, ActivityError> {
    ///     let limit: u32 = "500".parse()?; // any error converts
    ///     if cents > limit {
    ///         let message = format!("{cents} are over the card's limit");
    ///         return Err(ActivityError::new("CardDeclined", message).details(&limit).permanent());
    ///     }
    ///     Ok(cents)
    /// }
    ///
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// let error = charge.run(700).await.unwrap_err();
    /// assert_eq!((error.kind(), error.message()), ("CardDeclined", "700 are over the card's limit"));
    /// assert!(error.is("CardDeclined") && error.is_permanent());
    ///
    /// let cause = "x".parse::<u32>().unwrap_err();
    /// let error = ActivityError::new("BadInput", "this is no number").caused_by(cause);
    /// assert!(error.to_string().starts_with("BadInput: this is no number; caused by ParseIntError: "));
    /// assert_eq!(ActivityError::from_failure(error.clone().into_failure()), error);
    /// # });
    /// ```
    ActivityError
}

returned_error! {
    /// Why an orchestration failed.
    ///
    /// A [`CallError`] keeps its structure: where an activity returned an error, the orchestration fails
    /// with that very failure (kind, message, details, causes). Where the engine made the call fail (a
    /// time-out, a panic, a lost worker, a value of another shape), the orchestration's failure has the
    /// same kind, names the call, and has the original as its cause.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn charge(cents: u32) -> Result<(), ActivityError> {
    /// #     Err(ActivityError::new("CardDeclined", "over the limit"))
    /// # }
    ///
    /// #[orchestrator]
    /// async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<(), OrchestrationError> {
    ///     if cents == 0 {
    ///         return Err(OrchestrationError::new("NothingToPay", "the amount is zero"));
    ///     }
    ///     ctx.call(charge, &cents).await?; // fails with the activity's own failure
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let worker = Worker::builder(MemoryStore::new()).register(pay).register(charge).start().await?;
    /// # let client = worker.client();
    /// for (cents, kind) in [(0, "NothingToPay"), (700, "CardDeclined")] {
    ///     let status = client.start(pay, cents).await?.wait().await?;
    ///     assert_eq!(status.failure().unwrap().kind, kind);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    OrchestrationError
}

/// Why something that an orchestrator asked for failed: a call, an event, or a value that has no JSON
/// form.
///
/// ```
/// use durable_core::prelude::*;
///
/// #[activity]
/// async fn charge(cents: u32) -> Result<(), ActivityError> {
///     Err(ActivityError::new("CardDeclined", "over the limit").details(&500).permanent())
/// }
///
/// #[orchestrator]
/// async fn pay(ctx: OrchestrationContext, cents: u32) -> Result<u32, OrchestrationError> {
///     let error = ctx.call(charge, &cents).await.unwrap_err();
///     assert_eq!((error.kind(), error.message()), ("CardDeclined", "over the limit"));
///     assert_eq!((error.activity(), error.child()), (Some("charge"), None));
///     assert_eq!(error.class(), FailureClass::Application);
///     assert!(error.is_permanent() && !error.is_timeout());
///     Ok(error.details().unwrap_or(0))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let worker = Worker::builder(MemoryStore::new()).register(pay).register(charge).start().await?;
/// assert_eq!(worker.client().start(pay, 700).await?.output().await?, 500);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CallError(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    subject: Subject,
    failure: Failure,
}

/// What failed.
#[derive(Clone)]
pub(crate) enum Subject {
    Activity(Arc<str>),
    Child(Arc<str>),
    ReceivedEvent(Arc<str>),
    SentEvent(Arc<str>),
    CustomStatus,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activity(name) => write!(f, "activity {name:?} failed"),
            Self::Child(name) => write!(f, "child {name:?} failed"),
            Self::ReceivedEvent(name) => write!(f, "event {name:?} cannot be read"),
            Self::SentEvent(name) => write!(f, "event {name:?} cannot be sent"),
            Self::CustomStatus => f.write_str("the custom status cannot be set"),
        }
    }
}

impl CallError {
    pub(crate) fn new(subject: Subject, failure: Failure) -> Self {
        Self(Arc::new(Inner { subject, failure }))
    }

    /// The kind: what the activity's error has, or for failures by the engine `"Timeout"`, `"Panic"`,
    /// `"WorkerLost"`, `"Unregistered"`, `"Payload"`, `"LimitExceeded"`, `"InvalidName"`, for children also
    /// `"Terminated"`, `"Replaced"`, `"InstanceInUse"`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.failure.kind
    }

    /// Whether it is of this kind.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.0.failure.kind == kind
    }

    /// Who or what made it fail. [`FailureClass::Application`] is an error that the activity returned.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        self.0.failure.class
    }

    /// The sentence for people, of the failure alone.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.failure.message
    }

    /// The details that the activity attached; `None` where there are none of this shape.
    #[must_use]
    pub fn details<T: DeserializeOwned>(&self) -> Option<T> {
        self.0.failure.details.as_ref()?.to().ok()
    }

    /// Whether another attempt cannot help.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        self.0.failure.permanent
    }

    /// Whether an attempt or the call took longer than it may.
    ///
    /// ```
    /// use durable_core::prelude::*;
    /// # #[activity]
    /// # async fn price(item: String) -> Result<u32, ActivityError> { Ok(4_900) }
    ///
    /// #[orchestrator]
    /// async fn quote(ctx: OrchestrationContext, item: String) -> Result<Option<u32>, OrchestrationError> {
    ///     match ctx.call(price, &item).timeout(secs(30)).await {
    ///         Ok(cents) => Ok(Some(cents)),
    ///         Err(error) if error.is_timeout() => Ok(None),
    ///         Err(error) => Err(error.into()),
    ///     }
    /// }
    ///
    /// # #[cfg(feature = "testing")] {
    /// # use durable_core::testing::TestHub;
    /// let hub = TestHub::new().register(quote).mock(price, |call, _| {
    ///     call.takes(minutes(5));
    ///     Ok::<_, ActivityError>(4_900)
    /// });
    /// assert_eq!(hub.start(quote, "a lamp".into()).output().unwrap(), None);
    /// # }
    /// ```
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.class() == FailureClass::Timeout
    }

    /// Name of the activity, where a call of one failed.
    #[must_use]
    pub fn activity(&self) -> Option<&str> {
        match &self.0.subject {
            Subject::Activity(name) => Some(name),
            Subject::Child(_)
            | Subject::ReceivedEvent(_)
            | Subject::SentEvent(_)
            | Subject::CustomStatus => None,
        }
    }

    /// Name of the child's orchestrator, where a child failed.
    #[must_use]
    pub fn child(&self) -> Option<&str> {
        match &self.0.subject {
            Subject::Child(name) => Some(name),
            Subject::Activity(_)
            | Subject::ReceivedEvent(_)
            | Subject::SentEvent(_)
            | Subject::CustomStatus => None,
        }
    }

    /// The stored form.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        &self.0.failure
    }

    /// The stored form.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        Arc::unwrap_or_clone(self.0).failure
    }

    /// The failure of a function that returns this error.
    ///
    /// What the engine made fail becomes an error of the application when it is returned: the class says
    /// who ended the caller, and that is its own code.
    fn returned(&self) -> Failure {
        let failure = &self.0.failure;
        match failure.class {
            FailureClass::Application => failure.clone(),
            FailureClass::Panic
            | FailureClass::Timeout
            | FailureClass::WorkerLost
            | FailureClass::Unregistered
            | FailureClass::Limit
            | FailureClass::ForeignAwait
            | FailureClass::Payload
            | FailureClass::Cancelled => returned(failure.clone(), self.0.subject.to_string()),
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.subject, self.0.failure)
    }
}

impl fmt::Debug for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallError({self})")
    }
}

impl Error for CallError {}

/// The same kind as an error that the application returned; the failure is its cause.
fn returned(failure: Failure, message: String) -> Failure {
    let mut outer = Failure::new(FailureClass::Application, failure.kind.clone(), message);
    outer.details.clone_from(&failure.details);
    outer.permanent = failure.permanent;
    outer.caused_by(failure)
}

impl OrchestrationError {
    /// The failure of an orchestration whose code returned this error.
    ///
    /// These classes tell the engine that it ended the execution itself, which it did not here.
    pub(crate) fn into_returned(self) -> Failure {
        let failure = self.into_failure();
        match failure.class {
            FailureClass::Limit | FailureClass::ForeignAwait => {
                let message = failure.message.clone();
                returned(failure, message)
            }
            FailureClass::Application
            | FailureClass::Panic
            | FailureClass::Timeout
            | FailureClass::WorkerLost
            | FailureClass::Unregistered
            | FailureClass::Payload
            | FailureClass::Cancelled => failure,
        }
    }
}

/// A value that has no JSON form, or JSON that does not have the expected shape.
pub(crate) fn payload_failure(what: impl fmt::Display, error: &InvalidPayload) -> Failure {
    Failure::new(FailureClass::Payload, "Payload", format!("{what}: {error}")).permanent()
}

/// A function or event name that cannot be stored, as a sentence.
pub(crate) fn name_problem(name: &str) -> Option<String> {
    if name.is_empty() {
        Some("the name is empty".into())
    } else if name.len() > limits::NAME_BYTES_MAX {
        Some(format!(
            "the name has {} bytes; at most {} are allowed",
            name.len(),
            limits::NAME_BYTES_MAX
        ))
    } else {
        None
    }
}

/// The failure of a name that cannot be stored.
pub(crate) fn name_failure(problem: String) -> Failure {
    Failure::new(FailureClass::Payload, "InvalidName", problem).permanent()
}

fn failure_of<E: Error + 'static>(error: &E) -> Failure {
    let any: &dyn Any = error;
    if let Some(call) = any.downcast_ref::<CallError>() {
        return call.returned();
    }
    let mut failure = Failure::new(
        FailureClass::Application,
        kind_of_type(std::any::type_name::<E>()),
        error.to_string(),
    );
    failure.cause = cause_of(error.source());
    failure
}

fn failure_of_dyn(error: &(dyn Error + 'static)) -> Failure {
    if let Some(call) = error.downcast_ref::<CallError>() {
        return call.returned();
    }
    let mut failure = Failure::new(FailureClass::Application, "Error", error.to_string());
    failure.cause = cause_of(error.source());
    failure
}

fn cause_of(source: Option<&(dyn Error + 'static)>) -> Option<Box<Failure>> {
    let mut sources = Vec::new();
    let mut next = source;
    while let Some(error) = next.filter(|_| sources.len() < CAUSES_MAX) {
        sources.push(error);
        next = error.source();
    }
    sources.into_iter().rev().fold(None, |inner, error| {
        let failure = error.downcast_ref::<CallError>().map(CallError::returned);
        Some(Box::new(failure.unwrap_or_else(|| {
            // The type of a source is not known, only what it displays.
            let mut failure = Failure::new(FailureClass::Application, "Error", error.to_string());
            failure.cause = inner;
            failure
        })))
    })
}

/// The last segment of a type's path, without generics.
fn kind_of_type(path: &str) -> &str {
    let path = path.split('<').next().unwrap_or(path);
    let last = path.rsplit("::").next().unwrap_or(path).trim();
    if last.is_empty() { "Error" } else { last }
}

fn attach<T: Serialize + ?Sized>(failure: &mut Failure, details: &T) {
    let problem = match Payload::of(details) {
        Ok(payload) if payload.bytes() <= limits::PAYLOAD_BYTES_MAX => {
            failure.details = Some(payload);
            return;
        }
        Ok(payload) => format!("{} bytes, too large", payload.bytes()),
        Err(error) => error.to_string(),
    };
    let message = format!("{} (details left out: {problem})", failure.message);
    failure.message = Failure::new(failure.class, "", message).message;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the disk is full")]
    struct DiskFull;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot save {0:?}")]
    struct Unsaved<T: fmt::Debug>(T, #[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("the payment failed")]
    struct PaymentFailed(#[from] CallError);

    fn call_error(class: FailureClass) -> CallError {
        let mut failure = Failure::new(class, "CardDeclined", "over the limit").permanent();
        failure.details = Payload::of(&5000).ok();
        CallError::new(Subject::Activity("charge".into()), failure)
    }

    #[test]
    fn any_error_becomes_a_failure_with_its_causes() {
        let error = Unsaved("photo", std::io::Error::other(DiskFull));
        let error = ActivityError::from(error);
        assert_eq!(error.kind(), "Unsaved");
        assert_eq!(
            error.to_string(),
            "Unsaved: cannot save \"photo\"; caused by Error: the disk is full"
        );
        assert_eq!(error.failure().class, FailureClass::Application);
        let parse = || -> Result<u8, ActivityError> { Ok("many".parse()?) };
        assert!(parse().expect_err("no number").is("ParseIntError"));
    }

    #[test]
    fn stored_and_returned_forms_are_the_same_thing() {
        let error = ActivityError::new("Busy", "try later")
            .details(&vec![1, 2])
            .permanent()
            .caused_by(ActivityError::new("Locked", "by another").caused_by(DiskFull));
        let again = ActivityError::from_failure(error.clone().into_failure());
        assert_eq!(again, error);
        assert!(again.is("Busy") && again.is_permanent());
        assert_eq!(
            format!("{again:?}"),
            "ActivityError(Busy: try later; caused by Locked: by another; caused by DiskFull: the \
             disk is full)"
        );
    }

    #[test]
    fn details_without_a_json_form_are_named_in_the_message() {
        let no_json = std::collections::BTreeMap::from([(vec![1], 2)]);
        let error = ActivityError::new("Busy", "try later").details(&no_json);
        assert!(error.message().starts_with("try later (details left out: not a JSON value"));
        let large = ActivityError::new("Busy", "m".repeat(limits::ERROR_TEXT_BYTES_MAX))
            .details(&"x".repeat(limits::PAYLOAD_BYTES_MAX));
        assert!(large.failure().details.is_none());
        assert!(large.message().len() <= limits::ERROR_TEXT_BYTES_MAX);
    }

    #[test]
    fn a_call_error_keeps_its_structure_however_it_is_returned() {
        let application = call_error(FailureClass::Application);
        let returned = OrchestrationError::from(application.clone());
        assert_eq!(returned.failure(), application.failure());

        let panicked = call_error(FailureClass::Panic);
        let returned = OrchestrationError::from(panicked.clone());
        assert_eq!(returned.failure().class, FailureClass::Application);
        assert!(returned.is("CardDeclined") && returned.is_permanent());
        assert_eq!(returned.failure().details, panicked.failure().details);
        assert_eq!(returned.message(), "activity \"charge\" failed");
        assert_eq!(returned.failure().cause.as_deref(), Some(panicked.failure()));

        let wrapped = OrchestrationError::from(PaymentFailed::from(application.clone()));
        assert!(wrapped.is("PaymentFailed"));
        assert_eq!(wrapped.failure().cause.as_deref(), Some(application.failure()));
        assert_eq!(application.clone().into_failure(), *application.failure());
        assert_eq!(
            application.to_string(),
            "activity \"charge\" failed: CardDeclined: over the limit"
        );
    }

    #[test]
    fn the_kind_of_a_type_is_its_last_name() {
        for (path, kind) in [
            ("std::io::error::Error", "Error"),
            ("a::Wrapped<b::Inner<c::D>>", "Wrapped"),
            ("Plain", "Plain"),
            ("", "Error"),
        ] {
            assert_eq!(kind_of_type(path), kind);
        }
    }

    #[test]
    fn a_chain_of_causes_has_an_end() {
        #[derive(Debug, thiserror::Error)]
        #[error("again")]
        struct Endless(#[source] Box<Endless2>);
        #[derive(Debug)]
        struct Endless2;
        impl fmt::Display for Endless2 {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("and again")
            }
        }
        impl Error for Endless2 {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(self)
            }
        }
        let error = ActivityError::from(Endless(Box::new(Endless2)));
        let causes = std::iter::successors(error.failure().cause.as_ref(), |f| f.cause.as_ref());
        assert_eq!(causes.count(), CAUSES_MAX);
    }
}
