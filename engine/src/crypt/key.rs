//! The key of an encrypted volume.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::Error;

/// 256 random bits, or a passphrase. Shown nowhere, wiped from memory after use.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Secret);

#[derive(Clone, PartialEq, Eq)]
enum Secret {
    Random(Zeroizing<[u8; Key::BYTES]>),
    Passphrase(Zeroizing<String>),
}

impl Key {
    /// Length of a random key in bytes.
    pub const BYTES: usize = 32;
    /// Shortest and longest passphrase, in bytes. The longest is what `cryptsetup` reads from a terminal.
    pub const PASSPHRASE_BYTES: RangeInclusive<usize> = 8..=512;

    /// A key of these bytes, which must be random: nothing stretches them.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(Secret::Random(Zeroizing::new(bytes)))
    }

    /// A key that a person remembers. It can be guessed, so its slot is stretched (Argon2id) and it has no
    /// fingerprint of its own.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it has another length than [`Self::PASSPHRASE_BYTES`], or control
    /// characters, which `cryptsetup` could not be given at a terminal.
    pub fn passphrase(text: &str) -> Result<Self, Error> {
        let (least, most) = (Self::PASSPHRASE_BYTES.start(), Self::PASSPHRASE_BYTES.end());
        if !Self::PASSPHRASE_BYTES.contains(&text.len()) || text.contains(char::is_control) {
            return Err(Error::InvalidArgument(format!(
                "a passphrase has {least} to {most} bytes and no control characters"
            )));
        }
        Ok(Self(Secret::Passphrase(Zeroizing::new(text.to_owned()))))
    }

    /// Whether the key is a passphrase, which can be guessed.
    pub(crate) fn is_passphrase(&self) -> bool {
        matches!(self.0, Secret::Passphrase(_))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.0 {
            Secret::Random(bytes) => bytes.as_slice(),
            Secret::Passphrase(text) => text.as_bytes(),
        }
    }

    /// Identifies the key without revealing it: `<uuid of the LUKS header>:<first 128 bits of SHA-256(uuid,
    /// key) in hex>`. 256 random bits can't be guessed from that, and the same key of two volumes has two
    /// fingerprints. A passphrase could be guessed, a thousand million times a second, so all passphrases
    /// have the fingerprint `<uuid of the LUKS header>:passphrase`.
    pub fn fingerprint(&self, header: Uuid) -> String {
        use std::fmt::Write;

        if self.is_passphrase() {
            return format!("{header}:passphrase");
        }
        let digest = Sha256::new().chain_update(header.as_bytes()).chain_update(self.bytes()).finalize();
        digest.iter().take(16).fold(format!("{header}:"), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a String never fails");
            text
        })
    }
}

impl FromStr for Key {
    type Err = Error;

    /// Reads 64 hexadecimal digits; white space around them is ignored. (Raw bytes don't pass through CSI:
    /// its secrets are UTF-8 text.)
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
        Ok(Self(Secret::Random(bytes)))
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

    #[test]
    fn a_passphrase_leaves_no_trace_to_guess_it_from() {
        let (one, two) =
            (Key::passphrase("correct horse").unwrap(), Key::passphrase("battery staple").unwrap());
        assert_ne!(one, two);
        assert_eq!(one.fingerprint(Uuid::nil()), two.fingerprint(Uuid::nil()));
        assert_eq!(format!("{one:?}"), "<redacted>");
        let long = "a".repeat(513);
        for bad in ["", "seven77", long.as_str(), "two lines\nof it", "a tab\tin it"] {
            let message = Key::passphrase(bad).unwrap_err().to_string();
            assert!(
                message.contains("8 to 512 bytes") && (bad.is_empty() || !message.contains(bad)),
                "{message}"
            );
        }
    }
}
