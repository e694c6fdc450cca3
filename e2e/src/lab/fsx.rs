//! The file system exerciser `fsx`, with which tests of the lab load a volume: each read is compared with what was written.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{cache, cargo, command};

const VERSION: &str = "0.3.2";
/// Under which tests are told where it is.
pub(super) const VARIABLE: &str = "TIERCE_FSX";

/// Builds it into the user's cache folder unless it is there; returns the program. Two minutes the first time.
pub(super) fn ensure() -> Result<PathBuf> {
    let place = cache::folder()?.join(format!("fsx-{VERSION}"));
    cache::once(&place, |temporary| {
        eprintln!("building fsx");
        command::run(
            cargo::cargo()
                .args(["install", "--quiet", "--locked", "--version", VERSION, "fsx", "--root"])
                .arg(temporary)
                // Nothing of it belongs into this project's target folder.
                .arg("--target-dir")
                .arg(temporary.join("target")),
        )?;
        std::fs::remove_dir_all(temporary.join("target")).context("can't remove what fsx was built in")
    })?;
    Ok(place.join("bin/fsx"))
}
