//! What reaches a partition's loop from other threads, and how the loop sleeps.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::{Duration, Instant};

use durable_machine::model::{Acceptance, Envelope};
use durable_machine::partition::{AttemptKey, Input, Ticket};
use tokio::runtime::Handle;

use crate::activity::Listener;

/// One thing for the loop.
pub(crate) enum Mail {
    /// For the partition as it is.
    Input(Input),
    /// A start of this process under an id made for it.
    Start { acceptance: Box<Acceptance>, ticket: Ticket },
    /// A command of this process.
    Command { envelope: Box<Envelope>, remember: bool, ticket: Ticket },
    /// Look into the store for what other processes sent.
    CheckArrivals,
    /// Finish what runs, until then at the latest, and stop.
    Stop(Instant),
    /// The attempt did not get its turn before the worker stopped.
    NotStarted(AttemptKey),
    /// The attempt has reported something that is to be fetched.
    Reported(AttemptKey),
    /// These attempts, which had waited for a lane, were offered to other workers.
    Offered(Vec<AttemptKey>),
}

impl Mail {
    /// Who waits for its answer.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Start { ticket, .. } | Self::Command { ticket, .. } => Some(*ticket),
            Self::Input(_)
            | Self::CheckArrivals
            | Self::Stop(_)
            | Self::NotStarted(_)
            | Self::Reported(_)
            | Self::Offered(_) => None,
        }
    }
}

/// The inbox of one opening of a partition. A later opening has another one.
pub(crate) struct Mailbox {
    /// `None` once the loop has ended.
    mails: Mutex<Option<Vec<Mail>>>,
    signal: Arc<Signal>,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        Self { mails: Mutex::new(Some(Vec::new())), signal: Arc::new(Signal::default()) }
    }

    /// Sends, unless the loop has ended.
    pub(crate) fn send(&self, mail: Mail) {
        let _ = self.try_send(mail);
    }

    /// Sends, or gives the mail back where the loop has ended.
    pub(super) fn try_send(&self, mail: Mail) -> Result<(), Mail> {
        {
            let mut mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(mails) = mails.as_mut() else { return Err(mail) };
            mails.push(mail);
        }
        self.signal.raise();
        Ok(())
    }

    /// Lets the loop come round without mail.
    pub(super) fn wake(&self) {
        self.signal.raise();
    }

    /// Takes all that has come.
    pub(super) fn take(&self) -> Vec<Mail> {
        let mut mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes nothing from now on. Returns what was not taken.
    pub(super) fn close(&self) -> Vec<Mail> {
        self.mails.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    pub(super) fn signal(&self) -> Arc<Signal> {
        self.signal.clone()
    }
}

impl Listener for Mailbox {
    fn reported(&self, attempt: &AttemptKey) {
        self.send(Mail::Reported(attempt.clone()));
    }
}

/// Wakes the loop: raised by mail, and by the store calls that the loop waits for.
#[derive(Default)]
pub(super) struct Signal {
    raised: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Signal {
    /// The calling thread is the one that waits.
    pub(super) fn attach(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Looks for a while before it sleeps. For a thread that is about to be raised: waking it up costs as
    /// much as a small commit.
    pub(super) fn spin(&self, at_most: Duration) {
        let began = Instant::now();
        while !self.raised.load(Ordering::Acquire) && began.elapsed() < at_most {
            std::hint::spin_loop();
        }
    }

    /// Sleeps until raised, or until the time is over.
    pub(super) fn wait(&self, at_most: Option<Duration>) {
        let end = at_most.map(|at_most| Instant::now() + at_most);
        while !self.raised.swap(false, Ordering::AcqRel) {
            match end {
                None => std::thread::park(),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    std::thread::park_timeout(left);
                }
            }
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.raise();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
    }
}

/// Waits on this thread, without the runtime's clock: the runtime may be shutting down.
pub(super) fn wait_for<T>(
    runtime: &Handle,
    future: impl Future<Output = T>,
    end: Instant,
) -> Option<T> {
    let signal = Arc::new(Signal::default());
    signal.attach();
    let waker = signal.clone().into();
    let mut future = pin!(future);
    loop {
        let polled = {
            let _entered = runtime.enter();
            future.as_mut().poll(&mut Context::from_waker(&waker))
        };
        let left = end.saturating_duration_since(Instant::now());
        match polled {
            Poll::Ready(output) => return Some(output),
            Poll::Pending if left.is_zero() => return None,
            Poll::Pending => signal.wait(Some(left)),
        }
    }
}
