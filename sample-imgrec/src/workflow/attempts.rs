//! Steps whose attempts can be watched.

use std::sync::atomic::{AtomicU32, Ordering};

use durable_core::Call;
use durable_core::machine::model::{Attempt, Timestamp};
use durable_core::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::report::Step;

/// What the work on a picture shows while it goes on: its custom status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The step that began last; others may be under way beside it.
    pub step: Step,
    /// Which attempt of it this is, from 1.
    pub attempt: u32,
    /// Why the attempt before failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// How often a step may be lost with its process, beyond what the policy allows.
///
/// Whoever kills the program again and again does not make a picture fail; one that takes the process down each time
/// does fail in the end.
const LOST_MAX: u32 = 20;

/// Runs the steps of one picture and counts how often they are tried.
///
/// `ctx.call(…).retry(policy)` tries again just as well, inside the engine and out of sight. Here each attempt is to be
/// seen by whoever watches, so it is a call of its own and the pause between two is a durable timer.
#[derive(Debug)]
pub struct Attempts {
    ctx: OrchestrationContext,
    most: AtomicU32,
}

impl Attempts {
    /// For the orchestration of this context.
    pub fn new(ctx: &OrchestrationContext) -> Self {
        Self { ctx: ctx.clone(), most: AtomicU32::new(0) }
    }

    /// How often the step that was tried most was tried.
    pub fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed)
    }

    /// Makes a call until it succeeds, or the policy says that it is enough.
    ///
    /// # Errors
    /// That of the last attempt.
    pub async fn of<T: DeserializeOwned>(
        &self,
        step: Step,
        policy: RetryPolicy,
        call: impl Fn() -> Call<T>,
    ) -> Result<T, CallError> {
        let (mut failed, mut lost) = (0, 0);
        let mut last_error = None;
        loop {
            let attempt = failed + lost + 1;
            self.most.fetch_max(attempt, Ordering::Relaxed);
            self.ctx.set_custom_status(&Progress { step, attempt, last_error })?;
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            last_error = Some(shortened(error.message()));
            if error.class() == FailureClass::WorkerLost && lost < LOST_MAX {
                lost += 1;
                continue;
            }
            failed += 1;
            match pause(&policy, failed, &error, self.ctx.random()) {
                Some(pause) => self.ctx.sleep(pause).await,
                None => return Err(error),
            }
        }
    }
}

fn pause(policy: &RetryPolicy, failed: u32, error: &CallError, random: f64) -> Option<Duration> {
    let now = Timestamp::from_micros(0);
    let next = policy.next_attempt(Attempt(failed), error.failure(), now, now, random)?;
    Some(next.since(now))
}

/// A custom status has to stay small, whatever a path in a message looks like.
fn shortened(message: &str) -> String {
    const CHARS_MAX: usize = 1000;
    message.chars().take(CHARS_MAX).collect()
}
