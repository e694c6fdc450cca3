//! Writing an archive that GNU tar, bsdtar, busybox and the libraries read: GNU's headers, and extended ones for what those can't say.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::fs::FileExt},
};

use rustix::{
    fs::{self, FileType},
    io::Errno,
};
use tar::{EntryType, GnuExtSparseHeader, Header};

use super::{
    super::{
        left_out::{Kind as Left, LeftOut},
        metadata::{self, Metadata},
    },
    access_list,
    field::{self, BLOCK},
    reader::LONGEST,
    records,
    sparse::{Layout, MOST_PIECES},
    walk::{Found, changed, unread},
};

/// The longest name that stands in a header itself.
const SHORT: usize = 99;

pub(super) struct Writer<'a, W: Write> {
    out: W,
    /// Whether holes are written as zeros.
    no_holes: bool,
    left_out: &'a LeftOut,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<'a, W: Write> Writer<'a, W> {
    pub(super) fn new(out: W, no_holes: bool, left_out: &'a LeftOut) -> Self {
        Self { out, no_holes, left_out, links: HashMap::new() }
    }

    /// Marks the archive as whole: without that every reader worth its name says that it ends early.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        Ok(self.out)
    }

    pub(super) fn entry(&mut self, found: &Found<'_>) -> io::Result<()> {
        let (stat, path) = (&found.stat, found.path);
        if found.kind() == FileType::Socket {
            self.left_out.note(Left::Socket, path);
            return Ok(());
        }
        let metadata = Metadata::of(found.handle, stat).map_err(|error| unread(path, &error))?;
        let kind = match found.kind() {
            FileType::Directory => {
                let path = if path.is_empty() { b"./".to_vec() } else { [path, b"/"].concat() };
                return self.headers(Header::new_gnu(), EntryType::Directory, &metadata, &path, b"");
            }
            _ if stat.st_nlink > 1 => {
                if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)).cloned() {
                    return self.headers(Header::new_gnu(), EntryType::Link, &metadata, path, &first);
                }
                self.links.insert((stat.st_dev, stat.st_ino), path.to_owned());
                found.kind()
            }
            kind => kind,
        };
        let mut header = Header::new_gnu();
        let kind = match kind {
            FileType::RegularFile => return self.file(found, &metadata),
            FileType::Symlink => {
                let target = fs::readlinkat(found.handle, c"", Vec::new())?;
                return self.headers(header, EntryType::Symlink, &metadata, path, target.to_bytes());
            }
            FileType::Fifo => EntryType::Fifo,
            kind => {
                header.set_device_major(fs::major(stat.st_rdev))?;
                header.set_device_minor(fs::minor(stat.st_rdev))?;
                if kind == FileType::CharacterDevice { EntryType::Char } else { EntryType::Block }
            }
        };
        self.headers(header, kind, &metadata, path, b"")
    }

    fn file(&mut self, found: &Found<'_>, metadata: &Metadata) -> io::Result<()> {
        let file = found.open()?;
        let size = u64::try_from(found.stat.st_size).unwrap_or(0);
        let layout = if self.no_holes { Layout::dense(size) } else { layout(&file, size)? };
        let mut header = Header::new_gnu();
        header.set_size(layout.stored());
        let mut more = Vec::new();
        let kind = if layout == Layout::dense(size) {
            EntryType::Regular
        } else {
            more = sparse_headers(&layout, &mut header);
            EntryType::GNUSparse
        };
        self.headers(header, kind, metadata, found.path, b"")?;
        self.out.write_all(&more)?;
        let file = File::from(file);
        let mut buffer = vec![0; 128 << 10];
        for (offset, length) in &layout.pieces {
            let mut at = 0;
            while at < *length {
                let want = usize::try_from(length - at).map_or(buffer.len(), |left| left.min(buffer.len()));
                let read = file
                    .read_at(&mut buffer[..want], offset + at)
                    .map_err(|error| unread(found.path, &error))?;
                if read == 0 {
                    return Err(changed(found.path));
                }
                self.out.write_all(&buffer[..read])?;
                at += u64::try_from(read).unwrap_or(u64::MAX);
            }
        }
        self.fill(layout.stored())
    }

    /// The header of an entry, and before it what does not fit in there.
    fn headers(
        &mut self,
        mut header: Header,
        kind: EntryType,
        metadata: &Metadata,
        path: &[u8],
        link: &[u8],
    ) -> io::Result<()> {
        // Of a further name too: Docker gives a file what each of its names says.
        let said = extended(metadata)?;
        if !said.is_empty() {
            self.extension(EntryType::XHeader, &said)?;
        }
        for (kind, long) in [(EntryType::GNULongLink, link), (EntryType::GNULongName, path)] {
            if long.len() > SHORT {
                self.extension(kind, &[long, &[0]].concat())?;
            }
        }
        header.set_entry_type(kind);
        header.set_mode(metadata.mode);
        let (user, group) = metadata.owner.unwrap_or_default();
        header.set_uid(u64::from(user));
        header.set_gid(u64::from(group));
        let seconds = metadata.modified.map_or(0, |time| time.tv_sec);
        header.set_mtime(u64::try_from(seconds).unwrap_or(0));
        put(&mut header.as_old_mut().name, path);
        put(&mut header.as_old_mut().linkname, link);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn extension(&mut self, kind: EntryType, body: &[u8]) -> io::Result<()> {
        let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let mut header = Header::new_gnu();
        put(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(length);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(body)?;
        self.fill(length)
    }

    /// Fills the last block up.
    fn fill(&mut self, length: u64) -> io::Result<()> {
        let rest = length.next_multiple_of(BLOCK) - length;
        io::copy(&mut io::repeat(0).take(rest), &mut self.out).map(drop)
    }
}

/// As much as there is room for, with a NUL behind it.
fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(SHORT);
    field.fill(0);
    field[..length].copy_from_slice(&text[..length]);
}

/// What a plain header has no place for: parts of a second, times before 1970, attributes, access control lists.
fn extended(metadata: &Metadata) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    if let Some(time) = metadata.modified.filter(|time| time.tv_nsec != 0 || time.tv_sec < 0) {
        records::write(b"mtime", field::written_time(time).as_bytes(), &mut said);
    }
    for (name, value) in &metadata.attributes {
        let list = [
            (metadata::ACCESS_LIST, b"SCHILY.acl.access".as_slice()),
            (metadata::DEFAULT_LIST, b"SCHILY.acl.default"),
        ];
        match list.iter().find(|(list, _)| *list == &**name) {
            Some((_, keyword)) => {
                records::write(keyword, access_list::to_text(value)?.as_bytes(), &mut said);
            }
            None => records::write(&records::keyword_of(name), value, &mut said),
        }
    }
    if u64::try_from(said.len()).is_ok_and(|length| length > LONGEST) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a file has more than 32 MiB of extended attributes, which no import would read",
        ));
    }
    Ok(said)
}

/// Where a file's data lies.
fn layout(file: &OwnedFd, size: u64) -> io::Result<Layout> {
    let (mut pieces, mut at) = (Vec::new(), 0);
    while at < size {
        let start = match fs::seek(file, fs::SeekFrom::Data(at)) {
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            other => other?,
        };
        let end = fs::seek(file, fs::SeekFrom::Hole(start))?.min(size);
        if start >= end {
            break;
        }
        if pieces.len() == MOST_PIECES {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a file has more than 16 million pieces of data between holes: copy it without holes (cp --sparse=never)",
            ));
        }
        pieces.push((start, end - start));
        at = end;
    }
    Ok(Layout { size, pieces })
}

/// Notes the pieces of a sparse file in its header, and returns the blocks with those that have no room there.
fn sparse_headers(layout: &Layout, header: &mut Header) -> Vec<u8> {
    let mut pieces = layout.pieces.clone();
    // Without it readers would not know of a hole at the end.
    if pieces.last().is_none_or(|(offset, length)| offset + length < layout.size) {
        pieces.push((layout.size, 0));
    }
    let mut pieces = pieces.into_iter();
    let gnu = header.as_gnu_mut().expect("it was made as such");
    gnu.set_real_size(layout.size);
    for (place, (offset, length)) in gnu.sparse.iter_mut().zip(&mut pieces) {
        place.set_offset(offset);
        place.set_length(length);
    }
    let mut pieces = pieces.peekable();
    gnu.set_is_extended(pieces.peek().is_some());
    let mut blocks = Vec::new();
    while pieces.peek().is_some() {
        let mut block = GnuExtSparseHeader::new();
        for (place, (offset, length)) in block.sparse_mut().iter_mut().zip(&mut pieces) {
            place.set_offset(offset);
            place.set_length(length);
        }
        block.set_is_extended(pieces.peek().is_some());
        blocks.extend(block.as_bytes());
    }
    blocks
}
