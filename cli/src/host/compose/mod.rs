//! Compose files: what each service gets of volumes, as `docker compose` itself understands them
//! (<https://github.com/compose-spec/compose-spec/blob/main/spec.md>, and its library compose-go where the specification is silent).
//!
//! The way of a file: [`environment`] says which files and what the project is called; [`yaml`] makes trees of them; [`load`] puts variables
//! in and one file upon the other ([`merge`]) with what it includes and extends; [`plan`] says what each service gets.

#[cfg(test)]
mod compared;
mod declared;
mod dotenv;
mod environment;
mod error;
mod extends;
mod include;
mod interpolate;
mod load;
mod manifests;
mod merge;
mod mounts;
mod node;
mod paths;
mod plan;
mod scalar;
mod short_syntax;
mod yaml;

pub(super) use declared::{Maker, NamedVolume};
pub(super) use error::ComposeError;
pub(super) use manifests::{manifests, namespace, tier};
pub(super) use mounts::{Access, ServiceMount, Source};
pub(super) use plan::Plan;

use crate::args::StackFile;

/// Reads a project's Compose files and says what each service gets.
pub(super) fn read(asked: &StackFile) -> Result<Plan, ComposeError> {
    read_in(environment::Surroundings::of_process()?, asked)
}

fn read_in(around: environment::Surroundings, asked: &StackFile) -> Result<Plan, ComposeError> {
    let project = environment::project(asked, around)?;
    let mut loader = load::Loader::default();
    let scope = load::Scope {
        folder: project.folder.clone(),
        mounts: project.folder,
        environment: project.environment,
    };
    let model = loader.model(&project.files, &scope, &[])?;
    if model.iter().all(|(key, _)| key == "version") {
        let files: Vec<String> = project.files.iter().map(|file| file.shown.display().to_string()).collect();
        return Err(ComposeError::Project(format!("the Compose file is empty: {}", files.join(", "))));
    }
    let notes = project.notes.into_iter().chain(loader.notes).collect();
    plan::plan(&project.name, &model, &project.profiles, notes, loader.problems)
}
