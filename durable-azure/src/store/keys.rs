//! Row keys: what stands in them, and how ids become part of them.

use durable_core::machine::model::{
    CommitNumber, EventSeq, ExecutionNumber, Fence, InstanceId, MessageNumber, PartitionId,
    RunNumber, Timestamp,
};
use sha2::{Digest as _, Sha256};

/// The row that stands for a partition.
pub(super) const HEAD: &str = "!head";
/// Partition and row key of the row that stands for the hub.
pub(super) const HUB: &str = "hub";
/// Partition key of workers and of attempts that were withdrawn.
pub(super) const FLEET: &str = "fleet";

/// Characters of an encoded id from which on the rest of it is replaced by a hash.
const ENCODED_CHARS_MAX: usize = 200;
/// Characters that such an id keeps.
const KEPT_CHARS: usize = 100;

/// Partition key of a hub's partition.
pub(super) fn partition(partition: PartitionId) -> String {
    format!("p{:02}", partition.0)
}

/// An id in letters, digits, `-`, `_`, `.` and escapes, in the order of the ids themselves.
///
/// A byte is escaped by its two hexadecimal digits behind a mark that sorts where the byte sorts.
pub(super) fn id(id: &str) -> String {
    let encoded = prefix(id);
    if encoded.len() <= ENCODED_CHARS_MAX {
        return encoded;
    }
    let hash: String =
        Sha256::digest(id.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    // No escape begins with two marks.
    format!("{}~~{hash}", &encoded[..KEPT_CHARS])
}

/// What the keys of all ids with this prefix have in common.
pub(super) fn id_prefix(text: &str) -> String {
    let mut encoded = prefix(text);
    encoded.truncate(KEPT_CHARS);
    encoded
}

fn prefix(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let mark = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                encoded.push(char::from(byte));
                continue;
            }
            0..b'0' => '!',
            b'0'..b'A' => '=',
            b'A'..b'_' => '^',
            b'_'..b'a' => '`',
            b'a'.. => '~',
        };
        encoded.push(mark);
        encoded.push_str(&format!("{byte:02X}"));
    }
    encoded
}

/// A name for people in blob names, without characters that paths treat in their own way.
pub(super) fn plain(id: &InstanceId) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    id.as_str().chars().take(60).map(|c| if fits(c) { c } else { '-' }).collect()
}

/// A key behind all keys that begin with `prefix`, and in front of all others that follow.
pub(super) fn behind(prefix: &str) -> String {
    match prefix.strip_suffix('|') {
        Some(start) => format!("{start}}}"),
        // Not even the mark in front of a hash sorts behind it.
        None => format!("{prefix}~~~"),
    }
}

/// A time in 20 digits that sort like it.
pub(super) fn time(time: Timestamp) -> String {
    format!("{:020}", time.as_micros().cast_unsigned() ^ (1 << 63))
}

/// The time in such digits.
pub(super) fn read_time(digits: &str) -> Option<Timestamp> {
    let number: u64 = digits.parse().ok()?;
    Some(Timestamp::from_micros((number ^ (1 << 63)).cast_signed()))
}

pub(super) fn status(instance: &InstanceId) -> String {
    format!("i|{}", id(instance.as_str()))
}

/// What the keys of acceptance rows begin with.
pub(super) const ACCEPTANCE: &str = "s|";

pub(super) fn acceptance(instance: &InstanceId) -> String {
    format!("{ACCEPTANCE}{}", id(instance.as_str()))
}

pub(super) fn in_flight(instance: &InstanceId) -> String {
    format!("w|{}", id(instance.as_str()))
}

pub(super) fn timer(due: Timestamp, instance: &InstanceId) -> String {
    format!("t|{}|{}", time(due), id(instance.as_str()))
}

/// What all history rows of a run begin with.
pub(super) fn run(instance: &InstanceId, run: RunNumber) -> String {
    format!("h|{}|{:020}|", id(instance.as_str()), run.0)
}

/// What all history rows of an execution begin with.
pub(super) fn execution(
    instance: &InstanceId,
    run: RunNumber,
    execution: ExecutionNumber,
) -> String {
    format!("h|{}|{:020}|{:010}|", id(instance.as_str()), run.0, execution.0)
}

pub(super) fn history(
    instance: &InstanceId,
    run: RunNumber,
    number: ExecutionNumber,
    first: EventSeq,
) -> String {
    format!("{}{:020}", execution(instance, run, number), first.0)
}

/// Newest first.
pub(super) fn listed(created: u64, instance: &InstanceId) -> String {
    format!("{}{}", listed_from(created), id(instance.as_str()))
}

/// What the list rows of one moment begin with.
pub(super) fn listed_from(created: u64) -> String {
    format!("n|{:020}|", u64::MAX - created)
}

pub(super) fn garbage(instance: &InstanceId, run: RunNumber) -> String {
    format!("g|{}|{:020}", id(instance.as_str()), run.0)
}

pub(super) fn outbox(to: PartitionId, number: MessageNumber) -> String {
    format!("o|{:05}|{:020}", to.0, number.0)
}

pub(super) fn consumed(at: Timestamp, commit: &str) -> String {
    format!("c|{}|{commit}", time(at))
}

/// Names a commit within its hub's partition.
pub(super) fn commit(fence: Fence, number: CommitNumber) -> String {
    format!("{}-{}", fence.0, number.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(text: &str) -> InstanceId {
        InstanceId::new(text).expect("a valid id")
    }

    #[test]
    fn encoded_ids_are_unique_and_sort_like_ids() {
        let mut ids = vec!["a", "a b", "a-b", "a.b", "a:b", "A", "B", "^", "_", "`", "~", "z", "ü"];
        ids.extend([
            "!", "=", "=3A", ":", "a!20b", "🦀", "%", "'", "\"", "a|b", "+", "0", "{", "@",
        ]);
        ids.sort_unstable();
        let keys: Vec<_> = ids.iter().map(|text| id(text)).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        for pair in keys.windows(2) {
            assert_ne!(pair[0], pair[1]);
        }
        for key in keys {
            assert!(key.chars().all(|c| c.is_ascii_graphic() && !"/\\#?'%|".contains(c)), "{key}");
        }
    }

    #[test]
    fn long_ids_keep_their_beginning_and_differ() {
        let (one, two) = ("ü".repeat(256), format!("{}a", "ü".repeat(255)));
        assert_ne!(id(&one), id(&two));
        assert!(id(&one).len() <= ENCODED_CHARS_MAX);
        assert!(id(&one).starts_with(&id_prefix(&one)));
        assert_eq!(id(&"x".repeat(200)), "x".repeat(200));
    }

    #[test]
    fn keys_sort_by_time_also_before_1970() {
        let at = |micros| time(Timestamp::from_micros(micros));
        assert!(at(i64::MIN) < at(-1) && at(-1) < at(0) && at(0) < at(1) && at(1) < at(i64::MAX));
        for micros in [i64::MIN, -1, 0, 7, i64::MAX] {
            assert_eq!(read_time(&at(micros)), Some(Timestamp::from_micros(micros)));
        }
    }

    #[test]
    fn a_range_holds_what_begins_with_its_prefix_and_nothing_else() {
        let prefix = run(&instance("a"), RunNumber(3));
        let inside = history(&instance("a"), RunNumber(3), ExecutionNumber(7), EventSeq(9));
        assert!(prefix < inside && inside < behind(&prefix));
        for outside in [
            history(&instance("a"), RunNumber(30), ExecutionNumber(7), EventSeq(9)),
            history(&instance("ab"), RunNumber(3), ExecutionNumber(7), EventSeq(9)),
        ] {
            assert!(outside < prefix || outside >= behind(&prefix), "{outside}");
        }
    }

    #[test]
    fn the_newest_is_listed_first() {
        assert!(listed(8, &instance("a")) < listed(7, &instance("a")));
    }
}
