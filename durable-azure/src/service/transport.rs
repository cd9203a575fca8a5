//! The end of every pipeline: sends what the crates have signed, and reads what all answers have in common.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use azure_core::error::ErrorKind;
use azure_core::headers::{HeaderName, HeaderValue, Headers};
use azure_core::{Body, BytesStream, Context, Policy, PolicyResult, Request, Response, StatusCode};
use bytes::Bytes;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::call::Call;
use super::clock::Clock;
use super::fault::{self, Fault};
use super::transactions::{Counter, Kind, Transactions};
use crate::connection::ConnectError;

/// Header with the service's word for an error.
const ERROR_CODE: &str = "x-ms-error-code";

/// Bytes that the body of a transaction may have.
const TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024;

/// One HTTP client for all services, with the clock and the counts that all requests feed.
#[derive(Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
    clock: Clock,
    counter: Counter,
}

/// A successful answer, read to its end.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Transport {
    /// Sets up the client. `local` means an emulator: no proxy between.
    pub(super) fn new(
        connect_timeout: Duration,
        pool_idle: Duration,
        local: bool,
    ) -> Result<Self, ConnectError> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(pool_idle)
            // A redirection would carry signatures to another host.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        if local {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| ConnectError::Client(reason_of(error)))?;
        Ok(Self { http, clock: Clock::new(), counter: Counter::default() })
    }

    /// The time at the service.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What was sent so far.
    pub(super) fn transactions(&self) -> Transactions {
        self.counter.read()
    }

    async fn exchange(&self, call: &Call, request: &Request) -> Result<Answer, Fault> {
        let request = self.request(call, request)?;
        let mut sending = self.counter.sending(call.kind());
        let sent = Instant::now();
        call.begin();
        let response = self.http.execute(request).await.map_err(|error| {
            if error.is_connect() {
                sending.was_not_sent();
                Fault::Unreachable { reason: reason_of(error) }
            } else {
                Fault::Unknown { reason: reason_of(error) }
            }
        })?;
        if let Some(date) = date(response.headers()) {
            self.clock.observe(date, sent, Instant::now());
        }
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body =
            response.bytes().await.map_err(|error| Fault::Unknown { reason: reason_of(error) })?;
        if !(200..300).contains(&status) {
            let header = headers.get(ERROR_CODE).and_then(|code| code.to_str().ok());
            let code = fault::code(header, &body);
            return Err(Fault::of_answer(status, &code, retry_after(&headers)));
        }
        if call.kind() == Kind::QueueGet && !holds(&body, b"<QueueMessage>") {
            sending.was(Kind::QueueGetEmpty);
        }
        Ok(Answer { status, headers, body })
    }

    fn request(&self, call: &Call, request: &Request) -> Result<reqwest::Request, Fault> {
        let Body::Bytes(body) = request.body() else {
            return Err(Fault::malformed("a request whose body is a stream"));
        };
        if call.kind() == Kind::TableTransaction && body.len() > TRANSACTION_BYTES_MAX {
            return Err(Fault::malformed(format!(
                "a transaction of {} bytes, more than {TRANSACTION_BYTES_MAX}",
                body.len()
            )));
        }
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|_| Fault::malformed("a request with an unknown method"))?;
        let mut builder = self.http.request(method, request.url().clone());
        for (name, value) in request.headers().iter() {
            builder = builder.header(name.as_str(), value.as_str());
        }
        builder.body(body.clone()).build().map_err(|error| Fault::malformed(reason_of(error)))
    }
}

#[async_trait]
impl Policy for Transport {
    async fn send(
        &self,
        context: &Context,
        request: &mut Request,
        _next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let lost = |message: &'static str| azure_core::Error::message(ErrorKind::Other, message);
        let call = context.get::<Arc<Call>>().ok_or_else(|| lost("a request without a call"))?;
        let answer = match self.exchange(call, request).await {
            Ok(answer) => answer,
            Err(fault) => {
                call.failed(fault);
                return Err(lost("the request failed"));
            }
        };
        call.answered(answer.body.clone());
        let status = StatusCode::try_from(answer.status).map_err(|_| lost("an unknown status"))?;
        Ok(Response::new(status, headers(&answer.headers), Box::pin(BytesStream::new(answer.body))))
    }
}

/// What happened, in words. The URL is left out: it may carry a signature.
fn reason_of(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        reason = format!("{reason}: {inner}");
        source = inner.source();
    }
    reason
}

fn date(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get(DATE)?.to_str().ok()?;
    Some(azure_core::date::parse_rfc1123(date).ok()?.unix_timestamp())
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

fn headers(map: &HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in map {
        if let Ok(value) = value.to_str() {
            let name = HeaderName::from(name.as_str().to_owned());
            headers.insert(name, HeaderValue::from(value.to_owned()));
        }
    }
    headers
}
