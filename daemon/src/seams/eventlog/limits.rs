//! The limits of Kinesis for one call. Every implementation enforces the same limits.

/// Largest record, in bytes, its partition key included.
pub const RECORD_BYTES: usize = 1024 * 1024;

/// Most records in one request.
pub const REQUEST_RECORDS: usize = 500;

/// Largest request, in bytes, partition keys included. AWS now takes 10 MiB; the emulator takes 5.
pub const REQUEST_BYTES: usize = 5 * 1024 * 1024;
