//! Verified content: records of 4 KiB, each of which follows from its number, appended and synced one by one.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use sha2::{Digest, Sha256};

use super::said::Said;

const RECORD: usize = 4096;
const FILE: &str = "records";

/// Record number `number`, from 1.
fn record(number: u64) -> Vec<u8> {
    let blocks = u64::try_from(RECORD / 32).unwrap();
    (0..blocks)
        .flat_map(|block| Sha256::digest([number.to_le_bytes(), block.to_le_bytes()].concat()))
        .collect()
}

/// How many whole records the file in a folder begins with; none: no file.
pub(crate) fn count(folder: &Path) -> u64 {
    let Ok(mut file) = File::open(folder.join(FILE)) else { return 0 };
    let mut bytes = vec![0; RECORD];
    let mut number = 0;
    while file.read_exact(&mut bytes).is_ok() && bytes == record(number + 1) {
        number += 1;
    }
    number
}

/// A thread that appends records until it is dropped.
pub(crate) struct Writer {
    ends: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Appends that many records after those that are there.
    pub(crate) fn write(folder: &Path, said: &Said, volume: &str, more: u64) {
        let first = count(folder) + 1;
        let mut file = open(folder, first);
        for number in first..first + more {
            append(&mut file, number);
            said.say(&format!("acknowledged {volume} {number}"));
        }
    }

    pub(crate) fn start(folder: PathBuf, said: Said, volume: &'static str) -> Self {
        let (ends, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, progress) = (Arc::clone(&ends), Arc::clone(&written));
        let thread = std::thread::spawn(move || {
            let first = count(&folder) + 1;
            let mut file = open(&folder, first);
            for number in first.. {
                if until.load(Ordering::SeqCst) {
                    return;
                }
                append(&mut file, number);
                said.say(&format!("acknowledged {volume} {number}"));
                progress.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { ends, written, thread: Some(thread) }
    }

    /// Waits until it has written that many records.
    pub(crate) fn wait_for(&self, records: u64) {
        while self.written.load(Ordering::SeqCst) < records {
            assert!(!self.thread.as_ref().is_some_and(JoinHandle::is_finished), "the writer ended");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The file, without what a cut left of an unacknowledged record.
fn open(folder: &Path, first: u64) -> File {
    let record = u64::try_from(RECORD).unwrap();
    let path = folder.join(FILE);
    let file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    file.set_len((first - 1) * record).unwrap();
    file.sync_all().unwrap();
    File::open(folder).unwrap().sync_all().unwrap();
    file
}

fn append(file: &mut File, number: u64) {
    file.write_all(&record(number)).unwrap();
    file.sync_data().unwrap();
}
