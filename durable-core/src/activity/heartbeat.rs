//! What an attempt says of itself while it runs, until whoever started it fetches it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use durable_machine::model::{AttemptKey, Payload};

/// Whom an attempt tells that it has reported something.
pub(crate) trait Listener: Send + Sync {
    /// Not told again before that was fetched.
    fn reported(&self, attempt: &AttemptKey);
}

/// One attempt's.
pub(crate) struct Heartbeats {
    before: Option<Payload>,
    listener: Option<Arc<dyn Listener>>,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    last: Option<Payload>,
    /// The last was not fetched yet.
    news: bool,
    at: Option<Instant>,
    count: u64,
}

/// What was said since it was fetched last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heartbeat {
    pub(crate) at: Instant,
    /// Where it said how far it is.
    pub(crate) details: Option<Payload>,
}

impl Heartbeats {
    pub(super) fn new(before: Option<Payload>, listener: Option<Arc<dyn Listener>>) -> Self {
        Self { before, listener, said: Mutex::default() }
    }

    pub(super) fn before(&self) -> Option<&Payload> {
        self.before.as_ref()
    }

    /// What was reported last: by this attempt, or before it.
    pub(crate) fn details(&self) -> Option<Payload> {
        self.last().or_else(|| self.before.clone())
    }

    pub(crate) fn last(&self) -> Option<Payload> {
        self.said().last.clone()
    }

    /// When it spoke last.
    pub(crate) fn last_at(&self) -> Option<Instant> {
        self.said().at
    }

    pub(super) fn count(&self) -> u64 {
        self.said().count
    }

    pub(super) fn beat(&self) {
        self.said().beat();
    }

    pub(super) fn report(&self, attempt: &AttemptKey, details: Payload) {
        let known = {
            let mut said = self.said();
            said.beat();
            said.last = Some(details);
            std::mem::replace(&mut said.news, true)
        };
        if let Some(listener) = self.listener.as_ref().filter(|_| !known) {
            listener.reported(attempt);
        }
    }

    /// What was said since the last time.
    pub(crate) fn fetch(&self) -> Option<Heartbeat> {
        let mut said = self.said();
        let news = std::mem::take(&mut said.news);
        let details = said.last.clone().filter(|_| news);
        said.at.map(|at| Heartbeat { at, details })
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    fn beat(&mut self) {
        self.at = Some(Instant::now());
        self.count += 1;
    }
}
