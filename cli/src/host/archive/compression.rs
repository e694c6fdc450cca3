//! How an archive is compressed: told by how it begins, whatever it is called.

use std::io::{self, BufRead, Chain, Cursor, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;

use super::{field, refusal::bad};

type Input<R> = io::BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// What an archive begins with, and the name of that compression.
const UNSERVED: [(&[u8], &str); 7] = [
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
    (b"LZIP", "lzip"),
    (&[0x89, b'L', b'Z', b'O'], "lzop"),
    (&[0x1f, 0x9d], "compress"),
    (&[0x5d, 0x00, 0x00], "lzma"),
    (&[b'P', b'K', 3, 4], "zip"),
    (&[b'7', b'z', 0xbc, 0xaf], "7-Zip"),
];

/// Reads an archive without its compression. At its end the whole of that was seen, check sums included.
pub(super) fn unpacked<'a, R: Read + 'a>(mut from: R) -> io::Result<Box<dyn Read + 'a>> {
    let mut begin = Vec::new();
    (&mut from).take(field::BLOCK).read_to_end(&mut begin)?;
    if begin.is_empty() {
        return Err(bad("the archive is empty"));
    }
    // An archive begins with the name of its first file, which may look like anything.
    if <&[u8; 512]>::try_from(begin.as_slice()).is_ok_and(field::is_sum_right) {
        return Ok(Box::new(Cursor::new(begin).chain(from)));
    }
    let starts = |magic: &[u8]| begin.starts_with(magic);
    let is_gzip = starts(&[0x1f, 0x8b]);
    let is_bzip2 = starts(b"BZh");
    let is_xz = starts(&[0xfd, b'7', b'z', b'X', b'Z', 0]);
    // A stream may begin with frames that carry no data.
    let is_zstandard = starts(&[0x28, 0xb5, 0x2f, 0xfd])
        || begin.len() > 3 && begin[0] & 0xf0 == 0x50 && begin[1..4] == [0x2a, 0x4d, 0x18];
    let unserved = UNSERVED.iter().find(|(magic, _)| starts(magic));
    let from: Input<R> = io::BufReader::with_capacity(64 << 10, Cursor::new(begin).chain(from));
    if is_gzip {
        let (begin, rest) = (|from| Ok(GzDecoder::new(from)), GzDecoder::into_inner);
        return Ok(Box::new(Whole { inner: Members::new(from, begin, rest)?, name: "gzip" }));
    }
    if is_bzip2 {
        let (begin, rest) = (|from| Ok(BzDecoder::new(from)), BzDecoder::into_inner);
        return Ok(Box::new(Whole { inner: Members::new(from, begin, rest)?, name: "bzip2" }));
    }
    if is_xz {
        // The format itself has room for zeros behind a stream.
        return Ok(Box::new(Whole {
            inner: liblzma::bufread::XzDecoder::new_multi_decoder(from),
            name: "xz",
        }));
    }
    if is_zstandard {
        let begin = |from| {
            let mut decoder = zstd::Decoder::with_buffer(from)?.single_frame();
            // What `zstd --long=31` needs; memory is taken only as far as a stream says that it needs it.
            decoder.window_log_max(31)?;
            Ok(decoder)
        };
        return Ok(Box::new(Whole {
            inner: Members::new(from, begin, zstd::Decoder::finish)?,
            name: "Zstandard",
        }));
    }
    match unserved {
        Some((_, name)) => Err(bad(&format!(
            "the archive is packed with {name}, which is not read here: unpack it first; gzip, bzip2, xz and Zstandard are read"
        ))),
        None => Ok(Box::new(from)),
    }
}

/// One compressed member after the other, as `cat` and parallel compressors put them into one file. Zeros may stand behind the last one: tapes
/// and block devices fill archives up so, and no member begins with one.
struct Members<R, D> {
    /// `None`: all was read.
    decoder: Option<D>,
    begin: fn(Input<R>) -> io::Result<D>,
    /// What stands behind the member that a decompressor has read to its end.
    rest: fn(D) -> Input<R>,
}

impl<R: Read, D: Read> Members<R, D> {
    fn new(
        from: Input<R>,
        begin: fn(Input<R>) -> io::Result<D>,
        rest: fn(D) -> Input<R>,
    ) -> io::Result<Self> {
        Ok(Self { decoder: Some(begin(from)?), begin, rest })
    }
}

impl<R: Read, D: Read> Read for Members<R, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let read = decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(mut from) = self.decoder.take().map(self.rest) else { break };
            let next = loop {
                match from.fill_buf() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?.first().copied(),
                }
            };
            match next {
                None => {}
                Some(0) => only_zeros_follow(&mut from)?,
                Some(_) => self.decoder = Some((self.begin)(from)?),
            }
        }
        Ok(0)
    }
}

/// Says which compression it is that is damaged.
struct Whole<R> {
    inner: R,
    name: &'static str,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => io::Error::new(
                error.kind(),
                format!("the archive's {} compression is damaged or ends early ({error})", self.name),
            ),
        })
    }
}

/// Reads to the end: what still comes must be zeros, as archives are filled up with.
pub(super) fn only_zeros_follow(from: &mut dyn Read) -> io::Result<()> {
    let mut from = io::BufReader::with_capacity(64 << 10, from);
    loop {
        let buffer = from.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        if buffer.iter().any(|&byte| byte != 0) {
            return Err(bad(
                "the archive goes on after its end: there are several in one file, or it is damaged",
            ));
        }
        let length = buffer.len();
        from.consume(length);
    }
}
