//! Mount options that users may set: a short list, and everything else is refused.
//!
//! `nodev` is always set. Options that weaken isolation (`suid`, `dev`, `context=`), that risk data
//! (`nobarrier`, `data=writeback`) or that name a path are not on the list, and no option may carry a comma,
//! a line break or a leading dash.

use crate::Filesystem;

/// One allowed option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The option, or the part before `=`.
    pub name: &'static str,
    /// The filesystems that take it; empty: all.
    pub filesystems: &'static [Filesystem],
    /// What may follow the `=`.
    pub value: Value,
}

/// What may follow an option's `=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Nothing: a flag.
    None,
    /// A whole number between the two, both included.
    Number(u32, u32),
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, and maybe `:` and a level between 1 and the number.
    WordWithLevel(&'static [(&'static str, u32)]),
}

const EXT4: &[Filesystem] = &[Filesystem::Ext4];
const XFS: &[Filesystem] = &[Filesystem::Xfs];
const BTRFS: &[Filesystem] = &[Filesystem::Btrfs];

const fn flag(name: &'static str, filesystems: &'static [Filesystem]) -> Allowed {
    Allowed { name, filesystems, value: Value::None }
}

/// The allow list.
pub const ALLOWED: &[Allowed] = &[
    flag("noatime", &[]),
    flag("relatime", &[]),
    flag("nodiratime", &[]),
    flag("lazytime", &[]),
    flag("sync", &[]),
    flag("dirsync", &[]),
    flag("nosuid", &[]),
    flag("noexec", &[]),
    flag("discard", &[]),
    flag("nodiscard", &[]),
    Allowed {
        name: "commit",
        filesystems: &[Filesystem::Ext4, Filesystem::Btrfs],
        value: Value::Number(1, 300),
    },
    Allowed { name: "data", filesystems: EXT4, value: Value::Word(&["ordered", "journal"]) },
    flag("inode64", XFS),
    Allowed { name: "logbsize", filesystems: XFS, value: Value::Word(&["32k", "64k", "128k", "256k"]) },
    Allowed {
        name: "allocsize",
        filesystems: XFS,
        value: Value::Word(&["64k", "128k", "256k", "512k", "1m", "2m", "4m", "8m", "16m", "32m", "64m"]),
    },
    Allowed {
        name: "compress",
        filesystems: BTRFS,
        value: Value::WordWithLevel(&[("zstd", 15), ("zlib", 9), ("lzo", 0)]),
    },
    flag("autodefrag", BTRFS),
    flag("ssd", BTRFS),
];

/// The allowed options of a filesystem as a person would write them, for messages and schemas.
pub fn allowed_for(filesystem: Filesystem) -> Vec<String> {
    ALLOWED
        .iter()
        .filter(|allowed| allowed.filesystems.is_empty() || allowed.filesystems.contains(&filesystem))
        .map(|allowed| match allowed.value {
            Value::None => allowed.name.to_owned(),
            Value::Number(low, high) => format!("{}={low}..{high}", allowed.name),
            Value::Word(words) => format!("{}={}", allowed.name, words.join("|")),
            Value::WordWithLevel(words) => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                format!("{}={}[:level]", allowed.name, words.join("|"))
            }
        })
        .collect()
}

/// An option that a volume with that filesystem is not mounted with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("mount option {option:?} is not allowed for {filesystem}; allowed are: {}", allowed_for(*filesystem).join(", "))]
pub struct NotAllowed {
    /// Its filesystem.
    filesystem: Filesystem,
    /// The option, cut to 60 characters.
    option: String,
}

/// Checks every option against the list.
///
/// # Errors
/// The first option that is not on the list of the filesystem.
pub fn check(filesystem: Filesystem, options: &[String]) -> Result<(), NotAllowed> {
    match options.iter().find(|option| !is_allowed(filesystem, option)) {
        None => Ok(()),
        Some(option) => Err(NotAllowed { filesystem, option: option.chars().take(60).collect() }),
    }
}

fn is_allowed(filesystem: Filesystem, option: &str) -> bool {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    ALLOWED.iter().any(|allowed| {
        allowed.name == name
            && (allowed.filesystems.is_empty() || allowed.filesystems.contains(&filesystem))
            && fits(allowed.value, value)
    })
}

fn fits(rule: Value, value: Option<&str>) -> bool {
    match (rule, value) {
        (Value::None, None) => true,
        (Value::Number(low, high), Some(text)) => number(text).is_some_and(|n| (low..=high).contains(&n)),
        (Value::Word(words), Some(text)) => words.contains(&text),
        (Value::WordWithLevel(words), Some(text)) => {
            let (word, level) = match text.split_once(':') {
                Some((word, level)) => (word, Some(level)),
                None => (text, None),
            };
            words.iter().any(|(allowed, max)| {
                *allowed == word
                    && level.is_none_or(|level| number(level).is_some_and(|n| (1..=*max).contains(&n)))
            })
        }
        _ => false,
    }
}

/// Digits only: `parse` alone would take a leading `+`.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn verdict(filesystem: Filesystem, option: &str) -> bool {
        check(filesystem, &[option.to_owned()]).is_ok()
    }

    #[test]
    fn the_list_is_per_filesystem_and_bounds_the_values() {
        use Filesystem::{Btrfs, Ext4, Xfs};
        for (filesystem, option, expected) in [
            (Ext4, "noatime", true),
            (Xfs, "noatime", true),
            (Ext4, "commit=30", true),
            (Btrfs, "commit=30", true),
            (Xfs, "commit=30", false),
            (Ext4, "commit=0", false),
            (Ext4, "commit=301", false),
            (Ext4, "commit=+5", false),
            (Ext4, "commit=", false),
            (Ext4, "commit", false),
            (Ext4, "noatime=1", false),
            (Ext4, "data=journal", true),
            (Ext4, "data=writeback", false),
            (Ext4, "nobarrier", false),
            (Ext4, "commit=300", true),
            (Ext4, "noatime,suid", false),
            (Xfs, "inode64", true),
            (Ext4, "inode64", false),
            (Xfs, "logbsize=256k", true),
            (Xfs, "logbsize=1g", false),
            (Xfs, "allocsize=1m", true),
            (Btrfs, "compress=zstd", true),
            (Btrfs, "compress=zstd:3", true),
            (Btrfs, "compress=zstd:16", false),
            (Btrfs, "compress=lzo:1", false),
            (Btrfs, "compress", false),
            (Ext4, "compress=zstd", false),
        ] {
            assert_eq!(verdict(filesystem, option), expected, "{filesystem} {option}");
        }
    }

    #[test]
    fn bug_22_options_that_weaken_isolation_are_refused() {
        for filesystem in Filesystem::ALL {
            for option in [
                "suid",
                "dev",
                "suid,dev",
                "noatime,suid",
                "context=system_u:object_r:x",
                "noatime\nsuid",
                "--bind",
                "-o",
                "--",
                "rw,dev",
                "",
                " ",
                "noatime ",
                "NOATIME",
                "loop",
                "bind",
                "remount",
                "uid=0",
                "journal_dev=0x801",
                "logdev=/dev/sda",
                "device=/dev/sda",
                "subvol=/",
                "degraded",
                "noatime\0",
                "user_xattr",
                "usrquota",
                "errors=panic",
            ] {
                assert!(!verdict(filesystem, option), "{filesystem} {option:?}");
            }
        }
        let message = check(Filesystem::Xfs, &["suid".to_owned()]).unwrap_err().to_string();
        assert!(message.contains("\"suid\"") && message.contains("logbsize="), "{message}");
    }

    proptest! {
        #[test]
        fn bug_22_no_accepted_option_can_carry_a_second_one(option in "[a-z_=:,\\n\\-0-9 ]{0,20}") {
            for filesystem in Filesystem::ALL {
                if verdict(filesystem, &option) {
                    prop_assert!(!option.contains([',', '\n', ' ']) && !option.starts_with('-'));
                }
            }
        }
    }
}
