//! The trace that a start belongs to.

use axum::http::HeaderMap;
use durable_machine::model::TraceContext;

/// Bytes of a `tracestate` that is kept. Source: W3C Trace Context asks for at least so many.
const STATE_BYTES_MAX: usize = 512;

/// The W3C trace context of a request; what is malformed counts as none.
pub(super) fn context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parents = headers.get_all("traceparent").iter();
    let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
    let parent = parent.to_str().ok().filter(|parent| is_parent(parent))?;
    let states = headers.get_all("tracestate").iter().filter_map(|state| state.to_str().ok());
    let state = states.collect::<Vec<_>>().join(",");
    let kept = !state.is_empty() && state.len() <= STATE_BYTES_MAX;
    Some(TraceContext {
        traceparent: parent.into(),
        tracestate: kept.then(|| state.as_str().into()),
    })
}

/// `version-trace-span-flags`; a later version may have more behind it.
fn is_parent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags, ..] = *parts else { return false };
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |part: &str| part.bytes().any(|byte| byte != b'0');
    hex(version, 2)
        && version != "ff"
        && (version != "00" || parts.len() == 4)
        && (hex(trace, 32) && some(trace))
        && (hex(span, 16) && some(span))
        && hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(parents: &[&str], states: &[&str]) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        for (name, values) in [("traceparent", parents), ("tracestate", states)] {
            for value in values {
                headers.append(name, value.parse().unwrap());
            }
        }
        context(&headers)
    }

    #[test]
    fn a_context_is_a_parent_and_perhaps_a_state() {
        let of = |states: &[&str]| {
            let context = of(&[PARENT], states).unwrap();
            assert_eq!(&*context.traceparent, PARENT);
            context.tracestate.as_deref().map(str::to_owned)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["a=1", "b=2"]).as_deref(), Some("a=1,b=2"));
        assert_eq!(of(&[&"x".repeat(513)]), None);
    }

    #[test]
    fn what_is_malformed_is_none() {
        for bad in [
            "",
            "00",
            &PARENT.to_uppercase(),
            &PARENT[1..],
            &PARENT.replace("00-", "ff-"),
            &format!("{PARENT}-more"),
            &PARENT.replace("b7ad6b7169203331", "0000000000000000"),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
        ] {
            assert_eq!(of(&[bad], &[]), None, "{bad}");
        }
        assert_eq!(of(&[PARENT, PARENT], &[]), None);
        assert!(of(&[&format!("{}-more", PARENT.replacen("00-", "01-", 1))], &[]).is_some());
    }
}
