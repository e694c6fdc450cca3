//! Keys of encrypted volumes: in a file of the user's, or a passphrase in somebody's head. The record says which; the key itself is kept
//! nowhere.

use std::{
    fs,
    io::{self, BufRead, IsTerminal, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tierce_engine::Key;
use zeroize::Zeroizing;

use super::{Error, error::Context};
use crate::terminal;

/// How to make a key, for messages.
const MAKE: &str = "(umask 77; head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \\n' > FILE)";
/// How often a person may try.
pub(super) const ATTEMPTS: u32 = 3;
/// The file name that stands for standard input.
const INPUT: &str = "-";

/// Where a volume's key comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum KeySource {
    /// A file with 64 hexadecimal digits, by its full path. It is read whenever the volume is mounted.
    File(PathBuf),
    /// Who mounts the volume says it.
    Passphrase,
}

/// A key, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GivenKey {
    pub(super) source: KeySource,
    pub(super) key: Key,
}

/// Who may be asked for a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// The person at the terminal.
    Terminal,
    /// Standard input, a line each time.
    Input,
    Never,
}

/// The files that a command line names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) key: Option<&'a Path>,
    pub(super) passphrase: Option<&'a Path>,
}

impl Files<'_> {
    /// Whether standard input is read for it.
    pub(super) fn read_input(&self, asking: Asking) -> bool {
        match self.passphrase {
            Some(path) => path == Path::new(INPUT),
            None => self.key.is_none() && asking == Asking::Input,
        }
    }

    /// A key that a volume shall get. A person types it twice.
    pub(super) fn new_key(&self, volume: &str, asking: Asking) -> Result<GivenKey, Error> {
        if let Some(given) = self.named()? {
            return Ok(given);
        }
        let text = match asking {
            Asking::Terminal => {
                let text = ask(&format!("New passphrase of volume '{volume}': "))?;
                // Before it is typed again for nothing.
                passphrase(&text)?;
                if ask("The same again: ")? != text {
                    return Err(Error::Refused("The two passphrases differ: nothing was changed".to_owned()));
                }
                text
            }
            Asking::Input => line(&mut io::stdin().lock(), "standard input")?,
            Asking::Never => {
                return Err(Error::InvalidArgument(format!(
                    "Volume '{volume}' needs a key, and there is nobody to ask for a passphrase: name a file with its key"
                )));
            }
        };
        Ok(GivenKey { source: KeySource::Passphrase, key: passphrase(&text)? })
    }

    /// The key in a named file; `None`: no file is named.
    pub(super) fn named(&self) -> Result<Option<GivenKey>, Error> {
        if let Some(path) = self.key {
            return file(path).map(Some);
        }
        let Some(path) = self.passphrase else { return Ok(None) };
        let shown = path.display().to_string();
        let text = if path == Path::new(INPUT) {
            line(&mut io::stdin().lock(), "standard input")?
        } else {
            let file = fs::File::open(path).map_err(|source| Error::NoSuchFile {
                what: "the passphrase in",
                path: path.to_owned(),
                source,
            })?;
            warn_if_open(path);
            line(&mut io::BufReader::new(file), &shown)?
        };
        Ok(Some(GivenKey { source: KeySource::Passphrase, key: passphrase(&text)? }))
    }
}

/// The key in a file, which must hold one now.
pub(super) fn file(name: &Path) -> Result<GivenKey, Error> {
    let path = std::path::absolute(name).doing(|| format!("find {}", name.display()))?;
    let key = match read(&path) {
        Ok(key) => key,
        Err(Unusable::Missing(source)) => return Err(Error::NoKeyFile { path, make: MAKE, source }),
        Err(Unusable::NoKey(reason)) => {
            return Err(Error::InvalidArgument(format!(
                "{} holds no key: {reason}; make one with {MAKE}",
                path.display()
            )));
        }
    };
    warn_if_open(&path);
    Ok(GivenKey { source: KeySource::File(path), key })
}

/// The key that opens a volume, from where its record says.
pub(super) fn of_volume(volume: &str, source: &KeySource, asking: Asking) -> Result<Key, Error> {
    match source {
        KeySource::File(path) => read(path).map_err(|unusable| match unusable {
            Unusable::Missing(source) => {
                Error::KeyGone { name: volume.to_owned(), path: path.to_owned(), source }
            }
            Unusable::NoKey(reason) => Error::Refused(format!(
                "Volume '{volume}' is encrypted, and its key file {} holds no key any more: {reason}; bring back the one that it was made with",
                path.display()
            )),
        }),
        KeySource::Passphrase => {
            let text = match asking {
                Asking::Terminal => ask(&format!("Passphrase of volume '{volume}': "))?,
                Asking::Input => line(&mut io::stdin().lock(), "standard input")?,
                Asking::Never => return Err(Error::Locked { name: volume.to_owned() }),
            };
            // What can't be a passphrase is not this one.
            Key::passphrase(&text).map_err(|_| wrong(volume, source))
        }
    }
}

/// That a volume does not open with its key.
pub(super) fn wrong(volume: &str, source: &KeySource) -> Error {
    Error::Refused(match source {
        KeySource::File(path) => format!(
            "Volume '{volume}' does not open with the key in {}: bring back the one that it was made with",
            path.display()
        ),
        KeySource::Passphrase => format!("Volume '{volume}' does not open with that passphrase"),
    })
}

fn passphrase(text: &str) -> Result<Key, Error> {
    Key::passphrase(text).map_err(|error| Error::InvalidArgument(error.to_string()))
}

fn ask(prompt: &str) -> Result<Zeroizing<String>, Error> {
    let answer = terminal::secret(prompt).doing(|| "read the passphrase from the terminal".to_owned())?;
    Ok(without_end(answer))
}

/// The first line, without its end. A file may end without one.
fn line(from: &mut impl BufRead, what: &str) -> Result<Zeroizing<String>, Error> {
    // One more than a passphrase has, and both bytes of a line's end: what is longer is then seen to be.
    let most = u64::try_from(Key::PASSPHRASE_BYTES.end() + 3).unwrap_or(u64::MAX);
    let mut text = Zeroizing::new(String::new());
    from.by_ref().take(most).read_line(&mut text).doing(|| format!("read the passphrase from {what}"))?;
    let text = without_end(text);
    if text.is_empty() {
        return Err(Error::InvalidArgument(format!(
            "There is no passphrase in {what}: type it at a terminal, or give --passphrase-file FILE or --key-file FILE"
        )));
    }
    Ok(text)
}

fn without_end(mut line: Zeroizing<String>) -> Zeroizing<String> {
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    line
}

/// Who may be asked: a person, if there is one; else standard input, where the command reads nothing else from it.
pub(super) fn asking(reads_input: bool) -> Asking {
    if io::stdin().is_terminal() && io::stderr().is_terminal() {
        Asking::Terminal
    } else if reads_input {
        Asking::Input
    } else {
        Asking::Never
    }
}

fn warn_if_open(path: &Path) {
    if fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o077 != 0) {
        terminal::note(&format!("Warning: others may read the key in {0}: chmod 600 {0}", path.display()));
    }
}

enum Unusable {
    Missing(io::Error),
    /// The words never repeat what is in the file.
    NoKey(String),
}

fn read(path: &Path) -> Result<Key, Unusable> {
    let text = fs::read_to_string(path).map(Zeroizing::new).map_err(|error| match error.kind() {
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
        let given = file(&path).unwrap();
        assert_eq!(given.source, KeySource::File(path.clone()));
        assert_eq!(of_volume("a", &given.source, Asking::Never).unwrap(), given.key);
        fs::remove_file(&path).unwrap();
        let gone = of_volume("a", &given.source, Asking::Never).unwrap_err().to_string();
        assert!(gone.contains("Volume 'a' is encrypted") && gone.contains(path.to_str().unwrap()), "{gone}");
        let locked = of_volume("a", &KeySource::Passphrase, Asking::Never).unwrap_err().to_string();
        assert!(locked.contains("volume mount a"), "{locked}");
    }

    #[test]
    fn a_passphrase_is_the_first_line_and_no_message_repeats_it() {
        let read = |text: &str| line(&mut text.as_bytes(), "it").map(|text| text.to_string());
        for text in ["correct horse", "correct horse\n", "correct horse\r\n", "correct horse\nmore"] {
            assert_eq!(read(text).unwrap(), "correct horse", "{text:?}");
        }
        for none in ["", "\n", "\r\n"] {
            let message = read(none).unwrap_err().to_string();
            assert!(message.contains("--passphrase-file"), "{message}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words");
        let files = Files { key: None, passphrase: Some(&path) };
        fs::write(&path, "a".repeat(600)).unwrap();
        let long = files.named().unwrap_err().to_string();
        assert!(long.contains("8 to 512 bytes") && !long.contains("aaa"), "{long}");
        fs::write(&path, "correct horse\n").unwrap();
        let given = files.named().unwrap().unwrap();
        assert_eq!(
            given,
            GivenKey { source: KeySource::Passphrase, key: Key::passphrase("correct horse").unwrap() }
        );
        assert!(!files.read_input(Asking::Input));
        assert!(Files { key: None, passphrase: None }.read_input(Asking::Input));
        assert!(Files { key: None, passphrase: Some(Path::new("-")) }.read_input(Asking::Terminal));
    }
}
