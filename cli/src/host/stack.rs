//! `stack`: the volumes of a Compose file.

use super::{
    Error,
    compose::{self, Access, Plan, Source},
    shape::Words,
    volumes::{NewVolume, Volumes},
};
use crate::{
    args::{StackCommand, StackFile, StackManifests},
    failure::{self, Failure},
    labels, output, terminal,
};

pub(super) fn run(volumes: &Volumes, command: StackCommand) -> Result<(), Failure> {
    match command {
        StackCommand::Plan(file) => show(volumes, &read(&file)?),
        StackCommand::Create(file) => create(volumes, &read(&file)?),
        StackCommand::Rm(arguments) => remove(volumes, &read(&arguments.file)?, arguments.volumes),
        StackCommand::Manifests(arguments) => manifests(&arguments),
    }
}

/// Prints the same volumes as Kubernetes objects; looks at the file alone.
pub(crate) fn manifests(arguments: &StackManifests) -> Result<(), Failure> {
    let manifests = compose::manifests(&read(&arguments.file)?, &arguments.tier).map_err(Error::Refused)?;
    for manifest in manifests {
        output::lines(["---"])?;
        output::yaml(&manifest)?;
    }
    Ok(())
}

fn read(file: &StackFile) -> Result<Plan, Error> {
    Ok(compose::read(&file.file, file.name.as_deref())?)
}

fn show(volumes: &Volumes, plan: &Plan) -> Result<(), Failure> {
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["SERVICE", "TARGET", "ACCESS", "SOURCE", "STATE"])];
    for mount in &plan.mounts {
        let access = match mount.access {
            Access::ReadWrite => "rw",
            Access::ReadOnly => "ro",
        };
        let (source, state) = match &mount.source {
            Source::Volume(full) => {
                let declared = plan.volumes.iter().find(|volume| volume.full == *full);
                let state = match (volumes.find(full)?, declared.is_some_and(|volume| volume.name.is_none()))
                {
                    (Some(_), _) => "exists",
                    (None, false) => "to be made",
                    (None, true) => "missing",
                };
                (format!("volume {full}"), state)
            }
            Source::Bind(path) => {
                (path.display().to_string(), if path.exists() { "exists" } else { "to be made" })
            }
            Source::Anonymous => ("volume without a name".to_owned(), "of the container"),
            Source::Tmpfs => ("memory".to_owned(), "of the container"),
        };
        rows.push(row([&mount.service, &mount.target, access, &source, state]));
    }
    Ok(output::columns(&rows)?)
}

fn create(volumes: &Volumes, plan: &Plan) -> Result<(), Failure> {
    for volume in &plan.volumes {
        let Some(name) = &volume.name else {
            if volumes.find(&volume.full)?.is_none() {
                return Err(Error::Refused(format!(
                    "Volume '{0}' is external and does not exist: make it with tierce --host volume create {0}",
                    volume.full
                ))
                .into());
            }
            continue;
        };
        let option = |name: &str| volume.options.get(name).map(String::as_str);
        let words = Words {
            size: option("size"),
            filesystem: option("filesystem"),
            pool: option("pool"),
            encryption: None,
        };
        let shape = words.shape(|option| format!("volume '{}': driver option '{option}'", volume.full))?;
        volumes.create(
            name,
            &NewVolume {
                labels: labels::parse(&volume.labels).map_err(Error::from)?,
                shape,
                ..NewVolume::default()
            },
        )?;
        output::lines([&volume.full])?;
    }
    Ok(())
}

fn remove(volumes: &Volumes, plan: &Plan, with_volumes: bool) -> Result<(), Failure> {
    let mut failed = false;
    for volume in plan.volumes.iter().filter(|volume| volume.name.is_some()) {
        if !with_volumes {
            if volumes.find(&volume.full)?.is_some() {
                terminal::note(&format!(
                    "Volume '{}' is kept with its data: add --volumes to remove it",
                    volume.full
                ));
            }
            continue;
        }
        match volumes.remove(&volume.full, false) {
            Ok(()) => output::lines([&volume.full])?,
            Err(Error::NotFound { .. }) => {}
            Err(error) => {
                failed = true;
                failure::tell(&error, false);
            }
        }
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}
