//! Emulators of the cloud services in this process, for people who try out Lockstep. The adapters that reach the real
//! services reach them too. Nothing here is a second implementation of a seam.

pub mod dynamo;
pub mod kinesis;
mod subscriptions;
mod threads;
pub mod write_limits;

use threads::Threads;
