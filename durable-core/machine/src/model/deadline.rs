//! When a run has to have ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Failure, FailureClass, Timestamp};

/// Kind of the failure of a run that did not end in time.
const KIND: &str = "DeadlineExceeded";

/// When a whole run has to have ended, with all its executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// The time, by the hub's clock.
    pub at: Timestamp,
    /// How long after the run may begin that is: what a restart and a rewind give it again.
    pub limit: Duration,
}

impl Deadline {
    /// This long after the run may begin.
    #[must_use]
    pub fn after(begin: Timestamp, limit: Duration) -> Self {
        Self { at: begin.after(limit), limit }
    }

    /// At that time, of a run that may begin at `begin`.
    #[must_use]
    pub fn at(at: Timestamp, begin: Timestamp) -> Self {
        Self { at, limit: at.since(begin) }
    }

    /// Whether it has come.
    #[must_use]
    pub fn has_come(&self, now: Timestamp) -> bool {
        self.at <= now
    }

    /// How a run fails that has not ended by then.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let message = format!(
            "the run had not ended at its deadline, {}, which was {:?} after it could begin",
            calendar(self.at),
            self.limit
        );
        Failure::new(FailureClass::Timeout, KIND, message)
    }
}

impl Failure {
    /// Whether a run failed so because its deadline had come.
    #[must_use]
    pub fn is_of_deadline(&self) -> bool {
        self.class == FailureClass::Timeout && self.kind == KIND
    }
}

/// As in RFC 3339, for people.
fn calendar(at: Timestamp) -> String {
    const DAY: i64 = 86_400;
    let seconds = at.as_micros().div_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Years that begin in March have their leap day at the end; eras of 400 years are alike.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_told_as_people_write_it() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(calendar(Timestamp::from_micros(seconds * 1_000_000)), text);
        }
        let begin = Timestamp::from_micros(1_709_251_200_000_000);
        let failure = Deadline::after(begin, Duration::from_secs(90)).failure();
        assert_eq!(
            failure.message,
            "the run had not ended at its deadline, 2024-03-01T00:01:30Z, which was 90s after it could begin"
        );
        assert!(failure.is_of_deadline());
    }

    #[test]
    fn a_deadline_at_a_time_knows_its_length() {
        let begin = Timestamp::from_micros(5_000_000);
        let limit = Duration::from_secs(3);
        assert_eq!(Deadline::at(begin.after(limit), begin), Deadline::after(begin, limit));
        assert_eq!(Deadline::at(Timestamp::MIN, begin).limit, Duration::ZERO);
    }
}
