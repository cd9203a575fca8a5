//! A bound on how many activities run at once. The rest waits in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::executor::{Job, Report};
use super::mailbox::Mailbox;
use crate::telemetry;

/// Each lane is a task that takes the next job when one is done.
pub(super) struct Lanes {
    state: Mutex<State>,
    max: usize,
}

#[derive(Default)]
struct State {
    busy: usize,
    waiting: VecDeque<Waiting>,
}

/// A job without a lane.
pub(super) struct Waiting {
    pub(super) job: Job,
    since: Instant,
}

impl Lanes {
    pub(super) fn new(max: usize) -> Self {
        Self { state: Mutex::new(State::default()), max }
    }

    /// A lane for the job, or a place in the queue.
    pub(super) fn enter(&self, job: Job) -> Option<Job> {
        let mut state = self.state();
        if state.busy < self.max {
            state.busy += 1;
            Some(job)
        } else {
            state.waiting.push_back(Waiting { job, since: Instant::now() });
            metrics::gauge!(telemetry::ACTIVITIES_WAITING).increment(1);
            None
        }
    }

    /// The next job of a lane whose last one is done; `None` gives the lane up.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.busy -= 1;
        } else {
            metrics::gauge!(telemetry::ACTIVITIES_WAITING).decrement(1);
        }
        next.map(|waiting| waiting.job)
    }

    /// Takes what waits.
    pub(super) fn clear(&self) -> Vec<Job> {
        self.take_if(|_| true)
    }

    /// Takes what waits and reports to this loop.
    pub(super) fn forget(&self, mailbox: &Arc<Mailbox>) -> Vec<Job> {
        self.take_if(|job| matches!(&job.report, Report::Loop(to) if Arc::ptr_eq(to, mailbox)))
    }

    /// Takes what waits and was cancelled.
    pub(super) fn cancelled(&self) -> Vec<Job> {
        self.take_if(|job| job.context.is_cancelled())
    }

    fn take_if(&self, wanted: impl Fn(&Job) -> bool) -> Vec<Job> {
        let mut state = self.state();
        let (taken, kept) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| wanted(&waiting.job));
        state.waiting = kept;
        #[allow(clippy::cast_precision_loss, reason = "a gauge shows magnitudes")]
        metrics::gauge!(telemetry::ACTIVITIES_WAITING).decrement(taken.len() as f64);
        taken.into_iter().map(|waiting| waiting.job).collect()
    }

    /// Takes the oldest jobs of this worker's own partitions that have waited for so long.
    pub(super) fn overdue(&self, limit: Duration, max: usize) -> Vec<Waiting> {
        let mut state = self.state();
        let (mut overdue, mut others) = (Vec::new(), Vec::new());
        while overdue.len() < max
            && state.waiting.front().is_some_and(|waiting| waiting.since.elapsed() >= limit)
            && let Some(waiting) = state.waiting.pop_front()
        {
            match waiting.job.report {
                Report::Loop(_) => overdue.push(waiting),
                Report::Taker(_) => others.push(waiting),
            }
        }
        for waiting in others.into_iter().rev() {
            state.waiting.push_front(waiting);
        }
        #[allow(clippy::cast_precision_loss, reason = "a gauge shows magnitudes")]
        metrics::gauge!(telemetry::ACTIVITIES_WAITING).decrement(overdue.len() as f64);
        overdue
    }

    /// Puts jobs back to the front of the queue, but for those that get a lane that has become free.
    pub(super) fn put_back(&self, jobs: Vec<Waiting>) -> Vec<Job> {
        let mut state = self.state();
        for waiting in jobs.into_iter().rev() {
            metrics::gauge!(telemetry::ACTIVITIES_WAITING).increment(1);
            state.waiting.push_front(waiting);
        }
        let mut started = Vec::new();
        while state.busy < self.max
            && let Some(waiting) = state.waiting.pop_front()
        {
            metrics::gauge!(telemetry::ACTIVITIES_WAITING).decrement(1);
            state.busy += 1;
            started.push(waiting.job);
        }
        started
    }

    /// Free lanes; none while something waits.
    pub(super) fn free(&self) -> usize {
        let state = self.state();
        if state.waiting.is_empty() { self.max - state.busy } else { 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
