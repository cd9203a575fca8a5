//! Every id is a type of its own, so that none can stand in another's place.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::limits;

/// A name or id that breaks the rules of its kind; the text says which rule.
///
/// ```
/// # use durable_machine::model::HubName;
/// let error = HubName::new("7").unwrap_err();
/// assert!(error.to_string().contains("3 to 45 letters and digits"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(String);

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The number that follows this one.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Tells the lives of one instance id apart: a later run has a higher number, also across a purge.
    ///
    /// It is the start's time in microseconds, raised above the previous run's number where there is
    /// one. Being a time and not a counter, it needs no row that outlives a purge.
    ///
    /// ```
    /// # use durable_machine::model::RunNumber;
    /// let first = RunNumber(1_700_000_000_000_000);
    /// assert!(first.next() > first);
    /// assert_eq!(first.to_string(), "1700000000000000");
    /// ```
    RunNumber(u64)
}
number! {
    /// Counts the generations of a run, from 0. Continue-as-new and rewind begin the next.
    ExecutionNumber(u32)
}
number! {
    /// Numbers the calls, timers and other durable operations of an execution, in the order in which
    /// its code asked for them, from 0.
    CallNumber(u32)
}
number! {
    /// Counts the tries of one activity call, from 1.
    Attempt(u32)
}
number! {
    /// Position of an event in the history of its execution, from 0, without gaps.
    EventSeq(u64)
}
number! {
    /// A fixed share of a hub's instances, from 0.
    PartitionId(u16)
}
number! {
    /// Only the newest owner of a partition holds its highest fence.
    Fence(u64)
}
number! {
    /// Numbers the commits of one owner of a partition, from 1.
    CommitNumber(u64)
}
number! {
    /// Numbers the messages from one partition to another, from 1, without gaps.
    MessageNumber(u64)
}

impl Attempt {
    /// The first try.
    pub const FIRST: Self = Self(1);
}

/// Addresses an instance of a task hub.
///
/// 1 to 256 characters, none of `/ \ ? #` and no control characters, not starting with `@` (which is
/// reserved): the rules of the management API, kept for library calls too.
///
/// ```
/// # use durable_machine::model::InstanceId;
/// let id = InstanceId::new("order-7")?;
/// assert_eq!((id.as_str(), id.to_string()), ("order-7", "order-7".to_string()));
/// assert_eq!("order-7".parse(), Ok(id));
/// assert!(InstanceId::new("orders/7").is_err());
/// assert!(InstanceId::new("@7").is_err());
/// # Ok::<(), durable_machine::model::InvalidName>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// Checks and takes an id.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] says which rule the id breaks.
    pub fn new(id: impl Into<Arc<str>>) -> Result<Self, InvalidName> {
        let id: Arc<str> = id.into();
        let characters = id.chars().count();
        if characters == 0 {
            return Err(InvalidName("an instance id must not be empty".into()));
        }
        if characters > limits::INSTANCE_ID_CHARS_MAX {
            return Err(InvalidName(format!(
                "an instance id has at most {} characters, this one has {characters}",
                limits::INSTANCE_ID_CHARS_MAX
            )));
        }
        if id.starts_with('@') {
            return Err(InvalidName("an instance id must not start with '@' (reserved)".into()));
        }
        if let Some(bad) =
            id.chars().find(|c| matches!(c, '/' | '\\' | '?' | '#') || c.is_control())
        {
            return Err(InvalidName(format!(
                "an instance id must not contain {bad:?} (nor any of / \\ ? # or a control character)"
            )));
        }
        Ok(Self(id))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition of this instance: FNV-1a 64 of the id's UTF-8 bytes, modulo the hub's partition
    /// count. Stored data depends on it, so it never changes.
    ///
    /// # Panics
    ///
    /// Never: a remainder by a 16-bit number fits 16 bits.
    #[must_use]
    pub fn partition(&self, partitions: u16) -> PartitionId {
        let hash = self.0.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let share = hash % u64::from(partitions.max(1));
        PartitionId(u16::try_from(share).expect("a remainder by a u16 fits a u16"))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(text).map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for InstanceId {
    type Err = InvalidName;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::new(s)
    }
}

/// Addresses one execution: what everything stored or sent carries.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExecutionKey {
    /// The instance.
    pub instance: InstanceId,
    /// The life of that instance id.
    pub run: RunNumber,
    /// The generation of that run.
    pub execution: ExecutionNumber,
}

impl ExecutionKey {
    /// What no other call of any execution has, for one purpose. Stored data depends on it, so it never changes.
    #[must_use]
    pub fn digest(&self, purpose: &str, call: CallNumber) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(purpose.as_bytes());
        hasher.update([0]);
        hasher.update(self.instance.as_str().as_bytes());
        hasher.update([0]);
        hasher.update(self.run.0.to_le_bytes());
        hasher.update(self.execution.0.to_le_bytes());
        hasher.update(call.0.to_le_bytes());
        hasher.finalize().into()
    }

    /// The id of the child that this call of the execution asks for, where the code chose none: the parent's
    /// id, the call, and 80 bits that no other call of any execution gets.
    ///
    /// A parent's id that leaves no room is cut. Stored data depends on it, so it never changes.
    #[must_use]
    pub fn child_id(&self, call: CallNumber) -> InstanceId {
        let mut tail = format!(":{call}:");
        for byte in &self.digest("child", call)[..10] {
            let _ = write!(tail, "{byte:02x}");
        }
        let room = limits::INSTANCE_ID_CHARS_MAX - tail.len();
        let id: String = self.instance.as_str().chars().take(room).collect();
        InstanceId((id + &tail).into())
    }
}

impl fmt::Display for ExecutionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (run {}, execution {})", self.instance, self.run, self.execution)
    }
}

/// Names one try of one call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptKey {
    /// The execution that waits for it.
    pub key: ExecutionKey,
    /// The call.
    pub call: CallNumber,
    /// The try.
    pub attempt: Attempt,
}

/// Identifies one start of a worker process; made new at each start and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub Uuid);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Makes a start idempotent: the same nonce never starts twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartNonce(pub Uuid);

/// Identifies a message from outside, so that its second arrival changes nothing. The caller's own
/// event id where one was given, else a random one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnvelopeId(pub Arc<str>);

impl fmt::Display for EnvelopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a task hub: 3 to 45 letters and digits, a letter first.
///
/// ```
/// # use durable_machine::model::HubName;
/// let hub = HubName::new("orders")?;
/// assert_eq!(hub.as_str(), "orders");
/// assert!(HubName::new("my-orders").is_err());
/// # Ok::<(), durable_machine::model::InvalidName>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct HubName(Arc<str>);

impl HubName {
    /// Checks and takes a name.
    ///
    /// # Errors
    ///
    /// [`InvalidName`] states the rule.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, InvalidName> {
        let name: Arc<str> = name.into();
        let fits = (limits::HUB_NAME_CHARS_MIN..=limits::HUB_NAME_CHARS_MAX).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric());
        if fits {
            Ok(Self(name))
        } else {
            Err(InvalidName(format!(
                "a hub name has {} to {} letters and digits, a letter first; {name:?} does not",
                limits::HUB_NAME_CHARS_MIN,
                limits::HUB_NAME_CHARS_MAX
            )))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_ids_are_taken_or_refused_with_the_rule() {
        for fine in ["a", "order 7", "ümläut", "🦀", "it's \"quoted\"", "a+b%20", &"x".repeat(256)]
        {
            assert_eq!(InstanceId::new(fine).map(|id| id.as_str().to_owned()), Ok(fine.to_owned()));
        }
        for (bad, rule) in [
            ("", "empty"),
            ("@entity", "'@'"),
            ("a/b", "'/'"),
            ("a\\b", "'\\\\'"),
            ("a?b", "'?'"),
            ("a#b", "'#'"),
            ("a\nb", "'\\n'"),
            (&"x".repeat(257), "256"),
        ] {
            let error = InstanceId::new(bad).expect_err(bad).to_string();
            assert!(error.contains(rule), "{bad:?}: {error}");
        }
    }

    #[test]
    fn the_partition_of_an_id_never_changes() {
        // FNV-1a 64 reference values: "" is the offset basis, "a" is 0xaf63dc4c8601ec8c.
        let a = InstanceId::new("a").expect("valid");
        assert_eq!(a.partition(64), PartitionId((0xaf63_dc4c_8601_ec8c_u64 % 64) as u16));
        assert_eq!(a.partition(1), PartitionId(0));
    }

    #[test]
    fn the_id_of_a_child_never_changes_and_is_that_of_no_other() {
        let key = |id: &str, run, execution| ExecutionKey {
            instance: InstanceId::new(id).expect("valid"),
            run: RunNumber(run),
            execution: ExecutionNumber(execution),
        };
        let child = |id: &str, run, execution, call| {
            let child = key(id, run, execution).child_id(CallNumber(call));
            assert_eq!(InstanceId::new(child.as_str()), Ok(child.clone()));
            child.as_str().to_owned()
        };
        assert_eq!(child("order-7", 1, 0, 3), "order-7:3:49c599bc7a889d75cd07");
        let others = [
            child("order-7", 2, 0, 3),
            child("order-7", 1, 1, 3),
            child("order-7", 1, 0, 4),
            child(&"ü".repeat(255), 1, 0, 3),
            child(&"ü".repeat(256), 1, 0, 3),
        ];
        let distinct: std::collections::BTreeSet<_> = others.iter().collect();
        assert_eq!(distinct.len(), others.len());
        assert_eq!(others[4].chars().count(), 256);
    }

    #[test]
    fn hub_names_follow_the_rule() {
        assert!(HubName::new("orders7").is_ok());
        for bad in ["ab", "7up", "with-dash", &"x".repeat(46)] {
            assert!(HubName::new(bad).is_err(), "{bad}");
        }
    }
}
