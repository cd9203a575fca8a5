//! What queue messages carry.

use durable_core::machine::codec::{DecodeError, decode_row, encode_row};
use durable_core::machine::model::{
    Acceptance, Envelope, InstanceId, Post, StartAttempt, Timestamp,
};
use durable_core::machine::store::WorkResult;
use durable_core::store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::body;
use super::failure::damaged;
use super::inner::SEQUENCE_BITS;
use crate::service::Container;

/// Bytes of a message's text: base64 makes 64 KiB of 48.
const TEXT_BYTES_MAX: usize = 48 * 1024;
/// Bytes that several things in one message may have together.
const PORTION_BYTES_MAX: usize = 40 * 1024;
/// Attempts in one message: whoever takes it takes all of them.
const WORK_PORTION_MAX: usize = 16;

/// The content of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Wire {
    /// A start was accepted. It only wakes: the acceptance row is what counts.
    Start(Box<WireStart>),
    /// A client's command.
    Command(Box<Envelope>),
    /// From owners of other partitions.
    Posts(Vec<Post>),
    /// Of an attempt that another worker ran.
    Result(Box<WorkResult>),
    /// Attempts for whoever has room.
    Work(Vec<StartAttempt>),
    /// The same, of such that had been taken and were given back.
    WorkAgain {
        work: Vec<StartAttempt>,
        /// How often they were taken and not given back.
        taken: u32,
    },
    /// Too large for a message.
    Blob {
        /// Its name.
        name: String,
    },
}

/// An accepted start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct WireStart {
    pub(super) acceptance: Acceptance,
    /// Where the status row came with the acceptance row: what is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) new: Option<NewRows>,
}

/// Rows that an acceptance inserted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct NewRows {
    /// Its place in the list.
    pub(super) created: u64,
    /// The blob of its status row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status_blob: Option<String>,
    /// The blob of its acceptance row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) start_blob: Option<String>,
}

impl NewRows {
    /// When its place was given out.
    pub(super) fn time(&self) -> Timestamp {
        let micros = self.created >> SEQUENCE_BITS;
        Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// The text of a message; what is too large goes into a blob first.
pub(super) async fn text(container: &Container, wire: &Wire) -> Result<String, StoreError> {
    let encoded = encode_row(wire);
    let encoded = if encoded.len() > TEXT_BYTES_MAX {
        let name = format!("messages/{}", Uuid::new_v4().simple());
        body::write_blob(container, &name, &encoded).await?;
        encode_row(&Wire::Blob { name })
    } else {
        encoded
    };
    String::from_utf8(encoded).map_err(|error| StoreError::Unusable(error.to_string()))
}

/// The content of a message, and the blob that it came from.
pub(super) async fn read(
    container: &Container,
    text: &str,
) -> Result<(Wire, Option<String>), ReadError> {
    match decode_row(text.as_bytes())? {
        Wire::Blob { name } => {
            let packed = container.get(&name).await.map_err(super::failure::not_applied)?;
            let missing = || damaged("messages", &name, "the blob of a message is missing");
            let body = body::unpack(&packed.ok_or_else(missing)?).map_err(DecodeError::Damaged)?;
            Ok((decode_row(&body)?, Some(name)))
        }
        wire => Ok((wire, None)),
    }
}

/// The blob that a message's text names, where it was too large.
pub(super) fn blob_of(text: &str) -> Option<String> {
    match decode_row(text.as_bytes()) {
        Ok(Wire::Blob { name }) => Some(name),
        Ok(_) | Err(_) => None,
    }
}

/// For whom an unreadable message was, where its text still says so.
pub(super) fn instance_of(text: &str) -> Option<InstanceId> {
    fn find(value: &Value) -> Option<&str> {
        match value {
            Value::Object(fields) => match fields.get("instance") {
                Some(Value::String(instance)) => Some(instance),
                _ => fields.values().find_map(find),
            },
            Value::Array(items) => items.iter().find_map(find),
            _ => None,
        }
    }
    let value: Value = serde_json::from_str(text).ok()?;
    InstanceId::new(find(&value)?).ok()
}

/// Why a message has no content.
#[derive(Debug)]
pub(super) enum ReadError {
    /// It can never be read, or by a newer build only.
    Message(DecodeError),
    /// Storage did not give it.
    Storage(StoreError),
}

impl From<DecodeError> for ReadError {
    fn from(error: DecodeError) -> Self {
        Self::Message(error)
    }
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt { source, .. } => Self::Message(source),
            other => Self::Storage(other),
        }
    }
}

/// Cuts a list so that each portion fits one message, if any single item does.
pub(super) fn portions<T: Serialize>(items: Vec<T>, most: usize) -> Vec<Vec<T>> {
    let mut portions: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let size = encode_row(&item).len();
        match portions.last_mut() {
            Some(last) if last.len() < most && bytes + size <= PORTION_BYTES_MAX => {
                bytes += size;
                last.push(item);
            }
            _ => {
                bytes = size;
                portions.push(vec![item]);
            }
        }
    }
    portions
}

/// Attempts, cut into messages.
pub(super) fn work_portions(work: Vec<StartAttempt>) -> Vec<Vec<StartAttempt>> {
    portions(work, WORK_PORTION_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_keep_the_order_and_fit() {
        let items: Vec<String> = (0..20).map(|n| n.to_string().repeat(5_000)).collect();
        let cut = portions(items.clone(), 16);
        assert!(cut.len() > 1);
        assert!(cut.iter().all(|portion| encode_row(portion).len() <= TEXT_BYTES_MAX));
        assert_eq!(cut.concat(), items);
        assert_eq!(portions(vec![0; 33], 16).iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 1]);
    }
}
