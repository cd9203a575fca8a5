//! When which instance has to be looked at.
//!
//! Memory holds the due times of resident instances, and of all others up to the window's end; the rest
//! stays in the store and is read page by page. A due time too many does no harm: the instance is looked
//! at and nothing is due.

use std::collections::BTreeSet;

use crate::model::{InstanceId, Timestamp};
use crate::store::TimerPage;

type Due = (Timestamp, InstanceId);

#[derive(Debug)]
pub(super) struct Wheel {
    due: BTreeSet<Due>,
    window: Window,
    loading: bool,
}

/// Up to where memory knows the due times of instances that are not resident.
#[derive(Debug, PartialEq, Eq)]
enum Window {
    /// Nothing was read yet.
    Unread,
    /// Up to and with this one.
    UpTo(Due),
    /// All of them.
    Everything,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self { due: BTreeSet::new(), window: Window::Unread, loading: false }
    }

    pub(super) fn insert(&mut self, at: Timestamp, instance: &InstanceId) {
        self.due.insert((at, instance.clone()));
    }

    pub(super) fn remove(&mut self, at: Timestamp, instance: &InstanceId) {
        self.due.remove(&(at, instance.clone()));
    }

    /// An instance leaves memory: its due time stays only where the store would not be asked for it.
    pub(super) fn evicted(&mut self, at: Timestamp, instance: &InstanceId) {
        let key = (at, instance.clone());
        let read = match &self.window {
            Window::Everything => true,
            Window::UpTo(last) => key <= *last,
            Window::Unread => false,
        };
        // While a page is being read it may have missed this row: keep it.
        if (read || self.loading) && !planted!(EvictedTimerForgotten) {
            self.due.insert(key);
        } else {
            self.due.remove(&key);
        }
    }

    pub(super) fn pop(&mut self, now: Timestamp) -> Option<InstanceId> {
        let first = self.due.first().filter(|(at, _)| *at <= now)?.clone();
        self.due.remove(&first);
        Some(first.1)
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Whether the due times that come first are known, so that what is due now was looked at.
    pub(super) fn has_read(&self) -> bool {
        self.window != Window::Unread
    }

    /// Where to read on, if the window has to move: memory would otherwise run out of due times.
    pub(super) fn wants_page(&mut self) -> Option<Option<Due>> {
        if self.loading {
            return None;
        }
        let after = match &self.window {
            Window::Unread => None,
            Window::UpTo(last) if self.due.first().is_none_or(|first| first > last) => {
                Some(last.clone())
            }
            Window::UpTo(_) | Window::Everything => return None,
        };
        self.loading = true;
        Some(after)
    }

    pub(super) fn page(&mut self, page: TimerPage, resident: impl Fn(&InstanceId) -> bool) {
        self.loading = false;
        self.window = match page.timers.last() {
            Some(last) if page.more && !planted!(TimerPagesAfterFirstSkipped) => {
                Window::UpTo(last.clone())
            }
            Some(_) | None => Window::Everything,
        };
        self.due.extend(page.timers.into_iter().filter(|(_, instance)| !resident(instance)));
    }
}
