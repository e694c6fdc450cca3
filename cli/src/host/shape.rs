//! What a volume with a size shall be, from the words of a command line, a Compose file or a plugin's options.

use tierce_engine::Filesystem;

use super::Error;
use crate::{config::LOCAL_POOL, sizes};

/// What a volume with a size shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) size_bytes: u64,
    pub(super) filesystem: Filesystem,
    pub(super) encrypted: bool,
    pub(super) pool: String,
}

/// The words that say it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Words<'a> {
    pub(super) size: Option<&'a str>,
    pub(super) filesystem: Option<&'a str>,
    pub(super) pool: Option<&'a str>,
    /// How the caller asks for encryption, where that is asked for.
    pub(super) encryption: Option<&'static str>,
}

impl Words<'_> {
    /// `None`: a plain folder. `named`: how the caller writes an option of that name.
    pub(super) fn shape(&self, named: impl Fn(&str) -> String) -> Result<Option<Shape>, Error> {
        let Some(size) = self.size else {
            let alone = [("filesystem", self.filesystem.is_some()), ("pool", self.pool.is_some())];
            let encryption = self.encryption.map(|option| (option, true));
            let found = alone.into_iter().chain(encryption).find(|(_, given)| *given);
            return match found {
                Some((option, _)) => Err(Error::InvalidArgument(format!(
                    "{} needs {}: a volume without one is a plain folder",
                    named(option),
                    named("size")
                ))),
                None => Ok(None),
            };
        };
        let size_bytes = parse_size(size)?;
        let filesystem = match self.filesystem {
            Some(text) => filesystem(text).map_err(Error::InvalidArgument)?,
            None => Filesystem::Ext4,
        };
        let least = filesystem.min_volume_bytes();
        if size_bytes < least {
            let least = sizes::limit(least);
            return Err(Error::InvalidArgument(format!(
                "{} is {size}, and {filesystem} needs {least} at least",
                named("size")
            )));
        }
        Ok(Some(Shape {
            size_bytes,
            filesystem,
            encrypted: self.encryption.is_some(),
            pool: self.pool.unwrap_or(LOCAL_POOL).to_owned(),
        }))
    }
}

/// A filesystem by its name, as a host and a cluster take it.
pub(crate) fn filesystem(text: &str) -> Result<Filesystem, String> {
    text.parse().map_err(|_| {
        let shown: String = text.escape_debug().take(40).collect();
        format!("Filesystem '{shown}' is not known: ext4, xfs and btrfs are")
    })
}

/// A size in bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, Error> {
    sizes::parse(text).ok_or_else(|| Error::InvalidSize(text.escape_debug().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_device_can_have_needs_a_size() {
        let option = |name: &str| format!("--{name}");
        assert_eq!(Words::default().shape(option).unwrap(), None);
        for (words, expected) in [
            (Words { filesystem: Some("xfs"), ..Words::default() }, "--filesystem needs --size: "),
            (Words { pool: Some("fast"), ..Words::default() }, "--pool needs --size: "),
            (Words { encryption: Some("encrypt"), ..Words::default() }, "--encrypt needs --size: "),
            (Words { size: Some("10GB"), ..Words::default() }, "Size '10GB' is not valid"),
            (
                Words { size: Some("1Gi"), filesystem: Some("zfs"), ..Words::default() },
                "Filesystem 'zfs' is not known: ext4, xfs and btrfs are",
            ),
            (Words { size: Some("1k"), ..Words::default() }, "--size is 1k, and ext4 needs 16Mi at least"),
            (
                Words { size: Some("64Mi"), filesystem: Some("xfs"), ..Words::default() },
                "--size is 64Mi, and xfs needs 300Mi at least",
            ),
        ] {
            let message = words.shape(option).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let shape = Words { size: Some("16Mi"), ..Words::default() }.shape(option).unwrap().unwrap();
        assert_eq!((shape.size_bytes, shape.pool.as_str()), (16 << 20, "local"));
    }
}
