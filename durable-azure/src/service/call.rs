//! One call: its time limit, its tries, and what became of each.

use std::error::Error as _;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use azure_core::Context;
use azure_core::error::ErrorKind;
use bytes::Bytes;

use super::fault::Fault;
use super::transactions::Kind;

/// Tries of a call that may be repeated, the first one counted.
const TRIES_MAX: u32 = 4;
/// Time after which no further try begins.
const TRYING_MAX: Duration = Duration::from_secs(10);
/// Wait before the second try; each further one is four times as long.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// What a repeated try is given at least.
const TRY_MIN: Duration = Duration::from_secs(1);

/// How often a call may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tries {
    /// Sending it twice can be told from sending it once.
    One,
    /// It reads, or its repetition cannot be told.
    Several,
}

/// A request on its way, shared with the end of its pipeline through the context.
#[derive(Debug)]
pub(super) struct Call {
    kind: Kind,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
enum Progress {
    /// The crates prepare and sign it.
    Preparing,
    /// It may have reached the service.
    Begun,
    /// With success. What the crates make of the body is another matter.
    Answered(Bytes),
    Failed(Fault),
}

impl Call {
    fn new(kind: Kind) -> Self {
        Self { kind, progress: Mutex::new(Progress::Preparing) }
    }

    /// What it asks for.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// From here on the service may have got it.
    pub(super) fn begin(&self) {
        *self.progress() = Progress::Begun;
    }

    /// It succeeded.
    pub(super) fn answered(&self, body: Bytes) {
        *self.progress() = Progress::Answered(body);
    }

    /// It did not.
    pub(super) fn failed(&self, fault: Fault) {
        *self.progress() = Progress::Failed(fault);
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A successful answer.
pub(super) struct Answer<T> {
    /// Its body, of the last request where the call made several.
    pub(super) body: Bytes,
    read: azure_core::Result<T>,
}

impl<T> Answer<T> {
    /// What the crate read from it.
    pub(super) fn read(self) -> Result<T, Fault> {
        self.read.map_err(|error| {
            Fault::malformed(format!("an answer of storage that cannot be read: {error}"))
        })
    }
}

/// Makes calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    request_timeout: Duration,
}

impl Caller {
    /// With a limit for each request.
    pub(super) fn new(request_timeout: Duration) -> Self {
        Self { request_timeout }
    }

    /// Makes a call: `request` builds it with the context that it is handed, which must go with it.
    pub(super) async fn call<T, F>(
        &self,
        kind: Kind,
        tries: Tries,
        request: impl Fn(Context) -> F,
    ) -> Result<Answer<T>, Fault>
    where
        F: Future<Output = azure_core::Result<T>>,
    {
        let began = Instant::now();
        let mut limit = self.request_timeout;
        let mut tried = 0;
        loop {
            tried += 1;
            let fault = match once(kind, limit, &request).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let wait = match (tries, &fault) {
                (Tries::One, _) => return Err(fault),
                (Tries::Several, Fault::Throttled { retry_after, .. }) => {
                    (*retry_after).max(backoff(tried))
                }
                (Tries::Several, Fault::Unknown { .. } | Fault::Unreachable { .. }) => {
                    backoff(tried)
                }
                (
                    Tries::Several,
                    Fault::Refused { .. } | Fault::Denied { .. } | Fault::Malformed { .. },
                ) => return Err(fault),
            };
            let left = TRYING_MAX.saturating_sub(began.elapsed());
            if tried == TRIES_MAX || wait >= left {
                return Err(fault);
            }
            tracing::debug!(kind = kind.name(), tried, %fault, "trying again");
            tokio::time::sleep(wait).await;
            limit = self.request_timeout.min((left - wait).max(TRY_MIN));
        }
    }
}

async fn once<T, F>(
    kind: Kind,
    limit: Duration,
    request: impl Fn(Context) -> F,
) -> Result<Answer<T>, Fault>
where
    F: Future<Output = azure_core::Result<T>>,
{
    let call = Arc::new(Call::new(kind));
    let mut context = Context::new();
    context.insert(Arc::clone(&call));
    let read = tokio::time::timeout(limit, request(context)).await;
    let progress = std::mem::replace(&mut *call.progress(), Progress::Preparing);
    match (progress, read) {
        (Progress::Failed(fault), _) => Err(fault),
        (Progress::Answered(body), Ok(read)) => Ok(Answer { body, read }),
        (Progress::Begun | Progress::Answered(_), _) => {
            Err(Fault::Unknown { reason: format!("no answer within {limit:?}") })
        }
        (Progress::Preparing, Ok(Err(error))) => Err(unsigned(&error)),
        // Only the credential takes time before sending.
        (Progress::Preparing, Ok(Ok(_)) | Err(_)) => {
            Err(Fault::Unreachable { reason: format!("no token within {limit:?}") })
        }
    }
}

/// A request that was not sent: without a token, or never one that could be.
fn unsigned(error: &azure_core::Error) -> Fault {
    if !matches!(error.kind(), ErrorKind::Credential) {
        return Fault::malformed(format!("a request that cannot be built: {error}"));
    }
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let known = inner.downcast_ref::<azure_core::Error>();
        if known.is_some_and(|known| matches!(known.kind(), ErrorKind::Io)) {
            return Fault::Unreachable {
                reason: "the source of tokens does not answer".to_owned(),
            };
        }
        // Other errors may show headers and bodies of the exchange.
        if let Some(known) = known {
            why = format!("{why}: {known}");
        }
        source = inner.source();
    }
    Fault::Denied { reason: format!("no signature or token for the request: {why}") }
}

/// Grows with each try. Half of it is chance, so that workers do not come back all at once.
fn backoff(tried: u32) -> Duration {
    let full = BACKOFF_FIRST * 4_u32.saturating_pow(tried.saturating_sub(1));
    let chance = u32::from(uuid::Uuid::new_v4().as_bytes()[0]);
    full / 2 + full * chance / 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_differ() {
        for tried in 1..TRIES_MAX {
            let full = BACKOFF_FIRST * 4_u32.pow(tried - 1);
            let waits: Vec<_> = (0..64).map(|_| backoff(tried)).collect();
            assert!(waits.iter().all(|wait| (full / 2..=full).contains(wait)), "{waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]));
        }
    }
}
