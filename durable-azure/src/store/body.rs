//! Bodies: text in the row where they are small, compressed in a blob where they are not.

use std::io::{Read as _, Write as _};

use durable_core::machine::codec::DecodeError;
use durable_core::machine::model::limits::PAYLOAD_BYTES_MAX;
use durable_core::store::StoreError;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::failure::{damaged, maybe_applied, not_applied, passes};
use crate::service::{Columns, Container, Fault, Row, Value};

/// Bytes of a body that stand in its row. So one row stays far below the size limit of rows.
pub(super) const INLINE_BYTES_MAX: usize = 45 * 1024;
/// UTF-16 units of one text property; the service takes 32 Ki.
const PROPERTY_UNITS_MAX: usize = 32_000;
/// Bytes that a blob may hold when it is unpacked: a row with several payloads of the largest size. Damage must not
/// fill the memory.
const UNPACKED_BYTES_MAX: u64 = 64 * PAYLOAD_BYTES_MAX as u64;
/// Times a blob is written anew where the answer was lost.
const WRITES_MAX: usize = 3;

const BODY: &str = "body";
const BODY_2: &str = "body2";
const RAW: &str = "raw";
const BLOB: &str = "blob";

/// Sets the columns of a body that stands in the row, over those of any body that was there.
pub(super) fn set_inline(columns: &mut Columns, body: &[u8]) {
    match std::str::from_utf8(body) {
        Ok(text) => {
            let at = property_end(text);
            columns.insert(BODY.into(), Value::Text(text[..at].to_owned()));
            columns.insert(BODY_2.into(), Value::Text(text[at..].to_owned()));
        }
        Err(_) => {
            columns.insert(RAW.into(), Value::Binary(body.to_vec()));
        }
    }
    columns.insert(BLOB.into(), Value::Text(String::new()));
}

/// Sets the columns of a body that stands in a blob.
pub(super) fn set_blob(columns: &mut Columns, name: &str) {
    columns.insert(BODY.into(), Value::Text(String::new()));
    columns.insert(BODY_2.into(), Value::Text(String::new()));
    columns.insert(BLOB.into(), Value::Text(name.to_owned()));
}

/// Where the first property ends.
fn property_end(text: &str) -> usize {
    if text.len() <= PROPERTY_UNITS_MAX {
        return text.len();
    }
    let mut units = 0;
    for (at, c) in text.char_indices() {
        units += c.len_utf16();
        if units > PROPERTY_UNITS_MAX {
            return at;
        }
    }
    text.len()
}

/// The blob of a row, if its body stands in one.
pub(super) fn blob(row: &Row) -> Option<&str> {
    row.text(BLOB).filter(|name| !name.is_empty())
}

/// The body of a row. `None`: its blob is gone, as that of a row that has been replaced meanwhile.
pub(super) async fn read(container: &Container, row: &Row) -> Result<Option<Vec<u8>>, StoreError> {
    if let Some(name) = blob(row) {
        let Some(packed) = container.get(name).await.map_err(not_applied)? else {
            return Ok(None);
        };
        return unpack(&packed).map(Some).map_err(|error| damaged(&row.partition, &row.key, error));
    }
    if let Some(raw) = row.binary(RAW) {
        return Ok(Some(raw.to_vec()));
    }
    let text = |column| row.text(column).unwrap_or_default();
    Ok(Some(format!("{}{}", text(BODY), text(BODY_2)).into_bytes()))
}

/// The body of a row that nobody replaces.
pub(super) async fn read_fixed(container: &Container, row: &Row) -> Result<Vec<u8>, StoreError> {
    match read(container, row).await? {
        Some(body) => Ok(body),
        None => Err(damaged(&row.partition, &row.key, missing(row))),
    }
}

pub(super) fn missing(row: &Row) -> String {
    format!("its blob {:?} is missing", blob(row).unwrap_or_default())
}

/// Decodes a body.
pub(super) fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    durable_core::machine::codec::decode_row(body)
}

/// Writes a blob under a name that is used once.
pub(super) async fn write_blob(
    container: &Container,
    name: &str,
    body: &[u8],
) -> Result<(), StoreError> {
    let packed = bytes::Bytes::from(pack(body));
    let mut tried = 0;
    loop {
        tried += 1;
        match container.put_new(name, packed.clone()).await {
            // That it is there already is an earlier try whose answer was lost.
            Ok(_) => return Ok(()),
            Err(Fault::Unknown { .. }) if tried < WRITES_MAX => {}
            Err(fault) if passes(&fault) => return Err(not_applied(fault)),
            Err(fault) => return Err(maybe_applied(fault)),
        }
    }
}

fn pack(body: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    // A vector takes every byte.
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut decoder = ZlibDecoder::new(packed).take(UNPACKED_BYTES_MAX);
    decoder.read_to_end(&mut body).map_err(|error| format!("its blob is damaged: {error}"))?;
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for text in
            ["x".repeat(40_000), "ü".repeat(22_000), "🦀".repeat(11_000), "é🦀".repeat(7_000)]
        {
            let mut columns = Columns::new();
            set_inline(&mut columns, text.as_bytes());
            let (Some(Value::Text(one)), Some(Value::Text(two))) =
                (columns.get(BODY), columns.get(BODY_2))
            else {
                panic!("two texts");
            };
            assert_eq!(format!("{one}{two}"), text);
            assert!(one.encode_utf16().count() <= PROPERTY_UNITS_MAX);
            assert!(two.encode_utf16().count() <= PROPERTY_UNITS_MAX);
        }
    }

    #[test]
    fn what_was_packed_is_unpacked_and_damage_is_noticed() {
        let body = "durable ".repeat(10_000).into_bytes();
        let mut packed = pack(&body);
        assert!(packed.len() * 10 < body.len());
        assert_eq!(unpack(&packed), Ok(body));
        let middle = packed.len() / 2;
        packed[middle] ^= 1;
        assert!(unpack(&packed).is_err());
    }
}
