//! What anybody may see of an instance.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Acceptance, Deadline, EnvelopeId, ExecutionKey, ExecutionNumber, Failure, InstanceId,
    ParentLink, Payload, RunNumber, Timestamp, limits,
};

/// The state of an instance, by the names of the management API.
///
/// ```
/// # use durable_machine::model::RuntimeStatus;
/// assert!(RuntimeStatus::Failed.is_terminal() && !RuntimeStatus::Suspended.is_terminal());
/// assert_eq!("Running".parse(), Ok(RuntimeStatus::Running));
/// assert_eq!(RuntimeStatus::Pending.to_string(), "Pending");
/// for status in RuntimeStatus::ALL {
///     assert_eq!(RuntimeStatus::from_code(status.code()), Some(status));
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RuntimeStatus {
    /// Has run at least once; busy or waiting.
    Running,
    /// Returned a value.
    Completed,
    /// Ended an execution and begins the next.
    ContinuedAsNew,
    /// Returned an error, panicked, or broke a limit.
    Failed,
    /// Never produced; the wire knows the word.
    Canceled,
    /// Ended by a client.
    Terminated,
    /// Accepted, has not run yet.
    Pending,
    /// Held: by a client, or by the engine for a reason.
    Suspended,
}

impl RuntimeStatus {
    /// Every status, in the order of its numeric code on the wire.
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Completed,
        Self::ContinuedAsNew,
        Self::Failed,
        Self::Canceled,
        Self::Terminated,
        Self::Pending,
        Self::Suspended,
    ];

    /// Whether the run has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Canceled | Self::Terminated => true,
            Self::Running | Self::ContinuedAsNew | Self::Pending | Self::Suspended => false,
        }
    }

    /// The numeric code of the wire and of stored rows.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Running => 0,
            Self::Completed => 1,
            Self::ContinuedAsNew => 2,
            Self::Failed => 3,
            Self::Canceled => 4,
            Self::Terminated => 5,
            Self::Pending => 6,
            Self::Suspended => 7,
        }
    }

    /// The status of a numeric code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::ContinuedAsNew => "ContinuedAsNew",
            Self::Failed => "Failed",
            Self::Canceled => "Canceled",
            Self::Terminated => "Terminated",
            Self::Pending => "Pending",
            Self::Suspended => "Suspended",
        }
    }
}

impl fmt::Display for RuntimeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a runtime status")]
pub struct UnknownStatus(String);

impl FromStr for RuntimeStatus {
    type Err = UnknownStatus;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == s)
            .ok_or_else(|| UnknownStatus(s.into()))
    }
}

/// Why the engine does not run an instance.
///
/// ```
/// # use durable_machine::model::HoldReason;
/// /// What an operator does about it.
/// fn remedy(reason: HoldReason) -> &'static str {
///     match reason {
///         HoldReason::Diverged => "deploy code that fits the history, then resume",
///         HoldReason::UnknownOrchestrator => "start a worker that has the orchestrator",
///         HoldReason::Undecodable => "start a newer build",
///         HoldReason::Stuck | HoldReason::KilledProcess => "repair the code, then resume",
///     }
/// }
/// assert!(remedy(HoldReason::Stuck).ends_with("then resume"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HoldReason {
    /// The code no longer fits the history.
    Diverged,
    /// No worker here registers the orchestrator.
    UnknownOrchestrator,
    /// Stored data does not decode, or is of a newer format.
    Undecodable,
    /// A turn did not return in time.
    Stuck,
    /// The process died while it loaded this instance.
    KilledProcess,
}

/// The engine holds an instance: nothing is written to its history until it is resumed.
///
/// ```
/// # use durable_machine::model::{Hold, HoldReason};
/// let hold = Hold { reason: HoldReason::Stuck, message: "a turn took longer than 5 s".into() };
/// assert_eq!(format!("{:?}: {}", hold.reason, hold.message), "Stuck: a turn took longer than 5 s");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The kind of reason.
    pub reason: HoldReason,
    /// A sentence for people.
    pub message: String,
}

/// The status row of an instance: everything but its history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusRow {
    /// The instance.
    pub instance: InstanceId,
    /// Its current run.
    pub run: RunNumber,
    /// The current execution of that run.
    pub execution: ExecutionNumber,
    /// Name of its orchestrator.
    pub name: Arc<str>,
    /// Its state. A held instance counts as [`RuntimeStatus::Suspended`].
    pub status: RuntimeStatus,
    /// When its start was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Its input.
    pub input: Payload,
    /// Its result: the value, or the reason of a termination.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::payload::present"
    )]
    pub output: Option<Payload>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// What its code last set for people to see.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::payload::present"
    )]
    pub custom_status: Option<Payload>,
    /// Why the engine holds it, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// External events that were accepted and not consumed when it ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unconsumed: Vec<UnconsumedEvent>,
    /// What was sent to it and can never be applied; the newest, at most [`limits::DEAD_LETTERS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead_letters: Vec<DeadLetter>,
    /// Who started it as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentLink>,
    /// The caller's version of the orchestrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The caller's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// When it is to start, where that is not at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_for: Option<Timestamp>,
    /// When its run has to have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// Reserved: when the row may be purged by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// An external event that was accepted and never waited for.
///
/// ```
/// # use durable_machine::model::{Payload, UnconsumedEvent};
/// let event = UnconsumedEvent { name: "approved".into(), input: Payload::of(&true)?, id: None };
/// assert!(event.input.to::<bool>()?);
/// # Ok::<(), durable_machine::model::InvalidPayload>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnconsumedEvent {
    /// The event's name.
    pub name: Arc<str>,
    /// Its payload.
    pub input: Payload,
    /// The message that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EnvelopeId>,
}

/// A message that can never be applied. The store keeps it, with its bytes, for a person to look at.
///
/// ```
/// # use durable_machine::model::{DeadLetter, Timestamp};
/// let letter = DeadLetter { at: Timestamp::from_micros(0), reason: "it is of a newer format".into() };
/// assert_eq!(&*letter.reason, "it is of a newer format");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// When it was put aside.
    pub at: Timestamp,
    /// Why, in a sentence.
    pub reason: Arc<str>,
}

impl StatusRow {
    /// Instance, run and current execution.
    #[must_use]
    pub fn key(&self) -> ExecutionKey {
        ExecutionKey { instance: self.instance.clone(), run: self.run, execution: self.execution }
    }

    /// The row of a start that was accepted and has not run yet.
    #[must_use]
    pub fn pending(acceptance: &Acceptance) -> Self {
        Self {
            instance: acceptance.instance.clone(),
            run: acceptance.run,
            execution: ExecutionNumber(0),
            name: acceptance.name.clone(),
            status: RuntimeStatus::Pending,
            created_at: acceptance.accepted_at,
            updated_at: acceptance.accepted_at,
            input: acceptance.input.clone(),
            output: None,
            failure: None,
            custom_status: None,
            hold: None,
            unconsumed: Vec::new(),
            dead_letters: Vec::new(),
            parent: acceptance.parent.clone(),
            version: acceptance.version.clone(),
            tags: acceptance.tags.clone(),
            scheduled_for: acceptance.scheduled_for,
            deadline: acceptance.deadline,
            expires_at: None,
        }
    }

    /// Notes a message that can never be applied; the oldest such note gives way.
    pub fn note_dead_letter(&mut self, letter: DeadLetter) {
        if self.dead_letters.len() >= limits::DEAD_LETTERS_MAX {
            self.dead_letters.remove(0);
        }
        self.dead_letters.push(letter);
    }
}
