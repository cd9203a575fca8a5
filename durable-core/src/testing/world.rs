//! A partition, its store and its worker on one thread, with a clock that jumps.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use durable_machine::codec;
use durable_machine::model::{
    Acceptance, ActivityOptions, ChildCreated, Envelope, Event, EventKind, ExecutionKey, Failure,
    FailureClass, Fence, InstanceId, PartitionId, Payload, StartAttempt, StatusRow, Timestamp,
};
use durable_machine::partition::{
    Answer, AttemptKey, Config, Effect, HEARTBEAT_DELAY, Input, Partition, Registry as Code, Ticket,
};
use durable_machine::replay::{ForeignWake, Orchestration, OrchestratorFn};
use durable_machine::store::{AcceptOutcome, Commit, StoreLimits, StoreModel};

use super::mock::{Begun, MOCK_OF_CHILD, Mock, MockCall};
use super::story;
use crate::activity::ActivityContext;
use crate::orchestration::silenced;
use crate::registry::{ActivityFn, Registry};

const P0: PartitionId = PartitionId(0);

/// Turns at one moment from which on it is not expected to end.
const TURNS_MAX: u64 = 1_000_000;

/// Turns from which on what a test waits for is not expected to happen any more: half a minute without
/// optimisation, and some ten years of an orchestrator that wakes up every hour.
pub(super) const TURNS_WAITED_MAX: u64 = if cfg!(test) { 3_000 } else { 300_000 };

/// Lines of a story that a panic shows.
const STORY_LINES_MAX: usize = 100;

/// Due times read in one go.
const TIMER_PAGE: usize = 1000;

/// 2025-01-01T00:00:00Z.
const BEGIN: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);

/// What the partition sees of the test's functions.
#[derive(Default)]
struct Functions {
    orchestrators: Mutex<BTreeMap<String, OrchestratorFn>>,
    woken: Arc<Mutex<Vec<ExecutionKey>>>,
}

impl Code for Functions {
    fn orchestrator(&self, name: &str) -> Option<OrchestratorFn> {
        self.orchestrators.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn foreign_wake(&self, key: &ExecutionKey) -> Option<ForeignWake> {
        let (woken, key) = (self.woken.clone(), key.clone());
        Some(Arc::new(move || {
            woken.lock().unwrap_or_else(PoisonError::into_inner).push(key.clone());
        }))
    }
}

/// Something that happens at a time of its own.
enum Later {
    Heartbeat(AttemptKey, Option<Payload>),
    Ended(AttemptKey, Result<Payload, Box<Failure>>),
    Command(Box<Envelope>),
}

pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) mocks: BTreeMap<String, Mock>,
    pub(super) begin: Timestamp,
    pub(super) now: Timestamp,
    pub(super) begun: Vec<Begun>,
    /// Children that began: name and id.
    pub(super) children: Vec<(Arc<str>, InstanceId)>,
    functions: Arc<Functions>,
    model: StoreModel,
    partition: Option<Partition>,
    fence: Fence,
    agenda: BTreeMap<(Timestamp, u64), Later>,
    numbers: u64,
    answers: BTreeMap<Ticket, Answer>,
    histories: BTreeMap<ExecutionKey, Vec<Event>>,
    /// At this moment of virtual time.
    turns: u64,
    turns_in_all: u64,
    runtime: Option<tokio::runtime::Runtime>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            registry: Registry::new(),
            mocks: BTreeMap::new(),
            begin: BEGIN,
            now: BEGIN,
            begun: Vec::new(),
            children: Vec::new(),
            functions: Arc::new(Functions::default()),
            model: StoreModel::new(1),
            partition: None,
            fence: Fence(0),
            agenda: BTreeMap::new(),
            numbers: 0,
            answers: BTreeMap::new(),
            histories: BTreeMap::new(),
            turns: 0,
            turns_in_all: 0,
            runtime: None,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// # Panics
    ///
    /// If the registry is not complete. States that only mocked activities need may be missing.
    #[track_caller]
    fn open(&mut self) {
        let problems = self.registry.problems_but_states_of(|name| self.mocks.contains_key(name));
        assert!(
            problems.is_empty(),
            "the functions of the test do not fit together: {problems:#?}"
        );
        *self.functions.orchestrators.lock().unwrap_or_else(PoisonError::into_inner) =
            self.registry.orchestrator_functions().clone();
        self.add_mocked_children();
        let mut snapshot = self.model.open(P0);
        // This process lives on, so nothing that it loaded has killed it.
        snapshot.head.unclean_opens = 1;
        snapshot.head.probing = None;
        self.fence = snapshot.fence;
        let config = Config {
            partition: P0,
            partitions: 1,
            limits: StoreLimits {
                commit_rows_max: 100_000,
                commit_bytes_max: 16 * 1024 * 1024,
                redelivers: false,
                result_delay: Duration::ZERO,
            },
            cache_bytes_max: 256 * 1024 * 1024,
            uncommitted_max: 100_000,
            heartbeat_delay: HEARTBEAT_DELAY,
            looks_first: true,
            stuck: Vec::new(),
        };
        self.partition = Some(Partition::open(config, self.functions.clone(), snapshot, self.now));
    }

    pub(super) fn mock_child(&mut self, name: &str, mock: Mock) {
        self.mocks.insert(format!("{MOCK_OF_CHILD}{name}"), mock);
    }

    /// A mocked child is a real instance, whose code asks the mock as it would call an activity.
    fn add_mocked_children(&self) {
        let mut functions =
            self.functions.orchestrators.lock().unwrap_or_else(PoisonError::into_inner);
        for mock in self.mocks.keys() {
            let Some(name) = mock.strip_prefix(MOCK_OF_CHILD) else { continue };
            let mock: Arc<str> = mock.as_str().into();
            let code: OrchestratorFn = Arc::new(move |ctx, input| {
                let mock = mock.clone();
                Box::pin(async move { ctx.activity(mock, input, ActivityOptions::default()).await })
            });
            functions.insert(name.to_owned(), code);
        }
    }

    /// # Panics
    ///
    /// If nothing can play the child.
    #[track_caller]
    fn know_child(&self, parent: &InstanceId, created: &ChildCreated) {
        let name = &created.name;
        assert!(
            self.functions.orchestrator(name).is_some(),
            "orchestrator {name:?} of a child is neither registered nor mocked: .register({name}) or \
             .mock_child({name}, …)\n{}",
            self.story_end(parent)
        );
    }

    /// What a worker that dies takes with it. The next one takes up the work from what is stored.
    #[track_caller]
    pub(super) fn lose_memory(&mut self) {
        self.partition = None;
        self.agenda.retain(|_, later| !matches!(later, Later::Ended(..) | Later::Heartbeat(..)));
        self.open();
        self.work();
    }

    #[track_caller]
    fn handle(&mut self, input: Input) {
        if self.partition.is_none() {
            self.open();
        }
        if let Some(partition) = &mut self.partition {
            partition.handle(self.now, input);
        }
    }

    /// Starts an instance under an id of the test's own.
    #[track_caller]
    pub(super) fn accept(&mut self, acceptance: Acceptance) -> AcceptOutcome {
        let outcome = self.model.accept(&acceptance);
        if let AcceptOutcome::Accepted { run, .. } = &outcome {
            let acceptance = Box::new(Acceptance { run: *run, ..acceptance });
            self.handle(Input::Accepted { acceptance, fresh: false });
            self.work();
        }
        outcome
    }

    #[track_caller]
    pub(super) fn command(&mut self, envelope: Envelope) -> Option<Answer> {
        let ticket = Ticket(self.number());
        self.handle(Input::Command { envelope: Box::new(envelope), remember: true, ticket });
        self.work();
        self.answers.remove(&ticket)
    }

    pub(super) fn command_later(&mut self, delay: Duration, envelope: Envelope) {
        let place = (self.now.after(delay), self.number());
        self.agenda.insert(place, Later::Command(Box::new(envelope)));
    }

    pub(super) fn status(&self, instance: &InstanceId) -> Option<StatusRow> {
        self.model.status(instance)
    }

    /// The events of each execution of an instance's current run, in order.
    pub(super) fn histories(&self, instance: &InstanceId) -> Vec<(&ExecutionKey, &[Event])> {
        let run = self.model.status(instance).map(|row| row.run);
        let of_run = self
            .histories
            .iter()
            .filter(|(key, _)| key.instance == *instance && Some(key.run) == run);
        of_run.map(|(key, events)| (key, events.as_slice())).collect()
    }

    /// Everything that happens without time passing.
    #[track_caller]
    fn work(&mut self) {
        self.serve();
        while self.step(self.now) {}
    }

    /// What the partition can do now.
    #[track_caller]
    fn serve(&mut self) {
        loop {
            let woken = std::mem::take(
                &mut *self.functions.woken.lock().unwrap_or_else(PoisonError::into_inner),
            );
            for key in woken {
                self.handle(Input::WokenFromOutside(key));
            }
            let now = self.now;
            let Some(partition) = &mut self.partition else { return };
            partition.tick(now);
            if let Some(turn) = partition.take_turn() {
                let instance = turn.instance().clone();
                let turned = if turn.is_replay() { silenced(|| turn.run()) } else { turn.run() };
                partition.turned(turned);
                self.turns += 1;
                self.turns_in_all += 1;
                assert!(
                    self.turns < TURNS_MAX,
                    "{TURNS_MAX} turns at one moment, the last of {instance}: does it loop without waiting?\n{}",
                    self.story_end(&instance)
                );
                continue;
            }
            let mut effects = partition.take_effects();
            if effects.is_empty() {
                effects = match partition.take_commit() {
                    Some(commit) => self.commit(&commit),
                    // What it found out meanwhile needs no commit.
                    None => partition.take_effects(),
                };
            }
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.run(effect);
            }
        }
    }

    #[track_caller]
    fn commit(&mut self, commit: &Commit) -> Vec<Effect> {
        let applied = self.model.commit(self.fence, commit);
        assert!(applied.is_ok(), "a commit contradicts what is stored: {applied:?}");
        let (mut changed, mut asked) = (Vec::new(), Vec::new());
        for write in &commit.instances {
            if let Some(row) = write.status.as_ref().filter(|_| write.begins.a_run())
                && row.parent.is_some()
            {
                self.children.push((row.name.clone(), row.instance.clone()));
            }
            if let Some(append) = &write.history {
                let events = codec::decode_events(&append.body).unwrap_or_default();
                for event in &events {
                    if let EventKind::ChildCreated(created) = &event.is {
                        asked.push((write.key.instance.clone(), created.clone()));
                    }
                }
                let history = self.histories.entry(write.key.clone()).or_default();
                // A run that begins anew under one number takes the place of what was there.
                history.truncate(usize::try_from(append.first.0).unwrap_or(usize::MAX));
                history.extend(events);
                changed.push(write.key.clone());
            }
        }
        for (parent, created) in asked {
            self.know_child(&parent, &created);
        }
        for key in changed {
            self.check_replay(&key);
        }
        self.partition.as_mut().map(|p| p.committed(commit.number)).unwrap_or_default()
    }

    /// An execution that has ended is replayed: its code must do the same again.
    #[track_caller]
    fn check_replay(&self, key: &ExecutionKey) {
        let Some(events) = self.histories.get(key) else { return };
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
        let EventKind::ExecutionStarted(started) = &first.is else {
            return;
        };
        if !last.is.is_terminal() {
            return;
        }
        let Some(code) = self.functions.orchestrator(&started.name) else { return };
        let report = silenced(|| Orchestration::new(key.clone(), code, None).replay(events));
        match report {
            Ok(report) if report.input_differences == 0 => {}
            Ok(_) => panic!(
                "orchestrator {:?} is not deterministic: in a replay a call has another input\n{}",
                started.name,
                story::told(events, self.begin, None)
            ),
            Err(divergence) => panic!(
                "orchestrator {:?} is not deterministic: a replay of what it just did differs; \
                 {divergence}\n{}",
                started.name,
                story::told(events, self.begin, usize::try_from(divergence.seq.0).ok())
            ),
        }
    }

    #[track_caller]
    fn run(&mut self, effect: Effect) {
        match effect {
            Effect::Load(instance) => {
                let found = Ok(self.model.load(&instance).map(Box::new));
                self.handle(Input::Loaded { instance, found });
            }
            Effect::LoadHistory(key) => {
                let found = Ok(self.model.history(&key.instance).unwrap_or_default());
                self.handle(Input::HistoryLoaded { key, found });
            }
            Effect::LoadTimers(after) => {
                let page = self.model.timers(P0, after.as_ref(), TIMER_PAGE);
                self.handle(Input::TimersLoaded(page));
            }
            Effect::StartAttempt(start) => self.attempt(*start),
            Effect::CancelAttempt(attempt) => self.stop_attempt(attempt),
            Effect::Answer { ticket, answer } => drop(self.answers.insert(ticket, answer)),
            Effect::Deliver(message) => self.handle(Input::Message(message)),
            Effect::Confirm { upto, .. } => self.handle(Input::Confirmed { by: P0, upto }),
            Effect::StatusChanged(_) | Effect::Held { .. } => {}
            Effect::Warn { instance, message } => tracing::warn!(%instance, "{message}"),
        }
    }

    /// Runs an attempt, at one moment of virtual time; its result comes when its time has passed.
    #[track_caller]
    fn attempt(&mut self, start: StartAttempt) {
        if start.is_timed() {
            self.handle(Input::AttemptStarted(start.attempt.clone()));
        }
        let number = self.begun.iter().filter(|begun| begun.start.name == start.name).count() + 1;
        let call = MockCall::new(&start, u32::try_from(number).unwrap_or(u32::MAX), self.now);
        let mock = self.mocks.get(&*start.name).cloned();
        let result = match (mock, self.registry.activity(&start.name).cloned()) {
            (Some(mock), _) => mock(&call, start.input.clone()),
            (None, Some(activity)) => self.real(&activity, &start, &call),
            (None, None) => panic!(
                "activity {:?} is neither registered nor mocked: .register({0}) or .mock({0}, …)\n{}",
                start.name,
                self.story_end(&start.attempt.key.instance)
            ),
        };
        for (after, details) in call.heartbeats() {
            let at = (self.now.after(after), self.number());
            self.agenda.insert(at, Later::Heartbeat(start.attempt.clone(), details));
        }
        let ends = (self.now.after(call.duration()), self.number());
        let ended = Later::Ended(start.attempt.clone(), result.clone().map_err(Box::new));
        self.agenda.insert(ends, ended);
        self.begun.push(Begun { start, at: self.now, result });
    }

    /// Nobody waits for its result: it ends now.
    fn stop_attempt(&mut self, attempt: AttemptKey) {
        let before = self.agenda.len();
        self.agenda.retain(|_, later| !matches!(later, Later::Ended(of, _) if *of == attempt));
        if self.agenda.len() < before {
            let failure = Failure::new(FailureClass::Cancelled, "Cancelled", "it was cancelled");
            let place = (self.now, self.number());
            self.agenda.insert(place, Later::Ended(attempt, Err(Box::new(failure))));
        }
    }

    /// What it reports last is noted with `call`.
    fn real(
        &mut self,
        activity: &ActivityFn,
        start: &StartAttempt,
        call: &MockCall,
    ) -> Result<Payload, Failure> {
        let (context, _cancel) = ActivityContext::new(start, None);
        let said = context.clone();
        let (input, states) = (start.input.clone(), self.registry.states());
        let runtime = &*self.runtime.get_or_insert_with(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap_or_else(|error| panic!("no runtime for the activities: {error}"))
        });
        // On a thread of its own: the test's may belong to a runtime.
        let run = || match activity {
            ActivityFn::Async(function) => {
                runtime.block_on(async { function(context, input, states).await })
            }
            ActivityFn::Blocking(function) => function(context, input, states),
        };
        let ended = std::thread::scope(|scope| {
            scope.spawn(move || catch_unwind(AssertUnwindSafe(run))).join()
        });
        if let Some(details) = said.heartbeats().last() {
            call.says(Some(details));
        }
        match ended {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) | Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
                let text = text.unwrap_or_else(|| "the activity panicked".to_owned());
                Err(Failure::new(FailureClass::Panic, "Panic", text))
            }
        }
    }

    /// Turns that were run since the hub began.
    pub(super) fn turns_in_all(&self) -> u64 {
        self.turns_in_all
    }

    /// The events that an instance waits for, by their names: what its code says in a replay of what is stored.
    pub(super) fn awaited_events(&self, instance: &InstanceId) -> Vec<Arc<str>> {
        let histories = self.histories(instance);
        let Some((key, events)) = histories.last() else { return Vec::new() };
        let Some(Event { is: EventKind::ExecutionStarted(started), .. }) = events.first() else {
            return Vec::new();
        };
        let Some(code) = self.functions.orchestrator(&started.name) else { return Vec::new() };
        let mut again = Orchestration::new((*key).clone(), code, None);
        let fits = silenced(|| again.replay(*events)).is_ok();
        if fits { again.awaited_events() } else { Vec::new() }
    }

    /// When something happens next by itself.
    fn next(&self) -> Option<Timestamp> {
        let planned = self.agenda.keys().next().map(|(at, _)| *at);
        let due = self.partition.as_ref().and_then(Partition::next_due);
        planned.into_iter().chain(due).min()
    }

    /// Lets the next thing happen, if it does by `until`. Whether it did.
    #[track_caller]
    pub(super) fn step(&mut self, until: Timestamp) -> bool {
        let Some(next) = self.next().filter(|next| *next <= until) else { return false };
        if next > self.now {
            self.now = next;
            self.turns = 0;
        }
        if let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                Later::Heartbeat(attempt, details) => {
                    let at = self.now;
                    self.handle(Input::Heartbeat { attempt, at, details });
                }
                Later::Ended(attempt, result) => {
                    self.handle(Input::AttemptEnded { attempt, result })
                }
                Later::Command(envelope) => {
                    let ticket = Ticket(self.number());
                    self.handle(Input::Command { envelope, remember: true, ticket });
                }
            }
        }
        self.serve();
        true
    }

    /// What happened to an instance, for people.
    pub(super) fn story(&self, instance: &InstanceId) -> String {
        let mut text = self.headline(instance);
        for line in self.lines(instance) {
            text.push_str(&line);
        }
        text
    }

    /// The same for a panic: of a long story its end.
    pub(super) fn story_end(&self, instance: &InstanceId) -> String {
        let lines = self.lines(instance);
        let left_out = lines.len().saturating_sub(STORY_LINES_MAX);
        let mut text = self.headline(instance);
        if left_out > 0 {
            text.push_str(&format!("   … {left_out} lines before\n"));
        }
        for line in &lines[left_out..] {
            text.push_str(line);
        }
        text
    }

    fn headline(&self, instance: &InstanceId) -> String {
        let mut text = format!("the story of {:?}", instance.as_str());
        if let Some(row) = self.model.status(instance) {
            text.push_str(&format!(
                ", {} at +{}",
                row.status,
                story::clock(self.now.since(self.begin))
            ));
            if let Some(hold) = &row.hold {
                text.push_str(&format!(" (held: {})", hold.message));
            }
        }
        text.push('\n');
        text
    }

    fn lines(&self, instance: &InstanceId) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, events) in self.histories(instance) {
            if key.execution.0 > 0 {
                lines.push(format!("   execution {}\n", key.execution));
            }
            lines.extend(story::lines(events, self.begin, None));
        }
        lines
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // An async test must not wait for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
