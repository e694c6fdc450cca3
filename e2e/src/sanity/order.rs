//! What a confined process is told, and how it ended.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::stand::{Programs, Storage};

/// What a confined process is told: the contents of `run.json` in its folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What lies below the volumes.
    pub(crate) storage: Storage,
    /// What to start.
    pub(crate) programs: Programs,
}

impl Order {
    /// What the folder of a run says.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("run.json");
        let text = std::fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }
}

/// How a confined process ended.
pub(crate) struct Ending {
    /// Whether it said that all went well.
    pub(crate) success: bool,
    /// What it printed.
    pub(crate) printed: String,
    /// Loop devices that it left attached; they are detached now.
    pub(crate) stray_loops: usize,
}
