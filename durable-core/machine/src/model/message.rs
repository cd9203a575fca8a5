//! What reaches a partition from outside and from other partitions.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    AttemptKey, Deadline, EnvelopeId, Failure, InstanceId, MessageNumber, ParentLink, PartitionId,
    Payload, RunNumber, RuntimeStatus, StartNonce, Timestamp, TraceContext, UnconsumedEvent,
};

/// What a start does where its instance id exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ReusePolicy {
    /// An instance that is still active refuses the start; one that has ended is replaced.
    #[default]
    RefuseActive,
    /// An active instance is what the caller gets; one that has ended is replaced.
    UseActive,
    /// An active instance is terminated, and replaced like one that has ended.
    ReplaceActive,
}

/// The durable row that says: this start was accepted. It is deleted by the commit that begins the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The instance.
    pub instance: InstanceId,
    /// The run that begins: above the number of every earlier run of the id.
    pub run: RunNumber,
    /// Makes the start idempotent.
    pub nonce: StartNonce,
    /// Name of the orchestrator.
    pub name: Arc<str>,
    /// Its input.
    pub input: Payload,
    /// When the start was accepted: the instance's creation time.
    pub accepted_at: Timestamp,
    /// What to do with an active run of the same id.
    #[serde(default)]
    pub reuse: ReusePolicy,
    /// When it shall start, where that is not at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_for: Option<Timestamp>,
    /// When the run has to have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// Who started it as a child.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentLink>,
    /// The caller's version of the orchestrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The caller's tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(Arc<str>, Arc<str>)>,
    /// External events that the run gets with its start, before all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raised: Vec<UnconsumedEvent>,
    /// W3C trace context of the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

impl Acceptance {
    /// A start at once, of nobody's child, that an active run of the id refuses.
    #[must_use]
    pub fn new(
        instance: InstanceId,
        run: RunNumber,
        nonce: StartNonce,
        name: Arc<str>,
        input: Payload,
        accepted_at: Timestamp,
    ) -> Self {
        Self {
            instance,
            run,
            nonce,
            name,
            input,
            accepted_at,
            reuse: ReusePolicy::RefuseActive,
            scheduled_for: None,
            deadline: None,
            parent: None,
            version: None,
            tags: Vec::new(),
            raised: Vec::new(),
            trace: None,
        }
    }

    /// Whether it is too early for the run to begin.
    #[must_use]
    pub fn waits_at(&self, now: Timestamp) -> bool {
        self.scheduled_for.is_some_and(|due| due > now)
    }
}

/// What a client asks of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Deliver an external event.
    Raise {
        /// The event's name.
        name: Arc<str>,
        /// The event's payload.
        input: Payload,
    },
    /// End the instance now.
    Terminate {
        /// Becomes the output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
        /// Also those children that would go on by themselves, and theirs.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tree: bool,
    },
    /// Hold the instance.
    Suspend {
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
    },
    /// Let it go on, or try again to run a held one.
    Resume {
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
    },
    /// Remove all that is stored of it. The run that is meant has to have ended.
    Purge {
        /// Further instances of the same partition, each with the run that is meant. Whoever sends this repeats it
        /// for those that are still there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<(InstanceId, RunNumber)>,
    },
    /// Repeat a failed execution without its failures.
    Rewind {
        /// The execution that failed: a later failure is another one.
        execution: super::ExecutionNumber,
        /// For people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
    },
}

impl Command {
    /// Whether an instance that shows this status can be told so: one that is active anything, one that has ended
    /// that it is to be purged, and one that has failed that it is to be rewound.
    #[must_use]
    pub fn is_for(&self, status: RuntimeStatus) -> bool {
        match self {
            Self::Purge { .. } => true,
            Self::Rewind { .. } => !status.is_terminal() || status == RuntimeStatus::Failed,
            Self::Raise { .. }
            | Self::Terminate { .. }
            | Self::Suspend { .. }
            | Self::Resume { .. } => !status.is_terminal(),
        }
    }
}

/// A command on its way, from outside the hub.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// A second arrival of this id changes nothing.
    pub id: EnvelopeId,
    /// The receiver.
    pub instance: InstanceId,
    /// The run that is meant; `None` means whichever is there on arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunNumber>,
    /// What to do.
    pub command: Command,
}

/// A message from one partition to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The sending partition.
    pub from: PartitionId,
    /// The receiving partition.
    pub to: PartitionId,
    /// Its place among all messages from that partition to this one.
    pub number: MessageNumber,
    /// What it says.
    pub body: MessageBody,
}

/// An attempt to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartAttempt {
    /// Which.
    pub attempt: AttemptKey,
    /// The activity.
    pub name: Arc<str>,
    /// Its input.
    pub input: Payload,
    /// How long it may take. Where there is a limit, who runs it says when it began.
    pub start_to_finish: Option<Duration>,
    /// How long it may go on without a heartbeat. The same holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout: Option<Duration>,
    /// What an earlier attempt of the call, or an earlier start of this one, reported last.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::payload::present"
    )]
    pub heartbeat_details: Option<Payload>,
}

impl StartAttempt {
    /// Whether who runs it has to say when it began.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.start_to_finish.is_some() || self.heartbeat_timeout.is_some()
    }

    /// It took longer than it may.
    #[must_use]
    pub fn timed_out(&self) -> Failure {
        Failure::timed_out(&self.name, self.start_to_finish.unwrap_or_default())
    }

    /// It gave no heartbeat for longer than it may.
    #[must_use]
    pub fn fell_silent(&self) -> Failure {
        Failure::fell_silent(&self.name, self.heartbeat_timeout.unwrap_or_default())
    }
}

/// What the owner of one partition sends to the owner of another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Post {
    /// A message; the outbox keeps it until it is confirmed.
    Message(Box<Message>),
    /// The sender of this has durably applied all messages up to that number.
    Confirmation {
        /// Which partition has applied them.
        by: PartitionId,
        /// The last of them.
        upto: MessageNumber,
    },
}

/// What partitions tell each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MessageBody {
    /// An orchestrator raised an event for another instance.
    Raise {
        /// The receiver.
        instance: InstanceId,
        /// The event's name.
        name: Arc<str>,
        /// The event's payload.
        input: Payload,
    },
    /// Start a child.
    StartChild(Box<Acceptance>),
    /// The parent was rewound and waits for the child again: one that failed is rewound, too; one that is not
    /// there begins with this start.
    RewindChild(Box<Acceptance>),
    /// A child ended.
    ChildEnded {
        /// The waiting call.
        parent: ParentLink,
        /// The child's execution that ended.
        execution: super::ExecutionNumber,
        /// Its result.
        result: Result<Payload, Box<Failure>>,
    },
    /// The parent has ended, or waits no longer.
    TerminateChild {
        /// The child.
        instance: InstanceId,
        /// The waiting call, which tells this child from a later run of the same id.
        parent: ParentLink,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Arc<str>>,
        /// Also those children that would go on by themselves, and theirs.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tree: bool,
    },
}

impl MessageBody {
    /// The instance that the message is for.
    #[must_use]
    pub fn instance(&self) -> &InstanceId {
        match self {
            Self::Raise { instance, .. } | Self::TerminateChild { instance, .. } => instance,
            Self::StartChild(acceptance) | Self::RewindChild(acceptance) => &acceptance.instance,
            Self::ChildEnded { parent, .. } => &parent.instance,
        }
    }
}
