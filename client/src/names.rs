//! Names as Kubernetes allows them, checked before they become part of a request's path.

use crate::Error;

/// The text, if it can be the name of an object with at most so many characters.
pub(crate) fn checked<'a>(what: &'static str, name: &'a str, most: usize) -> Result<&'a str, Error> {
    let part = |part: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.starts_with(plain) && part.ends_with(plain) && part.chars().all(|c| plain(c) || c == '-')
    };
    if name.len() <= most && name.split('.').all(part) {
        return Ok(name);
    }
    let mut shown: String = name.escape_debug().take(80).collect();
    if name.chars().count() > 80 {
        shown.push('…');
    }
    Err(Error::InvalidName { what, name: shown, most })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_what_kubernetes_allows() {
        for good in ["a", "my-data", "a.b", "0", &"a".repeat(63)] {
            assert!(checked("Volume", good, 63).is_ok(), "{good}");
        }
        for bad in
            ["", "../x", "a/b", "A", "a_b", "-a", "a-", ".a", "a.", "a..b", "a\nb", "ä", &"a".repeat(64)]
        {
            assert!(checked("Volume", bad, 63).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_in_its_place_of_a_path(name in ".{0,70}") {
            if checked("Volume", &name, 63).is_ok() {
                prop_assert!(!name.contains(['/', '%', '?', '#', ' ']) && !name.contains(".."));
            }
        }
    }
}
