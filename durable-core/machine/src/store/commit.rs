//! One atomic write to one partition.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{
    CommitNumber, EnvelopeId, EventSeq, ExecutionKey, InstanceId, Message, MessageNumber,
    PartitionId, RunNumber, RuntimeStatus, StatusRow, Timestamp,
};

/// Rows that the purge of one instance touches within its commit: the mark in its status row, and what names it for
/// removal. What else there is of it goes afterwards.
pub const PURGE_ROWS: usize = 2;

/// Everything that any number of turns of a partition's instances caused. Applied as a whole, under
/// the owner's fence, or not at all. Immutable once handed to a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The partition.
    pub partition: PartitionId,
    /// Its number among the commits of this owner.
    pub number: CommitNumber,
    /// The partition's head row after this commit.
    pub head: Head,
    /// Whether `head` differs from the last commit's. A store that fences without writing the head row
    /// need not write it otherwise.
    pub head_changed: bool,
    /// The instances that changed; each execution at most once. Those of one instance follow each other, an
    /// execution that ended in front of the one that continues it.
    pub instances: Vec<InstanceWrite>,
    /// Instances that are purged, each by the run that has ended: once this is applied nobody sees them any
    /// more. Nothing else of them is in this commit. A start of the id that was accepted meanwhile stays.
    pub purges: Vec<ExecutionKey>,
    /// Messages to other partitions.
    pub outbox: Vec<OutboxWrite>,
    /// Per receiver: messages up to this number were applied there, their rows can go.
    pub outbox_done: Vec<(PartitionId, MessageNumber)>,
    /// Messages from outside that this commit consumed.
    pub consumed: Vec<Consumed>,
    /// The hub's clock at this commit.
    pub at: Timestamp,
    /// How the number of instances in each status changes.
    pub counts: BTreeMap<RuntimeStatus, i64>,
}

impl Commit {
    /// Whether it is about one instance at most, which is written whole however many rows it needs.
    #[must_use]
    pub fn is_of_one(&self) -> bool {
        self.purges.is_empty()
            && self.instances.windows(2).all(|pair| pair[0].key.instance == pair[1].key.instance)
    }

    /// Rows that this commit writes or deletes, the head not counted.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.instances.iter().map(InstanceWrite::rows).sum::<usize>()
            + self.purges.len() * PURGE_ROWS
            + self.outbox.len()
            + self.outbox_done.len()
            + usize::from(!self.consumed.is_empty())
    }
}

/// The row that stands for the partition itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    /// The latest time that a commit recorded; the partition's clock never runs behind it.
    #[serde(default)]
    pub time: Timestamp,
    /// Openings since the partition was last given up in good order, or since an owner last took up all
    /// its work (which counts as the first of them).
    #[serde(default)]
    pub unclean_opens: u32,
    /// The instance that a careful owner loads right now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probing: Option<InstanceId>,
    /// Per sending partition: which of its messages were applied.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cursors: BTreeMap<PartitionId, Cursor>,
    /// Per receiving partition: the last message number given out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sent: BTreeMap<PartitionId, MessageNumber>,
    /// The highest run that was purged here: later ones begin above it. A child gets its number when it is asked
    /// for, and may begin later than a run that is gone; and a clock may have been ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged: Option<RunNumber>,
}

/// Which messages of one sender were applied. Moved by the commit that holds their effects, so that
/// effect and cursor are one write.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// All messages up to this one.
    pub upto: MessageNumber,
    /// Single ones behind it: applied to instances whose writes did not have to wait for a larger one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub beyond: BTreeSet<MessageNumber>,
}

impl Cursor {
    /// Whether the message was applied.
    #[must_use]
    pub fn holds(&self, number: MessageNumber) -> bool {
        number <= self.upto || self.beyond.contains(&number)
    }

    /// Notes that a message was applied.
    pub fn apply(&mut self, number: MessageNumber) {
        self.beyond.insert(number);
        while self.beyond.remove(&self.upto.next()) {
            self.upto = self.upto.next();
        }
    }
}

/// What a commit does to one optional row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowChange<T> {
    /// Leave it as it is.
    Keep,
    /// Write this.
    Set(T),
    /// Delete it.
    Delete,
}

impl<T> RowChange<T> {
    /// Whether the row is touched.
    #[must_use]
    pub fn touches(&self) -> bool {
        !matches!(self, Self::Keep)
    }
}

/// Whether a write begins a run, and what a store may take for granted then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Begins {
    /// The run has begun before.
    #[default]
    No,
    /// It begins under an id that was made for it: nothing of that id is stored.
    Fresh,
    /// It begins from its acceptance, which goes, with all rows of earlier runs of the id.
    Accepted,
    /// It begins because another instance asked for it under an id of its choice: no acceptance is stored of
    /// it, and all rows of earlier runs of the id go. Where a start of the id was accepted meanwhile the whole
    /// commit is refused: the partition has to look again.
    Asked,
}

impl Begins {
    /// Whether a run begins.
    #[must_use]
    pub fn a_run(self) -> bool {
        self != Self::No
    }
}

/// What a commit writes of one execution.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceWrite {
    /// Instance, run and execution.
    pub key: ExecutionKey,
    /// Whether the run begins here.
    pub begins: Begins,
    /// Events added to the history of the execution.
    pub history: Option<HistoryAppend>,
    /// The new status row, where something visible changed.
    pub status: Option<Box<StatusRow>>,
    /// The row of work in flight, encoded by [`crate::codec`].
    pub in_flight: RowChange<Vec<u8>>,
    /// How the row with the instance's earliest due time moves.
    pub timer: Option<TimerMove>,
}

impl InstanceWrite {
    /// Rows that this touches, in the store that needs most.
    #[must_use]
    pub fn rows(&self) -> usize {
        // Beside its status: the acceptance, a place in the list, and what is left of an earlier run.
        let beginning = match self.begins {
            Begins::No => 0,
            Begins::Fresh => 1,
            Begins::Accepted | Begins::Asked => 3,
        };
        beginning
            + usize::from(self.history.is_some())
            + usize::from(self.status.is_some())
            + usize::from(self.in_flight.touches())
            + self.timer.as_ref().map_or(0, |timer| {
                usize::from(timer.from.is_some())
                    + usize::from(timer.to.is_some())
                    + usize::from(self.status.is_none())
            })
    }

    /// Bytes of its bodies, roughly what it costs to store.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const ROW_OVERHEAD: usize = 64;
        let status = self.status.as_ref().map_or(0, |row| {
            row.input.bytes()
                + row.output.as_ref().map_or(0, crate::model::Payload::bytes)
                + row.custom_status.as_ref().map_or(0, crate::model::Payload::bytes)
        });
        let in_flight = match &self.in_flight {
            RowChange::Set(body) => body.len(),
            RowChange::Keep | RowChange::Delete => 0,
        };
        self.history.as_ref().map_or(0, |history| history.body.len())
            + status
            + in_flight
            + self.rows() * ROW_OVERHEAD
    }
}

/// Events that a commit adds to one history: one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryAppend {
    /// Position of the first of them.
    pub first: EventSeq,
    /// How many they are.
    pub count: u32,
    /// When the last of them was recorded.
    pub at: Timestamp,
    /// The events, encoded by [`crate::codec`].
    pub body: Vec<u8>,
}

/// How the row with an instance's earliest due time moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimerMove {
    /// Where the store has it.
    pub from: Option<Timestamp>,
    /// Where it shall be.
    pub to: Option<Timestamp>,
}

/// Messages to one partition, in one row.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxWrite {
    /// The receiver.
    pub to: PartitionId,
    /// The messages, in the order of their numbers.
    pub messages: Vec<Message>,
}

/// A message from outside that a commit consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// The message.
    pub id: EnvelopeId,
    /// Whether a later arrival of the same id has to be recognised.
    pub remember: bool,
}
