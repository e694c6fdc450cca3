//! A container, as all engines know one.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::places::OwnVolumes;
use crate::host::relative;

/// A container, running or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) mounts: Vec<Mount>,
}

/// One of its mounts, as engines show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Mount {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) source: String,
    /// Where that leads, if it is known.
    #[serde(skip)]
    pub(super) real: Option<PathBuf>,
}

impl Container {
    /// The beginning of its id, as engines show it.
    pub(in super::super) fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Whether it has volumes that its engine keeps itself, which may show folders of the host.
    pub(super) fn has_own_volumes(&self) -> bool {
        self.mounts.iter().any(Mount::is_engines_own)
    }

    /// Adds what those show.
    pub(super) fn follow(&mut self, volumes: &OwnVolumes) {
        let own = self.mounts.iter().filter(|mount| mount.is_engines_own());
        let places: Vec<Mount> = own.flat_map(|mount| volumes.places(&mount.name)).map(Mount::at).collect();
        self.mounts.extend(places);
    }

    /// Whether it has its volumes mounted, or may have at any moment without being started. Of a state that is not known that is so.
    pub(in super::super) fn may_run(&self) -> bool {
        !matches!(self.state.as_str(), "created" | "configured" | "stopped" | "exited" | "dead")
    }

    /// Its name and whether it runs.
    pub(in super::super) fn in_words(&self) -> String {
        let name = if self.name.is_empty() { self.short_id() } else { &self.name };
        format!("{name} ({})", self.state)
    }
}

impl Mount {
    /// Of that place of the host.
    pub(super) fn at(place: impl Into<String>) -> Self {
        Self { kind: "bind".to_owned(), source: place.into(), ..Self::default() }
    }

    fn is_engines_own(&self) -> bool {
        self.kind == "volume" && self.driver == "local"
    }

    pub(super) fn is_of(&self, volume: &str, paths: [&Path; 2]) -> bool {
        if self.source.starts_with('.') {
            return paths.iter().any(|folder| relative::may_lead_into(Path::new(&self.source), folder));
        }
        if !self.source.is_empty() {
            let within = |source: &Path| paths.iter().any(|folder| source.starts_with(folder));
            return within(Path::new(&self.source)) || self.real.as_deref().is_some_and(within);
        }
        // A volume that is mounted nowhere just now has its name alone. What the engine keeps itself is none of ours.
        self.kind == "volume" && self.name == volume && self.driver != "local"
    }
}
