//! Instances that come back into memory: reading, rebuilding, and how a new owner takes up their work.
//!
//! A careful owner (after openings that ended in the death of the process) loads one instance at a time
//! and writes its name into the head row first: the one that kills the process is found and held.

use std::collections::VecDeque;

use super::effect::Effect;
use super::entry::{Arrival, Code, Entry, Life, Stored};
use super::run::{InFlight, Run};
use super::turn::Turn;
use super::{Core, Partition};
use crate::codec::{self, DecodeError};
use crate::model::{Event, Hold, HoldReason, InstanceId, RuntimeStatus, StatusRow};
use crate::replay::Orchestration;
use crate::store::{Head, StoredInstance};

/// Reads under way at once. A bound for memory, not for speed.
const LOADS_AT_ONCE: usize = 64;

/// What a recovered owner writes for its own opening: only giving the partition up in good order makes it
/// 0, so that the next owner can tell a clean end from a death.
const OPEN_AND_WELL: u32 = 1;

/// Openings without a commit from which on the owner is careful: this one, and two that died.
const CAREFUL_OPENS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Loads {
    waiting: VecDeque<InstanceId>,
    under_way: usize,
    /// Name each instance in the head row before it is loaded.
    careful: bool,
    /// Named in a commit that is not durable yet.
    announced: Option<InstanceId>,
    /// Named when the last owner's process died.
    killer: Option<InstanceId>,
    /// The work of earlier owners is not all taken up yet.
    recovering: bool,
    /// All is taken up with care: the head row must say so soon, or the next death is blamed on the
    /// instance that was probed last.
    all_clear: bool,
    /// The last owner did not end in good order: what it ran counts as started.
    counts_starts: bool,
}

impl Loads {
    pub(super) fn opening(head: &Head) -> Self {
        Self {
            careful: head.unclean_opens >= CAREFUL_OPENS,
            killer: head.probing.clone(),
            recovering: true,
            counts_starts: head.unclean_opens > OPEN_AND_WELL,
            ..Self::default()
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }
}

impl Partition {
    pub(super) fn loaded(
        &mut self,
        instance: InstanceId,
        found: Result<Option<Box<StoredInstance>>, DecodeError>,
    ) {
        let Some(entry) = self.entries.get_mut(&instance) else { return };
        if !matches!(entry.code, Code::Loading) {
            return;
        }
        entry.code = Code::Away;
        match found {
            Err(error) => self.core.unreadable(&instance, entry, &error),
            Ok(None) => {
                if !matches!(entry.life, Life::Active(_)) {
                    entry.life = Life::Absent;
                    self.core.stats.dropped += entry.forget_starts();
                }
            }
            Ok(Some(stored)) => self.core.take_stored(&instance, entry, *stored),
        }
        if !matches!(entry.code, Code::Out) {
            self.core.load_ended();
        }
        self.core.proceed(&instance, entry);
        self.settle_entry(&instance);
    }
}

impl Core {
    pub(super) fn request_load(&mut self, instance: &InstanceId, entry: &mut Entry) {
        self.drop_code(entry);
        entry.code = Code::Loading;
        entry.start_waits = false;
        entry.covered = entry.arrivals.len();
        self.loads.waiting.push_back(instance.clone());
        self.pump_loads();
    }

    /// A read beside those that [`request_load`](Self::request_load) asks for.
    pub(super) fn load_begins(&mut self) {
        self.loads.under_way += 1;
    }

    /// A load, and the replay that belongs to it, is over.
    pub(super) fn load_ended(&mut self) {
        self.loads.under_way -= 1;
        self.pump_loads();
    }

    fn pump_loads(&mut self) {
        if self.loads.careful {
            if self.loads.under_way == 0
                && let Some(next) = self.loads.waiting.pop_front()
            {
                self.loads.under_way = 1;
                self.head.probing = Some(next.clone());
                self.head_changed = true;
                self.loads.announced = Some(next);
            }
            return;
        }
        while self.loads.under_way < LOADS_AT_ONCE
            && let Some(next) = self.loads.waiting.pop_front()
        {
            self.loads.under_way += 1;
            self.effects.push(Effect::Load(next));
        }
    }

    /// Whether a commit has to be made for the head row alone.
    pub(super) fn head_urgent(&self) -> bool {
        self.loads.announced.is_some() || self.loads.all_clear
    }

    /// The effect that belongs to the commit which names an instance in the head row.
    pub(super) fn take_announced(&mut self) -> Option<Effect> {
        self.loads.all_clear = false;
        self.loads.announced.take().map(Effect::Load)
    }

    /// Once all work of earlier owners is taken up, this opening counts as one that went well.
    pub(super) fn note_recovered(&mut self) {
        let taken_up = self.wheel.has_read() && self.loads.is_idle() && self.turns.is_empty();
        if self.loads.recovering && taken_up {
            self.loads.recovering = false;
            self.loads.all_clear = self.loads.careful || self.head.probing.is_some();
            self.loads.careful = false;
            self.head.unclean_opens = OPEN_AND_WELL;
            self.head.probing = None;
            self.head_changed = true;
        }
    }

    fn unreadable(&mut self, instance: &InstanceId, entry: &mut Entry, error: &DecodeError) {
        if matches!(entry.life, Life::Active(_)) {
            self.hold(instance, entry, HoldReason::Undecodable, error.to_string());
        } else {
            entry.life = Life::Unreadable(error.to_string());
            let message = format!("its rows cannot be read: {error}");
            self.effects.push(Effect::Held { instance: instance.clone(), message });
        }
    }

    fn take_stored(&mut self, instance: &InstanceId, entry: &mut Entry, stored: StoredInstance) {
        if let Life::Active(run) = &entry.life
            && !run.partial
        {
            // Only its code had left memory.
            match codec::decode_history(&stored.history) {
                Ok(events) if events.len() as u64 == run.next_seq.0 => {
                    let taken_up = run.taken_up;
                    if self.rebuild(instance, entry, events) && !taken_up {
                        // It was held before anything of it was begun again.
                        self.restart_calls(instance, entry);
                    }
                }
                // Read before this owner's last commit was visible: read again.
                Ok(_) => self.read_again(instance, entry),
                Err(error) => {
                    self.hold(instance, entry, HoldReason::Undecodable, error.to_string());
                }
            }
            return;
        }
        let StoredInstance { mut status, acceptance, history, in_flight, timer } = stored;
        if let Life::Active(partial) = &entry.life {
            // Tried again. Its rows may have been read before the hold was stored: what this owner has
            // written, or is about to write, is known better here.
            status = Some(partial.row.clone());
        } else {
            entry.stored = Stored {
                status: status.as_ref().map(|row| row.status),
                timer,
                in_flight: in_flight.clone(),
            };
        }
        let begins = entry.arrivals.iter().any(|a| matches!(a, Arrival::Begin { .. }));
        let unbegun = status.as_ref().is_some_and(|row| {
            history.is_empty() && !row.status.is_terminal() && (acceptance.is_some() || begins)
        });
        match status {
            Some(row) if row.status.is_terminal() => entry.life = Life::Ended(Box::new(row)),
            Some(row) if !unbegun => {
                self.take_up(instance, entry, row, &history, in_flight.as_deref());
            }
            Some(_) | None => {
                entry.life = Life::Absent;
                let InFlight { stash, hold, suspended, .. } =
                    InFlight::read(in_flight.as_deref()).0;
                entry.was_due = hold.is_some();
                entry.told = hold;
                entry.told_suspended = suspended;
                entry.covered += stash.len();
                for stashed in stash.into_iter().rev() {
                    entry.arrivals.push_front(Arrival::Stashed(stashed));
                }
            }
        }
        // In front of everything that is queued: what was sent to a pending instance is for this run. The
        // same acceptance further behind is dropped when its turn comes.
        if let Some(acceptance) = acceptance
            && !(planted!(AcceptanceBehindCommands)
                && entry.arrivals.iter().any(|a| matches!(a, Arrival::Begin { .. })))
        {
            let begin = Arrival::Begin { acceptance: Box::new(acceptance), ticket: None };
            entry.arrivals.push_front(begin);
            entry.covered += 1;
        }
    }

    /// Takes up an active run of an earlier owner.
    fn take_up(
        &mut self,
        instance: &InstanceId,
        entry: &mut Entry,
        row: StatusRow,
        history: &[crate::store::HistoryRow],
        in_flight: Option<&[u8]>,
    ) {
        let (mut in_flight, error) = InFlight::read(in_flight);
        if let Life::Active(partial) = &mut entry.life {
            // Tried again: what was stashed is among the arrivals, or still in the run.
            in_flight.stash = std::mem::take(&mut partial.stash);
        }
        let decoded = error.map_or_else(|| codec::decode_history(history), Err);
        let events = match decoded {
            Ok(events) if !events.is_empty() => events,
            missing @ (Ok(_) | Err(_)) => {
                let error = missing
                    .err()
                    .unwrap_or_else(|| DecodeError::Damaged("its history is missing".into()));
                let mut run = Run::new(row.key(), row);
                run.partial = true;
                run.records = in_flight.calls;
                run.stash = in_flight.stash;
                run.unturned = in_flight.unturned;
                run.resumes = in_flight.resumes;
                run.kept = in_flight.kept;
                entry.life = Life::Active(Box::new(run));
                self.hold(instance, entry, HoldReason::Undecodable, error.to_string());
                return;
            }
        };
        let mut run = Run::restored(row, &events, in_flight);
        run.history_bytes = history.iter().map(|row| row.body.len()).sum();
        let held = run.hold.clone();
        entry.life = Life::Active(Box::new(run));
        if let Some(hold) = self.told_to_hold(instance, held) {
            self.hold(instance, entry, hold.reason, hold.message);
            return;
        }
        if let Life::Active(run) = &mut entry.life {
            // A reason that may have passed: this may be another build.
            run.hold = None;
            for stashed in std::mem::take(&mut run.stash).into_iter().rev() {
                entry.arrivals.push_front(Arrival::Stashed(stashed));
            }
        }
        entry.look_at_due = true;
        // Without the code nothing is begun again: who lacks the orchestrator may lack its activities, too.
        if self.rebuild(instance, entry, events) {
            self.restart_calls(instance, entry);
        }
    }

    /// Whether an instance has to be held although it can be read: once, so that a resume lets it go on.
    pub(super) fn told_to_hold(
        &mut self,
        instance: &InstanceId,
        held: Option<Hold>,
    ) -> Option<Hold> {
        if let Some(at) = self.config.stuck.iter().position(|stuck| stuck == instance) {
            self.config.stuck.swap_remove(at);
            let message = "a turn of it did not return in time".into();
            return Some(Hold { reason: HoldReason::Stuck, message });
        }
        if self.loads.killer.take_if(|killer| killer == instance).is_some() {
            let message = "the process died while it loaded this instance".into();
            return Some(Hold { reason: HoldReason::KilledProcess, message });
        }
        held.filter(|hold| match hold.reason {
            HoldReason::Stuck | HoldReason::KilledProcess => true,
            HoldReason::Diverged | HoldReason::UnknownOrchestrator | HoldReason::Undecodable => {
                false
            }
        })
    }

    /// Begins again what ran with an earlier owner; counts the start where that owner died.
    fn restart_calls(&mut self, instance: &InstanceId, entry: &mut Entry) {
        let now = self.now;
        let Life::Active(run) = &mut entry.life else { return };
        run.taken_up = true;
        let paused = run.paused();
        for call in run.running_calls() {
            if planted!(RunningCallsForgotten) {
                break;
            }
            if self.goes_on_ending(entry, call) {
                continue;
            }
            let Life::Active(run) = &mut entry.life else { return };
            let Some(open) = run.calls.get_mut(&call) else { continue };
            if open.offered && !planted!(OfferedStartedAgain) {
                continue;
            }
            let again = if self.loads.counts_starts { open.start_again() } else { Ok(()) };
            match again {
                Ok(()) if paused => {
                    open.phase = super::call::Phase::Backoff { not_before: now };
                    entry.writes.in_flight = true;
                }
                Ok(()) => super::attempt::start_attempt(entry, call),
                Err(failure) => {
                    self.attempt_result(instance, entry, call, Err(Box::new(failure)), None);
                }
            }
        }
        if !paused {
            super::attempt::restart_backoffs(entry, now);
        }
    }

    /// Hands out the replay that brings an instance's code back; `false` where there is no code for it, and the
    /// instance is held.
    fn rebuild(&mut self, instance: &InstanceId, entry: &mut Entry, events: Vec<Event>) -> bool {
        let Life::Active(run) = &mut entry.life else { return false };
        let key = run.key.clone();
        let Some(code) = self.registry.orchestrator(&run.row.name) else {
            let message = format!(
                "no orchestrator {:?} is registered with this worker; resume it on one that has it",
                run.row.name
            );
            self.hold(instance, entry, HoldReason::UnknownOrchestrator, message);
            return false;
        };
        let foreign = self.registry.foreign_wake(&key);
        let orchestration = Box::new(Orchestration::new(key, code, foreign));
        entry.code = Code::Out;
        match <[Event; 1]>::try_from(events) {
            Ok([start]) if std::mem::take(&mut run.unturned) => {
                run.start = None;
                entry.writes.in_flight = true;
                entry.writes.touch();
                self.stats.turns += 1;
                self.turns.push_back(Turn::begin(instance.clone(), orchestration, start));
            }
            Ok([start]) => self.replay(instance, orchestration, vec![start]),
            Err(events) => self.replay(instance, orchestration, events),
        }
        true
    }

    fn replay(
        &mut self,
        instance: &InstanceId,
        orchestration: Box<Orchestration>,
        events: Vec<Event>,
    ) {
        self.stats.replays += 1;
        self.turns.push_back(Turn::replay(instance.clone(), orchestration, events));
    }

    fn read_again(&mut self, instance: &InstanceId, entry: &mut Entry) {
        entry.code = Code::Loading;
        self.loads.waiting.push_back(instance.clone());
    }

    /// Whether the work of earlier owners is taken up one by one, each named before.
    pub(super) fn is_careful(&self) -> bool {
        self.loads.careful
    }

    /// The code of an instance is back and fits its history.
    pub(super) fn rebuilt(&mut self, instance: &InstanceId, entry: &mut Entry) {
        let now = self.now;
        let Life::Active(run) = &mut entry.life else { return };
        if run.row.hold.take().is_some() {
            run.row.status =
                if run.suspended { RuntimeStatus::Suspended } else { RuntimeStatus::Running };
            run.row.updated_at = now.max(run.row.updated_at);
            entry.writes.status = true;
            entry.writes.in_flight = true;
            entry.writes.touch();
        }
        self.begin_at_last(instance, entry);
    }
}
