//! Relative paths whose beginning nobody tells: it was the current folder of a process that may be long gone.

use std::{
    ffi::OsStr,
    path::{Component, Path, PathBuf},
};

/// Whether such a path may lead into that folder, from a folder outside of it.
pub(super) fn may_lead_into(relative: &Path, folder: &Path) -> bool {
    let mut names: Vec<&OsStr> = Vec::new();
    for part in relative.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => {
                names.pop();
            }
            _ => {}
        }
    }
    let whole: PathBuf = names.iter().collect();
    (1..=names.len()).any(|count| {
        let beginning: PathBuf = names[..count].iter().collect();
        let is_there = |from: &Path| from.join(&whole).symlink_metadata().is_ok();
        folder.ends_with(beginning) && folder.ancestors().nth(count).is_some_and(is_there)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_may_lead_into_a_folder_whose_end_it_has() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("local/data");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        for (relative, expected) in [
            ("data", true),
            ("./data/", true),
            ("../data", true),
            ("x/../data", true),
            ("local/data", true),
            ("data/sub", true),
            // There is none, so that was another folder.
            ("data/other", false),
            ("other/data", false),
            ("ata", false),
            ("sub", false),
            (".", false),
        ] {
            assert_eq!(may_lead_into(Path::new(relative), &folder), expected, "{relative}");
        }
    }
}
