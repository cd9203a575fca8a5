//! How events and rows become bytes: JSON that a person can read, a version in front, a checksum behind.
//!
//! ```text
//! {"v":1,"events":[{"at":…,"is":{"TimerFired":{"call":3}}}],"sum":"0011223344556677"}
//! ```
//!
//! The sum is FNV-1a 64 of all bytes before `,"sum"`: a flipped byte inside a payload would still be
//! JSON, and must not be taken for the user's data. A row that does not check, parse, or is of a newer
//! version is an error of its own kind; the instance is held, its neighbours run on.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{Event, EventSeq};
use crate::store::HistoryRow;

/// The format that this build writes. It reads this one and all older ones.
pub const FORMAT_VERSION: u32 = 1;

/// Stored bytes that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not what was written.
    #[error("the row is damaged: {0}")]
    Damaged(String),
    /// A newer build wrote them.
    #[error(
        "the row has format {found}, this build reads up to {FORMAT_VERSION}; run a newer build"
    )]
    Newer {
        /// The format of the row.
        found: u32,
    },
    /// The row is sound, but not of a shape that this build knows.
    #[error("the row holds something this build does not know: {0}")]
    Unknown(String),
}

const VERSION_1: &[u8] = b"{\"v\":1,";
const HEADER_EVENTS: &[u8] = b"{\"v\":1,\"events\":[";
const HEADER_ROW: &[u8] = b"{\"v\":1,\"row\":";
const SUM_KEY: &[u8] = b",\"sum\":\"";
const SUM_LENGTH: usize = SUM_KEY.len() + 16 + 2;

/// Collects the events of one history row.
#[derive(Debug, Default)]
pub struct EventEncoder {
    body: Vec<u8>,
    count: u32,
}

impl EventEncoder {
    /// Adds an event at the end.
    ///
    /// # Panics
    ///
    /// Never: every event has a JSON form.
    pub fn push(&mut self, event: &Event) {
        self.body.extend_from_slice(if self.count == 0 { HEADER_EVENTS } else { b"," });
        serde_json::to_writer(&mut self.body, event)
            .expect("events hold only texts, numbers and JSON, and a vector takes every byte");
        self.count += 1;
    }

    /// Events collected so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes collected so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// Closes the row and begins the next.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        self.count = 0;
        let mut body = std::mem::take(&mut self.body);
        body.push(b']');
        seal(&mut body);
        body
    }
}

/// Reads one history row.
///
/// # Errors
///
/// [`DecodeError`] where the row is damaged, newer, or holds an unknown kind of event.
pub fn decode_events(body: &[u8]) -> Result<Vec<Event>, DecodeError> {
    #[derive(Deserialize)]
    struct Row {
        events: Vec<Event>,
    }
    Ok(open::<Row>(body)?.events)
}

/// Reads a whole history and checks that it has no gap.
///
/// # Errors
///
/// [`DecodeError`] where a row cannot be read, or does not follow the one before it.
pub fn decode_history(rows: &[HistoryRow]) -> Result<Vec<Event>, DecodeError> {
    let mut events = Vec::new();
    for row in rows {
        let expected = EventSeq(events.len() as u64);
        if row.first != expected {
            return Err(DecodeError::Damaged(format!(
                "a history row begins with event {}, where event {expected} is next",
                row.first
            )));
        }
        events.append(&mut decode_events(&row.body)?);
    }
    Ok(events)
}

/// Writes any other row.
///
/// # Panics
///
/// Where `T` has no JSON form, as a map with keys that are not texts. No row of the engine is such.
#[must_use]
pub fn encode_row<T: Serialize>(row: &T) -> Vec<u8> {
    let mut body = HEADER_ROW.to_vec();
    serde_json::to_writer(&mut body, row)
        .expect("rows hold only texts, numbers and JSON, and a vector takes every byte");
    seal(&mut body);
    body
}

/// Reads any other row.
///
/// # Errors
///
/// [`DecodeError`] where the row is damaged, newer, or of an unknown shape.
pub fn decode_row<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    #[derive(Deserialize)]
    struct Row<T> {
        row: T,
    }
    Ok(open::<Row<T>>(body)?.row)
}

fn seal(body: &mut Vec<u8>) {
    let sum = fnv(body);
    body.extend_from_slice(SUM_KEY);
    body.extend_from_slice(format!("{sum:016x}").as_bytes());
    body.extend_from_slice(b"\"}");
}

fn open<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let damaged = |what: &str| DecodeError::Damaged(what.to_owned());
    let (content, tail) = body
        .len()
        .checked_sub(SUM_LENGTH)
        .and_then(|at| body.split_at_checked(at))
        .ok_or_else(|| damaged("it is too short"))?;
    let sum = tail
        .strip_prefix(SUM_KEY)
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .ok_or_else(|| damaged("it has no checksum at its end"))?;
    if sum != fnv(content) {
        return Err(damaged("its checksum does not fit"));
    }
    // Also a newer row that has the shape of an old one may mean something else.
    if !content.starts_with(VERSION_1)
        && let Ok(Version { v }) = serde_json::from_slice(body)
        && v > FORMAT_VERSION
    {
        return Err(DecodeError::Newer { found: v });
    }
    serde_json::from_slice(body).map_err(|error| DecodeError::Unknown(error.to_string()))
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CallNumber, EventKind, Payload, Timestamp};

    fn sample() -> Vec<Event> {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        vec![
            Event { at, is: EventKind::TimerFired { call: CallNumber(3) } },
            Event {
                at,
                is: EventKind::ActivityCompleted {
                    call: CallNumber(4),
                    output: Payload::from_json(r#"{"sum":"x","n": 1.50}"#).expect("JSON"),
                },
            },
        ]
    }

    fn encoded() -> Vec<u8> {
        let mut encoder = EventEncoder::default();
        for event in &sample() {
            encoder.push(event);
        }
        encoder.finish()
    }

    #[test]
    fn what_was_written_is_read_with_payloads_to_the_letter() {
        assert_eq!(decode_events(&encoded()), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let body = encoded();
        for at in 0..body.len() {
            for bit in 0..8 {
                let mut flipped = body.clone();
                flipped[at] ^= 1 << bit;
                // A hexadecimal digit of the sum in the other letter case is the same sum.
                if flipped[at].eq_ignore_ascii_case(&body[at]) {
                    continue;
                }
                assert!(decode_events(&flipped).is_err(), "bit {bit} of byte {at}");
            }
            assert!(decode_events(&body[..at]).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn a_null_that_was_set_is_not_taken_for_nothing() {
        let acceptance = serde_json::json!({
            "instance": "a", "run": 1, "nonce": uuid::Uuid::nil(), "name": "n", "input": null,
            "accepted_at": 1,
        });
        let acceptance: crate::model::Acceptance =
            serde_json::from_str(&acceptance.to_string()).expect("an acceptance");
        let mut row = crate::model::StatusRow::pending(&acceptance);
        row.output = Some(Payload::null());
        row.custom_status = Some(Payload::null());
        assert_eq!(decode_row(&encode_row(&row)), Ok(row));
    }

    #[test]
    fn a_row_of_a_newer_format_says_so() {
        let mut newer = br#"{"v":2,"packed":"x""#.to_vec();
        seal(&mut newer);
        assert_eq!(decode_events(&newer), Err(DecodeError::Newer { found: 2 }));
    }

    #[test]
    fn an_unknown_kind_of_event_is_not_damage() {
        let mut unknown = br#"{"v":1,"events":[{"at":1,"is":{"Teleported":{}}}]"#.to_vec();
        seal(&mut unknown);
        assert!(matches!(decode_events(&unknown), Err(DecodeError::Unknown(_))));
    }

    #[test]
    fn a_gap_in_a_history_is_noticed() {
        let row = |first| HistoryRow { first: EventSeq(first), body: encoded() };
        assert!(decode_history(&[row(0), row(2)]).is_ok());
        assert!(decode_history(&[row(0), row(3)]).is_err());
        assert!(decode_history(&[row(2)]).is_err());
    }
}
