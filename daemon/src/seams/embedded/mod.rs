//! The newcomer's backend: emulators of the cloud services in this process, reached through the same adapters
//! that reach the real ones. Nothing here is a second implementation of a seam.

pub mod dynamo;
pub mod kinesis;
mod threads;

use threads::Threads;
