//! Which mount options go with which filesystem, for whoever has to say so before a node sees them. The engine has the list that counts
//! (`engine/src/mount/options.rs`), and the node plugin tests that the two are one.

use crate::Filesystem::{self, Btrfs, Ext4, Xfs};

/// What may follow an option's `=`.
enum Value {
    /// Nothing: a flag.
    None,
    /// A whole number from 1 to this.
    Number(u32),
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, and maybe `:` and a level from 1 to the number.
    WordWithLevel(&'static [(&'static str, u32)]),
}

/// Name, filesystems (none: all) and value of each.
const ALLOWED: &[(&str, &[Filesystem], Value)] = &[
    ("noatime", &[], Value::None),
    ("relatime", &[], Value::None),
    ("nodiratime", &[], Value::None),
    ("lazytime", &[], Value::None),
    ("sync", &[], Value::None),
    ("dirsync", &[], Value::None),
    ("nosuid", &[], Value::None),
    ("noexec", &[], Value::None),
    ("discard", &[], Value::None),
    ("nodiscard", &[], Value::None),
    ("commit", &[Ext4, Btrfs], Value::Number(300)),
    ("data", &[Ext4], Value::Word(&["ordered", "journal"])),
    ("inode64", &[Xfs], Value::None),
    ("logbsize", &[Xfs], Value::Word(&["32k", "64k", "128k", "256k"])),
    (
        "allocsize",
        &[Xfs],
        Value::Word(&["64k", "128k", "256k", "512k", "1m", "2m", "4m", "8m", "16m", "32m", "64m"]),
    ),
    ("compress", &[Btrfs], Value::WordWithLevel(&[("zstd", 15), ("zlib", 9), ("lzo", 0)])),
    ("autodefrag", &[Btrfs], Value::None),
    ("ssd", &[Btrfs], Value::None),
];

/// Why a volume of this filesystem can't be mounted with these options; `None` where it can.
pub fn refusal(filesystem: Filesystem, options: &[String]) -> Option<String> {
    let option = options.iter().find(|option| !is_allowed(filesystem, option))?;
    let shown: String = option.chars().take(60).collect();
    let allowed = allowed_for(filesystem).join(", ");
    Some(format!("mount option {shown:?} is not allowed for {filesystem}; allowed are: {allowed}"))
}

/// The options of a filesystem as a person would write them.
pub fn allowed_for(filesystem: Filesystem) -> Vec<String> {
    let fitting = ALLOWED.iter().filter(|(_, filesystems, _)| goes_with(filesystems, filesystem));
    fitting
        .map(|(name, _, value)| match value {
            Value::None => (*name).to_owned(),
            Value::Number(most) => format!("{name}=1..{most}"),
            Value::Word(words) => format!("{name}={}", words.join("|")),
            Value::WordWithLevel(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                format!("{name}={}[:level]", words.join("|"))
            }
        })
        .collect()
}

fn goes_with(filesystems: &[Filesystem], filesystem: Filesystem) -> bool {
    filesystems.is_empty() || filesystems.contains(&filesystem)
}

fn is_allowed(filesystem: Filesystem, option: &str) -> bool {
    let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
    let mut known = ALLOWED.iter().filter(|(known, ..)| *known == name);
    known.any(|(_, filesystems, rule)| goes_with(filesystems, filesystem) && fits(rule, value))
}

fn fits(rule: &Value, value: Option<&str>) -> bool {
    match (rule, value) {
        (Value::None, None) => true,
        (Value::Number(most), Some(text)) => number(text).is_some_and(|n| (1..=*most).contains(&n)),
        (Value::Word(words), Some(text)) => words.contains(&text),
        (Value::WordWithLevel(words), Some(text)) => {
            let (word, level) =
                text.split_once(':').map_or((text, None), |(word, level)| (word, Some(level)));
            let mut known = words.iter().filter(|(known, _)| *known == word);
            known.any(|(_, most)| {
                level.is_none_or(|level| number(level).is_some_and(|n| (1..=*most).contains(&n)))
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
    use super::*;

    #[test]
    fn an_option_goes_with_its_filesystems_and_a_refusal_names_those_that_do() {
        for (filesystem, option, allowed) in [
            (Ext4, "noatime", true),
            (Ext4, "commit=300", true),
            (Ext4, "commit=301", false),
            (Btrfs, "commit=30", true),
            (Xfs, "commit=30", false),
            (Xfs, "inode64", true),
            (Ext4, "inode64", false),
            (Btrfs, "compress=zstd:3", true),
            (Btrfs, "compress=lzo:1", false),
            (Ext4, "compress=zstd", false),
            (Ext4, "nobarrier", false),
            (Ext4, "noatime,suid", false),
        ] {
            let refusal = refusal(filesystem, &[option.to_owned()]);
            assert_eq!(refusal.is_none(), allowed, "{filesystem} {option}: {refusal:?}");
            assert!(
                refusal.is_none_or(|words| words.contains(option) && words.contains("noatime, relatime"))
            );
        }
    }
}
