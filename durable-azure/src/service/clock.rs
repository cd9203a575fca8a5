//! The time at the service, from the `Date` header of its answers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use durable_core::machine::model::Timestamp;

/// `Date` counts in whole seconds, rounded down.
const DATE_STEP_MICROS: i64 = 1_000_000;

/// The service's clock, carried on by this machine's monotonic one.
///
/// Before the first answer it shows the local wall clock. From then on it never runs backwards.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    /// Microseconds from the age of `origin` to the service's time; none before the first answer.
    offset: Mutex<Option<i64>>,
    shown: AtomicI64,
}

impl Clock {
    /// A clock that has seen no answer.
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), offset: Mutex::new(None), shown: AtomicI64::new(i64::MIN) }
    }

    /// The time at the service.
    pub(crate) fn now(&self) -> Timestamp {
        let offset = *self.offset.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match offset {
            None => {
                let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                Timestamp::from_micros(micros(wall.unwrap_or_default()))
            }
            Some(offset) => self.show(offset, Instant::now()),
        }
    }

    fn show(&self, offset: i64, at: Instant) -> Timestamp {
        let time = self.age(at).saturating_add(offset);
        Timestamp::from_micros(self.shown.fetch_max(time, Ordering::AcqRel).max(time))
    }

    /// Takes in the `Date` of an answer, in seconds since 1970. The service read it between `sent` and
    /// `received`.
    ///
    /// One answer bounds the offset within a second and the request's duration. The first sets it to the
    /// middle; each later one moves it no further than its bounds ask for, so that it does not jump with each.
    pub(super) fn observe(&self, date_seconds: i64, sent: Instant, received: Instant) {
        let date = date_seconds.saturating_mul(DATE_STEP_MICROS);
        let low = date.saturating_sub(self.age(received));
        let high = date.saturating_add(DATE_STEP_MICROS).saturating_sub(self.age(sent));
        let mut offset = self.offset.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *offset = Some(match *offset {
            None => low.midpoint(high),
            Some(known) => known.clamp(low, high.max(low)),
        });
    }

    fn age(&self, at: Instant) -> i64 {
        micros(at.saturating_duration_since(self.origin))
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(clock: &Clock, millis: u64) -> Instant {
        clock.origin + Duration::from_millis(millis)
    }

    fn shown(clock: &Clock, millis: u64) -> i64 {
        let offset = clock.offset.lock().unwrap().unwrap();
        clock.show(offset, at(clock, millis)).as_micros()
    }

    #[test]
    fn the_first_answer_is_taken_at_the_middle_of_its_request() {
        let clock = Clock::new();
        clock.observe(1000, at(&clock, 100), at(&clock, 300));
        // At 200 ms the service showed something between 1000 s and 1001 s.
        assert_eq!(shown(&clock, 200), 1_000_500_000);
        assert_eq!(shown(&clock, 1200), 1_001_500_000);
    }

    #[test]
    fn later_answers_narrow_it_down() {
        let clock = Clock::new();
        clock.observe(1000, at(&clock, 0), at(&clock, 0));
        // Still the same second 900 ms later: it had just begun.
        clock.observe(1000, at(&clock, 900), at(&clock, 900));
        assert_eq!(shown(&clock, 900), 1_001_000_000);
        // Nothing new in this one.
        clock.observe(1001, at(&clock, 1400), at(&clock, 1400));
        assert_eq!(shown(&clock, 1400), 1_001_500_000);
    }

    #[test]
    fn it_never_runs_backwards_after_the_first_answer() {
        let clock = Clock::new();
        clock.observe(1000, at(&clock, 0), at(&clock, 0));
        let before = shown(&clock, 10);
        clock.observe(900, at(&clock, 20), at(&clock, 20));
        assert_eq!(shown(&clock, 30), before);
        clock.observe(1100, at(&clock, 40), at(&clock, 40));
        assert!(shown(&clock, 50) > before);
    }

    #[test]
    fn before_the_first_answer_it_shows_the_wall_clock() {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let apart = Clock::new().now().as_micros() - micros(wall);
        assert!((0..60_000_000).contains(&apart), "{apart}");
    }
}
