//! Which engines there are, and how each is asked. Nothing is started to find that out.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    choice::{self, Choice},
    engine::Engine,
    way::{Way, is_one, once_each},
};
use crate::privilege;

/// Where Podman's command may be: programs are looked for nowhere else.
const PROGRAMS: [&str; 2] = ["/usr/bin/podman", "/bin/podman"];

fn has_entries(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// What is looked at.
struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// What is below this folder is taken for the whole host.
    host: &'a Path,
    is_root: bool,
    /// The user's number on the host.
    uid: u32,
    /// With each file of Docker's.
    patience: Duration,
}

/// The engines whose containers may be this user's, and what somebody chose that is not asked, in words.
pub(super) fn of_this_host(patience: Duration) -> (Vec<Way>, Vec<String>) {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let (host, uid) = (Path::new("/"), privilege::uid_of_host());
    let look = |is_root| Surroundings { variable: &variable, host, is_root, uid, patience }.look();
    let (mut ways, elsewhere) = look(privilege::is_root());
    if privilege::is_root() && privilege::is_mapped() {
        // Who is root here may be an ordinary user with a root folder of the user's own.
        let others = look(false).0.into_iter().filter(|way| !ways.contains(way));
        ways.extend(others.collect::<Vec<_>>());
    }
    (ways, elsewhere)
}

impl Surroundings<'_> {
    /// A variable that names one engine hides no other: both have containers here.
    fn look(&self) -> (Vec<Way>, Vec<String>) {
        let (podman, podmans_elsewhere) = self.podman();
        let is_podmans = |socket: &PathBuf| podman.iter().any(|way| way.is_at(socket));
        let (docker, elsewhere) = self.docker(is_podmans);
        ([docker, podman.clone()].concat(), [elsewhere, podmans_elsewhere].concat())
    }

    /// `is_podmans`: whether a socket is asked as Podman's already.
    fn docker(&self, is_podmans: impl Fn(&PathBuf) -> bool) -> (Vec<Way>, Vec<String>) {
        // An engine of another machine has no containers here; then this one may still have its own.
        let usual = self.at("run/docker.sock");
        let Choice { sockets: chosen, unknown: mut ways, elsewhere } =
            choice::of_docker(self.variable, self.patience);
        let own = self.runtime_folders().into_iter().map(|folder| folder.join("docker.sock"));
        let there = own.chain([usual.clone()]).filter(|path| path.exists());
        let mut sockets = once_each(chosen.iter().cloned().chain(there));
        sockets.retain(|path| !is_podmans(path));
        let mut state = Vec::new();
        if sockets.is_empty() {
            state.push(self.at("var/lib/docker/containers"));
        }
        if sockets.iter().all(|path| is_one(path, &usual)) {
            state.extend(self.of_user("XDG_DATA_HOME", "docker/containers"));
            state.extend(self.of_user("HOME", ".local/share/docker/containers"));
        }
        let socket = |path: PathBuf| {
            let is_chosen = chosen.iter().any(|chosen| is_one(chosen, &path));
            Way::Socket { engine: Engine::Docker, path, is_chosen, or_command: false }
        };
        ways.extend(sockets.into_iter().map(socket));
        if let Some(place) = state.into_iter().find(|place| has_entries(place)) {
            let why = format!("it has containers ({}), and no socket", place.display());
            ways.push(Way::None { engine: Engine::Docker, why, is_down: true });
        }
        (ways, elsewhere)
    }

    fn podman(&self) -> (Vec<Way>, Vec<String>) {
        let has_command = PROGRAMS.iter().any(|path| self.at(path.trim_start_matches('/')).exists());
        let folders = if self.is_root { vec![self.at("run")] } else { self.runtime_folders() };
        let usual = folders.into_iter().map(|folder| folder.join("podman/podman.sock"));
        let there: Vec<_> = usual.filter(|path| path.exists()).collect();
        let Choice { sockets: chosen, unknown: mut ways, elsewhere } = choice::of_podman(self.variable);
        // Where its state is, as its own variables say, a service that was started without them does not know.
        let moved = ["CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"]
            .iter()
            .any(|name| (self.variable)(name).is_some_and(|file| Path::new(&file).exists()));
        // Its first command would make its folders, and leaves a process: it is run where there are some, or was its service.
        let has_state = moved || self.has_podmans_state();
        let by_command = has_command && (moved || there.is_empty() && has_state);
        let socket = |path: PathBuf| {
            let is_chosen = chosen.iter().any(|chosen| is_one(chosen, &path));
            let or_command = has_command && (has_state || !is_chosen);
            Way::Socket { engine: Engine::Podman, path, is_chosen, or_command }
        };
        ways.extend(once_each(chosen.iter().cloned().chain(there)).into_iter().map(socket));
        ways.extend(by_command.then_some(Way::PodmanCommand));
        (ways, elsewhere)
    }

    /// Where its folders are not, it has no containers.
    fn has_podmans_state(&self) -> bool {
        let state = if self.is_root {
            vec![self.at("var/lib/containers/storage"), self.at("etc/containers/storage.conf")]
        } else {
            let home = |below| self.of_user("HOME", below);
            [
                self.of_user("XDG_DATA_HOME", "containers/storage"),
                home(".local/share/containers/storage"),
                self.of_user("XDG_CONFIG_HOME", "containers/storage.conf"),
                home(".config/containers/storage.conf"),
            ]
            .into_iter()
            .flatten()
            .collect()
        };
        state.iter().any(|path| path.exists())
    }

    fn at(&self, below: &str) -> PathBuf {
        self.host.join(below)
    }

    /// A place below one of an ordinary user's folders.
    fn of_user(&self, variable: &str, below: &str) -> Option<PathBuf> {
        if self.is_root {
            return None;
        }
        Some(Path::new(&(self.variable)(variable)?).join(below))
    }

    /// The folders for what an ordinary user runs; none of root. The variable is not set in a job of cron, and may be another user's after `su`.
    fn runtime_folders(&self) -> Vec<PathBuf> {
        if self.is_root {
            return Vec::new();
        }
        let usual = self.at(&format!("run/user/{}", self.uid));
        self.of_user("XDG_RUNTIME_DIR", "").into_iter().chain([usual]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here<'a>(
        variable: &'a dyn Fn(&str) -> Option<OsString>,
        host: &'a Path,
        is_root: bool,
    ) -> Surroundings<'a> {
        Surroundings { variable, host, is_root, uid: 1000, patience: Duration::from_mins(1) }
    }

    #[test]
    fn an_engine_is_there_by_its_socket_or_by_what_it_has() {
        let socket = |engine, path: &str, is_chosen, or_command| {
            let path = path.into();
            Way::Socket { engine, path, is_chosen, or_command }
        };
        let docker = |path: &str| socket(Engine::Docker, path, false, false);
        let chosen = |path: &str| socket(Engine::Docker, path, true, false);
        let podman = |path: &str, or_command| socket(Engine::Podman, path, false, or_command);
        let chosen_podman = |path: &str, or_command| socket(Engine::Podman, path, true, or_command);
        // Files of the host (without its root), variables, and how Docker and Podman are asked.
        for (files, variables, expected) in [
            (vec![], vec![], vec![]),
            (vec!["usr/bin/podman"], vec![], vec![]),
            (vec!["usr/bin/podman", "var/lib/containers/storage/x"], vec![], vec![Way::PodmanCommand]),
            (vec!["var/lib/containers/storage/x"], vec![], vec![]),
            (
                vec!["run/docker.sock", "run/podman/podman.sock", "usr/bin/podman"],
                vec![],
                vec![docker("run/docker.sock"), podman("run/podman/podman.sock", true)],
            ),
            (
                vec!["run/docker.sock"],
                vec![("DOCKER_HOST", "unix:///elsewhere"), ("CONTAINER_HOST", "ssh://far/run/podman.sock")],
                vec![chosen("/elsewhere"), docker("run/docker.sock")],
            ),
            (
                vec!["run/docker.sock", "run/podman/podman.sock"],
                vec![("DOCKER_HOST", "tcp://far:2376"), ("CONTAINER_HOST", "unix:///there")],
                vec![
                    docker("run/docker.sock"),
                    chosen_podman("/there", false),
                    podman("run/podman/podman.sock", false),
                ],
            ),
            // What a variable names has no say over what is there besides.
            (
                vec!["usr/bin/podman", "var/lib/containers/storage/x"],
                vec![("CONTAINER_HOST", "unix:///there")],
                vec![chosen_podman("/there", true), Way::PodmanCommand],
            ),
            // Podman that never made a container is not asked for one of another place.
            (
                vec!["usr/bin/podman"],
                vec![("CONTAINER_HOST", "unix:///there")],
                vec![chosen_podman("/there", false)],
            ),
            (vec!["run/docker.sock"], vec![("DOCKER_HOST", "unix://")], vec![docker("run/docker.sock")]),
            // Podman in Docker's name is Podman, and hides no Docker.
            (
                vec!["run/docker.sock", "run/podman/podman.sock"],
                vec![("DOCKER_HOST", "unix://HOST/run/podman/podman.sock")],
                vec![docker("run/docker.sock"), podman("run/podman/podman.sock", false)],
            ),
            (
                vec!["run/docker.sock"],
                vec![("DOCKER_HOST", "unix://HOST/run/../run/docker.sock")],
                vec![chosen("run/../run/docker.sock")],
            ),
        ] {
            let host = tempfile::tempdir().unwrap();
            for file in &files {
                let path = host.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            let variable = |name: &str| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found
                    .map(|(_, value)| value.replace("HOST/", &format!("{}/", host.path().display())))
                    .map(OsString::from)
            };
            let (ways, elsewhere) = here(&variable, host.path(), true).look();
            let expected = expected.into_iter().map(|way| match way {
                Way::Socket { engine, path, is_chosen, or_command } => {
                    Way::Socket { engine, path: host.path().join(path), is_chosen, or_command }
                }
                other => other,
            });
            assert_eq!(ways, expected.collect::<Vec<_>>(), "{files:?} {variables:?}");
            let far = variables.iter().filter(|(_, value)| !value.starts_with("unix://")).count();
            assert_eq!(elsewhere.len(), far, "{variables:?}");
        }
    }

    #[test]
    fn an_ordinary_user_has_an_engine_of_the_same_kind_as_root() {
        let host = tempfile::tempdir().unwrap();
        for file in ["run/docker.sock", "run/user/1000/docker.sock"] {
            fs::create_dir_all(host.path().join(file).parent().unwrap()).unwrap();
            fs::write(host.path().join(file), "").unwrap();
        }
        let runtime = host.path().join("run/user/1000");
        let socket = |path: &str| Way::Socket {
            engine: Engine::Docker,
            path: host.path().join(path),
            is_chosen: false,
            or_command: false,
        };
        let sockets = [socket("run/user/1000/docker.sock"), socket("run/docker.sock")];
        let variable = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| OsString::from(runtime.clone()));
        assert_eq!(here(&variable, host.path(), false).look().0, sockets);
        // As in a job of cron.
        assert_eq!(here(&|_| None, host.path(), false).look().0, sockets);
    }

    #[test]
    fn an_ordinary_users_docker_with_containers_and_without_a_socket_is_there() {
        let host = tempfile::tempdir().unwrap();
        let home = host.path().join("home");
        fs::create_dir_all(home.join(".local/share/docker/containers/1")).unwrap();
        fs::create_dir(host.path().join("run")).unwrap();
        fs::write(host.path().join("run/docker.sock"), "").unwrap();
        let variable = |name: &str| (name == "HOME").then(|| OsString::from(home.clone()));
        let ways = here(&variable, host.path(), false).look().0;
        assert!(
            matches!(ways.as_slice(), [Way::Socket { .. }, Way::None { why, .. }] if why.contains("no socket")),
            "{ways:?}"
        );
    }

    #[test]
    fn docker_with_containers_and_without_a_socket_is_there() {
        let host = tempfile::tempdir().unwrap();
        let none = |_: &str| None::<OsString>;
        let ways = || here(&none, host.path(), true).look().0;
        fs::create_dir_all(host.path().join("var/lib/docker/containers")).unwrap();
        assert_eq!(ways(), []);
        fs::create_dir(host.path().join("var/lib/docker/containers/1")).unwrap();
        assert!(
            matches!(ways().as_slice(), [Way::None { engine: Engine::Docker, why, .. }] if why.contains("no socket"))
        );
        // A socket of Podman is none of Docker, whoever names it.
        let socket = host.path().join("run/podman/podman.sock");
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        fs::write(&socket, "").unwrap();
        let variable = |name: &str| {
            (name == "DOCKER_HOST").then(|| OsString::from(format!("unix://{}", socket.display())))
        };
        let ways = here(&variable, host.path(), true).look().0;
        assert!(
            matches!(ways.as_slice(), [Way::None { .. }, Way::Socket { engine: Engine::Podman, path, .. }] if *path == socket)
        );
    }

    #[test]
    fn podman_is_asked_with_the_state_that_its_variables_name() {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir_all(host.path().join("usr/bin")).unwrap();
        fs::write(host.path().join("usr/bin/podman"), "").unwrap();
        let conf = host.path().join("storage.conf");
        let variable = |name: &str| (name == "CONTAINERS_STORAGE_CONF").then(|| OsString::from(conf.clone()));
        let ways = || here(&variable, host.path(), true).look().0;
        assert_eq!(ways(), []);
        fs::write(&conf, "").unwrap();
        assert_eq!(ways(), [Way::PodmanCommand]);
        let home = host.path().join("home");
        fs::create_dir_all(home.join(".local/share/containers/storage")).unwrap();
        let variable = |name: &str| (name == "HOME").then(|| OsString::from(home.clone()));
        assert_eq!(here(&variable, host.path(), false).look().0, [Way::PodmanCommand]);
    }
}
