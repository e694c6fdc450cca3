//! The API server's audit log, read from a moment on.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The accounts of the controller's pod (the sidecars share it) and of the node plugin begin so.
pub const ACCOUNTS: &str = "system:serviceaccount:tierce-system:";

/// A place in the audit log.
pub struct Mark {
    log: PathBuf,
    offset: u64,
}

/// A line of the log: one stage of one request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// `ResponseComplete`, or an earlier one of the same request.
    pub stage: String,
    /// As in RBAC rules.
    pub verb: String,
    user: User,
    /// Empty where the client names none.
    #[serde(default)]
    pub user_agent: String,
    /// What it is about; none for a path that is no object.
    #[serde(default)]
    pub object_ref: Option<Object>,
    #[serde(default)]
    response_status: Answer,
}

#[derive(Clone, Debug, Deserialize)]
struct User {
    username: String,
}

/// What a request is about.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Object {
    /// Plural.
    #[serde(default)]
    pub resource: String,
    /// Such as `status`.
    #[serde(default)]
    pub subresource: Option<String>,
    #[serde(default)]
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Answer {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

impl Mark {
    /// The end of the log as it is now.
    pub fn now(log: &Path) -> Result<Self> {
        let offset = std::fs::metadata(log).with_context(|| format!("can't read {}", log.display()))?.len();
        Ok(Self { log: log.to_owned(), offset })
    }

    /// The begin of the log.
    pub fn begin(log: &Path) -> Self {
        Self { log: log.to_owned(), offset: 0 }
    }

    /// What was logged since then. The last line may still be being written; it is left out then.
    pub fn entries_since(&self) -> Result<Vec<Entry>> {
        let mut file = File::open(&self.log).with_context(|| format!("can't read {}", self.log.display()))?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(read(&text))
    }
}

/// The entries in a text.
pub fn read(text: &str) -> Vec<Entry> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

impl Entry {
    /// Whether one of Tierce's own accounts asked.
    pub fn is_ours(&self) -> bool {
        self.user.username.starts_with(ACCOUNTS)
    }

    /// Whether the asker lacked a right: RBAC or an admission policy said no. That nothing new may be made in a namespace
    /// that goes has the same code, and is no lack of a right.
    pub fn was_forbidden(&self) -> bool {
        self.response_status.code == 403 && !self.response_status.message.contains("is being terminated")
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = self.object_ref.clone().unwrap_or_default();
        let part = object.subresource.map(|part| format!("/{part}")).unwrap_or_default();
        let who = self.user.username.trim_start_matches(ACCOUNTS);
        write!(f, "{who} ({}): {} {}{part} {}: ", self.user_agent, self.verb, object.resource, object.name)?;
        write!(f, "{} {}", self.response_status.code, self.response_status.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(user: &str, code: u16, message: &str) -> Entry {
        let line = json!({"stage": "ResponseComplete", "verb": "list", "user": {"username": user},
            "objectRef": {"resource": "secrets"}, "responseStatus": {"code": code, "message": message}});
        read(&line.to_string()).remove(0)
    }

    #[test]
    fn a_lack_of_rights_is_told_from_other_refusals() {
        let ours = "system:serviceaccount:tierce-system:tierce-node";
        let forbidden = entry(ours, 403, "secrets is forbidden: User cannot list resource");
        assert!(forbidden.is_ours() && forbidden.was_forbidden());
        assert_eq!(
            forbidden.to_string(),
            "tierce-node (): list secrets : 403 secrets is forbidden: User cannot list resource"
        );
        assert!(!entry("system:serviceaccount:default:tierce-node", 403, "").is_ours());
        assert!(!entry(ours, 409, "").was_forbidden());
        let going = "unable to create new content in namespace a because it is being terminated";
        assert!(!entry(ours, 403, going).was_forbidden());
    }

    #[test]
    fn a_mark_leaves_out_what_was_before_and_a_half_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = r#"{"stage":"ResponseComplete","verb":"get","user":{"username":"a"}}"#;
        std::fs::write(&file, format!("{line}\n")).unwrap();
        let mark = Mark::now(file.path()).unwrap();
        std::fs::write(&file, format!("{line}\n{line}\n{{\"stage\":")).unwrap();
        assert_eq!(mark.entries_since().unwrap().len(), 1);
        assert_eq!(Mark::begin(file.path()).entries_since().unwrap().len(), 2);
    }
}
