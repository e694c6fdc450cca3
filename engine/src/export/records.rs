//! Which clients may take back their locks after the server was stopped, in two files on the node's own disk: `clients`, those that were here
//! since its last start, and `clients.before`, those of the time before, as long as they have not all come back. Each line is one client's id,
//! in hexadecimal digits; a line without its end was never acknowledged.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::lasting::lasting;

/// What a client calls itself, up to 1024 bytes.
pub(super) type ClientId = Vec<u8>;

/// The records of a folder.
#[derive(Debug)]
pub(super) struct Records {
    folder: PathBuf,
    current: BTreeSet<ClientId>,
    /// Those of before, where the time to come back is not over.
    before: Option<BTreeSet<ClientId>>,
}

impl Records {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if let Some(above) = folder.parent() {
            File::open(above)?.sync_all()?;
        }
        let current = read(&folder.join("clients"))?.unwrap_or_default();
        let before = read(&folder.join("clients.before"))?;
        Ok(Self { folder: folder.to_owned(), current, before })
    }

    /// The server starts. Returns the clients that may take back what they had.
    ///
    /// Those of an earlier start whose time was not over are still among them, since nobody else can have got what they held.
    pub(super) fn grace_starts(&mut self) -> io::Result<Vec<ClientId>> {
        let mut before = self.before.clone().unwrap_or_default();
        before.extend(self.current.iter().cloned());
        self.write("clients.before", &before)?;
        self.before = Some(before.clone());
        self.write("clients", &BTreeSet::new())?;
        self.current.clear();
        Ok(before.into_iter().collect())
    }

    /// All came back, or their time is over.
    pub(super) fn grace_ends(&mut self) -> io::Result<()> {
        let removed =
            lasting("forget the clients of before", || fs::remove_file(self.folder.join("clients.before")));
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        self.sync()?;
        self.before = None;
        Ok(())
    }

    pub(super) fn add(&mut self, client: &[u8]) -> io::Result<()> {
        if self.current.contains(client) {
            return Ok(());
        }
        // Whole files only: what a power cut leaves of an appended line would lie before the next one.
        let mut next = self.current.clone();
        next.insert(client.to_vec());
        self.write("clients", &next)?;
        self.current = next;
        Ok(())
    }

    pub(super) fn remove(&mut self, client: &[u8]) -> io::Result<()> {
        if self.current.contains(client) {
            let mut next = self.current.clone();
            next.remove(client);
            self.write("clients", &next)?;
            self.current = next;
        }
        if self.before.as_ref().is_some_and(|before| before.contains(client)) {
            let mut next = self.before.clone().unwrap_or_default();
            next.remove(client);
            self.write("clients.before", &next)?;
            self.before = Some(next);
        }
        Ok(())
    }

    pub(super) fn knows(&self, client: &[u8]) -> bool {
        self.current.contains(client) || self.before.as_ref().is_some_and(|before| before.contains(client))
    }

    pub(super) fn in_grace(&self) -> bool {
        self.before.is_some()
    }

    fn write(&self, name: &str, clients: &BTreeSet<ClientId>) -> io::Result<()> {
        let mut text = String::new();
        for client in clients {
            for byte in client {
                let _ = write!(text, "{byte:02x}");
            }
            text.push('\n');
        }
        lasting("write the records of clients", || {
            let (to, new) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(new, to)
        })?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }
}

/// Takes the records away: nothing is exported any more.
pub(super) fn forget(folder: &Path) -> io::Result<()> {
    for name in ["clients", "clients.before"] {
        match lasting("forget clients", || fs::remove_file(folder.join(name))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

fn read(file: &Path) -> io::Result<Option<BTreeSet<ClientId>>> {
    match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => Ok(Some(text?.lines().filter_map(bytes).collect())),
    }
}

fn bytes(hex: &str) -> Option<ClientId> {
    let digits = hex.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &tempfile::TempDir) -> Records {
        Records::open(&folder.path().join("nfs")).unwrap()
    }

    fn ids(names: &[&str]) -> Vec<ClientId> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn who_was_here_may_come_back_after_a_restart_and_after_another_one_in_between() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = open(&folder);
        assert_eq!(records.grace_starts().unwrap(), ids(&[]));
        records.grace_ends().unwrap();
        for name in ["b", "a\n\0\u{ff}", "gone"] {
            records.add(name.as_bytes()).unwrap();
            records.add(name.as_bytes()).unwrap();
        }
        records.remove(b"gone").unwrap();
        records.remove(b"never").unwrap();
        let mut records = open(&folder);
        assert_eq!(records.grace_starts().unwrap(), ids(&["a\n\0\u{ff}", "b"]));
        assert!(records.in_grace() && records.knows(b"b") && !records.knows(b"gone"));
        records.add(b"b").unwrap();
        let mut records = open(&folder);
        assert!(records.in_grace());
        assert_eq!(records.grace_starts().unwrap(), ids(&["a\n\0\u{ff}", "b"]), "the power went in between");
        records.add(b"b").unwrap();
        records.grace_ends().unwrap();
        let mut records = open(&folder);
        assert!(!records.in_grace());
        assert_eq!(records.grace_starts().unwrap(), ids(&["b"]), "the other one never came back");
    }

    #[test]
    fn a_client_that_left_while_the_others_come_back_may_not_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = open(&folder);
        records.grace_starts().unwrap();
        records.add(b"a").unwrap();
        records.grace_starts().unwrap();
        records.remove(b"a").unwrap();
        assert_eq!(open(&folder).grace_starts().unwrap(), ids(&[]));
    }

    #[test]
    fn nonsense_in_a_file_is_nobody() {
        for (text, expected) in
            [("", None), ("6", None), ("6g", None), ("+1", None), ("616A", Some(b"aj".to_vec()))]
        {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }
}
