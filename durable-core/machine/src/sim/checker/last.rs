//! What has to hold in the end, when faults have stopped and everything has come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::execution::Archived;
use super::{Checker, RunSeen, Verdict, holds};
use crate::model::{
    CallNumber, EventKind, EventSeq, ExecutionKey, Failure, InstanceId, Payload, RuntimeStatus,
    Timestamp,
};
use crate::replay::{Action, Orchestration, ended_before_its_first_turn};
use crate::sim::code::{self, EventToken};
use crate::sim::journal::Journal;
use crate::sim::rng::Rng;
use crate::sim::script::Script;
use crate::store::StoreModel;

/// The number in an external event's payload.
pub(super) fn token(payload: &Payload) -> Option<u64> {
    payload.to::<EventToken>().ok().map(|token| token.event)
}

impl Checker {
    /// Runs that have ended, replaced ones included.
    pub(in crate::sim) fn ended(&self) -> u64 {
        let runs = self.runs.values().flat_map(BTreeMap::values);
        runs.filter(|run| run.replaced || run.row.status.is_terminal()).count() as u64
    }

    /// Judges the whole run.
    pub(in crate::sim) fn judge(
        &self,
        store: &StoreModel,
        journal: &Journal,
        rng: &mut Rng,
    ) -> Verdict {
        Self::counts_agree(store)?;
        self.starts_ran(journal)?;
        self.children_ran(journal)?;
        let mut uuids = BTreeSet::new();
        let mut fates: BTreeMap<u64, u32> = BTreeMap::new();
        for (instance, runs) in &self.runs {
            if self.damaged.contains(instance) {
                continue;
            }
            for run in runs.values() {
                let late = run.row.failure.as_ref().is_some_and(Failure::is_of_deadline);
                let from_outside = run.row.status == RuntimeStatus::Terminated || late;
                let unknown = run.replaced || (from_outside && self.told_held.contains(instance));
                let mut custom_status = None;
                let mut consumed = Vec::new();
                let mut drawn: Vec<uuid::Uuid> = Vec::new();
                for (key, archived) in &run.executions {
                    if let Some(woken) = self.woken.get(key) {
                        foreign_wake_ends(key, archived, *woken)?;
                    }
                    let seen = replays(key, archived, rng)?;
                    custom_status = seen.custom_status.clone().or(custom_status);
                    // What is repeated has the UUIDs of what it repeats, as far as both drew some.
                    let repeated = if archived.is_repeated() { drawn.len() } else { 0 };
                    let alike = repeated.min(seen.uuids.len());
                    holds(drawn[..alike] == seen.uuids[..alike], || {
                        format!("{key} has other UUIDs than the execution that it repeats")
                    })?;
                    if repeated < seen.uuids.len() {
                        drawn.clone_from(&seen.uuids);
                    }
                    for uuid in seen.uuids.iter().copied().skip(repeated) {
                        holds(uuids.insert(uuid), || format!("{key}: the UUID {uuid} came twice"))?;
                    }
                    in_order(key, archived, &seen)?;
                    consumed.push(seen.consumed);
                }
                if run.row.status.is_terminal() {
                    custom_status_is(run, custom_status.as_ref())?;
                }
                super::generations::follow_each_other(
                    run,
                    &consumed,
                    &self.sent_again,
                    &self.bodies,
                )?;
                events_add_up(run, &consumed, unknown, &mut fates, &self.sent_again)?;
            }
        }
        // What a damaged history has sent is not followed.
        let mut known = fates.keys().filter(|_| self.damaged.is_empty());
        if let Some(token) = known.find(|token| !journal.raised.contains_key(token)) {
            return Err(format!("I2: event {token} arrived, nobody has sent it"));
        }
        self.events_arrived(journal, &fates)
    }

    /// I1: what was answered with success ran once.
    fn starts_ran(&self, journal: &Journal) -> Verdict {
        let mut begun: BTreeMap<u64, Vec<(&InstanceId, &RunSeen)>> = BTreeMap::new();
        for (instance, runs) in &self.runs {
            for run in runs.values() {
                let script: Script =
                    run.input().to().map_err(|error| format!("I1: {instance}: {error}"))?;
                begun.entry(script.token).or_default().push((instance, run));
            }
        }
        for (token, start) in &journal.starts {
            if self.damaged.contains(&start.instance) {
                continue;
            }
            let runs = begun.get(token).map_or(&[][..], |runs| runs);
            holds(runs.len() <= 1, || {
                format!("I1: start {token} of {} ran twice", start.instance)
            })?;
            let Some(told) = start.told else { continue };
            let Some((instance, run)) = runs.first() else {
                return Err(format!(
                    "I1: start {token} of {} was accepted and never ran",
                    start.instance
                ));
            };
            holds(**instance == start.instance && run.row.run == told, || {
                format!("I1: start {token} ran as {}, told was run {told}", run.row.key())
            })?;
            holds(*run.input() == start.input, || format!("I1: start {token} has another input"))?;
            holds(run.replaced || run.row.status.is_terminal(), || {
                format!("I8: {} is {} and never ended", run.row.key(), run.row.status)
            })?;
        }
        Ok(())
    }

    /// I2: what was accepted is somewhere, and nothing is in two places.
    fn events_arrived(&self, journal: &Journal, fates: &BTreeMap<u64, u32>) -> Verdict {
        for (token, raised) in &journal.raised {
            let instance = &raised.instance;
            if self.damaged.contains(instance) {
                continue;
            }
            let times = fates.get(token).copied().unwrap_or_default();
            holds(times <= 1 || self.sent_again.contains(token), || {
                format!("I2: event {token} for {instance} arrived {times} times")
            })?;
            let meant_is_over = raised.meant.is_some_and(|meant| {
                self.runs.get(instance).is_some_and(|runs| runs.keys().any(|run| *run > meant))
            });
            let runs_before = raised.runs_before.unwrap_or_default();
            let excused = meant_is_over || self.was_replaced_since(instance, runs_before);
            let arrived = times == 1 || (times > 1 && self.sent_again.contains(token));
            holds(!raised.accepted || arrived || excused, || {
                format!("I2: event {token} for {instance} was accepted and is nowhere")
            })?;
            if let Some(run) = raised.with_run {
                let run = self.runs.get(instance).and_then(|runs| runs.get(&run));
                let there = run.is_some_and(|run| run.replaced || run.tokens().contains(token));
                holds(there, || {
                    format!("I2: event {token} did not reach the run of {instance} it came with")
                })?;
            }
        }
        Ok(())
    }
}

/// Code that was woken from outside a turn ends at once.
pub(super) fn foreign_wake_ends(
    key: &ExecutionKey,
    archived: &Archived,
    woken: Timestamp,
) -> Verdict {
    let Some(last) = archived.events.last() else { return Ok(()) };
    holds(last.at <= woken.after(Duration::from_millis(50)), || {
        format!("{key} was woken from outside at {woken} and went on: {}", last.is.summary())
    })
}

/// What a replay showed.
#[derive(Default)]
struct Replayed {
    consumed: Vec<u64>,
    served: Vec<Vec<u64>>,
    uuids: Vec<uuid::Uuid>,
    custom_status: Option<Payload>,
}

/// I12: the same code gives the same actions, byte for byte, from the beginning and from any turn.
fn replays(key: &ExecutionKey, archived: &Archived, rng: &mut Rng) -> Result<Replayed, String> {
    let kept = code::take_outside();
    let _ = code::take_seen();
    let result = step_through(key, archived);
    let seen = code::take_seen();
    let result = result.and_then(|(custom_status, turns)| {
        // From every prefix where there are few turns, from some where there are many.
        for _ in 0..turns.len().min(4) {
            let cut = *rng.pick(&turns);
            from_prefix(key, archived, cut)?;
        }
        Ok(Replayed {
            consumed: seen.consumed,
            served: seen.served,
            uuids: seen.uuids,
            custom_status,
        })
    });
    drop(code::take_outside());
    code::put_outside(kept);
    let _ = code::take_seen();
    result
}

/// Applies the arrivals one by one; returns the last custom status and where the turns end.
fn step_through(
    key: &ExecutionKey,
    archived: &Archived,
) -> Result<(Option<Payload>, Vec<usize>), String> {
    let mut orchestration = Orchestration::new(key.clone(), code::orchestrator(false), None);
    let mut custom_status = None;
    let mut turns = Vec::new();
    let mut at = 0;
    while at < archived.events.len() {
        at = one_turn(key, &mut orchestration, archived, at, &mut custom_status)?;
        if at != 1 || !archived.may_be_unturned() {
            turns.push(at);
        }
    }
    Ok((custom_status, turns))
}

/// Applies the arrival at `at` and compares what the code asks for; returns where the next arrival is.
fn one_turn(
    key: &ExecutionKey,
    orchestration: &mut Orchestration,
    archived: &Archived,
    mut at: usize,
    custom_status: &mut Option<Payload>,
) -> Result<usize, String> {
    let arrival = &archived.events[at];
    holds(!arrival.is.is_decision() || at == 0, || {
        format!("I12: {key}: {} (event {at}) was asked for by no code", arrival.is.summary())
    })?;
    let told = code::ended_so_far();
    let mut actions = orchestration.advance(arrival);
    for call in code::ended_so_far().into_iter().skip(told.len()) {
        let ended = archived.events[..=at].iter().any(|event| ends(&event.is) == Some(call));
        holds(ended, || {
            format!("I5: {key} was told at event {at} that {call} has ended, and it has not")
        })?;
    }
    at += 1;
    let next = archived.events.get(at);
    if at == 1 && next.is_none_or(|next| ended_before_its_first_turn(EventSeq(1), &next.is)) {
        // Its first turn may not have come: liveness says whether it had to.
        actions.retain(|_| !archived.may_be_unturned());
    }
    for action in actions {
        if let Action::SetCustomStatus(status) = action {
            *custom_status = Some(status);
            continue;
        }
        let summary = action.summary();
        let recorded = archived.events.get(at);
        let same = recorded.is_some_and(|recorded| {
            action.into_event().is_some_and(|event| {
                serde_json::to_vec(&event).ok() == serde_json::to_vec(&recorded.is).ok()
            })
        });
        holds(same, || {
            format!(
                "I12: {key}: event {at} is {}, a replay asks for {summary}",
                recorded.map_or_else(|| "missing".into(), |event| event.is.summary())
            )
        })?;
        at += 1;
    }
    if let Some(next) = archived.events.get(at)
        && next.is.is_decision()
    {
        let by_engine = matches!(&next.is, EventKind::ExecutionFailed { failure }
            if matches!(failure.class, crate::model::FailureClass::ForeignAwait)
                || archived.is_late(failure, next.at));
        holds(by_engine, || {
            format!("I12: {key}: event {at} is {}, a replay asks for nothing", next.is.summary())
        })?;
        at += 1;
    }
    Ok(at)
}

/// The call whose result this is.
fn ends(kind: &EventKind) -> Option<CallNumber> {
    match kind {
        EventKind::ActivityCompleted { call, .. }
        | EventKind::ActivityFailed { call, .. }
        | EventKind::ChildCompleted { call, .. }
        | EventKind::ChildFailed { call, .. } => Some(*call),
        _ => None,
    }
}

/// A replay up to some turn, then live: as an owner does that rebuilds an instance.
fn from_prefix(key: &ExecutionKey, archived: &Archived, cut: usize) -> Verdict {
    let mut orchestration = Orchestration::new(key.clone(), code::orchestrator(false), None);
    orchestration
        .replay(&archived.events[..cut])
        .map_err(|divergence| format!("I12: {key} up to event {cut}: {divergence}"))?;
    let mut at = cut;
    while at < archived.events.len() {
        at = one_turn(key, &mut orchestration, archived, at, &mut None)?;
    }
    Ok(())
}

/// Events of one name are consumed in the order of the history, and waiters that began to wait together
/// are served first in, first out.
fn in_order(key: &ExecutionKey, archived: &Archived, seen: &Replayed) -> Verdict {
    let mut places = BTreeMap::new();
    let mut names: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (place, event) in archived.events.iter().enumerate() {
        if let EventKind::EventRaised { name, input, .. } = &event.is
            && let Some(token) = token(input)
        {
            // One that a rewound instance sent again is there twice: the first is served first.
            places.entry(token).or_insert((place, &**name));
            names.entry(name).or_default().push(token);
        }
    }
    for (name, raised) in names {
        let consumed: Vec<_> = seen
            .consumed
            .iter()
            .filter(|token| places.get(token).is_some_and(|(_, own)| *own == name))
            .copied()
            .collect();
        holds(raised.starts_with(&consumed), || {
            format!(
                "I2: {key}: events {name:?} came as {raised:?} and were consumed as {consumed:?}"
            )
        })?;
    }
    for served in &seen.served {
        let order: Vec<_> = served.iter().filter_map(|token| places.get(token)).collect();
        holds(order.is_sorted(), || format!("I2: {key}: waiters were served as {served:?}"))?;
    }
    Ok(())
}

fn custom_status_is(run: &RunSeen, last: Option<&Payload>) -> Verdict {
    // Nobody can say whether the turn of such a start ran.
    let unknown = run.executions.values().any(Archived::may_be_unturned);
    holds(unknown || run.row.custom_status.as_ref() == last, || {
        format!("I4: the custom status of {} is not the one that its code set last", run.row.key())
    })
}

/// What the executions consumed that no rewind has repeated.
fn counted<'a>(run: &'a RunSeen, consumed: &'a [Vec<u64>]) -> impl Iterator<Item = &'a Vec<u64>> {
    let later = run.executions.values().skip(1).map(Some).chain([None]);
    let lasting = later.zip(consumed).filter(|(next, _)| !next.is_some_and(Archived::is_repeated));
    lasting.map(|(_, consumed)| consumed)
}

/// I2, one run: what was raised was consumed by one of its executions or is listed, and not both.
fn events_add_up(
    run: &RunSeen,
    consumed: &[Vec<u64>],
    unknown: bool,
    fates: &mut BTreeMap<u64, u32>,
    sent_again: &BTreeSet<u64>,
) -> Verdict {
    let key = run.row.key();
    let mut places: BTreeMap<u64, u32> = BTreeMap::new();
    let listed = run.row.unconsumed.iter().filter_map(|event| token(&event.input));
    let consumed = counted(run, consumed);
    for token in consumed.flatten().copied().chain(listed) {
        *places.entry(token).or_default() += 1;
    }
    let raised: BTreeSet<u64> = run.executions.values().flat_map(Archived::raised).collect();
    for token in raised {
        let times = places.get(&token).copied().unwrap_or_default();
        // Without its code nobody can say what an instance had consumed; nor does it matter of one that
        // another start replaced.
        let unknown = run.held || unknown || sent_again.contains(&token);
        holds(times == 1 || unknown, || {
            format!("I2: {key}: event {token} was consumed or listed {times} times")
        })?;
        places.insert(token, 1);
    }
    for (token, times) in places {
        *fates.entry(token).or_default() += times;
    }
    Ok(())
}
