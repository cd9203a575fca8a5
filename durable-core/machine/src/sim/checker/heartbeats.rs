//! What attempts said of how far they are: the next one learns the last of it, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Checker, Verdict, holds};
use crate::model::{Attempt, CallNumber, ExecutionKey, Fence, PartitionId, Payload, Timestamp};
use crate::partition::{AttemptKey, HEARTBEAT_DELAY, StartAttempt};

/// How late a commit may be that has to be made.
const LATE: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
struct Heard {
    last: Option<usize>,
    at: Option<Timestamp>,
    /// The longest time, from its start on, without a word.
    silence: Duration,
}

impl Heard {
    fn note(&mut self, now: Timestamp) {
        self.silence = self.silence.max(self.at.map_or(Duration::ZERO, |at| now.since(at)));
        self.at = Some(now);
    }
}

/// Of one call. Numbers are places in the order in which the details were sent; each is sent once.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    sent: Vec<Payload>,
    /// What the row of work in flight says.
    stored: Option<usize>,
    /// What reached an owner from an attempt.
    heard: BTreeMap<Attempt, Heard>,
    /// The same when the attempt was answered for the first time.
    at_end: BTreeMap<Attempt, Option<usize>>,
    /// The first that an owner heard and has not stored.
    waits: Option<(PartitionId, Fence, Timestamp, usize)>,
}

impl Heartbeats {
    fn place(&self, details: &Payload) -> Option<usize> {
        self.sent.iter().position(|sent| sent == details)
    }
}

impl Checker {
    fn heartbeats_of(&mut self, attempt: &AttemptKey) -> &mut Heartbeats {
        self.heartbeats.entry((attempt.key.clone(), attempt.call)).or_default()
    }

    /// A body said how far it is.
    pub(in crate::sim) fn heartbeat_sent(&mut self, attempt: &AttemptKey, details: &Payload) {
        self.heartbeats_of(attempt).sent.push(details.clone());
    }

    /// An attempt with a time limit began, and its owner knows.
    pub(in crate::sim) fn attempt_began(&mut self, attempt: &AttemptKey, now: Timestamp) {
        self.heartbeats_of(attempt).heard.entry(attempt.attempt).or_default().note(now);
    }

    /// That reached the owner in whose process it runs.
    pub(in crate::sim) fn heartbeat_heard(
        &mut self,
        attempt: &AttemptKey,
        details: &Payload,
        (partition, fence): (PartitionId, Fence),
        now: Timestamp,
    ) {
        // Its call may be settled: what another start of it has answered counts.
        let answered = self.answers.contains_key(attempt);
        let beats = self.heartbeats_of(attempt);
        let Some(place) = beats.place(details) else { return };
        let heard = beats.heard.entry(attempt.attempt).or_default();
        heard.note(now);
        heard.last = Some(place);
        match &beats.waits {
            _ if answered => {}
            Some((_, by, ..)) if *by == fence => {}
            _ => beats.waits = Some((partition, fence, now, place)),
        }
    }

    /// The owner learned it with the result of an attempt that ran elsewhere.
    pub(in crate::sim) fn heartbeat_reported(
        &mut self,
        attempt: &AttemptKey,
        details: Option<&Payload>,
    ) {
        let beats = self.heartbeats_of(attempt);
        let place = details.and_then(|details| beats.place(details));
        beats.at_end.entry(attempt.attempt).or_insert(place);
    }

    /// An attempt was answered: later words of it do not count.
    pub(super) fn heartbeats_end(&mut self, attempt: &AttemptKey) {
        if let Some(beats) = self.heartbeats.get_mut(&(attempt.key.clone(), attempt.call)) {
            let last = beats.heard.get(&attempt.attempt).and_then(|heard| heard.last);
            beats.at_end.entry(attempt.attempt).or_insert(last);
        }
    }

    /// A commit wrote it.
    pub(super) fn heartbeat_stored(
        &mut self,
        key: &ExecutionKey,
        call: CallNumber,
        details: &Payload,
    ) {
        if let Some(beats) = self.heartbeats.get_mut(&(key.clone(), call)) {
            beats.stored = beats.place(details).or(beats.stored);
            let stored = beats.stored;
            beats.waits.take_if(|(.., place)| stored.is_some_and(|stored| stored >= *place));
        }
    }

    /// What an owner has known for long is in its commits, unless the attempt may have been given up before.
    pub(super) fn heartbeats_are_stored(
        &self,
        partition: PartitionId,
        fence: Fence,
        now: Timestamp,
    ) -> Verdict {
        for ((key, call), beats) in &self.heartbeats {
            let Some((of, by, heard, place)) = &beats.waits else { continue };
            let latest = heard.after(HEARTBEAT_DELAY).after(LATE);
            let late = (*of, *by) == (partition, fence) && now > latest;
            let Some(archived) = self.archived(key).filter(|_| late) else { continue };
            let limited = archived.scheduled(*call).is_none_or(|scheduled| {
                scheduled.options.start_to_finish.is_some()
                    || scheduled.options.heartbeat_timeout.is_some()
            });
            let current = self.runs[&key.instance].last_key_value();
            let current = current.is_some_and(|(_, run)| run.row.key() == *key);
            let waits = current && !archived.ended && archived.is_open(*call);
            holds(limited || !waits || self.damaged.contains(&key.instance), || {
                let said = &beats.sent[*place];
                format!("I5: call {call} of {key} said {said:?} at {heard}, not stored at {now}")
            })?;
        }
        Ok(())
    }

    /// An attempt begins: what it is told was said by an attempt of its own call, and is not older than what is
    /// stored; where nothing was disturbed, it is the last that was said.
    pub(super) fn details_are_right(
        &self,
        partition: PartitionId,
        newest: bool,
        start: &StartAttempt,
        now: Timestamp,
    ) -> Verdict {
        let AttemptKey { key, call, attempt } = &start.attempt;
        let told = start.heartbeat_details.as_ref();
        let which = || format!("I5: attempt {attempt} of call {call} of {key}");
        let Some(beats) = self.heartbeats.get(&(key.clone(), *call)) else {
            return holds(told.is_none(), || format!("{} is told {told:?} by nobody", which()));
        };
        let place = told.and_then(|told| beats.place(told));
        holds(place.is_some() || told.is_none(), || {
            format!("{} is told {told:?}, which no attempt of it said", which())
        })?;
        // One that is begun again, and whose answer came meanwhile, is of no use to anybody.
        let counts = newest && !self.answers.contains_key(&start.attempt);
        holds(!counts || place >= beats.stored, || {
            format!("{} is told {told:?}, which is older than what is stored", which())
        })?;
        let Some(previous) = attempt.0.checked_sub(1).filter(|previous| *previous > 0) else {
            return Ok(());
        };
        if !self.undisturbed(partition) {
            return Ok(());
        }
        let answered = beats.at_end.contains_key(&Attempt(previous));
        if start.is_timed() {
            let limit = start.heartbeat_timeout.filter(|_| start.start_to_finish.is_none());
            let heard = beats.heard.get(&Attempt(previous));
            let silent = heard.zip(limit).is_none_or(|(heard, limit)| {
                heard.silence >= limit || heard.at.is_none_or(|at| now >= at.after(limit))
            });
            return holds(answered || silent, || {
                format!("{} begins, though the one before it was not silent", which())
            });
        }
        let last = (1..=previous).rev().find_map(|n| *beats.at_end.get(&Attempt(n))?);
        holds(!answered || place == last, || {
            let last = last.map(|last| &beats.sent[last]);
            format!("{} is told {told:?}, the last word was {last:?}", which())
        })
    }
}
