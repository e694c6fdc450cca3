//! What is remembered of a volume beside its data. A folder without a record is a volume without labels.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;
use rustix::fs::{self, AtFlags, OFlags};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Error,
    access::Access,
    attachments::{Attachment, Holder},
    error::Context,
    keys::KeySource,
    layout::{self, RECORDS, Root},
    names::Name,
};

/// The form of the whole. What a later one means can't be known, so it is never read.
const VERSION: u32 = 1;

/// What this program understands of the form's fields. A record names a larger number in its field `needs` where it has a field that must
/// not be ignored by those who don't know it.
const UNDERSTOOD: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub(super) created_at: Timestamp,
    pub(super) labels: BTreeMap<String, String>,
    /// Who uses it, dead holders included until somebody looks.
    pub(super) attachments: Vec<Attachment>,
    /// By the id of a container: the processes that asked for the volume on its behalf. None of an id: that was not noted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    callers: BTreeMap<String, Vec<Holder>>,
    /// The pool that its device lies in; none of a plain folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pool: Option<String>,
    /// The size that was asked for: a pool may have made more of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked_bytes: Option<u64>,
    /// What was asked for its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) access: Option<Access>,
    /// Whether the folder has not got that yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) access_is_due: bool,
    /// Where the key of an encrypted volume comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<KeySource>,
    /// The same of the key that it is about to get: while this is there, either may open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next_key: Option<KeySource>,
    /// Who fills it for the first time. While this is there the volume is not whole; when that process has ended, it never gets so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) filling: Option<Holder>,
    /// Of a copy that an export reads: the full name of the volume that it is of. Nobody asked for it, so it goes with that export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) export_of: Option<String>,
    /// The stack that it was made for, of a volume whose name is not of that stack: it lies where those of no stack do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stack: Option<String>,
    /// What only a later tierce understands: written back with the rest.
    #[serde(flatten)]
    further: Map<String, Value>,
}

/// Why a record can't be used.
#[derive(Debug, PartialEq, Eq)]
enum Unreadable {
    /// It is not what was written.
    Damaged(String),
    /// It says what this program does not know.
    Newer(String),
}

fn decode(bytes: &[u8]) -> Result<Record, Unreadable> {
    #[derive(Deserialize)]
    struct Form {
        version: u32,
        #[serde(default)]
        needs: u32,
    }
    let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
    let Form { version, needs } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version > VERSION {
        return Err(Unreadable::Newer(format!("form {version}, this one reads {VERSION}")));
    }
    if needs > UNDERSTOOD {
        return Err(Unreadable::Newer(format!("it needs {needs}, this one understands {UNDERSTOOD}")));
    }
    let mut record: Record = serde_json::from_slice(bytes).map_err(|error| {
        let words = error.to_string();
        // A field or a kind within what we know; the rest of the words lists what is known.
        match words.split(',').next().filter(|words| words.starts_with("unknown ")) {
            Some(words) => Unreadable::Newer(words.to_owned()),
            None => Unreadable::Damaged(words),
        }
    })?;
    // The name that it had before there were passphrases.
    if let Some(Value::String(file)) = record.further.remove("key_file") {
        record.key.get_or_insert(KeySource::File(file.into()));
    }
    Ok(record)
}

impl Record {
    pub(super) fn new(created_at: Timestamp) -> Self {
        Self {
            version: VERSION,
            created_at,
            labels: BTreeMap::new(),
            attachments: Vec::new(),
            callers: BTreeMap::new(),
            pool: None,
            asked_bytes: None,
            access: None,
            access_is_due: false,
            key: None,
            next_key: None,
            filling: None,
            export_of: None,
            stack: None,
            further: Map::new(),
        }
    }

    /// Whether a use has not ended, as far as that is noted: one for a container lasts as long as whoever asked for it. What runs on after that,
    /// the kernel shows.
    pub(super) fn lives(&self, attachment: &Attachment) -> Result<bool, Error> {
        if !attachment.holder.is_alive()? {
            return Ok(false);
        }
        let Holder::Container { id, .. } = &attachment.holder else { return Ok(true) };
        let Some(callers) = self.callers.get(id) else { return Ok(true) };
        for caller in callers {
            if caller.is_alive()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes who asks for the volume on a container's behalf. What is noted of containers that don't use it any more goes.
    pub(super) fn add_caller(&mut self, id: &str, caller: Holder) -> Result<(), Error> {
        let uses = |id: &String| {
            let is_of =
                |holder: &Holder| matches!(holder, Holder::Container { id: other, .. } if other == id);
            self.attachments.iter().any(|attachment| is_of(&attachment.holder))
        };
        self.callers = std::mem::take(&mut self.callers).into_iter().filter(|(id, _)| uses(id)).collect();
        let callers = self.callers.entry(id.to_owned()).or_default();
        let mut living = Vec::new();
        for known in callers.drain(..) {
            if known != caller && known.is_alive()? {
                living.push(known);
            }
        }
        living.push(caller);
        *callers = living;
        Ok(())
    }

    /// The names of all volumes that have one.
    pub(super) fn names(root: &Root) -> Result<Vec<Name>, Error> {
        let Some(records) = root.folder(RECORDS)? else { return Ok(Vec::new()) };
        let doing = || format!("list {}", root.path().join(RECORDS).display());
        let mut found = Vec::new();
        for stack in layout::entries(&records).doing(doing)? {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let Ok(folder) = layout::open_beneath(&records, &stack, flags) else { continue };
            let files = layout::entries(&folder).doing(doing)?;
            let shorts = files.iter().filter_map(|file| file.strip_suffix(".json"));
            found.extend(shorts.filter_map(|short| Name::new(Some(&stack), short).ok()));
        }
        Ok(found)
    }

    /// Reads a volume's record; `None`: it has none.
    pub(super) fn load(root: &Root, name: &Name) -> Result<Option<Self>, Error> {
        let Some(folder) = root.folder(&format!("{RECORDS}/{}", name.stack()))? else { return Ok(None) };
        let path = path(root, name);
        let bytes = layout::read_file(&folder, &file(name)).doing(|| format!("read {}", path.display()))?;
        let Some(bytes) = bytes else { return Ok(None) };
        decode(&bytes).map(Some).map_err(|why| match why {
            Unreadable::Damaged(reason) => Error::BrokenRecord { name: name.full(), path, reason },
            Unreadable::Newer(reason) => Error::NewerRecord { name: name.full(), path, reason },
        })
    }

    /// Replaces it. Only under the volume's lock.
    pub(super) fn save(&self, root: &Root, name: &Name) -> Result<(), Error> {
        let folder = root.make_folder(&format!("{RECORDS}/{}", name.stack()))?;
        let mut bytes = serde_json::to_vec_pretty(self).doing(|| "write a record".to_owned())?;
        bytes.push(b'\n');
        layout::write_file(&folder, &file(name), &bytes)
            .doing(|| format!("write {}", path(root, name).display()))
    }

    /// Removes it. Only under the volume's lock.
    pub(super) fn remove(root: &Root, name: &Name) -> Result<(), Error> {
        let Some(records) = root.folder(RECORDS)? else { return Ok(()) };
        let below = format!("{}/{}", name.stack(), file(name));
        match fs::unlinkat(&records, below, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => {}
            other => other.doing(|| format!("remove {}", path(root, name).display()))?,
        }
        // The stack's folder goes with its last record; if another volume comes in between, it stays.
        let _ = fs::unlinkat(&records, name.stack(), AtFlags::REMOVEDIR);
        Ok(())
    }
}

fn file(name: &Name) -> String {
    format!("{}.json", name.short())
}

fn path(root: &Root, name: &Name) -> PathBuf {
    root.path().join(RECORDS).join(name.stack()).join(file(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(name: &str) -> Vec<u8> {
        std::fs::read(format!("golden/{name}")).unwrap()
    }

    fn written(record: &Record) -> String {
        serde_json::to_string_pretty(record).unwrap() + "\n"
    }

    #[test]
    fn every_form_that_was_ever_written_is_read_and_written_back_byte_for_byte() {
        for name in ["f715839", "537245d", "b3f53de", "36aa858-pool", "36aa858-passphrase"] {
            let bytes = golden(&format!("records/{name}.json"));
            let record = decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error:?}"));
            assert_eq!(written(&record), String::from_utf8(bytes).unwrap(), "{name}");
        }
        let old = decode(&golden("records/013edeb-key-file.json")).unwrap();
        assert_eq!(old.key, Some(KeySource::File("/root/key".into())));
        assert_eq!(decode(written(&old).as_bytes()).unwrap(), old);
    }

    #[test]
    fn a_field_of_a_later_tierce_is_kept_unless_it_must_be_understood() {
        let bytes = golden("newer/field.json");
        assert_eq!(written(&decode(&bytes).unwrap()), String::from_utf8(bytes).unwrap());
        for (name, words) in
            [("needs", "it needs 2, this one understands 1"), ("key", "unknown variant `tpm`")]
        {
            let error = decode(&golden(&format!("newer/{name}.json"))).unwrap_err();
            assert_eq!(error, Unreadable::Newer(words.to_owned()), "{name}");
        }
        let form = decode(br#"{"version": 2}"#).unwrap_err();
        assert!(matches!(form, Unreadable::Newer(_)), "{form:?}");
    }

    #[test]
    fn what_is_cut_off_or_lacks_a_field_is_damaged() {
        let bytes = golden("records/36aa858-pool.json");
        for bytes in [&bytes[..bytes.len() / 2], b"", b"{}", br#"{"version": 1, "labels": {}}"#] {
            let error = decode(bytes).unwrap_err();
            assert!(matches!(error, Unreadable::Damaged(_)), "{error:?}");
        }
    }

    #[test]
    fn a_newer_record_is_left_alone_in_words_that_say_so() {
        let folder = tempfile::tempdir().unwrap();
        let (root, name) = (Root::new(folder.path()), Name::new(Some("web"), "data").unwrap());
        let records = root.make_folder(&format!("{RECORDS}/web")).unwrap();
        layout::write_file(&records, "data.json", &golden("newer/needs.json")).unwrap();
        let error = Record::load(&root, &name).unwrap_err().to_string();
        assert!(error.contains("update tierce on this host") && error.contains("needs 2"), "{error}");
        assert!(!error.contains("move"), "{error}");
    }
}
