//! Rows, and their JSON form.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;

use azure_core::base64;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::fault::Fault;

/// UTF-16 units that a text may have: 64 KiB.
const TEXT_UNITS_MAX: usize = 32 * 1024;
/// Bytes that a binary value may have. The service takes one more, its emulator does not.
const BINARY_BYTES_MAX: usize = 64 * 1024 - 1;
/// Columns that a row may have beside its keys and its time.
const COLUMNS_MAX: usize = 252;
/// Characters that a key may have.
const KEY_CHARS_MAX: usize = 512;

const PARTITION_KEY: &str = "PartitionKey";
const ROW_KEY: &str = "RowKey";
const TIMESTAMP: &str = "Timestamp";
const TYPE_SUFFIX: &str = "@odata.type";
const INT64: &str = "Edm.Int64";
const BINARY: &str = "Edm.Binary";

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// At most 32 Ki UTF-16 units.
    Text(String),
    /// All 64 bits of it.
    Int(i64),
    /// Yes or no.
    Bool(bool),
    /// At most 65 535 bytes.
    Binary(Vec<u8>),
}

/// Columns to write.
pub(crate) type Columns = BTreeMap<Cow<'static, str>, Value>;

/// The version of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Etag(pub(super) String);

/// A row that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its key within the partition.
    pub(crate) key: String,
    /// Its partition.
    pub(crate) partition: String,
    /// Its version.
    pub(crate) etag: Etag,
    /// Everything else, the service's own time of the last write left out.
    pub(crate) columns: BTreeMap<String, Value>,
}

impl Row {
    /// A column that holds text.
    pub(crate) fn text(&self, column: &str) -> Option<&str> {
        match self.columns.get(column)? {
            Value::Text(text) => Some(text),
            Value::Int(_) | Value::Bool(_) | Value::Binary(_) => None,
        }
    }

    /// A column that holds a number.
    pub(crate) fn int(&self, column: &str) -> Option<i64> {
        match self.columns.get(column)? {
            Value::Int(int) => Some(*int),
            Value::Text(_) | Value::Bool(_) | Value::Binary(_) => None,
        }
    }

    /// A column that holds yes or no.
    pub(crate) fn bool(&self, column: &str) -> Option<bool> {
        match self.columns.get(column)? {
            Value::Bool(bool) => Some(*bool),
            Value::Text(_) | Value::Int(_) | Value::Binary(_) => None,
        }
    }

    /// A column that holds bytes.
    pub(crate) fn binary(&self, column: &str) -> Option<&[u8]> {
        match self.columns.get(column)? {
            Value::Binary(binary) => Some(binary),
            Value::Text(_) | Value::Int(_) | Value::Bool(_) => None,
        }
    }

    /// Reads a row in JSON with full metadata. `etag` is the header's, where the answer is one row only.
    pub(super) fn read(
        json: &serde_json::Map<String, serde_json::Value>,
        etag: Option<&str>,
    ) -> Result<Self, Fault> {
        let named = |name: &str| json.get(name).and_then(serde_json::Value::as_str);
        let needed = |name: &str| {
            named(name).ok_or_else(|| Fault::malformed(format!("a row without {name}")))
        };
        let mut columns = BTreeMap::new();
        for (name, value) in json {
            let ours = !name.contains("odata.")
                && !matches!(name.as_str(), PARTITION_KEY | ROW_KEY | TIMESTAMP);
            if !ours {
                continue;
            }
            let kind = named(&format!("{name}{TYPE_SUFFIX}"));
            let value = read_value(value, kind)
                .map_err(|()| Fault::malformed(format!("a row whose {name} cannot be read")))?;
            columns.extend(value.map(|value| (name.clone(), value)));
        }
        let etag = match etag {
            Some(etag) => etag,
            None => needed("odata.etag")?,
        };
        Ok(Self {
            key: needed(ROW_KEY)?.to_owned(),
            partition: needed(PARTITION_KEY)?.to_owned(),
            etag: Etag(etag.to_owned()),
            columns,
        })
    }
}

/// `None` for what this crate never writes: null and fractions.
fn read_value(value: &serde_json::Value, kind: Option<&str>) -> Result<Option<Value>, ()> {
    Ok(match (value, kind) {
        (serde_json::Value::String(text), Some(INT64)) => {
            Some(Value::Int(text.parse().map_err(|_| ())?))
        }
        (serde_json::Value::String(text), Some(BINARY)) => {
            Some(Value::Binary(base64::decode(text).map_err(|_| ())?))
        }
        (serde_json::Value::String(text), _) => Some(Value::Text(text.clone())),
        (serde_json::Value::Bool(bool), _) => Some(Value::Bool(*bool)),
        (serde_json::Value::Number(number), _) => number.as_i64().map(Value::Int),
        (serde_json::Value::Null, _) => None,
        (serde_json::Value::Array(_) | serde_json::Value::Object(_), _) => return Err(()),
    })
}

/// A row as it is written.
pub(super) struct Written<'a> {
    pub(super) partition: &'a str,
    pub(super) key: &'a str,
    pub(super) columns: &'a Columns,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(PARTITION_KEY, self.partition)?;
        map.serialize_entry(ROW_KEY, self.key)?;
        for (name, value) in self.columns {
            match value {
                Value::Text(text) => map.serialize_entry(name, text)?,
                Value::Bool(bool) => map.serialize_entry(name, bool)?,
                // A JSON number loses what is beyond 32 bits.
                Value::Int(int) => {
                    map.serialize_entry(&format!("{name}{TYPE_SUFFIX}"), INT64)?;
                    map.serialize_entry(name, &int.to_string())?;
                }
                Value::Binary(binary) => {
                    map.serialize_entry(&format!("{name}{TYPE_SUFFIX}"), BINARY)?;
                    map.serialize_entry(name, &base64::encode(binary))?;
                }
            }
        }
        map.end()
    }
}

impl Written<'_> {
    /// Bytes of its JSON form.
    pub(super) fn json_bytes(&self) -> usize {
        struct Count(usize);
        impl io::Write for Count {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += bytes.len();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut count = Count(0);
        // Neither the sink nor the map of strings can fail.
        let _ = serde_json::to_writer(&mut count, self);
        count.0
    }

    /// Refuses what the service would refuse, or would take for something else.
    pub(super) fn check(&self) -> Result<(), Fault> {
        check_key(self.partition)?;
        check_key(self.key)?;
        let refused = |problem: String| {
            Err(Fault::malformed(format!("the row {:?} cannot be written: {problem}", self.key)))
        };
        if self.columns.len() > COLUMNS_MAX {
            return refused(format!("{} columns, more than {COLUMNS_MAX}", self.columns.len()));
        }
        for (name, value) in self.columns {
            if !is_column_name(name) {
                return refused(format!("{name:?} cannot name a column"));
            }
            match value {
                // Each byte of UTF-8 stands for at most one UTF-16 unit.
                Value::Text(text) if text.len() > TEXT_UNITS_MAX => {
                    let units = text.encode_utf16().count();
                    if units > TEXT_UNITS_MAX {
                        return refused(format!(
                            "{name} has {units} UTF-16 units, more than {TEXT_UNITS_MAX}"
                        ));
                    }
                }
                Value::Binary(binary) if binary.len() > BINARY_BYTES_MAX => {
                    return refused(format!(
                        "{name} has {} bytes, more than {BINARY_BYTES_MAX}",
                        binary.len()
                    ));
                }
                Value::Text(_) | Value::Int(_) | Value::Bool(_) | Value::Binary(_) => {}
            }
        }
        Ok(())
    }
}

fn is_column_name(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    let own = !matches!(name, PARTITION_KEY | ROW_KEY | TIMESTAMP);
    first
        && own
        && name.len() <= 255
        && chars.all(|rest| rest.is_ascii_alphanumeric() || rest == '_')
}

/// Refuses keys that the service refuses, and those that would address another row: a quote ends the key in the
/// URL of a request, and a percent sign is decoded a second time on the way.
pub(super) fn check_key(key: &str) -> Result<(), Fault> {
    let fits = |c: char| !matches!(c, '/' | '\\' | '#' | '?' | '\'' | '%') && !c.is_control();
    if key.chars().all(fits) && key.encode_utf16().count() <= KEY_CHARS_MAX {
        Ok(())
    } else {
        Err(Fault::malformed(format!("{:?} cannot be a key", shortened(key))))
    }
}

fn shortened(key: &str) -> String {
    key.chars().take(64).collect()
}
