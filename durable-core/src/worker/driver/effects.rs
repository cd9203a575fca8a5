//! What a partition wishes to be done outside.

use std::time::Duration;

use durable_machine::model::{PartitionId, Post};
use durable_machine::partition::{Effect, Input};

use super::heartbeats::Running;
use super::{Done, Driver};
use crate::activity::ActivityContext;
use crate::store::StoreError;
use crate::telemetry;
use crate::worker::executor::{Job, Report};
use crate::worker::mailbox::Mail;

/// How long storage has to take a batch of messages to another partition.
const POST_MAX: Duration = Duration::from_secs(30);

impl Driver {
    pub(super) fn run_effects(&mut self, effects: Vec<Effect>) {
        let mut cancelled = false;
        for effect in effects {
            match effect {
                Effect::Load(instance) => self.load(instance, Duration::ZERO),
                Effect::LoadHistory(key) => self.load_history(key, Duration::ZERO),
                Effect::LoadTimers(after) => self.load_timers(after, Duration::ZERO),
                Effect::StartAttempt(start) => {
                    // A stopping worker leaves it to the next one.
                    if self.stop_at.is_none() {
                        let listener = self.mailbox.clone();
                        let (context, cancel) = ActivityContext::new(&start, Some(listener));
                        let running = Running::new(context.clone(), cancel);
                        self.running.insert(start.attempt.clone(), running);
                        let report = Report::Loop(self.mailbox.clone());
                        self.shared.executor.run(Job { start, context, report });
                    }
                }
                Effect::CancelAttempt(attempt) => {
                    match self.running.get(&attempt) {
                        Some(running) => {
                            running.cancel.cancel();
                            cancelled = true;
                        }
                        // This owner or an earlier one may have offered it.
                        None if self.shared.fleet.is_some() => self.outgoing.withdraw(attempt),
                        None => {}
                    }
                }
                Effect::Answer { ticket, answer } => self.opening.answer(ticket, answer),
                Effect::Deliver(message) => {
                    self.deliver(message.to, Post::Message(message));
                }
                Effect::Confirm { to, upto } => {
                    let by = self.opening.partition;
                    self.deliver(to, Post::Confirmation { by, upto });
                }
                Effect::StatusChanged(row) => self.shared.notifier.publish(row),
                Effect::Held { instance, message } => {
                    metrics::counter!(telemetry::INSTANCES_HELD).increment(1);
                    tracing::warn!(%instance, reason = message, "the instance is held");
                }
                Effect::Warn { instance, message } => tracing::warn!(%instance, "{message}"),
            }
        }
        if cancelled {
            self.shared.executor.end_cancelled();
        }
        self.send_outgoing();
    }

    /// Hands a post to the owner of its partition: here, or through the store.
    fn deliver(&mut self, to: PartitionId, post: Post) {
        match self.shared.taker(to) {
            Some(opening) => opening.mailbox.send(Mail::Input(input_of(post))),
            None if self.shared.fleet.is_some() => self.outgoing.post(to, post),
            None => {}
        }
    }

    pub(super) fn send_outgoing(&mut self) {
        if !self.outgoing.is_fresh() {
            return;
        }
        let (batches, withdrawals) = self.outgoing.take();
        for (to, posts) in batches {
            let store = self.shared.store.clone();
            self.store_calls.push(Box::pin(async move {
                let posted = tokio::time::timeout(POST_MAX, store.post(to, posts)).await;
                let late = |_| Err(StoreError::Unknown("storage did not answer".into()));
                Done::Posted(to, posted.unwrap_or_else(late))
            }));
        }
        if !withdrawals.is_empty() {
            let store = self.shared.store.clone();
            self.store_calls
                .push(Box::pin(async move { Done::Withdrawn(store.withdraw(withdrawals).await) }));
        }
    }
}

pub(super) fn input_of(post: Post) -> Input {
    match post {
        Post::Message(message) => Input::Message(message),
        Post::Confirmation { by, upto } => Input::Confirmed { by, upto },
    }
}
