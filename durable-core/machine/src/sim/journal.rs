//! What clients asked for and what they were told: the checker's only source for what was promised.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{EnvelopeId, InstanceId, Payload, RunNumber};
use crate::partition::Ticket;

/// A client's start.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) instance: InstanceId,
    pub(super) input: Payload,
    /// The run that the client was told, once it was.
    pub(super) told: Option<RunNumber>,
}

/// A client's event, or an orchestrator's.
#[derive(Debug)]
pub(super) struct Raised {
    pub(super) instance: InstanceId,
    /// The run that is meant; `None` means any.
    pub(super) meant: Option<RunNumber>,
    /// The run whose start brings it.
    pub(super) with_run: Option<RunNumber>,
    /// Whether the sender was told that it was taken.
    pub(super) accepted: bool,
    /// Runs of the instance that had begun when it was first sent.
    pub(super) runs_before: Option<usize>,
}

/// Who waits for an answer, and what a positive one promises.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Start { token: u64 },
    Raise { token: u64, id: EnvelopeId },
    Terminate { instance: InstanceId, meant: Option<RunNumber>, id: EnvelopeId },
    Purge { instance: InstanceId, run: RunNumber },
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    /// By the token of their script.
    pub(super) starts: BTreeMap<u64, Start>,
    /// By the token of their payload.
    pub(super) raised: BTreeMap<u64, Raised>,
    pub(super) tickets: BTreeMap<Ticket, Asked>,
    /// Runs of the receiver that had begun when a command was first sent.
    pub(super) sent: BTreeMap<EnvelopeId, usize>,
    /// Starts that were asked for at least once.
    pub(super) tried: BTreeSet<u64>,
    /// Runs that somebody wants to be purged, and whether they had ended when that was asked for.
    pub(super) purges: BTreeMap<(InstanceId, RunNumber), bool>,
    next_ticket: u64,
    next_purge: u64,
}

impl Journal {
    pub(super) fn ticket(&mut self, asked: Asked) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, asked);
        ticket
    }

    /// The id of the next purge.
    pub(super) fn purge(&mut self) -> EnvelopeId {
        self.next_purge += 1;
        EnvelopeId(format!("purge {}", self.next_purge).into())
    }
}
