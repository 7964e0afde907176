//! Every hard cap of the wire, in one file. A cap is checked before memory is allocated for what it bounds.

/// Longest project name, in bytes. A project is a folder path; Linux's `PATH_MAX` is 4,096 and the repository
/// root and git's own files need their share of it.
pub const PROJECT_NAME_BYTES: usize = 512;

/// Longest ref name, in bytes. A loose ref is a file below the repository, and a DynamoDB sort key is at most
/// 1,024 bytes long.
pub const REF_NAME_BYTES: usize = 768;

/// Longest single component of a project or ref name, in bytes: Linux's `NAME_MAX` (255) less git's `.lock`.
pub const NAME_COMPONENT_BYTES: usize = 250;

/// Longest site or node name, in bytes.
pub const SITE_NAME_BYTES: usize = 48;

/// Most commands in one transaction. More than [`WRITE_COMMANDS`] are committed under ref locks.
pub const COMMANDS: usize = 2_000;

/// Most commands that one write of the refdb commits: a DynamoDB transaction takes 100 items, one of them is the journal
/// slot.
pub const WRITE_COMMANDS: usize = 99;

/// Largest pack that travels inside a transaction, in bytes. A DynamoDB item is at most 400 KB and a Kinesis
/// record 1 MiB; a larger pack goes to the blob store.
pub const INLINE_PACK_BYTES: usize = 128 * 1024;

/// Largest encoded transaction, in bytes: the inline pack, [`WRITE_COMMANDS`] with the longest names, and room; or
/// [`COMMANDS`] with names of some 30 bytes, whose pack is not inline. A DynamoDB item is at most 400 KB.
pub const TRANSACTION_BYTES: usize = 380 * 1024;

/// Most bases that a pack may name.
pub const BASES: usize = 4_096;

/// Largest request body on the bridge API, in bytes.
pub const REQUEST_BODY_BYTES: usize = 1024 * 1024;

/// Longest request id that a bridge may choose, in bytes.
pub const REQUEST_ID_BYTES: usize = 128;

/// Longest actor, traceparent or locator text, in bytes.
pub const TEXT_BYTES: usize = 1_024;

/// Longest session that a bridge may choose, in bytes.
pub const SESSION_BYTES: usize = 128;

/// Most sections `repository.*` that a bridge may tell.
pub const BASE_PATHS: usize = 1_000;

/// Most refresh tasks, or stream events, that a bridge may take, or confirm, at once.
pub const POLLED: usize = 256;

/// Longest wait of a bridge for refresh tasks or stream events, in milliseconds.
pub const POLL_WAIT_MS: u64 = 30_000;

/// Longest reason why a refresh task failed, in bytes; what is beyond is cut off.
pub const REFRESH_REASON_BYTES: usize = 512;

/// Most stream events in one request of a bridge.
pub const EVENTS: usize = 64;

/// Longest id or type of a stream event, in bytes.
pub const EVENT_TEXT_BYTES: usize = 128;

/// Largest body of a stream event, in bytes of its JSON text.
pub const EVENT_BODY_BYTES: usize = 128 * 1024;

/// Most refs that a stream event may name.
pub const EVENT_REFS: usize = 99;

/// Largest announcement without its envelope, in bytes: the body, 100 of the longest names with their versions, and
/// room. With the envelope it is well below [`TRANSACTION_BYTES`].
pub const ANNOUNCEMENT_BYTES: usize = 256 * 1024;
