//! A program that keeps the disk of the sites busy: it writes and syncs as fast as it can. The sites then wait for the
//! disk as they do beside a neighbour who uses it up.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;

use crate::Fallible;

/// Threads that write.
const WRITERS: usize = 4;
/// Bytes between two syncs, and the size of each writer's file.
const BLOCK: usize = 1 << 20;
const BLOCKS: u64 = 32;

/// Writes into a folder until the process is ended.
///
/// # Errors
/// The folder cannot be written.
pub fn burden(folder: &Path) -> Fallible<()> {
    let write = |number: usize| {
        let path = folder.join(format!("burden-{number}"));
        thread::spawn(move || write(&path, u8::try_from(number).unwrap_or(0)))
    };
    let writers: Vec<_> = (0..WRITERS).map(write).collect();
    for writer in writers {
        writer.join().map_err(|_| "a writer panicked")??;
    }
    Ok(())
}

fn write(path: &Path, byte: u8) -> Fallible<()> {
    let (mut file, block) = (File::create(path)?, vec![byte; BLOCK]);
    // The file has gone from the folder, and takes no space after the end of the process.
    std::fs::remove_file(path)?;
    for number in 0_u64.. {
        let _ = file.seek(SeekFrom::Start(number % BLOCKS * BLOCK as u64))?;
        file.write_all(&block)?;
        file.sync_all()?;
    }
    Ok(())
}
