//! The vocabulary: ids, times, payloads, events, messages, statuses, failures and limits.
//!
//! Values only. Everything that is stored or sent is one of these types, encoded by [`crate::codec`].

mod deadline;
mod event;
mod failure;
mod ids;
pub mod limits;
mod message;
mod payload;
mod policy;
mod status;
mod time;

pub use deadline::Deadline;
pub use event::{
    ActivityScheduled, ChildCreated, Event, EventKind, ExecutionStarted, ParentClose, ParentLink,
    Rewind, Succeeded, TraceContext,
};
pub use failure::{Failure, FailureClass};
pub use ids::{
    Attempt, AttemptKey, CallNumber, CommitNumber, EnvelopeId, EventSeq, ExecutionKey,
    ExecutionNumber, Fence, HubName, InstanceId, InvalidName, MessageNumber, PartitionId,
    RunNumber, StartNonce, WorkerId,
};
pub use message::{
    Acceptance, Command, Envelope, Message, MessageBody, Post, ReusePolicy, StartAttempt,
};
pub(crate) use payload::present as present_payload;
pub use payload::{InvalidPayload, Payload};
pub use policy::{ActivityOptions, RetryPolicy};
pub use status::{
    DeadLetter, Hold, HoldReason, RuntimeStatus, StatusRow, UnconsumedEvent, UnknownStatus,
};
pub use time::Timestamp;
