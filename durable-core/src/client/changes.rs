//! How the status of an instance changes, as its client sees it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use durable_machine::model::StatusRow;

use super::{ClientError, Handle};
use crate::worker::Watcher;

/// How often a status is read that nobody in this process publishes: at first, and at most.
pub(super) const POLL_FIRST: Duration = Duration::from_millis(20);
pub(super) const POLL_LAST: Duration = Duration::from_millis(250);

/// How often it is read where a worker of this process publishes changes: a net for what is missed.
const POLL_PUBLISHED: Duration = Duration::from_secs(5);

/// Follows the status of an instance: published changes where a worker of this process makes them, the
/// store otherwise.
pub(super) struct Changes<'a, T> {
    handle: &'a Handle<T>,
    watcher: Option<Watcher>,
    /// The watcher has watched since the start: the store need not be asked first.
    since_start: bool,
    last: Option<Arc<StatusRow>>,
    pause: Duration,
}

impl<'a, T> Changes<'a, T> {
    pub(super) fn new(handle: &'a Handle<T>) -> Self {
        let begun = handle.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        let since_start = begun.is_some();
        let watcher = begun.or_else(|| handle.client.watcher(&handle.instance));
        Self { handle, watcher, since_start, last: None, pause: POLL_FIRST }
    }

    /// The next status that differs from the last one seen; at first the present one.
    pub(super) async fn next(&mut self) -> Result<Arc<StatusRow>, ClientError> {
        loop {
            let seen = self.watcher.as_mut().and_then(Watcher::latest);
            let row = match seen {
                Some(row) => Some(row),
                None if self.since_start => None,
                None => self.read().await?,
            };
            if let Some(row) = row
                && self.handle.run.is_none_or(|run| row.run >= run)
            {
                if self.handle.run.is_some_and(|run| row.run > run) {
                    return Err(ClientError::Replaced(self.handle.instance.clone()));
                }
                if self.last.as_deref() != Some(&*row) {
                    self.last = Some(row.clone());
                    self.pause = POLL_FIRST;
                    return Ok(row);
                }
            }
            self.sleep().await;
        }
    }

    async fn read(&self) -> Result<Option<Arc<StatusRow>>, ClientError> {
        let instance = &self.handle.instance;
        match self.handle.client.status(instance).await? {
            Some(status) => Ok(Some(Arc::new(status.row().clone()))),
            None => Err(ClientError::NotFound(instance.clone())),
        }
    }

    async fn sleep(&mut self) {
        if let Some(watcher) = &mut self.watcher
            && self.handle.client.worker().is_some()
        {
            let changed = tokio::time::timeout(POLL_PUBLISHED, watcher.changed()).await;
            if changed == Ok(true) {
                return;
            }
        } else {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(POLL_LAST);
        }
        // Changes may have been missed: the store is asked first. It may be made here from now on, or no more.
        self.since_start = false;
        self.watcher = self.handle.client.watcher(&self.handle.instance);
    }
}
