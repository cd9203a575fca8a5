//! Every limit of the engine, with its source. Stores may have tighter ones of their own.

/// Characters of an instance id. Source: the management API of Durable Functions takes at most 256.
pub const INSTANCE_ID_CHARS_MAX: usize = 256;

/// Characters of a hub name, at least. Source: Azure table names have 3 to 63 characters, and ours add
/// a suffix.
pub const HUB_NAME_CHARS_MIN: usize = 3;
/// Characters of a hub name, at most.
pub const HUB_NAME_CHARS_MAX: usize = 45;

/// Bytes of one payload (input, output, event, details).
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of a custom status. Source: Durable Functions has the same limit of 16 KiB.
pub const CUSTOM_STATUS_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the details of a heartbeat. They stand in the row of work in flight while the call is open, and
/// travel with offers.
pub const HEARTBEAT_DETAILS_BYTES_MAX: usize = 16 * 1024;

/// Bytes of one error text; longer ones are cut with a mark.
pub const ERROR_TEXT_BYTES_MAX: usize = 32 * 1024;

/// Actions that one turn may ask for.
pub const TURN_ACTIONS_MAX: usize = 10_000;

/// Calls, timers and other operations of one instance that may be open at once.
pub const OPEN_CALLS_MAX: usize = 100_000;

/// Events of one execution from which on a warning is logged.
pub const HISTORY_EVENTS_WARN: u64 = 50_000;
/// Events of one execution at which it fails, with the advice to continue as new.
pub const HISTORY_EVENTS_MAX: u64 = 1_000_000;
const _: () = assert!(HISTORY_EVENTS_WARN < HISTORY_EVENTS_MAX);

/// External events that one instance may hold unconsumed.
pub const BUFFERED_EVENTS_MAX: usize = 10_000;

/// Messages that could not be applied which a status names; the newest count.
pub const DEAD_LETTERS_MAX: usize = 10;

/// Partitions of a hub, at most. Fixed when the hub is created.
pub const PARTITIONS_MAX: u16 = 64;

/// Times an attempt is started, because its worker was lost, before it counts as failed.
pub const STARTS_PER_ATTEMPT_MAX: u32 = 3;

/// Tags of one instance. They stand in every status row, and filters look at each of them.
pub const TAGS_MAX: usize = 32;
/// Bytes of a tag's key, and of a version.
pub const TAG_KEY_BYTES_MAX: usize = 128;
/// Bytes of a tag's value.
pub const TAG_VALUE_BYTES_MAX: usize = 512;

/// Bytes of a function, event or child name.
pub const NAME_BYTES_MAX: usize = 1024;
