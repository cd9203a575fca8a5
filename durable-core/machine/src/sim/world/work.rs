//! What runs outside the partition: bodies of activities, and the requests of clients.

use std::time::Duration;

use super::owners::OwnerId;
use super::{Delivery, Happening, MINUTE, SECOND, Verdict, World};
use crate::codec;
use crate::model::{
    Acceptance, AttemptKey, CallNumber, Command, Deadline, Envelope, EnvelopeId, EventKind,
    Failure, FailureClass, InstanceId, PartitionId, Payload, RunNumber, RuntimeStatus,
    StartAttempt, StatusRow, Timestamp,
};
use crate::sim::clients::{WITH_START, Way, Wish};
use crate::sim::code;
use crate::sim::faults::Fault;
use crate::sim::journal::Asked;
use crate::sim::script::Work;
use crate::store::{AcceptOutcome, ListQuery, SendOutcome, WorkResult};

impl World {
    /// An attempt runs, if the process that was to run it lives.
    pub(super) fn run_body(&mut self, id: OwnerId, start: &StartAttempt) {
        let Some(owner) = self.owners.get(&id) else { return };
        let partition = owner.partition;
        let Ok(work) = start.input.to::<Work>() else { return };
        if owner.cancelled.contains(&start.attempt) {
            self.has_stopped(id, &start.attempt);
            return;
        }
        let result = code::body(&work, start.attempt.attempt);
        self.tell(format_args!(
            "{id} runs {} {} attempt {}",
            start.attempt.key, start.attempt.call, start.attempt.attempt
        ));
        self.checker.body_ran(&start.attempt, result.clone());
        if start.is_timed() {
            self.deliver_inside(id, Delivery::AttemptStarted(start.attempt.clone()));
        }
        for beat in 1..=i64::from(work.beats) {
            let details = self.details(&work);
            let at = work.micros * beat / i64::from(work.beats + 1);
            self.after(at, Happening::Heartbeat(id, start.attempt.clone(), details));
        }
        let Some(result) = result else {
            if let Some(owner) = self.owners.get_mut(&id) {
                owner.hung.insert(start.attempt.clone());
            }
            return;
        };
        let ended = Delivery::AttemptEnded(start.attempt.clone(), result);
        if self.fault(Fault::AnswerTwice) {
            let delay = work.micros + self.transit() + self.rng.within(0, MINUTE);
            self.after(delay, Happening::Reach(partition, ended.clone()));
        }
        let delay = work.micros + self.transit();
        self.after(delay, Happening::Feed(id, ended));
    }

    /// An executor is told that an attempt is to end. Where nobody waits for that it never notices.
    pub(super) fn cancel_attempt(&mut self, id: OwnerId, attempt: &AttemptKey) {
        let rows = self.store.history(&attempt.key.instance).unwrap_or_default();
        let events = codec::decode_history(&rows).unwrap_or_default();
        let request = EventKind::CancelRequested { call: attempt.call };
        if !events.iter().any(|event| event.is == request) {
            return;
        }
        let Some(owner) = self.owners.get_mut(&id) else { return };
        if owner.hung.remove(attempt) {
            self.has_stopped(id, attempt);
        } else {
            owner.cancelled.insert(attempt.clone());
        }
    }

    fn has_stopped(&mut self, id: OwnerId, attempt: &AttemptKey) {
        let failure = Failure::new(FailureClass::Cancelled, "Cancelled", "nobody waits for it");
        let ended = Delivery::AttemptEnded(attempt.clone(), Err(Box::new(failure)));
        let delay = self.transit();
        self.after(delay, Happening::Feed(id, ended));
    }

    /// Details that nothing else of the seed has.
    fn details(&mut self, work: &Work) -> Payload {
        self.heartbeats += 1;
        let details = (work.token, self.heartbeats);
        Payload::of(&details).expect("two numbers are JSON")
    }

    /// A body says how far it is, if its process lives.
    pub(super) fn heartbeat(&mut self, id: OwnerId, attempt: AttemptKey, details: Payload) {
        if self.owners.contains_key(&id) {
            self.checker.heartbeat_sent(&attempt, &details);
            self.feed(id, Delivery::Heartbeat(attempt, details));
        }
    }

    /// An attempt runs with a worker that took it from the store: once, or twice where its time to answer
    /// ran out. What nobody finishes in time ends as the owner would end it.
    pub(super) fn run_offered(&mut self, start: &StartAttempt) {
        let Ok(work) = start.input.to::<Work>() else { return };
        let times = 1 + u32::from(self.fault(Fault::TakenTwice));
        for _ in 0..times {
            let result = code::body(&work, start.attempt.attempt);
            self.tell(format_args!(
                "another worker runs {} {} attempt {}",
                start.attempt.key, start.attempt.call, start.attempt.attempt
            ));
            self.checker.body_ran(&start.attempt, result.clone());
            let mut said = None;
            for _ in 0..work.beats {
                let details = self.details(&work);
                self.checker.heartbeat_sent(&start.attempt, &details);
                said = Some(details);
            }
            let micros = |limit: Duration| i64::try_from(limit.as_micros()).unwrap_or(i64::MAX);
            let limit = start.start_to_finish.map(micros);
            let in_time = limit.is_none_or(|limit| work.micros <= limit);
            let (result, delay) = match (result.filter(|_| in_time), limit) {
                (Some(result), _) => (result, work.micros),
                (None, Some(limit)) => (Err(Box::new(start.timed_out())), limit),
                (None, None) => match start.heartbeat_timeout {
                    Some(limit) => {
                        (Err(Box::new(start.fell_silent())), work.micros + micros(limit))
                    }
                    None => continue,
                },
            };
            self.reports += 1;
            let failed = result.is_err();
            let id = EnvelopeId(format!("result {}", self.reports).into());
            let result = WorkResult {
                id,
                attempt: start.attempt.clone(),
                result,
                heartbeat_details: said.filter(|_| failed),
            };
            let delay = delay + self.transit();
            self.after(delay, Happening::Report(result));
        }
    }

    /// Code of another version, which some owners have, is refused a rewind where it does not fit what was done. It
    /// cannot be told from a repair where nothing was: then clients do not ask for it.
    fn may_be_rewound(&self, instance: &InstanceId) -> bool {
        let rows = self.store.history(instance).unwrap_or_default();
        let events = codec::decode_history(&rows).unwrap_or_default();
        let has = |which: fn(&EventKind) -> bool| events.iter().any(|event| which(&event.is));
        self.rates.of(Fault::CodeWrong) == 0
            || (has(|is| matches!(is, EventKind::ActivityFailed { .. }))
                && !has(|is| matches!(is, EventKind::ChildCreated(_))))
    }

    /// The result of an offered attempt is durable, on its way to whoever owns the partition.
    pub(super) fn report_result(&mut self, result: WorkResult) {
        let to = result.attempt.key.instance.partition(self.partitions);
        self.store.report(result);
        self.wake(to);
    }

    pub(super) fn client(&mut self, wish: Wish) -> Verdict {
        match wish {
            Wish::Start { token, acceptance, way: Way::Direct } => {
                let ticket = self.journal.ticket(Asked::Start { token });
                let to = acceptance.instance.partition(self.partitions);
                let delay = self.latency();
                let run = self.run_number();
                let acceptance = stamped(*acceptance, run, self.wall());
                self.after(delay, Happening::Reach(to, Delivery::Start(acceptance, ticket)));
            }
            Wish::Start { token, acceptance, way: Way::Stored | Way::Remembered } => {
                let to = acceptance.instance.partition(self.partitions);
                let run = self.run_number();
                let stamped = stamped((*acceptance).clone(), run, self.wall());
                let again = !self.journal.tried.insert(token);
                if again && self.checker.was_purged(&stamped.instance) {
                    // With the run its nonce went.
                    return Ok(());
                }
                if again
                    && self
                        .store
                        .status(&stamped.instance)
                        .is_some_and(|row| row.input != stamped.input)
                {
                    // The nonce is kept with the newest run: behind another start it is not known any more.
                    return Ok(());
                }
                let nothing_stored = self.store.status(&stamped.instance).is_none();
                let runs_before = self.checker.runs_begun(&stamped.instance);
                let outcome = self.store.accept(&stamped);
                if let AcceptOutcome::Accepted { run, .. } = &outcome
                    && let Some(raised) = self.journal.raised.get_mut(&(WITH_START + token))
                    && !stamped.raised.is_empty()
                {
                    raised.accepted = true;
                    raised.with_run = Some(*run);
                    raised.runs_before.get_or_insert(runs_before);
                }
                self.counters_sampled()?;
                self.tell(format_args!(
                    "client starts {} ({:?}): {outcome:?}",
                    stamped.instance, stamped.reuse
                ));
                let retry = self.fault(Fault::ClientRetry);
                if retry {
                    let delay = self.rng.within(SECOND, 5 * MINUTE);
                    let wish = Wish::Start { token, acceptance, way: Way::Stored };
                    self.after(delay, Happening::Client(wish));
                }
                // The owner may hear of it first from the store's own process, with its word that nothing
                // else of the id is there.
                if nothing_stored
                    && let AcceptOutcome::Accepted { run, .. } = outcome
                    && self.rng.chance(300)
                    && let Some(owner) = self.newest.get(&to).copied()
                {
                    self.feed(owner, Delivery::Accepted(Acceptance { run, ..stamped }, true));
                }
                if !retry
                    && let AcceptOutcome::Accepted { run, .. } = outcome
                    && let Some(start) = self.journal.starts.get_mut(&token)
                {
                    start.told = Some(run);
                }
                self.wake(to);
            }
            Wish::UseChildsId { token, mut acceptance, call } => {
                // Whoever waits asks for a child next, perhaps.
                let running =
                    ListQuery { statuses: vec![RuntimeStatus::Running], ..ListQuery::default() };
                let rows = self.store.list(&running, None, usize::MAX).rows;
                if !rows.is_empty() {
                    let key = self.rng.pick(&rows).key();
                    let rows = self.store.history(&key.instance).unwrap_or_default();
                    let events = codec::decode_history(&rows).unwrap_or_default();
                    let asked = events.iter().filter(|event| has_number(&event.is)).count();
                    let asked = u32::try_from(asked).expect("a short history");
                    let instance = key.child_id(CallNumber(asked + call));
                    acceptance.instance = instance.clone();
                    if let Some(start) = self.journal.starts.get_mut(&token) {
                        start.instance = instance;
                    }
                    return self.client(Wish::Start { token, acceptance, way: Way::Stored });
                }
            }
            Wish::Command { token, mut envelope, way, this_run } => {
                if this_run {
                    envelope.run = self.store.status(&envelope.instance).map(|row| row.run);
                }
                if let Some(raised) = token.and_then(|token| self.journal.raised.get_mut(&token)) {
                    raised.meant = envelope.run;
                }
                let instance = envelope.instance.clone();
                let to = instance.partition(self.partitions);
                let runs_before = self.checker.runs_begun(&instance);
                self.journal.sent.entry(envelope.id.clone()).or_insert(runs_before);
                if let Some(raised) = token.and_then(|token| self.journal.raised.get_mut(&token)) {
                    // What counts is the first try: any later one may be about the same delivery.
                    raised.runs_before.get_or_insert(runs_before);
                }
                match way {
                    Way::Stored => {
                        let outcome = self.store.send(&envelope);
                        self.tell(format_args!(
                            "client sends {} to {instance}: {:?}: {outcome:?}",
                            envelope.id, envelope.command
                        ));
                        if outcome == SendOutcome::Sent
                            && let Some(raised) =
                                token.and_then(|token| self.journal.raised.get_mut(&token))
                        {
                            raised.accepted = true;
                        }
                        if self.fault(Fault::ClientRetry) {
                            let delay = self.rng.within(SECOND, 5 * MINUTE);
                            let wish = Wish::Command { token, envelope, way, this_run: false };
                            self.after(delay, Happening::Client(wish));
                        }
                        self.wake(to);
                    }
                    Way::Direct | Way::Remembered => {
                        let asked = match (token, &envelope.command) {
                            (Some(token), _) => Asked::Raise { token, id: envelope.id.clone() },
                            (None, Command::Terminate { .. }) => Asked::Terminate {
                                instance,
                                meant: envelope.run,
                                id: envelope.id.clone(),
                            },
                            (None, _) => Asked::Other,
                        };
                        let ticket = self.journal.ticket(asked);
                        let remember = way == Way::Remembered;
                        if remember && self.fault(Fault::ClientRetry) {
                            let delay = self.rng.within(SECOND, 5 * MINUTE);
                            let envelope = envelope.clone();
                            let wish = Wish::Command { token, envelope, way, this_run: false };
                            self.after(delay, Happening::Client(wish));
                        }
                        let delay = self.latency();
                        let delivery = Delivery::Command(*envelope, remember, ticket);
                        self.after(delay, Happening::Reach(to, delivery));
                    }
                }
            }
            Wish::Purge { instances, way } => self.purge(&instances, way),
            Wish::Rewind(instance, way) => {
                let failed = |row: &StatusRow| {
                    row.status == RuntimeStatus::Failed && self.may_be_rewound(&row.instance)
                };
                if let Some(row) = self.store.status(&instance).filter(failed) {
                    let envelope = self.clients.rewind(&row);
                    let this_run = self.rng.chance(500);
                    return self.client(Wish::Command { token: None, envelope, way, this_run });
                }
            }
            Wish::Damage(instance) => {
                let rows = self.store.history(&instance).unwrap_or_default();
                // A parent would wait for ever for a child that nobody can read.
                let active = self
                    .store
                    .status(&instance)
                    .is_some_and(|row| !row.status.is_terminal() && row.parent.is_none());
                if active && !rows.is_empty() && self.fault(Fault::Damage) {
                    self.tell(format_args!("the history of {instance} is damaged"));
                    let bit = self.rng.below(8);
                    self.store.damage(&instance, |body| {
                        if let Some(byte) = body.get_mut(20) {
                            *byte ^= 1 << bit;
                        }
                    });
                    self.checker.damaged.insert(instance);
                }
            }
            Wish::WakeOutside => {
                if self.fault(Fault::ForeignWake) {
                    self.after(0, Happening::WakeOutside);
                }
            }
        }
        Ok(())
    }

    /// Asks for the purge of those that are there, by the runs that a client sees now.
    pub(super) fn purge(&mut self, instances: &[InstanceId], way: Way) {
        let Some(to) = instances.first().map(|first| first.partition(self.partitions)) else {
            return;
        };
        let mut runs = Vec::new();
        for instance in instances {
            if instance.partition(self.partitions) == to
                && let Some(row) = self.store.status(instance)
                && !runs.contains(&(instance.clone(), row.run))
            {
                let ended = self.journal.purges.entry((instance.clone(), row.run)).or_default();
                *ended |= row.status.is_terminal();
                runs.push((instance.clone(), row.run));
            }
        }
        self.tell(format_args!("client purges {runs:?} ({way:?})"));
        let mut also = runs.into_iter();
        let Some((instance, run)) = also.next() else { return };
        let command = Command::Purge { also: also.collect() };
        let id = self.journal.purge();
        let envelope = Envelope { id, instance: instance.clone(), run: Some(run), command };
        match way {
            Way::Stored => {
                let _ = self.store.send(&envelope);
                if self.fault(Fault::Duplicate) {
                    let delay = self.transit();
                    self.after(delay, Happening::Reach(to, Delivery::Arrived(envelope)));
                }
                self.wake(to);
            }
            Way::Direct | Way::Remembered => {
                let ticket = self.journal.ticket(Asked::Purge { instance, run });
                let delay = self.latency();
                let delivery = Delivery::Command(envelope, false, ticket);
                self.after(delay, Happening::Reach(to, delivery));
            }
        }
    }

    /// Tells an owner that something is in the store; where that is lost, it looks by itself some time.
    fn wake(&mut self, partition: PartitionId) {
        let delay = if self.fault(Fault::Loss) { 5 * MINUTE } else { self.transit() };
        self.after(delay, Happening::ReadArrivals(partition));
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_micros(super::EPOCH + self.micros)
    }

    fn run_number(&self) -> RunNumber {
        RunNumber(u64::try_from(super::EPOCH + self.micros).expect("after 1970"))
    }
}

/// A start as a client writes it at that time.
fn stamped(acceptance: Acceptance, run: RunNumber, now: Timestamp) -> Acceptance {
    let begin = acceptance.scheduled_for.map_or(now, |due| due.max(now));
    let deadline = acceptance.deadline.map(|deadline| Deadline::after(begin, deadline.limit));
    Acceptance { run, accepted_at: now, deadline, ..acceptance }
}

/// Whether what was asked for got a call number.
fn has_number(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::ActivityScheduled(_)
            | EventKind::TimerCreated { .. }
            | EventKind::ChildCreated(_)
            | EventKind::EventSent { .. }
    )
}
