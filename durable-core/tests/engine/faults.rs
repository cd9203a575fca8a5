//! Storage that fails, loses answers, or whose process dies: at every single call of a scenario, and at
//! random ones. What was accepted is not lost, and the outcome is the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use durable_core::prelude::*;
use durable_core::{EventKind, InstanceStatus, StoreError};
use futures::stream::{self, StreamExt};

use super::faulty::Fault;
use super::hub::{Hub, PATIENCE, tell, until};

/// Scenarios that are told at the same time.
const AT_ONCE: usize = 8;

/// Bodies of activities that ran, by instance and name.
#[derive(Clone, Default)]
struct Bodies(Arc<Mutex<BTreeMap<String, u32>>>);

#[activity]
async fn flaky(ctx: ActivityContext, State(bodies): State<Bodies>) -> Result<u32, ActivityError> {
    let name = format!("{} {}", ctx.instance_id(), ctx.call());
    *bodies.0.lock().expect("no panic here").entry(name).or_default() += 1;
    if ctx.attempt() == 1 {
        return Err(ActivityError::new("Busy", "the first attempt always fails"));
    }
    Ok(1)
}

#[orchestrator]
async fn chain(ctx: OrchestrationContext, length: u32) -> Result<u32, OrchestrationError> {
    let policy = RetryPolicy::fixed(millis(1)).attempts(4);
    let mut sum = 0;
    for _ in 0..length {
        sum += ctx.call(flaky, &()).retry(policy.clone()).await?;
        ctx.sleep(millis(1)).await;
    }
    Ok(sum)
}

#[orchestrator]
async fn approval(ctx: OrchestrationContext, events: u32) -> Result<Vec<u32>, OrchestrationError> {
    let mut values = Vec::new();
    for _ in 0..events {
        values.push(ctx.wait_event("n").await?);
    }
    Ok(values)
}

#[orchestrator]
async fn monitor(ctx: OrchestrationContext) -> Result<(), OrchestrationError> {
    ctx.sleep(days(400)).await;
    Ok(())
}

/// A hub that always has a worker: one that died or ended is followed by the next.
struct Supervised {
    hub: Hub,
    bodies: Bodies,
    worker: Option<Worker>,
    outside: Client,
}

impl Supervised {
    async fn new(hub: Hub) -> Self {
        let outside = hub.outside().await;
        Self { hub, bodies: Bodies::default(), worker: None, outside }
    }

    async fn client(&mut self) -> Client {
        let end = Instant::now() + PATIENCE;
        loop {
            if self.hub.faults.dead() {
                self.worker = None;
            }
            if let Some(worker) = &self.worker {
                let ended = tokio::time::timeout(Duration::ZERO, worker.ended()).await;
                if ended.is_err() {
                    return worker.client();
                }
                self.worker = None;
            }
            let mut registry = Registry::new();
            registry.register(chain).register(approval).register(monitor).register(flaky);
            registry.state(self.bodies.clone());
            let faults = self.hub.faults.clone();
            let start = self.hub.builder(registry).start();
            let died = until("its process dies", || async { faults.dead() });
            let started = tokio::select! {
                started = start => started,
                () = died => continue,
            };
            match started {
                Ok(worker) => self.worker = Some(worker),
                Err(error) => assert!(Instant::now() < end, "no worker starts: {error}"),
            }
        }
    }

    /// A caller dies with its process.
    async fn while_alive<T>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let died = until("the call is answered", || async { self.hub.faults.dead() });
        tokio::select! {
            answered = call => answered,
            () = died => Err(ClientError::Unanswered),
        }
    }

    /// Starts until the start is known to be accepted.
    async fn start<O>(&mut self, orchestrator: O, input: O::Input, id: &str)
    where
        O: Orchestrator + Copy,
        O::Input: Clone,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            let client = self.client().await;
            let start = client.start(orchestrator, input.clone()).id(id).use_existing();
            match self.while_alive(start.into_future()).await {
                Ok(_) => return,
                Err(error) => assert!(in_doubt(&error), "the start of {id}: {error}"),
            }
            if self.status(id).await.is_some() {
                return;
            }
            assert!(Instant::now() < end, "{id} is not accepted");
        }
    }

    /// Sends until it is known to be taken.
    async fn send<F, Fut>(&mut self, id: &str, send: F)
    where
        F: Fn(Handle<Payload>) -> Fut,
        Fut: Future<Output = Result<(), ClientError>>,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            let client = self.client().await;
            let sent = send(client.instance(id).expect("valid"));
            match self.while_alive(sent).await {
                Ok(()) | Err(ClientError::Ended { .. }) => return,
                Err(error) => assert!(in_doubt(&error), "{id}: {error}"),
            }
            assert!(Instant::now() < end, "{id} is not reached");
        }
    }

    async fn status(&self, id: &str) -> Option<InstanceStatus> {
        self.outside.status(&InstanceId::new(id).expect("valid")).await.expect("reads go on")
    }

    async fn end_of(&mut self, id: &str) -> InstanceStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            self.client().await;
            let status = self.status(id).await;
            if let Some(status) = status.as_ref().filter(|status| status.has_ended()) {
                return status.clone();
            }
            assert!(Instant::now() < end, "{id} does not end: {status:?}");
            tokio::time::sleep(millis(2)).await;
        }
    }

    /// One terminal event, the last one, that agrees with the status; times in order.
    async fn check_history(&self, status: &InstanceStatus) {
        let history = self.outside.history(status.id()).await.expect("read").expect("there");
        let events = history.events();
        let terminal: Vec<_> = events.iter().filter(|event| event.is.is_terminal()).collect();
        assert_eq!(terminal.len(), 1, "{events:?}");
        assert!(events.last().is_some_and(|last| last.is.is_terminal()), "{events:?}");
        assert!(events.is_sorted_by_key(|event| event.at), "{events:?}");
        let agrees = match &terminal[0].is {
            EventKind::ExecutionCompleted { .. } => RuntimeStatus::Completed,
            EventKind::ExecutionTerminated { .. } => RuntimeStatus::Terminated,
            _ => RuntimeStatus::Failed,
        };
        assert_eq!(agrees, status.runtime_status());
    }
}

fn in_doubt(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Unanswered
            | ClientError::Overloaded
            | ClientError::Store(
                StoreError::Unknown(_) | StoreError::Busy { .. } | StoreError::Fenced { .. }
            )
    )
}

/// A chain with retries and timers, two events, and a termination, under the faults of the hub.
async fn scenario(hub: Hub, name: String) -> u64 {
    let told = tokio::time::timeout(PATIENCE * 2, tell_scenario(hub, name.clone())).await;
    told.unwrap_or_else(|_| panic!("{name}: it does not end"))
}

async fn tell_scenario(hub: Hub, name: String) -> u64 {
    let mut hub = Supervised::new(hub).await;
    hub.start(chain, 2, "chain").await;
    hub.start(approval, 2, "approval").await;
    hub.start(monitor, (), "monitor").await;
    for n in [1_u32, 2] {
        let id = format!("event-{n}");
        hub.send("approval", |handle| {
            let id = id.clone();
            async move { handle.raise_event("n", &n).id(id).await }
        })
        .await;
    }
    hub.send("monitor", |handle| async move { handle.terminate("enough").await }).await;
    let chained = hub.end_of("chain").await;
    let approved = hub.end_of("approval").await;
    let terminated = hub.end_of("monitor").await;
    let calls = hub.hub.faults.calls();
    hub.hub.faults.heal();

    assert_eq!(chained.output::<u32>().expect("a number"), Some(2), "{name}: {chained:?}");
    assert_eq!(approved.output::<Vec<u32>>().expect("numbers"), Some(vec![1, 2]), "{name}");
    assert!(approved.unconsumed().is_empty(), "{name}: {approved:?}");
    assert_eq!(terminated.output::<String>().expect("a text").as_deref(), Some("enough"), "{name}");
    for status in [&chained, &approved, &terminated] {
        hub.check_history(status).await;
    }
    let counts = hub.outside.counts().await.expect("read");
    let expected = [(RuntimeStatus::Completed, 2), (RuntimeStatus::Terminated, 1)];
    assert_eq!(counts, expected.into_iter().collect(), "{name}");
    let bodies = hub.bodies.0.lock().expect("no panic here").clone();
    assert!(bodies.len() == 2 && bodies.values().all(|runs| *runs >= 2), "{name}: {bodies:?}");
    calls
}

async fn every_call_fails_once(make: fn() -> Hub) {
    let counted = make();
    counted.faults.plan(|_, _| None);
    let calls = scenario(counted, "without faults".into()).await;
    assert!(calls >= 10, "a scenario of {calls} calls shows nothing");
    let ways = [Fault::Busy, Fault::LostBefore, Fault::LostAfter, Fault::Fenced, Fault::Dies];
    let cases = ways.into_iter().flat_map(|fault| (1..=calls).map(move |k| (fault, k)));
    let injected = stream::iter(cases)
        .map(|(fault, k)| async move {
            let hub = make();
            let faults = hub.faults.clone();
            faults.plan(move |number, _| (number == k).then_some(fault));
            scenario(hub, format!("{fault:?} at call {k}")).await;
            faults.injected()
        })
        .buffer_unordered(AT_ONCE)
        .fold(0, |sum, injected| async move { sum + injected })
        .await;
    // A busy moment may make the groups larger and the calls fewer.
    assert!(injected >= calls * 4, "{injected} faults were injected");
}

async fn random_calls_fail(make: fn() -> Hub) {
    stream::iter(0..12_u64)
        .map(|seed| async move {
            let hub = make();
            let mut deaths = 0;
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
            hub.faults.plan(move |number, _| {
                // xorshift64: enough to spread faults.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let fault = match random % 40 {
                    0 | 1 => Fault::Busy,
                    2 => Fault::LostBefore,
                    3 => Fault::LostAfter,
                    // Whatever kills three processes in a row is held, rightly.
                    4 if deaths < 2 => {
                        deaths += 1;
                        Fault::Dies
                    }
                    _ => return None,
                };
                (number < 150).then_some(fault)
            });
            scenario(hub, format!("seed {seed}")).await;
        })
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

mod one_scenario_survives_a_fault_at_each_of_its_calls {
    use super::*;

    #[test]
    fn memory() {
        tell(Hub::in_memory(), |_| every_call_fails_once(Hub::in_memory));
    }

    #[test]
    fn sqlite() {
        tell(Hub::in_memory(), |_| every_call_fails_once(Hub::in_a_file));
    }
}

mod one_scenario_survives_faults_at_random_calls {
    use super::*;

    #[test]
    fn memory() {
        tell(Hub::in_memory(), |_| random_calls_fail(Hub::in_memory));
    }

    #[test]
    fn sqlite() {
        tell(Hub::in_memory(), |_| random_calls_fail(Hub::in_a_file));
    }
}

#[test]
fn a_full_disk_refuses_starts_keeps_reading_and_work_resumes_by_itself() {
    tell(Hub::in_a_file(), |hub: Hub| async move {
        let mut registry = Registry::new();
        registry.register(approval);
        let worker = hub.worker(registry).await;
        let client = worker.client();
        let waiting = client.start(approval, 1).id("waiting").await.expect("started");
        super::hub::until_is(&client, "waiting", RuntimeStatus::Running).await;
        hub.faults.plan(|_, method| {
            matches!(method, "commit" | "accept" | "send").then_some(Fault::Full)
        });
        // The first one may wait for the commit that finds out.
        let first = tokio::spawn({
            let waiting = client.instance("waiting").expect("valid");
            async move { waiting.raise_event("n", &1).id("kept").await }
        });
        until("the worker has met the full disk", || async {
            let start = client.start(approval, 1);
            match tokio::time::timeout(secs(3), start).await {
                Ok(Err(error)) => {
                    assert!(error.to_string().contains("disk full"), "{error}");
                    true
                }
                Ok(Ok(_)) => panic!("nothing can be started"),
                Err(_) => false,
            }
        })
        .await;
        let since = Instant::now();
        let error = client.start(approval, 1).await.expect_err("the disk is full");
        assert!(error.to_string().contains("disk full"), "{error}");
        assert!(since.elapsed() < secs(1), "refused at once");
        let status = waiting.status().await.expect("reads go on");
        assert_eq!(status.runtime_status(), RuntimeStatus::Running);
        assert_eq!(waiting.history().await.expect("reads go on").events().len(), 1);
        hub.faults.heal();
        let _ = tokio::time::timeout(PATIENCE, first).await.expect("it is answered");
        waiting.raise_event("n", &1).id("kept").await.or_else(ended).expect("work resumes");
        assert_eq!(waiting.output_within(PATIENCE).await.expect("completed"), [1]);
        let next = client.start(approval, 0).await.expect("starts are taken again");
        next.output_within(PATIENCE).await.expect("completed");
    });
}

fn ended(error: ClientError) -> Result<(), ClientError> {
    if matches!(error, ClientError::Ended { .. }) { Ok(()) } else { Err(error) }
}

#[test]
fn due_times_that_cannot_be_read_yet_are_read_later() {
    tell(Hub::in_memory(), |hub: Hub| async move {
        let opened = Arc::new(Mutex::new(0));
        let (opens, mut reads) = (opened.clone(), 0);
        hub.faults.plan(move |_, method| {
            *opens.lock().expect("no panic here") += u32::from(method == "open");
            reads += u32::from(method == "timers");
            (method == "timers" && reads <= 5).then_some(Fault::Busy)
        });
        let mut registry = Registry::new();
        registry.register_orchestrator_fn("sleeps", |ctx, (): ()| async move {
            ctx.sleep(millis(5)).await;
            Ok(())
        });
        let worker = hub.worker(registry).await;
        let handle = worker.client().start_by_name("sleeps", &()).await.expect("started");
        handle.output_within(PATIENCE).await.expect("completed");
        until("they are read", || async { hub.faults.injected() == 5 }).await;
        worker.shutdown().await.expect("a clean end");
        assert_eq!(*opened.lock().expect("no panic here"), 1, "its memory is kept");
    });
}
