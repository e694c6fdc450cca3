//! What engines answer.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use super::{
    container::{Container, Mount},
    engine::Engine,
    patience::Patience,
    sources,
};

/// What all engines together say.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Answer {
    containers: Vec<Container>,
    /// Volumes that Podman has mounted, of those that it was asked about.
    mounted: Vec<Mount>,
    /// The engines that are there and could not be asked.
    pub(in super::super) silent: Vec<Silent>,
}

/// An engine that could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{engine} can't be asked which volumes its containers use: {why}")]
pub struct Silent {
    pub(super) engine: Engine,
    pub(super) why: String,
    /// Nobody listens where it should.
    pub(super) is_down: bool,
    /// Where nobody does, all that runs of its containers shows without it.
    pub(super) shows_when_down: bool,
}

impl Silent {
    pub(super) const fn new(engine: Engine, why: String) -> Self {
        Self { engine, why, is_down: false, shows_when_down: false }
    }

    /// Whether none of its containers runs but those that the kernel shows.
    pub(in super::super) const fn runs_nothing(&self) -> bool {
        self.is_down && self.shows_when_down
    }

    /// What to do before a restore.
    pub(in super::super) const fn advice(&self) -> &'static str {
        if self.shows_when_down {
            "Let that engine answer, or stop it, then restore"
        } else {
            "Let that engine answer, then restore"
        }
    }
}

/// What one engine says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) containers: Vec<Container>,
    /// As in [`Answer`], or why it does not say so.
    pub(super) mounted: Result<Vec<Mount>, String>,
}

impl Said {
    /// Finds out where the folders of mounts really are, each once. An error says which one gives no answer; the others count as they are.
    pub(super) fn resolve(&mut self, patience: &Patience) -> Result<(), String> {
        let resolved = sources::resolve(self.sources(), patience).map_err(|error| error.to_string())?;
        for mount in self.mounts() {
            mount.real = resolved.real.get(&mount.source).cloned();
        }
        let Some(stuck) = resolved.stuck else { return Ok(()) };
        let has = |container: &&Container| container.mounts.iter().any(|mount| mount.source == stuck);
        let of = self
            .containers
            .iter()
            .find(has)
            .map(|container| format!(", which container {} has,", container.in_words()));
        Err(format!(
            "{stuck}{} does not answer within {} s",
            of.unwrap_or_default(),
            patience.each().as_secs()
        ))
    }

    fn sources(&mut self) -> BTreeSet<String> {
        self.mounts()
            .filter(|mount| mount.source.starts_with('/'))
            .map(|mount| mount.source.clone())
            .collect()
    }

    fn mounts(&mut self) -> impl Iterator<Item = &mut Mount> {
        let mounted = self.mounted.iter_mut().flatten();
        self.containers.iter_mut().flat_map(|container| &mut container.mounts).chain(mounted)
    }
}

impl Answer {
    pub(super) fn add(&mut self, engine: Engine, said: Said) {
        match said.mounted {
            Ok(mounted) => self.mounted.extend(mounted),
            Err(why) => self.silent.push(Silent::new(engine, why)),
        }
        // A socket of Podman may bear the name of Docker's. Where two tell different things of one container, both count.
        let known: HashMap<String, usize> =
            self.containers.iter().enumerate().map(|(at, one)| (one.id.clone(), at)).collect();
        for container in said.containers {
            let same = known.get(&container.id).map(|at| &self.containers[*at]);
            if same.is_none_or(|same| same.mounts != container.mounts) {
                self.containers.push(container);
            }
        }
    }

    /// The containers that refer to the volume of that full name, whose folder has these paths.
    pub(in super::super) fn containers_of(
        &self,
        volume: &str,
        paths: [&Path; 2],
    ) -> impl Iterator<Item = &Container> {
        let refers =
            move |container: &&Container| container.mounts.iter().any(|mount| mount.is_of(volume, paths));
        self.containers.iter().filter(refers)
    }

    /// Whether Podman has the volume of that full name mounted. It counts its own containers too, and `podman volume mount`.
    pub(in super::super) fn has_mounted(&self, volume: &str, paths: [&Path; 2]) -> bool {
        self.mounted.iter().any(|mount| mount.is_of(volume, paths))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{
        super::{
            forms::{Inspected, Listed, mounted, pattern},
            places,
        },
        *,
    };

    #[test]
    fn a_mount_is_of_a_volume_by_its_place_else_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::create_dir_all(real.join("a/sub")).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        for (kind, name, driver, source, expected) in [
            ("volume", "a", "tierce", String::new(), true),
            ("volume", "a", "local", String::new(), false),
            ("volume", "b", "tierce", String::new(), false),
            ("bind", "", "", path(&real.join("a")), true),
            ("bind", "", "", path(&real.join("a/sub")), true),
            ("bind", "", "", path(&link.join("a")), true),
            ("bind", "", "", path(&real.join("ab")), false),
            ("bind", "", "", path(&real), false),
            ("volume", "a", "tierce", path(&real.join("a")), true),
            // Of another plugin, or of this one with another root.
            ("volume", "a", "tierce", "/elsewhere/a".to_owned(), false),
        ] {
            let (kind, name, driver) = (kind.to_owned(), name.to_owned(), driver.to_owned());
            let mount = Mount { kind, name, driver, source, real: None };
            let mut said = Said { containers: Vec::new(), mounted: Ok(vec![mount]) };
            said.resolve(&Patience::new(Duration::from_mins(1))).unwrap();
            let mount = said.mounted.unwrap().remove(0);
            assert_eq!(mount.is_of("a", [&real.join("a"); 2]), expected, "{mount:?}");
        }
    }

    #[test]
    fn of_two_engines_that_tell_of_one_container_both_are_heard() {
        let of = |names: &[&str]| Said {
            containers: vec![Container {
                id: "1".to_owned(),
                name: "db".to_owned(),
                state: "exited".to_owned(),
                mounts: names
                    .iter()
                    .map(|name| Mount {
                        kind: "volume".to_owned(),
                        name: (*name).to_owned(),
                        driver: "tierce".to_owned(),
                        ..Mount::default()
                    })
                    .collect(),
            }],
            mounted: Ok(Vec::new()),
        };
        let mut answer = Answer::default();
        for said in [of(&[]), of(&["a"]), of(&["a"])] {
            answer.add(Engine::Docker, said);
        }
        assert_eq!(answer.containers_of("a", [Path::new("/v/a"); 2]).count(), 1);
        assert_eq!(answer.containers.len(), 2);
    }

    #[test]
    fn what_an_inspection_shows_elsewhere_than_in_its_mounts_is_found() {
        let state = r#""Id":"1","Name":"c","State":{"Status":"exited"}"#;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, r#"{"mounts":[{"options":["lowerdir=/v/local/a"]}]}"#).unwrap();
        let service = r#""Config":{"CreateCommand":["podman","system","service"]}"#;
        let started = format!(r#"{service},"OCIConfigPath":"{}""#, file.display());
        let own = r#""Mounts":[{"Type":"volume","Name":"viabind","Source":"/g/_data","Driver":"local"}]"#;
        for (more, expected) in [
            (r#""Rootfs":"/v/local/a""#, true),
            (
                r#""Rootfs":"","Config":{"CreateCommand":["podman","create","-v","/v/local/a:/x:O","box"]}"#,
                true,
            ),
            (r#""Config":{"CreateCommand":["podman","create","-v","/v/local/b:/x:O","box"]}"#, false),
            (r#""Config":{"CreateCommand":null},"OCIConfigPath":"/none/config.json""#, false),
            (service, false),
            (&started, true),
            (own, true),
            (&own.replace("viabind", "other"), false),
            // A volume of ours with that name is none of the engine.
            (&own.replace("\"local\"", "\"tierce\""), false),
        ] {
            let one: Inspected = serde_json::from_str(&format!("{{{state},{more}}}")).unwrap();
            let mut container = one.container(&Patience::new(Duration::from_mins(1))).unwrap();
            let listed =
                r#"[{"Name":"viabind","Options":{"device":"/v/local/a/sub","o":"bind","type":"none"}}]"#;
            let volumes: Vec<places::OwnVolume> = serde_json::from_str(listed).unwrap();
            assert_eq!(container.has_own_volumes(), more.contains("\"local\""), "{more}");
            container.follow(&volumes.into_iter().collect());
            let mut answer = Answer::default();
            answer.add(Engine::Podman, Said { containers: vec![container], mounted: Ok(Vec::new()) });
            assert_eq!(
                answer.containers_of("a", [Path::new("/v/local/a"); 2]).count(),
                usize::from(expected),
                "{more}"
            );
        }
    }

    #[test]
    fn a_folder_of_a_thousand_containers_is_looked_for_once() {
        let container = |id: usize| {
            let mount = Mount { kind: "bind".to_owned(), source: "/srv/data".to_owned(), ..Mount::default() };
            let (name, state) = (format!("c{id}"), "exited".to_owned());
            Container { id: id.to_string(), name, state, mounts: vec![mount; 2] }
        };
        let mut said = Said { containers: (0..1000).map(container).collect(), mounted: Ok(Vec::new()) };
        assert_eq!(said.sources(), BTreeSet::from(["/srv/data".to_owned()]));
    }

    #[test]
    fn a_container_of_two_sockets_is_one() {
        let container = |id: &str| {
            let one = format!(r#"{{"Id":"{id}","Names":["/db"],"State":"exited"}}"#);
            Container::from(serde_json::from_str::<Listed>(&one).unwrap())
        };
        let mut answer = Answer::default();
        let said = |containers| Said { containers, mounted: Ok(Vec::new()) };
        answer.add(Engine::Docker, said(vec![container("0123456789abcdef")]));
        answer.add(Engine::Podman, said(vec![container("0123456789abcdef"), container("1")]));
        let ids: Vec<_> = answer.containers.iter().map(Container::short_id).collect();
        assert_eq!(ids, ["0123456789ab", "1"]);
        assert_eq!(answer.containers[0].in_words(), "db (exited)");
    }

    #[test]
    fn as_many_containers_as_an_engine_may_name_are_counted_at_once() {
        let container = |id: usize| Container {
            id: id.to_string(),
            name: String::new(),
            state: "exited".to_owned(),
            mounts: Vec::new(),
        };
        let (mut answer, began) = (Answer::default(), Instant::now());
        for _ in 0..2 {
            let containers = (0..100_000).map(container).collect();
            answer.add(Engine::Docker, Said { containers, mounted: Ok(Vec::new()) });
        }
        assert_eq!(answer.containers.len(), 100_000);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[test]
    fn what_podman_counts_no_mount_of_is_not_mounted() {
        let listed = r#"[{"Name":"a","Driver":"tierce","Mountpoint":"","MountCount":1},
            {"Name":"b","Driver":"tierce","Mountpoint":"","MountCount":0},
            {"Name":"c","Driver":"tierce","Mountpoint":"/elsewhere/c","MountCount":2},
            {"Name":"d","Driver":"local","Mountpoint":"","MountCount":1},
            {"Name":"e","Driver":"tierce"}]"#;
        let mounted = Ok(mounted(serde_json::from_str(listed).unwrap()));
        let mut answer = Answer::default();
        answer.add(Engine::Podman, Said { containers: Vec::new(), mounted });
        let is_mounted = |name: &&str| answer.has_mounted(name, [&Path::new("/volumes").join(name); 2]);
        assert_eq!(["a", "b", "c", "d", "e"].into_iter().filter(is_mounted).collect::<Vec<_>>(), ["a"]);
        answer.add(Engine::Podman, Said { containers: Vec::new(), mounted: Err("no plugin".to_owned()) });
        assert_eq!(answer.silent, [Silent::new(Engine::Podman, "no plugin".to_owned())]);
        assert_eq!(pattern("shop_data.1"), r"^shop_data\.1$");
    }
}
