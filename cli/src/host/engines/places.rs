//! What containers use of the host that an engine shows neither as a mount's source nor by the name of a volume of ours.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use tierce_engine::mountinfo;

use super::reading::{self, Unread};

/// Bytes that a path may have: Linux has no longer ones.
const LONGEST: usize = 4096;

/// The engine's own volumes, and which places of the host each of them shows.
#[derive(Debug, Default)]
pub(super) struct OwnVolumes(HashMap<String, Vec<String>>);

/// One of them in a list of the engine.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OwnVolume {
    name: String,
    #[serde(default)]
    options: Option<HashMap<String, String>>,
}

impl FromIterator<OwnVolume> for OwnVolumes {
    fn from_iter<T: IntoIterator<Item = OwnVolume>>(volumes: T) -> Self {
        let with_places = |volume: OwnVolume| (volume.name, of_options(&volume.options.unwrap_or_default()));
        Self(volumes.into_iter().map(with_places).collect())
    }
}

impl OwnVolumes {
    pub(super) fn places(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// What the driver `local` mounts for a volume with these options: a folder (`o=bind`), a file with a filesystem in it, or an overlay.
fn of_options(options: &HashMap<String, String>) -> Vec<String> {
    let device = options.get("device").filter(|device| device.starts_with('/')).cloned();
    let layers = options.get("o").into_iter().flat_map(|o| o.split(',')).flat_map(layers);
    device.into_iter().chain(layers).collect()
}

fn layers(option: &str) -> impl Iterator<Item = String> + use<> {
    let layers = mountinfo::layers_of(option.as_bytes()).into_iter();
    layers.filter_map(|layer: PathBuf| layer.into_os_string().into_string().ok())
}

/// The folders that a command of Podman's shows as overlays (`-v FOLDER:PLACE:O`), as they were typed.
pub(super) fn overlaid(command: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for word in command {
        let values =
            [Some(word.as_str()), word.split_once('=').map(|(_, value)| value), word.strip_prefix("-v")];
        for value in values.into_iter().flatten().filter(|value| value.starts_with(['/', '.'])) {
            let Some((before, options)) = value.rsplit_once(':') else { continue };
            if !options.split(',').any(|option| option == "O") {
                continue;
            }
            // Which colon ends the folder is seen by what is there alone.
            let ends = before.match_indices(':').map(|(at, _)| at).take_while(|at| *at <= LONGEST);
            found.extend(ends.map(|at| before[..at].replace("\\:", ":")));
            found.extend(options.split(',').flat_map(layers));
        }
    }
    found
}

/// The layers of the overlays that a container was last started with, by the configuration that its runtime was given; none where it was
/// never started. That file may be another user's.
pub(super) fn overlays_of_runtime(configuration: &Path, patience: Duration) -> Result<Vec<String>, Unread> {
    #[derive(Deserialize)]
    struct Configuration {
        #[serde(default)]
        mounts: Vec<Mount>,
    }
    #[derive(Deserialize)]
    struct Mount {
        #[serde(default)]
        options: Vec<String>,
    }
    if configuration.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let text = match reading::read(configuration, patience) {
        Err(why) if !why.is_absent() => return Err(why),
        other => other.unwrap_or_default(),
    };
    let Ok(Configuration { mounts }) = serde_json::from_slice(&text) else { return Ok(Vec::new()) };
    Ok(mounts.iter().flat_map(|mount| &mount.options).flat_map(|option| layers(option)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_of_the_engine_show_what_their_options_name() {
        let listed = r#"[{"Name":"bind","Options":{"type":"none","o":"rw,bind","device":"/v/local/a"}},
            {"Name":"image","Options":{"type":"ext4","o":"loop","device":"/v/local/a/image"}},
            {"Name":"over","Options":{"type":"overlay","o":"lowerdir=/l:/v/local/a,upperdir=/u,workdir=/w","device":"overlay"}},
            {"Name":"far","Options":{"type":"nfs","o":"addr=10.0.0.7","device":":/films"}},
            {"Name":"plain","Options":null},{"Name":"bare"}]"#;
        let volumes: Vec<OwnVolume> = serde_json::from_str(listed).unwrap();
        let volumes: OwnVolumes = volumes.into_iter().collect();
        assert_eq!(volumes.places("bind"), ["/v/local/a"]);
        assert_eq!(volumes.places("image"), ["/v/local/a/image"]);
        assert_eq!(volumes.places("over"), ["/l", "/v/local/a", "/u", "/w"]);
        for none in ["far", "plain", "bare", "unknown"] {
            assert!(volumes.places(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn a_command_names_the_folders_below_its_overlays() {
        for (command, expected) in [
            ("podman run -v /v/local/a:/x:O box", vec!["/v/local/a"]),
            ("podman run --volume=/v/local/a:/x:ro,O box", vec!["/v/local/a"]),
            ("podman run -v/v/a=b:/x:O box", vec!["/v/a=b"]),
            ("podman run -v ./a:/x:O,upperdir=/v/up,workdir=/v/work box", vec!["./a", "/v/up", "/v/work"]),
            ("podman run -v /odd:name:/x:O box", vec!["/odd", "/odd:name"]),
            ("podman run -v /v/local/a:/x -v name:/x:O -v /a:O box cat /x:O", vec![]),
        ] {
            let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
            assert_eq!(overlaid(&words), expected, "{command}");
        }
        // No path is as long as a word may be.
        let endless = vec![format!("/{}:O", ":".repeat(130_000))];
        assert!(overlaid(&endless).iter().map(String::len).sum::<usize>() < 16 << 20);
    }

    #[test]
    fn what_a_container_was_started_with_names_the_folders_below_its_overlays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        let overlays = || overlays_of_runtime(&file, Duration::from_mins(1));
        assert!(overlays().unwrap().is_empty());
        let written = r#"{"root":{"path":"/"},"mounts":[{"destination":"/proc","source":"proc"},
            {"destination":"/x","options":["lowerdir=/v/local/a","upperdir=/g/u","workdir=/g/w","private"]}]}"#;
        std::fs::write(&file, written).unwrap();
        assert_eq!(overlays().unwrap(), ["/v/local/a", "/g/u", "/g/w"]);
        std::fs::remove_file(&file).unwrap();
        // What is no file may hide anything.
        std::fs::create_dir(&file).unwrap();
        assert!(overlays().is_err());
    }
}
