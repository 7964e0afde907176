//! Every hard cap of the wire, in one file. Each cap is checked before memory is allocated for the data that it bounds.

/// Longest project name, in bytes. A project name is a folder path. Linux's `PATH_MAX` is 4,096, and the root and git's
/// own files need their share of it.
pub const PROJECT_NAME_BYTES: usize = 512;

/// Longest ref name, in bytes. A loose ref is a file below the repository, and a DynamoDB sort key is at most
/// 1,024 bytes long.
pub const REF_NAME_BYTES: usize = 768;

/// Longest single component of a project or ref name, in bytes: Linux's `NAME_MAX` (255) minus git's `.lock`.
pub const NAME_COMPONENT_BYTES: usize = 250;

/// Longest site or node name, in bytes.
pub const SITE_NAME_BYTES: usize = 48;

/// Most commands in one transaction. A transaction of more than [`WRITE_COMMANDS`] is committed under ref locks, and
/// one of more than [`INLINE_COMMANDS`] has its long form in the blob store.
pub const COMMANDS: usize = 50_000;

/// Most commands of a transaction that travels in a slot and in a record.
pub const INLINE_COMMANDS: usize = 2_000;

/// Most commands in one write to the refdb. A DynamoDB transaction takes 100 items, and one of them is the journal
/// slot.
pub const WRITE_COMMANDS: usize = 99;

/// Largest pack that travels inside a transaction, in bytes. A DynamoDB item has at most 400 KB, and a Kinesis record 1
/// MiB. A larger pack goes to the blob store.
pub const INLINE_PACK_BYTES: usize = 128 * 1024;

/// Largest encoded transaction in a slot or a record, in bytes. It has room for an inline pack and [`WRITE_COMMANDS`]
/// commands with the longest names, or for [`INLINE_COMMANDS`] commands with names of about 30 bytes and a pack in the
/// blob store. A DynamoDB item has at most 400 KB. The long form of a larger transaction is in the blob store.
pub const TRANSACTION_BYTES: usize = 380 * 1024;

/// Largest long form of a transaction, in bytes. It has room for [`COMMANDS`] commands with the longest names and for
/// [`BASES`] bases.
pub const LONG_FORM_BYTES: usize = 64 * 1024 * 1024;

/// Most bases that a pack may name.
pub const BASES: usize = 100_000;

/// Most bases of a transaction that travels in a slot and in a record.
pub const INLINE_BASES: usize = 4_096;

/// Largest request body on the bridge API, in bytes, except for ref transactions.
pub const REQUEST_BODY_BYTES: usize = 1024 * 1024;

/// Largest body of a ref transaction on the bridge API, in bytes. It has room for [`COMMANDS`] commands with the
/// longest names. The number of bodies above [`REQUEST_BODY_BYTES`] that are in progress at once is bounded.
pub const BATCH_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Longest request id that a bridge may choose, in bytes.
pub const REQUEST_ID_BYTES: usize = 128;

/// Longest actor, traceparent or locator text, in bytes.
pub const TEXT_BYTES: usize = 1_024;

/// Longest message for reflogs, in bytes.
pub const MESSAGE_BYTES: usize = 512;

/// Longest session id that a bridge may choose, in bytes.
pub const SESSION_BYTES: usize = 128;

/// Most `repository.*` sections that a bridge may send.
pub const BASE_PATHS: usize = 1_000;

/// Most refresh tasks or stream events that a bridge may fetch or confirm in one request.
pub const POLLED: usize = 256;

/// Longest wait of a bridge for refresh tasks or stream events, and of any caller for a transaction, in milliseconds.
pub const POLL_WAIT_MS: u64 = 30_000;

/// Longest time for which a Gerrit may keep an index update in memory, in milliseconds.
pub const COMMIT_WITHIN_MS: u64 = 24 * 60 * 60 * 1_000;

/// Longest reason why a refresh task failed, in bytes. A longer one is cut off.
pub const REFRESH_REASON_BYTES: usize = 512;

/// Most stream events in one request of a bridge.
pub const EVENTS: usize = 64;

/// Longest id or type of a stream event, in bytes.
pub const EVENT_TEXT_BYTES: usize = 128;

/// Largest body of a stream event, in bytes of its JSON text.
pub const EVENT_BODY_BYTES: usize = 128 * 1024;

/// Most refs that a stream event may name.
pub const EVENT_REFS: usize = 99;

/// Largest announcement without its envelope, in bytes: the body, 100 keys of the longest names with their versions,
/// and some room. With the envelope it is well below [`TRANSACTION_BYTES`].
pub const ANNOUNCEMENT_BYTES: usize = 256 * 1024;
