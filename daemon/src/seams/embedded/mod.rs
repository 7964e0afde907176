//! Emulators of the cloud services in this process, for people who try out Lockstep. The adapters that reach the real
//! services reach them too. Nothing here is a second implementation of a seam.
//!
//! | file | idea |
//! |---|---|
//! | `dynamo` | DynamoDB in this process |
//! | `kinesis`, `subscriptions` | Kinesis in this process; its subscriptions with enhanced fan-out |
//! | `write_limits` | the limits of DynamoDB on writes that its emulator does not keep |
//! | `threads` | the threads of an emulator |

pub mod dynamo;
pub mod kinesis;
mod subscriptions;
mod threads;
pub mod write_limits;

use threads::Threads;
