//! Records every write to a disk with dm-log-writes, and brings another disk into the state of any moment.
//!
//! Format: Documentation/admin-guide/device-mapper/log-writes.rst and drivers/md/dm-log-writes.c of the kernel. A
//! superblock in the first sector, then for each request one sector of header and, unless it is a discard, its data.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use super::Mapped;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// A device whose writes go to a disk and, in order, to a log on another.
pub struct Recorder {
    device: Mapped,
    log: PathBuf,
}

impl Recorder {
    /// A device `/dev/mapper/<name>` over `disk`; what was on `log` is lost.
    pub fn new(disk: &Path, log: &Path, name: &str) -> Self {
        let table =
            |disk: &Path, sectors| format!("0 {sectors} log-writes {} {}", disk.display(), log.display());
        Self { device: Mapped::with_table(disk, name, table), log: log.to_owned() }
    }

    /// The device.
    pub fn path(&self) -> PathBuf {
        self.device.path()
    }

    /// Writes a mark, one word, into the log: what was on the disk when this was called comes before it.
    pub fn mark(&self, text: &str) {
        self.device.message(&["mark", text]);
    }

    /// Ends the recording.
    pub fn finish(self) -> WriteLog {
        self.device.remove();
        WriteLog::read(&self.log)
    }
}

/// One request, or a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it went, in bytes.
    pub offset: u64,
    /// How much, in bytes.
    pub length: u64,
    /// The text of a mark.
    pub mark: Option<String>,
    flags: u64,
    /// Where its data lies in the log.
    data: u64,
}

impl Entry {
    /// True where a power cut right after it must leave everything before it on the disk.
    pub fn is_flush(&self) -> bool {
        self.flags & (FLUSH | FUA) != 0
    }
}

/// A finished recording.
pub struct WriteLog {
    file: File,
    pub entries: Vec<Entry>,
}

impl WriteLog {
    fn read(path: &Path) -> Self {
        let file = File::open(path).unwrap();
        // The target wrote past this device's page cache.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let superblock = read(&file, 0, 28);
        assert_eq!(number(&superblock, 0), MAGIC, "{} holds no log of writes", path.display());
        let sector = u64::from(u32::from_le_bytes(superblock[24..28].try_into().unwrap()));
        let mut entries = Vec::new();
        let mut place = sector;
        for _ in 0..number(&superblock, 16) {
            let header = read(&file, place, 32);
            let (flags, extra) = (number(&header, 16), number(&header, 24));
            let length = number(&header, 8) * sector;
            let mark = (flags & MARK != 0).then(|| {
                let text = read(&file, place + 32, usize::try_from(extra).unwrap());
                String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()
            });
            let data = place + sector;
            entries.push(Entry { offset: number(&header, 0) * sector, length, mark, flags, data });
            place = if flags & DISCARD == 0 { data + length } else { data };
        }
        Self { file, entries }
    }

    /// How many entries to replay for each moment at which everything before was on the disk.
    pub fn flush_points(&self) -> Vec<usize> {
        (0..self.entries.len())
            .filter(|&index| self.entries[index].is_flush())
            .map(|index| index + 1)
            .collect()
    }

    /// The last mark among the first `count` entries.
    pub fn last_mark(&self, count: usize) -> Option<&str> {
        self.entries[..count].iter().rev().find_map(|entry| entry.mark.as_deref())
    }
}

/// A disk that goes through what was recorded.
pub struct Replay<'a> {
    log: &'a WriteLog,
    target: File,
    done: usize,
}

impl<'a> Replay<'a> {
    /// Begins with `target` as it is: it must be what the recorded disk was at the start.
    pub fn onto(log: &'a WriteLog, target: &Path) -> Self {
        let target = OpenOptions::new().read(true).write(true).open(target).unwrap();
        Self { log, target, done: 0 }
    }

    /// Goes on until the first `count` entries are on the target.
    pub fn advance(&mut self, count: usize) {
        for entry in &self.log.entries[self.done..count] {
            if entry.length == 0 {
                continue;
            }
            if entry.flags & DISCARD == 0 {
                let data = read(&self.log.file, entry.data, usize::try_from(entry.length).unwrap());
                self.target.write_all_at(&data, entry.offset).unwrap();
            } else {
                let zeros = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(&self.target, zeros, entry.offset, entry.length).unwrap();
            }
        }
        self.target.sync_all().unwrap();
        self.done = count;
    }
}

fn read(file: &File, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
