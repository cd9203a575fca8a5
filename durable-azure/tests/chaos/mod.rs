//! Several worker processes on one hub in Azure Storage, which are killed, stopped, told to leave and joined by
//! others while the storage misbehaves; and a client process that holds them to what they promised.
//!
//! The parent starts the emulator, the proxy in front of it, and this test binary once more as each of the
//! processes ([`process`]). They reach storage through the proxy. [`check`] reads past it, when all has ended,
//! and compares the hub with the client's journal and with what the activities' bodies left behind.
//!
//! `DURABLE_SEED=n` repeats a run (but not its timing), with `DURABLE_CHAOS_ONLY=faults` or `deeds` where only the
//! storage, or only the workers, came to harm. `DURABLE_CHAOS_MINUTES=n` makes one run after another, of all kinds.

#![allow(
    clippy::print_stdout,
    reason = "what was done is part of the result, and the seed of a failure"
)]

mod check;
mod client;
mod faults;
mod hub;
mod journal;
mod noticed;
mod process;
mod random;
mod takeover;
mod workload;

use std::path::Path;
use std::process::ExitStatus;
use std::time::Instant;

use durable_core::prelude::*;
use durable_emulator::Emulator;
use durable_emulator::proxy::{Counts, Fault, FaultProxy, Plan};

use check::Found;
use faults::Weather;
use journal::{Evidence, Journal};
use process::{Process, Setting};
use random::Random;
use takeover::{After, Probes, Times};

/// How long there are faults, in a run.
const CHAOS: Duration = secs(32);

const LEASE: Duration = secs(3);

const WORKERS: usize = 3;
const WORKERS_MAX: usize = 5;

/// Time for everything to end once there are no faults any more.
const SOON: Duration = secs(20);

/// Time for a new owner of everything.
const PATIENCE: Duration = secs(60);

/// Time for a worker to leave, faults or not. More than its own limit for activities.
const LEAVE_MAX: Duration = secs(20);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn first_seed() -> u64 {
    number("DURABLE_SEED").unwrap_or_else(|| u64::from(std::process::id()))
}

/// What happens in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Both,
    /// Of storage only: no worker dies.
    Faults,
    /// To workers only: storage is well.
    Deeds,
}

impl Harm {
    /// Half of the runs have both.
    const IN_TURN: [Self; 4] = [Self::Both, Self::Faults, Self::Both, Self::Deeds];

    fn asked_for() -> Option<Self> {
        match std::env::var("DURABLE_CHAOS_ONLY").ok()?.as_str() {
            "faults" => Some(Self::Faults),
            "deeds" => Some(Self::Deeds),
            other => panic!("DURABLE_CHAOS_ONLY is faults or deeds, not {other:?}"),
        }
    }

    fn has_faults(self) -> bool {
        self != Self::Deeds
    }

    fn has_deeds(self) -> bool {
        self != Self::Faults
    }
}

/// What is done to workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Kill,
    /// SIGSTOP for longer than the lease, then SIGCONT.
    Pause,
    /// SIGTERM.
    Leave,
    Join,
}

/// As often as they are done, for each other.
const DEEDS: [Deed; 8] = [
    Deed::Kill,
    Deed::Kill,
    Deed::Kill,
    Deed::Pause,
    Deed::Pause,
    Deed::Leave,
    Deed::Join,
    Deed::Join,
];

#[derive(Debug, Default)]
struct Done {
    kills: usize,
    pauses: usize,
    leaves: usize,
    joins: usize,
    slowest_leave: Duration,
}

/// The worker processes of a run.
struct Workers {
    setting: Setting,
    up: Vec<Process>,
    /// Stopped, and when each goes on.
    paused: Vec<(Process, Instant)>,
    /// Told to leave, and since when.
    leaving: Vec<(Process, Instant)>,
    done: Done,
    /// What no worker may do.
    wrong: Vec<String>,
}

impl Workers {
    fn start(setting: &Setting) -> Self {
        let up = (0..WORKERS).map(|_| Process::worker(setting)).collect();
        Self {
            setting: setting.clone(),
            up,
            paused: Vec::new(),
            leaving: Vec::new(),
            done: Done::default(),
            wrong: Vec::new(),
        }
    }

    fn join(&mut self) {
        self.up.push(Process::worker(&self.setting));
    }

    fn ready(&self) -> Vec<usize> {
        (0..self.up.len()).filter(|place| self.up[*place].is_ready()).collect()
    }

    async fn act(&mut self, deed: Deed, random: &mut Random, probes: &mut Probes) {
        let here = self.up.len() + self.paused.len();
        let ready = self.ready();
        match deed {
            Deed::Kill => {
                // Stopped ones too, but mostly those that run.
                let victim = if !self.paused.is_empty() && random.percent(15) {
                    self.paused.swap_remove(random.index(self.paused.len())).0
                } else {
                    self.up.swap_remove(random.index(self.up.len()))
                };
                self.kill(victim, probes).await;
                self.join();
            }
            Deed::Pause if ready.len() >= 2 && self.paused.is_empty() => {
                let worker = self.up.swap_remove(ready[random.index(ready.len())]);
                let owned = probes.owned_by(worker.pid()).await;
                let since = Instant::now();
                worker.signal("STOP");
                probes.after(After::Pause, since, owned);
                let longer = millis(random.within(200, 2500));
                self.paused.push((worker, since + self.setting.lease + longer));
                self.done.pauses += 1;
            }
            Deed::Leave if ready.len() >= 2 => {
                let worker = self.up.swap_remove(ready[random.index(ready.len())]);
                worker.signal("TERM");
                self.leaving.push((worker, Instant::now()));
                if here <= WORKERS {
                    self.join();
                }
                self.done.leaves += 1;
            }
            Deed::Join if here < WORKERS_MAX => {
                self.join();
                self.done.joins += 1;
            }
            Deed::Pause | Deed::Leave | Deed::Join => {}
        }
    }

    async fn kill(&mut self, mut victim: Process, probes: &mut Probes) {
        if let Some(status) = victim.ended() {
            return self.ended_by_itself(&victim, &format!("{status}"));
        }
        let owned = probes.owned_by(victim.pid()).await;
        let since = Instant::now();
        victim.kill();
        probes.after(After::Kill, since, owned);
        self.done.kills += 1;
    }

    /// Lets stopped workers go on whose time is over, and looks after those that have ended.
    fn look(&mut self) {
        let now = Instant::now();
        for place in (0..self.paused.len()).rev() {
            if self.paused[place].1 <= now {
                let (worker, _) = self.paused.swap_remove(place);
                worker.signal("CONT");
                self.up.push(worker);
            }
        }
        for place in (0..self.leaving.len()).rev() {
            let (worker, since) = &mut self.leaving[place];
            let took = since.elapsed();
            match worker.ended() {
                Some(status) if status.success() => {
                    self.done.slowest_leave = self.done.slowest_leave.max(took);
                }
                Some(status) => {
                    let text = format!("a worker that was to leave ended with {status}");
                    self.wrong.push(format!("{text}:\n{}", worker.log()));
                }
                None if took > LEAVE_MAX => {
                    self.wrong.push(format!("a worker does not leave:\n{}", worker.log()));
                }
                None => continue,
            }
            self.leaving.swap_remove(place);
        }
        for place in (0..self.up.len()).rev() {
            if let Some(status) = self.up[place].ended() {
                let worker = self.up.swap_remove(place);
                self.ended_by_itself(&worker, &format!("{status}"));
                self.join();
            }
        }
    }

    fn ended_by_itself(&mut self, worker: &Process, status: &str) {
        let pid = worker.pid();
        self.wrong.push(format!("worker {pid} ended by itself, {status}:\n{}", worker.log()));
    }

    /// No more faults: as many as this go on, the others leave.
    fn calm(&mut self, stay: usize) {
        for (worker, _) in self.paused.drain(..) {
            worker.signal("CONT");
            self.up.push(worker);
        }
        while self.up.len() > stay {
            let Some(place) = self.ready().last().copied() else { break };
            let worker = self.up.swap_remove(place);
            worker.signal("TERM");
            self.leaving.push((worker, Instant::now()));
        }
    }

    /// Until the client ends, for so long.
    async fn until_ended(&mut self, client: &mut Process, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            let status = client.ended();
            if status.is_some() || Instant::now() > end {
                return status;
            }
            tokio::time::sleep(millis(20)).await;
            self.look();
        }
    }

    /// All leave.
    async fn leave(&mut self) {
        for worker in self.up.drain(..) {
            worker.signal("TERM");
            self.leaving.push((worker, Instant::now()));
        }
        while !self.leaving.is_empty() {
            tokio::time::sleep(millis(10)).await;
            self.look();
        }
    }

    fn logs(&self) -> String {
        let workers = self.up.iter().chain(self.leaving.iter().map(|(worker, _)| worker));
        let text = |worker: &Process| format!("worker {}:\n{}\n", worker.pid(), worker.log());
        workers.map(text).collect()
    }
}

/// Changes what the proxy does, for ever.
async fn weather(proxy: &FaultProxy, mut random: Random) -> ! {
    let mut deck = Vec::new();
    loop {
        let weather = deck.pop().unwrap_or_else(|| {
            deck = Weather::ALL.to_vec();
            random.shuffle(&mut deck);
            deck.pop().expect("not empty")
        });
        proxy.set_plan(weather.plan(&mut random));
        tokio::time::sleep(weather.lasts(&mut random)).await;
        proxy.set_plan(Plan::none());
        tokio::time::sleep(millis(random.within(200, 800))).await;
    }
}

/// Does something to workers again and again, until this time.
async fn deeds(workers: &mut Workers, until: Instant, mut random: Random, probes: &mut Probes) {
    let mut deck = Vec::new();
    while Instant::now() < until {
        let next = Instant::now() + millis(random.within(400, 1800));
        while Instant::now() < next {
            tokio::time::sleep(millis(20)).await;
            workers.look();
        }
        let deed = deck.pop().unwrap_or_else(|| {
            deck = DEEDS.to_vec();
            random.shuffle(&mut deck);
            deck.pop().expect("not empty")
        });
        workers.act(deed, &mut random, probes).await;
    }
}

/// What a run did and found.
struct Outcome {
    harm: Harm,
    done: Done,
    faults: Counts,
    found: Found,
    times: Times,
}

impl Outcome {
    fn print(&self) {
        let Self { harm, done, faults, found, times } = self;
        let by_kind: Vec<_> = Fault::ALL
            .into_iter()
            .map(|fault| format!("{fault:?} {}", faults.faults(fault)))
            .collect();
        println!(
            "chaos ({harm:?}): {} kills, {} pauses, {} leaves, {} joins, faults by kind {{{}}}, {} instances, {} \
             events, lost {}, duplicated results {}, takeover p50/max ms after a kill {}, after a stop {}, \
             with a live owner {}",
            done.kills,
            done.pauses,
            done.leaves,
            done.joins,
            by_kind.join(", "),
            found.instances,
            found.events,
            found.lost,
            found.duplicated,
            times.shown(After::Kill),
            times.shown(After::Pause),
            times.shown(After::Nothing),
        );
        println!(
            "  {} bodies, {} of them again for one attempt, {} retries, {} fan-outs in several processes, \
             {} timers (latest {:?}), {} events across partitions, {} unconsumed, {} starts with unknown \
             outcome, {} holds, slowest leave {:?}, {} requests",
            found.bodies,
            found.repeated_bodies,
            found.retries,
            found.spread_fans,
            found.timers,
            found.latest_timer,
            found.sent_elsewhere,
            found.unconsumed,
            found.unknown_starts,
            found.holds,
            done.slowest_leave,
            faults.all_requests(),
        );
    }

    /// That the run did something at all.
    fn has_worked(&self) {
        let Self { harm, done, faults, found, times } = self;
        assert!(found.instances >= 100, "too few instances: {}", found.instances);
        assert!(found.events >= 30, "too few events: {}", found.events);
        assert!(found.sent_elsewhere >= 5, "too few events of instances: {}", found.sent_elsewhere);
        assert!(found.timers >= 10, "too few timers: {}", found.timers);
        assert!(found.retries >= 10, "too few retries: {}", found.retries);
        if harm.has_deeds() {
            assert!(done.kills >= 5, "too few kills: {}", done.kills);
            assert!(done.pauses >= 2, "too few pauses: {}", done.pauses);
            assert!(done.leaves >= 1, "too few leaves: {}", done.leaves);
            assert!(done.joins >= 1, "too few joins: {}", done.joins);
            assert!(times.of(After::Kill).len() >= 3, "too few takeovers after kills");
        } else {
            assert_eq!(found.holds, 0, "no process died, so none died of an instance");
        }
        for fault in Fault::ALL.into_iter().filter(|_| harm.has_faults()) {
            assert!(faults.faults(fault) > 0, "{fault:?} was never met");
        }
    }
}

/// One run. A failure leaves its folder behind.
async fn run(seed: u64, harm: Harm) -> Outcome {
    println!("DURABLE_SEED={seed} ({harm:?})");
    let folder = tempfile::tempdir().expect("a temporary folder").keep();
    let emulator = Emulator::start().expect("the emulator runs");
    let proxy = FaultProxy::start(emulator.endpoints(), Plan::none()).expect("the proxy runs");
    let mut random = Random::new(seed);
    let setting = Setting {
        connection: proxy.connection_string(),
        hub: format!("chaos{}", random.below(1_000_000)),
        folder: folder.clone(),
        lease: LEASE,
        seed,
    };
    let direct = Setting { connection: emulator.connection_string(), ..setting.clone() };
    let store = hub::open(&direct).await.expect("the hub opens");
    let mut probes = Probes::new(store, Journal::open(&setting.journal()));
    drop(Evidence::open(&setting.evidence()));

    let mut workers = Workers::start(&setting);
    let mut client = Process::client(&setting);
    let until = Instant::now() + CHAOS;
    let changes = weather(&proxy, Random::new(random.bits()));
    let deeds = deeds(&mut workers, until, Random::new(random.bits()), &mut probes);
    match harm {
        Harm::Both => tokio::select! {
            never = changes => never,
            () = deeds => {}
        },
        Harm::Deeds => deeds.await,
        Harm::Faults => {
            drop(deeds);
            let _ = tokio::time::timeout_at(until.into(), changes).await;
        }
    }

    proxy.set_plan(Plan::none());
    workers.calm(1 + random.index(WORKERS));
    client.stop();
    let reader = Client::new(hub::open(&direct).await.expect("the hub opens"));
    let since = Instant::now();
    let status = workers.until_ended(&mut client, SOON).await;
    let ended = status.is_some_and(|status| status.success());
    if !ended {
        check::print_open(&reader, 5).await;
        println!("{}\nthe client ({status:?}):\n{}", workers.logs(), client.log());
    }
    println!("all had ended {:?} after the last fault", since.elapsed());
    probes.served();
    let times = tokio::time::timeout(PATIENCE, probes.times()).await;
    workers.leave().await;

    let fresh = Client::new(hub::open(&direct).await.expect("the hub opens"));
    let notes = Journal::read(&setting.journal());
    let bodies = Evidence::read(&setting.evidence());
    let found = check::check(&fresh, &notes, &bodies).await;
    let faults = proxy.counts();
    let done = std::mem::take(&mut workers.done);
    let outcome = Outcome { harm, done, faults, found, times: times.unwrap_or_default() };
    outcome.print();
    let wrong: Vec<_> = outcome.found.violations.iter().chain(&workers.wrong).collect();
    for what in wrong.iter().take(20) {
        println!("{what}");
    }
    assert!(wrong.is_empty(), "{} promises were broken: {}", wrong.len(), folder.display());
    assert!(ended, "not everything has ended: {}", folder.display());
    outcome.has_worked();
    remove(&folder);
    outcome
}

fn remove(folder: &Path) {
    std::fs::remove_dir_all(folder).expect("the folder can be removed");
}

#[test]
fn workers_that_are_killed_stopped_and_joined_lose_nothing_and_repeat_no_result() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let time = Duration::from_secs(60 * number("DURABLE_CHAOS_MINUTES").unwrap_or(0));
    let since = Instant::now();
    let (mut runs, mut instances, mut events, mut kills, mut pauses) = (0, 0, 0, 0, 0);
    for seed in first_seed().. {
        let harm = match Harm::asked_for() {
            Some(harm) => harm,
            None if runs == 0 => Harm::Both,
            None => Harm::IN_TURN[runs % Harm::IN_TURN.len()],
        };
        let outcome = runtime.block_on(run(seed, harm));
        runs += 1;
        instances += outcome.found.instances;
        events += outcome.found.events;
        kills += outcome.done.kills;
        pauses += outcome.done.pauses;
        if since.elapsed() >= time {
            break;
        }
    }
    println!(
        "{runs} runs: {kills} kills, {pauses} pauses, {instances} instances, {events} events, lost 0, \
         duplicated results 0"
    );
}

/// Of one host, and before the lease is over: the others see that the process is gone.
#[test]
fn what_a_killed_worker_owned_is_taken_over_long_before_its_lease_is_over() {
    const LONG_LEASE: Duration = secs(30);
    const ROUNDS: usize = 4;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let emulator = Emulator::start().expect("the emulator runs");
        let setting = Setting {
            connection: emulator.connection_string(),
            hub: "takeover".to_owned(),
            folder: folder.path().to_owned(),
            lease: LONG_LEASE,
            seed: 0,
        };
        let store = hub::open(&setting).await.expect("the hub opens");
        let mut probes = Probes::new(store, Journal::open(&setting.journal()));
        let mut workers = Workers::start(&setting);
        for round in 0..ROUNDS {
            let end = Instant::now() + PATIENCE;
            while probes.owners().await < 2 || workers.ready().len() < 2 {
                assert!(Instant::now() < end, "no two own something:\n{}", workers.logs());
                tokio::time::sleep(millis(20)).await;
            }
            let mut owner = None;
            for place in 0..workers.up.len() {
                if !probes.owned_by(workers.up[place].pid()).await.is_empty() {
                    owner = Some(place);
                }
            }
            let victim = workers.up.swap_remove(owner.expect("two of them own something"));
            let killed = probes.owned_by(victim.pid()).await.len();
            println!("round {round}: one of {} that owns {killed} is killed", workers.up.len() + 1);
            workers.kill(victim, &mut probes).await;
            probes.settle().await;
            workers.join();
        }
        probes.served();
        let times = probes.times().await;
        println!(
            "takeover p50/max ms after a kill {}, with a live owner {}",
            times.shown(After::Kill),
            times.shown(After::Nothing)
        );
        workers.leave().await;
        assert!(workers.wrong.is_empty(), "{:?}", workers.wrong);
        let times = times.of(After::Kill);
        assert!(times.len() >= ROUNDS, "{times:?}");
        assert!(times.iter().all(|time| *time < LONG_LEASE / 3), "{times:?}");
    });
}
