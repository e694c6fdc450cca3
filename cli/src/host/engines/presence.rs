//! Which engines there are, and how each is asked. Nothing is started to find that out.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::{
    contexts,
    engine::Engine,
    way::{Way, once_each},
};
use crate::privilege;

/// Where Podman's command may be: programs are looked for nowhere else.
const PROGRAMS: [&str; 2] = ["/usr/bin/podman", "/bin/podman"];

/// What is looked at.
struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    /// What is below this folder is taken for the whole host.
    host: &'a Path,
    is_root: bool,
}

/// The engines whose containers may be this user's, and what somebody chose that is not asked, in words.
pub(super) fn of_this_host() -> (Vec<Way>, Vec<String>) {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let here = |is_root| Surroundings { variable: &variable, host: Path::new("/"), is_root };
    let mut ways = here(privilege::is_root()).ways();
    if privilege::is_root() && privilege::is_mapped() {
        // Who is root here may be an ordinary user with a root folder of the user's own.
        let others = here(false).ways().into_iter().filter(|way| !ways.contains(way));
        ways.extend(others.collect::<Vec<_>>());
    }
    (ways, here(true).not_asked())
}

/// An engine that somebody chose.
struct Chosen {
    engine: Engine,
    /// How it was chosen.
    by: String,
    /// Where it is asked, or why that is not known.
    endpoint: Result<String, String>,
}

impl Chosen {
    fn socket(&self) -> Option<PathBuf> {
        self.endpoint.as_ref().ok()?.strip_prefix("unix://").map(PathBuf::from)
    }
}

impl Surroundings<'_> {
    /// A variable that names one engine hides no other: both have containers here.
    fn ways(&self) -> Vec<Way> {
        let podman = self.podman();
        let is_podmans = |socket: &PathBuf| podman.iter().any(|way| way.is_at(socket));
        [self.docker(is_podmans), podman.clone()].concat()
    }

    /// `is_podmans`: whether a socket is asked as Podman's already.
    fn docker(&self, is_podmans: impl Fn(&PathBuf) -> bool) -> Vec<Way> {
        // An engine of another machine has no containers here; then this one may still have its own.
        let chosen = self.chosen_for_docker();
        let own = self.of_user("XDG_RUNTIME_DIR", "docker.sock").filter(|path| path.exists());
        let usual = Some(self.at("run/docker.sock")).filter(|path| path.exists());
        let mut sockets = once_each(chosen.iter().map(Chosen::socket).chain([own, usual]));
        sockets.retain(|path| !is_podmans(path));
        if !sockets.is_empty() {
            let socket = |path| Way::Socket { engine: Engine::Docker, path, or_command: false };
            return sockets.into_iter().map(socket).collect();
        }
        let containers = self.at("var/lib/docker/containers");
        let has_any = fs::read_dir(&containers).is_ok_and(|mut entries| entries.next().is_some());
        let why = || format!("it has containers ({}), and no socket", containers.display());
        has_any.then(|| Way::None { engine: Engine::Docker, why: why() }).into_iter().collect()
    }

    fn podman(&self) -> Vec<Way> {
        let has_command = PROGRAMS.iter().any(|path| self.at(path.trim_start_matches('/')).exists());
        let chosen = self.chosen_for_podman().and_then(|chosen| chosen.socket());
        let usual = if self.is_root {
            Some(self.at("run/podman/podman.sock"))
        } else {
            self.of_user("XDG_RUNTIME_DIR", "podman/podman.sock")
        };
        let usual = usual.filter(|path| path.exists());
        // Where its state is, as its own variables say, a service that was started without them does not know.
        let elsewhere = ["CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"]
            .iter()
            .any(|name| (self.variable)(name).is_some_and(|file| Path::new(&file).exists()));
        let by_command = has_command && (elsewhere || usual.is_none() && self.has_podmans_state());
        let socket = |path| Way::Socket { engine: Engine::Podman, path, or_command: has_command };
        let sockets = once_each([chosen, usual]).into_iter().map(socket);
        sockets.chain(by_command.then_some(Way::PodmanCommand)).collect()
    }

    /// Podman's first command would make its folders: where they are not, it has no containers.
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

    fn chosen_for_docker(&self) -> Vec<Chosen> {
        let of_context = |context: contexts::Context| Chosen {
            engine: Engine::Docker,
            by: format!("context '{}'", context.name),
            endpoint: context.endpoint,
        };
        let contexts = contexts::in_force(self.variable).into_iter().map(of_context);
        self.chosen_by(Engine::Docker, "DOCKER_HOST").into_iter().chain(contexts).collect()
    }

    fn chosen_for_podman(&self) -> Option<Chosen> {
        self.chosen_by(Engine::Podman, "CONTAINER_HOST")
    }

    fn chosen_by(&self, engine: Engine, variable: &str) -> Option<Chosen> {
        Some(Chosen { engine, by: variable.to_owned(), endpoint: Ok((self.variable)(variable)?) })
    }

    /// What somebody chose and is no unix socket.
    fn not_asked(&self) -> Vec<String> {
        let all = self.chosen_for_docker().into_iter().chain(self.chosen_for_podman());
        all.filter(|chosen| chosen.socket().is_none())
            .map(|Chosen { engine, by, endpoint }| match endpoint {
                Ok(endpoint) => format!(
                    "{engine} at {endpoint} ({by}) is not asked which volumes its containers use: only unix sockets are"
                ),
                Err(why) => format!("{engine} of {by} is not asked which volumes its containers use: {why}"),
            })
            .collect()
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
        let docker =
            |path: &str| Way::Socket { engine: Engine::Docker, path: path.into(), or_command: false };
        let podman =
            |path: &str, or_command| Way::Socket { engine: Engine::Podman, path: path.into(), or_command };
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
                vec![docker("/elsewhere"), docker("run/docker.sock")],
            ),
            (
                vec!["run/docker.sock", "run/podman/podman.sock"],
                vec![("DOCKER_HOST", "tcp://far:2376"), ("CONTAINER_HOST", "unix:///there")],
                vec![
                    docker("run/docker.sock"),
                    podman("/there", false),
                    podman("run/podman/podman.sock", false),
                ],
            ),
            // What a variable names has no say over what is there besides.
            (
                vec!["usr/bin/podman", "var/lib/containers/storage/x"],
                vec![("CONTAINER_HOST", "unix:///there")],
                vec![podman("/there", true), Way::PodmanCommand],
            ),
            // Podman in Docker's name is Podman, and hides no Docker.
            (
                vec!["run/docker.sock", "run/podman/podman.sock"],
                vec![("DOCKER_HOST", "unix://HOST/run/podman/podman.sock")],
                vec![docker("run/docker.sock"), podman("run/podman/podman.sock", false)],
            ),
            (
                vec!["run/docker.sock"],
                vec![("DOCKER_HOST", "unix://HOST/run/../run/docker.sock")],
                vec![docker("run/../run/docker.sock")],
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
                found.map(|(_, value)| value.replace("HOST/", &format!("{}/", host.path().display())))
            };
            let here = Surroundings { variable: &variable, host: host.path(), is_root: true };
            let expected = expected.into_iter().map(|way| match way {
                Way::Socket { engine, path, or_command } => {
                    Way::Socket { engine, path: host.path().join(path), or_command }
                }
                other => other,
            });
            assert_eq!(here.ways(), expected.collect::<Vec<_>>(), "{files:?} {variables:?}");
            let elsewhere = variables.iter().filter(|(_, value)| !value.starts_with("unix://")).count();
            assert_eq!(here.not_asked().len(), elsewhere, "{variables:?}");
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
        let variable = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| runtime.to_str().unwrap().to_owned());
        let here = Surroundings { variable: &variable, host: host.path(), is_root: false };
        let socket = |path: &str| Way::Socket {
            engine: Engine::Docker,
            path: host.path().join(path),
            or_command: false,
        };
        assert_eq!(here.ways(), [socket("run/user/1000/docker.sock"), socket("run/docker.sock")]);
    }

    #[test]
    fn docker_with_containers_and_without_a_socket_is_there() {
        let host = tempfile::tempdir().unwrap();
        let here = Surroundings { variable: &|_| None, host: host.path(), is_root: true };
        fs::create_dir_all(host.path().join("var/lib/docker/containers")).unwrap();
        assert_eq!(here.ways(), []);
        fs::create_dir(host.path().join("var/lib/docker/containers/1")).unwrap();
        assert!(
            matches!(here.ways().as_slice(), [Way::None { engine: Engine::Docker, why }] if why.contains("no socket"))
        );
        // A socket of Podman is none of Docker, whoever names it.
        let socket = host.path().join("run/podman/podman.sock");
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        fs::write(&socket, "").unwrap();
        let variable = |name: &str| (name == "DOCKER_HOST").then(|| format!("unix://{}", socket.display()));
        let here = Surroundings { variable: &variable, host: host.path(), is_root: true };
        let podman = Way::Socket { engine: Engine::Podman, path: socket.clone(), or_command: false };
        assert!(matches!(here.ways().as_slice(), [Way::None { .. }, other] if *other == podman));
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
        assert_eq!(here.ways(), []);
        fs::write(&conf, "").unwrap();
        assert_eq!(here.ways(), [Way::PodmanCommand]);
        let home = host.path().join("home");
        fs::create_dir_all(home.join(".local/share/containers/storage")).unwrap();
        let variable = |name: &str| (name == "HOME").then(|| home.to_str().unwrap().to_owned());
        let here = Surroundings { variable: &variable, host: host.path(), is_root: false };
        assert_eq!(here.ways(), [Way::PodmanCommand]);
    }
}
