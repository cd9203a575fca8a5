//! What the workers run.

use std::time::Duration;

use durable_core::prelude::*;
use serde::{Deserialize, Serialize};

use super::journal::Evidence;
use super::random::Random;

/// An instance, as its client meant it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Story {
    /// One activity after another.
    Chain(Vec<Job>),
    /// Activities at once.
    Fan(Vec<Job>),
    /// Waits for so many events.
    Collect { count: usize },
    /// Works, then sends events to another instance.
    Send { to: String, values: Vec<String>, job: Job },
    /// Sleeps.
    Nap { millis: u64 },
    /// Does nothing at all: shows that a partition is served.
    Probe,
}

/// What one activity has to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Job {
    value: u64,
    millis: u64,
    /// So many first attempts fail.
    fails: u32,
}

impl Job {
    fn drawn(random: &mut Random, value: u64) -> Self {
        let millis = if random.percent(30) { random.within(10, 300) } else { 0 };
        let fails = if random.percent(10) { 1 } else { 0 };
        Self { value, millis, fails }
    }
}

impl Story {
    pub(super) fn chain(random: &mut Random) -> Self {
        Self::Chain((1..=5).map(|value| Job::drawn(random, value)).collect())
    }

    pub(super) fn fan(random: &mut Random) -> Self {
        Self::Fan((1..=20).map(|value| Job::drawn(random, value)).collect())
    }

    /// One activity whose first attempts fail.
    pub(super) fn retry(random: &mut Random) -> Self {
        let fails = u32::try_from(random.within(1, 3)).expect("small");
        Self::Chain(vec![Job { fails, ..Job::drawn(random, 1) }])
    }

    pub(super) fn nap(random: &mut Random) -> Self {
        Self::Nap { millis: random.within(200, 3000) }
    }

    pub(super) fn send(random: &mut Random, to: String, values: Vec<String>) -> Self {
        Self::Send { to, values, job: Job::drawn(random, 1) }
    }

    /// The activities that it runs, by call number.
    pub(super) fn jobs(&self) -> &[Job] {
        match self {
            Self::Chain(jobs) | Self::Fan(jobs) => jobs,
            Self::Send { job, .. } => std::slice::from_ref(job),
            Self::Collect { .. } | Self::Nap { .. } | Self::Probe => &[],
        }
    }
}

impl Job {
    /// The result of a body that ran with this.
    pub(super) fn is_done_by(&self, done: &Done) -> bool {
        done.value == self.value && done.attempt > self.fails
    }
}

/// The result of an activity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) value: u64,
    pub(super) attempt: u32,
    pub(super) token: String,
}

#[activity]
async fn work(
    ctx: ActivityContext,
    State(evidence): State<Evidence>,
    job: Job,
) -> Result<Done, ActivityError> {
    let token = evidence.note(&ctx);
    if job.millis > 0 {
        tokio::time::sleep(millis(job.millis)).await;
    }
    if ctx.attempt() <= job.fails {
        return Err(ActivityError::new("Busy", "the first attempts fail"));
    }
    Ok(Done { value: job.value, attempt: ctx.attempt(), token })
}

fn policy() -> RetryPolicy {
    RetryPolicy::fixed(millis(50)).attempts(0)
}

#[orchestrator]
pub(super) async fn chain(
    ctx: OrchestrationContext,
    jobs: Vec<Job>,
) -> Result<Vec<Done>, OrchestrationError> {
    let mut done = Vec::new();
    for job in &jobs {
        done.push(ctx.call(work, job).retry(policy()).await?);
    }
    Ok(done)
}

#[orchestrator]
pub(super) async fn fan(
    ctx: OrchestrationContext,
    jobs: Vec<Job>,
) -> Result<Vec<Done>, OrchestrationError> {
    let calls = jobs.iter().map(|job| ctx.call(work, job).retry(policy()));
    Ok(ctx.try_join_all(calls).await?)
}

#[orchestrator]
pub(super) async fn collect(
    ctx: OrchestrationContext,
    count: usize,
) -> Result<Vec<String>, OrchestrationError> {
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(ctx.wait_event::<String>(EVENT).await?);
    }
    Ok(values)
}

#[orchestrator]
pub(super) async fn send(
    ctx: OrchestrationContext,
    (to, values, job): (String, Vec<String>, Job),
) -> Result<Vec<Done>, OrchestrationError> {
    let done = ctx.call(work, &job).retry(policy()).await?;
    for value in &values {
        ctx.raise_event(to.as_str(), EVENT, value)?;
    }
    Ok(vec![done])
}

/// Returns how long it slept on the hub's clock, in microseconds.
#[orchestrator]
pub(super) async fn nap(ctx: OrchestrationContext, length: u64) -> Result<u64, OrchestrationError> {
    let before = ctx.now();
    ctx.sleep(millis(length)).await;
    let slept = (ctx.now() - before).to_std().unwrap_or(Duration::ZERO);
    Ok(u64::try_from(slept.as_micros()).unwrap_or(u64::MAX))
}

#[orchestrator]
pub(super) async fn probe(_ctx: OrchestrationContext, _: ()) -> Result<(), OrchestrationError> {
    Ok(())
}

/// The name of every event.
pub(super) const EVENT: &str = "n";

pub(super) fn registry(evidence: Evidence) -> Registry {
    let mut registry = Registry::new();
    registry.register(chain).register(fan).register(collect).register(send);
    registry.register(nap).register(probe).register(work).state(evidence);
    registry
}

/// Starts the instance of a story.
pub(super) async fn start(
    client: &Client,
    id: &InstanceId,
    story: &Story,
) -> Result<Handle<Payload>, ClientError> {
    fn by_name<I: Serialize>(
        client: &Client,
        name: &str,
        input: &I,
    ) -> durable_core::Start<Payload> {
        client.start_by_name(name, input)
    }
    let start = match story {
        Story::Chain(jobs) => by_name(client, chain::NAME, jobs),
        Story::Fan(jobs) => by_name(client, fan::NAME, jobs),
        Story::Collect { count } => by_name(client, collect::NAME, count),
        Story::Send { to, values, job } => by_name(client, send::NAME, &(to, values, job)),
        Story::Nap { millis } => by_name(client, nap::NAME, millis),
        Story::Probe => by_name(client, probe::NAME, &()),
    };
    start.id(id).await
}
