//! Durations by their unit, and the hub's clock as calendar time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use durable_machine::model::Timestamp;

/// This many milliseconds.
///
/// ```
/// use durable_core::{millis, secs};
///
/// assert_eq!(millis(1_500), secs(1) + millis(500));
/// ```
#[must_use]
pub const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// This many seconds.
///
/// ```
/// use durable_core::secs;
///
/// assert_eq!(secs(90), std::time::Duration::from_secs(90));
/// ```
#[must_use]
pub const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// This many minutes.
///
/// ```
/// use durable_core::{minutes, secs};
///
/// assert_eq!(minutes(2), secs(120));
/// ```
#[must_use]
pub const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(60))
}

/// This many hours.
///
/// ```
/// use durable_core::{hours, minutes};
///
/// const TIME_LIMIT: std::time::Duration = hours(2);
/// assert_eq!(TIME_LIMIT, minutes(120));
/// ```
#[must_use]
pub const fn hours(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(60 * 60))
}

/// This many days of 24 hours.
///
/// ```
/// use durable_core::{days, hours};
///
/// assert_eq!(days(7), hours(7 * 24));
/// ```
#[must_use]
pub const fn days(count: u64) -> Duration {
    Duration::from_secs(count.saturating_mul(24 * 60 * 60))
}

/// The hub's clock as calendar time; the nearest one there is where it lies outside the calendar.
pub(crate) fn to_utc(timestamp: Timestamp) -> DateTime<Utc> {
    let nearest =
        if timestamp.as_micros() < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::from_timestamp_micros(timestamp.as_micros()).unwrap_or(nearest)
}

/// Calendar time on the hub's clock, to the microsecond at or after it: a timer never fires early.
pub(crate) fn from_utc(time: DateTime<Utc>) -> Timestamp {
    let micros = time.timestamp_micros();
    let rest = time.timestamp_subsec_nanos() % 1000;
    Timestamp::from_micros(micros.saturating_add(i64::from(rest != 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_outside_the_calendar_are_brought_to_its_edge() {
        assert_eq!(to_utc(Timestamp::MIN), DateTime::<Utc>::MIN_UTC);
        assert_eq!(to_utc(Timestamp::MAX), DateTime::<Utc>::MAX_UTC);
        assert_eq!(days(u64::MAX), Duration::from_secs(u64::MAX));
    }

    #[test]
    fn a_due_time_is_never_rounded_to_before_it() {
        let exact = Timestamp::from_micros(1_700_000_000_000_001);
        assert_eq!(from_utc(to_utc(exact)), exact);
        let between = to_utc(exact) + chrono::TimeDelta::nanoseconds(1);
        assert_eq!(from_utc(between), exact.after(Duration::from_micros(1)));
    }
}
