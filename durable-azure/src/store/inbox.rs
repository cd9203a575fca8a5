//! What reached an opened partition and was not consumed yet, in memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::{Duration, Instant};

use durable_core::machine::model::{
    Acceptance, DeadLetter, Envelope, EnvelopeId, EventSeq, ExecutionNumber, InstanceId, Post,
    RunNumber, RuntimeStatus, StartNonce, Timestamp,
};
use durable_core::machine::store::{
    AcceptedStart, ArrivalPosition, Arrivals, DeadMessage, WorkResult,
};

use super::known::{Known, StartFacts};
use super::opened::CONSUMED_KEPT_MICROS;
use super::plan::Facts;
use super::wire::{NewRows, Wire, WireStart};

/// How often acceptance rows are looked for.
pub(super) const SCAN_EVERY: Duration = Duration::from_secs(300);
/// A start that was passed on this long ago and has not begun is passed on again by such a look.
const STARTS_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Entries of what is only remembered, from which on old ones are forgotten.
const REMEMBERED_MAX: usize = 131_072;
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// A message that is hidden in the queue for as long as this opening has it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) receipt: String,
    pub(super) text: String,
    pub(super) blob: Option<String>,
}

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Content {
    Start(StartNonce),
    Envelope(EnvelopeId),
    Result(EnvelopeId),
}

#[derive(Debug)]
struct Start {
    acceptance: Acceptance,
    fresh: bool,
    passed_on: Option<Instant>,
    /// Commits of this opening before it came.
    commits: u64,
    /// A client of this process made it durable.
    here: bool,
}

/// What to do with a message that was got.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// There is something new to pass on.
    New,
    /// Keep it until it is consumed.
    Keep,
    /// It has done its work.
    Remove,
    /// Look whether the acceptance row is still there.
    Doubtful(InstanceId, StartNonce),
    /// The same, before it is passed on.
    Unproven(Box<WireStart>),
}

/// What reached an opened partition.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    opened_at: Timestamp,
    sequence: u64,
    commits: u64,
    starts: BTreeMap<u64, Start>,
    start_of: HashMap<InstanceId, u64>,
    /// Starts of which this opening knows that nothing else of the id is stored.
    fresh: HashMap<InstanceId, (RunNumber, NewRows)>,
    begun: HashMap<InstanceId, (RunNumber, Instant)>,
    envelopes: BTreeMap<u64, Envelope>,
    results: BTreeMap<u64, WorkResult>,
    numbers: HashMap<Content, u64>,
    /// Messages that nobody can read, for the statuses of their instances.
    dead: Vec<DeadMessage>,
    posts: Vec<Post>,
    /// Messages of posts that wait to be handed over.
    post_messages: Vec<Message>,
    messages: HashMap<Content, Vec<Message>>,
    consumed: HashMap<EnvelopeId, Timestamp>,
    scanned: Option<Instant>,
}

impl Inbox {
    /// Of an opening at this moment, with the acceptance rows that were found after it.
    pub(super) fn new(
        opened_at: Timestamp,
        consumed: impl IntoIterator<Item = EnvelopeId>,
        starts: Vec<Acceptance>,
    ) -> Self {
        let consumed = consumed.into_iter().map(|id| (id, opened_at)).collect();
        let mut inbox = Self { opened_at, consumed, ..Self::default() };
        inbox.scanned(starts);
        inbox
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Things that wait to be consumed.
    pub(super) fn waiting(&self) -> usize {
        self.starts.len() + self.envelopes.len() + self.results.len() + self.posts.len()
    }

    /// A start that a client of this process made durable.
    pub(super) fn accepted_here(&mut self, acceptance: Acceptance, new: Option<NewRows>) {
        if let Some(new) = new {
            self.fresh.insert(acceptance.instance.clone(), (acceptance.run, new));
        }
        // Its client hands it over itself, as fresh.
        let number = self.add_start(acceptance, false);
        if let Some(start) = self.starts.get_mut(&number) {
            start.here = true;
        }
    }

    fn has_begun(&self, acceptance: &Acceptance) -> bool {
        self.begun.get(&acceptance.instance).is_some_and(|(run, _)| acceptance.run <= *run)
    }

    fn add_start(&mut self, acceptance: Acceptance, fresh: bool) -> u64 {
        if let Some(other) = self.start_of.get(&acceptance.instance) {
            self.starts.remove(other);
        }
        let number = self.next();
        self.start_of.insert(acceptance.instance.clone(), number);
        let commits = self.commits;
        let start = Start { acceptance, fresh, passed_on: None, commits, here: false };
        self.starts.insert(number, start);
        number
    }

    /// Takes in a message.
    pub(super) fn take(&mut self, message: Message, got: i64, wire: Wire) -> Verdict {
        match wire {
            Wire::Start(start) => {
                self.hold(Content::Start(start.acceptance.nonce), message);
                self.take_start(start, got)
            }
            Wire::Command(envelope) => {
                let content = Content::Envelope(envelope.id.clone());
                self.take_numbered(content, &envelope.id.clone(), message, |inbox, number| {
                    inbox.envelopes.insert(number, *envelope);
                })
            }
            Wire::Result(result) => {
                let content = Content::Result(result.id.clone());
                self.take_numbered(content, &result.id.clone(), message, |inbox, number| {
                    inbox.results.insert(number, *result);
                })
            }
            Wire::Posts(posts) => {
                self.posts.extend(posts);
                self.post_messages.push(message);
                Verdict::New
            }
            // Nobody puts them into the queue of a partition.
            Wire::Work(_) | Wire::WorkAgain { .. } | Wire::Blob { .. } => Verdict::Remove,
        }
    }

    fn take_start(&mut self, start: Box<WireStart>, got: i64) -> Verdict {
        let acceptance = &start.acceptance;
        if self.has_begun(acceptance) {
            return Verdict::Remove;
        }
        let known = self.start_of.get(&acceptance.instance).and_then(|n| self.starts.get(n));
        match known {
            Some(known) if known.acceptance.nonce == acceptance.nonce => {
                // An owner that took over before this opening's commit would have lost it; one that comes
                // after it finds the acceptance row.
                if self.commits > known.commits {
                    Verdict::Remove
                } else if got > 1 {
                    Verdict::Doubtful(acceptance.instance.clone(), acceptance.nonce)
                } else {
                    Verdict::Keep
                }
            }
            Some(known) if known.acceptance.run >= acceptance.run => Verdict::Remove,
            Some(_) | None => {
                // What was accepted before this opening and was not found by it has begun, or came in between.
                let later = start.new.as_ref().is_some_and(|new| new.time() > self.opened_at);
                if got > 1 || !later {
                    return Verdict::Unproven(start);
                }
                self.proven(*start);
                Verdict::New
            }
        }
    }

    /// The acceptance row of a start was there a moment ago. `false`: its run has begun since.
    pub(super) fn proven(&mut self, start: WireStart) -> bool {
        let WireStart { acceptance, new } = start;
        if self.has_begun(&acceptance) {
            return false;
        }
        let fresh = new.is_some();
        if let Some(new) = new {
            self.fresh.insert(acceptance.instance.clone(), (acceptance.run, new));
        }
        self.add_start(acceptance, fresh);
        true
    }

    fn take_numbered(
        &mut self,
        content: Content,
        id: &EnvelopeId,
        message: Message,
        add: impl FnOnce(&mut Self, u64),
    ) -> Verdict {
        self.hold(content.clone(), message);
        if self.consumed.contains_key(id) {
            return Verdict::Remove;
        }
        if self.numbers.contains_key(&content) {
            return Verdict::Keep;
        }
        let number = self.next();
        self.numbers.insert(content, number);
        add(self, number);
        Verdict::New
    }

    /// The newest receipt of a message is the one that counts.
    fn hold(&mut self, content: Content, message: Message) {
        let held = self.messages.entry(content).or_default();
        match held.iter_mut().find(|other| other.id == message.id) {
            Some(other) => *other = message,
            None => held.push(message),
        }
    }

    /// Gives up a message that has done its work.
    pub(super) fn let_go(&mut self, message: &str) {
        self.messages.retain(|_, held| {
            held.retain(|other| other.id != message);
            !held.is_empty()
        });
    }

    /// The acceptance row of a start is not there any more: it has begun before this opening.
    pub(super) fn is_gone(&mut self, instance: &InstanceId, nonce: StartNonce) {
        if let Some(number) = self.start_of.get(instance).copied()
            && self.starts.get(&number).is_some_and(|start| start.acceptance.nonce == nonce)
        {
            self.starts.remove(&number);
            self.start_of.remove(instance);
            self.fresh.remove(instance);
        }
    }

    /// Whether acceptance rows have to be looked for.
    pub(super) fn scan_is_due(&self) -> bool {
        self.scanned.is_none_or(|scanned| scanned.elapsed() >= SCAN_EVERY)
    }

    /// Acceptance rows that were found, oldest first.
    pub(super) fn scanned(&mut self, found: Vec<Acceptance>) {
        self.scanned = Some(Instant::now());
        for acceptance in found {
            if self.has_begun(&acceptance) {
                continue;
            }
            let number = self.start_of.get(&acceptance.instance).copied();
            match number.and_then(|number| self.starts.get(&number)) {
                Some(start) if start.acceptance.nonce == acceptance.nonce => {
                    let again =
                        start.passed_on.is_some_and(|at| at.elapsed() >= STARTS_AGAIN_AFTER);
                    if again {
                        self.add_start(acceptance, false);
                    }
                }
                Some(_) | None => {
                    self.add_start(acceptance, false);
                }
            }
        }
    }

    /// Takes a message that nobody can read. It stays in the queue until the status of its instance says so;
    /// `false` where this opening has it already.
    pub(super) fn dead(
        &mut self,
        message: Message,
        instance: InstanceId,
        letter: DeadLetter,
    ) -> bool {
        let id = EnvelopeId(format!("dead {}", message.id).into());
        let known = self.messages.insert(Content::Envelope(id.clone()), vec![message]).is_some();
        if !known {
            self.dead.push(DeadMessage { id, instance, letter });
        }
        !known
    }

    /// What lies behind a position, and the messages that are done with it.
    pub(super) fn arrivals(
        &mut self,
        after: ArrivalPosition,
        limit: usize,
    ) -> (Arrivals, Vec<Message>) {
        let behind = |position: u64| (Bound::Excluded(position), Bound::<u64>::Unbounded);
        let mut arrivals = Arrivals { position: after, ..Arrivals::default() };
        let mut more = false;
        for (number, start) in self.starts.range_mut(behind(after.acceptances)) {
            if arrivals.acceptances.len() >= limit {
                more = true;
                break;
            }
            start.passed_on.get_or_insert_with(Instant::now);
            arrivals.position.acceptances = *number;
            let (acceptance, fresh) = (start.acceptance.clone(), start.fresh);
            arrivals.acceptances.push(AcceptedStart { acceptance, fresh });
        }
        for (number, envelope) in self.envelopes.range(behind(after.envelopes)) {
            if arrivals.envelopes.len() >= limit {
                more = true;
                break;
            }
            arrivals.position.envelopes = *number;
            arrivals.envelopes.push(envelope.clone());
        }
        for (number, result) in self.results.range(behind(after.results)) {
            if arrivals.results.len() >= limit {
                more = true;
                break;
            }
            arrivals.position.results = *number;
            arrivals.results.push(result.clone());
        }
        arrivals.posts = std::mem::take(&mut self.posts);
        arrivals.dead = std::mem::take(&mut self.dead);
        arrivals.more = more;
        (arrivals, std::mem::take(&mut self.post_messages))
    }

    /// What a commit may take for granted of an instance whose start is new.
    pub(super) fn fresh(&self, instance: &InstanceId, run: RunNumber) -> Option<Facts> {
        let (_, new) = self.fresh.get(instance).filter(|(accepted, _)| *accepted == run)?;
        let known = Known {
            run,
            execution: ExecutionNumber(0),
            next: EventSeq(0),
            status: RuntimeStatus::Pending,
            timer: None,
            in_flight: false,
            created: new.created,
            uncounted: true,
            purged: false,
            start: None,
            status_blob: new.status_blob.clone(),
            in_flight_blob: None,
        };
        let start = StartFacts { run, nonce: None, blob: new.start_blob.clone() };
        Some(Facts { known: Some(known), start: Some(start), etag: None })
    }

    /// A commit is going to write these: what is known of them as new is not the whole truth any more.
    pub(super) fn written(&mut self, instances: impl Iterator<Item = InstanceId>) {
        for instance in instances {
            self.fresh.remove(&instance);
        }
    }

    /// A commit is applied. Returns the messages that it has done with.
    pub(super) fn committed(
        &mut self,
        begun: &[(InstanceId, RunNumber)],
        consumed: Vec<EnvelopeId>,
        now: Timestamp,
    ) -> Vec<Message> {
        self.commits += 1;
        let mut done = Vec::new();
        for (instance, run) in begun {
            self.fresh.remove(instance);
            self.begun.insert(instance.clone(), (*run, Instant::now()));
            let Some(number) = self.start_of.get(instance).copied() else { continue };
            if self.starts.get(&number).is_some_and(|start| start.acceptance.run <= *run)
                && let Some(start) = self.starts.remove(&number)
            {
                self.start_of.remove(instance);
                let content = Content::Start(start.acceptance.nonce);
                done.extend(self.messages.remove(&content).into_iter().flatten());
            }
        }
        for id in consumed {
            for content in [Content::Envelope(id.clone()), Content::Result(id.clone())] {
                if let Some(number) = self.numbers.remove(&content) {
                    match content {
                        Content::Result(_) => drop(self.results.remove(&number)),
                        Content::Envelope(_) | Content::Start(_) => {
                            drop(self.envelopes.remove(&number));
                        }
                    }
                }
                done.extend(self.messages.remove(&content).into_iter().flatten());
            }
            self.consumed.insert(id, now);
        }
        self.forget(now);
        done
    }

    fn forget(&mut self, now: Timestamp) {
        if self.consumed.len() > REMEMBERED_MAX {
            let oldest = now.as_micros().saturating_sub(CONSUMED_KEPT_MICROS);
            self.consumed.retain(|_, at| at.as_micros() >= oldest);
        }
        if self.begun.len() > REMEMBERED_MAX {
            self.begun.retain(|_, (_, at)| at.elapsed() < REMEMBERED_FOR);
        }
    }

    /// Every message that this opening holds; it holds none from then on.
    pub(super) fn give_back(&mut self) -> Vec<Message> {
        self.posts.clear();
        let held = std::mem::take(&mut self.messages).into_values().flatten();
        held.chain(std::mem::take(&mut self.post_messages)).collect()
    }

    /// Starts that no message stands for: clients of this process told nobody else of them. They are not told
    /// twice.
    pub(super) fn told_here_only(&mut self) -> Vec<WireStart> {
        let (messages, fresh) = (&self.messages, &self.fresh);
        let alone = self.starts.values_mut().filter_map(|start| {
            let here = std::mem::take(&mut start.here);
            let told = messages.contains_key(&Content::Start(start.acceptance.nonce));
            let acceptance = start.acceptance.clone();
            let new = fresh.get(&acceptance.instance).map(|(_, new)| new.clone());
            (here && !told).then_some(WireStart { acceptance, new })
        });
        alone.collect()
    }
}
