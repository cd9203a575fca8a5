//! Says whether what happened was right. It knows the public contract only: what clients were told, what
//! bodies of activities ran, and what the store holds, read through the codec. Of the partition it knows
//! nothing.

mod children;
mod execution;
mod generations;
mod heartbeats;
mod last;
mod purges;
mod results;

use std::collections::{BTreeMap, BTreeSet};

use execution::Archived;
use heartbeats::Heartbeats;
pub(super) use results::taken;

use super::journal::{Asked, Journal, Raised};
use super::script::Work;
use crate::codec;
use crate::model::{
    Attempt, CallNumber, EventKind, ExecutionKey, Failure, Fence, InstanceId, MessageNumber,
    PartitionId, Payload, RunNumber, RuntimeStatus, StatusRow, Timestamp,
};
use crate::partition::{Answer, AttemptKey, Needs, StartAttempt};
use crate::store::{Commit, InstanceWrite, ListQuery, RowChange, StoreModel};

/// Rows of a commit with which none is cut.
const ROWS_UNCUT: usize = 99;

/// What was found to be wrong, in a sentence.
pub(super) type Verdict = Result<(), String>;

#[derive(Debug, Default)]
pub(super) struct Checker {
    runs: BTreeMap<InstanceId, BTreeMap<RunNumber, RunSeen>>,
    bodies: BTreeMap<(ExecutionKey, CallNumber), Vec<Body>>,
    answers: BTreeMap<AttemptKey, Timestamp>,
    opened: BTreeMap<PartitionId, Fence>,
    committed: BTreeMap<PartitionId, Fence>,
    times: BTreeMap<PartitionId, Timestamp>,
    /// Per receiver and sender: up to where the sender's messages were durably applied.
    cursors: BTreeMap<(PartitionId, PartitionId), MessageNumber>,
    /// Executions that something outside a turn has woken, while nothing disturbed their partition.
    woken: BTreeMap<ExecutionKey, Timestamp>,
    backoffs: BTreeMap<AttemptKey, i64>,
    /// Attempts of which a commit said that other workers may take them.
    offered: BTreeSet<AttemptKey>,
    /// What attempts said of how far they are.
    heartbeats: BTreeMap<(ExecutionKey, CallNumber), Heartbeats>,
    /// Events that instances have sent.
    sent: BTreeSet<u64>,
    /// Events that were sent more than once: by a child that begins again with its parent, and on the other way of
    /// what is repeated.
    sent_again: BTreeSet<u64>,
    /// Instances whose stored rows were damaged on purpose: nothing is promised of them.
    pub(super) damaged: BTreeSet<InstanceId>,
    /// Instances that an owner said it holds: what they had consumed may not be known.
    pub(super) told_held: BTreeSet<InstanceId>,
}

/// What the row of work in flight says of offers.
#[derive(serde::Deserialize)]
struct InFlightSeen {
    #[serde(default)]
    calls: BTreeMap<CallNumber, CallSeen>,
    /// What waits for a hold to be lifted.
    #[serde(default)]
    stash: Vec<serde_json::Value>,
}

#[derive(serde::Deserialize)]
struct CallSeen {
    attempt: Attempt,
    #[serde(default)]
    offered: bool,
    #[serde(default)]
    details: Option<Payload>,
}

/// One run of an instance, as the store showed it.
#[derive(Debug)]
struct RunSeen {
    row: StatusRow,
    executions: BTreeMap<ExecutionKey, Archived>,
    /// The engine held it in the commit before the last.
    held: bool,
    /// A later run took its place before it had ended.
    replaced: bool,
    /// It was purged: what there was of it is known from before.
    purged: bool,
}

/// One time that a body ran.
#[derive(Debug)]
struct Body {
    attempt: Attempt,
    result: Option<Result<Payload, Box<Failure>>>,
}

impl Checker {
    /// A new owner took a partition over.
    pub(super) fn opened(
        &mut self,
        partition: PartitionId,
        partitions: u16,
        fence: Fence,
    ) -> Verdict {
        let before = self.opened.insert(partition, fence).unwrap_or_default();
        // An end that was not committed went with the owner that was told.
        for (key, woken) in std::mem::take(&mut self.woken) {
            let here = key.instance.partition(partitions) == partition;
            let archived = self.archived(&key);
            if !here || archived.is_some_and(|archived| archived.ended) {
                self.woken.insert(key, woken);
            } else if let Some(archived) = archived {
                last::foreign_wake_ends(&key, archived, woken)?;
            }
        }
        holds(fence > before, || format!("I7: fence {fence} was given out after {before}"))
    }

    /// A commit took effect: looks at every row that it may have touched.
    pub(super) fn committed(
        &mut self,
        fence: Fence,
        commit: &Commit,
        rows_max: usize,
        store: &StoreModel,
        journal: &mut Journal,
    ) -> Verdict {
        let newest = self.opened.get(&commit.partition).copied().unwrap_or_default();
        holds(fence == newest, || {
            format!("I7: a commit of fence {fence} took effect while {newest} was the newest")
        })?;
        self.committed.insert(commit.partition, fence);
        let time = self.times.entry(commit.partition).or_insert(Timestamp::MIN);
        holds(commit.head.time >= *time, || {
            format!("I6: the clock of partition {} runs back", commit.partition)
        })?;
        *time = commit.head.time;
        for (from, cursor) in &commit.head.cursors {
            self.cursors.insert((commit.partition, *from), cursor.upto);
        }
        holds(commit.is_of_one() || commit.rows() <= rows_max, || {
            format!("a commit has {} rows, the store takes {rows_max}", commit.rows())
        })?;
        let events = |write: &InstanceWrite| {
            self.archived(&write.key).map_or(0, |archived| archived.events.len())
        };
        let before: Vec<_> = commit.instances.iter().map(events).collect();
        for (write, before) in commit.instances.iter().zip(before) {
            self.note_in_flight(write);
            self.look_at_closed(commit.partition, write, store)?;
            self.look_at(commit.partition, &write.key.instance, store)?;
            self.children_said(&write.key, before, store)?;
            for (instance, token) in self.sent_since(&write.key, before) {
                let raised = Raised {
                    meant: None,
                    with_run: None,
                    accepted: store.status(&instance).is_some(),
                    runs_before: Some(self.runs_begun(&instance)),
                    instance,
                };
                if !self.sent.insert(token) {
                    self.sent_again.insert(token);
                }
                journal.raised.entry(token).or_insert(raised);
            }
        }
        // What waits behind a commit that is full is in the next one.
        let full = commit.rows() + ROWS_UNCUT / 4 > rows_max;
        if rows_max >= ROWS_UNCUT && !full {
            self.heartbeats_are_stored(commit.partition, fence, commit.at)?;
        }
        for key in &commit.purges {
            self.purge_is_right(key, store, journal)?;
        }
        Ok(())
    }

    /// Whoever holds an instance because it lacks the code says which code that is: another worker may have it.
    pub(super) fn lack_is_said(message: &str, needs: Option<&Needs>) -> Verdict {
        let name =
            message.strip_prefix("no orchestrator \"").and_then(|rest| rest.split('"').next());
        let (Some(name), Some(needs)) = (name, needs) else { return Ok(()) };
        holds(needs.missing.contains(name) && !needs.registered.contains(name), || {
            format!("I8: {name:?} is missing, and the owner says that it needs {needs:?}")
        })
    }

    fn note_in_flight(&mut self, write: &InstanceWrite) {
        let RowChange::Set(body) = &write.in_flight else { return };
        let Ok(row) = codec::decode_row::<InFlightSeen>(body) else { return };
        for (call, record) in row.calls {
            if let Some(details) = &record.details {
                self.heartbeat_stored(&write.key, call, details);
            }
            if record.offered {
                let attempt = record.attempt;
                self.offered.insert(AttemptKey { key: write.key.clone(), call, attempt });
            }
        }
    }

    fn archived(&self, key: &ExecutionKey) -> Option<&Archived> {
        self.runs.get(&key.instance)?.get(&key.run)?.executions.get(key)
    }

    /// Events for other instances that an execution has sent, behind that place of its history: not those that it
    /// keeps of the execution that it repeats.
    fn sent_since(&self, key: &ExecutionKey, before: usize) -> Vec<(InstanceId, u64)> {
        let Some(archived) = self.archived(key) else { return Vec::new() };
        let repeated = archived.repeats(key).filter(|_| before == 0);
        let failed = repeated.and_then(|failed| self.archived(&failed));
        let kept = |event| failed.is_some_and(|failed| failed.events.contains(event));
        let events = archived.events.get(before..).unwrap_or_default();
        events
            .iter()
            .filter_map(|event| match &event.is {
                EventKind::EventSent { instance, input, .. } if !kept(event) => {
                    last::token(input).map(|token| (instance.clone(), token))
                }
                _ => None,
            })
            .collect()
    }

    /// Reads an instance's rows and compares them with what they were.
    fn look_at(
        &mut self,
        partition: PartitionId,
        instance: &InstanceId,
        store: &StoreModel,
    ) -> Verdict {
        if self.damaged.contains(instance) {
            return Ok(());
        }
        let Some(stored) = store.load(instance) else {
            return Err(format!("I1: {instance} is in no row any more"));
        };
        let Some(row) = stored.status else { return Ok(()) };
        let rows = store.history(instance).unwrap_or_default();
        let undisturbed = self.undisturbed(partition);
        let runs = self.runs.entry(instance.clone()).or_default();
        if rows.is_empty() {
            // Pending: accepted and not begun.
            return holds(!runs.contains_key(&row.run), || {
                format!("I3: the history of {} is gone", row.key())
            });
        }
        let seen = run_seen(runs, &row)?;
        holds(!seen.purged, || format!("I10: {} came back after its purge", row.key()))?;
        seen.held = seen.row.hold.is_some();
        seen.row = row.clone();
        let archived = seen.executions.entry(row.key()).or_default();
        archived.extend(&row.key(), &rows, &self.bodies, undisturbed)?;
        archived.agrees_with(&row)?;
        if let Some(body) = stored.in_flight {
            holds(!row.status.is_terminal(), || {
                format!("{} ended with work in flight", row.key())
            })?;
            self.delays_stand(&row.key(), &body)?;
        }
        if row.status.is_terminal() && stored.timer.is_some() {
            return Err(format!("I6: {} ended with a timer row", row.key()));
        }
        let archived = &self.runs[instance][&row.run].executions[&row.key()];
        archived.earliest_timer_is(&row.key(), stored.timer)
    }

    /// Delays between attempts are decided once: what was recorded of an attempt stays.
    fn delays_stand(&mut self, key: &ExecutionKey, body: &[u8]) -> Verdict {
        let row: serde_json::Value = codec::decode_row(body)
            .map_err(|error| format!("the in-flight row of {key} does not decode: {error}"))?;
        let Some(calls) = row.get("calls").and_then(serde_json::Value::as_object) else {
            return Ok(());
        };
        for (call, record) in calls {
            let number = |name| record.get(name).and_then(serde_json::Value::as_i64);
            let (Ok(call), Some(attempt)) = (call.parse(), number("attempt")) else { continue };
            let attempt = AttemptKey {
                key: key.clone(),
                call: CallNumber(call),
                attempt: Attempt(u32::try_from(attempt).unwrap_or_default()),
            };
            let Some(not_before) = number("not_before") else {
                // It runs. Where it is put off after that, because the instance is paused, that is not
                // the delay between attempts.
                self.backoffs.remove(&attempt);
                continue;
            };
            let first = *self.backoffs.entry(attempt).or_insert(not_before);
            holds(first == not_before, || {
                format!("I5: call {call} of {key}: its delay moved from {first} to {not_before}")
            })?;
        }
        Ok(())
    }

    /// An attempt is to be started: its schedule must be durable, its delay over. That it is on offer is
    /// nothing that an owner knows which was taken over and hears late of its last commit.
    pub(super) fn attempt_starts(
        &mut self,
        partition: PartitionId,
        newest: bool,
        start: &StartAttempt,
        now: Timestamp,
    ) -> Verdict {
        let AttemptKey { key, call, attempt } = &start.attempt;
        if self.damaged.contains(&key.instance) {
            return Ok(());
        }
        holds(!newest || !self.offered.contains(&start.attempt), || {
            format!("I5: attempt {attempt} of call {call} of {key} starts, though it is on offer")
        })?;
        let scheduled = self.archived(key).and_then(|archived| archived.scheduled(*call)).ok_or_else(|| {
            format!("I5: attempt {attempt} of call {call} of {key} starts, its schedule is not stored")
        })?;
        let ends = self.archived(key).is_some_and(|archived| archived.may_not_begin(*call));
        holds(!newest || !ends, || {
            format!("I5: attempt {attempt} of call {call} of {key} starts, which was cancelled")
        })?;
        self.details_are_right(partition, newest, start, now)?;
        let Some(previous) = attempt.0.checked_sub(1).filter(|previous| *previous > 0) else {
            return Ok(());
        };
        let policy = scheduled.options.retry.as_ref().ok_or_else(|| {
            format!("I5: attempt {attempt} of call {call} of {key}, which has no retry policy")
        })?;
        holds(policy.attempts_max == 0 || attempt.0 <= policy.attempts_max, || {
            format!("I5: attempt {attempt} of call {call} of {key}, of {}", policy.attempts_max)
        })?;
        if let Some(not_before) = self.backoffs.get(&start.attempt) {
            holds(now.as_micros() >= *not_before, || {
                format!(
                    "I5: attempt {attempt} of call {call} of {key} starts at {now}, before {not_before}"
                )
            })?;
        }
        let earlier = AttemptKey { attempt: Attempt(previous), ..start.attempt.clone() };
        if let Some(ended) = self.answers.get(&earlier)
            && self.undisturbed(partition)
            && scheduled.options.start_to_finish.is_none()
            && scheduled.options.heartbeat_timeout.is_none()
        {
            let exponent = f64::from(previous - 1);
            let delay = (policy.delay.as_secs_f64() * policy.backoff.powf(exponent))
                .min(policy.delay_max.as_secs_f64())
                * (1.0 - policy.jitter);
            let least = ended.after(std::time::Duration::from_secs_f64(delay * 0.999));
            holds(now >= least, || {
                format!(
                    "I5: attempt {attempt} of call {call} of {key} starts at {now}, not after {least}"
                )
            })?;
        }
        Ok(())
    }

    /// The partition never changed hands: no attempt was lost with its worker, no answer went elsewhere.
    fn undisturbed(&self, partition: PartitionId) -> bool {
        self.opened.get(&partition) == Some(&Fence(1))
    }

    /// A body ran.
    pub(super) fn body_ran(
        &mut self,
        attempt: &AttemptKey,
        result: Option<Result<Payload, Box<Failure>>>,
    ) {
        let body = Body { attempt: attempt.attempt, result };
        self.bodies.entry((attempt.key.clone(), attempt.call)).or_default().push(body);
    }

    /// The answer of an attempt reached an owner, for the first time or again.
    pub(super) fn attempt_answered(&mut self, attempt: &AttemptKey, now: Timestamp) {
        self.heartbeats_end(attempt);
        let first = self.answers.entry(attempt.clone()).or_insert(now);
        *first = now.min(*first);
    }

    /// A receiver confirms messages: their effects must be durable.
    pub(super) fn confirmed(
        &self,
        by: PartitionId,
        sender: PartitionId,
        upto: MessageNumber,
    ) -> Verdict {
        let durable = self.cursors.get(&(by, sender)).copied().unwrap_or_default();
        holds(upto <= durable, || {
            format!("I2: {by} confirms messages of {sender} up to {upto}, applied are {durable}")
        })
    }

    /// Something outside a turn has woken an execution, and its owner was told.
    pub(super) fn woken_from_outside(
        &mut self,
        partition: PartitionId,
        key: &ExecutionKey,
        now: Timestamp,
    ) {
        if self.undisturbed(partition) && !self.told_held.contains(&key.instance) {
            self.woken.entry(key.clone()).or_insert(now);
        }
    }

    /// Nothing more will happen by itself: every timer has fired.
    pub(super) fn no_timer_is_left(store: &StoreModel) -> Verdict {
        for row in store.list(&ListQuery::default(), None, usize::MAX).rows {
            let waits = row.hold.is_none() && !row.status.is_terminal();
            let due = store.load(&row.instance).and_then(|stored| stored.timer);
            holds(!waits || due.is_none(), || {
                format!("I6: the timer of {} never fires, due at {due:?}", row.key())
            })?;
        }
        Ok(())
    }

    /// Nothing more will happen by itself: what has a deadline has ended.
    pub(super) fn nobody_is_late(&self, store: &StoreModel) -> Verdict {
        for row in store.list(&ListQuery::default(), None, usize::MAX).rows {
            let late = row.deadline.is_some() && !row.status.is_terminal();
            holds(!late || self.damaged.contains(&row.instance), || {
                format!(
                    "I6: {} is {} for ever, with the deadline {:?}",
                    row.key(),
                    row.status,
                    row.deadline
                )
            })?;
        }
        Ok(())
    }

    /// A client is told something: what it is told must be durable now.
    pub(super) fn answered(
        &mut self,
        asked: &Asked,
        answer: &Answer,
        store: &StoreModel,
        journal: &mut Journal,
    ) -> Verdict {
        match (asked, answer) {
            (Asked::Start { token }, Answer::Started(run)) => {
                if let Some(start) = journal.starts.get_mut(token) {
                    start.told = Some(*run);
                    let durable = store.status(&start.instance).is_some_and(|row| row.run >= *run)
                        || self.was_purged(&start.instance);
                    return holds(durable || self.damaged.contains(&start.instance), || {
                        format!(
                            "I1: the start of {} was answered, the store has none",
                            start.instance
                        )
                    });
                }
                Ok(())
            }
            (Asked::Raise { token, id }, Answer::Accepted) => {
                let Some(raised) = journal.raised.get_mut(token) else { return Ok(()) };
                raised.accepted = true;
                let instance = raised.instance.clone();
                let runs_before = raised.runs_before.unwrap_or_default();
                let durable = self.damaged.contains(&instance)
                    || self.was_replaced_since(&instance, runs_before)
                    || self.event_is_somewhere(&instance, *token)
                    || store.load(&instance).and_then(|stored| stored.in_flight).is_some_and(
                        |body| String::from_utf8_lossy(&body).contains(&format!("\"{id}\"")),
                    );
                holds(durable, || {
                    format!(
                        "I2: event {token} for {instance} was accepted, the store does not have it"
                    )
                })
            }
            (Asked::Terminate { instance, meant, id }, Answer::Accepted) => {
                let runs_before = &journal.sent[id];
                let durable = self.damaged.contains(instance)
                    || self.was_replaced_since(instance, *runs_before)
                    || store.load(instance).and_then(|stored| stored.status).is_some_and(|row| {
                        row.status.is_terminal() || meant.is_some_and(|meant| row.run > meant)
                    })
                    || self.runs_begun(instance) > *runs_before
                    || self.was_terminated_since(instance, *runs_before);
                holds(durable, || {
                    format!(
                        "I4: the terminate of {instance} was accepted, the store shows it active"
                    )
                })
            }
            (Asked::Purge { instance, run }, Answer::Accepted) => {
                let gone = store.status(instance).is_none_or(|row| row.run > *run);
                holds(gone, || {
                    format!("I10: the purge of run {run} of {instance} was answered, it is there")
                })
            }
            _ => Ok(()),
        }
    }

    /// What may be seen of an instance is announced.
    pub(super) fn announced(&self, row: &StatusRow, store: &StoreModel) -> Verdict {
        let durable = store.status(&row.instance).is_some_and(|stored| {
            (stored.run, stored.execution) > (row.run, row.execution)
                || (stored.run == row.run
                    && (!row.status.is_terminal() || stored.status.is_terminal()))
        });
        let known = self.damaged.contains(&row.instance) || self.was_purged(&row.instance);
        holds(durable || known, || {
            format!("I4: {} was announced as {}, the store has another", row.key(), row.status)
        })
    }

    /// Runs of an instance that have begun.
    pub(super) fn runs_begun(&self, instance: &InstanceId) -> usize {
        self.runs.get(instance).map_or(0, BTreeMap::len)
    }

    fn was_replaced_since(&self, instance: &InstanceId, runs_before: usize) -> bool {
        self.runs.get(instance).is_some_and(|runs| {
            let since = runs.values().skip(runs_before.saturating_sub(1));
            since.into_iter().any(|run| run.replaced || run.purged)
        })
    }

    /// Asked again, a terminate is accepted also when the run it ended has been followed by one that waits.
    fn was_terminated_since(&self, instance: &InstanceId, runs_before: usize) -> bool {
        self.runs.get(instance).is_some_and(|runs| {
            runs.values()
                .skip(runs_before.saturating_sub(1))
                .any(|run| run.row.status == RuntimeStatus::Terminated)
        })
    }

    fn event_is_somewhere(&self, instance: &InstanceId, token: u64) -> bool {
        self.runs
            .get(instance)
            .is_some_and(|runs| runs.values().any(|run| run.tokens().contains(&token)))
    }

    /// The counters agree with the rows.
    pub(super) fn counts_agree(store: &StoreModel) -> Verdict {
        let mut counted: BTreeMap<RuntimeStatus, u64> = BTreeMap::new();
        for row in store.list(&ListQuery::default(), None, usize::MAX).rows {
            *counted.entry(row.status).or_default() += 1;
        }
        let counts = store.counts();
        holds(counts == counted, || {
            format!("I4: the counters say {counts:?}, the rows {counted:?}")
        })
    }
}

impl RunSeen {
    /// Tokens of all external events in histories and in the list of the unconsumed.
    fn tokens(&self) -> BTreeSet<u64> {
        let listed = self.row.unconsumed.iter().filter_map(|event| last::token(&event.input));
        self.executions.values().flat_map(Archived::raised).chain(listed).collect()
    }
}

/// The run of a status row; earlier ones give way to it.
fn run_seen<'a>(
    runs: &'a mut BTreeMap<RunNumber, RunSeen>,
    row: &StatusRow,
) -> Result<&'a mut RunSeen, String> {
    let newest = runs.keys().next_back().copied().unwrap_or_default();
    holds(row.run >= newest, || format!("I1: {} went back from run {newest}", row.instance))?;
    if row.run > newest
        && let Some(last) = runs.get_mut(&newest)
    {
        last.replaced = !last.row.status.is_terminal();
    }
    Ok(runs.entry(row.run).or_insert_with(|| RunSeen {
        row: row.clone(),
        executions: BTreeMap::new(),
        held: false,
        replaced: false,
        purged: false,
    }))
}

/// What the body of a call was to do.
fn work(input: &Payload) -> Option<Work> {
    input.to().ok()
}

fn holds(right: bool, wrong: impl FnOnce() -> String) -> Verdict {
    if right { Ok(()) } else { Err(wrong()) }
}
