//! Group commit: everything that any number of turns caused, in one commit; one under way at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::effect::Effect;
use super::entry::{Code, Life, Writes};
use super::{Core, Partition, Patience};
use crate::model::{CommitNumber, InstanceId, RuntimeStatus, Timestamp};
use crate::store::{Commit, PURGE_ROWS};

/// Rows that one instance may need at most, but for what it sends: history, status, in-flight, timer (two),
/// acceptance, its place in the list, and what is left of an earlier run.
const ROWS_PER_INSTANCE: usize = 8;

/// The commit that was handed out, and what waits for it.
pub(super) struct UnderWay {
    number: CommitNumber,
    effects: Vec<Effect>,
    instances: Vec<InstanceId>,
}

impl Partition {
    /// The next commit, if there is something to write and none is under way.
    ///
    /// Oldest first, cut between instances where the store could not take more.
    pub fn take_commit(&mut self) -> Option<Arc<Commit>> {
        if self.core.under_way.is_some() {
            return None;
        }
        self.core.note_recovered();
        let nothing =
            self.core.dirty.is_empty() && !self.core.outbox.has_done() && !self.core.head_urgent();
        if nothing {
            return None;
        }
        if self.core.waits_for_more() {
            return None;
        }
        let limits = self.core.config.limits;
        let mut commit = Commit {
            partition: self.core.config.partition,
            number: CommitNumber(self.core.next_commit),
            head: self.core.head.clone(),
            head_changed: false,
            instances: Vec::new(),
            purges: Vec::new(),
            outbox: Vec::new(),
            outbox_done: self.core.outbox.take_done(),
            consumed: Vec::new(),
            at: self.core.now,
            counts: BTreeMap::new(),
        };
        let mut effects = Vec::new();
        let mut instances = Vec::new();
        let mut outgoing = Vec::new();
        let mut applied = Vec::new();
        let (mut rows, mut bytes) = (commit.outbox_done.len() + 1, 0);
        let mut unfinished = VecDeque::new();
        while let Some(instance) = self.core.dirty.front() {
            let Some(entry) = self.entries.get_mut(instance) else {
                self.core.dirty.pop_front();
                continue;
            };
            // A turn is never split over commits: its arrival waits for what the code asks for.
            if matches!(entry.code, Code::Out) && !planted!(TurnSplit) {
                unfinished.extend(self.core.dirty.pop_front());
                continue;
            }
            let rows_after = rows + ROWS_PER_INSTANCE + entry.writes.rows();
            let bytes_after = bytes + entry.writes.bytes();
            let fits =
                rows_after <= limits.commit_rows_max && bytes_after <= limits.commit_bytes_max;
            if !instances.is_empty() && !fits && !planted!(CommitTooLarge) {
                break;
            }
            let Some(instance) = self.core.dirty.pop_front() else { break };
            entry.queued = false;
            entry.committing = true;
            let (own, writes) = entry.take_writes();
            for write in own {
                rows += write.rows();
                bytes += write.bytes();
                if let Some(row) = &write.status {
                    let before = entry.stored.status.replace(row.status);
                    count(&mut commit.counts, before, row.status);
                }
                commit.instances.push(write);
            }
            rows += writes.outgoing.len();
            let Writes { effects: own, outgoing: out, consumed, applied: messages, purge, .. } =
                writes;
            if let Some(key) = purge {
                rows += PURGE_ROWS;
                if let Some(before) = std::mem::take(&mut entry.stored).status
                    && !planted!(PurgeNotCounted)
                {
                    *commit.counts.entry(before).or_default() -= 1;
                }
                self.core.head.purged = self.core.head.purged.max(Some(key.run));
                self.core.head_changed = true;
                commit.purges.push(key);
            }
            if planted!(EffectsBeforeCommit) {
                self.core.effects.extend(own);
            } else {
                effects.extend(own);
            }
            outgoing.extend(out);
            commit.consumed.extend(consumed);
            applied.extend(messages);
            instances.push(instance);
        }
        unfinished.append(&mut self.core.dirty);
        self.core.dirty = unfinished;
        // What did not fit, or whose code is out, has waited already.
        self.core.patient = Patience { since: None, urgent: !self.core.dirty.is_empty() };
        commit.counts.retain(|_, delta| *delta != 0);
        effects.extend(self.core.apply_messages(applied));
        if !outgoing.is_empty() {
            self.core.head_changed = true;
            let from = self.core.config.partition;
            let (writes, deliveries) = self.core.outbox.send(from, outgoing, &mut self.core.head);
            commit.outbox = writes;
            if planted!(MessagesBeforeCommit) {
                self.core.effects.extend(deliveries);
            } else {
                effects.extend(deliveries);
            }
        }
        effects.extend(self.core.take_announced());
        self.core.head.time = self.core.now;
        commit.head = self.core.head.clone();
        commit.head_changed = std::mem::take(&mut self.core.head_changed);
        let empty = commit.instances.is_empty()
            && commit.purges.is_empty()
            && commit.outbox.is_empty()
            && commit.outbox_done.is_empty()
            && commit.consumed.is_empty()
            && !commit.head_changed;
        if empty {
            // Only answers about what is durable already.
            self.core.effects.extend(effects);
            self.uncommitted(&instances);
            return None;
        }
        self.core.next_commit += 1;
        self.core.stats.commits += 1;
        self.core.under_way = Some(UnderWay { number: commit.number, effects, instances });
        Some(Arc::new(commit))
    }

    /// The commit is durable: returns the effects that waited for it.
    pub fn committed(&mut self, number: CommitNumber) -> Vec<Effect> {
        let Some(under_way) = self.core.under_way.take_if(|under_way| under_way.number == number)
        else {
            return Vec::new();
        };
        self.core.outbox.committed(self.core.now);
        for effect in &under_way.effects {
            if let Effect::Confirm { to, upto } = effect {
                self.core.inbox.committed(*to, *upto);
            }
        }
        self.uncommitted(&under_way.instances);
        self.make_room();
        under_way.effects
    }

    fn uncommitted(&mut self, instances: &[InstanceId]) {
        for instance in instances {
            if let Some(entry) = self.entries.get_mut(instance) {
                entry.committing = false;
                if entry.waits_for_first_turn() {
                    self.core.first_turn(instance, entry);
                }
                if matches!(entry.life, Life::Ended(_) | Life::Absent | Life::Unknown) {
                    self.core.proceed(instance, entry);
                    self.settle_entry(instance);
                }
            }
        }
    }
}

impl Core {
    /// Whether all there is to write is results that lead to nothing yet: a store where a commit is dear
    /// lets them wait for more. A crash meanwhile only runs those activities again.
    fn waits_for_more(&mut self) -> bool {
        if self.config.limits.result_delay.is_zero() || self.patient.urgent || self.head_urgent() {
            return false;
        }
        self.patient.since.get_or_insert(self.now);
        self.patience_ends().is_some_and(|end| end > self.now) || planted!(PatienceNeverEnds)
    }

    /// When what waits for more is committed in any case.
    pub(super) fn patience_ends(&self) -> Option<Timestamp> {
        self.patient.since.map(|since| since.after(self.config.limits.result_delay))
    }
}

fn count(
    counts: &mut BTreeMap<RuntimeStatus, i64>,
    from: Option<RuntimeStatus>,
    to: RuntimeStatus,
) {
    if let Some(from) = from.filter(|_| !planted!(CountNotTakenOff)) {
        *counts.entry(from).or_default() -= 1;
    }
    *counts.entry(to).or_default() += 1;
}
