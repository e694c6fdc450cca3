//! Which engines there are, and how each is asked. Nothing is started to find that out.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::engine::Engine;

/// Where Podman's command may be: programs are looked for nowhere else.
const PROGRAMS: [&str; 2] = ["/usr/bin/podman", "/bin/podman"];

/// How an engine that is there is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    Socket {
        engine: Engine,
        path: PathBuf,
        /// Whether its command is asked where nobody listens.
        or_command: bool,
    },
    PodmanCommand,
    /// There is none, and it has containers.
    None {
        engine: Engine,
        why: String,
    },
}

impl Way {
    pub(super) const fn engine(&self) -> Engine {
        match self {
            Self::Socket { engine, .. } | Self::None { engine, .. } => *engine,
            Self::PodmanCommand => Engine::Podman,
        }
    }
}

/// What is looked at.
struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// What is below this folder is taken for the whole host.
    host: &'a Path,
    is_root: bool,
}

/// The engines whose containers may be this user's.
pub(super) fn of_this_host() -> Vec<Way> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let is_root = rustix::process::geteuid().is_root();
    let here = Surroundings { variable: &variable, host: Path::new("/"), is_root };
    here.docker().into_iter().chain(here.podman()).collect()
}

impl Surroundings<'_> {
    fn docker(&self) -> Option<Way> {
        let socket = |path: PathBuf| Way::Socket { engine: Engine::Docker, path, or_command: false };
        // An engine of another machine has no containers here; then this one may still have its own.
        if let Some(named) = self.socket_named_by("DOCKER_HOST") {
            return Some(socket(named));
        }
        let own = self.of_user("XDG_RUNTIME_DIR", "docker.sock").filter(|path| path.exists());
        let usual = || Some(self.at("run/docker.sock")).filter(|path| path.exists());
        if let Some(path) = own.or_else(usual) {
            return Some(socket(path));
        }
        let containers = self.at("var/lib/docker/containers");
        let has_any = fs::read_dir(&containers).is_ok_and(|mut entries| entries.next().is_some());
        has_any.then(|| Way::None {
            engine: Engine::Docker,
            why: format!("it has containers ({}), and no socket", containers.display()),
        })
    }

    fn podman(&self) -> Option<Way> {
        let has_command = PROGRAMS.iter().any(|path| self.at(path.trim_start_matches('/')).exists());
        let socket = |path| Way::Socket { engine: Engine::Podman, path, or_command: has_command };
        if let Some(named) = self.socket_named_by("CONTAINER_HOST") {
            return Some(socket(named));
        }
        // Where its state is, as its own variables say, a service that was started without them does not know.
        let elsewhere = ["CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"]
            .iter()
            .any(|name| (self.variable)(name).is_some_and(|file| Path::new(&file).exists()));
        if elsewhere {
            return has_command.then_some(Way::PodmanCommand);
        }
        let usual = if self.is_root {
            Some(self.at("run/podman/podman.sock"))
        } else {
            self.of_user("XDG_RUNTIME_DIR", "podman/podman.sock")
        };
        if let Some(path) = usual.filter(|path| path.exists()) {
            return Some(socket(path));
        }
        // Its first command would make its folders: where they are not, it has no containers.
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
        (has_command && state.iter().any(|path| path.exists())).then_some(Way::PodmanCommand)
    }

    /// The unix socket that a variable names.
    fn socket_named_by(&self, variable: &str) -> Option<PathBuf> {
        (self.variable)(variable)?.strip_prefix("unix://").map(PathBuf::from)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_there_by_its_socket_or_by_what_it_has() {
        let socket = |engine, path: &str, or_command| Way::Socket { engine, path: path.into(), or_command };
        // Files of the host (without its root), variables, and how Docker and Podman are asked.
        for (files, variables, docker, podman) in [
            (vec![], vec![], None, None),
            (vec!["usr/bin/podman"], vec![], None, None),
            (vec!["usr/bin/podman", "var/lib/containers/storage/x"], vec![], None, Some(Way::PodmanCommand)),
            (vec!["var/lib/containers/storage/x"], vec![], None, None),
            (
                vec!["run/docker.sock", "run/podman/podman.sock", "usr/bin/podman"],
                vec![],
                Some(socket(Engine::Docker, "run/docker.sock", false)),
                Some(socket(Engine::Podman, "run/podman/podman.sock", true)),
            ),
            (
                vec!["run/docker.sock"],
                vec![("DOCKER_HOST", "unix:///elsewhere"), ("CONTAINER_HOST", "ssh://far/run/podman.sock")],
                Some(socket(Engine::Docker, "/elsewhere", false)),
                None,
            ),
            (
                vec!["run/docker.sock"],
                vec![("DOCKER_HOST", "tcp://far:2376"), ("CONTAINER_HOST", "unix:///there")],
                Some(socket(Engine::Docker, "run/docker.sock", false)),
                Some(socket(Engine::Podman, "/there", false)),
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
                found.map(|(_, value)| (*value).to_owned())
            };
            let here = Surroundings { variable: &variable, host: host.path(), is_root: true };
            let expected = |way: Option<Way>| {
                way.map(|way| match way {
                    Way::Socket { engine, path, or_command } => {
                        Way::Socket { engine, path: host.path().join(path), or_command }
                    }
                    other => other,
                })
            };
            assert_eq!(here.docker(), expected(docker), "{files:?} {variables:?}");
            assert_eq!(here.podman(), expected(podman), "{files:?} {variables:?}");
        }
    }

    #[test]
    fn docker_with_containers_and_without_a_socket_is_there() {
        let host = tempfile::tempdir().unwrap();
        let here = Surroundings { variable: &|_| None, host: host.path(), is_root: true };
        fs::create_dir_all(host.path().join("var/lib/docker/containers")).unwrap();
        assert_eq!(here.docker(), None);
        fs::create_dir(host.path().join("var/lib/docker/containers/1")).unwrap();
        let Some(Way::None { engine: Engine::Docker, why }) = here.docker() else { unreachable!() };
        assert!(why.contains("no socket"), "{why}");
    }

    #[test]
    fn podman_is_asked_with_the_state_that_its_variables_name() {
        let host = tempfile::tempdir().unwrap();
        fs::create_dir_all(host.path().join("usr/bin")).unwrap();
        fs::write(host.path().join("usr/bin/podman"), "").unwrap();
        let conf = host.path().join("storage.conf");
        let variable =
            |name: &str| (name == "CONTAINERS_STORAGE_CONF").then(|| conf.to_str().unwrap().to_owned());
        let here = Surroundings { variable: &variable, host: host.path(), is_root: true };
        assert_eq!(here.podman(), None);
        fs::write(&conf, "").unwrap();
        assert_eq!(here.podman(), Some(Way::PodmanCommand));
        let home = host.path().join("home");
        fs::create_dir_all(home.join(".local/share/containers/storage")).unwrap();
        let variable = |name: &str| (name == "HOME").then(|| home.to_str().unwrap().to_owned());
        let here = Surroundings { variable: &variable, host: host.path(), is_root: false };
        assert_eq!(here.podman(), Some(Way::PodmanCommand));
    }
}
