//! `stack`: the volumes of a Compose file.

use std::path::Path;

use super::{
    Error,
    compose::{self, Access, Maker, NamedVolume, Plan, Source},
    stack_state::State,
    volumes::{NewVolume, Volume, Volumes},
};
use crate::{
    args::{StackCommand, StackFile, StackManifests},
    failure::{self, Failure},
    output, terminal,
};

pub(super) fn run(volumes: &Volumes, command: StackCommand) -> Result<(), Failure> {
    match command {
        StackCommand::Plan(file) => show(volumes, read(&file)?),
        StackCommand::Create(file) => create(volumes, read(&file)?),
        StackCommand::Rm(arguments) => remove(volumes, &read(&arguments.file)?, arguments.volumes),
        StackCommand::Manifests(arguments) => manifests(&arguments),
    }
}

/// Prints the same volumes as Kubernetes objects; looks at the file alone.
pub(crate) fn manifests(arguments: &StackManifests) -> Result<(), Failure> {
    let mut plan = read(&arguments.file)?;
    if let Some(first) = plan.problems.pop() {
        return Err(told(plan.problems, first));
    }
    let made = compose::manifests(&plan, &arguments.tier).map_err(Error::Refused)?;
    for note in &made.notes {
        terminal::note(note);
    }
    for object in made.objects {
        output::lines(["---"])?;
        output::yaml(&object)?;
    }
    Ok(())
}

pub(super) fn read(file: &StackFile) -> Result<Plan, Error> {
    let mut plan = compose::read(file)?;
    if plan.problems.is_empty() {
        let ours = plan.volumes.iter().filter(|volume| volume.name().is_some());
        let unfit = ours.filter_map(|volume| Some((volume.key.clone(), wanted(volume).err()?)));
        for (key, error) in unfit.collect::<Vec<_>>() {
            plan.refuse(&key, &failure::in_words(&error));
        }
    }
    Ok(plan)
}

/// Tells all but the last, which ends the command.
fn told(others: Vec<compose::ComposeError>, last: compose::ComposeError) -> Failure {
    for problem in others {
        failure::tell(&Error::from(problem), false);
    }
    Error::from(last).into()
}

fn show(volumes: &Volumes, mut plan: Plan) -> Result<(), Failure> {
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["SERVICE", "TARGET", "ACCESS", "SOURCE", "STATE"])];
    for mount in &plan.mounts {
        let access = match mount.access {
            Access::ReadWrite => "rw",
            Access::ReadOnly => "ro",
        };
        let access = [access].into_iter().chain(mount.options.iter().map(String::as_str)).collect::<Vec<_>>();
        let (mut source, state) = source(volumes, &plan, &mount.source)?;
        if let Some(from) = &mount.from {
            source = format!("{source} (as {from})");
        }
        rows.push(row([&mount.service, &mount.target, &access.join(","), &source, &state]));
    }
    output::columns(&rows)?;
    let is_used = |volume: &NamedVolume| {
        plan.mounts.iter().any(|mount| matches!(&mount.source, Source::Volume(key) if *key == volume.key))
    };
    let unused = plan.volumes.iter().filter(|volume| volume.name().is_some() && !is_used(volume));
    // With a problem nothing is made.
    for volume in unused.filter(|_| plan.problems.is_empty()) {
        terminal::note(&format!(
            "Volume '{}' is of the stack too, though no service that is shown uses it",
            volume.full
        ));
    }
    for note in &plan.notes {
        terminal::note(note);
    }
    match plan.problems.pop() {
        Some(last) => Err(told(plan.problems, last)),
        None => nothing_in_the_way(volumes, &plan),
    }
}

/// Refuses a stack of which a volume can't be made; with the reason for each.
fn nothing_in_the_way(volumes: &Volumes, plan: &Plan) -> Result<(), Failure> {
    let mut others = volumes.in_the_way(plan)?;
    let Some(last) = others.pop() else { return Ok(()) };
    for other in others {
        failure::tell(&other, false);
    }
    Err(last.into())
}

/// Where something comes from, and how it is there.
fn source(volumes: &Volumes, plan: &Plan, source: &Source) -> Result<(String, String), Failure> {
    const OF_ENGINE: &str = "of the container";
    let (source, state) = match source {
        Source::Volume(key) => {
            let Some(volume) = plan.declared(key) else {
                return Ok((format!("volume {key}"), "not valid".to_owned()));
            };
            match &volume.maker {
                Maker::Engine(what) => (format!("volume {} ({what})", volume.full), "of the engine"),
                Maker::External => {
                    // What bears a name that none of ours can have is another's.
                    let is_there = volumes.find(&volume.full).is_ok_and(|found| found.is_some());
                    (format!("volume {}", volume.full), if is_there { "exists" } else { "missing" })
                }
                Maker::Tierce(_) => {
                    let state = volumes.state(volume, &plan.stack)?;
                    return Ok((format!("volume {}", volume.full), state.in_words()));
                }
            }
        }
        Source::Undeclared(key) => (format!("volume {key}"), "not declared"),
        Source::Bind { path, made } => {
            let state = match (Path::new(path).exists(), made) {
                _ if !path.starts_with('/') => "of Windows",
                (true, _) => "exists",
                (false, true) => "to be made",
                (false, false) => "missing",
            };
            (path.clone(), state)
        }
        Source::Anonymous => ("volume without a name".to_owned(), OF_ENGINE),
        Source::Tmpfs => ("memory".to_owned(), OF_ENGINE),
        Source::Engine(what) => (what.clone(), "of the engine"),
    };
    Ok((source, state.to_owned()))
}

fn create(volumes: &Volumes, mut plan: Plan) -> Result<(), Failure> {
    if let Some(last) = plan.problems.pop() {
        return Err(told(plan.problems, last));
    }
    nothing_in_the_way(volumes, &plan)?;
    let mut missing = Vec::new();
    for volume in &plan.volumes {
        match &volume.maker {
            Maker::Tierce(_) => {
                if let State::OfStack(other) = volumes.state(volume, &plan.stack)? {
                    terminal::note(&format!(
                        "Volume '{}' was made by stack '{other}': both use it; if that is meant, write 'external: true', else give it another name",
                        volume.full
                    ));
                }
                make(volumes, volume, &plan.stack)?;
                output::lines([&volume.full])?;
            }
            Maker::Engine(what) => terminal::note(&format!(
                "Volume '{}' is none of Tierce ({what}): the engine of the containers makes it",
                volume.full
            )),
            Maker::External => {
                if volumes.find(&volume.full)?.is_none() {
                    missing.push(volume);
                }
            }
        }
    }
    let Some(last) = missing.pop() else { return Ok(()) };
    let refused = |volume: &NamedVolume| {
        Error::Refused(format!(
            "Volume '{0}' is external and does not exist: make it with tierce --host volume create {0}",
            volume.full
        ))
    };
    for volume in missing {
        failure::tell(&refused(volume), false);
    }
    Err(refused(last).into())
}

fn make(volumes: &Volumes, volume: &NamedVolume, stack: &str) -> Result<(), Failure> {
    let Some(name) = volume.name() else { return Ok(()) };
    let mut new = wanted(volume)?;
    new.stack = (name.stack() != stack).then(|| stack.to_owned());
    new.key = volume.asked.key()?;
    volumes.create(name, &new)?;
    Ok(())
}

/// What a volume shall be; its key is not read yet.
pub(super) fn wanted(volume: &NamedVolume) -> Result<NewVolume, Error> {
    volume.asked.new_volume(&volume.labels)
}

fn remove(volumes: &Volumes, plan: &Plan, with_volumes: bool) -> Result<(), Failure> {
    let mut failed = false;
    for volume in plan.volumes.iter().filter(|volume| volume.name().is_some()) {
        let existing = volumes.find(&volume.full)?;
        if let Some(other) = existing.as_ref().and_then(Volume::stack).filter(|other| *other != plan.stack) {
            terminal::note(&format!(
                "Volume '{}' is kept with its data: stack '{other}' made it",
                volume.full
            ));
            continue;
        }
        if !with_volumes {
            if existing.is_some() {
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
