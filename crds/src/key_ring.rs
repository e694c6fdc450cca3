//! What the Secret of an encrypted volume or snapshot holds. The controller writes it, the node reads it; all of it is text, since CSI passes
//! secrets so.
//!
//! - `key-<fingerprint>`: a key, as `<what wraps it>:<text>`. Nothing wraps it today: `plain:<64 hexadecimal digits>`.
//! - `wanted`: the fingerprint of the key that is to be in force. The others are there because something may still open with them.
//! - `key` and `next-key`: the same in the form of before, which an older program reads. Where there is one key, `key` is it; else `next-key`
//!   is the wanted one and `key` is one of the others.
//!
//! A Secret that has the older entries alone is read as what they meant: both open, and `next-key` is wanted where it is there.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use thiserror::Error;

/// All of them random.
const KEY_BYTES: usize = 32;

const KEY: &str = "key";
const NEXT_KEY: &str = "next-key";
const WANTED: &str = "wanted";
const ENTRY: &str = "key-";
const PLAIN: &str = "plain:";

/// An entry of a Secret that should be a key and is none, or is wrapped by what this version does not know. Its text is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the entry {0:?} of the volume's Secret is no key that this version of Tierce can read: it must be 64 hexadecimal digits (32 random bytes)"
)]
pub struct BadKey(pub String);

/// The keys of one Secret, by fingerprint.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeyRing {
    /// Hexadecimal digits.
    keys: BTreeMap<String, String>,
    wanted: Option<String>,
    /// What the entry `key` named.
    alias: Option<String>,
    /// Entries that could not be read, and everything else: kept as they are.
    rest: BTreeMap<String, Vec<u8>>,
    bad: Option<BadKey>,
}

impl KeyRing {
    /// Reads the entries of a Secret. What can't be read as a key is kept, and told by [`Self::bad`].
    pub fn read<'a>(entries: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut ring = Self::default();
        let (mut wanted, mut next) = (None, None);
        for (name, value) in entries {
            let text = std::str::from_utf8(value).unwrap_or("?").trim();
            if name == WANTED {
                // One that was emptied by hand is as good as absent.
                wanted = Some(text.to_owned()).filter(|print| !print.is_empty());
                continue;
            }
            let print = name.strip_prefix(ENTRY);
            let is_alias = name == KEY || name == NEXT_KEY;
            let digits = if is_alias { Some(text) } else { print.and_then(|_| text.strip_prefix(PLAIN)) };
            let found = digits.and_then(|digits| Some((fingerprint(digits)?, digits.to_lowercase())));
            match found.filter(|(found, _)| is_alias || Some(found.as_str()) == print) {
                Some((found, digits)) => {
                    if name == KEY {
                        ring.alias = Some(found.clone());
                    } else if name == NEXT_KEY {
                        next = Some(found.clone());
                    }
                    ring.keys.insert(found, digits);
                }
                // An entry that was emptied by hand is as good as absent.
                None if is_alias && text.is_empty() => {}
                None => {
                    if is_alias || print.is_some() {
                        ring.bad.get_or_insert_with(|| BadKey(name.to_owned()));
                    }
                    ring.rest.insert(name.to_owned(), value.to_vec());
                }
            }
        }
        match wanted {
            // Another one in its place would undo a rotation without a word.
            Some(print) if !ring.keys.contains_key(&print) => {
                ring.bad.get_or_insert_with(|| BadKey(format!("{ENTRY}{print}")));
                let aliases = [(KEY, ring.alias.as_ref()), (NEXT_KEY, next.as_ref())];
                let aliases =
                    aliases.into_iter().filter_map(|(name, print)| Some((name, ring.keys.get(print?)?)));
                let kept = aliases.map(|(name, digits)| (name.to_owned(), digits.clone().into_bytes()));
                ring.rest.extend(kept.chain([(WANTED.to_owned(), print.into_bytes())]));
            }
            wanted => ring.wanted = wanted.or(next).or_else(|| ring.alias.clone()),
        }
        ring
    }

    /// Whether a Secret with these entries has its keys in the older form, and more than one: which of them is wanted depends on more than it
    /// says itself.
    pub fn is_in_older_form<'a>(mut names: impl Iterator<Item = &'a str> + Clone) -> bool {
        names.clone().any(|name| name == NEXT_KEY) && !names.any(|name| name == WANTED)
    }

    /// The entries of the Secret.
    pub fn write(&self) -> BTreeMap<String, Vec<u8>> {
        let mut entries = self.rest.clone();
        for (print, digits) in &self.keys {
            entries.insert(format!("{ENTRY}{print}"), format!("{PLAIN}{digits}").into_bytes());
        }
        let Some((wanted, digits)) = self.wanted.as_ref().and_then(|print| self.keys.get_key_value(print))
        else {
            return entries;
        };
        // What can't be read stays as it is.
        let known =
            entries.get(NEXT_KEY).and_then(|text| fingerprint(std::str::from_utf8(text).ok()?.trim()));
        if known.is_some_and(|print| self.keys.contains_key(&print)) {
            entries.remove(NEXT_KEY);
        }
        entries.insert(WANTED.to_owned(), wanted.clone().into_bytes());
        let mut alias = |name: &str, digits: &String| {
            entries.insert(name.to_owned(), digits.clone().into_bytes());
        };
        match self.other_alias() {
            None => alias(KEY, digits),
            Some(other) => {
                alias(KEY, other);
                alias(NEXT_KEY, digits);
            }
        }
        entries
    }

    /// The key that `key` names where another one is wanted.
    fn other_alias(&self) -> Option<&String> {
        let is_other = |print: &&String| Some(*print) != self.wanted.as_ref();
        let named = self.alias.as_ref().filter(is_other).and_then(|print| self.keys.get(print));
        named.or_else(|| self.others().next().map(|(_, digits)| digits))
    }

    /// A ring with this one key; `None` if the text is not 64 hexadecimal digits.
    pub fn of(digits: &str) -> Option<Self> {
        let mut ring = Self::default();
        ring.want(digits).then_some(ring)
    }

    /// From now on this key is the wanted one; the others stay. Whether the text was a key.
    pub fn want(&mut self, digits: &str) -> bool {
        let Some(print) = fingerprint(digits) else { return false };
        self.keys.insert(print.clone(), digits.to_lowercase());
        self.wanted = Some(print);
        true
    }

    /// Adds the keys of another ring, and wants what that one wants.
    pub fn follow(&mut self, other: &Self) {
        self.lend(other);
        if other.wanted.is_some() {
            self.wanted.clone_from(&other.wanted);
        }
    }

    /// Adds the keys of another ring. What is wanted stays.
    pub fn lend(&mut self, other: &Self) {
        for (print, digits) in &other.keys {
            self.keys.entry(print.clone()).or_insert_with(|| digits.clone());
        }
    }

    /// Drops every key but the wanted one. The caller has seen that it is in force, and that nothing opens with another.
    pub fn keep_the_wanted(&mut self) {
        if let Some(wanted) = &self.wanted {
            self.keys.retain(|print, _| print == wanted);
        }
    }

    /// The key that is to be in force, as hexadecimal digits.
    pub fn wanted(&self) -> Option<&str> {
        self.wanted.as_ref().and_then(|print| self.keys.get(print)).map(String::as_str)
    }

    /// The other keys, by fingerprint, as hexadecimal digits.
    pub fn others(&self) -> impl Iterator<Item = (&String, &String)> {
        self.keys.iter().filter(|(print, _)| Some(*print) != self.wanted.as_ref())
    }

    /// All keys, as hexadecimal digits.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.values().map(String::as_str)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The first entry that should be a key and could not be read.
    pub fn bad(&self) -> Option<&BadKey> {
        self.bad.as_ref()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?} of them wanted", self.keys.keys(), self.wanted)
    }
}

/// Which key it is, whatever it opens: 128 bits of a hash of 256 random ones. `None`: it is no key.
fn fingerprint(digits: &str) -> Option<String> {
    // Digits alone: `from_str_radix` takes a sign as well.
    if digits.len() != 2 * KEY_BYTES || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect::<Option<_>>()?;
    let digest = Sha256::new().chain_update(b"tierce-key:").chain_update(bytes).finalize();
    Some(digest.iter().take(16).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String never fails");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(digit: &str) -> String {
        digit.repeat(64)
    }

    fn read(entries: &[(&str, &str)]) -> KeyRing {
        KeyRing::read(entries.iter().map(|(name, text)| (*name, text.as_bytes())))
    }

    fn reread(ring: &KeyRing) -> KeyRing {
        KeyRing::read(ring.write().iter().map(|(name, text)| (name.as_str(), text.as_slice())))
    }

    fn text(ring: &KeyRing, name: &str) -> Option<String> {
        ring.write().remove(name).map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn a_next_key_that_cannot_be_read_stays_as_it_is() {
        let mut ring = read(&[(KEY, &key("0a")[..64]), (NEXT_KEY, "damaged")]);
        assert!(ring.want(&key("0b")[..64]));
        ring.keep_the_wanted();
        assert_eq!(text(&ring, NEXT_KEY).as_deref(), Some("damaged"));
    }

    #[test]
    fn a_secret_in_the_older_form_is_read_as_what_it_meant_and_an_older_program_reads_what_is_written() {
        let settled = read(&[("key", &key("a"))]);
        assert_eq!((settled.wanted(), settled.others().count()), (Some(key("a").as_str()), 0));
        let rotating = read(&[("key", &key("a")), ("next-key", &key("b"))]);
        assert_eq!(rotating.wanted(), Some(key("b").as_str()));
        assert_eq!(rotating.others().map(|(_, key)| key.clone()).collect::<Vec<_>>(), [key("a")]);
        for ring in [settled, rotating] {
            assert_eq!(reread(&ring), ring);
            assert_eq!(text(&ring, "key"), Some(key("a")), "what an older program opens it with");
        }
        let emptied = read(&[("key", &key("a")), ("next-key", " \n")]);
        assert_eq!((emptied.wanted(), emptied.bad()), (Some(key("a").as_str()), None));
    }

    #[test]
    fn what_is_lent_is_never_wanted_and_what_is_settled_is_alone() {
        let mut ring = KeyRing::of(&key("a")).unwrap();
        ring.lend(&KeyRing::of(&key("b")).unwrap());
        assert_eq!(ring.wanted(), Some(key("a").as_str()));
        // An older program opens it with either, and puts the wanted one into force.
        assert_eq!((text(&ring, "key"), text(&ring, "next-key")), (Some(key("b")), Some(key("a"))));
        assert!(ring.want(&key("c")));
        assert_eq!(ring.keys().count(), 3);
        ring.keep_the_wanted();
        assert_eq!((text(&ring, "key"), text(&ring, "next-key")), (Some(key("c")), None));
        assert!(!ring.want("no key"));
        let mut copy = KeyRing::of(&key("a")).unwrap();
        copy.follow(&ring);
        assert_eq!((copy.wanted(), copy.keys().count()), (Some(key("c").as_str()), 2));
    }

    #[test]
    fn what_can_not_be_read_is_told_without_its_text_and_never_dropped() {
        let mut named = KeyRing::of(&key("a")).unwrap().write();
        let wrapped = named.keys().find(|name| name.starts_with(ENTRY)).cloned().unwrap();
        named.insert(wrapped.clone(), b"vault/transit:hunter2".to_vec());
        named.retain(|name, _| name != KEY);
        named.insert("note".to_owned(), b"mine".to_vec());
        let ring = KeyRing::read(named.iter().map(|(name, text)| (name.as_str(), text.as_slice())));
        assert_eq!(ring.bad(), Some(&BadKey(wrapped.clone())));
        assert!(ring.wanted().is_none() && ring.is_empty());
        assert!(!format!("{ring:?} {}", ring.bad().unwrap()).contains("hunter2"));
        let written = ring.write();
        assert_eq!(written.get(&wrapped), named.get(&wrapped));
        assert_eq!(written.get("note"), named.get("note"));
        // Under another key's name it would be taken for that one.
        let signed = read(&[("key", &"+f".repeat(32))]);
        assert!(signed.is_empty() && signed.bad().is_some());
        let misnamed = read(&[("key-00000000000000000000000000000000", &format!("plain:{}", key("a")))]);
        assert!(misnamed.is_empty() && misnamed.bad().is_some());
    }

    #[test]
    fn a_wanted_key_that_can_not_be_read_is_replaced_by_no_other() {
        let (old, new) = (KeyRing::of(&key("a")).unwrap(), KeyRing::of(&key("b")).unwrap());
        let wanted = new.write().remove(WANTED).unwrap();
        let entry = format!("{ENTRY}{}", std::str::from_utf8(&wanted).unwrap());
        for wrapped in [None, Some("vault/transit:hunter2")] {
            let mut entries = old.write();
            entries.insert(WANTED.to_owned(), wanted.clone());
            entries.extend(wrapped.map(|text| (entry.clone(), text.as_bytes().to_vec())));
            let ring = KeyRing::read(entries.iter().map(|(name, text)| (name.as_str(), text.as_slice())));
            assert_eq!(ring.wanted(), None, "{wrapped:?}");
            assert_eq!(ring.bad(), Some(&BadKey(entry.clone())), "{wrapped:?}");
            assert_eq!(ring.write(), entries, "{wrapped:?}: a program that can read it finds it");
            // In the form of before it can be read, whatever wraps the other.
            entries.insert(NEXT_KEY.to_owned(), key("b").into_bytes());
            let ring = KeyRing::read(entries.iter().map(|(name, text)| (name.as_str(), text.as_slice())));
            assert_eq!(ring.wanted(), Some(key("b").as_str()), "{wrapped:?}");
        }
    }

    proptest! {
        #[test]
        fn a_ring_is_what_it_was_after_it_was_written(
            keys in proptest::collection::vec("[0-9a-f]{64}", 0..5), junk in "[ -~]{0,80}", name in "(key|next-key|wanted|key-x|other)",
        ) {
            let mut ring = KeyRing::read([(name.as_str(), junk.as_bytes())]);
            for key in &keys {
                ring.want(key);
            }
            let again = reread(&ring);
            prop_assert_eq!(again.wanted(), ring.wanted());
            prop_assert_eq!(again.keys().collect::<Vec<_>>(), ring.keys().collect::<Vec<_>>());
            prop_assert_eq!(again.write(), ring.write());
        }

        #[test]
        fn whoever_reads_a_key_of_a_ring_gets_hexadecimal_digits(text in "[-+_ 0-9a-fA-Fg]{62,66}|[0-9a-fA-F]{64}") {
            let ring = KeyRing::read([("key", text.as_bytes())]);
            let is_key = |key: &str| key.len() == 64 && key.bytes().all(|digit| digit.is_ascii_hexdigit());
            prop_assert!(ring.keys().all(is_key));
        }
    }
}
