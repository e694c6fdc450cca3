//! Files with holes: each of the four ways in which archives say where their data lies.

use std::io::{self, Read};

use tar::{GnuExtSparseHeader, GnuHeader};

use super::{
    field::{self, BLOCK},
    records::Records,
    refusal::{bad, early},
};

/// More pieces of data than this a file must not have: they are held in memory, 16 bytes each.
pub(super) const MOST_PIECES: usize = 16 << 20;

/// Where the data of a file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) size: u64,
    /// Offset and length of each piece that has data, in order.
    pub(super) pieces: Vec<(u64, u64)>,
}

impl Layout {
    /// A file without holes.
    pub(super) fn dense(size: u64) -> Self {
        Self { size, pieces: if size == 0 { Vec::new() } else { vec![(0, size)] } }
    }

    /// Bytes of data.
    pub(super) fn stored(&self) -> u64 {
        self.pieces.iter().map(|(_, length)| length).sum()
    }
}

/// A map as it is read: nothing that makes no sense is held in memory.
#[derive(Default)]
struct Map {
    pieces: Vec<(u64, u64)>,
    /// Where the last piece begins and ends, with data or without.
    begin: u64,
    end: u64,
    /// How many there were, with data or without.
    count: usize,
}

impl Map {
    /// Refuses a piece that overlaps the one before, stands before it, or goes on forever at one place.
    fn add(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let goes_on = offset >= self.end && (self.count == 0 || offset > self.begin);
        let next = offset.checked_add(length).filter(|_| goes_on);
        (self.begin, self.end) = (offset, next.ok_or_else(|| bad(OUT_OF_PLACE))?);
        self.count += 1;
        if length != 0 {
            if self.pieces.len() == MOST_PIECES {
                return Err(bad("is a sparse file with more than 16 million pieces"));
            }
            self.pieces.push((offset, length));
        }
        Ok(())
    }

    /// Refuses pieces that lie outside of the file, or are not just what is stored.
    fn of_file(self, size: u64, stored: u64) -> io::Result<Layout> {
        if self.end > size {
            return Err(bad(OUT_OF_PLACE));
        }
        let layout = Layout { size, pieces: self.pieces };
        if layout.stored() != stored {
            return Err(bad("is a sparse file with another amount of data than its pieces say"));
        }
        Ok(layout)
    }
}

const OUT_OF_PLACE: &str = "is a sparse file whose pieces overlap or lie outside of it";

/// GNU tar's own form: a few pieces in the header, more in blocks behind it.
pub(super) fn of_header(header: &GnuHeader, stored: u64, from: &mut dyn Read) -> io::Result<Layout> {
    let mut map = Map::default();
    let mut add = |part: &tar::GnuSparseHeader| {
        let (offset, length) = (field::natural(&part.offset)?, field::natural(&part.numbytes)?);
        // What is not used is blank.
        if part.offset[0] == 0 { Ok(()) } else { map.add(offset, length) }
    };
    header.sparse.iter().try_for_each(&mut add)?;
    let mut more = header.isextended[0] != 0;
    while more {
        let mut block = GnuExtSparseHeader::new();
        from.read_exact(block.as_mut_bytes()).map_err(early)?;
        block.sparse.iter().try_for_each(&mut add)?;
        more = block.isextended[0] != 0;
    }
    map.of_file(field::natural(&header.realsize)?, stored)
}

/// GNU tar's forms 0.0, 0.1 and 1.0, in extended records; the last has its map before the data. `stored`: what the header says is there, the
/// map included. Returns also what of it is left.
pub(super) fn of_records(records: &Records, stored: u64, from: &mut dyn Read) -> io::Result<(Layout, u64)> {
    let unknown = || bad("is a sparse file of a form that is not known here");
    let version = (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor"));
    if version == (Some(b"1"), Some(b"0")) {
        let size = field::decimal(records.get("GNU.sparse.realsize").ok_or_else(unknown)?)?;
        let (map, taken) = map_before_data(stored, from)?;
        let left = stored - taken;
        return Ok((map.of_file(size, left)?, left));
    }
    if !matches!(version, (None, None) | (Some(b"0"), Some(b"0" | b"1"))) {
        return Err(unknown());
    }
    let size = field::decimal(records.get("GNU.sparse.size").ok_or_else(unknown)?)?;
    let mut numbers = Vec::new();
    match records.get("GNU.sparse.map") {
        Some(map) if records.pieces.is_empty() => {
            for number in map.split(|byte| *byte == b',') {
                numbers.push(field::decimal(number)?);
            }
        }
        Some(_) => return Err(unknown()),
        None => {
            for (at, (keyword, value)) in records.pieces.iter().enumerate() {
                let expected: &[u8] = if at % 2 == 0 { b"GNU.sparse.offset" } else { b"GNU.sparse.numbytes" };
                if keyword != expected {
                    return Err(unknown());
                }
                numbers.push(field::decimal(value)?);
            }
        }
    }
    let (pairs, odd) = numbers.as_chunks::<2>();
    let mut map = Map::default();
    pairs.iter().try_for_each(|[offset, length]| map.add(*offset, *length))?;
    let count: usize = field::decimal(records.get("GNU.sparse.numblocks").ok_or_else(unknown)?)?;
    if !odd.is_empty() || count != map.count {
        return Err(unknown());
    }
    Ok((map.of_file(size, stored)?, stored))
}

/// Lines of decimal numbers, filled up to whole blocks: how many pieces, then offset and length of each.
fn map_before_data(stored: u64, from: &mut dyn Read) -> io::Result<(Map, u64)> {
    let wrong = || bad("is a sparse file whose map can't be read");
    let mut block = [0; 512];
    let (mut taken, mut at) = (0, block.len());
    let mut number = || -> io::Result<u64> {
        let mut digits = Vec::new();
        loop {
            if at == block.len() {
                taken += BLOCK;
                if taken > stored {
                    return Err(wrong());
                }
                from.read_exact(&mut block).map_err(early)?;
                at = 0;
            }
            at += 1;
            match block[at - 1] {
                b'\n' => return field::decimal(&digits),
                digit if digits.len() < 20 => digits.push(digit),
                _ => return Err(wrong()),
            }
        }
    };
    let count = number()?;
    let mut map = Map::default();
    for _ in 0..count {
        map.add(number()?, number()?)?;
    }
    Ok((map, taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(lines: &[(&str, &str)]) -> Records {
        let (mut bytes, mut records) = (Vec::new(), Records::default());
        for (keyword, value) in lines {
            super::super::records::write(keyword.as_bytes(), value.as_bytes(), &mut bytes);
        }
        records.add(&bytes).unwrap();
        records
    }

    #[test]
    fn each_form_of_extended_records_says_the_same() {
        let expected = Layout { size: 1000, pieces: vec![(10, 5), (500, 20)] };
        let in_pieces = records(&[
            ("GNU.sparse.size", "1000"),
            ("GNU.sparse.numblocks", "3"),
            ("GNU.sparse.offset", "10"),
            ("GNU.sparse.numbytes", "5"),
            ("GNU.sparse.offset", "500"),
            ("GNU.sparse.numbytes", "20"),
            ("GNU.sparse.offset", "1000"),
            ("GNU.sparse.numbytes", "0"),
        ]);
        let in_one = records(&[
            ("GNU.sparse.major", "0"),
            ("GNU.sparse.minor", "1"),
            ("GNU.sparse.size", "1000"),
            ("GNU.sparse.numblocks", "3"),
            ("GNU.sparse.map", "10,5,500,20,1000,0"),
        ]);
        for form in [in_pieces, in_one] {
            assert_eq!(of_records(&form, 25, &mut io::empty()).unwrap(), (expected.clone(), 25));
            assert!(of_records(&form, 26, &mut io::empty()).is_err());
        }
        let before = records(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.realsize", "1000"),
            ("GNU.sparse.name", "x"),
        ]);
        let mut map = b"3\n10\n5\n500\n20\n1000\n0\n".to_vec();
        map.resize(512, 0);
        assert_eq!(of_records(&before, 512 + 25, &mut map.as_slice()).unwrap(), (expected, 25));
        assert!(of_records(&before, 25, &mut map.as_slice()).is_err());
    }

    /// Says the same piece again and again.
    struct Endless(GnuExtSparseHeader, usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            assert!(self.1 < 100, "it was read on and on");
            buffer.copy_from_slice(self.0.as_bytes());
            Ok(buffer.len())
        }
    }

    #[test]
    fn a_map_without_end_is_refused_where_it_makes_no_sense() {
        for length in [0, 1] {
            let mut block = GnuExtSparseHeader::new();
            for place in block.sparse_mut() {
                place.set_offset(7);
                place.set_length(length);
            }
            block.set_is_extended(true);
            let mut header = tar::Header::new_gnu();
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_is_extended(true);
            gnu.set_real_size(1000);
            assert!(of_header(gnu, 1, &mut Endless(block, 0)).is_err());
        }
    }

    #[test]
    fn pieces_that_make_no_sense_are_refused() {
        for pieces in [vec![(10, 5), (12, 5)], vec![(995, 10)], vec![(20, 5), (0, 5)], vec![(u64::MAX, 10)]] {
            let mut map = Map::default();
            let added = pieces.iter().try_for_each(|(offset, length)| map.add(*offset, *length));
            assert!(added.is_err() || map.of_file(1000, 10).is_err(), "{pieces:?}");
        }
        for odd in [
            [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "1"), ("GNU.sparse.realsize", "1")],
            [("GNU.sparse.size", "1"), ("GNU.sparse.numblocks", "2"), ("GNU.sparse.map", "0,1")],
            [("GNU.sparse.size", "1"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", "0,1,1")],
        ] {
            assert!(of_records(&records(&odd), 1, &mut io::empty()).is_err(), "{odd:?}");
        }
    }
}
