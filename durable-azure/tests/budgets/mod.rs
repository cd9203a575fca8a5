//! What work costs in storage calls, counted, beside the budgets of the design.
//!
//! A call counts if the work caused it: those that an idle hub makes anyway do not (polls that find nothing,
//! heartbeats; there are none of these here, because leases are long), nor do those of the observer who looks
//! for the end through a store of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use durable_azure::{AzureOptions, AzureStore, Connection};
use durable_core::prelude::*;
use durable_core::{Client, HubName};
use durable_emulator::Emulator;
use futures::stream::{self, StreamExt as _};

/// Polls that find nothing.
const IDLE: &str = "queue_get_empty";

#[activity]
async fn add_one(n: u64) -> Result<u64, ActivityError> {
    Ok(n + 1)
}

/// Takes up to a second: the tenths of it are spread over the calls.
#[activity]
async fn slow(n: u64) -> Result<u64, ActivityError> {
    tokio::time::sleep(Duration::from_millis(n * 7919 % 1000)).await;
    Ok(n)
}

#[orchestrator]
async fn chain(ctx: OrchestrationContext, steps: u64) -> Result<u64, OrchestrationError> {
    let mut n = 0;
    for _ in 0..steps {
        n = ctx.call(add_one, &n).await?;
    }
    Ok(n)
}

#[orchestrator]
async fn fan_out(ctx: OrchestrationContext, width: u64) -> Result<u64, OrchestrationError> {
    let calls = (0..width).map(|n| ctx.call(add_one, &n));
    Ok(ctx.try_join_all(calls).await?.into_iter().sum())
}

#[orchestrator]
async fn slow_fan_out(ctx: OrchestrationContext, width: u64) -> Result<u64, OrchestrationError> {
    let calls = (0..width).map(|n| ctx.call(slow, &n));
    Ok(ctx.try_join_all(calls).await?.into_iter().sum())
}

/// A hub whose worker is the only thing that makes calls through `store`.
struct Counted {
    store: AzureStore,
    worker: Worker,
    /// A client of another process.
    other: AzureStore,
    observer: Client,
}

impl Counted {
    async fn new(emulator: &Emulator, hub: &str) -> Self {
        let connection = Connection::parse(&emulator.connection_string()).expect("valid");
        let options = AzureOptions {
            hub: HubName::new(hub).expect("valid"),
            lease: Duration::from_secs(600),
            ..AzureOptions::default()
        };
        let open = || AzureStore::open(&connection, options.clone());
        let store = open().await.expect("the hub opens");
        let worker = Worker::builder(store.clone())
            .register(chain)
            .register(fan_out)
            .register(slow_fan_out)
            .register(add_one)
            .register(slow)
            .start()
            .await
            .expect("the worker starts");
        let other = open().await.expect("the hub opens");
        let observer = Client::new(open().await.expect("the hub opens"));
        let counted = Self { store, worker, other, observer };
        // What an opening costs is not the work's.
        counted.quiet().await;
        counted
    }

    fn calls(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for store in [&self.store, &self.other] {
            for (kind, n) in store.transactions().iter().filter(|(kind, _)| *kind != IDLE) {
                *sums.entry(kind.to_owned()).or_default() += n;
            }
        }
        sums
    }

    /// Waits until nothing more is done for what has ended.
    async fn quiet(&self) {
        let (mut last, mut since) = (self.calls(), Instant::now());
        while since.elapsed() < Duration::from_millis(700) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = self.calls();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    /// Calls that a piece of work caused.
    async fn cost(&self, what: &str, budget: f64, per: f64, work: impl Future<Output = ()>) {
        let before = self.calls();
        work.await;
        self.quiet().await;
        let spent: BTreeMap<String, u64> = self
            .calls()
            .into_iter()
            .map(|(kind, n)| (kind.clone(), n - before.get(&kind).copied().unwrap_or_default()))
            .filter(|(_, n)| *n > 0)
            .collect();
        let each = spent.values().sum::<u64>() as f64 / per;
        report(what, each, budget, &spent);
        assert!(each <= budget, "{what}: {each} calls, the budget is {budget}: {spent:?}");
    }

    async fn ended(&self, id: &str) {
        let handle = self.observer.instance(id).expect("valid");
        handle.output().await.unwrap_or_else(|error| panic!("{id}: {error}"));
    }
}

#[expect(clippy::print_stderr, reason = "the figures are what the test is for")]
fn report(what: &str, each: f64, budget: f64, spent: &BTreeMap<String, u64>) {
    eprintln!("{what}: {each:.3} calls, budget {budget}: {spent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_five_costs_at_most_seven_calls_and_ten_from_another_process() {
    let emulator = Emulator::start().unwrap();
    let hub = Counted::new(&emulator, "chains").await;
    let client = hub.worker.client();
    let own = async {
        client.start(chain, 5).await.unwrap().output().await.unwrap();
    };
    hub.cost("chain of 5, started by its owner's process", 7.0, 1.0, own).await;
    let named = async {
        client.start(chain, 5).id("named").await.unwrap().output().await.unwrap();
    };
    hub.cost("the same under an id of the caller's", 7.0, 1.0, named).await;
    let other = Client::new(hub.other.clone());
    // What a client asks once, before its first start.
    other.start(chain, 5).id("first").await.unwrap();
    hub.ended("first").await;
    hub.quiet().await;
    let foreign = async {
        other.start(chain, 5).id("foreign").await.unwrap();
        hub.ended("foreign").await;
    };
    hub.cost("chain of 5, started by another process", 10.0, 1.0, foreign).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_out_of_a_hundred_costs_at_most_ten_calls_and_thirty_when_results_trickle_in() {
    let emulator = Emulator::start().unwrap();
    let hub = Counted::new(&emulator, "fans").await;
    let client = hub.worker.client();
    let instant = async {
        client.start(fan_out, 100).await.unwrap().output().await.unwrap();
    };
    hub.cost("fan-out of 100 instant activities", 10.0, 1.0, instant).await;
    let trickling = async {
        client.start(slow_fan_out, 100).await.unwrap().output().await.unwrap();
    };
    hub.cost("fan-out of 100 activities of 0 to 1 s", 30.0, 1.0, trickling).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_many_in_flight_an_activity_costs_at_most_a_tenth_of_a_call() {
    const INSTANCES: u64 = 1_000;
    let emulator = Emulator::start().unwrap();
    let hub = Counted::new(&emulator, "many").await;
    let client = &hub.worker.client();
    let many = async {
        stream::iter(0..INSTANCES)
            .map(|_| async move {
                client.start(chain, 5).await.unwrap().output().await.unwrap();
            })
            .buffer_unordered(200)
            .collect::<Vec<()>>()
            .await;
    };
    hub.cost("an activity at 200 in flight", 0.1, 5.0 * INSTANCES as f64, many).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_a_hundred_small_instances_costs_at_most_six_calls_each_and_eight_from_another_process()
 {
    const INSTANCES: usize = 100;
    let emulator = Emulator::start().unwrap();
    let hub = Counted::new(&emulator, "purges").await;
    let chains = async |prefix: &'static str| {
        let client = &hub.worker.client();
        stream::iter(0..INSTANCES)
            .map(|n| async move {
                let start = client.start(chain, 1).id(format!("{prefix}-{n}"));
                start.await.unwrap().output().await.unwrap();
            })
            .buffer_unordered(50)
            .collect::<Vec<()>>()
            .await;
        hub.quiet().await;
    };
    let purge = async |client: Client, prefix: &str| {
        let purged = client.instances().id_prefix(prefix).purge().await.unwrap();
        assert_eq!(purged.purged, INSTANCES as u64);
    };
    chains("own").await;
    let own = purge(hub.worker.client(), "own");
    hub.cost("purge of 100, by their owner's process, each", 6.0, INSTANCES as f64, own).await;
    chains("other").await;
    let other = purge(Client::new(hub.other.clone()), "other");
    hub.cost("purge of 100, by another process, each", 8.0, INSTANCES as f64, other).await;
    chains("one").await;
    let handle = hub.worker.client().instance("one-7").unwrap();
    let one = async { handle.purge().await.unwrap() };
    hub.cost("purge of one", 14.0, 1.0, one).await;
}

/// An hour at rest, a hundred times as fast: every wait that an option sets is a hundredth of its default.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_hub_costs_at_most_nine_hundred_calls_an_hour() {
    const HASTE: u32 = 100;
    /// What has no option: starts are looked for every five minutes in each of four partitions, and members
    /// and offers are looked at as often.
    const EVERY_FIVE_MINUTES: f64 = 12.0 * 6.0;
    let emulator = Emulator::start().unwrap();
    let connection = Connection::parse(&emulator.connection_string()).unwrap();
    let usual = AzureOptions::default();
    let options = AzureOptions {
        hub: HubName::new("idle").unwrap(),
        lease: usual.lease / HASTE,
        idle_poll_max: usual.idle_poll_max / HASTE,
        ..usual
    };
    let store = AzureStore::open(&connection, options).await.unwrap();
    let worker =
        Worker::builder(store.clone()).register(chain).register(add_one).start().await.unwrap();
    // Until the polls have backed off.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before: u64 = store.transactions().iter().map(|(_, n)| n).sum();
    let kinds = store.transactions();
    tokio::time::sleep(Duration::from_secs(3600) / HASTE).await;
    let after: u64 = store.transactions().iter().map(|(_, n)| n).sum();
    let spent: BTreeMap<String, u64> = store
        .transactions()
        .iter()
        .map(|(kind, n)| (kind.to_owned(), n - kinds.of(kind)))
        .filter(|(_, n)| *n > 0)
        .collect();
    let hour = (after - before) as f64 + EVERY_FIVE_MINUTES;
    report("an idle hour", hour, 900.0, &spent);
    assert!(hour <= 900.0, "{hour} calls in an idle hour: {spent:?}");
    assert!(spent.contains_key(IDLE), "it polls: {spent:?}");
    worker.shutdown().await.unwrap();
}
