//! Our plans beside those of compose-go, the library of `docker compose`: volume by volume.
//!
//! The cases are texts in `cli/tests/compose`; further ones are made by chance. The reference is a program of a Go module (`e2e/tools/compose`)
//! that `make setup` builds, once, into the user's cache; where it can't be built these tests are skipped by name, with the reason.

#![allow(clippy::unwrap_used, reason = "a test may panic, its steps included")]
#![allow(clippy::print_stdout, reason = "what was compared, and what was skipped, is told")]

mod by_chance;
mod case;
mod odd_values;
mod ours;
mod projects_by_chance;
mod reference;

use std::collections::BTreeMap;

use case::{Case, Expected};

/// What a project comes down to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
struct Outcome {
    name: String,
    volumes: BTreeMap<String, Volume>,
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
struct Volume {
    name: String,
    external: bool,
    driver: String,
    #[serde(deserialize_with = "or_default")]
    options: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
struct Service {
    mounts: Vec<Mount>,
    #[serde(deserialize_with = "or_default")]
    tmpfs: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    volumes_from: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
struct Mount {
    r#type: String,
    source: String,
    target: String,
    read_only: bool,
    nocopy: bool,
    subpath: String,
    propagation: String,
    selinux: String,
    no_host_path: bool,
}

impl Mount {
    /// Of memory the place alone is compared: Compose hands its options on as they are.
    fn tmpfs(target: &str) -> Self {
        Self { r#type: "tmpfs".to_owned(), target: target.to_owned(), ..Self::default() }
    }
}

impl Service {
    /// With `tmpfs` among the mounts, as we have it; and without what `volumes_from` brings, which compose-go leaves to Docker.
    fn levelled(mut self, ours: Option<&Self>) -> Self {
        for mount in self.mounts.iter_mut().filter(|mount| mount.r#type == "tmpfs") {
            *mount = Mount::tmpfs(&mount.target);
        }
        for text in std::mem::take(&mut self.tmpfs) {
            self.mounts.push(Mount::tmpfs(text.split(':').next().unwrap_or_default()));
        }
        if let Some(ours) = ours
            && ours.volumes_from.iter().all(|from| self.volumes_from.contains(from))
        {
            self.volumes_from.clone_from(&ours.volumes_from);
        }
        self
    }
}

impl Outcome {
    /// Of how many volumes of services it speaks.
    fn cells(&self) -> usize {
        self.services.values().map(|one| one.mounts.len() + one.tmpfs.len() + one.volumes_from.len()).sum()
    }

    fn levelled(mut self, ours: &Self) -> Self {
        for (name, service) in &mut self.services {
            *service = std::mem::take(service).levelled(ours.services.get(name));
        }
        self
    }
}

/// Go writes `null` for what is empty.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + serde::Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(<Option<T> as serde::Deserialize>::deserialize(from)?.unwrap_or_default())
}

/// The lines in which two differ.
fn difference(ours: &Outcome, theirs: &Outcome) -> String {
    let [ours, theirs] = [ours, theirs].map(|outcome| format!("{outcome:#?}"));
    let pairs = ours.lines().zip(theirs.lines()).enumerate().filter(|(_, (ours, theirs))| ours != theirs);
    let shown: Vec<String> =
        pairs.take(8).map(|(line, (ours, theirs))| format!("{line}: {ours} / {theirs}")).collect();
    shown.join("\n")
}

const CASES: [&str; 5] = [
    include_str!("../../../../tests/compose/forms.txt"),
    include_str!("../../../../tests/compose/projects.txt"),
    include_str!("../../../../tests/compose/files.txt"),
    include_str!("../../../../tests/compose/values.txt"),
    include_str!("../../../../tests/compose/volumes.txt"),
];

#[test]
fn every_volume_is_the_one_that_compose_has() {
    let cases: Vec<Case> = CASES.iter().flat_map(|text| case::parse(text)).collect();
    let (mut volumes, mut cells, mut wrong) = (0, 0, Vec::new());
    let Some(answers) = reference::answers(&cases) else { return };
    for (case, (folder, theirs)) in cases.iter().zip(&answers) {
        let ours = ours::outcome(case, folder.path());
        match (&case.expected, ours, theirs) {
            (Expected::Same, Ok(ours), Ok(theirs)) => {
                volumes += theirs.volumes.len();
                cells += theirs.cells();
                let theirs = theirs.clone().levelled(&ours);
                if ours != theirs {
                    wrong.push(format!("{}:\n{}", case.title, difference(&ours, &theirs)));
                }
            }
            (Expected::Refused, Err(reason), Err(_)) if reason.contains(&case.word) => {}
            // Compose drops something in silence, or leaves it to the engine: we name it.
            (Expected::RefusedByUs, Err(reason), Ok(_)) if reason.contains(&case.word) => {}
            // What has nothing to do with volumes, or is left empty.
            (Expected::RefusedByCompose, Ok(_), Err(_)) => {}
            (_, ours, theirs) => {
                wrong.push(format!(
                    "{}: expected {:?} {}\nours   {ours:?}\ntheirs {theirs:?}",
                    case.title, case.expected, case.word
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases.len() > 200 && cells > 400, "{} cases, {cells} cells", cases.len());
    println!(
        "measured: Compose files: {} projects, {volumes} declared volumes and {cells} cells (project × service × volume) compared with compose-go",
        cases.len()
    );
}
