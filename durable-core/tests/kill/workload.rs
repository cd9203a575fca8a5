//! What the worker runs, and what the clients ask of it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use durable_core::prelude::*;
use durable_core::{HoldReason, RunNumber, StoreError};
use futures::stream::{self, StreamExt};
use tokio::sync::watch;

use super::Random;

pub(super) const CLIENTS: u64 = 3;

/// Lines of the activities' bodies that ran; each is one write at the file's end.
#[derive(Clone)]
pub(super) struct Journal(Arc<File>);

impl Journal {
    pub(super) fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Self(Arc::new(file.expect("the journal opens")))
    }

    fn note(&self, ctx: &ActivityContext) {
        let line = format!("{}\t{}\t{}\n", ctx.instance_id(), ctx.run(), ctx.call());
        (&*self.0).write_all(line.as_bytes()).expect("the journal is written");
    }

    /// Instance, run and call of each body that ran.
    pub(super) fn lines(path: &Path) -> Vec<(String, String, String)> {
        let text = std::fs::read_to_string(path).expect("the journal is read");
        text.lines()
            .map(|line| {
                let mut parts = line.split('\t').map(str::to_owned);
                let mut part = || parts.next().unwrap_or_else(|| panic!("a torn line {line:?}"));
                (part(), part(), part())
            })
            .collect()
    }
}

#[activity]
async fn add(
    ctx: ActivityContext,
    State(journal): State<Journal>,
    (a, b): (u64, u64),
) -> Result<u64, ActivityError> {
    journal.note(&ctx);
    if (a + b) % 3 == 0 && ctx.attempt() == 1 {
        return Err(ActivityError::new("Busy", "every third sum needs two attempts"));
    }
    Ok(a + b)
}

/// Adds 1 as many times as it is told, with short sleeps between.
#[orchestrator]
async fn chain(ctx: OrchestrationContext, length: u64) -> Result<u64, OrchestrationError> {
    let policy = RetryPolicy::fixed(millis(3)).attempts(0);
    let mut sum = 0;
    for step in 0..length {
        sum = ctx.call(add, &(sum, 1)).retry(policy.clone()).await?;
        if step % 2 == 0 {
            ctx.sleep(millis(5)).await;
        }
    }
    Ok(sum)
}

#[orchestrator]
async fn fan(ctx: OrchestrationContext, width: u64) -> Result<u64, OrchestrationError> {
    let policy = RetryPolicy::fixed(millis(3)).attempts(0);
    let calls = (0..width).map(|n| ctx.call(add, &(n, 0)).retry(policy.clone()));
    Ok(ctx.try_join_all(calls).await?.into_iter().sum())
}

/// Collects as many events as it is told, in their order.
#[orchestrator]
async fn collect(ctx: OrchestrationContext, count: u64) -> Result<Vec<u64>, OrchestrationError> {
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(ctx.wait_event::<u64>("n").await?);
    }
    Ok(values)
}

pub(super) fn registry(journal: Journal) -> Registry {
    let mut registry = Registry::new();
    registry.register(chain).register(fan).register(collect).register(add).state(journal);
    registry
}

/// A start that was accepted, and the events that its instance accepted.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) id: InstanceId,
    pub(super) run: Option<RunNumber>,
    pub(super) expected: Expected,
    /// A later run has the id, so only the later one can be looked at.
    pub(super) replaced: bool,
    pub(super) events: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    Sum(u64),
    /// As many of the accepted events.
    Events(usize),
}

/// One client: starts and raises until it is told to stop, and says what was accepted.
pub(super) async fn drive(
    client: Client,
    number: u64,
    seed: u64,
    stopped: watch::Receiver<bool>,
) -> Vec<Told> {
    let mut random = Random((seed ^ (number + 1)).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut told: Vec<Told> = Vec::new();
    let mut next = 0_u64;
    while !*stopped.borrow() {
        next += 1;
        match random.below(5) {
            0 => {
                let length = 1 + random.below(6);
                let id = format!("chain-{number}-{next}");
                told.push(start(&client, chain, length, id, Expected::Sum(length)).await);
            }
            1 => {
                let width = 1 + random.below(20);
                let sum = (0..width).sum();
                let id = format!("fan-{number}-{next}");
                told.push(start(&client, fan, width, id, Expected::Sum(sum)).await);
            }
            2 => {
                let count = random.below(4);
                let expected = Expected::Events(usize::try_from(count).expect("small"));
                let id = format!("collect-{number}-{next}");
                told.push(start(&client, collect, count, id, expected).await);
            }
            3 => reuse(&client, number, &mut told).await,
            _ => {}
        }
        // Some event for somebody, under an id of its own: repeated until it is answered.
        let collecting: Vec<usize> = told
            .iter()
            .enumerate()
            .filter(|(_, told)| matches!(told.expected, Expected::Events(_)) && !told.replaced)
            .map(|(place, _)| place)
            .collect();
        if !collecting.is_empty() {
            let pick = usize::try_from(random.below(collecting.len() as u64)).expect("small");
            let told = &mut told[collecting[pick]];
            if raise(&client, told, next).await {
                told.events.push(next);
            }
        }
        tokio::time::sleep(millis(random.below(20))).await;
    }
    told
}

async fn start<O: Orchestrator + Copy>(
    client: &Client,
    orchestrator: O,
    input: O::Input,
    id: String,
    expected: Expected,
) -> Told
where
    O::Input: Clone,
{
    let id = InstanceId::new(id).expect("a valid id");
    loop {
        match client.start(orchestrator, input.clone()).id(&id).await {
            Ok(handle) => {
                return Told { id, run: handle.run(), expected, replaced: false, events: vec![] };
            }
            Err(error) => assert!(passes(&error), "the start of {id}: {error}"),
        }
    }
}

/// Starts one id anew, if its last run has ended.
async fn reuse(client: &Client, number: u64, told: &mut Vec<Told>) {
    let id = InstanceId::new(format!("again-{number}")).expect("a valid id");
    match client.start(chain, 2).id(&id).await {
        Ok(handle) => {
            for earlier in told.iter_mut().filter(|told| told.id == id) {
                earlier.replaced = true;
            }
            let (run, expected) = (handle.run(), Expected::Sum(2));
            told.push(Told { id, run, expected, replaced: false, events: vec![] });
        }
        Err(ClientError::Active { .. }) => {}
        Err(error) => assert!(passes(&error), "{error}"),
    }
}

/// Whether the event was accepted.
async fn raise(client: &Client, told: &Told, value: u64) -> bool {
    let handle = client.instance(&told.id).expect("valid");
    loop {
        match handle.raise_event("n", &value).id(value.to_string()).await {
            Ok(()) => return true,
            Err(ClientError::Ended { .. }) => return false,
            Err(error) => assert!(passes(&error), "event {value} for {}: {error}", told.id),
        }
    }
}

/// An answer after which nothing was taken: it can be asked again.
fn passes(error: &ClientError) -> bool {
    matches!(error, ClientError::Store(StoreError::Busy { .. }))
}

/// Gives every instance what it waits for, and waits for its end.
///
/// A worker that died several times before it had taken up all work loads one instance after another, and
/// holds the one at which it dies again: here that is mere chance, and a resume lets it go on.
pub(super) async fn end(client: &Client, told: &[Told]) {
    stream::iter(told.iter().filter(|told| !told.replaced))
        .for_each_concurrent(32, |told| async move {
            let handle = client.instance(&told.id).expect("valid");
            if let Expected::Events(count) = told.expected {
                for filler in told.events.len()..count {
                    let name = format!("filler-{filler}");
                    let raised = handle.raise_event("n", &0_u64).id(name).await;
                    assert!(raised.is_ok(), "{}: {raised:?}", told.id);
                }
            }
            let mut watched = std::pin::pin!(handle.watch());
            while let Some(status) = watched.next().await {
                let status = status.expect("the status is read");
                if let Some(hold) = status.hold() {
                    assert_eq!(hold.reason, HoldReason::KilledProcess, "{hold:?}");
                    handle.resume("it was not its fault").await.expect("accepted");
                }
            }
        })
        .await;
}
