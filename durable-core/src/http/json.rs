//! JSON that comes in.

use std::fmt;

use durable_machine::model::Payload;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A text that is not one JSON value, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidJson(pub(super) String);

/// The one JSON value of a body, kept exactly as it is written.
///
/// What no program could read is refused: nesting beyond 128, escapes that are no characters, numbers beyond
/// any floating-point number.
pub(super) fn payload(body: &[u8]) -> Result<Payload, InvalidJson> {
    let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
    let text = std::str::from_utf8(body).map_err(|error| InvalidJson(error.to_string()))?;
    serde_json::from_str::<Readable>(text).map_err(|error| InvalidJson(error.to_string()))?;
    Payload::from_json(text).map_err(|error| InvalidJson(error.to_string()))
}

/// Any JSON value, read to its last character and thrown away.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Readable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Readable, E> {
                Ok(Readable)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Readable, E> {
                Ok(Readable)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Readable, E> {
                Ok(Readable)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Readable, E> {
                Ok(Readable)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Readable, E> {
                Ok(Readable)
            }
            fn visit_str<E>(self, _: &str) -> Result<Readable, E> {
                Ok(Readable)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Readable, A::Error> {
                while seq.next_element::<Readable>()?.is_some() {}
                Ok(Readable)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Readable, A::Error> {
                while map.next_entry::<Readable, Readable>()?.is_some() {}
                Ok(Readable)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_as_it_is_written() {
        for text in [
            "null",
            "\"\"",
            "\"{\\\"a\\\": 1}\"",
            "{\"b\":1, \"a\" : [1.0,2e3,123456789012345678901234567890]}",
            "\"\\u00e9\\ud83e\\udd80\"",
        ] {
            assert_eq!(payload(text.as_bytes()).unwrap().json(), text);
        }
        assert_eq!(payload(b"\xEF\xBB\xBF 1 ").unwrap().json(), "1");
    }

    #[test]
    fn what_no_program_can_read_is_refused() {
        let deep = "[".repeat(129) + &"]".repeat(129);
        for text in [
            "",
            " ",
            "{",
            "1 2",
            "{a:1}",
            "'a'",
            "NaN",
            "1e400",
            "\"\\ud800\"",
            "{\"\\udc00\":1}",
            &deep,
        ] {
            assert!(payload(text.as_bytes()).is_err(), "{text}");
        }
        assert!(payload(b"\"\xFF\"").is_err());
        assert!(payload(("[".repeat(127) + &"]".repeat(127)).as_bytes()).is_ok());
    }
}
