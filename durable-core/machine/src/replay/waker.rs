//! The root waker of an orchestration: it knows whether it is being polled, and by whom it is woken.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

thread_local! {
    /// Address of the root waker whose orchestration this thread polls now; 0 for none.
    static POLLING: Cell<usize> = const { Cell::new(0) };
}

/// Called once when something outside a turn wakes the orchestration.
pub type ForeignWake = Arc<dyn Fn() + Send + Sync>;

/// Tells a wake-up within the orchestration's own poll from one that comes from outside.
pub(super) struct RootWaker {
    woken: AtomicBool,
    foreign: AtomicBool,
    /// Set before the future is dropped: what its destructors wake no longer matters.
    closed: AtomicBool,
    on_foreign: Option<ForeignWake>,
}

impl RootWaker {
    pub(super) fn new(on_foreign: Option<ForeignWake>) -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicBool::new(true),
            foreign: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            on_foreign,
        })
    }

    /// Whether it was woken since the last call; forgets it.
    pub(super) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    pub(super) fn foreign(&self) -> bool {
        self.foreign.load(Ordering::Acquire)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Marks this orchestration as the one that the thread polls, until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Entered {
        let outer = POLLING.replace(Arc::as_ptr(self) as usize);
        Entered { outer }
    }
}

pub(super) struct Entered {
    outer: usize,
}

impl Drop for Entered {
    fn drop(&mut self) {
        POLLING.set(self.outer);
    }
}

impl Wake for RootWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if POLLING.get() == Arc::as_ptr(self) as usize {
            self.woken.store(true, Ordering::Release);
        } else if !self.closed.load(Ordering::Acquire)
            && !self.foreign.swap(true, Ordering::AcqRel)
            && let Some(notify) = &self.on_foreign
        {
            notify();
        }
    }
}
