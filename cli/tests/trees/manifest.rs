//! All that can be seen of a tree, a line for each file: what a copy must have in common with its source. Shares no code with the product.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{SeekFrom, lgetxattr, llistxattr, seek, statfs};
use sha2::{Digest as _, Sha256};

/// What a copy may have lost without a fault: its writer's format has no place for it.
#[allow(clippy::struct_excessive_bools, reason = "each may be lost by itself")]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lost {
    /// Parts of a second.
    pub(crate) fractions: bool,
    pub(crate) attributes: bool,
    /// Access control lists alone.
    pub(crate) lists: bool,
    /// Where data and holes lie.
    pub(crate) holes: bool,
    /// Where they lie within 64 KiB: XFS sets that much aside around what is written.
    pub(crate) small_holes: bool,
    /// That two names are of one link, pipe or device.
    pub(crate) odd_links: bool,
    /// That two names are of one file of any kind.
    pub(crate) links: bool,
    pub(crate) folder_times: bool,
    pub(crate) symlink_times: bool,
    pub(crate) symlink_owners: bool,
    /// Everything of the folder itself.
    pub(crate) top: bool,
    /// The time of the folder itself.
    pub(crate) top_time: bool,
    pub(crate) sockets: bool,
}

/// A line for each file, by path.
pub(crate) fn manifest(top: &Path, lost: Lost) -> BTreeMap<String, String> {
    let mut first_names = BTreeMap::new();
    let mut lines = BTreeMap::new();
    let mut waiting = vec![top.to_owned()];
    let mut paths = Vec::new();
    while let Some(path) = waiting.pop() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.push(path);
    }
    paths.sort_by(|one, other| one.as_os_str().as_bytes().cmp(other.as_os_str().as_bytes()));
    for path in paths {
        let below = path.strip_prefix(top).unwrap().to_owned();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let is_top = below.as_os_str().is_empty();
        if lost.top && is_top || lost.sockets && metadata.file_type().is_socket() {
            continue;
        }
        let line = line(&path, &below, &metadata, &mut first_names, lost);
        lines.insert(below.as_os_str().as_bytes().escape_ascii().to_string(), line);
    }
    lines
}

fn line(
    path: &Path,
    below: &Path,
    metadata: &fs::Metadata,
    first_names: &mut BTreeMap<(u64, u64), PathBuf>,
    lost: Lost,
) -> String {
    let kind = metadata.file_type();
    let mut words = vec![format!("{:06o}", metadata.mode())];
    if !kind.is_symlink() || !lost.symlink_owners {
        words.push(format!("{}:{}", metadata.uid(), metadata.gid()));
    }
    let is_top = below.as_os_str().is_empty();
    let has_lost_its_time = kind.is_dir() && lost.folder_times
        || kind.is_symlink() && lost.symlink_times
        || is_top && lost.top_time;
    if !has_lost_its_time {
        let fraction = if lost.fractions { 0 } else { metadata.mtime_nsec() };
        words.push(format!("{}.{fraction:09}", metadata.mtime()));
    }
    if kind.is_symlink() {
        words.push(format!("-> {}", fs::read_link(path).unwrap().as_os_str().as_bytes().escape_ascii()));
    }
    if kind.is_block_device() || kind.is_char_device() {
        words.push(format!("device {:x}", metadata.rdev()));
    }
    if kind.is_file() {
        let content = fs::read(path).unwrap();
        words.push(format!("{} bytes {:x?}", content.len(), Sha256::digest(&content)));
        if !lost.holes {
            words.push(format!("data {:?}", pieces(path, metadata.len(), lost)));
        }
    }
    if !kind.is_dir() && !lost.links && (kind.is_file() || !lost.odd_links) {
        let first = first_names.entry((metadata.dev(), metadata.ino())).or_insert_with(|| below.to_owned());
        words.push(format!(
            "{} names, first {}",
            metadata.nlink(),
            first.as_os_str().as_bytes().escape_ascii()
        ));
    }
    if !lost.attributes {
        let mut found = attributes(path);
        // There it is the list itself, in another form.
        found.retain(|name, _| !name.to_bytes().starts_with(b"trusted.SGI_ACL_") || !is_xfs(path));
        found.retain(|name, _| !lost.lists || !name.to_bytes().starts_with(b"system.posix_acl_"));
        words.extend(found.into_iter().map(|(name, value)| format!("{name:?}={}", value.escape_ascii())));
    }
    words.join(" ")
}

fn attributes(path: &Path) -> BTreeMap<CString, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..length]
        .split_inclusive(|byte| *byte == 0)
        .map(|name| CStr::from_bytes_with_nul(name).unwrap());
    names
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = lgetxattr(path, name, &mut value).unwrap();
            (name.to_owned(), value[..length].to_vec())
        })
        .collect()
}

fn is_xfs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type == 0x5846_5342)
}

fn pieces(path: &Path, size: u64, lost: Lost) -> Vec<(u64, u64)> {
    let grain = if lost.small_holes { 64 << 10 } else { 1 };
    let file = fs::File::open(path).unwrap();
    let (mut found, mut at) = (Vec::<(u64, u64)>::new(), 0);
    while at < size {
        let Ok(start) = seek(&file, SeekFrom::Data(at)) else { break };
        at = seek(&file, SeekFrom::Hole(start)).unwrap().min(size);
        let (start, end) = (start / grain * grain, at.next_multiple_of(grain).min(size));
        match found.last_mut() {
            Some(piece) if piece.1 >= start => piece.1 = end,
            _ => found.push((start, end)),
        }
    }
    found
}
