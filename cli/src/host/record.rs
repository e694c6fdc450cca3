//! What is remembered of a volume beside its data. A folder without a record is a volume without labels.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;
use rustix::fs::{self, AtFlags};
use serde::{Deserialize, Serialize};

use super::{
    Error,
    attachments::{Attachment, Holder},
    error::Context,
    keys::KeySource,
    layout::{self, RECORDS, Root},
    names::Name,
};

/// The version this code writes, and the only one it reads.
const VERSION: u32 = 1;

/// A volume's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    version: u32,
    pub(super) created_at: Timestamp,
    pub(super) labels: BTreeMap<String, String>,
    /// Who uses it, dead holders included until somebody looks.
    pub(super) attachments: Vec<Attachment>,
    /// The pool that its device lies in; none of a plain folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pool: Option<String>,
    /// The size that was asked for: a pool may have made more of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked_bytes: Option<u64>,
    /// Where the key of an encrypted volume comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<KeySource>,
    /// The same of the key that it is about to get: while this is there, either may open it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next_key: Option<KeySource>,
    /// Who fills it for the first time. While this is there the volume is not whole; when that process has ended, it never gets so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) filling: Option<Holder>,
}

impl Record {
    pub(super) fn new(created_at: Timestamp) -> Self {
        Self {
            version: VERSION,
            created_at,
            labels: BTreeMap::new(),
            attachments: Vec::new(),
            pool: None,
            asked_bytes: None,
            key: None,
            next_key: None,
            filling: None,
        }
    }

    /// Reads a volume's record; `None`: it has none.
    pub(super) fn load(root: &Root, name: &Name) -> Result<Option<Self>, Error> {
        let Some(folder) = root.folder(&format!("{RECORDS}/{}", name.stack()))? else { return Ok(None) };
        let path = path(root, name);
        let bytes = layout::read_file(&folder, &file(name)).doing(|| format!("read {}", path.display()))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let broken = |reason: String| Error::BrokenRecord { name: name.full(), path: path.clone(), reason };
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        if record.version != VERSION {
            return Err(broken(format!("format {}, this tierce reads {VERSION}", record.version)));
        }
        Ok(Some(record))
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
