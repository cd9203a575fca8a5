//! The executions of a run, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::execution::{Archived, Bodies};
use super::{Checker, RunSeen, Verdict, holds, run_seen};
use crate::model::{
    CallNumber, Event, EventKind, ExecutionKey, ExecutionNumber, Failure, PartitionId, Payload,
};
use crate::store::{HistoryRow, InstanceWrite, StoreModel};

impl Checker {
    /// A commit wrote the end of an execution that is not the current one any more: the store shows it to
    /// nobody, so what the commit says of it counts.
    pub(super) fn look_at_closed(
        &mut self,
        partition: PartitionId,
        write: &InstanceWrite,
        store: &StoreModel,
    ) -> Verdict {
        let key = &write.key;
        let row = store.load(&key.instance).and_then(|stored| stored.status);
        let Some((row, append)) = row.zip(write.history.as_ref()) else { return Ok(()) };
        let current = row.run == key.run && row.execution <= key.execution;
        if current || self.damaged.contains(&key.instance) {
            return Ok(());
        }
        let undisturbed = self.undisturbed(partition);
        let runs = self.runs.entry(key.instance.clone()).or_default();
        let archived = run_seen(runs, &row)?.executions.entry(key.clone()).or_default();
        let added = HistoryRow { first: append.first, body: append.body.clone() };
        archived.append(key, added, &self.bodies, undisturbed)?;
        holds(archived.ended, || format!("I4: {key} has a successor and no end"))
    }
}

impl RunSeen {
    /// Whether this execution of it ended so.
    pub(super) fn failed_with(&self, execution: ExecutionNumber, failure: &Failure) -> bool {
        let key = ExecutionKey { execution, ..self.row.key() };
        let last = self.executions.get(&key).and_then(|archived| archived.events.last());
        last.is_some_and(
            |last| matches!(&last.is, EventKind::ExecutionFailed { failure: own } if **own == *failure),
        )
    }

    /// What it was started with.
    pub(super) fn input(&self) -> &Payload {
        let first = self.executions.values().next().and_then(|first| first.start());
        first.map_or(&self.row.input, |started| &started.input)
    }
}

/// Each execution begins where the one before it ended: with its input, and with the events that it had not
/// consumed, in their order, in front of all others. With what each of them consumed.
pub(super) fn follow_each_other(
    run: &RunSeen,
    consumed: &[Vec<u64>],
    sent_again: &BTreeSet<u64>,
    bodies: &Bodies,
) -> Verdict {
    let mut before: Option<&Payload> = None;
    let mut kept: Vec<u64> = Vec::new();
    let mut repeated: Option<&Archived> = None;
    for (number, ((key, archived), consumed)) in (0..).zip(run.executions.iter().zip(consumed)) {
        let start = archived.start().ok_or_else(|| format!("I3: {key} has no start"))?;
        let continues = start.continues.map(|execution| execution.0 + 1);
        let right = key.execution.0 == number && continues.unwrap_or_default() == number;
        holds(right && start.name == run.row.name && start.tags == run.row.tags, || {
            format!("I3: {key} does not continue the execution before it: {start:?}")
        })?;
        let deadline = repeated.and_then(Archived::start).map(|start| start.deadline);
        let same = deadline.is_none_or(|deadline| deadline == start.deadline);
        holds(same || start.rewind.is_some(), || {
            format!("I3: {key} has another deadline than the execution before it")
        })?;
        if let Some(failed) = repeated.filter(|_| start.rewind.is_some()) {
            repeats(key, archived, failed, bodies)?;
            before = failed.start().map(|failed| &failed.input);
            kept = failed.raised().filter(|token| !sent_again.contains(token)).collect();
        }
        repeated = Some(archived);
        let handed_over = before.is_none_or(|input| *input == start.input);
        holds(handed_over && before.is_some() == (number > 0), || {
            format!("I3: {key} begins with another input than it was continued with")
        })?;
        let once = |token: &u64| !sent_again.contains(token);
        let raised: Vec<u64> = archived.raised().filter(once).collect();
        let unique: BTreeSet<_> = raised.iter().collect();
        holds(unique.len() == raised.len(), || {
            format!("I2: {key} has an event twice in its history: {raised:?}")
        })?;
        let taken = kept.len().min(raised.len());
        holds(kept[..taken] == raised[..taken], || {
            format!("I2: {key} had to begin with events {kept:?}, and got {raised:?}")
        })?;
        let unconsumed = raised.iter().filter(|token| !consumed.contains(token)).copied();
        kept = unconsumed.chain(kept[taken..].iter().copied()).collect();
        before = archived.continued_with();
    }
    let last = run.executions.values().next_back().and_then(|last| last.start());
    let shown = last.is_none_or(|start| start.input == run.row.input);
    holds(before.is_none() && shown, || {
        format!("I4: {} was continued, and its row does not say with what", run.row.key())
    })
}

/// A rewind takes failures back, and nothing else: the rest is there again, as far as the code asks for it.
fn repeats(key: &ExecutionKey, archived: &Archived, failed: &Archived, bodies: &Bodies) -> Verdict {
    let last = failed.events.last().map(|event| &event.is);
    holds(matches!(last, Some(EventKind::ExecutionFailed { .. })), || {
        format!("I3: {key} repeats an execution that has not failed: {last:?}")
    })?;
    let compensated = failed.events.iter().any(
        |event| matches!(&event.is, EventKind::ActivityScheduled(call) if call.options.compensates),
    );
    holds(!compensated, || format!("I3: {key} repeats what was taken back"))?;
    let succeeded = |archived: &Archived| -> BTreeMap<CallNumber, Payload> {
        let output = |event: &Event| match &event.is {
            EventKind::ActivityCompleted { call, output }
            | EventKind::ChildCompleted { call, output, .. } => Some((*call, output.clone())),
            _ => None,
        };
        archived.events.iter().filter_map(output).collect()
    };
    let (before, now) = (succeeded(failed), succeeded(archived));
    for (call, output) in &before {
        // Of what the code still asks for.
        let asked = archived.asked_alike(*call, failed);
        let cancelled = archived.is_cancelled(*call);
        let kept = now.get(call).map_or(archived.ended, |now| now == output);
        let again = bodies.contains_key(&(key.clone(), *call));
        holds(!asked || !again, || format!("I3: {key} runs call {call} again, which succeeded"))?;
        holds(!asked || cancelled || kept, || {
            format!("I3: {key} does not have the result {output:?} of call {call} any more")
        })?;
    }
    Ok(())
}
