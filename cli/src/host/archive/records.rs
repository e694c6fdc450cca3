//! Extended headers: records of a length, a keyword and a value, which say of the next file (or of all that follow) what no plain header can.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{CStr, CString},
    io,
};

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{
    super::metadata,
    access_list,
    refusal::{OF_A_SPLIT_ARCHIVE, OF_AN_INCREMENTAL_ARCHIVE, bad},
};

const OF_STAR: &[u8] = b"SCHILY.xattr.";
const OF_LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";
pub(super) const SPARSE: &[u8] = b"GNU.sparse.";

/// What is known and means nothing to a volume: other times, names beside numbers, where the file lay before.
const NOTHING_TO_KEEP: [&[u8]; 13] = [
    b"atime",
    b"ctime",
    b"comment",
    b"uname",
    b"gname",
    b"LIBARCHIVE.creationtime",
    b"LIBARCHIVE.symlinktype",
    b"SCHILY.dev",
    b"SCHILY.ino",
    b"SCHILY.nlink",
    b"SCHILY.fflags",
    b"SCHILY.filetype",
    b"GNU.volume.label",
];

/// What is used where the file is made.
const USED: [&[u8]; 10] = [
    b"path",
    b"linkpath",
    b"size",
    b"uid",
    b"gid",
    b"mtime",
    b"SCHILY.devmajor",
    b"SCHILY.devminor",
    b"SCHILY.acl.access",
    b"SCHILY.acl.default",
];

/// The records that hold for a file.
#[derive(Debug, Default, Clone)]
pub(super) struct Records {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The pieces of a sparse file in the oldest form, whose keywords come again and again.
    pub(super) pieces: Vec<(Vec<u8>, Vec<u8>)>,
    /// The header that they stood in has a name of libarchive's making.
    pub(super) named_by_libarchive: bool,
}

impl Records {
    /// Adds those of one extended header; a later record of a keyword counts.
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        // Some writers fill the block up.
        while !bytes.is_empty() && bytes[0] != 0 {
            let wrong = || bad("an extended header of the archive can't be read");
            let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let length: usize = super::field::decimal(&bytes[..space]).map_err(|_| wrong())?;
            if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err(wrong());
            }
            let record = &bytes[space + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            let (keyword, value) = (&record[..equals], &record[equals + 1..]);
            if matches!(keyword, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
                self.pieces.push((keyword.to_vec(), value.to_vec()));
            } else {
                known(keyword, value)?;
                self.values.insert(keyword.to_vec(), value.to_vec());
            }
            bytes = &bytes[length..];
        }
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(bad("an extended header of the archive can't be read"));
        }
        Ok(())
    }

    /// Takes what was said of one file on top of what was said of all.
    pub(super) fn override_by(&mut self, own: Self) {
        self.values.extend(own.values);
        self.named_by_libarchive |= own.named_by_libarchive;
        if !own.pieces.is_empty() {
            self.pieces = own.pieces;
        }
    }

    /// Whether these have a value for all that others said of what matters.
    pub(super) fn say_all_of(&self, others: &Self) -> bool {
        let matters = |keyword: &&Vec<u8>| !NOTHING_TO_KEEP.contains(&keyword.as_slice());
        others.values.keys().filter(matters).all(|keyword| self.values.contains_key(keyword))
    }

    /// A value that says something: an empty one means that the plain header counts.
    pub(super) fn get(&self, keyword: &str) -> Option<&[u8]> {
        self.values.get(keyword.as_bytes()).map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    pub(super) fn is_sparse(&self) -> bool {
        !self.pieces.is_empty() || self.values.keys().any(|keyword| keyword.starts_with(SPARSE))
    }

    /// Whether bsdtar, or another program above libarchive, wrote them.
    pub(super) fn are_of_libarchive(&self) -> bool {
        self.named_by_libarchive || self.values.keys().any(|keyword| keyword.starts_with(b"LIBARCHIVE."))
    }

    /// The extended attributes, access control lists among them.
    pub(super) fn attributes(&self) -> io::Result<BTreeMap<CString, Vec<u8>>> {
        let mut found = BTreeMap::new();
        let mut add = |name: Vec<u8>, value: Vec<u8>| {
            let name =
                CString::new(name).map_err(|_| bad("has an extended attribute whose name can't be read"))?;
            match found.insert(name, value.clone()) {
                Some(other) if other != value => {
                    Err(bad("has an extended attribute of which the archive says two things"))
                }
                _ => Ok(()),
            }
        };
        // libarchive writes each twice, in its own form and in star's. Some versions write a name the same way in both, with more escapes than
        // GNU tar takes for such, others leave it as it is in star's: only its own form tells. It comes first here.
        let (mut twins, mut escaped) = (BTreeSet::new(), BTreeMap::new());
        for (keyword, value) in &self.values {
            if let Some(name) = keyword.strip_prefix(OF_LIBARCHIVE) {
                let value = base64()
                    .decode(value)
                    .map_err(|_| bad("has an extended attribute that can't be read"))?;
                let plain = unescaped(name);
                twins.insert([&*plain, b"=", &*value].concat());
                escaped.insert(name, plain.clone());
                add(plain, value)?;
            } else if let Some(name) = keyword.strip_prefix(OF_STAR) {
                if !twins.contains(&[name, b"=", value].concat()) {
                    add(escaped.get(name).cloned().unwrap_or_else(|| of_gnu(name)), value.clone())?;
                }
            } else if keyword == b"RHT.security.selinux" {
                // The kernel counts the NUL at its end.
                add(b"security.selinux".to_vec(), [value.as_slice(), &[0]].concat())?;
            }
        }
        for (keyword, list) in
            [("SCHILY.acl.access", metadata::ACCESS_LIST), ("SCHILY.acl.default", metadata::DEFAULT_LIST)]
        {
            // Where the kernel's own form is there too, that is the exact one.
            if let Some(text) = self.get(keyword)
                && !found.contains_key(list)
            {
                found.insert(list.to_owned(), access_list::to_attribute(text)?);
            }
        }
        Ok(found)
    }
}

/// Refuses what is not known: it may say anything of the file.
fn known(keyword: &[u8], value: &[u8]) -> io::Result<()> {
    let charset = matches!(keyword, b"hdrcharset" | b"charset");
    if charset && !matches!(value, b"" | b"BINARY" | b"ISO-IR 10646 2000 UTF-8") {
        return Err(bad("the archive's names are in another character set than UTF-8"));
    }
    if [b"GNU.volume.filename".as_slice(), b"GNU.volume.size", b"GNU.volume.offset"].contains(&keyword) {
        return Err(bad(OF_A_SPLIT_ARCHIVE));
    }
    if keyword == b"GNU.dumpdir" {
        return Err(bad(OF_AN_INCREMENTAL_ARCHIVE));
    }
    let prefix = [OF_STAR, OF_LIBARCHIVE, SPARSE].iter().any(|prefix| keyword.starts_with(prefix));
    if charset
        || prefix
        || keyword == b"RHT.security.selinux"
        || NOTHING_TO_KEEP.contains(&keyword)
        || USED.contains(&keyword)
    {
        return Ok(());
    }
    Err(bad(&format!(
        "the archive says '{}' of a file, which is not known here and would be lost: pack it anew with GNU tar or bsdtar",
        String::from_utf8_lossy(keyword).escape_debug()
    )))
}

/// What GNU tar makes of the two characters that a keyword can't have.
fn of_gnu(name: &[u8]) -> Vec<u8> {
    replaced(&replaced(name, b"%3D", b"="), b"%25", b"%")
}

/// The same the other way round.
pub(super) fn keyword_of(attribute: &CStr) -> Vec<u8> {
    [OF_STAR, &replaced(&replaced(attribute.to_bytes(), b"%", b"%25"), b"=", b"%3D")].concat()
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let (mut rest, mut found) = (text, Vec::new());
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(from) {
            found.extend(to);
            rest = after;
        } else {
            found.push(*first);
            rest = &rest[1..];
        }
    }
    found
}

/// libarchive writes names as addresses of the web are written.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (mut rest, mut found) = (name, Vec::new());
    loop {
        match rest {
            [b'%', high, low, after @ ..] if digit(high).is_some() && digit(low).is_some() => {
                found.push(digit(high).unwrap_or(0) << 4 | digit(low).unwrap_or(0));
                rest = after;
            }
            [byte, after @ ..] => {
                found.push(*byte);
                rest = after;
            }
            [] => return found,
        }
    }
}

fn base64() -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&base64::alphabet::STANDARD, config)
}

/// One record.
pub(super) fn write(keyword: &[u8], value: &[u8], into: &mut Vec<u8>) {
    // The length counts itself.
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() + rest > length {
        length += 1;
    }
    into.extend(length.to_string().bytes());
    into.push(b' ');
    into.extend(keyword);
    into.push(b'=');
    into.extend(value);
    into.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_carry_any_bytes_and_count_themselves() {
        for length in [0, 1, 60, 80, 90, 100, 960, 980, 990, 9_960, 9_990] {
            let value = vec![b'\n'; length];
            let mut bytes = Vec::new();
            write(&keyword_of(c"user.a=b%3D"), &value, &mut bytes);
            write(b"path", b"x", &mut bytes);
            let mut records = Records::default();
            records.add(&bytes).unwrap();
            assert_eq!(records.attributes().unwrap(), BTreeMap::from([(c"user.a=b%3D".to_owned(), value)]));
            assert_eq!(records.get("path"), Some(b"x".as_slice()));
        }
    }

    #[test]
    fn what_is_not_known_or_does_not_add_up_is_refused() {
        for bad in [
            "12 path=abcd",
            "9 path=ab\n",
            "99 path=ab\n",
            "x path=ab\n",
            "6 path\n",
            "17 VENDOR.odd=1\nxx",
            "17 VENDOR.odd=12\n",
            "21 hdrcharset=KOI8-R\n",
        ] {
            assert!(Records::default().add(bad.as_bytes()).is_err(), "{bad}");
        }
        let mut records = Records::default();
        records.add(b"11 path=ab\n11 path=cd\n12 comment=\n\0\0").unwrap();
        assert_eq!((records.get("path"), records.get("comment")), (Some(b"cd".as_slice()), None));
    }

    #[test]
    fn an_attribute_that_only_one_of_two_forms_has_is_kept() {
        let of = |keyword: &[u8], value: &[u8]| {
            let (mut bytes, mut records) = (Vec::new(), Records::default());
            write(b"LIBARCHIVE.xattr.user.a", b"eA", &mut bytes);
            write(keyword, value, &mut bytes);
            records.add(&bytes).unwrap();
            records.attributes()
        };
        let both = [(c"user.a".to_owned(), b"x".to_vec()), (c"user.b".to_owned(), b"y".to_vec())];
        assert_eq!(of(b"SCHILY.xattr.user.b", b"y").unwrap(), BTreeMap::from(both.clone()));
        assert_eq!(of(b"SCHILY.xattr.user.a", b"x").unwrap(), BTreeMap::from([both[0].clone()]));
        assert!(of(b"SCHILY.xattr.user.a", b"z").is_err());
    }

    #[test]
    fn a_name_that_libarchive_escapes_in_both_forms_is_one_attribute() {
        let (mut bytes, mut expected) = (Vec::new(), BTreeMap::new());
        // As bsdtar 3.6.2 writes them.
        for (name, plain) in [
            ("user.a%20b", b"user.a b".as_slice()),
            ("user.a%2520b", b"user.a%20b"),
            ("user.%C3%A9", "user.\u{e9}".as_bytes()),
            ("user.%FF%FE", b"user.\xff\xfe"),
            ("user.n%0Al", b"user.n\nl"),
            ("user.d%7F", b"user.d\x7f"),
            ("user.e%3Dq", b"user.e=q"),
            ("user.p%2525", b"user.p%25"),
            ("user.plus+", b"user.plus+"),
        ] {
            // Each its own value, so that no two are taken for one.
            let value = [name.as_bytes(), b"\0"].concat();
            let [own, of_star] = [OF_LIBARCHIVE, OF_STAR].map(|form| [form, name.as_bytes()].concat());
            write(&own, base64().encode(&value).as_bytes(), &mut bytes);
            write(&of_star, &value, &mut bytes);
            expected.insert(CString::new(plain).unwrap(), value);
        }
        let mut records = Records::default();
        records.add(&bytes).unwrap();
        assert_eq!(records.attributes().unwrap(), expected);
        write(b"SCHILY.xattr.user.a%20b", b"another value", &mut bytes);
        records.add(&bytes).unwrap();
        assert!(records.attributes().is_err());
    }

    #[test]
    fn attributes_of_libarchive_are_taken_in_the_form_that_keeps_them() {
        let mut bytes = Vec::new();
        write(b"LIBARCHIVE.xattr.user.a%3Db", b"AAEK", &mut bytes);
        write(b"SCHILY.xattr.user.a=b", b"\0\x01\n", &mut bytes);
        let mut records = Records::default();
        records.add(&bytes).unwrap();
        assert_eq!(records.attributes().unwrap(), BTreeMap::from([(c"user.a=b".to_owned(), vec![0, 1, 10])]));
    }
}
