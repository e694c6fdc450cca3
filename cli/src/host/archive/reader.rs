//! Reading an archive: v7, ustar, GNU and POSIX, whatever wrote it. What is half understood is refused.

use std::io::{self, Read};

use rustix::fs::Timespec;
use tar::Header;
use tierce_engine::are_zeros;

use super::{
    super::metadata::{self, Metadata},
    access_list, compression,
    field::{self, BLOCK},
    records::Records,
    refusal::{OF_A_SPLIT_ARCHIVE, OF_AN_INCREMENTAL_ARCHIVE, bad, early, of_entry},
    sparse::{self, Layout},
};

/// No header that says more of a file is larger, nor one that says something of all.
pub(super) const LONGEST: u64 = 32 << 20;
const LONGEST_OF_ALL: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Its content is to be read before the next entry.
    File(Layout),
    Folder,
    Symlink(Vec<u8>),
    /// A further name of the file of that path.
    HardLink(Vec<u8>),
    Pipe,
    CharacterDevice(u32, u32),
    BlockDevice(u32, u32),
}

#[derive(Debug)]
pub(super) struct Entry {
    /// As the archive has it.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) metadata: Metadata,
}

pub(super) struct Reader<'a> {
    from: &'a mut dyn Read,
    /// What was said of all files that follow.
    global: Records,
    /// Bytes of the present entry that were not read.
    left: u64,
    /// Zeros that fill its last block up.
    padding: u64,
    begun: bool,
}

/// What was said of the next file before its own header.
#[derive(Default)]
struct Ahead {
    records: Option<Records>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(from: &'a mut dyn Read) -> Self {
        Self { from, global: Records::default(), left: 0, padding: 0, begun: false }
    }

    /// The next entry; `None`: the archive's end was there, and nothing behind it.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut ahead = Ahead::default();
        loop {
            self.skip_rest()?;
            let mut block = [0; 512];
            self.from.read_exact(&mut block).map_err(|error| {
                // A decompressor has words of its own.
                if !self.begun && error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none() {
                    return bad(
                        "this is no tar archive, or one that ends early: it is shorter than a header",
                    );
                }
                early(error)
            })?;
            if are_zeros(&block) {
                return self.end(&ahead);
            }
            let header = Header::from_byte_slice(&block);
            if !field::is_sum_right(&block) {
                return Err(bad(if self.begun {
                    "the archive is damaged: a header's check sum is wrong"
                } else {
                    "this is no tar archive"
                }));
            }
            self.begun = true;
            let kind = header.as_old().linkflag[0];
            if matches!(kind, b'x' | b'g' | b'L' | b'K' | b'V') {
                self.extension(header, kind, &mut ahead)?;
                continue;
            }
            match kind {
                b'M' => return Err(bad(OF_A_SPLIT_ARCHIVE)),
                b'D' => return Err(bad(OF_AN_INCREMENTAL_ARCHIVE)),
                _ => {}
            }
            let mut records = self.global.clone();
            if let Some(own) = ahead.records.take() {
                records.override_by(own);
            }
            let path = match (records.get("GNU.sparse.name").or(records.get("path")), &ahead.name) {
                (Some(path), _) => path.to_vec(),
                (None, Some(path)) => path.clone(),
                (None, None) => header_path(header),
            };
            let entry = self.entry(header, kind, &records, &ahead, path.clone());
            return entry.map(Some).map_err(|error| of_entry(&path, &error));
        }
    }

    /// What stands before the header of a file and says more of it, or of all.
    fn extension(&mut self, header: &Header, kind: u8, ahead: &mut Ahead) -> io::Result<()> {
        self.holds(field::natural(&header.as_old().size)?)?;
        if self.left > if kind == b'g' { LONGEST_OF_ALL } else { LONGEST } {
            return Err(bad("the archive has a header that is too large"));
        }
        let body = self.body()?;
        match kind {
            b'x' if ahead.records.is_some() => {
                Err(bad("the archive has two extended headers of one file, which not all read alike"))
            }
            b'x' => {
                let records = ahead.records.get_or_insert_default();
                records.named_by_libarchive =
                    header_path(header).split(|byte| *byte == b'/').any(|step| step == b"PaxHeader");
                records.add(&body)
            }
            b'g' => {
                let mut next = Records::default();
                next.add(&body)?;
                // POSIX keeps what an earlier one said, GNU tar forgets it.
                if !next.say_all_of(&self.global) {
                    return Err(bad(
                        "the archive says something of all files and later no more, which not all read alike",
                    ));
                }
                self.global = next;
                Ok(())
            }
            b'L' => {
                ahead.name = Some(field::text(&body).to_vec());
                Ok(())
            }
            b'K' => {
                ahead.link = Some(field::text(&body).to_vec());
                Ok(())
            }
            // The label of a volume of tapes.
            _ => Ok(()),
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        kind: u8,
        records: &Records,
        ahead: &Ahead,
        path: Vec<u8>,
    ) -> io::Result<Entry> {
        let old = header.as_old();
        let stored = match records.get("size") {
            Some(size) => field::decimal(size)?,
            None => field::natural(&old.size)?,
        };
        let link = || match (records.get("linkpath"), &ahead.link) {
            (Some(link), _) => link.to_vec(),
            (None, Some(link)) => link.clone(),
            (None, None) => field::text(&old.linkname).to_vec(),
        };
        // In the oldest archives a folder is a file whose name ends in a slash.
        let is_old_folder = matches!(kind, b'0' | b'7' | 0) && path.ends_with(b"/");
        let kind = match kind {
            b'0' | b'7' | 0 if !is_old_folder => {
                self.holds(stored)?;
                if records.is_sparse() {
                    let (layout, left) = sparse::of_records(records, stored, &mut *self.from)?;
                    self.left = left;
                    Kind::File(layout)
                } else {
                    Kind::File(Layout::dense(stored))
                }
            }
            b'S' => {
                let gnu = header.as_gnu().filter(|_| !records.is_sparse());
                let gnu = gnu.ok_or_else(|| bad("is a sparse file of a form that is not known here"))?;
                let layout = sparse::of_header(gnu, stored, &mut *self.from)?;
                self.holds(stored)?;
                Kind::File(layout)
            }
            // Such entries have no data; some writers note a size all the same, and others do have data then.
            b'1'..=b'7' | b'0' | 0 if stored != 0 => return Err(bad("has content, and is no file")),
            b'5' | b'0' | b'7' | 0 => Kind::Folder,
            b'1' => Kind::HardLink(link()),
            b'2' => Kind::Symlink(link()),
            b'6' => Kind::Pipe,
            b'3' | b'4' => {
                let (major, minor) = device(header, records)?;
                if kind == b'3' {
                    Kind::CharacterDevice(major, minor)
                } else {
                    Kind::BlockDevice(major, minor)
                }
            }
            other => {
                let letter = char::from(other).escape_default();
                return Err(bad(&format!("is of the kind '{letter}', which is not known here")));
            }
        };
        Ok(Entry { path, kind, metadata: metadata_of(header, records)? })
    }

    /// Reads the data of the present file: each part with its place in the file.
    pub(super) fn content(
        &mut self,
        layout: &Layout,
        mut part: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 128 << 10];
        for (offset, length) in &layout.pieces {
            let mut at = 0;
            while at < *length {
                let want = usize::try_from(length - at).map_or(buffer.len(), |left| left.min(buffer.len()));
                let read = self.from.read(&mut buffer[..want])?;
                if read == 0 {
                    return Err(early(io::ErrorKind::UnexpectedEof.into()));
                }
                let count = u64::try_from(read).unwrap_or(u64::MAX);
                self.left = self.left.saturating_sub(count);
                part(offset + at, &buffer[..read])?;
                at += count;
            }
        }
        Ok(())
    }

    fn holds(&mut self, bytes: u64) -> io::Result<()> {
        // No file can be larger.
        i64::try_from(bytes).map_err(|_| bad("has a size that is out of range"))?;
        (self.left, self.padding) = (bytes, bytes.next_multiple_of(BLOCK) - bytes);
        Ok(())
    }

    fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        (&mut self.from).take(self.left).read_to_end(&mut body)?;
        if u64::try_from(body.len()).is_ok_and(|length| length < self.left) {
            return Err(early(io::ErrorKind::UnexpectedEof.into()));
        }
        self.left = 0;
        Ok(body)
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        let rest = self.left.saturating_add(self.padding);
        (self.left, self.padding) = (0, 0);
        let skipped = io::copy(&mut (&mut self.from).take(rest), &mut io::sink())?;
        if skipped < rest { Err(early(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
    }

    /// The archive ends with a second block of zeros.
    fn end(&mut self, ahead: &Ahead) -> io::Result<Option<Entry>> {
        let mut block = [0; 512];
        self.from.read_exact(&mut block).map_err(early)?;
        if block.iter().any(|byte| *byte != 0) {
            return Err(bad("the archive is damaged: zeros stand where a file should begin"));
        }
        if ahead.records.is_some() || ahead.name.is_some() || ahead.link.is_some() {
            return Err(bad("the archive ends where a file should follow"));
        }
        compression::only_zeros_follow(&mut *self.from)?;
        Ok(None)
    }
}

/// How POSIX marks its headers. A version stands behind it, and not all write the same: GNU tar looks no further either.
const OF_POSIX: &[u8] = b"ustar\0";
const OF_GNU: &[u8] = b"ustar  \0";

fn is_marked(header: &Header, mark: &[u8]) -> bool {
    header.as_bytes()[257..].starts_with(mark)
}

/// The name with what stands before it, where the dialect has that.
fn header_path(header: &Header) -> Vec<u8> {
    let name = field::text(&header.as_old().name);
    let prefix = field::text(&header.as_bytes()[345..500]);
    if prefix.is_empty() || !is_marked(header, OF_POSIX) {
        name.to_vec()
    } else {
        [prefix, b"/", name].concat()
    }
}

fn device(header: &Header, records: &Records) -> io::Result<(u32, u32)> {
    let has_numbers = is_marked(header, OF_POSIX) || is_marked(header, OF_GNU);
    let number = |record: &str, field: &[u8]| match records.get(record) {
        Some(number) => field::decimal(number),
        None if has_numbers => field::natural(field),
        None => Err(bad("is a device without its numbers")),
    };
    let bytes = header.as_bytes();
    Ok((number("SCHILY.devmajor", &bytes[329..337])?, number("SCHILY.devminor", &bytes[337..345])?))
}

fn metadata_of(header: &Header, records: &Records) -> io::Result<Metadata> {
    let old = header.as_old();
    let id = |record: &str, field: &[u8]| {
        let id: u32 = match records.get(record) {
            Some(id) => field::decimal(id)?,
            None => field::natural(field)?,
        };
        // The kernel takes it for "whoever it is now".
        if id == u32::MAX { Err(bad("has an owner whose number nobody can have")) } else { Ok(id) }
    };
    let modified = match records.get("mtime") {
        // libarchive counts the parts of a second from the second before, -6.5 for -5.5, and reads them so
        // (`add_pax_attr_time` in its archive_write_set_format_pax.c says it); POSIX and all others don't.
        Some(time) if time.starts_with(b"-") && records.are_of_libarchive() => {
            let time = field::time(time)?;
            if time.tv_nsec != 0 {
                return Err(bad(
                    "has a time before 1970 in parts of a second, which bsdtar counts otherwise than all others: pack it anew with GNU tar",
                ));
            }
            time
        }
        Some(time) => field::time(time)?,
        None => Timespec {
            tv_sec: i64::try_from(field::number(&old.mtime)?)
                .map_err(|_| bad("has a time that is out of range"))?,
            tv_nsec: 0,
        },
    };
    let attributes = records.attributes()?;
    // Some writers put the type of the file above the twelve bits.
    let mut mode = field::natural::<u32>(&old.mode)? & 0o7777;
    if let Some(list) = attributes.get(metadata::ACCESS_LIST) {
        // Where the two differ the list counts, as with GNU tar, which sets it last.
        mode = mode & 0o7000 | access_list::mode(list)?;
    }
    Ok(Metadata {
        owner: Some((id("uid", &old.uid)?, id("gid", &old.gid)?)),
        mode,
        accessed: None,
        modified: Some(modified),
        attributes,
    })
}
