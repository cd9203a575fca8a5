//! What a history is made of.
//!
//! Two kinds of event alternate: *arrivals* (something happened: a start, a result, a fired timer, an
//! external event, a command) and *decisions* (what the orchestrator's code asked for in the turn that
//! the arrival before them caused). A replay feeds the arrivals to the code and compares its actions
//! with the decisions. The model can hold everything that `historyEvents` of the management API shows.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ActivityOptions, CallNumber, Deadline, EnvelopeId, ExecutionKey, ExecutionNumber, Failure,
    InstanceId, Payload, RunNumber, Timestamp,
};

/// One entry of a history. Its position is given by the row that holds it.
///
/// ```
/// # use durable_machine::model::{Event, EventKind, Payload, Timestamp};
/// let is = EventKind::ExecutionCompleted { output: Payload::of(&42)? };
/// let event = Event { at: Timestamp::from_micros(0), is };
/// let EventKind::ExecutionCompleted { output } = &event.is else { unreachable!() };
/// assert_eq!(output.to::<u32>()?, 42);
/// # Ok::<(), durable_machine::model::InvalidPayload>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The hub's clock when the event was recorded; never before the event in front of it.
    pub at: Timestamp,
    /// What happened or was decided.
    pub is: EventKind,
}

/// The first event of every execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionStarted {
    /// Name of the orchestrator.
    pub name: Arc<str>,
    /// Its input.
    pub input: Payload,
    /// Whether the execution was suspended before its first turn, which then waits for the resume.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Who started it as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentLink>,
    /// The caller's version of the orchestrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The caller's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// When it was to start, where that was not at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_for: Option<Timestamp>,
    /// When the run has to have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// Build of the worker that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_build: Option<Arc<str>>,
    /// W3C trace context of the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
    /// The execution that this one continues (continue-as-new, rewind).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<ExecutionNumber>,
    /// Results of the continued execution that a rewind takes back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_back: Vec<CallNumber>,
    /// The rewind that began it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewind: Option<Box<Rewind>>,
}

/// A failed execution is repeated without its failures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rewind {
    /// The execution whose UUIDs, random numbers and ids of children this one has: the first that was rewound.
    pub origin: ExecutionNumber,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// What succeeded behind a failure, for when the code asks for it again in the same words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub succeeded: Vec<Succeeded>,
    /// Children asked for behind a failure that had not succeeded: where the code asks for one again in the same words
    /// it is that one, which goes on, is rewound, or begins anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildCreated>,
}

/// A call that succeeded, as it was asked for, and its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Succeeded {
    /// The recorded decision: an activity or a child.
    pub asked: EventKind,
    /// Its result.
    pub output: Payload,
    /// The execution of the child that ended.
    #[serde(default)]
    pub execution: ExecutionNumber,
}

/// The instance, and the call in it, that a child answers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentLink {
    /// The parent.
    pub instance: InstanceId,
    /// Its run.
    pub run: RunNumber,
    /// Its execution.
    pub execution: ExecutionNumber,
    /// The call that asked for the child.
    pub call: CallNumber,
    /// Whether nobody waits for the child: its end is told to nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
}

impl ParentLink {
    /// The execution that asked for the child.
    #[must_use]
    pub fn key(&self) -> ExecutionKey {
        ExecutionKey { instance: self.instance.clone(), run: self.run, execution: self.execution }
    }
}

/// What becomes of a child when nobody waits for it any more: its parent's execution has ended, also where the
/// run continues as new, or its call was dropped.
///
/// ```
/// # use durable_machine::model::ParentClose;
/// assert_eq!(ParentClose::default(), ParentClose::Terminate);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ParentClose {
    /// It is terminated.
    #[default]
    Terminate,
    /// It goes on by itself.
    Abandon,
}

/// W3C trace context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    /// The `traceparent` header.
    pub traceparent: Arc<str>,
    /// The `tracestate` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<Arc<str>>,
}

/// The code asked for an activity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActivityScheduled {
    /// Number of the call.
    pub call: CallNumber,
    /// Name of the activity.
    pub name: Arc<str>,
    /// Its input.
    pub input: Payload,
    /// Retry policy, time limit, routing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub options: ActivityOptions,
}

/// The code asked for a child orchestration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChildCreated {
    /// Number of the call.
    pub call: CallNumber,
    /// Name of the child's orchestrator.
    pub name: Arc<str>,
    /// The child's instance id.
    pub instance: InstanceId,
    /// The child's input.
    pub input: Payload,
    /// Whether nobody waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// What becomes of it with its parent.
    #[serde(default, skip_serializing_if = "is_default")]
    pub close: ParentClose,
    /// How long its run may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<Duration>,
}

/// What happened or was decided.
///
/// New kinds may be added; a reader that does not know a kind holds the instance (see
/// [`crate::codec`]). An existing kind is never changed in meaning.
///
/// ```
/// # use durable_machine::model::{Event, EventKind};
/// /// How many activities a history asked for.
/// fn activities(history: &[Event]) -> usize {
///     history.iter().filter(|event| matches!(event.is, EventKind::ActivityScheduled(_))).count()
/// }
/// assert_eq!(activities(&[]), 0);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum EventKind {
    /// Arrival: the execution begins.
    ExecutionStarted(Box<ExecutionStarted>),
    /// Decision: an activity was scheduled.
    ActivityScheduled(Box<ActivityScheduled>),
    /// Arrival: the activity's one result.
    ActivityCompleted {
        /// The call it answers.
        call: CallNumber,
        /// The result.
        output: Payload,
    },
    /// Arrival: the activity failed for good.
    ActivityFailed {
        /// The call it answers.
        call: CallNumber,
        /// Why the last attempt failed.
        failure: Box<Failure>,
        /// Attempts that were made.
        attempts: u32,
    },
    /// Decision: a timer was set.
    TimerCreated {
        /// Number of the timer, from the same sequence as calls.
        call: CallNumber,
        /// When it is due.
        due: Timestamp,
    },
    /// Arrival: the timer fired.
    TimerFired {
        /// The timer.
        call: CallNumber,
    },
    /// Decision: a call or timer is no longer wanted; its result will be dropped.
    CallCancelled {
        /// The call or timer.
        call: CallNumber,
    },
    /// Decision: a call is no longer wanted, and its end is waited for. Its result comes as ever, when it has
    /// really ended: a failure of class [`Cancelled`](super::FailureClass::Cancelled) unless it was there before.
    CancelRequested {
        /// The call: an activity or a child.
        call: CallNumber,
    },
    /// Decision: a child was created.
    ChildCreated(Box<ChildCreated>),
    /// Arrival: the child's result.
    ChildCompleted {
        /// The call it answers.
        call: CallNumber,
        /// The execution of the child that gave it.
        execution: ExecutionNumber,
        /// The result.
        output: Payload,
    },
    /// Arrival: the child failed, was terminated, or could not be started.
    ChildFailed {
        /// The call it answers.
        call: CallNumber,
        /// The execution of the child that failed.
        execution: ExecutionNumber,
        /// Why.
        failure: Box<Failure>,
    },
    /// Arrival: an external event.
    EventRaised {
        /// Its name.
        name: Arc<str>,
        /// Its payload.
        input: Payload,
        /// The message that brought it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<EnvelopeId>,
    },
    /// Decision: an event was sent to another instance.
    EventSent {
        /// Number of the operation.
        call: CallNumber,
        /// The receiver.
        instance: InstanceId,
        /// The event's name.
        name: Arc<str>,
        /// The event's payload.
        input: Payload,
    },
    /// Decision: the code passed a version marker, and took the new path.
    Patched {
        /// The marker's id.
        id: Arc<str>,
        /// The code has the new path only: a later version need not ask for the marker any more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        deprecated: bool,
    },
    /// Arrival: held by a client until resumed.
    ExecutionSuspended {
        /// The client's reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
    },
    /// Arrival: goes on; what arrived meanwhile is applied now, in order.
    ExecutionResumed {
        /// The client's reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
    },
    /// Arrival, terminal: ended by a client, or with its parent.
    ExecutionTerminated {
        /// The client's reason, which becomes the output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
        /// Also those children that would go on by themselves, and theirs.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tree: bool,
    },
    /// Decision, terminal: the code returned a value.
    ExecutionCompleted {
        /// The value.
        output: Payload,
    },
    /// Decision, terminal: the code returned an error, panicked, or broke a rule.
    ExecutionFailed {
        /// Why.
        failure: Box<Failure>,
    },
    /// Decision, terminal for the execution, not for the run: begin again with this input.
    ContinuedAsNew {
        /// Input of the next execution.
        input: Payload,
    },
}

impl EventKind {
    /// Whether the event records what the code asked for; the others are fed to it.
    #[must_use]
    pub fn is_decision(&self) -> bool {
        match self {
            Self::ActivityScheduled(_)
            | Self::TimerCreated { .. }
            | Self::CallCancelled { .. }
            | Self::CancelRequested { .. }
            | Self::ChildCreated(_)
            | Self::EventSent { .. }
            | Self::Patched { .. }
            | Self::ExecutionCompleted { .. }
            | Self::ExecutionFailed { .. }
            | Self::ContinuedAsNew { .. } => true,
            Self::ExecutionStarted(_)
            | Self::ActivityCompleted { .. }
            | Self::ActivityFailed { .. }
            | Self::TimerFired { .. }
            | Self::ChildCompleted { .. }
            | Self::ChildFailed { .. }
            | Self::EventRaised { .. }
            | Self::ExecutionSuspended { .. }
            | Self::ExecutionResumed { .. }
            | Self::ExecutionTerminated { .. } => false,
        }
    }

    /// Whether the execution ends with this event.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self,
            Self::ExecutionCompleted { .. }
                | Self::ExecutionFailed { .. }
                | Self::ExecutionTerminated { .. }
                | Self::ContinuedAsNew { .. }
        )
    }

    /// The event in a few words, for messages about divergence: kind, number and name, no payload.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::ExecutionStarted(e) => format!("execution of {:?} started", e.name),
            Self::ActivityScheduled(e) => format!("call {} of activity {:?}", e.call, e.name),
            Self::ActivityCompleted { call, .. } => format!("result of call {call}"),
            Self::ActivityFailed { call, .. } => format!("failure of call {call}"),
            Self::TimerCreated { call, .. } => format!("timer {call}"),
            Self::TimerFired { call } => format!("timer {call} fired"),
            Self::CallCancelled { call } => format!("cancel of {call}"),
            Self::CancelRequested { call } => format!("request to cancel {call}"),
            Self::ChildCreated(e) => {
                format!("child {} {:?} with id {:?}", e.call, e.name, e.instance.as_str())
            }
            Self::ChildCompleted { call, .. } => format!("result of child {call}"),
            Self::ChildFailed { call, .. } => format!("failure of child {call}"),
            Self::EventRaised { name, .. } => format!("event {name:?} raised"),
            Self::EventSent { call, instance, name, .. } => {
                format!("event {name:?} sent to {:?} as {call}", instance.as_str())
            }
            Self::Patched { id, .. } => format!("patch marker {id:?}"),
            Self::ExecutionSuspended { .. } => "suspended".into(),
            Self::ExecutionResumed { .. } => "resumed".into(),
            Self::ExecutionTerminated { .. } => "terminated".into(),
            Self::ExecutionCompleted { .. } => "completed".into(),
            Self::ExecutionFailed { failure } => format!("failed with {:?}", failure.kind),
            Self::ContinuedAsNew { .. } => "continued as new".into(),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
