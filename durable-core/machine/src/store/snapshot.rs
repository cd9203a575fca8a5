//! What a store gives back.

use serde::{Deserialize, Serialize};

use crate::model::{
    Acceptance, AttemptKey, DeadLetter, Envelope, EnvelopeId, EventSeq, Failure, Fence, InstanceId,
    Message, Payload, Post, StatusRow, Timestamp,
};

use super::Head;

/// What a new owner of a partition starts from. Its size is that of the work in flight, not that of
/// all instances stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The new owner's fence; every older one is refused from here on.
    pub fence: Fence,
    /// The head row, with this opening already counted.
    pub head: Head,
    /// Instances with a row of work in flight.
    pub in_flight: Vec<InstanceId>,
    /// Messages to other partitions whose application was not confirmed, in order per receiver.
    pub outbox: Vec<Message>,
    /// Messages from outside that were consumed within the last hour.
    pub consumed: Vec<(EnvelopeId, Timestamp)>,
}

/// One instance as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredInstance {
    /// The status row; `None` only together with an acceptance.
    pub status: Option<StatusRow>,
    /// A start of the id that has not begun.
    pub acceptance: Option<Acceptance>,
    /// The rows of the current execution's history in order; left out for an instance that has ended.
    pub history: Vec<HistoryRow>,
    /// The row of work in flight.
    pub in_flight: Option<Vec<u8>>,
    /// The instance's earliest due time.
    pub timer: Option<Timestamp>,
}

/// One row of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRow {
    /// Position of its first event.
    pub first: EventSeq,
    /// The events, encoded by [`crate::codec`].
    pub body: Vec<u8>,
}

/// Due times in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TimerPage {
    /// Earliest first; instances of one time in the order of their ids.
    pub timers: Vec<(Timestamp, InstanceId)>,
    /// Whether there are more behind the last of them.
    pub more: bool,
}

/// How far arrivals were read. Opaque; begins at `default()`, and again at each opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArrivalPosition {
    /// Acceptances.
    pub acceptances: u64,
    /// Envelopes.
    pub envelopes: u64,
    /// Results.
    pub results: u64,
}

/// What reached a partition from outside.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arrivals {
    /// Accepted starts, oldest first.
    pub acceptances: Vec<AcceptedStart>,
    /// Commands, oldest first.
    pub envelopes: Vec<Envelope>,
    /// What owners of other partitions sent from other processes.
    pub posts: Vec<Post>,
    /// Results of attempts that were offered to other workers.
    pub results: Vec<WorkResult>,
    /// Messages that were put aside because they can never be applied.
    pub dead: Vec<DeadMessage>,
    /// Where to read on.
    pub position: ArrivalPosition,
    /// Whether there is more to read at once.
    pub more: bool,
}

/// A start that the store holds.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedStart {
    /// The start.
    pub acceptance: Acceptance,
    /// The store vouches that it holds nothing else of the id: neither an earlier run nor the run that this
    /// start begins. The owner need not look before it begins it.
    pub fresh: bool,
}

/// The result of an attempt that ran with a worker which does not own its partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkResult {
    /// Names the message that carries it: gone with the commit that lists it as consumed.
    pub id: EnvelopeId,
    /// Which attempt.
    pub attempt: AttemptKey,
    /// Its result.
    pub result: Result<Payload, Box<Failure>>,
    /// What an attempt that failed had reported last with its heartbeats.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::model::present_payload"
    )]
    pub heartbeat_details: Option<Payload>,
}

/// A message that was put aside because it can never be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadMessage {
    /// Names it: gone with the commit that lists it as consumed.
    pub id: EnvelopeId,
    /// For whom it was.
    pub instance: InstanceId,
    /// What the instance's status says of it.
    pub letter: DeadLetter,
}

/// What became of a start.
#[derive(Debug, Clone, PartialEq)]
pub enum AcceptOutcome {
    /// It is durable, now or since an earlier try with the same nonce.
    Accepted {
        /// The number of the run.
        run: crate::model::RunNumber,
        /// As in [`AcceptedStart::fresh`].
        fresh: bool,
    },
    /// Refused, or not needed: this active instance has the id.
    Active(Box<StatusRow>),
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum SendOutcome {
    /// It is durable.
    Sent,
    /// No instance has the id.
    NotFound,
    /// The instance has ended.
    Ended(Box<StatusRow>),
}

/// How far a run is gone that was to be purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Its status row is there.
    There,
    /// Nobody sees it any more, and rows or blobs of it are still being removed.
    Rest,
    /// A later run of the id has taken its place. A store that remembers its purge says [`Self::Nothing`].
    Replaced,
    /// No row and no blob names it.
    Nothing,
}

/// What a store can take in one commit, and how it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Rows beside the head row.
    pub commit_rows_max: usize,
    /// Bytes of all bodies.
    pub commit_bytes_max: usize,
    /// Whether a message may arrive again after the commit that consumed it, so that its id has to be
    /// remembered.
    pub redelivers: bool,
    /// How long a commit that only records results may wait for more of them.
    pub result_delay: std::time::Duration,
}
