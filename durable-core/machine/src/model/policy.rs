//! How an activity call is retried and bounded. Recorded with the call, so a replay never asks the code.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Attempt, Failure, Timestamp};

/// How often, how soon and how long a failing activity is tried again.
///
/// The default is one attempt: nothing is retried unless asked for.
///
/// ```
/// # use durable_machine::model::RetryPolicy;
/// use std::time::Duration;
/// let policy = RetryPolicy::exponential(Duration::from_secs(1))
///     .attempts(5)
///     .max_delay(Duration::from_secs(60))
///     .total_time(Duration::from_secs(600))
///     .except("CardDeclined");
/// assert_eq!((policy.attempts_max, policy.backoff), (5, 2.0));
/// assert_eq!(policy.delay_max, Duration::from_secs(60));
/// assert_eq!(policy.not_retried, ["CardDeclined"]);
///
/// assert_eq!(RetryPolicy::default().attempts_max, 1);
/// let every_minute = RetryPolicy::fixed(Duration::from_secs(60)); // for ever
/// assert_eq!((every_minute.attempts_max, every_minute.backoff), (0, 1.0));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, the first included. 0 means no bound.
    pub attempts_max: u32,
    /// Delay before the second attempt.
    pub delay: Duration,
    /// What the delay is multiplied with after each further attempt; at least 1.
    pub backoff: f64,
    /// The longest delay.
    pub delay_max: Duration,
    /// The share of each delay, 0 to 1, that is taken off at random.
    pub jitter: f64,
    /// No attempt begins later than this after the call was scheduled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_time_max: Option<Duration>,
    /// Kinds of failure that are not retried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_retried: Vec<String>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts_max: 1,
            delay: Duration::from_secs(1),
            backoff: 1.0,
            delay_max: Duration::from_secs(3600),
            jitter: 0.0,
            total_time_max: None,
            not_retried: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// The same delay before each attempt; no bound on attempts until [`attempts`](Self::attempts) sets one.
    #[must_use]
    pub fn fixed(delay: Duration) -> Self {
        let plain = Self::default();
        Self { attempts_max: 0, delay, delay_max: plain.delay_max.max(delay), ..plain }
    }

    /// Delays that double from `delay` up to an hour, or stay at a `delay` that is longer, a tenth of each taken off
    /// at random; no bound on attempts until [`attempts`](Self::attempts) sets one.
    #[must_use]
    pub fn exponential(delay: Duration) -> Self {
        Self { backoff: 2.0, jitter: 0.1, ..Self::fixed(delay) }
    }

    /// Bounds the attempts, the first included. 0 means no bound.
    #[must_use]
    pub fn attempts(mut self, attempts_max: u32) -> Self {
        self.attempts_max = attempts_max;
        self
    }

    /// Sets what the delay is multiplied with after each attempt; values below 1 count as 1.
    #[must_use]
    pub fn backoff(mut self, factor: f64) -> Self {
        self.backoff = factor;
        self
    }

    /// Caps the delay.
    #[must_use]
    pub fn max_delay(mut self, delay_max: Duration) -> Self {
        self.delay_max = delay_max;
        self
    }

    /// Sets the share of each delay, 0 to 1, that is taken off at random.
    #[must_use]
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// No attempt begins later than this after the call was scheduled.
    #[must_use]
    pub fn total_time(mut self, total: Duration) -> Self {
        self.total_time_max = Some(total);
        self
    }

    /// Names a kind of failure that is not retried.
    #[must_use]
    pub fn except(mut self, kind: impl Into<String>) -> Self {
        self.not_retried.push(kind.into());
        self
    }

    /// When the attempt after `failed` may begin, or `None` where there is none.
    ///
    /// `random` is a number in 0..1 that decides the jitter; the result is recorded, never computed again.
    ///
    /// ```
    /// # use durable_machine::model::{Attempt, Failure, FailureClass, RetryPolicy, Timestamp};
    /// use std::time::Duration;
    /// let policy = RetryPolicy::fixed(Duration::from_secs(1)).attempts(3).backoff(2.0);
    /// let failure = Failure::new(FailureClass::Application, "Busy", "try again");
    /// let now = Timestamp::from_micros(0);
    /// let next = |failed| policy.next_attempt(Attempt(failed), &failure, now, now, 0.5);
    /// assert_eq!(next(1), Some(now.after(Duration::from_secs(1))));
    /// assert_eq!(next(2), Some(now.after(Duration::from_secs(2))));
    /// assert_eq!(next(3), None);
    /// ```
    #[must_use]
    pub fn next_attempt(
        &self,
        failed: Attempt,
        failure: &Failure,
        scheduled_at: Timestamp,
        now: Timestamp,
        random: f64,
    ) -> Option<Timestamp> {
        if planted!(RetriesOffByOne) {
            return (failed.0 <= self.attempts_max).then_some(now);
        }
        if planted!(NotRetriedIgnored) && failed.0 < self.attempts_max {
            return Some(now.after(self.delay_after(failed, random)));
        }
        if failure.permanent
            || self.not_retried.contains(&failure.kind)
            || (self.attempts_max != 0 && failed.0 >= self.attempts_max)
        {
            return None;
        }
        let mut not_before = now.after(self.delay_after(failed, random));
        if planted!(BackoffSkipped) {
            not_before = now;
        }
        match self.total_time_max {
            Some(total) if not_before > scheduled_at.after(total) => None,
            Some(_) | None => Some(not_before),
        }
    }

    fn delay_after(&self, failed: Attempt, random: f64) -> Duration {
        // Not finite, negative or huge factors come from outside: every step is clamped to what a
        // Duration can hold.
        let factor = if self.backoff.is_finite() { self.backoff.max(1.0) } else { 1.0 };
        let exponent = f64::from(failed.0.saturating_sub(1));
        let cap = self.delay_max.as_secs_f64();
        let raw = (self.delay.as_secs_f64() * factor.powf(exponent)).min(cap);
        let share = if self.jitter.is_finite() { self.jitter.clamp(0.0, 1.0) } else { 0.0 };
        let delay = raw * (1.0 - share * random.clamp(0.0, 1.0));
        Duration::try_from_secs_f64(delay).unwrap_or(self.delay_max)
    }
}

/// What a call asks for beside name and input.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActivityOptions {
    /// How failures are retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// How long one attempt may take from its start to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_to_finish: Option<Duration>,
    /// How long one attempt may go on without a heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout: Option<Duration>,
    /// Reserved: only workers with this tag run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_tag: Option<String>,
    /// Reserved: higher runs first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// It takes back what an earlier call did: the execution cannot be rewound any more, because what succeeded
    /// is not there any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compensates: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FailureClass;

    fn failure(kind: &str) -> Failure {
        Failure::new(FailureClass::Application, kind, "no")
    }

    const START: Timestamp = Timestamp::from_micros(1_000_000);

    fn delay(policy: &RetryPolicy, failed: u32, random: f64) -> Option<Duration> {
        policy
            .next_attempt(Attempt(failed), &failure("Busy"), START, START, random)
            .map(|at| at.since(START))
    }

    #[test]
    fn delays_double_up_to_the_cap_and_jitter_takes_off_a_share() {
        let policy = RetryPolicy::exponential(Duration::from_secs(1))
            .max_delay(Duration::from_secs(5))
            .jitter(0.5);
        let seconds: Vec<_> = (1..6).map(|n| delay(&policy, n, 0.0).map(|d| d.as_secs())).collect();
        assert_eq!(seconds, [Some(1), Some(2), Some(4), Some(5), Some(5)]);
        assert_eq!(delay(&policy, 3, 1.0), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_delay_of_days_is_waited_for_whole() {
        let days = Duration::from_secs(2 * 86_400);
        for policy in [RetryPolicy::fixed(days), RetryPolicy::exponential(days)] {
            assert_eq!(delay(&policy, 1, 0.0), Some(days));
            assert_eq!(delay(&policy, 5, 0.0), Some(days));
        }
    }

    #[test]
    fn attempts_total_time_and_kinds_bound_the_retries() {
        let policy = RetryPolicy::fixed(Duration::from_secs(10)).attempts(3);
        assert!(delay(&policy, 2, 0.0).is_some());
        assert!(delay(&policy, 3, 0.0).is_none());
        let short = policy.clone().total_time(Duration::from_secs(9));
        assert!(delay(&short, 1, 0.0).is_none());
        let picky = policy.except("CardDeclined");
        assert!(
            picky.next_attempt(Attempt(1), &failure("CardDeclined"), START, START, 0.0).is_none()
        );
        assert!(
            picky
                .next_attempt(Attempt(1), &failure("Busy").permanent(), START, START, 0.0)
                .is_none()
        );
    }

    #[test]
    fn absurd_numbers_stay_within_the_cap() {
        for factor in [f64::NAN, f64::INFINITY, -3.0, 1e300] {
            let policy = RetryPolicy::exponential(Duration::from_secs(1)).backoff(factor);
            assert!(delay(&policy, u32::MAX, 0.5).expect("retried") <= Duration::from_secs(3600));
        }
    }
}
