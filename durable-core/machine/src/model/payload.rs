//! Values of users, carried as JSON text that nothing between the edges parses again.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// One JSON value, as its text: written once where it enters, parsed once where it is used.
///
/// Cloning shares the text.
///
/// ```
/// # use durable_machine::model::Payload;
/// let payload = Payload::of(&("a lamp", 7))?;
/// assert_eq!((payload.json(), payload.bytes()), (r#"["a lamp",7]"#, 12));
/// assert_eq!(payload.to::<(String, u32)>()?, ("a lamp".to_string(), 7));
/// assert!(payload.to::<u32>().is_err());
/// assert_eq!(Payload::from_json("null")?, Payload::null());
/// # Ok::<(), durable_machine::model::InvalidPayload>(())
/// ```
#[derive(Clone)]
pub struct Payload(Arc<RawValue>);

/// A value that has no JSON form, or a text that is not one JSON value.
///
/// ```
/// # use durable_machine::model::Payload;
/// let error = Payload::from_json("{ this is none").unwrap_err();
/// assert!(error.to_string().starts_with("not a JSON value: "));
/// ```
///
/// A value of another shape than is read is told as such:
///
/// ```
/// # use durable_machine::model::Payload;
/// let error = Payload::of("a lamp")?.to::<u32>().unwrap_err();
/// assert!(error.to_string().starts_with("JSON of another shape: invalid type: string"));
/// # Ok::<(), durable_machine::model::InvalidPayload>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct InvalidPayload {
    what: &'static str,
    source: serde_json::Error,
}

impl From<serde_json::Error> for InvalidPayload {
    fn from(source: serde_json::Error) -> Self {
        Self { what: "not a JSON value", source }
    }
}

impl Payload {
    /// The value `null`.
    ///
    /// # Panics
    ///
    /// Never: the word is JSON.
    #[must_use]
    pub fn null() -> Self {
        static NULL: OnceLock<Payload> = OnceLock::new();
        NULL.get_or_init(|| {
            Self(Arc::from(RawValue::from_string("null".into()).expect("null is JSON")))
        })
        .clone()
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    ///
    /// Where the value has no JSON form, such as a map whose keys are not texts.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, InvalidPayload> {
        Ok(Self(Arc::from(serde_json::value::to_raw_value(value)?)))
    }

    /// Takes a text that holds one JSON value.
    ///
    /// # Errors
    ///
    /// Where the text is not exactly one JSON value.
    pub fn from_json(text: impl Into<String>) -> Result<Self, InvalidPayload> {
        Ok(Self(Arc::from(RawValue::from_string(text.into())?)))
    }

    /// Reads the value.
    ///
    /// # Errors
    ///
    /// Where the JSON does not have the shape of `T`.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, InvalidPayload> {
        serde_json::from_str(self.0.get())
            .map_err(|source| InvalidPayload { what: "JSON of another shape", source })
    }

    /// The JSON text.
    #[must_use]
    pub fn json(&self) -> &str {
        self.0.get()
    }

    /// Bytes of the JSON text: what the payload limits count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.get().len()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Reads a member that is left out where there is no payload: `null` is a payload like any other, and
/// serde would take it for an absent one.
pub(crate) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Payload>, D::Error> {
    Payload::deserialize(deserializer).map(Some)
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Arc::from(Box::<RawValue>::deserialize(deserializer)?)))
    }
}
