//! Names of volumes and stacks.

use std::fmt;

use sha2::{Digest, Sha256};

/// The stack of volumes that belong to none.
pub(super) const STANDALONE: &str = "local";

/// The longest name of a volume, stack or snapshot, in bytes.
const MAX_BYTES: usize = 128;

/// A text that can't be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{kind} name '{shown}' is not valid: 1 to {MAX_BYTES} letters, digits, '_', '.' and '-', beginning with a letter or digit"
)]
pub struct NameError {
    kind: &'static str,
    /// The text without control characters, cut to 80 characters.
    shown: String,
}

/// A number that tells texts apart, where a name must be short.
pub(super) fn digest(text: &str) -> u128 {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let (half, _) = digest.split_first_chunk::<16>().expect("32 bytes are more than 16");
    u128::from_be_bytes(*half)
}

/// Checks one name. A text that passes is safe as a single path component.
pub(super) fn check(kind: &'static str, text: &str) -> Result<(), NameError> {
    if is_valid(text) {
        return Ok(());
    }
    let mut shown: String = text.escape_debug().take(80).collect();
    if text.chars().count() > 80 {
        shown.push('…');
    }
    Err(NameError { kind, shown })
}

pub(super) fn is_valid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= MAX_BYTES
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// A volume's place among all: its stack and its name in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    stack: String,
    name: String,
}

impl Name {
    /// `stack`: `None` or `local` for a volume of no stack.
    pub(super) fn new(stack: Option<&str>, name: &str) -> Result<Self, NameError> {
        check("Volume", name)?;
        let stack = stack.unwrap_or(STANDALONE);
        check("Stack", stack)?;
        Ok(Self { stack: stack.to_owned(), name: name.to_owned() })
    }

    pub(super) fn stack(&self) -> &str {
        &self.stack
    }

    /// The name within the stack.
    pub(super) fn short(&self) -> &str {
        &self.name
    }

    /// `<stack>_<name>`, or the name alone of a volume of no stack.
    pub(super) fn full(&self) -> String {
        if self.stack == STANDALONE { self.name.clone() } else { format!("{}_{}", self.stack, self.name) }
    }

    /// Every place that a full name can mean: a stack's name may have a `_` itself.
    pub(super) fn readings(full: &str) -> Result<Vec<Self>, NameError> {
        check_full(full)?;
        let mut readings: Vec<Self> = Self::new(None, full).into_iter().collect();
        for (at, _) in full.match_indices('_') {
            let (stack, name) = (&full[..at], &full[at + 1..]);
            if stack != STANDALONE {
                readings.extend(Self::new(Some(stack), name));
            }
        }
        Ok(readings)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full())
    }
}

/// A full name may be as long as a stack's and a volume's name together.
fn check_full(full: &str) -> Result<(), NameError> {
    match full.get(..MAX_BYTES) {
        Some(head) if full.len() <= 2 * MAX_BYTES && full.len() > MAX_BYTES && is_valid(head) => {
            // Only characters that a name may have, so that the rule can be told.
            let tail = &full[MAX_BYTES..];
            if tail.contains(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')))
                || !head.contains('_')
            {
                return check("Volume", full);
            }
            Ok(())
        }
        _ => check("Volume", full),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_are_refused_with_the_allowed_form_in_one_line() {
        let long = "a".repeat(256);
        for bad in [
            "",
            "../x",
            "a/b",
            long.as_str(),
            "-a",
            ".a",
            "..",
            "a\nb",
            "a\0b",
            "a b",
            "é",
            "\u{1b}[31m",
            "_a",
        ] {
            let message = check("Volume", bad).unwrap_err().to_string();
            assert!(message.contains("letters, digits, '_', '.' and '-'"), "{message}");
            assert!(message.len() < 500 && !message.contains(char::is_control), "{message:?}");
            assert!(Name::readings(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_full_name_may_mean_several_places() {
        let places = |full: &str| -> Vec<String> {
            let readings = Name::readings(full).unwrap();
            readings.iter().map(|name| format!("{}/{}", name.stack(), name.short())).collect()
        };
        assert_eq!(places("mydata"), ["local/mydata"]);
        assert_eq!(places("a_b_c"), ["local/a_b_c", "a/b_c", "a_b/c"]);
        // `local_x` is never volume x of "stack" local, whose full name is x.
        assert_eq!(places("local_x"), ["local/local_x"]);
    }

    proptest! {
        #[test]
        fn every_reading_has_the_full_name_it_was_read_from(full in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,40}") {
            let readings = Name::readings(&full).unwrap();
            prop_assert!(!readings.is_empty());
            for name in readings {
                prop_assert_eq!(name.full(), full.clone());
            }
        }

        #[test]
        fn a_volume_is_found_under_its_full_name(stack in "[a-z0-9][a-z0-9_-]{0,60}", name in "[a-z0-9][a-z0-9_.-]{0,60}") {
            let name = Name::new(Some(&stack), &name).unwrap();
            prop_assert!(Name::readings(&name.full()).unwrap().contains(&name));
        }

        #[test]
        fn bug_14_any_text_is_one_path_component_or_refused(text in "\\PC{0,80}|[./a\\x00-\\x20-]{0,12}") {
            if check("Volume", &text).is_ok() {
                let mut components = std::path::Path::new(&text).components();
                prop_assert!(matches!(components.next(), Some(std::path::Component::Normal(part)) if part == text.as_str()));
                prop_assert!(components.next().is_none());
            }
        }
    }
}
