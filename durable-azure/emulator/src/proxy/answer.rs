//! Answers that look like those of Azure Storage.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::service::Service;

pub(super) type Answer = Response<Full<Bytes>>;

const JSON: &str = "application/json;odata=minimalmetadata;streaming=true;charset=utf-8";

/// An error as the service words it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
}

pub(super) const SERVER_BUSY: Refusal = Refusal {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: "ServerBusy",
    message: "The server is busy.",
};

pub(super) const TOO_MANY_REQUESTS: Refusal = Refusal {
    status: StatusCode::TOO_MANY_REQUESTS,
    code: "TooManyRequests",
    message: "Too many requests have been made. Please try again later.",
};

pub(super) const TIMED_OUT: Refusal = Refusal {
    status: StatusCode::INTERNAL_SERVER_ERROR,
    code: "OperationTimedOut",
    message: "Operation could not be completed within the specified time.",
};

impl Refusal {
    /// `number` tells this answer from others.
    pub(super) fn answer(self, service: Service, number: u64, retry_after: Option<u32>) -> Answer {
        let (content_type, body) = match service {
            Service::Table => (JSON, self.json(number)),
            Service::Blob | Service::Queue => ("application/xml", self.xml(number)),
        };
        let mut answer = answer(self.status, content_type.to_owned(), body, number);
        answer.headers_mut().insert("x-ms-error-code", HeaderValue::from_static(self.code));
        if let Some(seconds) = retry_after {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }

    /// As the answer to an operation of a table transaction, whose own answer is a success.
    pub(super) fn in_transaction(self, number: u64) -> Answer {
        let (batch, changes) = (
            format!("batchresponse_{}", request_id(number)),
            format!("changesetresponse_{}", request_id(number)),
        );
        let (status, json) = (self.status, self.json(number));
        let lines = [
            &format!("--{batch}"),
            &format!("Content-Type: multipart/mixed; boundary={changes}"),
            "",
            &format!("--{changes}"),
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            "",
            &format!("HTTP/1.1 {status}"),
            "X-Content-Type-Options: nosniff",
            "DataServiceVersion: 3.0;",
            &format!("Content-Type: {JSON}"),
            "",
            &json,
            &format!("--{changes}--"),
            &format!("--{batch}--"),
            "",
        ];
        let content_type = format!("multipart/mixed; boundary={batch}");
        answer(StatusCode::ACCEPTED, content_type, lines.join("\r\n"), number)
    }

    fn json(self, number: u64) -> String {
        let Self { code, message, .. } = self;
        let id = request_id(number);
        format!(
            r#"{{"odata.error":{{"code":"{code}","message":{{"lang":"en-US","value":"{message}\nRequestId:{id}"}}}}}}"#
        )
    }

    fn xml(self, number: u64) -> String {
        let Self { code, message, .. } = self;
        let id = request_id(number);
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code>\
             <Message>{message}\nRequestId:{id}</Message></Error>"
        )
    }
}

fn answer(status: StatusCode, content_type: String, body: String, number: u64) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let value = |text: String| HeaderValue::try_from(text).expect("printable ASCII");
    headers.insert(CONTENT_TYPE, value(content_type));
    headers.insert("x-ms-request-id", value(request_id(number)));
    answer
}

fn request_id(number: u64) -> String {
    format!("00000000-0000-0000-0000-{number:012x}")
}
