//! CSI volume ids: names of `NodeVolume`s, and of files and devices on a node. `[a-z0-9-]` only, at most 63 characters.

use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The id of a new volume: its CSI name where that can be one, else a hash of it. The same name has the same id for ever.
pub fn from_name(name: &str) -> String {
    if is_id(name) {
        return name.to_owned();
    }
    let mut id = "v-".to_owned();
    for byte in &Sha256::digest(name.as_bytes())[..16] {
        write!(id, "{byte:02x}").expect("writing to a String does not fail");
    }
    id
}

/// Whether a text can be an id of ours. Another one belongs to no volume.
pub fn is_id(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| alphanumeric(*byte) || *byte == b'-')
        && alphanumeric(bytes[0])
        && alphanumeric(bytes[bytes.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_provisioners_name_is_the_id_itself() {
        let name = "pvc-0d7a1b62-7a3e-4a3c-8f0e-5b8a7c1d2e3f";
        assert_eq!(from_name(name), name);
    }

    #[test]
    fn bug_14_what_could_leave_a_folder_is_no_id() {
        for text in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\0b",
            "A",
            "-a",
            "a-",
            "a.b",
            "ä",
            "%2e%2e",
            "a b",
            &"a".repeat(64),
        ] {
            assert!(!is_id(text), "{text:?}");
            assert!(is_id(&from_name(text)), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn bug_14_every_name_gives_an_id(name in any::<String>()) {
            let id = from_name(&name);
            prop_assert!(is_id(&id));
            prop_assert_eq!(&id, &from_name(&name));
            prop_assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }
}
