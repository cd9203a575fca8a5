//! One open activity call: its attempts, and what has to be stored of them.
//!
//! ```text
//! Running ──ok──────────────────────────▶ Settled
//!    │ ▲                                     ▲
//!    │ └──due── Backoff ◀──failed, retried── │ ──failed for good
//!    └──worker lost (found at a takeover): started again, at most three times, then failed
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{
    ActivityOptions, ActivityScheduled, Attempt, CallNumber, Failure, FailureClass, Payload,
    RetryPolicy, Timestamp, limits,
};

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) name: Arc<str>,
    pub(super) input: Payload,
    pub(super) options: ActivityOptions,
    pub(super) scheduled_at: Timestamp,
    pub(super) attempt: Attempt,
    /// Starts of this attempt; above 1 after a worker was lost.
    pub(super) starts: u32,
    pub(super) phase: Phase,
    /// The running attempt was offered to other workers: it is in the store's hands.
    pub(super) offered: bool,
    /// It is to end, and its end is waited for: no further attempt begins.
    pub(super) cancelling: bool,
    pub(super) last_failure: Option<Failure>,
    /// What its attempts reported last with their heartbeats.
    pub(super) details: Option<Payload>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Started, or its start is an effect of a commit under way.
    Running {
        /// Set when the executor reports that the attempt really began and the call has a time limit.
        deadline: Option<Timestamp>,
        /// The same for the next heartbeat.
        beat_by: Option<Timestamp>,
    },
    /// Waits for its next attempt.
    Backoff {
        /// When that may begin.
        not_before: Timestamp,
    },
    /// Its result is on the way into the history. Further answers are duplicates.
    Settled,
}

/// How a call fails that was cancelled, and whose last attempt came to this.
pub(super) fn ended(failure: Option<Failure>) -> Failure {
    match failure {
        Some(failure) if failure.class == FailureClass::Cancelled => failure.permanent(),
        other => {
            let message = "it was cancelled, and has ended";
            let mut failure = Failure::new(FailureClass::Cancelled, "Cancelled", message);
            failure.cause = other.map(Box::new);
            failure.permanent()
        }
    }
}

impl Phase {
    /// Nobody has said yet that it really began, or nothing limits it.
    pub(super) const STARTED: Self = Self::Running { deadline: None, beat_by: None };

    /// When a running attempt has failed by the clock alone.
    pub(super) fn times_out_at(&self) -> Option<Timestamp> {
        match self {
            Self::Running { deadline, beat_by } => deadline.iter().chain(beat_by).min().copied(),
            Self::Backoff { .. } | Self::Settled => None,
        }
    }
}

/// What becomes of a failed attempt.
pub(super) enum AfterFailure {
    Retry { not_before: Timestamp },
    Final(Failure),
}

impl Call {
    pub(super) fn scheduled(event: &ActivityScheduled, at: Timestamp) -> Self {
        Self {
            name: event.name.clone(),
            input: event.input.clone(),
            options: event.options.clone(),
            scheduled_at: at,
            attempt: Attempt::FIRST,
            starts: 1,
            phase: Phase::STARTED,
            offered: false,
            cancelling: false,
            last_failure: None,
            details: None,
        }
    }

    /// Decides about the failure of the running attempt. `random` in 0..1 decides the jitter, once.
    pub(super) fn failed(
        &mut self,
        mut failure: Failure,
        now: Timestamp,
        random: f64,
    ) -> AfterFailure {
        if self.cancelling && !planted!(CancelledCallTriedAgain) {
            self.phase = Phase::Settled;
            return AfterFailure::Final(ended(Some(failure)));
        }
        let next = self.options.retry.as_ref().and_then(|policy: &RetryPolicy| {
            policy.next_attempt(self.attempt, &failure, self.scheduled_at, now, random)
        });
        match next {
            Some(not_before) => {
                self.attempt = self.attempt.next();
                self.starts = 1;
                self.offered = false;
                self.phase = Phase::Backoff { not_before };
                self.last_failure = Some(failure);
                if planted!(DetailsForgottenAtRetry) {
                    self.details = None;
                }
                AfterFailure::Retry { not_before }
            }
            None => {
                self.phase = Phase::Settled;
                // How far it came, where the code could not say so itself.
                if failure.details.is_none()
                    && matches!(failure.class, FailureClass::Timeout | FailureClass::WorkerLost)
                {
                    failure.details.clone_from(&self.details);
                }
                AfterFailure::Final(failure)
            }
        }
    }

    /// Counts the start that a takeover makes. `Err` when the attempt was lost too often.
    pub(super) fn start_again(&mut self) -> Result<(), Failure> {
        if self.starts >= limits::STARTS_PER_ATTEMPT_MAX {
            return Err(Failure::new(
                FailureClass::WorkerLost,
                "WorkerLost",
                format!(
                    "the worker was lost {} times while it ran this attempt of {:?}; the activity may \
                     be what ends it",
                    self.starts, self.name
                ),
            ));
        }
        self.starts += 1;
        self.phase = Phase::STARTED;
        Ok(())
    }

    /// What the in-flight row has to say of this call; `None` for the first start of the first attempt.
    pub(super) fn record(&self) -> Option<CallRecord> {
        let not_before = match self.phase {
            Phase::Backoff { not_before } => Some(not_before),
            Phase::Running { .. } | Phase::Settled => None,
        };
        let plain = self.attempt == Attempt::FIRST
            && self.starts == 1
            && not_before.is_none()
            && !self.offered
            && self.details.is_none();
        (!plain).then(|| CallRecord {
            attempt: self.attempt,
            starts: self.starts,
            not_before,
            offered: self.offered,
            last_failure: self.last_failure.clone(),
            details: self.details.clone().filter(|_| !planted!(DetailsNotStored)),
        })
    }

    /// Takes over what an earlier owner recorded.
    pub(super) fn restore(&mut self, record: &CallRecord) {
        self.attempt = record.attempt;
        self.starts = record.starts;
        self.offered = record.offered;
        self.last_failure.clone_from(&record.last_failure);
        self.details.clone_from(&record.details);
        if let Some(mut not_before) = record.not_before {
            if planted!(JitterDecidedAgain) {
                not_before = not_before.after(std::time::Duration::from_millis(7));
            }
            self.phase = Phase::Backoff { not_before };
        }
    }
}

/// Attempts of a call, where they are not simply the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CallRecord {
    attempt: Attempt,
    starts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    offered: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_failure: Option<Failure>,
    /// What its attempts reported last with their heartbeats.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::model::present_payload"
    )]
    details: Option<Payload>,
}

/// A number in 0..1 that is the same for the same attempt: FNV-1a 64 over its place. It only has to
/// spread retries; what comes of it is recorded.
pub(super) fn spread(instance: &str, run: u64, call: CallNumber, attempt: Attempt) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let numbers =
        run.to_le_bytes().into_iter().chain(call.0.to_le_bytes()).chain(attempt.0.to_le_bytes());
    for byte in instance.bytes().chain(numbers) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // FNV leaves the low bits of short inputs poorly mixed: fold the high half in.
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    f64::from(u32::try_from(mixed >> 32).expect("32 bits remain")) / f64::from(u32::MAX)
}
