//! Calls of the store, as futures that the loop polls: reads, and one commit at a time.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use durable_machine::model::{CommitNumber, ExecutionKey, InstanceId};
use durable_machine::partition::Input;
use durable_machine::store::{AcceptedStart, Arrivals, Commit};
use futures::stream::StreamExt;

use super::effects::input_of;
use super::{Done, Driver, Exit, TimersAfter};
use crate::store::StoreError;
use crate::telemetry;

/// Starts and commands read in one go.
const ARRIVAL_PAGE: usize = 500;

/// Due times read in one go.
const TIMER_PAGE: usize = 1000;

/// Commits that are made before the loop looks at its mail again: an orchestrator that continues as new
/// without end always has another one.
const COMMITS_A_PASS: usize = 64;

/// How long to wait before a read that failed is tried again.
const READ_AGAIN: Duration = Duration::from_millis(200);

impl Driver {
    pub(super) fn poll_store(&mut self) -> Result<(), Exit> {
        let shared = self.shared.clone();
        loop {
            let polled = {
                // Stores may use the runtime's clock and sockets; orchestrators may not.
                let _entered = shared.runtime.enter();
                let mut task = Context::from_waker(&self.waker);
                self.store_calls.poll_next_unpin(&mut task)
            };
            match polled {
                Poll::Ready(Some(done)) => self.store_answered(done)?,
                Poll::Ready(None) | Poll::Pending => return Ok(()),
            }
        }
    }

    fn store_answered(&mut self, done: Done) -> Result<(), Exit> {
        let now = self.now();
        match done {
            Done::Loaded(instance, Ok(found)) => {
                self.partition.handle(now, Input::Loaded { instance, found: Ok(found) });
            }
            Done::Loaded(instance, Err(StoreError::Corrupt { source, key })) => {
                tracing::error!(%instance, key, error = %source, "a row cannot be read");
                self.partition.handle(now, Input::Loaded { instance, found: Err(source) });
            }
            Done::Loaded(instance, Err(error)) => {
                let after = self.read_failed("an instance", &error)?;
                self.load(instance, after);
            }
            Done::History(key, Ok(found)) => {
                let found = Ok(found.unwrap_or_default());
                self.partition.handle(now, Input::HistoryLoaded { key, found });
            }
            Done::History(key, Err(StoreError::Corrupt { source, key: row })) => {
                tracing::error!(instance = %key.instance, row, error = %source, "a row cannot be read");
                self.partition.handle(now, Input::HistoryLoaded { key, found: Err(source) });
            }
            Done::History(key, Err(error)) => {
                let after = self.read_failed("a history", &error)?;
                self.load_history(key, after);
            }
            Done::Timers(_, Ok(page)) => self.partition.handle(now, Input::TimersLoaded(page)),
            Done::Timers(after, Err(StoreError::Busy { retry_after, reason })) => {
                tracing::debug!(partition = self.opening.partition.0, reason, "due times wait");
                self.load_timers(after, retry_after);
            }
            Done::Timers(_, Err(error)) => {
                // The page asked for is asked for again when the partition is opened again.
                return Err(Exit::Reopen(format!("due times cannot be read: {error}")));
            }
            Done::Arrivals(Ok(arrivals)) => self.take_arrivals(arrivals),
            Done::Arrivals(Err(error)) => {
                self.arrivals.under_way = false;
                let after = self.read_failed("arrivals", &error)?;
                self.read_arrivals_after(after);
            }
            Done::Committed(commit, since, Ok(())) => self.committed(commit.number, since),
            Done::Committed(commit, since, Err(error)) => {
                return self.commit_failed(commit, since, error);
            }
            Done::Posted(to, result) => {
                if let Err(error) = result {
                    // The outbox keeps what counts, and sends it again.
                    tracing::warn!(partition = to.0, %error, "messages to the partition were not sent");
                }
                self.outgoing.posted(to);
                self.send_outgoing();
            }
            Done::Withdrawn(result) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "offers that nobody needs could not be withdrawn");
                }
            }
        }
        self.poll_turns();
        Ok(())
    }

    fn read_failed(&self, what: &str, error: &StoreError) -> Result<Duration, Exit> {
        match error {
            StoreError::Busy { retry_after, .. } => Ok(*retry_after),
            StoreError::Fenced { .. } => Err(Exit::Lost),
            StoreError::Unknown(_) | StoreError::Corrupt { .. } => {
                tracing::warn!(partition = self.opening.partition.0, %error, "{what} cannot be read");
                Ok(READ_AGAIN)
            }
            StoreError::HubInUse { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::Unusable(_) => Err(Exit::Reopen(format!("{what}: {error}"))),
        }
    }

    /// Hands over the next commit. Where the store does it at once, its effects are ready on return, and the
    /// next commit follows; `true` where there may be more of them.
    pub(super) fn commit(&mut self) -> Result<bool, Exit> {
        for _ in 0..COMMITS_A_PASS {
            let Some(commit) = self.partition.take_commit() else { return Ok(false) };
            self.hand_over(commit, Instant::now(), Duration::ZERO);
            self.poll_store()?;
        }
        Ok(true)
    }

    fn hand_over(&mut self, commit: Arc<Commit>, since: Instant, after: Duration) {
        let (store, fence) = (self.shared.store.clone(), self.fence);
        self.store_calls.push(Box::pin(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let result = store.commit(fence, commit.clone()).await;
            Done::Committed(commit, since, result)
        }));
    }

    fn committed(&mut self, number: CommitNumber, since: Instant) {
        metrics::histogram!(telemetry::COMMIT_SECONDS).record(since.elapsed());
        self.opening.progressed();
        if let Some((since, _)) = self.blocked.take() {
            let waited = since.elapsed();
            tracing::info!(
                partition = self.opening.partition.0,
                ?waited,
                "commits go through again"
            );
        }
        self.ready.extend(self.partition.committed(number));
    }

    fn commit_failed(
        &mut self,
        commit: Arc<Commit>,
        since: Instant,
        error: StoreError,
    ) -> Result<(), Exit> {
        match error {
            StoreError::Busy { retry_after, reason } => {
                metrics::counter!(telemetry::COMMITS_RETRIED).increment(1);
                if self.blocked.is_none() {
                    tracing::warn!(
                        partition = self.opening.partition.0,
                        reason,
                        "a commit has to wait; it is tried again until it goes through"
                    );
                }
                self.blocked.get_or_insert_with(|| (Instant::now(), reason));
                self.hand_over(commit, since, retry_after);
                Ok(())
            }
            StoreError::Fenced { .. } => Err(Exit::Lost),
            StoreError::Unknown(_)
            | StoreError::Corrupt { .. }
            | StoreError::HubInUse { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::Unusable(_) => Err(Exit::Reopen(error.to_string())),
        }
    }

    pub(super) fn load(&mut self, instance: InstanceId, after: Duration) {
        let store = self.shared.store.clone();
        self.store_calls.push(Box::pin(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let found = store.load(&instance).await;
            Done::Loaded(instance, found.map(|found| found.map(Box::new)))
        }));
    }

    pub(super) fn load_history(&mut self, key: ExecutionKey, after: Duration) {
        let store = self.shared.store.clone();
        self.store_calls.push(Box::pin(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let found = store.history(&key.instance).await;
            Done::History(key, found)
        }));
    }

    pub(super) fn load_timers(&mut self, from: TimersAfter, after: Duration) {
        let (store, partition) = (self.shared.store.clone(), self.opening.partition);
        self.store_calls.push(Box::pin(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let page = store.timers(partition, from.clone(), TIMER_PAGE).await;
            Done::Timers(from, page)
        }));
    }

    pub(super) fn read_arrivals(&mut self) {
        self.read_arrivals_after(Duration::ZERO);
    }

    fn read_arrivals_after(&mut self, after: Duration) {
        if self.arrivals.under_way {
            self.arrivals.again = true;
            return;
        }
        self.arrivals.under_way = true;
        let (store, position) = (self.shared.store.clone(), self.arrivals.position);
        let partition = self.opening.partition;
        self.store_calls.push(Box::pin(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            Done::Arrivals(store.arrivals(partition, position, ARRIVAL_PAGE).await)
        }));
    }

    fn take_arrivals(&mut self, arrivals: Arrivals) {
        let now = self.now();
        self.arrivals.under_way = false;
        self.arrivals.position = arrivals.position;
        // Starts first: a command may be for one of them.
        for AcceptedStart { acceptance, fresh } in arrivals.acceptances {
            let acceptance = Box::new(acceptance);
            self.partition.handle(now, Input::Accepted { acceptance, fresh });
            self.poll_turns();
        }
        for envelope in arrivals.envelopes {
            self.partition.handle(now, Input::Arrived(Box::new(envelope)));
            self.poll_turns();
        }
        for post in arrivals.posts {
            self.partition.handle(now, input_of(post));
            self.poll_turns();
        }
        for result in arrivals.results {
            self.partition.handle(now, Input::Reported(Box::new(result)));
            self.poll_turns();
        }
        for dead in arrivals.dead {
            self.partition.handle(now, Input::Dead(Box::new(dead)));
            self.poll_turns();
        }
        if std::mem::take(&mut self.arrivals.again) || arrivals.more {
            self.read_arrivals();
        }
    }
}
