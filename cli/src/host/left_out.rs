//! What a copy or an archive could not keep though nothing went wrong: told once for each kind, an error with `--strict`.

use std::{cell::RefCell, collections::BTreeMap};

use super::{Error, tree_descent::shown};
use crate::terminal;

/// Kinds of what may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Socket,
    Device,
    Owner,
    SpecialBits,
    /// What an option leaves nothing of its name.
    Stripped,
    /// A folder of the volume at which something else is mounted.
    Mounted,
    /// The namespace of the attribute, with its dot.
    Attribute(&'static str),
    /// An attribute of another filesystem or system.
    Unknown,
}

impl Kind {
    fn words(self) -> String {
        match self {
            Self::Socket => "sockets, which no archive holds".to_owned(),
            Self::Device => "device nodes, which take root to make".to_owned(),
            Self::Owner => "owners or groups, which take root to set".to_owned(),
            Self::SpecialBits => {
                "set-user-id or set-group-id bits, as the owner is another one now".to_owned()
            }
            Self::Stripped => "files whose names --strip-components leaves nothing of".to_owned(),
            Self::Mounted => "what other mounts cover".to_owned(),
            Self::Attribute(namespace) => {
                format!(
                    "extended attributes {namespace}*, which this user or the policy of this host does not let be set"
                )
            }
            Self::Unknown => "extended attributes that the filesystem here does not know".to_owned(),
        }
    }
}

/// What was left out so far.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    strict: bool,
    /// How many of each kind, and the first.
    found: RefCell<BTreeMap<Kind, (u64, String)>>,
}

impl LeftOut {
    /// `strict`: [`Self::told`] is an error where anything was left out.
    pub(super) fn new(strict: bool) -> Self {
        Self { strict, found: RefCell::default() }
    }

    pub(super) fn note(&self, kind: Kind, path: &[u8]) {
        let mut found = self.found.borrow_mut();
        let first = || if path.is_empty() { ".".to_owned() } else { shown(path) };
        found.entry(kind).or_insert_with(|| (0, first())).0 += 1;
    }

    /// Tells it on standard error, a line for each kind.
    pub(super) fn told(&self) -> Result<(), Error> {
        let found = self.found.take();
        let words: Vec<String> = found
            .iter()
            .map(|(kind, (count, first))| format!("{}: {count}, such as '{first}'", kind.words()))
            .collect();
        if self.strict && !words.is_empty() {
            return Err(Error::LeftOut { what: words.join("; ") });
        }
        for words in words {
            terminal::note(&format!("Warning: not kept: {words}"));
        }
        Ok(())
    }
}
