//! Why a call failed, as a choice for its caller.

use std::time::Duration;

use bytes::Bytes;

/// How long to wait where the service asks to slow down and does not say for how long.
const THROTTLED_WAIT: Duration = Duration::from_millis(500);

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Not applied: the service asks to slow down.
    #[error("storage asks to slow down ({reason})")]
    Throttled {
        /// When to try again.
        retry_after: Duration,
        /// Status and code.
        reason: String,
    },
    /// Not applied: a definite no.
    #[error(
        "storage refused with {status} {code}{}",
        index.map(|index| format!(" (operation {index})")).unwrap_or_default()
    )]
    Refused {
        /// The HTTP status, of the failing operation where it was a transaction.
        status: u16,
        /// The service's word for it, for example `EntityAlreadyExists`.
        code: String,
        /// Which operation of a transaction it was, if the answer says.
        index: Option<usize>,
    },
    /// The answer was lost: a write may have been applied.
    #[error("storage did not say what became of the request: {reason}")]
    Unknown {
        /// What happened instead.
        reason: String,
    },
    /// Nothing was sent.
    #[error("storage cannot be reached: {reason}")]
    Unreachable {
        /// What stands in the way.
        reason: String,
    },
    /// Not applied: the credential is not accepted.
    #[error("storage denies access: {reason}")]
    Denied {
        /// What to check.
        reason: String,
    },
    /// An answer that cannot be understood, or a request that must not be sent.
    #[error("{reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

impl Fault {
    /// An answer or a request that is not as it has to be.
    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed { reason: reason.into() }
    }

    /// What an answer with this status means.
    pub(super) fn of_answer(status: u16, code: &str, retry_after: Option<Duration>) -> Self {
        let reason = format!("{status} {code}").trim_end().to_owned();
        match status {
            429 => throttled(retry_after, reason),
            // A front end that is busy says so before it does anything. Any other 503 may come from behind it.
            503 if code == "ServerBusy" || (code.is_empty() && retry_after.is_some()) => {
                throttled(retry_after, reason)
            }
            401 | 403 => Self::Denied { reason: format!("{reason}: {}", what_to_check(code)) },
            // An emulator answers 501 to what it does not know; like the others below it did nothing.
            501 => Self::Refused { status, code: code.to_owned(), index: None },
            408 | 500.. => Self::Unknown { reason: format!("storage answered {reason}") },
            300..400 => Self::malformed(format!("storage answered {reason}: a redirection")),
            ..300 | 400.. => Self::Refused { status, code: code.to_owned(), index: None },
        }
    }

    /// The same, of one operation of a transaction.
    pub(super) fn of_operation(self, failed: Option<usize>) -> Self {
        match self {
            Self::Refused { status, code, .. } => Self::Refused { status, code, index: failed },
            other @ (Self::Throttled { .. }
            | Self::Unknown { .. }
            | Self::Unreachable { .. }
            | Self::Denied { .. }
            | Self::Malformed { .. }) => other,
        }
    }

    /// Whether it is a refusal with one of these codes.
    pub(crate) fn is_refused_as(&self, codes: &[&str]) -> bool {
        matches!(self, Self::Refused { code, .. } if codes.contains(&code.as_str()))
    }
}

/// What a creation came to. That the thing exists already, which the service calls `exists`, is success.
pub(super) fn created<T>(answer: Result<T, Fault>, exists: &str) -> Result<(), Fault> {
    match answer {
        Ok(_) => Ok(()),
        Err(fault) if fault.is_refused_as(&[exists]) => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// What a deletion came to. That the thing is missing is success.
pub(super) fn deleted<T>(answer: Result<T, Fault>) -> Result<(), Fault> {
    match answer {
        Ok(_) | Err(Fault::Refused { status: 404, .. }) => Ok(()),
        Err(fault) => Err(fault),
    }
}

fn throttled(retry_after: Option<Duration>, reason: String) -> Fault {
    Fault::Throttled { retry_after: retry_after.unwrap_or(THROTTLED_WAIT), reason }
}

fn what_to_check(code: &str) -> &'static str {
    match code {
        "AuthorizationPermissionMismatch" | "InsufficientAccountPermissions" => {
            "the identity or signature lacks a permission: data roles for blobs, queues and tables"
        }
        "AuthorizationFailure" | "IpAuthorizationFailure" => {
            "check the network rules of the account and what the signature allows"
        }
        "KeyBasedAuthenticationNotPermitted" => "the account does not accept keys: use a token",
        _ => {
            "check the account's name and key, signature or token, its expiry, and this machine's time"
        }
    }
}

/// The service's error code: in a header, in JSON (tables) or in XML (queues and blobs).
pub(super) fn code(header: Option<&str>, body: &Bytes) -> String {
    if let Some(code) = header {
        return code.to_owned();
    }
    let text = String::from_utf8_lossy(body);
    if let Some((code, _)) = odata_error(&text) {
        return code;
    }
    let in_xml = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    in_xml.map(|(code, _)| code.to_owned()).unwrap_or_default()
}

/// Code and message of an error as the table service writes it. More may follow: the boundary of a
/// transaction's part.
pub(super) fn odata_error(text: &str) -> Option<(String, String)> {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(rename = "odata.error")]
        error: Inner,
    }
    #[derive(serde::Deserialize)]
    struct Inner {
        code: String,
        #[serde(default)]
        message: Message,
    }
    #[derive(Default, serde::Deserialize)]
    struct Message {
        #[serde(default)]
        value: String,
    }
    let body: Body = serde_json::Deserializer::from_str(text).into_iter().next()?.ok()?;
    Some((body.error.code, body.error.message.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_choice_for_the_caller() {
        let second = Some(Duration::from_secs(1));
        let cases = [
            (429, "", None, "slow down"),
            (503, "ServerBusy", None, "slow down"),
            (503, "", second, "slow down"),
            (503, "", None, "did not say"),
            (500, "OperationTimedOut", None, "did not say"),
            (500, "", None, "did not say"),
            (408, "", None, "did not say"),
            (401, "", None, "denies"),
            (403, "AuthenticationFailed", None, "denies"),
            (404, "TableNotFound", None, "refused with 404 TableNotFound"),
            (409, "EntityAlreadyExists", None, "refused with 409"),
            (412, "UpdateConditionNotSatisfied", None, "refused with 412"),
            (501, "NotImplemented", None, "refused with 501"),
            (307, "", None, "redirection"),
        ];
        for (status, code, retry_after, means) in cases {
            let fault = Fault::of_answer(status, code, retry_after).to_string();
            assert!(fault.contains(means), "{status} {code}: {fault}");
        }
    }

    #[test]
    fn the_code_is_found_wherever_it_stands() {
        let json = r#"{"odata.error":{"code":"A","message":{"lang":"en-US","value":"b"}}}"#;
        let xml =
            "\u{feff}<?xml version=\"1.0\"?><Error><Code>B</Code><Message>m</Message></Error>";
        let of = |header, body: &str| code(header, &Bytes::copy_from_slice(body.as_bytes()));
        assert_eq!(of(Some("C"), json), "C");
        assert_eq!(of(None, json), "A");
        assert_eq!(of(None, xml), "B");
        assert_eq!(of(None, "<html>"), "");
    }
}
