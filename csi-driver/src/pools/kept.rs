//! Lists of pools that could not be read: kept beside the file in force, as they may know pools that it does not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn name(path: &Path, number: u32) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(if number == 1 { format!("{name}.kept") } else { format!("{name}.kept-{number}") })
}

/// Sets a file aside that can't be read.
pub(super) fn keep(path: &Path) -> io::Result<PathBuf> {
    let mut names = (1..).map(|number| name(path, number));
    let kept = names.find(|kept| !kept.exists()).expect("the numbers don't end");
    fs::rename(path, &kept)?;
    Ok(kept)
}

/// The files that were set aside.
pub(super) fn files(path: &Path) -> Vec<PathBuf> {
    /// Nobody has that many.
    const MOST: u32 = 100;
    (1..=MOST).map(|number| name(path, number)).filter(|kept| kept.exists()).collect()
}
