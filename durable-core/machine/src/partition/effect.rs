//! What goes into a partition and what it wishes to be done.

use std::sync::Arc;

use crate::codec::DecodeError;
use crate::model::{
    Acceptance, AttemptKey, Envelope, ExecutionKey, Failure, InstanceId, Message, MessageNumber,
    PartitionId, Payload, RunNumber, RuntimeStatus, StartAttempt, StatusRow, Timestamp,
};
use crate::store::{DeadMessage, HistoryRow, StoredInstance, TimerPage, WorkResult};

/// Names a caller that waits for an [`Answer`]. The driver's own numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub u64);

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// The owner's own process starts an instance under an id that was made for it. Its first commit is
    /// the acceptance.
    Start {
        /// The start; not stored yet.
        acceptance: Box<Acceptance>,
        /// Who waits.
        ticket: Ticket,
    },
    /// A start that the store holds.
    Accepted {
        /// The start.
        acceptance: Box<Acceptance>,
        /// As in [`AcceptedStart::fresh`](crate::store::AcceptedStart::fresh).
        fresh: bool,
    },
    /// The owner's own process commands an instance.
    Command {
        /// The command; not stored.
        envelope: Box<Envelope>,
        /// Whether its id was chosen by the caller and has to be recognised for an hour.
        remember: bool,
        /// Who waits.
        ticket: Ticket,
    },
    /// A command that the store holds.
    Arrived(Box<Envelope>),
    /// A message of a partition, possibly not for the first time and not in order.
    Message(Box<Message>),
    /// The receiver has durably applied all messages up to this number.
    Confirmed {
        /// The receiver.
        by: PartitionId,
        /// The last of them.
        upto: MessageNumber,
    },
    /// An attempt with a time limit really began.
    AttemptStarted(AttemptKey),
    /// A running attempt says that it goes on.
    Heartbeat {
        /// Which.
        attempt: AttemptKey,
        /// When it said so.
        at: Timestamp,
        /// How far it is, where it says so.
        details: Option<Payload>,
    },
    /// An attempt ended.
    AttemptEnded {
        /// Which.
        attempt: AttemptKey,
        /// Its result.
        result: Result<Payload, Box<Failure>>,
    },
    /// Other workers were offered these attempts, which had waited for room here: whoever takes one sends
    /// its result as [`Input::Reported`].
    Offered(Vec<AttemptKey>),
    /// The store brings the result of an attempt that ran with another worker.
    Reported(Box<WorkResult>),
    /// Something sent to an instance can never be applied.
    Dead(Box<DeadMessage>),
    /// The answer to [`Effect::Load`].
    Loaded {
        /// The instance.
        instance: InstanceId,
        /// What the store has of it.
        found: Result<Option<Box<StoredInstance>>, DecodeError>,
    },
    /// The answer to [`Effect::LoadHistory`].
    HistoryLoaded {
        /// The execution.
        key: ExecutionKey,
        /// The rows of its history in order.
        found: Result<Vec<HistoryRow>, DecodeError>,
    },
    /// The answer to [`Effect::LoadTimers`].
    TimersLoaded(TimerPage),
    /// Something outside a turn woke the orchestrator of this execution.
    WokenFromOutside(ExecutionKey),
}

/// Something to be done. Effects that belong to a commit are handed out when it is durable.
#[derive(Debug)]
pub enum Effect {
    /// Read an instance.
    Load(InstanceId),
    /// Read the history of an instance that has ended with this execution.
    LoadHistory(ExecutionKey),
    /// Read due times behind this one.
    LoadTimers(Option<(Timestamp, InstanceId)>),
    /// Run an attempt of an activity.
    StartAttempt(Box<StartAttempt>),
    /// Tell a running attempt that nobody waits for it.
    CancelAttempt(AttemptKey),
    /// Answer a caller.
    Answer {
        /// Who waits.
        ticket: Ticket,
        /// What to say.
        answer: Answer,
    },
    /// Hand a message to its partition. A short cut: the outbox keeps it until it is confirmed.
    Deliver(Box<Message>),
    /// Tell the sender that its messages up to this number were applied.
    Confirm {
        /// The sender.
        to: PartitionId,
        /// The last of them.
        upto: MessageNumber,
    },
    /// What may be seen of an instance has changed.
    StatusChanged(Arc<StatusRow>),
    /// The engine holds an instance; for the log.
    Held {
        /// The instance.
        instance: InstanceId,
        /// Why.
        message: String,
    },
    /// Worth a line in the log.
    Warn {
        /// The instance.
        instance: InstanceId,
        /// What was noticed.
        message: String,
    },
}

/// What a caller is told. Every positive answer is about something durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The instance was started; its run has this number.
    Started(RunNumber),
    /// The command was taken.
    Accepted,
    /// No instance has the id.
    NotFound,
    /// The instance has ended.
    Finished(RuntimeStatus),
    /// The instance has not ended, and had to.
    Unfinished(RuntimeStatus),
    /// The command cannot be done, and why.
    Refused(String),
    /// The instance holds as many unconsumed events as it may.
    Full,
    /// Commits are slower than what arrives, and too much waits already. Nothing was taken.
    Overloaded,
    /// Commits cannot be written at the moment, and why. Nothing was taken. Given by drivers: a partition
    /// does not know.
    Unavailable(String),
}
