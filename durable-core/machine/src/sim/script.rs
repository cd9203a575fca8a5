//! What an orchestrator of the workload does: a small tree, drawn from the seed, in which every primitive
//! stands inside every other. It travels as the instance's input, so that the code is the same for all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::rng::Rng;
use crate::model::{ActivityOptions, InstanceId, RetryPolicy};

/// Names of external events. Few, so that waiters of one name meet.
pub(super) const EVENTS: [&str; 3] = ["red", "green", "blue"];

const MILLI: i64 = 1_000;
const SECOND: i64 = 1_000 * MILLI;
const DAY: i64 = 86_400 * SECOND;

/// The input of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Script {
    /// Tells the start that gave this input from every other.
    pub(super) token: u64,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Step {
    /// An activity; its failure is a value like another, or ends the orchestrator.
    Call {
        work: Work,
        options: Box<ActivityOptions>,
        must: bool,
    },
    /// A timer this many microseconds from now; also none, and into the past.
    Sleep(i64),
    /// An external event, for as long as it takes.
    Wait(String),
    /// An external event or a time-out, by a race.
    WaitFor {
        name: String,
        micros: i64,
    },
    /// Several waiters of one name, polled in order; some are dropped after their first poll.
    Waiters {
        name: String,
        count: u32,
        dropped: Vec<u32>,
    },
    Race(Box<Step>, Box<Step>),
    /// The same, the left one in a scope, that is cancelled and waited for when one of them is ready.
    Scope(Box<Step>, Box<Step>),
    Join(Vec<Step>),
    /// As many as these, in the order of completion; the rest is dropped.
    Unordered {
        steps: Vec<Step>,
        take: usize,
    },
    Seq(Vec<Step>),
    /// Polled once, then dropped.
    Glance(Box<Step>),
    /// A custom status of so many characters.
    Status {
        token: u64,
        characters: usize,
    },
    Uuid,
    Random,
    Now,
    Send {
        to: InstanceId,
        name: String,
        token: u64,
    },
    /// A child that does what its own script says.
    Child(Box<Child>),
    /// The same, and nobody waits for it.
    Detach(Box<Child>),
    /// Awaits something of another runtime.
    Foreign,
    Panic,
    Fail(String),
    /// Takes the one way where a marker says so, and else the other.
    Patched {
        id: String,
        new: Box<Step>,
        old: Box<Step>,
    },
    /// Ends the execution; the next one does this.
    Continue(Box<Script>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Child {
    pub(super) script: Script,
    /// Of an orchestrator that not every worker has.
    pub(super) rare: bool,
    pub(super) id: Option<InstanceId>,
    pub(super) abandon: bool,
    /// How long its run may take, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) within: Option<u64>,
    /// Its failure ends the parent.
    pub(super) must: bool,
}

/// The input of an activity: it says what its body does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) token: u64,
    /// The first attempts that never answer.
    pub(super) hangs: u32,
    /// The attempts after those that fail.
    pub(super) fails: u32,
    pub(super) kind: String,
    pub(super) permanent: bool,
    pub(super) micros: i64,
    /// Characters of its result beside the token.
    pub(super) size: usize,
    /// How often it says on its way how far it is.
    #[serde(default)]
    pub(super) beats: u32,
}

/// Draws scripts.
pub(super) struct Author {
    rng: Rng,
    tokens: u64,
    receivers: Vec<InstanceId>,
    /// What a seed's scripts are made of: one kind of step often, all others sometimes.
    theme: u64,
    /// Sleeps are short, so that a seed's time passes with its faults.
    brisk: bool,
    steps_left: usize,
    /// Token of the script that is drawn, and how many executions it may still continue with.
    drawn: u64,
    generations_left: u32,
    /// Kinds of steps that this seed has: not every seed continues as new, or has children.
    kinds: u64,
    /// Children under children, at most.
    levels_left: u32,
    /// Some runs have a deadline.
    hurried: bool,
    /// Many races end by a cancel that is waited for.
    scoped: bool,
    /// Where bodies say how far they are: a sequence of its own, which shifts nothing else.
    beating: Option<Rng>,
}

/// Kinds of steps, those that need more than one execution or instance last: two thirds of the seeds have them.
/// The others draw what they drew before there were any, so that a seed which is known for something stays known
/// for it.
const KINDS: u64 = 22;
const KINDS_OF_ONE_EXECUTION: u64 = 18;

/// Generations below a client's instance.
const LEVELS_MAX: u32 = 4;

/// Scripts stay small: many instances of few steps meet more interleavings than one of many.
const STEPS_MAX: usize = 60;

impl Author {
    pub(super) fn new(mut rng: Rng, receivers: Vec<InstanceId>) -> Self {
        let kinds = if rng.clone().below(3) > 0 { KINDS } else { KINDS_OF_ONE_EXECUTION };
        let hurried = rng.clone().bits() % 7 < 2;
        let scoped = rng.clone().bits() % 11 < 4;
        let mut beating = Rng::new(!rng.clone().bits());
        let beating = beating.chance(300).then_some(beating);
        let theme = rng.below(kinds);
        let brisk = rng.chance(700);
        Self {
            rng,
            tokens: 0,
            receivers,
            theme,
            brisk,
            steps_left: STEPS_MAX,
            drawn: 0,
            generations_left: 0,
            kinds,
            levels_left: LEVELS_MAX,
            hurried,
            scoped,
            beating,
        }
    }

    /// A number that nothing else of this seed has.
    pub(super) fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }

    pub(super) fn script(&mut self) -> Script {
        self.steps_left = STEPS_MAX;
        self.drawn = self.token();
        let continues = self.kinds == KINDS;
        self.generations_left = if continues { self.rng.small(5) } else { 0 };
        self.execution()
    }

    /// What one execution does.
    fn execution(&mut self) -> Script {
        let steps = 1 + self.rng.index(4);
        let mut steps: Vec<_> = (0..steps).map(|_| self.step(3)).collect();
        if self.generations_left > 0 && self.rng.chance(150) {
            steps.push(self.continued());
        }
        Script { token: self.drawn, steps }
    }

    /// An end that begins the next execution: another one of any kind; some that take their events in
    /// batches, whatever comes at once; or some in a row that wait for nothing.
    fn continued(&mut self) -> Step {
        let Some(left) = self.generations_left.checked_sub(1) else { return self.leaf() };
        self.generations_left = left;
        if self.rng.chance(400) {
            return Step::Continue(Box::new(self.execution()));
        }
        let batches = self.rng.chance(600);
        let name = self.event();
        let mut script = self.execution();
        for _ in 0..1 + self.rng.small(5) {
            let step = if batches { Step::Wait(name.clone()) } else { Step::Now };
            let mut steps = vec![step; 1 + self.rng.index(3)];
            steps.push(Step::Continue(Box::new(script)));
            script = Script { token: self.drawn, steps };
        }
        Step::Continue(Box::new(script))
    }

    fn event(&mut self) -> String {
        (*self.rng.pick(&EVENTS)).to_owned()
    }

    fn steps(&mut self, depth: u32, count: usize) -> Vec<Step> {
        (0..count).map(|_| self.step(depth - 1)).collect()
    }

    fn step(&mut self, depth: u32) -> Step {
        self.steps_left = self.steps_left.saturating_sub(1);
        let kind = if self.rng.chance(300) { self.theme } else { self.rng.below(self.kinds) };
        let nests = depth > 0 && self.steps_left > 0;
        match kind {
            0..=2 => self.call(),
            3 | 4 => Step::Sleep(self.micros()),
            5 => Step::Wait(self.event()),
            6 => Step::WaitFor { name: self.event(), micros: self.micros() },
            7 => {
                let count = 2 + self.rng.small(4);
                let dropped = (0..count).filter(|_| self.rng.chance(300)).collect();
                Step::Waiters { name: self.event(), count, dropped }
            }
            8 | 9 if nests => {
                let (left, right) = (self.step(depth - 1), self.step(depth - 1));
                let (left, right) = (Box::new(left), Box::new(right));
                // Without a draw: it shifts nothing else.
                let scoped = self.scoped && !self.tokens.is_multiple_of(3);
                if scoped { Step::Scope(left, right) } else { Step::Race(left, right) }
            }
            10 if nests => {
                if self.rng.chance(120) {
                    // More than 30 children: such a `join_all` polls only those that were woken.
                    let count = 31 + self.rng.index(10);
                    return Step::Join((0..count).map(|_| self.leaf()).collect());
                }
                let count = 1 + self.rng.index(4);
                Step::Join(self.steps(depth, count))
            }
            11 if nests => {
                let count = 1 + self.rng.index(5);
                let steps = self.steps(depth, count);
                Step::Unordered { take: 1 + self.rng.index(count), steps }
            }
            12 if nests => {
                let count = 1 + self.rng.index(3);
                Step::Seq(self.steps(depth, count))
            }
            13 if nests => Step::Glance(Box::new(self.step(depth - 1))),
            14 => {
                let characters = if self.rng.chance(15) { 17 * 1024 } else { self.rng.index(40) };
                Step::Status { token: self.token(), characters }
            }
            15 => [Step::Uuid, Step::Random, Step::Now][self.rng.index(3)].clone(),
            16 => Step::Send {
                to: self.rng.pick(&self.receivers).clone(),
                name: self.event(),
                token: self.token(),
            },
            17 if self.rng.chance(350) => match self.rng.below(6) {
                0 => Step::Foreign,
                // Something durable is waited for, too: only a wake-up from outside tells.
                1..=3 => Step::Join(vec![self.leaf(), Step::Foreign]),
                4 => Step::Panic,
                _ => Step::Fail("Refused".into()),
            },
            18 if self.generations_left > 0 => self.continued(),
            19 => {
                let id = format!("patch-{}", self.rng.index(3));
                let (new, old) = (Box::new(self.leaf()), Box::new(self.leaf()));
                Step::Patched { id, new, old }
            }
            20 | 21 if nests && self.levels_left > 0 => self.child(),
            _ => self.leaf(),
        }
    }

    fn child(&mut self) -> Step {
        self.levels_left -= 1;
        // Executions of the child carry its token, not its parent's.
        let token = self.token();
        let parent = std::mem::replace(&mut self.drawn, token);
        let count = 1 + self.rng.index(3);
        let steps = (0..count).map(|_| self.step(2)).collect();
        self.drawn = parent;
        self.levels_left += 1;
        let id = match self.rng.below(10) {
            // An id that clients use, too.
            0 | 1 => Some(self.rng.pick(&self.receivers).clone()),
            // One that children have to share.
            2 | 3 => {
                let id = format!("k{}", self.rng.below(3));
                Some(InstanceId::new(id).expect("letters and digits"))
            }
            _ => None,
        };
        let child = Child {
            script: Script { token, steps },
            rare: self.rng.chance(150),
            id,
            abandon: self.rng.chance(200),
            within: self.within(token),
            must: self.rng.chance(150),
        };
        if self.rng.chance(200) {
            Step::Detach(Box::new(child))
        } else {
            Step::Child(Box::new(child))
        }
    }

    /// How long the run of this token may take, in a third of the seeds. Without a draw: it shifts nothing else.
    pub(super) fn within(&self, token: u64) -> Option<u64> {
        const MICROS: [i64; 4] = [0, SECOND, 20 * SECOND, DAY];
        let micros = MICROS[usize::try_from(token / 5 % 4).expect("below four")];
        (self.hurried && token % 5 == 3).then(|| u64::try_from(micros).expect("not negative"))
    }

    fn leaf(&mut self) -> Step {
        match self.rng.below(8) {
            0..=4 => self.call(),
            5 => Step::Wait(self.event()),
            _ => Step::Sleep(self.micros()),
        }
    }

    fn micros(&mut self) -> i64 {
        match self.rng.below(if self.brisk { 6 } else { 9 }) {
            0 => 0,
            1 => -self.rng.within(1, 2 * DAY),
            2 => MILLI,
            3..=5 => self.rng.within(MILLI, 20 * SECOND),
            6 => 8 * DAY,
            7 => 400 * DAY,
            _ => self.rng.within(SECOND, DAY),
        }
    }

    fn call(&mut self) -> Step {
        let mut options = ActivityOptions::default();
        let mut hangs = 0;
        if self.rng.chance(500) {
            let delay = Duration::from_millis(self.rng.below(5_000));
            let mut policy = if self.rng.chance(500) {
                RetryPolicy::exponential(delay)
            } else {
                RetryPolicy::fixed(delay)
            };
            policy = policy.attempts(1 + self.rng.small(5));
            if self.rng.chance(300) {
                policy = policy.jitter(0.5);
            }
            if self.rng.chance(200) {
                policy = policy.max_delay(Duration::from_millis(self.rng.below(9_000)));
            }
            if self.rng.chance(200) {
                policy = policy.total_time(Duration::from_millis(self.rng.below(20_000)));
            }
            if self.rng.chance(200) {
                policy = policy.except("Declined");
            }
            options.retry = Some(policy);
        }
        if self.rng.chance(250) {
            options.start_to_finish = Some(Duration::from_millis(1 + self.rng.below(4_000)));
            hangs = if self.rng.chance(400) { self.rng.small(3) } else { 0 };
        }
        let mut work = Work {
            token: self.token(),
            hangs,
            fails: if self.rng.chance(450) { self.rng.small(5) } else { 0 },
            kind: if self.rng.chance(300) { "Declined" } else { "Busy" }.into(),
            permanent: self.rng.chance(60),
            micros: if self.rng.chance(200) {
                self.rng.within(0, 8 * SECOND)
            } else {
                self.rng.within(0, 20 * MILLI)
            },
            size: if self.rng.chance(100) { self.rng.index(3_000) } else { self.rng.index(20) },
            beats: 0,
        };
        if let Some(rng) = &mut self.beating {
            beat(rng, &mut work, &mut options);
        }
        // Without a draw: it shifts nothing else.
        options.compensates = work.token % 29 == 7;
        Step::Call { work, options: Box::new(options), must: self.rng.chance(80) }
    }
}

/// Lets a body report on its way, and bounds its silence.
fn beat(rng: &mut Rng, work: &mut Work, options: &mut ActivityOptions) {
    if !rng.chance(500) {
        return;
    }
    work.beats = 1 + rng.small(6);
    if rng.chance(500) {
        // So long that what it reports has to be stored meanwhile.
        work.micros = rng.within(SECOND, 120 * SECOND);
    }
    if rng.chance(500) {
        let pause = work.micros / i64::from(work.beats + 1);
        // Most bodies keep to it.
        let limit = MILLI + pause * rng.within(9, 25) / 10;
        options.heartbeat_timeout = Some(Duration::from_micros(limit.unsigned_abs()));
        work.hangs = if rng.chance(400) { rng.small(3) } else { work.hangs };
    }
}
