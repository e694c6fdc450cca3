//! Parsing `/proc/self/mountinfo` (format: `proc_pid_mountinfo(5)`).

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use crate::DeviceNumber;

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The mount's number.
    pub id: u64,
    /// Number of the mount that this one lies on.
    pub parent: u64,
    /// The filesystem.
    pub device: DeviceNumber,
    /// Which folder or file of the filesystem is mounted; `/` is all of it.
    pub root: PathBuf,
    /// The mount point, seen from this process's root.
    pub point: PathBuf,
    /// Whether the mount (not the filesystem) is read-only.
    pub readonly: bool,
    /// Kind of filesystem.
    pub fstype: String,
    /// What the filesystem says it was mounted from.
    pub source: PathBuf,
    /// What the filesystem (not the mount) was mounted with, as the table writes it.
    pub options: Vec<u8>,
}

impl Line {
    /// The folders that an overlay is made of, as whoever mounted it wrote them: they may be relative to a folder that is not known.
    pub fn layers(&self) -> Vec<PathBuf> {
        if self.fstype != "overlay" {
            return Vec::new();
        }
        let options = self.options.split(|&byte| byte == b',');
        options.flat_map(|option| layers_of(&unescaped(option))).collect()
    }
}

/// The folders that one option of an overlay names.
pub fn layers_of(option: &[u8]) -> Vec<PathBuf> {
    let Some(at) = option.iter().position(|&byte| byte == b'=') else { return Vec::new() };
    let (name, value) = (&option[..at], &option[at + 1..]);
    let mut found = match name {
        // Colons part the folders.
        b"lowerdir" => without_backslashes(value, Some(b':')),
        // Whether the kernel shows these with the backslashes that they were written with depends on its version.
        b"upperdir" | b"workdir" => [without_backslashes(value, None), vec![value.to_vec()]].concat(),
        b"lowerdir+" | b"datadir+" => vec![value.to_vec()],
        _ => return Vec::new(),
    };
    found.retain(|folder| !folder.is_empty());
    found.dedup();
    found.into_iter().map(|folder| OsString::from_vec(folder).into()).collect()
}

/// The parts of a value; a backslash says that the next byte belongs to a name.
fn without_backslashes(value: &[u8], separator: Option<u8>) -> Vec<Vec<u8>> {
    let (mut parts, mut part) = (Vec::new(), Vec::new());
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        if Some(byte) == separator {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte });
        }
    }
    parts.push(part);
    parts
}

/// Parses the whole table. `Err` holds the first line that makes no sense.
pub fn parse(text: &[u8]) -> Result<Vec<Line>, String> {
    text.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| parse_line(line).ok_or_else(|| String::from_utf8_lossy(line).into_owned()))
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Line> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let root = path(fields.next()?);
    let point = path(fields.next()?);
    let readonly = fields.next()?.split(|&byte| byte == b',').any(|option| option == b"ro");
    // Optional fields until a single dash.
    fields.find(|field| *field == b"-")?;
    // The user who mounts a FUSE filesystem chooses a part of its type, of whatever bytes.
    let fstype = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = path(fields.next()?);
    let options = fields.next().unwrap_or_default().to_vec();
    let device = DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? };
    Some(Line { id, parent, device, root, point, readonly, fstype, source, options })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescaped(field)).into()
}

/// What a field of one of the kernel's tables says: it writes space, tab, line break, backslash and others as three octal digits.
pub fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) = (byte, tail) {
            bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = after;
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::{os::unix::ffi::OsStrExt, path::Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn real_lines_are_understood() {
        let text = b"36 35 98:0 /mnt1 /mnt/with\\040space rw,noatime master:1 shared:3 - ext3 /dev/root rw,errors=continue\n\
            26 24 0:21 / /proc rw,relatime - proc proc rw\n\
            41 36 7:3 / /a\\134b\\012c ro,nodev - btrfs /dev/loop3 rw\n";
        let lines = parse(text).unwrap();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].point, PathBuf::from("/mnt/with space"));
        assert_eq!(lines[0].root, PathBuf::from("/mnt1"));
        assert_eq!(lines[0].device, DeviceNumber { major: 98, minor: 0 });
        assert!(!lines[0].readonly);
        assert_eq!(lines[2].point, PathBuf::from("/a\\b\nc"));
        assert_eq!(lines[2].source, PathBuf::from("/dev/loop3"));
        assert_eq!(lines[2].parent, 36);
        assert!(lines[2].readonly);
    }

    #[test]
    fn this_process_table_is_understood() {
        let lines = parse(&std::fs::read("/proc/self/mountinfo").unwrap()).unwrap();
        assert!(lines.iter().any(|line| line.point == Path::new("/proc")));
    }

    #[test]
    fn an_overlay_names_its_layers() {
        for (options, expected) in [
            // As Linux 6.18 writes `lowerdir=/l/b c\,=d:/l/a`.
            ("ro,lowerdir=/l/b\\040c\\134\\054=d:/l/a,redirect_dir=on", vec!["/l/b c,=d", "/l/a"]),
            ("rw,lowerdir=/a\\134:b::data,upperdir=/u,workdir=/w", vec!["/a:b", "data", "/u", "/w"]),
            ("rw,upperdir=/u\\134\\054", vec!["/u,", "/u\\,"]),
            ("rw,lowerdir+=/a:b,datadir+=/c", vec!["/a:b", "/c"]),
            ("rw,lowerdir=,upperdir", vec![]),
        ] {
            let table = |fstype| format!("45 27 0:39 / /m rw,relatime - {fstype} overlay {options}\n");
            let layers = |fstype| parse(table(fstype).as_bytes()).unwrap()[0].layers();
            assert_eq!(
                layers("overlay"),
                expected.iter().map(PathBuf::from).collect::<Vec<_>>(),
                "{options}"
            );
            assert_eq!(layers("ext4"), Vec::<PathBuf>::new());
        }
    }

    #[test]
    fn a_line_cut_off_is_an_error_that_shows_it() {
        assert_eq!(parse(b"26 24 0:21 / /proc rw").unwrap_err(), "26 24 0:21 / /proc rw");
    }

    fn escape(bytes: &[u8]) -> Vec<u8> {
        bytes
            .iter()
            .flat_map(|&byte| match byte {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
                _ => vec![byte],
            })
            .collect()
    }

    proptest! {
        #[test]
        fn any_path_round_trips_whatever_its_type_is(
            name in proptest::collection::vec(1_u8..=255, 0..40),
            subtype in proptest::collection::vec(1_u8..=255, 0..10),
            options in "[a-z,]{0,12}",
        ) {
            let mut line = b"1 2 3:4 / /".to_vec();
            line.extend(escape(&name));
            line.extend(format!(" rw,{options} shared:1 - fuse.").bytes());
            line.extend(escape(&subtype));
            line.extend(b" /dev/x rw\n");
            let lines = parse(&line).unwrap();
            let mut expected = vec![b'/'];
            expected.extend(&name);
            prop_assert_eq!(lines[0].point.as_os_str().as_bytes(), expected.as_slice());
            prop_assert!(lines[0].fstype.starts_with("fuse."));
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
            let _ = layers_of(&[b"lowerdir=", text.as_slice()].concat());
        }
    }
}
