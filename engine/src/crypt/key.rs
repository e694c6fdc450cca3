//! The key of an encrypted volume.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::Error;

/// 256 random bits. Shown nowhere, wiped from memory after use.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; Self::BYTES]>);

impl Key {
    /// Length in bytes.
    pub const BYTES: usize = 32;

    /// A key of these bytes, which must be random: nothing stretches them.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Which key it is, without telling it: `<uuid of the LUKS header>:<first 128 bits of SHA-256(uuid, key) in hex>`. 256 random bits can't
    /// be guessed from that, and the same key of two volumes has two fingerprints.
    pub fn fingerprint(&self, header: Uuid) -> String {
        use std::fmt::Write;

        let digest = Sha256::new().chain_update(header.as_bytes()).chain_update(self.bytes()).finalize();
        digest.iter().take(16).fold(format!("{header}:"), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String never fails");
            text
        })
    }
}

impl FromStr for Key {
    type Err = Error;

    /// Reads 64 hexadecimal digits; white space around them is ignored. (Raw bytes don't pass through CSI: its secrets are UTF-8 text.)
    fn from_str(text: &str) -> Result<Self, Error> {
        // The text is never repeated: it is a key with a typing mistake.
        let refused = || {
            let digits = 2 * Self::BYTES;
            Error::InvalidArgument(format!(
                "an encryption key is {digits} hexadecimal digits ({} random bytes)",
                Self::BYTES
            ))
        };
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * Self::BYTES {
            return Err(refused());
        }
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or_else(refused);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).expect("two hexadecimal digits make a byte");
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_from_hex_and_is_never_shown() {
        let text = "00ff".repeat(16);
        let key: Key = format!(" {text}\n").parse().unwrap();
        assert_eq!(key.bytes()[..4], [0, 255, 0, 255]);
        assert_eq!(format!("{key:?} {:#?}", Some(&key)), "<redacted> Some(\n    <redacted>,\n)");
        for bad in ["", "00ff", &text[1..], &format!("{text}0"), &text.replace('f', "g"), &"é".repeat(32)] {
            let message = bad.parse::<Key>().unwrap_err().to_string();
            assert!(message.contains("64 hexadecimal digits"), "{message}");
            assert!(bad.is_empty() || !message.contains(bad), "{message}");
        }
    }

    #[test]
    fn a_fingerprint_tells_keys_and_volumes_apart_and_carries_its_salt() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (key, other) = (Key::new([7; 32]), Key::new([8; 32]));
        // sha256sum of fifteen zero bytes, a one, and 32 sevens.
        let expected = "00000000-0000-0000-0000-000000000001:61400286ceb7b574c38200a45a8cf851";
        assert_eq!(key.fingerprint(one), expected);
        assert_ne!(key.fingerprint(one), other.fingerprint(one));
        assert_ne!(key.fingerprint(one)[37..], key.fingerprint(two)[37..]);
    }
}
