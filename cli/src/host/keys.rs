//! Keys of encrypted volumes: each in a file of the user's, whose path the volume's record has. The key itself is kept nowhere.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tierce_engine::Key;

use super::Error;

/// How to make a key, for messages.
const MAKE: &str = "(umask 77; head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \\n' > FILE)";

/// The file that a new volume's key is in, with its full path. It must hold a key now.
pub(super) fn file(name: &Path) -> Result<PathBuf, Error> {
    let path = std::path::absolute(name)
        .map_err(|source| Error::Io { doing: format!("find {}", name.display()), source })?;
    match read(&path) {
        Ok(_) => {}
        Err(Unusable::Missing(source)) => return Err(Error::NoKeyFile { path, make: MAKE, source }),
        Err(Unusable::NoKey(reason)) => {
            return Err(Error::InvalidArgument(format!(
                "{} holds no key: {reason}; make one with {MAKE}",
                path.display()
            )));
        }
    }
    if fs::metadata(&path).is_ok_and(|data| data.permissions().mode() & 0o077 != 0) {
        eprintln!("Warning: others may read the key in {0}: chmod 600 {0}", path.display());
    }
    Ok(path)
}

/// The key that opens a volume.
pub(super) fn of_volume(volume: &str, path: Option<&Path>) -> Result<Key, Error> {
    let Some(path) = path else {
        return Err(Error::Refused(format!(
            "Volume '{volume}' is encrypted, and its record, which says where the key is, is gone: say it again with tierce --host volume mount {volume} --key-file FILE"
        )));
    };
    read(path).map_err(|unusable| match unusable {
        Unusable::Missing(source) => {
            Error::KeyGone { name: volume.to_owned(), path: path.to_owned(), source }
        }
        Unusable::NoKey(reason) => Error::Refused(format!(
            "Volume '{volume}' is encrypted, and its key file {} holds no key any more: {reason}; bring back the one that it was made with",
            path.display()
        )),
    })
}

enum Unusable {
    Missing(io::Error),
    /// The words never repeat what is in the file.
    NoKey(String),
}

fn read(path: &Path) -> Result<Key, Unusable> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Unusable::NoKey("it is no text".to_owned()),
        _ => Unusable::Missing(error),
    })?;
    text.parse().map_err(|error: tierce_engine::Error| Unusable::NoKey(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_there_and_holds_64_digits_and_no_message_repeats_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let missing = file(&path).unwrap_err().to_string();
        assert!(missing.contains("/dev/urandom"), "{missing}");
        fs::write(&path, "cafe").unwrap();
        let short = file(&path).unwrap_err().to_string();
        assert!(short.contains("64 hexadecimal digits") && !short.contains("cafe"), "{short}");
        fs::write(&path, "00ff".repeat(16) + "\n").unwrap();
        assert_eq!(file(&path).unwrap(), path);
        assert!(of_volume("a", Some(&path)).is_ok());
        assert!(of_volume("a", None).unwrap_err().to_string().contains("--key-file"));
        fs::remove_file(&path).unwrap();
        let gone = of_volume("a", Some(&path)).unwrap_err().to_string();
        assert!(gone.contains("Volume 'a' is encrypted") && gone.contains(path.to_str().unwrap()), "{gone}");
    }
}
