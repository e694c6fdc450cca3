//! Volume ids.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest id, in bytes: one DNS label, so that the id can be an object's name and a folder's name alike.
pub const MAX_ID_BYTES: usize = 63;

/// The id of a volume: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
///
/// A value of this type is safe as a single path component: it has no separator, no dot and no NUL, and is
/// never empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(String);

impl VolumeId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that can't be a volume id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "volume id {id:?} is not valid: 1 to 63 lower-case letters, digits and '-', neither first nor last a '-'"
)]
pub struct InvalidId {
    /// The text, cut to 80 characters.
    pub id: String,
}

fn is_valid(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&first), Some(&last)) => {
            bytes.len() <= MAX_ID_BYTES
                && alphanumeric(first)
                && alphanumeric(last)
                && bytes.iter().all(|&byte| alphanumeric(byte) || byte == b'-')
        }
        _ => false,
    }
}

impl FromStr for VolumeId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if is_valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidId { id: shorten(text) }) }
    }
}

/// Cuts a rejected id to what an error message may repeat: it comes from outside and can be of any length.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

impl TryFrom<String> for VolumeId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.0
    }
}

impl AsRef<str> for VolumeId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_follow_the_rule_and_the_error_names_it() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "pvc-0f3c", "a-b", "a--b", longest.as_str()] {
            assert_eq!(good.parse::<VolumeId>().unwrap().as_str(), good);
        }
        let too_long = "a".repeat(64);
        let huge = "a".repeat(300);
        for bad in [
            "",
            "-",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "..",
            "../a",
            "a/b",
            "a\0",
            "a\n",
            "%2e%2e",
            "é",
            "a b",
            too_long.as_str(),
            huge.as_str(),
        ] {
            let error = bad.parse::<VolumeId>().unwrap_err();
            let message = error.to_string();
            assert!(message.contains("lower-case letters, digits and '-'"), "{message}");
            assert!(message.len() < 300, "{message}");
        }
    }

    #[test]
    fn bug_14_a_million_hostile_ids_never_become_a_path() {
        // A small deterministic generator: hostile fragments glued together, so that traversal, NUL, escapes
        // and look-alikes all occur.
        const PARTS: [&str; 20] = [
            "../",
            "..",
            ".",
            "/",
            "\\",
            "\0",
            "%2e%2e%2f",
            "%00",
            "a",
            "z9",
            "-",
            "--",
            "_",
            " ",
            "\n",
            "é",
            "․․",
            "／",
            "A",
            "pvc-1",
        ];
        let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut accepted = 0_u32;
        for _ in 0..1_000_000 {
            let mut text = String::new();
            for _ in 0..=(state >> 61) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(PARTS[usize::try_from((state >> 33) % 20).unwrap()]);
            }
            if let Ok(id) = text.parse::<VolumeId>() {
                accepted += 1;
                let path = std::path::Path::new(id.as_str());
                let components: Vec<_> = path.components().collect();
                assert!(
                    matches!(components.as_slice(), [std::path::Component::Normal(name)] if *name == id.as_str())
                );
                assert!(id.as_str().bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')));
            }
        }
        assert!(accepted > 1_000, "the generator must also make good ids, made {accepted}");
    }

    proptest! {
        #[test]
        fn any_text_either_round_trips_or_is_refused(text in ".{0,80}") {
            if let Ok(id) = text.parse::<VolumeId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn every_text_of_the_pattern_is_accepted(text in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            prop_assert!(text.parse::<VolumeId>().is_ok());
        }
    }
}
