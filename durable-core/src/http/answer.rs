//! Answers: empty or JSON, whatever they say.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::path::encoded;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

pub(super) fn json<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            *response.status_mut() = status;
            response.headers_mut().insert(header::CONTENT_TYPE, JSON);
            response
        }
        Err(error) => {
            tracing::error!(%error, "an answer has no JSON form");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// Sets `Location`. A URL that came in may have letters in it that a header cannot have: they are escaped.
pub(super) fn locate(response: &mut Response, url: &str) {
    let escaped: String = url
        .chars()
        .map(|letter| if letter.is_ascii() { letter.into() } else { encoded(&letter.to_string()) })
        .collect();
    if let Ok(url) = HeaderValue::from_str(&escaped) {
        response.headers_mut().insert(header::LOCATION, url);
    }
}

/// What holds for every answer: it is for this caller, now, and nothing but what it says it is; and where a browser
/// goes on from it, its URL is told to nobody.
pub(super) fn seal(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}
