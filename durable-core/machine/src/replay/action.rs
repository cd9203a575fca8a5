//! What a turn asks for, and how a replay compares it with what was recorded.

use std::sync::Arc;

use crate::model::{
    ActivityOptions, CallNumber, ChildCreated, EventKind, Failure, FailureClass, InstanceId,
    Payload, Timestamp,
};

/// One wish of an orchestrator's code.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Run an activity.
    ScheduleActivity {
        /// Number of the call.
        call: CallNumber,
        /// The activity.
        name: Arc<str>,
        /// Its input.
        input: Payload,
        /// Retry policy and time limit.
        options: ActivityOptions,
    },
    /// Set a timer.
    CreateTimer {
        /// Number of the timer.
        call: CallNumber,
        /// When it is due.
        due: Timestamp,
    },
    /// Start a child orchestration.
    StartChild(Box<ChildCreated>),
    /// Send an event to another instance.
    SendEvent {
        /// Number of the operation.
        call: CallNumber,
        /// The receiver.
        instance: InstanceId,
        /// The event's name.
        name: Arc<str>,
        /// The event's payload.
        input: Payload,
    },
    /// A call or timer is no longer wanted.
    Cancel {
        /// The call or timer.
        call: CallNumber,
    },
    /// A call is no longer wanted, and its end is waited for.
    RequestCancel {
        /// The call.
        call: CallNumber,
    },
    /// Show this to people. Not recorded in the history: a replay computes it again.
    SetCustomStatus(Payload),
    /// The code returned a value.
    Complete(Payload),
    /// The code returned an error, panicked, or broke a rule.
    Fail(Box<Failure>),
    /// The code passed a version marker for the first time.
    Patched {
        /// The marker's id.
        id: Arc<str>,
        /// It has the new path only.
        deprecated: bool,
    },
    /// The code ended its execution to begin the next with this input.
    ContinueAsNew(Payload),
}

impl Action {
    /// The event that records this action; `None` for what is not recorded.
    #[must_use]
    pub fn into_event(self) -> Option<EventKind> {
        Some(match self {
            Self::ScheduleActivity { call, name, input, options } => {
                EventKind::ActivityScheduled(Box::new(crate::model::ActivityScheduled {
                    call,
                    name,
                    input,
                    options,
                }))
            }
            Self::CreateTimer { call, due } => EventKind::TimerCreated { call, due },
            Self::StartChild(child) => EventKind::ChildCreated(child),
            Self::SendEvent { call, instance, name, input } => {
                EventKind::EventSent { call, instance, name, input }
            }
            Self::Cancel { call } => EventKind::CallCancelled { call },
            Self::RequestCancel { call } => EventKind::CancelRequested { call },
            Self::SetCustomStatus(_) => return None,
            Self::Complete(output) => EventKind::ExecutionCompleted { output },
            Self::Fail(failure) => EventKind::ExecutionFailed { failure },
            Self::ContinueAsNew(input) => EventKind::ContinuedAsNew { input },
            Self::Patched { id, deprecated } => EventKind::Patched { id, deprecated },
        })
    }

    /// Compares kind, number, name and receiver with a recorded decision. Inputs, policies and due
    /// times are not compared: they come from history.
    #[must_use]
    pub fn fits(&self, recorded: &EventKind) -> bool {
        match (self, recorded) {
            (Self::ScheduleActivity { call, name, .. }, EventKind::ActivityScheduled(e)) => {
                *call == e.call && *name == e.name
            }
            (Self::CreateTimer { call, .. }, EventKind::TimerCreated { call: recorded, .. })
            | (Self::Cancel { call }, EventKind::CallCancelled { call: recorded })
            | (Self::RequestCancel { call }, EventKind::CancelRequested { call: recorded }) => {
                call == recorded
            }
            (Self::StartChild(child), EventKind::ChildCreated(e)) => {
                child.call == e.call
                    && child.name == e.name
                    && child.instance == e.instance
                    && child.detached == e.detached
            }
            (
                Self::SendEvent { call, instance, name, .. },
                EventKind::EventSent { call: c, instance: i, name: n, .. },
            ) => call == c && instance == i && name == n,
            // Whichever way of asking recorded it: both take the new path.
            (Self::Patched { id, .. }, EventKind::Patched { id: recorded, .. }) => id == recorded,
            (Self::Complete(_), EventKind::ExecutionCompleted { .. })
            | (Self::Fail(_), EventKind::ExecutionFailed { .. })
            | (Self::ContinueAsNew(_), EventKind::ContinuedAsNew { .. }) => true,
            _ => false,
        }
    }

    /// Whether the input differs from the recorded one. Allowed, and worth a warning.
    #[must_use]
    pub fn input_differs(&self, recorded: &EventKind) -> bool {
        match (self, recorded) {
            (Self::ScheduleActivity { input, .. }, EventKind::ActivityScheduled(e)) => {
                *input != e.input
            }
            (Self::StartChild(child), EventKind::ChildCreated(e)) => child.input != e.input,
            (Self::SendEvent { input, .. }, EventKind::EventSent { input: recorded, .. }) => {
                input != recorded
            }
            (Self::ContinueAsNew(input), EventKind::ContinuedAsNew { input: recorded }) => {
                input != recorded
            }
            _ => false,
        }
    }

    /// The action in a few words, in the same form as [`EventKind::summary`].
    #[must_use]
    pub fn summary(&self) -> String {
        self.clone().into_event().map_or_else(|| "custom status".into(), |event| event.summary())
    }
}

/// The engine itself ended the execution, outside the code's turns: nothing to compare on a replay.
pub(super) fn decided_by_engine(recorded: &EventKind) -> bool {
    matches!(recorded, EventKind::ExecutionFailed { failure }
        if matches!(failure.class, FailureClass::Limit | FailureClass::ForeignAwait)
            || failure.is_of_deadline())
}
