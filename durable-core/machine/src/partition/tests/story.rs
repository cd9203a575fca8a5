//! The language of the stories, and the world they happen in.
//!
//! [`check`] is the one function that knows the API. A story is told once as it stands, and then again with
//! faults that nobody may notice: other routes for commands, commits that come late, code evicted after each
//! step, and for each step a takeover behind it, a crash before its commit, a crash behind its commit. At the
//! end every history that was written is replayed from every prefix.
//!
//! ```text
//! partitions 2             before the first step: the hub's shape, and which faults go unnoticed
//! faults live|evict|all    (live: none; evict: all but those that end the owner)
//! start ID NAME [JSON] [reuse refuse|use|replace] [at +30s] [within +30s] [with EVENT JSON]
//! begin CALL attempt N     the executor reports that the attempt began
//! answer [ID] CALL [attempt N] [call N] ok [JSON] | failed KIND | permanent KIND
//! answer all CALL          each with its own input
//! event ID NAME JSON [as EVENT-ID]        suspend ID, resume ID, terminate ID [REASON], rewind ID [of EXECUTION]
//! purge ID [ID …]                         (their present runs)   purge-earlier ID   (the run before it)
//! time +30s                stopping at every due time       jump +30s: all at once
//! commits wait|flow, commit, write        (write: the store has it, nobody was told)
//! dead ID REASON                          (something sent to it can never be applied)
//! crash, open, takeover, evict, release   network down|doubles|up
//! expect …                 see `World::expect`
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::book::{application, book};
use crate::codec::{self, DecodeError};
use crate::model::{
    Acceptance, Command, CommitNumber, DeadLetter, Deadline, Envelope, EnvelopeId, Event,
    EventKind, EventSeq, ExecutionKey, ExecutionNumber, Failure, FailureClass, Fence, InstanceId,
    PartitionId, Payload, ReusePolicy, RunNumber, RuntimeStatus, StartNonce, StatusRow, Timestamp,
    UnconsumedEvent,
};
use crate::partition::entry::Life;
use crate::partition::{
    Answer, AttemptKey, Config, Effect, Input, Partition, Registry, StartAttempt, Ticket,
};
use crate::replay::{Action, ForeignWake, Orchestration, OrchestratorFn};
use crate::store::{
    AcceptOutcome, AcceptedStart, ArrivalPosition, Begins, Commit, DeadMessage, HistoryAppend,
    InstanceWrite, ListQuery, RowChange, SendOutcome, StoreLimits, StoreModel, WorkResult,
};

const BEGINNING: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// Tells a story over one partition, and over two in which its instances lie apart.
pub(super) fn both(story: &str) {
    for [one, other] in [["mother", "baby"], ["sender", "heir"]] {
        assert_ne!(id(one).partition(2), id(other).partition(2), "choose other names");
    }
    for partitions in [1, 2] {
        check(&format!("partitions {partitions}\n{story}"));
    }
}

/// Tells a story in every way in which it has to come out the same.
pub(super) fn check(story: &str) {
    let steps = steps(story);
    let faults = setup(&steps, "faults").unwrap_or("all");
    let mut plans = vec![Plan::Live];
    if faults != "live" {
        plans.extend([Plan::Stored, Plan::Late, Plan::Evicting, Plan::Narrow]);
    }
    if faults == "all" {
        let acts = (0..steps.len()).filter(|at| !steps[*at].text.starts_with("expect"));
        plans.extend(acts.flat_map(|at| {
            [Plan::Takeover(at), Plan::CrashBefore(at), Plan::CrashBehind(at), Plan::Release(at)]
        }));
    }
    for plan in plans {
        let mut world = World::new(&steps, plan);
        world.tell(&steps, true);
    }
}

/// A story told once, for tests that go on by themselves from where it ends.
pub(super) fn told(story: &str) -> World {
    let steps = steps(story);
    let mut world = World::new(&steps, Plan::Live);
    world.tell(&steps, false);
    world
}

/// How a story is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// As it stands, commands and starts from within the process.
    Live,
    /// Commands and starts by way of the store.
    Stored,
    /// Commits only when something is expected.
    Late,
    /// No code stays in memory that need not.
    Evicting,
    /// One instance a commit.
    Narrow,
    /// A new owner behind this step.
    Takeover(usize),
    /// The owners leave in good order behind this step.
    Release(usize),
    /// The process dies in this step, before anything of it is committed.
    CrashBefore(usize),
    /// The process dies in this step, when all of it is committed and nobody was told.
    CrashBehind(usize),
}

impl Plan {
    /// Whether the process may die while attempts run, so that it cannot be seen what was cancelled.
    fn loses_attempts(self) -> bool {
        matches!(
            self,
            Self::Takeover(_) | Self::Release(_) | Self::CrashBefore(_) | Self::CrashBehind(_)
        )
    }

    fn stores_commands(self) -> bool {
        matches!(self, Self::Stored | Self::CrashBefore(_) | Self::CrashBehind(_))
    }
}

struct Step<'a> {
    line: usize,
    text: &'a str,
}

fn steps(story: &str) -> Vec<Step<'_>> {
    story
        .lines()
        .enumerate()
        .map(|(line, text)| Step {
            line,
            text: text.split(" # ").next().unwrap_or_default().trim(),
        })
        .filter(|step| !step.text.is_empty() && !step.text.starts_with('#'))
        .collect()
}

fn setup<'a>(steps: &[Step<'a>], word: &str) -> Option<&'a str> {
    steps.iter().find_map(|step| step.text.strip_prefix(word)?.strip_prefix(' ').map(str::trim))
}

type Outcome = Result<Payload, Box<Failure>>;

/// Something the stories watch for.
#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Start(StartAttempt),
    Cancel(AttemptKey),
}

pub(super) struct World {
    plan: Plan,
    pub(super) store: StoreModel,
    pub(super) now: Timestamp,
    pub(super) owners: Vec<Option<Owner>>,
    shape: Shape,
    library: Arc<Library>,
    seen: VecDeque<Seen>,
    /// Every attempt that was ever started, in order.
    pub(super) attempts: Vec<StartAttempt>,
    running: BTreeSet<AttemptKey>,
    begun: BTreeSet<AttemptKey>,
    /// What an attempt was told when it was started last.
    told: BTreeMap<AttemptKey, Option<Payload>>,
    answers: BTreeMap<Ticket, Answer>,
    last_ticket: Ticket,
    last_stored: Option<Envelope>,
    statuses: BTreeMap<InstanceId, StatusRow>,
    /// What was committed of each execution.
    pub(super) ledger: BTreeMap<ExecutionKey, Vec<Event>>,
    ids: Vec<String>,
    pub(super) notes: Vec<String>,
    flow: bool,
    network: Network,
    deadly: BTreeSet<InstanceId>,
    unreadable: BTreeSet<InstanceId>,
    damaged: BTreeMap<InstanceId, StoreModel>,
    stuck: Vec<InstanceId>,
    pages_wait: bool,
    dropped_before: u64,
    died: u64,
    serial: u128,
    loads: BTreeMap<InstanceId, u32>,
    log: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Up,
    Down,
    Doubles,
}

#[derive(Clone)]
struct Shape {
    partitions: u16,
    limits: StoreLimits,
    cache_bytes_max: usize,
    uncommitted_max: usize,
    page: usize,
}

pub(super) struct Owner {
    pub(super) partition: Partition,
    pub(super) fence: Fence,
    position: ArrivalPosition,
    pages: Vec<crate::store::TimerPage>,
    postponed: Vec<InstanceId>,
    /// Written, and the partition was not told.
    written: Option<Arc<Commit>>,
}

/// What is registered, and who was woken from outside.
struct Library {
    codes: Mutex<BTreeMap<String, OrchestratorFn>>,
    woken: Arc<Mutex<Vec<ExecutionKey>>>,
}

impl Registry for Library {
    fn orchestrator(&self, name: &str) -> Option<OrchestratorFn> {
        self.codes.lock().expect("not poisoned").get(name).cloned()
    }

    fn foreign_wake(&self, key: &ExecutionKey) -> Option<ForeignWake> {
        let (woken, key) = (self.woken.clone(), key.clone());
        Some(Arc::new(move || woken.lock().expect("not poisoned").push(key.clone())))
    }
}

pub(super) fn id(text: &str) -> InstanceId {
    InstanceId::new(text).expect("a valid id")
}

fn json(text: &str) -> Payload {
    Payload::from_json(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn amount(text: &str) -> i64 {
    let (sign, rest) = match text.split_at(1) {
        ("-", rest) => (-1, rest),
        ("+", rest) => (1, rest),
        _ => panic!("{text}: + or -"),
    };
    let letters = rest.find(|c: char| c.is_ascii_alphabetic()).expect("a unit");
    let (number, unit) = rest.split_at(letters);
    let unit = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        other => panic!("unit {other}"),
    };
    sign * number.parse::<i64>().expect("a number") * unit
}

/// The words of a step, one after the other.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn word(&mut self) -> &'a str {
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest.trim_start();
        word
    }

    fn peek(&self) -> &'a str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// Takes a word if it is this one.
    fn takes(&mut self, word: &str) -> bool {
        let is = self.peek() == word;
        if is {
            self.word();
        }
        is
    }

    /// Takes `word N`.
    fn number(&mut self, word: &str) -> Option<u32> {
        self.takes(word).then(|| self.word().parse().expect("a number"))
    }

    fn rest(&mut self) -> &'a str {
        std::mem::take(&mut self.0)
    }

    /// The rest as JSON, if there is any.
    fn json(&mut self) -> Option<Payload> {
        let rest = self.rest();
        (!rest.is_empty()).then(|| json(rest))
    }
}

impl World {
    fn new(steps: &[Step<'_>], plan: Plan) -> Self {
        let number = |word| setup(steps, word).map(|n| n.parse().expect("a number"));
        let narrow = plan == Plan::Narrow;
        let evicting = plan == Plan::Evicting;
        let rows = if narrow { Some(6) } else { None };
        let shape = Shape {
            partitions: setup(steps, "partitions").map_or(1, |n| n.parse().expect("a number")),
            limits: StoreLimits {
                commit_rows_max: rows.or(number("rows")).unwrap_or(99),
                commit_bytes_max: number("bytes").unwrap_or(3_500_000),
                redelivers: true,
                result_delay: Duration::ZERO,
            },
            cache_bytes_max: if evicting { 0 } else { number("cache").unwrap_or(usize::MAX) },
            uncommitted_max: number("uncommitted").unwrap_or(usize::MAX),
            page: number("page").unwrap_or(100),
        };
        let mut world = Self {
            plan,
            store: StoreModel::new(shape.partitions),
            now: BEGINNING,
            owners: (0..shape.partitions).map(|_| None).collect(),
            shape,
            library: Arc::new(Library { codes: Mutex::new(book()), woken: Arc::default() }),
            seen: VecDeque::new(),
            attempts: Vec::new(),
            running: BTreeSet::new(),
            begun: BTreeSet::new(),
            told: BTreeMap::new(),
            answers: BTreeMap::new(),
            last_ticket: Ticket(0),
            last_stored: None,
            statuses: BTreeMap::new(),
            ledger: BTreeMap::new(),
            ids: Vec::new(),
            notes: Vec::new(),
            flow: plan != Plan::Late,
            network: Network::Up,
            deadly: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            damaged: BTreeMap::new(),
            stuck: Vec::new(),
            pages_wait: false,
            dropped_before: 0,
            died: 0,
            serial: 0,
            loads: BTreeMap::new(),
            log: Vec::new(),
        };
        world.open();
        world.settle();
        world
    }

    fn tell(&mut self, steps: &[Step<'_>], to_the_end: bool) {
        let mut at = steps.first().map_or(0, |step| step.line);
        let told = catch_unwind(AssertUnwindSafe(|| {
            for (n, step) in steps.iter().enumerate() {
                at = step.line;
                self.log.push(format!("{:>3}  {}", step.line, step.text));
                self.step(n, step.text);
            }
            if to_the_end {
                self.end();
            }
        }));
        if let Err(panic) = told {
            let mut text =
                format!("--- told as {:?}, failed in line {at} of its story\n", self.plan);
            for line in &self.log {
                let _ = writeln!(text, "{line}");
            }
            eprintln!("{text}");
            resume_unwind(panic);
        }
    }

    /// Tells on.
    pub(super) fn go(&mut self, story: &str) {
        self.tell(&steps(story), false);
    }

    /// Writes events behind an instance's history, as an owner that nobody saw.
    pub(super) fn forge(&mut self, instance: &InstanceId, events: Vec<Event>) {
        let key = self.row(instance).key();
        let history = self.ledger.get_mut(&key).expect("it has a history");
        let first = EventSeq(history.len() as u64);
        let mut encoder = codec::EventEncoder::default();
        for event in &events {
            encoder.push(event);
        }
        let snapshot = self.store.open(PartitionId(0));
        let append =
            HistoryAppend { first, count: encoder.count(), at: self.now, body: encoder.finish() };
        let write = InstanceWrite {
            key,
            begins: Begins::No,
            history: Some(append),
            status: None,
            in_flight: RowChange::Keep,
            timer: None,
        };
        let commit = Commit {
            partition: PartitionId(0),
            number: CommitNumber(1),
            head: snapshot.head,
            head_changed: false,
            instances: vec![write],
            purges: Vec::new(),
            outbox: Vec::new(),
            outbox_done: Vec::new(),
            consumed: Vec::new(),
            at: self.now,
            counts: BTreeMap::new(),
        };
        self.store.commit(snapshot.fence, &commit).expect("it fits");
        history.extend(events);
    }

    fn step(&mut self, n: usize, text: &str) {
        let mut words = Words(text);
        let verb = words.word();
        if verb == "expect" {
            if self.plan == Plan::Late {
                self.flow = true;
                self.settle();
                self.expect(words);
                self.flow = false;
            } else {
                self.expect(words);
            }
            return;
        }
        let dies = match self.plan {
            Plan::CrashBefore(at) | Plan::CrashBehind(at) => at == n,
            _ => false,
        };
        if dies {
            self.flow = false;
        }
        let answered = self.act(verb, words);
        if dies {
            if matches!(self.plan, Plan::CrashBehind(_)) {
                self.write_all();
            }
            self.crash();
            self.flow = true;
            self.open();
            self.settle();
            // Whoever runs the attempts now gives the same answers again.
            for (attempt, result) in answered {
                if self.running.remove(&attempt) {
                    let instance = attempt.key.instance.clone();
                    self.input_for(&instance, Input::AttemptEnded { attempt, result });
                    self.settle();
                }
            }
        }
        match self.plan {
            Plan::Takeover(at) if at == n => {
                self.crash();
                self.open();
                self.settle();
            }
            Plan::Release(at) if at == n => {
                self.release();
                self.open();
                self.settle();
            }
            _ => {}
        }
    }

    /// Does one step. Returns the answers that it gave, so that they can be repeated.
    fn act(&mut self, verb: &str, mut words: Words<'_>) -> Vec<(AttemptKey, Outcome)> {
        let mut answered = Vec::new();
        match verb {
            "partitions" | "faults" | "rows" | "bytes" | "cache" | "uncommitted" | "page" => {}
            "start" => self.start(words),
            "dead" => {
                // dead ID REASON
                let instance = self.instance(&mut words);
                let letter = DeadLetter { at: self.now, reason: words.word().into() };
                let dead = DeadMessage { id: EnvelopeId("dead".into()), instance, letter };
                let instance = dead.instance.clone();
                let input = Input::Dead(Box::new(dead));
                self.input_for(&instance, input);
            }
            "accepted" => {
                // The store's note about a start comes again.
                let instance = self.instance(&mut words);
                let stored = self.store.load(&instance).and_then(|stored| stored.acceptance);
                let acceptance = stored.expect("an acceptance");
                self.input_for(
                    &instance,
                    Input::Accepted { acceptance: Box::new(acceptance), fresh: false },
                );
            }
            "begin" => {
                let attempt = self.attempt(&mut words);
                self.begun.insert(attempt.clone());
                self.input_for(&attempt.key.instance.clone(), Input::AttemptStarted(attempt));
            }
            // beat [ID] NAME [attempt N] [JSON]
            "beat" => {
                let attempt = self.attempt(&mut words);
                let details = words.json();
                let instance = attempt.key.instance.clone();
                self.input_for(&instance, Input::Heartbeat { attempt, at: self.now, details });
            }
            // report [ID] NAME [attempt N] KIND [JSON]: another worker ran it, and it failed; what it said last
            "report" => {
                let attempt = self.attempt(&mut words);
                let result = WorkResult {
                    id: EnvelopeId(format!("report {}", self.serial()).into()),
                    attempt,
                    result: Err(Box::new(application(words.word(), "no"))),
                    heartbeat_details: words.json(),
                };
                let instance = result.attempt.key.instance.clone();
                self.running.remove(&result.attempt);
                self.input_for(&instance, Input::Reported(Box::new(result)));
            }
            // offer NAME: other workers may run it
            "offer" => {
                let attempt = self.attempt(&mut words);
                let instance = attempt.key.instance.clone();
                self.input_for(&instance, Input::Offered(vec![attempt]));
            }
            "answer" if words.takes("all") => {
                let name = words.word();
                let all: Vec<_> = self
                    .attempts
                    .iter()
                    .filter(|start| &*start.name == name && self.running.contains(&start.attempt))
                    .map(|start| (start.attempt.clone(), start.input.clone()))
                    .collect();
                answered.extend(all.into_iter().map(|(attempt, input)| (attempt, Ok(input))));
            }
            "answer" => {
                let attempt = self.attempt(&mut words);
                let result = self.outcome(&mut words, &attempt);
                answered.push((attempt, result));
            }
            // By way of the store, whatever the plan.
            "stored" => {
                let plan = std::mem::replace(&mut self.plan, Plan::Stored);
                let verb = words.word();
                let answered = self.act(verb, words);
                self.plan = plan;
                return answered;
            }
            "event" => {
                let instance = self.instance_named(&mut words);
                let name = words.word();
                let rest = words.rest();
                let (body, event) = rest.split_once(" as ").unwrap_or((rest, ""));
                self.event(&instance, name, body, event);
            }
            "events" => {
                let instance = self.instance_named(&mut words);
                let count: u32 = words.word().parse().expect("a number");
                let name = words.word();
                for n in 0..count {
                    self.event(&instance, name, &n.to_string(), "");
                }
            }
            "suspend" => {
                let instance = self.instance_named(&mut words);
                self.command(&instance, Command::Suspend { reason: None }, "");
            }
            "resume" => {
                let instance = self.instance_named(&mut words);
                self.command(&instance, Command::Resume { reason: None }, "");
            }
            // rewind ID [of EXECUTION]: the one that failed, or another
            "rewind" => {
                let instance = self.instance_named(&mut words);
                let current = self.store.status(&instance).map(|row| row.execution);
                let execution = if words.takes("of") {
                    ExecutionNumber(words.word().parse().expect("a number"))
                } else {
                    current.unwrap_or_default()
                };
                self.command(&instance, Command::Rewind { execution, reason: None }, "");
            }
            "resume-only" => {
                let instance = self.instance_named(&mut words);
                self.command(&instance, Command::Resume { reason: None }, "");
                return answered;
            }
            command @ ("terminate" | "terminate-tree") => {
                let tree = command == "terminate-tree";
                let instance = self.instance_named(&mut words);
                let reason = words.rest();
                let reason = (!reason.is_empty()).then(|| reason.into());
                self.command(&instance, Command::Terminate { reason, tree }, "");
            }
            "purge" | "purge-earlier" => {
                let instance = self.instance_named(&mut words);
                let also: Vec<_> = words
                    .rest()
                    .split_whitespace()
                    .map(|id| InstanceId::new(id).expect("an id"))
                    .map(|id| (id.clone(), self.run_of(&id)))
                    .collect();
                let mut run = self.run_of(&instance);
                if verb == "purge-earlier" {
                    run.0 -= 1;
                }
                self.command_to(&instance, Some(run), Command::Purge { also }, "");
            }
            "time" => self.pass(amount(words.word())),
            "jump" => {
                let target = self.now.as_micros() + amount(words.word());
                self.now = Timestamp::from_micros(target);
                self.tick();
            }
            "commits" => match words.word() {
                "wait" => self.flow = false,
                "flow" => self.flow = true,
                other => panic!("commits {other}"),
            },
            "commit" => {
                for index in 0..self.owners.len() {
                    self.commit(index);
                }
            }
            "take" => {
                for owner in self.owners.iter_mut().flatten() {
                    let _ = owner.partition.take_commit();
                }
            }
            "write" => {
                for index in 0..self.owners.len() {
                    self.write(index);
                }
            }
            "confirm" => {
                for index in 0..self.owners.len() {
                    self.confirm(index);
                }
            }
            "crash" => self.crash(),
            "open" => self.open(),
            "open-again" => {
                if self.owners.iter().any(Option::is_none) {
                    self.open();
                }
            }
            "open-only" => {
                self.open();
                return answered;
            }
            "load-only" => {
                for index in 0..self.owners.len() {
                    let effects = match &mut self.owners[index] {
                        Some(owner) => owner.partition.take_effects(),
                        None => Vec::new(),
                    };
                    for effect in effects {
                        self.effect(index, effect);
                    }
                }
                return answered;
            }
            "woken" => self.wait_for_a_thread(),
            // takeover [of ID]: of all partitions, or of one instance's
            "takeover" if words.takes("of") => {
                let PartitionId(index) = id(words.word()).partition(self.shape.partitions);
                self.take_over(usize::from(index));
            }
            "takeover" => {
                self.crash();
                self.open();
            }
            "release" => {
                self.release();
                self.open();
            }
            "evict" => self.evict(),
            "network" => {
                self.network = match words.word() {
                    "up" => Network::Up,
                    "down" => Network::Down,
                    "doubles" => Network::Doubles,
                    other => panic!("network {other}"),
                };
            }
            "code" => {
                let name = words.word();
                assert_eq!(words.word(), "is", "code NAME is OTHER");
                let other = words.word();
                let mut codes = self.library.codes.lock().expect("not poisoned");
                match book().remove(other) {
                    Some(code) => codes.insert(name.into(), code),
                    None => codes.remove(name),
                };
            }
            "deadly" => {
                let instance = self.instance(&mut words);
                self.deadly.insert(instance);
            }
            "harmless" => self.deadly.clear(),
            "stuck" => {
                let instance = self.instance(&mut words);
                self.stuck.push(instance);
            }
            // A queue brings the last stored command once more.
            "again" => {
                let envelope = self.last_stored.clone().expect("a stored command");
                let instance = envelope.instance.clone();
                self.input_for(&instance, Input::Arrived(Box::new(envelope)));
            }
            "stuck-no-more" => self.stuck.clear(),
            "unreadable" => {
                let instance = self.instance(&mut words);
                self.unreadable.insert(instance);
            }
            "readable" => self.unreadable.clear(),
            "damage" => {
                let instance = self.instance(&mut words);
                self.damaged.insert(instance.clone(), self.store.clone());
                match words.word() {
                    "" => self.store.damage(&instance, |body| {
                        let middle = body.len() / 2;
                        body[middle] ^= 1;
                    }),
                    "newer" => self.store.damage(&instance, |body| {
                        *body = sealed(r#"{"v":2,"packed":[]"#);
                    }),
                    "unknown" => self.store.damage(&instance, |body| {
                        *body = sealed(r#"{"v":1,"events":[{"at":1,"is":{"Teleported":{}}}]"#);
                    }),
                    other => panic!("damage {other}"),
                }
            }
            "repair" => {
                let instance = self.instance(&mut words);
                let before = self.damaged.remove(&instance).expect("damaged before");
                let rows = before.history(&instance).expect("it has a history");
                let last = rows.last().expect("a row").body.clone();
                self.store.damage(&instance, |body| *body = last);
            }
            "pages" => match words.word() {
                "wait" => self.pages_wait = true,
                "come" => {
                    self.pages_wait = false;
                    for index in 0..self.owners.len() {
                        let pages = match &mut self.owners[index] {
                            Some(owner) => std::mem::take(&mut owner.pages),
                            None => Vec::new(),
                        };
                        for page in pages {
                            self.input(index, Input::TimersLoaded(page));
                        }
                    }
                }
                other => panic!("pages {other}"),
            },
            other => panic!("what is {other:?}?"),
        }
        for (attempt, result) in &answered {
            self.running.remove(attempt);
            let (attempt, result) = (attempt.clone(), result.clone());
            self.input_for(&attempt.key.instance.clone(), Input::AttemptEnded { attempt, result });
        }
        self.settle();
        answered
    }

    fn event(&mut self, instance: &InstanceId, name: &str, body: &str, event: &str) {
        let input = json(if body.is_empty() { "null" } else { body });
        self.command(instance, Command::Raise { name: name.into(), input }, event);
    }

    /// The instance that is named next, or the last that was started.
    fn instance(&self, words: &mut Words<'_>) -> InstanceId {
        let is_there = |id| self.store.status(&id).is_some();
        let named = self.ids.iter().any(|id| id == words.peek())
            || InstanceId::new(words.peek()).is_ok_and(is_there);
        if named {
            return id(words.word());
        }
        id(self.ids.last().expect("an instance was started"))
    }

    fn instance_named(&self, words: &mut Words<'_>) -> InstanceId {
        let _ = self;
        id(words.word())
    }

    /// `[ID] CALL [call N] [attempt N]`: the attempt of that name which runs, or else ran last; with `first`
    /// before it, the one that was started first of all.
    fn attempt(&self, words: &mut Words<'_>) -> AttemptKey {
        if words.takes("first") {
            let name = words.word();
            let first = self.attempts.iter().find(|start| &*start.name == name);
            return first.expect("it was called").attempt.clone();
        }
        let named = self.ids.iter().any(|id| id == words.peek()).then(|| id(words.word()));
        let name = words.word();
        let call = words.number("call");
        let attempt = words.number("attempt");
        let fits = |start: &&StartAttempt| {
            let key = &start.attempt;
            &*start.name == name
                && named.as_ref().is_none_or(|id| *id == key.key.instance)
                && call.is_none_or(|call| call == key.call.0)
                && attempt.is_none_or(|attempt| attempt == key.attempt.0)
        };
        let all: Vec<_> = self.attempts.iter().filter(fits).map(|start| &start.attempt).collect();
        let running = all.iter().find(|attempt| self.running.contains(**attempt));
        (*running.or(all.last()).unwrap_or_else(|| panic!("{name} was never called"))).clone()
    }

    fn outcome(&self, words: &mut Words<'_>, attempt: &AttemptKey) -> Outcome {
        match words.word() {
            "ok" => Ok(words.json().unwrap_or_else(|| {
                let start = self.attempts.iter().find(|start| start.attempt == *attempt);
                start.expect("it was started").input.clone()
            })),
            "failed" => Err(Box::new(application(words.word(), "no"))),
            "permanent" => Err(Box::new(application(words.word(), "never").permanent())),
            "bytes" => Ok(super::book::text(words.word().parse().expect("a number"))),
            other => panic!("answer {other}"),
        }
    }

    fn serial(&mut self) -> u128 {
        self.serial += 1;
        self.serial
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket = Ticket(self.last_ticket.0 + 1);
        self.last_ticket
    }

    fn later(&self, delay: &str) -> Timestamp {
        Timestamp::from_micros(self.now.as_micros() + amount(delay))
    }

    fn start(&mut self, mut words: Words<'_>) {
        let instance = words.word();
        let name = words.word();
        let rest = words.rest();
        let (rest, raised) = match rest.rsplit_once("with ") {
            Some((rest, event)) => {
                let (name, input) = event.split_once(' ').expect("a name and a payload");
                let id = EnvelopeId(format!("with {instance}").into());
                let event = UnconsumedEvent { name: name.into(), input: json(input), id: Some(id) };
                (rest.trim(), vec![event])
            }
            None => (rest, Vec::new()),
        };
        let (rest, within) = match rest.rsplit_once("within +") {
            Some((rest, limit)) => {
                let limit = u64::try_from(amount(&format!("+{limit}"))).expect("not before it");
                (rest.trim(), Some(Duration::from_micros(limit)))
            }
            None => (rest, None),
        };
        let (rest, scheduled_for) = match rest.rsplit_once("at +") {
            Some((rest, delay)) => (rest.trim(), Some(self.later(&format!("+{delay}")))),
            None => (rest, None),
        };
        let (input, reuse) = match rest.split_once("reuse ") {
            Some((input, reuse)) => (input.trim(), Some(reuse)),
            None => (rest, None),
        };
        let instance_id = id(instance);
        if !self.ids.iter().any(|known| known == instance) {
            self.ids.push(instance.into());
        }
        let serial = self.serial();
        let micros = u64::try_from(self.now.as_micros()).expect("after 1970");
        let acceptance = Acceptance {
            reuse: match reuse {
                None | Some("refuse") => ReusePolicy::RefuseActive,
                Some("use") => ReusePolicy::UseActive,
                Some("replace") => ReusePolicy::ReplaceActive,
                Some(other) => panic!("reuse {other}"),
            },
            scheduled_for,
            deadline: within.map(|limit| Deadline::after(scheduled_for.unwrap_or(self.now), limit)),
            raised,
            ..Acceptance::new(
                instance_id.clone(),
                RunNumber(micros + u64::try_from(serial).expect("few")),
                StartNonce(uuid::Uuid::from_u128(serial)),
                name.into(),
                json(if input.is_empty() { "null" } else { input }),
                self.now,
            )
        };
        let ticket = self.ticket();
        let fresh =
            self.store.status(&instance_id).is_none() && reuse.is_none() && scheduled_for.is_none();
        if fresh && !self.plan.stores_commands() {
            let input = Input::Start { acceptance: Box::new(acceptance), ticket };
            self.input_for(&instance_id, input);
        } else {
            let answer = match self.store.accept(&acceptance) {
                AcceptOutcome::Accepted { run, .. } => Answer::Started(run),
                AcceptOutcome::Active(row) => Answer::Refused(row.status.to_string()),
            };
            self.answers.insert(ticket, answer);
        }
    }

    fn run_of(&self, instance: &InstanceId) -> RunNumber {
        self.store.status(instance).map_or(RunNumber(1), |row| row.run)
    }

    fn command(&mut self, instance: &InstanceId, command: Command, event: &str) {
        self.command_to(instance, None, command, event);
    }

    fn command_to(
        &mut self,
        instance: &InstanceId,
        run: Option<RunNumber>,
        command: Command,
        event: &str,
    ) {
        let serial = self.serial();
        let named = if event.is_empty() { format!("envelope-{serial}") } else { event.into() };
        let envelope =
            Envelope { id: EnvelopeId(named.into()), instance: instance.clone(), run, command };
        let ticket = self.ticket();
        if self.plan.stores_commands() {
            let answer = match self.store.send(&envelope) {
                SendOutcome::Sent => Answer::Accepted,
                SendOutcome::NotFound => Answer::NotFound,
                SendOutcome::Ended(row) => Answer::Finished(row.status),
            };
            self.answers.insert(ticket, answer);
            self.last_stored = Some(envelope);
        } else {
            let remember = !event.is_empty();
            let input = Input::Command { envelope: Box::new(envelope), remember, ticket };
            self.input_for(instance, input);
        }
    }

    pub(super) fn input_for(&mut self, instance: &InstanceId, input: Input) {
        let PartitionId(index) = instance.partition(self.shape.partitions);
        self.input(usize::from(index), input);
    }

    fn input(&mut self, index: usize, input: Input) {
        let now = self.now;
        if let Some(owner) = &mut self.owners[index] {
            owner.partition.handle(now, input);
        }
    }

    fn tick(&mut self) {
        for owner in self.owners.iter_mut().flatten() {
            owner.partition.tick(self.now);
        }
    }

    /// Lets time pass, stopping wherever a partition asked to be looked at.
    fn pass(&mut self, micros: i64) {
        let target = Timestamp::from_micros(self.now.as_micros() + micros);
        for _ in 0..1_000_000 {
            self.settle();
            let due = self.owners.iter().flatten().filter_map(|owner| owner.partition.next_due());
            let Some(due) = due.min().filter(|due| *due <= target && micros > 0) else { break };
            self.now = self.now.max(due);
            self.tick();
        }
        self.now = target;
        self.tick();
    }

    /// Does everything that can be done without the clock.
    pub(super) fn settle(&mut self) {
        self.loads.clear();
        for round in 0.. {
            assert!(round < 200_000, "it never settles");
            let mut progress = false;
            for index in 0..self.owners.len() {
                progress |= self.settle_one(index);
            }
            let woken = std::mem::take(&mut *self.library.woken.lock().expect("not poisoned"));
            for key in woken {
                progress = true;
                let instance = key.instance.clone();
                self.input_for(&instance, Input::WokenFromOutside(key));
            }
            if !progress {
                break;
            }
        }
    }

    fn settle_one(&mut self, index: usize) -> bool {
        let mut progress = false;
        let Some(owner) = &mut self.owners[index] else { return false };
        let mut effects = owner.partition.take_effects();
        if self.flow {
            effects.extend(std::mem::take(&mut owner.postponed).into_iter().map(Effect::Load));
        }
        progress |= !effects.is_empty();
        for effect in effects {
            self.effect(index, effect);
        }
        while let Some(turn) = self.owners[index].as_mut().and_then(|o| o.partition.take_turn()) {
            progress = true;
            if self.deadly.contains(turn.instance()) {
                self.died += 1;
                self.crash();
                return true;
            }
            let turned = turn.run();
            if let Some(owner) = &mut self.owners[index] {
                owner.partition.turned(turned);
            }
        }
        progress |= self.read_arrivals(index);
        if self.flow {
            progress |= self.commit(index);
        }
        // What changes nothing that is stored is answered without a commit.
        let owner = self.owners[index].as_ref();
        progress || owner.is_some_and(|owner| !owner.partition.core.effects.is_empty())
    }

    fn read_arrivals(&mut self, index: usize) -> bool {
        let partition = PartitionId(u16::try_from(index).expect("few"));
        let Some(owner) = &mut self.owners[index] else { return false };
        let arrivals = self.store.arrivals(partition, owner.position, 50);
        let progress = !arrivals.acceptances.is_empty() || !arrivals.envelopes.is_empty();
        owner.position = arrivals.position;
        for AcceptedStart { acceptance, fresh } in arrivals.acceptances {
            let acceptance = Box::new(acceptance);
            self.input(index, Input::Accepted { acceptance, fresh });
        }
        for envelope in arrivals.envelopes {
            self.input(index, Input::Arrived(Box::new(envelope)));
        }
        progress
    }

    /// Takes one commit, writes it, and gives out its effects; or those of the one that was written.
    fn commit(&mut self, index: usize) -> bool {
        if !self.confirm(index) {
            self.write(index);
            return self.confirm(index);
        }
        true
    }

    /// Gives out the effects of the commit that was written.
    fn confirm(&mut self, index: usize) -> bool {
        let Some(owner) = &mut self.owners[index] else { return false };
        let Some(commit) = owner.written.take() else { return false };
        for effect in owner.partition.committed(commit.number) {
            self.effect(index, effect);
        }
        true
    }

    #[allow(clippy::disallowed_methods, reason = "a thread of the test itself is waited for")]
    fn wait_for_a_thread(&self) {
        for _ in 0..1_000 {
            if !self.library.woken.lock().expect("not poisoned").is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no thread woke anything");
    }

    /// Takes one commit and writes it; the partition is not told.
    fn write(&mut self, index: usize) {
        let Some(owner) = &mut self.owners[index] else { return };
        let Some(commit) = owner.partition.take_commit() else { return };
        let rows = commit.rows();
        let max = self.shape.limits.commit_rows_max;
        assert!(
            rows <= max || commit.is_of_one(),
            "{rows} rows of {max} for {} instances",
            commit.instances.len()
        );
        for write in &commit.instances {
            let Some(history) = &write.history else { continue };
            let events = codec::decode_events(&history.body).expect("what was written is read");
            assert_eq!(events.len(), history.count as usize, "{}", write.key);
            let all = self.ledger.entry(write.key.clone()).or_default();
            assert_eq!(all.len() as u64, history.first.0, "{}: a gap", write.key);
            assert!(all.last().is_none_or(|e| !e.is.is_terminal()), "{}: goes on", write.key);
            all.extend(events);
            assert!(all.is_sorted_by_key(|event| event.at), "{}: time runs back", write.key);
        }
        self.log.push(format!("       commit {}: {}", commit.number, brief(&commit)));
        if let Err(refusal) = self.store.commit(owner.fence, &commit) {
            panic!("the store refuses commit {}: {refusal:?}\n{commit:#?}", commit.number);
        }
        if let Some(probing) = commit.head.probing.as_ref().filter(|_| commit.head_changed) {
            self.notes.push(format!("probing {probing}"));
        }
        owner.written = Some(commit);
    }

    /// Writes whatever there is to write; nobody is told.
    fn write_all(&mut self) {
        for index in 0..self.owners.len() {
            if let Some(owner) = &mut self.owners[index] {
                // With all of it in one commit: a second one would need the first's answer.
                owner.partition.core.config.limits.commit_rows_max = usize::MAX;
            }
            self.write(index);
        }
    }

    fn effect(&mut self, index: usize, effect: Effect) {
        let line = format!("{effect:?}");
        let cut = line.char_indices().nth(220).map_or(line.len(), |(at, _)| at);
        self.log.push(format!("       {index}: {}", &line[..cut]));
        match effect {
            Effect::Load(instance) => self.load(index, instance),
            Effect::LoadHistory(key) => {
                let rows = self.store.history(&key.instance).unwrap_or_default();
                self.input(index, Input::HistoryLoaded { key, found: Ok(rows) });
            }
            Effect::LoadTimers(after) => {
                let partition = PartitionId(u16::try_from(index).expect("few"));
                let page = self.store.timers(partition, after.as_ref(), self.shape.page);
                match &mut self.owners[index] {
                    Some(owner) if self.pages_wait => owner.pages.push(page),
                    _ => self.input(index, Input::TimersLoaded(page)),
                }
            }
            Effect::StartAttempt(start) => {
                self.told.insert(start.attempt.clone(), start.heartbeat_details.clone());
                let first = !self.attempts.iter().any(|known| known.attempt == start.attempt);
                assert!(
                    self.running.insert(start.attempt.clone()),
                    "started while it runs: {:?}",
                    start.attempt
                );
                if self.begun.contains(&start.attempt) {
                    let instance = start.attempt.key.instance.clone();
                    self.input_for(&instance, Input::AttemptStarted(start.attempt.clone()));
                }
                if first {
                    self.attempts.push((*start).clone());
                    self.seen.push_back(Seen::Start(*start));
                }
            }
            Effect::CancelAttempt(attempt) => {
                if self.running.remove(&attempt) {
                    self.seen.push_back(Seen::Cancel(attempt));
                }
            }
            Effect::Answer { ticket, answer } => {
                let before = self.answers.insert(ticket, answer);
                assert_eq!(before, None, "answered twice");
            }
            Effect::Deliver(message) => {
                let to = usize::from(message.to.0);
                match self.network {
                    Network::Down => {}
                    Network::Up => self.input(to, Input::Message(message)),
                    Network::Doubles => {
                        self.input(to, Input::Message(message.clone()));
                        self.input(to, Input::Message(message));
                    }
                }
            }
            Effect::Confirm { to, upto } => {
                let by = PartitionId(u16::try_from(index).expect("few"));
                if self.network != Network::Down {
                    self.input(usize::from(to.0), Input::Confirmed { by, upto });
                }
            }
            Effect::StatusChanged(row) => {
                let stored = self.store.status(&row.instance).expect("told of what is stored");
                assert!(
                    stored.run >= row.run && stored.updated_at >= row.updated_at,
                    "told of what is not stored: {row:?}, but {stored:?}"
                );
                self.statuses.insert(row.instance.clone(), (*row).clone());
            }
            Effect::Held { instance, message } => {
                self.notes.push(format!("held {instance}: {message}"));
            }
            Effect::Warn { instance, message } => {
                self.notes.push(format!("warn {instance}: {message}"));
            }
        }
    }

    fn load(&mut self, index: usize, instance: InstanceId) {
        let times = self.loads.entry(instance.clone()).or_default();
        *times += 1;
        if !self.flow && *times > 3 {
            // It waits for a commit that nobody makes now.
            if let Some(owner) = &mut self.owners[index] {
                owner.postponed.push(instance);
            }
            return;
        }
        let found = if self.unreadable.contains(&instance) {
            Err(DecodeError::Damaged("its status row is torn".into()))
        } else {
            Ok(self.store.load(&instance).map(Box::new))
        };
        self.input(index, Input::Loaded { instance, found });
    }

    /// The process dies, with all attempts that it runs.
    fn crash(&mut self) {
        self.running.clear();
        self.seen.retain(|seen| matches!(seen, Seen::Start(_)));
        for owner in &mut self.owners {
            *owner = None;
        }
    }

    fn release(&mut self) {
        self.flow = true;
        self.settle();
        for (index, owner) in self.owners.iter().enumerate() {
            let partition = PartitionId(u16::try_from(index).expect("few"));
            if let Some(owner) = owner {
                self.store.release(partition, owner.fence).expect("it is still ours");
            }
        }
        self.crash();
    }

    /// Another owner takes one partition; its attempts go with the owner before.
    fn take_over(&mut self, index: usize) {
        let (mine, partitions) = (index, self.shape.partitions);
        self.running
            .retain(|attempt| usize::from(attempt.key.instance.partition(partitions).0) != mine);
        self.open_one(index);
    }

    fn open(&mut self) {
        for index in 0..self.owners.len() {
            self.open_one(index);
        }
        self.dropped_before = 0;
    }

    fn open_one(&mut self, index: usize) {
        {
            let partition = PartitionId(u16::try_from(index).expect("few"));
            let snapshot = self.store.open(partition);
            let config = Config {
                partition,
                partitions: self.shape.partitions,
                limits: self.shape.limits,
                cache_bytes_max: self.shape.cache_bytes_max,
                uncommitted_max: self.shape.uncommitted_max,
                heartbeat_delay: crate::partition::HEARTBEAT_DELAY,
                stuck: self.stuck.clone(),
                looks_first: false,
            };
            self.owners[index] = Some(Owner {
                fence: snapshot.fence,
                partition: Partition::open(config, self.library.clone(), snapshot, self.now),
                position: ArrivalPosition::default(),
                pages: Vec::new(),
                postponed: Vec::new(),
                written: None,
            });
        }
    }

    fn evict(&mut self) {
        for owner in self.owners.iter_mut().flatten() {
            let budget = std::mem::take(&mut owner.partition.core.config.cache_bytes_max);
            owner.partition.make_room();
            owner.partition.core.config.cache_bytes_max = budget;
        }
    }

    fn row(&self, instance: &InstanceId) -> StatusRow {
        self.store.status(instance).unwrap_or_else(|| panic!("{instance} is not there"))
    }

    /// What may be expected. `[ID]` is the last instance that was started, where it is left out.
    fn expect(&mut self, mut words: Words<'_>) {
        let what = words.word();
        match what {
            // expect call [ID] NAME [call N] [attempt N] [JSON]
            "call" => self.expect_call(words),
            // expect calls 100 work
            "calls" => {
                let count: usize = words.word().parse().expect("a number");
                let name = words.word();
                let is = |seen: &Seen| matches!(seen, Seen::Start(s) if &*s.name == name);
                assert_eq!(self.seen.iter().filter(|seen| is(seen)).count(), count, "calls");
                self.seen.retain(|seen| !is(seen));
            }
            // expect cancel [ID] NAME [attempt N]
            "cancel" => {
                let attempt = self.attempt(&mut words);
                let at = self.seen.iter().position(|seen| *seen == Seen::Cancel(attempt.clone()));
                match at {
                    Some(at) => drop(self.seen.remove(at)),
                    None => assert!(
                        self.plan.loses_attempts() && !self.running.contains(&attempt),
                        "no cancel of {attempt:?}; seen: {:?}",
                        self.seen
                    ),
                }
            }
            // expect at-work CALL: an attempt of it runs
            "at-work" => {
                let attempt = self.attempt(&mut words);
                assert!(self.running.contains(&attempt), "nobody runs {attempt:?}");
            }
            // expect told NAME [attempt N] [JSON]: what an attempt was told that reported before it
            "told" => {
                let attempt = self.attempt(&mut words);
                assert_eq!(self.told[&attempt], words.json(), "told to {attempt:?}");
            }
            "nothing" => assert!(self.seen.is_empty(), "something: {:?}", self.seen),
            "running" | "suspended" | "pending" => {
                let row = self.row(&self.instance(&mut words));
                assert_eq!(row.status.to_string().to_lowercase(), what, "{row:?}");
            }
            "completed" | "terminated" => {
                let instance = self.instance(&mut words);
                let row = self.row(&instance);
                assert_eq!(row.status.to_string().to_lowercase(), what, "{row:?}");
                if let Some(output) = words.json() {
                    let actual = row.output.as_ref().map(|o| o.to::<Value>().expect("JSON"));
                    assert_eq!(actual, Some(output.to().expect("JSON")), "output of {instance}");
                }
                self.ended_well(&row);
            }
            // expect failed [ID] KIND [part of the message]
            "failed" => {
                let row = self.row(&self.instance(&mut words));
                assert_eq!(row.status, RuntimeStatus::Failed, "{row:?}");
                let failure = row.failure.clone().expect("a failure");
                assert_eq!(failure.kind, words.word(), "{failure}");
                assert!(failure.message.contains(words.rest()), "{failure}");
                self.ended_well(&row);
            }
            // expect held [ID] REASON [part of the message]
            "held" => {
                let row = self.row(&self.instance(&mut words));
                let hold = row.hold.clone().unwrap_or_else(|| panic!("not held: {row:?}"));
                assert_eq!(format!("{:?}", hold.reason), words.word(), "{hold:?}");
                assert!(hold.message.contains(words.rest()), "{hold:?}");
                assert_eq!(row.status, RuntimeStatus::Suspended);
            }
            "free" => {
                let row = self.row(&self.instance(&mut words));
                assert_eq!(row.hold, None);
            }
            "custom" => {
                let row = self.row(&self.instance(&mut words));
                let custom = row.custom_status.map(|c| c.to::<Value>().expect("JSON"));
                assert_eq!(custom, words.json().map(|c| c.to().expect("JSON")));
            }
            // expect unconsumed [ID] [["name", payload], …]
            "unconsumed" => {
                let row = self.row(&self.instance(&mut words));
                let listed: Vec<(String, Value)> = row
                    .unconsumed
                    .iter()
                    .map(|e| (e.name.to_string(), e.input.to().expect("JSON")))
                    .collect();
                let expected = words.json().expect("a list").to::<Vec<(String, Value)>>();
                assert_eq!(listed, expected.expect("pairs"));
            }
            // expect dead [ID] ["reason", …]
            "dead" => {
                let row = self.row(&self.instance(&mut words));
                let listed: Vec<_> =
                    row.dead_letters.iter().map(|l| l.reason.to_string()).collect();
                let expected = words.json().expect("a list").to::<Vec<String>>();
                assert_eq!(listed, expected.expect("texts"));
            }
            // expect execution [ID] N
            "execution" => {
                let row = self.row(&self.instance(&mut words));
                assert_eq!(row.execution.to_string(), words.rest(), "{row:?}");
            }
            // expect history [ID] [execution N] started scheduled …
            "history" => {
                let instance = self.instance(&mut words);
                let mut key = self.row(&instance).key();
                if let Some(execution) = words.number("execution") {
                    key.execution.0 = execution;
                }
                let events = self.ledger.get(&key).cloned();
                let events: Vec<_> = events.unwrap_or_default().iter().map(short).collect();
                assert_eq!(events.join(" "), words.rest());
            }
            // expect answer accepted|not-found|finished|unfinished|refused|full|overloaded|started, to the last command
            "answer" => {
                if self.plan.stores_commands() {
                    return;
                }
                let answer = self.answers.get(&self.last_ticket);
                let answer = answer.map_or("none", |answer| match answer {
                    Answer::Started(_) => "started",
                    Answer::Accepted => "accepted",
                    Answer::NotFound => "not-found",
                    Answer::Finished(_) => "finished",
                    Answer::Unfinished(_) => "unfinished",
                    Answer::Refused(_) => "refused",
                    Answer::Full => "full",
                    Answer::Overloaded => "overloaded",
                    Answer::Unavailable(_) => "unavailable",
                });
                assert_eq!(answer, words.word());
            }
            "absent" => assert_eq!(self.store.status(&self.instance_named(&mut words)), None),
            // expect note part of a warning or of the news of a hold
            "note" => {
                let part = words.rest();
                assert!(self.notes.iter().any(|note| note.contains(part)), "{:?}", self.notes);
            }
            // expect lacks [NAME …]: orchestrators that instances need and the owners do not have
            "lacks" => {
                let needs = self.owners.iter().flatten().map(|owner| owner.partition.needs());
                let missing: BTreeSet<&str> =
                    needs.flat_map(|needs| &needs.missing).map(|name| &**name).collect();
                let expected: BTreeSet<&str> = words.rest().split_whitespace().collect();
                assert_eq!(missing, expected);
            }
            // expect dropped N, since the last time this was asked
            "dropped" => {
                let dropped: u64 =
                    self.owners.iter().flatten().map(|o| o.partition.stats().dropped).sum();
                let expected: u64 = words.word().parse().expect("a number");
                if self.plan == Plan::Live {
                    assert_eq!(dropped - self.dropped_before, expected, "dropped");
                }
                self.dropped_before = dropped;
            }
            "died" => assert_eq!(self.died, words.word().parse::<u64>().expect("a number")),
            "resident" => {
                let expected: u64 = words.word().parse().expect("a number");
                let resident: u64 =
                    self.owners.iter().flatten().map(|o| o.partition.stats().resident).sum();
                if self.plan == Plan::Live {
                    assert_eq!(resident, expected, "resident");
                }
            }
            other => panic!("expect {other}?"),
        }
    }

    fn expect_call(&mut self, mut words: Words<'_>) {
        let named = self.ids.iter().any(|id| id == words.peek()).then(|| id(words.word()));
        let name = words.word();
        let call = words.number("call");
        let attempt = words.number("attempt");
        let input = words.json();
        let at = self.seen.iter().position(|seen| {
            matches!(seen, Seen::Start(start)
                if &*start.name == name
                    && named.as_ref().is_none_or(|id| *id == start.attempt.key.instance)
                    && call.is_none_or(|call| call == start.attempt.call.0)
                    && attempt.is_none_or(|attempt| attempt == start.attempt.attempt.0)
                    && input.as_ref().is_none_or(|input| *input == start.input))
        });
        let at = at.unwrap_or_else(|| panic!("no such call; seen: {:?}", self.seen));
        self.seen.remove(at);
    }

    /// Whoever waits on the status was told what the store has.
    fn ended_well(&self, row: &StatusRow) {
        assert_eq!(row.hold, None, "held and ended: {row:?}");
        if matches!(self.plan, Plan::Live | Plan::Late | Plan::Narrow) && self.died == 0 {
            let told = self.statuses.get(&row.instance).map(|row| (row.run, row.status));
            if let Some(told) = told {
                assert_eq!(told, (row.run, row.status), "a waiter was told otherwise");
            }
        }
        let stored = self.store.load(&row.instance).expect("it is there");
        assert_eq!(stored.in_flight, None, "work in flight of an instance that ended");
        assert_eq!(stored.timer, None, "timer of an instance that ended");
    }

    /// What has to hold behind every story.
    fn end(&mut self) {
        self.flow = true;
        self.network = Network::Up;
        self.settle();
        let unasked = self.seen.iter().find(|seen| matches!(seen, Seen::Start(_)));
        assert_eq!(unasked, None, "calls that the story does not mention");
        self.counts_fit();
        self.work_is_done();
        for (key, events) in &self.ledger {
            self.replays(key, events);
        }
        // A new owner finds nothing else.
        let before: Vec<_> = self.everything();
        if self.died == 0 && self.owners.iter().all(Option::is_some) {
            self.crash();
            self.open();
            self.settle();
            assert_eq!(before, self.everything(), "a takeover changes what may be seen");
            self.counts_fit();
        }
    }

    /// Every attempt that the partitions believe to run does run.
    fn work_is_done(&self) {
        for owner in self.owners.iter().flatten() {
            for entry in owner.partition.entries.values() {
                let Life::Active(run) = &entry.life else { continue };
                if run.paused() {
                    continue;
                }
                for call in run.running_calls() {
                    let attempt = run.attempt_key(call, &run.calls[&call]);
                    assert!(self.running.contains(&attempt), "nobody runs {attempt:?}");
                }
            }
        }
    }

    fn everything(&self) -> Vec<(InstanceId, RuntimeStatus, Option<Payload>)> {
        let list = self.store.list(&ListQuery::default(), None, usize::MAX);
        list.rows.into_iter().map(|row| (row.instance, row.status, row.output)).collect()
    }

    fn counts_fit(&self) {
        let mut counted: BTreeMap<RuntimeStatus, u64> = BTreeMap::new();
        for row in self.store.list(&ListQuery::default(), None, usize::MAX).rows {
            *counted.entry(row.status).or_default() += 1;
        }
        assert_eq!(self.store.counts(), counted, "the counts by status");
    }

    /// A history is replayed from every prefix, and goes on from there as it went.
    fn replays(&self, key: &ExecutionKey, events: &[Event]) {
        let Some(EventKind::ExecutionStarted(started)) = events.first().map(|event| &event.is)
        else {
            panic!("{key} does not begin with its start");
        };
        let Some(code) = self.library.orchestrator(&started.name) else { return };
        if self.store.status(&key.instance).is_some_and(|row| row.hold.is_some()) {
            return;
        }
        let stride = match self.plan {
            Plan::Live => (events.len() / 40).max(1),
            _ => events.len(),
        };
        for cut in (1..=events.len()).rev().step_by(stride) {
            replays_from(key, &code, events, cut);
        }
    }
}

/// The engine itself ended the execution; the code did not ask for it.
fn by_engine(event: &EventKind) -> bool {
    matches!(event, EventKind::ExecutionFailed { failure }
        if matches!(failure.class, FailureClass::Limit | FailureClass::ForeignAwait)
            || failure.is_of_deadline())
}

fn replays_from(key: &ExecutionKey, code: &OrchestratorFn, events: &[Event], cut: usize) {
    let mut orchestration = Orchestration::new(key.clone(), code.clone(), None);
    let replayed = orchestration.replay(&events[..cut]);
    let between = events.get(cut).is_none_or(|event| !event.is.is_decision());
    if !between {
        let engine = by_engine(&events[cut].is);
        assert!(replayed.is_err() || engine, "{key}: half a turn up to {cut} is taken for a whole");
        return;
    }
    if let Err(divergence) = replayed {
        panic!("{key}: replay up to {cut}: {divergence}");
    }
    let mut asked: VecDeque<EventKind> = VecDeque::new();
    for event in &events[cut..] {
        if event.is.is_decision() {
            match asked.pop_front() {
                Some(asked) => assert_eq!(asked, event.is, "{key}: from {cut}"),
                None => assert!(by_engine(&event.is), "{key}: from {cut}: {:?}", event.is),
            }
        } else {
            assert_eq!(asked, [], "{key}: from {cut}: not recorded");
            asked =
                orchestration.advance(event).into_iter().filter_map(Action::into_event).collect();
        }
    }
    assert_eq!(asked, [], "{key}: from {cut}: not recorded at the end");
}

fn short(event: &Event) -> &'static str {
    match &event.is {
        EventKind::ExecutionStarted(_) => "started",
        EventKind::ActivityScheduled(_) => "scheduled",
        EventKind::ActivityCompleted { .. } => "result",
        EventKind::ActivityFailed { .. } => "failure",
        EventKind::TimerCreated { .. } => "timer",
        EventKind::TimerFired { .. } => "fired",
        EventKind::CallCancelled { .. } => "cancelled",
        EventKind::CancelRequested { .. } => "cancelling",
        EventKind::EventRaised { .. } => "raised",
        EventKind::EventSent { .. } => "sent",
        EventKind::ExecutionSuspended { .. } => "suspended",
        EventKind::ExecutionResumed { .. } => "resumed",
        EventKind::ExecutionTerminated { .. } => "terminated",
        EventKind::ExecutionCompleted { .. } => "completed",
        EventKind::ExecutionFailed { .. } => "failed",
        EventKind::ContinuedAsNew { .. } => "continued",
        EventKind::Patched { .. } => "patched",
        EventKind::ChildCreated(_) => "child",
        EventKind::ChildCompleted { .. } => "child-result",
        EventKind::ChildFailed { .. } => "child-failure",
    }
}

fn brief(commit: &Commit) -> String {
    let mut text = String::new();
    for write in &commit.instances {
        let events = write.history.as_ref().map_or(String::new(), |history| {
            let events = codec::decode_events(&history.body).expect("decodes");
            events.iter().map(short).collect::<Vec<_>>().join(" ")
        });
        let status = write.status.as_ref().map_or(String::new(), |row| row.status.to_string());
        let _ = write!(
            text,
            "{}[{}{events}; {status}{}{}] ",
            write.key.instance,
            if write.begins.a_run() { "begins: " } else { "" },
            if write.in_flight.touches() { "; in flight" } else { "" },
            if write.timer.is_some() { "; timer" } else { "" },
        );
    }
    for outbox in &commit.outbox {
        let _ = write!(text, "{} messages to {} ", outbox.messages.len(), outbox.to);
    }
    text
}

/// A row with a checksum that fits, whatever it says.
pub(super) fn sealed(content: &str) -> Vec<u8> {
    let sum = content.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{content},\"sum\":\"{sum:016x}\"}}").into_bytes()
}
