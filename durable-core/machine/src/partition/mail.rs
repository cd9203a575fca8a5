//! Messages between partitions: numbered by the sender, kept until confirmed, applied once in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::effect::Effect;
use crate::model::{EnvelopeId, Message, MessageBody, MessageNumber, PartitionId, Timestamp};
use crate::store::{Head, OutboxWrite};

/// How long a message may stay unconfirmed before it is sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(10);

/// How long the id of a taken message is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

/// Sent messages that the receiver has not confirmed.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    unconfirmed: BTreeMap<(PartitionId, MessageNumber), Message>,
    /// Sent by the commit under way: not to be repeated before that is durable.
    uncommitted: Vec<Message>,
    done: BTreeMap<PartitionId, MessageNumber>,
    repeat_at: Option<Timestamp>,
}

impl Outbox {
    pub(super) fn restored(messages: Vec<Message>, now: Timestamp) -> Self {
        let messages = if planted!(OutboxForgotten) { Vec::new() } else { messages };
        let unconfirmed: BTreeMap<_, _> =
            messages.into_iter().map(|message| ((message.to, message.number), message)).collect();
        let repeat_at = (!unconfirmed.is_empty()).then_some(now);
        Self { unconfirmed, uncommitted: Vec::new(), done: BTreeMap::new(), repeat_at }
    }

    /// Numbers what a commit sends. The returned effects belong to that commit.
    pub(super) fn send(
        &mut self,
        from: PartitionId,
        bodies: Vec<(PartitionId, MessageBody)>,
        head: &mut Head,
    ) -> (Vec<OutboxWrite>, Vec<Effect>) {
        let mut writes: BTreeMap<PartitionId, Vec<Message>> = BTreeMap::new();
        let mut effects = Vec::new();
        for (to, body) in bodies {
            let number = head.sent.get(&to).copied().unwrap_or_default().next();
            head.sent.insert(to, number);
            let message = Message { from, to, number, body };
            effects.push(Effect::Deliver(Box::new(message.clone())));
            self.uncommitted.push(message.clone());
            writes.entry(to).or_default().push(message);
        }
        let writes =
            writes.into_iter().map(|(to, messages)| OutboxWrite { to, messages }).collect();
        (writes, effects)
    }

    /// The commit under way is durable.
    pub(super) fn committed(&mut self, now: Timestamp) {
        for message in std::mem::take(&mut self.uncommitted) {
            self.repeat_at.get_or_insert(now.after(REPEAT_AFTER));
            self.unconfirmed.insert((message.to, message.number), message);
        }
    }

    pub(super) fn confirmed(&mut self, by: PartitionId, upto: MessageNumber) {
        let known: Vec<_> = self
            .unconfirmed
            .range((by, MessageNumber(0))..=(by, upto))
            .map(|(key, _)| *key)
            .collect();
        if known.is_empty() {
            return;
        }
        for key in known {
            self.unconfirmed.remove(&key);
        }
        let done = self.done.entry(by).or_default();
        *done = upto.max(*done);
        if self.unconfirmed.is_empty() {
            self.repeat_at = None;
        }
    }

    /// Rows that the next commit can delete.
    pub(super) fn take_done(&mut self) -> Vec<(PartitionId, MessageNumber)> {
        std::mem::take(&mut self.done).into_iter().collect()
    }

    pub(super) fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.repeat_at
    }

    /// Sends everything again that nobody confirmed in time.
    pub(super) fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        if self.repeat_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        self.repeat_at = (!self.unconfirmed.is_empty()).then(|| now.after(REPEAT_AFTER));
        self.unconfirmed.values().cloned().map(|m| Effect::Deliver(Box::new(m))).collect()
    }
}

/// Ids of messages from outside that were taken lately.
#[derive(Debug, Default)]
pub(super) struct KnownEnvelopes {
    ids: BTreeSet<EnvelopeId>,
    oldest: VecDeque<(Timestamp, EnvelopeId)>,
}

impl KnownEnvelopes {
    pub(super) fn restored(mut consumed: Vec<(EnvelopeId, Timestamp)>) -> Self {
        consumed.sort_by_key(|(_, at)| *at);
        Self {
            ids: consumed.iter().map(|(id, _)| id.clone()).collect(),
            oldest: consumed.into_iter().map(|(id, at)| (at, id)).collect(),
        }
    }

    pub(super) fn holds(&self, id: &EnvelopeId) -> bool {
        self.ids.contains(id) && !planted!(EnvelopeTakenTwice)
    }

    pub(super) fn note(&mut self, id: &EnvelopeId, now: Timestamp) {
        while let Some((at, _)) = self.oldest.front()
            && at.after(REMEMBERED_FOR) < now
        {
            if let Some((_, forgotten)) = self.oldest.pop_front() {
                self.ids.remove(&forgotten);
            }
        }
        if self.ids.insert(id.clone()) {
            self.oldest.push_back((now, id.clone()));
        }
    }
}

/// Received messages, sorted out: each sender's once and in order.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// Per sender: the last message routed to its instance, committed or not.
    routed: BTreeMap<PartitionId, MessageNumber>,
    /// Per sender: the last message whose application is durable, with all before it.
    applied: BTreeMap<PartitionId, MessageNumber>,
    /// Messages that came before their predecessors.
    early: BTreeMap<(PartitionId, MessageNumber), Message>,
}

impl Inbox {
    pub(super) fn restored(head: &Head) -> Self {
        let routed: BTreeMap<_, _> =
            head.cursors.iter().map(|(from, cursor)| (*from, cursor.upto)).collect();
        Self { applied: routed.clone(), routed, early: BTreeMap::new() }
    }

    /// A commit that applied messages is durable.
    pub(super) fn committed(&mut self, from: PartitionId, upto: MessageNumber) {
        self.applied.insert(from, upto);
    }

    /// What may be confirmed to a sender, if anything.
    pub(super) fn applied(&self, from: PartitionId) -> Option<MessageNumber> {
        self.applied.get(&from).copied().filter(|upto| upto.0 > 0)
    }

    /// Takes a message; returns those that can be routed now, in order.
    pub(super) fn receive(&mut self, message: Message, head: &Head) -> Vec<Message> {
        let from = message.from;
        let routed = self.routed.entry(from).or_default();
        if planted!(MessagesOutOfOrder) {
            return vec![message];
        }
        if message.number <= *routed {
            return Vec::new();
        }
        self.early.insert((from, message.number), message);
        let mut ready = Vec::new();
        while let Some(next) = self.early.remove(&(from, routed.next())) {
            *routed = next.number;
            // Beyond the cursor single messages may have been applied by an earlier owner.
            if !head.cursors.get(&from).is_some_and(|cursor| cursor.holds(next.number)) {
                ready.push(next);
            }
        }
        ready
    }
}
