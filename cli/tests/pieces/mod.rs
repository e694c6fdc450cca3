//! Archives that a test makes by itself, entry by entry, and what `volume import` makes of them.

use std::{fs, process::Output};

use tar::Header;

use crate::world::World;

/// One entry of an archive that the test makes by itself, with what stands in its name field to the letter.
#[derive(Clone)]
pub(crate) struct Piece(Vec<u8>);

impl Piece {
    pub(crate) fn new(kind: u8, name: &[u8], link: &[u8], body: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.as_old_mut().linkflag = [kind];
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(body.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        Self(bytes)
    }

    pub(crate) fn file(name: &[u8], body: &[u8]) -> Self {
        Self::new(b'0', name, b"", body)
    }

    pub(crate) fn zeros(blocks: usize) -> Self {
        Self(vec![0; blocks * 512])
    }

    pub(crate) fn records(text: &str) -> Self {
        Self::new(b'x', b"pax", b"", text.as_bytes())
    }

    /// An extended header of these records, of one file ('x') or of all ('g').
    pub(crate) fn extended(kind: u8, records: &[(&str, &[u8])]) -> Self {
        let mut body = Vec::new();
        for (keyword, value) in records {
            let rest = keyword.len() + value.len() + 3;
            // The length counts itself.
            let length = (rest..rest + 20).find(|length| *length == rest + length.to_string().len()).unwrap();
            body.extend(format!("{length} {keyword}=").bytes());
            body.extend(*value);
            body.push(b'\n');
        }
        Self::new(kind, b"pax", b"", &body)
    }

    /// The same with something changed in its header.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::from_byte_slice(&self.0[..512]).clone();
        change(&mut header);
        header.set_cksum();
        self.0[..512].copy_from_slice(header.as_bytes());
        self
    }

    /// The same with the sum of an old writer, which took bytes for signed numbers.
    pub(crate) fn with_signed_sum(mut self) -> Self {
        self.0[148..156].fill(b' ');
        let sum: i32 = self.0[..512].iter().map(|byte| i32::from(byte.cast_signed())).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self
    }
}

pub(crate) fn archive(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.0.clone()).collect();
    bytes.extend([0; 1024]);
    bytes
}

/// Feeds an archive to `volume import`.
pub(crate) fn import(world: &World, name: &str, archive: &[u8], more: &[&str]) -> Output {
    fs::write(world.path("archive"), archive).unwrap();
    world.tierce(&[&["volume", "import", name, "--file", "archive"], more].concat())
}

/// Refused in one line with these words, and nothing of it is there.
pub(crate) fn refused(world: &World, archive: &[u8], words: &str) {
    let output = import(world, "no", archive, &[]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{words}: {output:?}");
    assert!(error.contains(words) && error.matches('\n').count() == 1, "wanted {words:?}: {error}");
    assert_eq!(world.ok(&["volume", "ls", "-q"]), "", "{words}");
}
