//! What we make of a case, in the terms of the comparison.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    super::{
        Access, ComposeError, Maker, Plan, Source, environment::Surroundings, mounts::ServiceMount, read_in,
    },
    Mount, Outcome, Service, Volume,
    case::Case,
};
use crate::args::StackFile;

const PROPAGATIONS: [&str; 6] = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];

pub(super) fn environment(case: &Case, folder: &Path) -> BTreeMap<String, String> {
    let mut environment = case.environment.clone();
    environment.insert("HOME".to_owned(), "/home/somebody".to_owned());
    environment.insert("PWD".to_owned(), folder.display().to_string());
    environment
}

pub(super) fn plan(case: &Case, folder: &Path) -> Result<Plan, ComposeError> {
    let folder = folder.join("project").join(&case.within);
    let paths = |name: &str| case.option(name).into_iter().map(PathBuf::from).collect::<Vec<_>>();
    let asked = StackFile {
        file: paths("file"),
        name: case.option("name").into_iter().next(),
        env_file: paths("env-file"),
        profile: case.option("profile"),
        project_directory: paths("project-directory").into_iter().next(),
    };
    let environment = environment(case, &folder);
    read_in(Surroundings { folder, environment }, &asked)
}

/// `Err`: the first refusal.
pub(super) fn outcome(case: &Case, folder: &Path) -> Result<Outcome, String> {
    let plan = plan(case, folder).map_err(|error| error.to_string())?;
    match plan.problems.first() {
        Some(problem) => Err(problem.to_string()),
        None => Ok(of_plan(&plan)),
    }
}

pub(super) fn of_plan(plan: &Plan) -> Outcome {
    let volume = |volume: &super::super::NamedVolume| {
        let pair = |label: &String| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            (key.to_owned(), value.to_owned())
        };
        let shown = Volume {
            name: volume.full.clone(),
            external: volume.maker == Maker::External,
            driver: volume.driver.clone(),
            options: volume.options.clone(),
            labels: volume.labels.iter().map(pair).collect(),
        };
        (volume.key.clone(), shown)
    };
    let mut services: BTreeMap<String, Service> =
        plan.services.iter().map(|name| (name.clone(), Service::default())).collect();
    for mount in &plan.mounts {
        let service = services.entry(mount.service.clone()).or_default();
        match &mount.from {
            Some(from) if !service.volumes_from.contains(from) => service.volumes_from.push(from.clone()),
            Some(_) => {}
            None => service.mounts.push(of_mount(mount)),
        }
    }
    Outcome { name: plan.stack.clone(), volumes: plan.volumes.iter().map(volume).collect(), services }
}

fn of_mount(mount: &ServiceMount) -> Mount {
    let option =
        |start: &str| mount.options.iter().find_map(|option| option.strip_prefix(start)).unwrap_or_default();
    let one_of =
        |words: &[&str]| mount.options.iter().find(|option| words.contains(&option.as_str())).cloned();
    let (r#type, source) = match &mount.source {
        Source::Volume(key) | Source::Undeclared(key) => ("volume", key.clone()),
        Source::Bind { path, .. } => ("bind", path.clone()),
        Source::Anonymous => ("volume", String::new()),
        Source::Tmpfs => return Mount::tmpfs(&mount.target),
        Source::Engine(words) => {
            let kinds = [("image ", "image"), ("named pipe ", "npipe"), ("cluster volume ", "cluster")];
            let found =
                kinds.iter().find_map(|(start, kind)| Some((*kind, words.strip_prefix(start)?.to_owned())));
            found.unwrap()
        }
    };
    Mount {
        r#type: r#type.to_owned(),
        source,
        target: mount.target.clone(),
        read_only: mount.access == Access::ReadOnly,
        nocopy: one_of(&["nocopy"]).is_some(),
        subpath: option("subpath=").to_owned(),
        propagation: one_of(&PROPAGATIONS).unwrap_or_default(),
        selinux: one_of(&["z", "Z"]).unwrap_or_default(),
        no_host_path: matches!(mount.source, Source::Bind { made: false, .. }),
    }
}
