//! Whether a worker may count on its partitions: how long ago its last beat was, by its own clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The lease of this worker. Read by time, not by what some task noted: after a pause of the whole process
/// every thread sees at once that the lease is over.
#[derive(Debug)]
pub(crate) struct Lease {
    length: Duration,
    began: Instant,
    /// When the last beat that succeeded was sent: microseconds since `began`.
    last: AtomicU64,
    /// Raised where a wait for the lease may be over.
    turns: watch::Sender<u64>,
}

impl Lease {
    pub(crate) fn new(length: Duration) -> Self {
        let turns = watch::channel(0).0;
        Self { length, began: Instant::now(), last: AtomicU64::new(0), turns }
    }

    /// A beat that was sent then has succeeded.
    pub(crate) fn renewed(&self, sent: Instant) {
        let since = sent.saturating_duration_since(self.began).as_micros();
        self.last.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Release);
        self.wake();
    }

    /// Since the last beat.
    pub(crate) fn age(&self) -> Duration {
        self.began
            .elapsed()
            .saturating_sub(Duration::from_micros(self.last.load(Ordering::Acquire)))
    }

    /// Whether messages may be taken and activities begin: two thirds of the lease are not over.
    pub(crate) fn holds(&self) -> bool {
        self.age() < self.length * 2 / 3
    }

    /// Whether others may have taken this worker for dead.
    pub(crate) fn is_over(&self) -> bool {
        self.age() >= self.length
    }

    /// Lets everyone who waits look again.
    pub(crate) fn wake(&self) {
        self.turns.send_modify(|turns| *turns += 1);
    }

    /// Waits until the lease holds, or there is another reason to wait no longer.
    pub(crate) async fn held_or(&self, enough: impl Fn() -> bool) {
        let mut turns = self.turns.subscribe();
        while !self.holds() && !enough() {
            if turns.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_two_thirds_and_is_over_after_all_of_it() {
        let lease = Lease::new(Duration::from_secs(3600));
        assert!(lease.holds() && !lease.is_over());
        let lease = Lease::new(Duration::ZERO);
        assert!(!lease.holds() && lease.is_over());
        lease.renewed(Instant::now());
        assert!(!lease.holds() && lease.is_over());
    }

    #[test]
    fn a_beat_counts_from_when_it_was_sent() {
        let lease = Lease::new(Duration::from_secs(3600));
        let sent = Instant::now();
        std::thread::sleep(Duration::from_millis(5));
        lease.renewed(sent);
        assert!(lease.age() >= Duration::from_millis(5));
    }
}
