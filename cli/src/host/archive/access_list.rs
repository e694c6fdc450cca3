//! Access control lists: text in archives, numbers in the kernel's attribute.
//!
//! GNU tar writes `user:NAME:rwx`, star and libarchive `user:NAME:rwx:NUMBER`; all three read a number in the place of the name.

use std::{fs, io};

use super::refusal::bad;

/// What the kernel's attribute begins with.
const VERSION: u32 = 2;
/// The number of an entry that has none.
const NOBODY: u32 = u32::MAX;

/// The kernel's tags, in the order in which it wants them, and their words. The second and the fourth are of somebody by name.
const TAGS: [(u16, &str); 6] =
    [(0x01, "user"), (0x02, "user"), (0x04, "group"), (0x08, "group"), (0x10, "mask"), (0x20, "other")];

fn is_named(tag: u16) -> bool {
    matches!(tag, 0x02 | 0x08)
}

/// The kernel's attribute for a list that an archive has as text.
pub(super) fn to_attribute(text: &[u8]) -> io::Result<Vec<u8>> {
    let wrong =
        |why: &str| bad(&format!("has the access control list '{}', {why}", String::from_utf8_lossy(text)));
    let readable = std::str::from_utf8(text).map_err(|_| wrong("which can't be read"))?;
    let mut entries = Vec::new();
    for entry in readable.split([',', '\n']) {
        // What an entry comes to under the mask may stand behind it.
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let mut fields: Vec<&str> = entry.split(':').map(str::trim).collect();
        if fields.len() == 2 && fields[0].starts_with(['m', 'o']) {
            fields.insert(1, "");
        }
        let [word, name, permissions, number @ ..] = fields.as_slice() else {
            return Err(wrong("which can't be read"));
        };
        let tag = TAGS.iter().find(|(tag, known)| {
            (word == known || **word == known[..1]) && is_named(*tag) != name.is_empty()
        });
        let Some((tag, _)) = tag else { return Err(wrong("which can't be read")) };
        let mut bits = 0_u16;
        for letter in permissions.chars() {
            bits |= match letter {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return Err(wrong("with other rights than r, w and x")),
            };
        }
        let id = match (is_named(*tag), number) {
            (false, []) => NOBODY,
            (true, []) => {
                id_of(*tag, name).ok_or_else(|| wrong(&format!("and there is no '{name}' here")))?
            }
            (true, [number]) => number.parse().map_err(|_| wrong("which can't be read"))?,
            _ => return Err(wrong("which can't be read")),
        };
        entries.push((*tag, bits, id));
    }
    entries.sort_unstable_by_key(|(tag, _, id)| (*tag, *id));
    let mut attribute = VERSION.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        attribute.extend(tag.to_le_bytes());
        attribute.extend(bits.to_le_bytes());
        attribute.extend(id.to_le_bytes());
    }
    Ok(attribute)
}

/// Tag, rights and number of each entry of the kernel's attribute.
fn entries(attribute: &[u8]) -> io::Result<Vec<(u16, u16, u32)>> {
    let wrong = || bad("has an access control list of a form that is not known");
    let entries = attribute.strip_prefix(&VERSION.to_le_bytes()).ok_or_else(wrong)?;
    let mut found = Vec::new();
    for entry in entries.chunks(8) {
        let [t0, t1, b0, b1, id @ ..] = entry else { return Err(wrong()) };
        let id = u32::from_le_bytes(id.try_into().map_err(|_| wrong())?);
        found.push((u16::from_le_bytes([*t0, *t1]), u16::from_le_bytes([*b0, *b1]), id));
    }
    Ok(found)
}

/// The nine bits of the mode of a file with that list: those of its group stand for the mask, where there is one.
pub(super) fn mode(attribute: &[u8]) -> io::Result<u32> {
    let entries = entries(attribute)?;
    let of =
        |wanted: u16| entries.iter().find(|(tag, ..)| *tag == wanted).map(|(_, bits, _)| u32::from(bits & 7));
    let (user, group, others) = (of(0x01), of(0x10).or(of(0x04)), of(0x20));
    match (user, group, others) {
        (Some(user), Some(group), Some(others)) => Ok(user << 6 | group << 3 | others),
        _ => Err(bad("has an access control list without an owner, a group or the others")),
    }
}

/// The text of the kernel's attribute, with numbers alone.
pub(super) fn to_text(attribute: &[u8]) -> io::Result<String> {
    let wrong = || bad("has an access control list of a form that is not known");
    let mut words = Vec::new();
    for (tag, bits, id) in entries(attribute)? {
        let (_, word) = TAGS.iter().find(|(known, _)| *known == tag).ok_or_else(wrong)?;
        let name = if is_named(tag) { id.to_string() } else { String::new() };
        let right = |bit, letter| if bits & bit != 0 { letter } else { '-' };
        words.push(format!("{word}:{name}:{}{}{}", right(4, 'r'), right(2, 'w'), right(1, 'x')));
    }
    Ok(words.join(","))
}

/// The number of a user or a group, by this host's files.
fn id_of(tag: u16, name: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let file = if tag == 0x02 { "/etc/passwd" } else { "/etc/group" };
    let lines = fs::read_to_string(file).ok()?;
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_each_writer_mean_the_same() {
        let ours = "user::rw-,user:1234:r-x,group::r--,group:77:-w-,mask::rwx,other::---";
        let attribute = to_attribute(ours.as_bytes()).unwrap();
        assert_eq!(attribute.len(), 4 + 6 * 8);
        assert_eq!(to_text(&attribute).unwrap(), ours);
        assert_eq!(mode(&attribute).unwrap(), 0o670);
        assert_eq!(mode(&to_attribute(b"u::rw-,g::r--,o::--x").unwrap()).unwrap(), 0o641);
        assert!(mode(&to_attribute(b"u::rw-,g::r--").unwrap()).is_err());
        for same in [
            "u::rw-,u:1234:r-x,g::r--,g:77:-w-,m::rwx,o::---",
            "user::rw-\nuser:1234:r-x\t#effective:r-x\ngroup::r--\ngroup:77:-w-\nmask:rwx\nother:---\n",
            "other::---,mask::rwx,group::r--,group:nosuch:-w-:77,user:nosuch:r-x:1234,user::rw-",
        ] {
            assert_eq!(to_attribute(same.as_bytes()).unwrap(), attribute, "{same}");
        }
        let root = to_attribute(b"user::rwx,user:root:r--,group::r--,mask::r--,other::r--").unwrap();
        assert!(to_text(&root).unwrap().contains("user:0:r--"));
        for bad in
            ["user:no such one:r--", "user::rwz", "owner@:rwx", "default:user::rwx", "user", "user::r--:5"]
        {
            assert!(to_attribute(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(to_text(b"\x01\0\0\0").is_err() && to_text(&attribute[..10]).is_err());
    }
}
