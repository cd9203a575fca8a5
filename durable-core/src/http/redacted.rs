//! URLs that may be logged.

use axum::http::Uri;

use super::path::decoded;

/// The parameters whose values open something.
const OPENERS: [&str; 2] = ["code", "token"];

/// A URL without the key or token in it, for a log: `…?taskHub=default&code=…`.
///
/// No log line of this crate has a URL in it. Where a program logs the requests that it gets, by a layer of its
/// own, this is what it should write. The header `x-functions-key` is not to be logged at all.
///
/// ```
/// use axum::http::Uri;
/// use durable_core::http::redacted_url;
///
/// let url = Uri::from_static("/instances/a?showInput=false&code=secret&Token=1.r.9.ab");
/// assert_eq!(redacted_url(&url), "/instances/a?showInput=false&code=…&Token=…");
/// ```
#[must_use]
pub fn redacted_url(url: &Uri) -> String {
    let whole = url.to_string();
    let Some((before, query)) = whole.split_once('?') else { return whole };
    let parts: Vec<String> = query.split('&').map(redacted).collect();
    format!("{before}?{}", parts.join("&"))
}

fn redacted(part: &str) -> String {
    let Some((name, _)) = part.split_once('=') else { return part.to_owned() };
    let opens = |opener: &&str| decoded(name).eq_ignore_ascii_case(opener.as_bytes());
    if OPENERS.iter().any(opens) { format!("{name}=…") } else { part.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_read_as_a_key_or_token_is_left_out() {
        for (url, expected) in [
            ("/a", "/a"),
            ("http://h:1/a?b=c", "http://h:1/a?b=c"),
            ("/a?code", "/a?code"),
            ("/a?CODE=x&b=c&token=y&code=z", "/a?CODE=…&b=c&token=…&code=…"),
            ("/a?c%6Fde=x=y&%74oken=", "/a?c%6Fde=…&%74oken=…"),
            ("/a?xcode=1&tokens=2", "/a?xcode=1&tokens=2"),
        ] {
            assert_eq!(redacted_url(&Uri::from_static(url)), expected);
        }
    }
}
