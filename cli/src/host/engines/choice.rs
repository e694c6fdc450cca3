//! The engines that somebody chose, by a variable or a context.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

use super::{contexts, endpoint::Place, engine::Engine, way::Way};

/// What was chosen, by where it is.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) sockets: Vec<PathBuf>,
    /// Those of this machine, or of nobody knows which, that can't be asked.
    pub(super) unknown: Vec<Way>,
    /// Those of another machine, in words.
    pub(super) elsewhere: Vec<String>,
}

/// Docker's. `patience`: with each of its files.
pub(super) fn of_docker(variable: &dyn Fn(&str) -> Option<OsString>, patience: Duration) -> Choice {
    let of_context = |context: contexts::Context| {
        let place = context.endpoint.map_or_else(Place::Unknown, |endpoint| Place::of(OsStr::new(&endpoint)));
        (context.by, place)
    };
    let contexts = contexts::in_force(variable, patience).into_iter().map(of_context);
    sorted(Engine::Docker, by_variable(variable, "DOCKER_HOST").into_iter().chain(contexts))
}

/// Podman's.
pub(super) fn of_podman(variable: &dyn Fn(&str) -> Option<OsString>) -> Choice {
    sorted(Engine::Podman, by_variable(variable, "CONTAINER_HOST"))
}

fn by_variable(variable: &dyn Fn(&str) -> Option<OsString>, name: &str) -> Option<(String, Place)> {
    Some((name.to_owned(), Place::of(&variable(name)?)))
}

fn sorted(engine: Engine, all: impl IntoIterator<Item = (String, Place)>) -> Choice {
    let mut choice = Choice::default();
    for (by, place) in all {
        match place {
            // That is looked at besides.
            Place::Usual => {}
            Place::Socket(path) => choice.sockets.push(path),
            Place::Unknown(why) => {
                choice.unknown.push(Way::None { engine, why: format!("{by}: {why}"), is_down: false });
            }
            Place::Elsewhere(place) => choice.elsewhere.push(format!(
                "{engine} at {place} ({by}) is not asked which volumes its containers use: only unix sockets are"
            )),
        }
    }
    choice
}
