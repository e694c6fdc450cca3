//! The forms in which engines say what they have.

use std::path::Path;

use serde::Deserialize;

use super::{
    container::{Container, Mount},
    patience::Patience,
    places,
};

/// A container as a list of the API has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    state: String,
    #[serde(default)]
    mounts: Option<Vec<Mount>>,
}

impl From<Listed> for Container {
    fn from(listed: Listed) -> Self {
        let name = listed.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        Self {
            id: listed.id,
            name: plain(&name),
            state: listed.state,
            mounts: listed.mounts.unwrap_or_default(),
        }
    }
}

/// A container as an inspection shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    id: String,
    name: String,
    state: State,
    #[serde(default)]
    mounts: Option<Vec<Mount>>,
    /// The folder that is its root filesystem, where that is no image.
    #[serde(default)]
    rootfs: String,
    #[serde(default, rename = "OCIConfigPath")]
    runtime_configuration: String,
    #[serde(default)]
    config: Configured,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Configured {
    create_command: Option<Vec<String>>,
}

impl Inspected {
    /// The container, with what Podman leaves out of its mounts.
    pub(super) fn container(self, patience: &Patience) -> Result<Container, String> {
        let hidden = self.hidden(patience)?;
        Ok(Container {
            id: self.id,
            name: plain(&self.name),
            state: self.state.status,
            mounts: [self.mounts.unwrap_or_default(), hidden].concat(),
        })
    }

    fn hidden(&self, patience: &Patience) -> Result<Vec<Mount>, String> {
        let mut places = places::overlaid(self.config.create_command.as_deref().unwrap_or_default());
        // Of what was made through the API the command is that of the service.
        let file = Path::new(&self.runtime_configuration);
        let known = places::overlays_of_runtime(file, patience.left())
            .map_err(|why| format!("{} of container {}: {why}", file.display(), plain(&self.name)))?;
        if !known.is_empty() {
            places.retain(|place| !place.starts_with('.'));
        }
        places.extend(known);
        places.push(self.rootfs.clone());
        Ok(places.into_iter().filter(|place| !place.is_empty()).map(Mount::at).collect())
    }
}

/// A volume as Podman's list shows it; its releases before 4 say nothing of mounts.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedVolume {
    name: String,
    driver: String,
    #[serde(default)]
    mountpoint: String,
    #[serde(default)]
    mount_count: u64,
}

/// Those that are mounted.
pub(super) fn mounted(listed: Vec<ListedVolume>) -> Vec<Mount> {
    let mount = |volume: ListedVolume| Mount {
        kind: "volume".to_owned(),
        name: volume.name,
        driver: volume.driver,
        source: volume.mountpoint,
        real: None,
    };
    listed.into_iter().filter(|volume| volume.mount_count > 0).map(mount).collect()
}

/// What finds a volume of that name in Podman's list, and no other: a regular expression.
pub(super) fn pattern(name: &str) -> String {
    format!("^{}$", name.replace('.', "\\."))
}

/// Docker's names begin with a slash.
fn plain(name: &str) -> String {
    name.trim_start_matches('/').to_owned()
}
