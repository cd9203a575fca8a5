//! Bodies of requests.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt;

use super::refusal::Refusal;

pub(super) const TOO_LARGE: Refusal =
    Refusal::Limit(StatusCode::PAYLOAD_TOO_LARGE, "the body of the request is too large");
const TOO_SLOW: Refusal =
    Refusal::Limit(StatusCode::REQUEST_TIMEOUT, "the body of the request took too long");

/// Bytes for which there is room before they come: a length is soon told.
const AHEAD: usize = 64 * 1024;

/// Reads a body of at most so many bytes, for at most this long.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    time_max: Duration,
) -> Result<Vec<u8>, Refusal> {
    let told = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let told = told.and_then(|length| length.parse::<usize>().ok());
    if told.is_some_and(|told| told > bytes_max) {
        return Err(TOO_LARGE);
    }
    let whole = async {
        let mut bytes = Vec::with_capacity(told.unwrap_or(0).min(AHEAD));
        let mut stream = body.into_data_stream();
        while let Some(chunk) = stream.next().await {
            let chunk =
                chunk.map_err(|_| Refusal::argument("the body of the request is not whole"))?;
            if bytes.len() + chunk.len() > bytes_max {
                return Err(TOO_LARGE);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    tokio::time::timeout(time_max, whole).await.unwrap_or(Err(TOO_SLOW))
}

/// Whether the body is said to be JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_TYPE).and_then(|said| said.to_str().ok());
    let kind = said.unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_casing_of_the_type_do_not_count() {
        for (said, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json;charset=UTF-8;x=y", true),
            ("application/jsonp", false),
            ("text/plain; application/json", false),
            ("", false),
        ] {
            let headers = [(header::CONTENT_TYPE, said.parse().unwrap())].into_iter().collect();
            assert_eq!(is_json(&headers), json, "{said}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
