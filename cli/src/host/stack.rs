//! `stack`: the volumes of a Compose file.

use serde_json::json;

use super::{
    Error, advice,
    compose::{self, Maker, NamedVolume, Plan},
    stack_plan,
    stack_state::{Other, State},
    volumes::{NewVolume, Volumes},
};
use crate::{
    args::{Output, StackCommand, StackFile, StackManifests},
    failure::{self, Failure},
    output::{self, Names},
    terminal,
};

pub(super) fn run(volumes: &Volumes, command: StackCommand, output: Output) -> Result<(), Failure> {
    match command {
        StackCommand::Plan(file) => plan(volumes, read(&file)?, output),
        StackCommand::Create(file) => {
            let plan = read(&file)?;
            tell_of_files(&plan);
            output::names(output, |made| create(volumes, plan, made))
        }
        StackCommand::Rm(arguments) => {
            let mut plan = read(&arguments.file)?;
            tell_of_files(&plan);
            output::names(output, |removed| {
                let done = remove(volumes, &plan, arguments.volumes, removed);
                // They may hide volumes, which stay.
                match plan.problems.pop() {
                    Some(last) => Err(told(std::mem::take(&mut plan.problems), last)),
                    None => done,
                }
            })
        }
        // Done before anything is looked at.
        StackCommand::Manifests(_) => Ok(()),
    }
}

/// Prints the same volumes as Kubernetes objects, in a namespace where one is named; looks at the file alone.
pub(crate) fn manifests(
    arguments: &StackManifests,
    namespace: Option<&str>,
    output: Output,
) -> Result<(), Failure> {
    let tier =
        compose::tier(&arguments.tier).map_err(|reason| Failure::usage(format!("--tier: {reason}")))?;
    let namespace = namespace.map(compose::namespace).transpose();
    let namespace = namespace.map_err(|reason| Failure::usage(format!("--namespace: {reason}")))?;
    let mut plan = read(&arguments.file)?;
    if let Some(first) = plan.problems.pop() {
        return Err(told(plan.problems, first));
    }
    tell_of_files(&plan);
    let made = compose::manifests(&plan, tier, namespace).map_err(Error::Refused)?;
    for note in &made.notes {
        terminal::note(note);
    }
    match output {
        Output::Json => output::json(&json!({"apiVersion": "v1", "kind": "List", "items": made.objects}))?,
        Output::Name => output::lines(made.objects.iter().filter_map(|object| {
            Some(format!("volume.{}/{}", tierce_crds::names::GROUP, object["metadata"]["name"].as_str()?))
        }))?,
        Output::Table | Output::Wide | Output::Yaml => {
            for object in made.objects {
                output::lines(["---"])?;
                output::yaml(&object)?;
            }
        }
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

fn tell_of_files(plan: &Plan) {
    for note in &plan.notes {
        terminal::note(note);
    }
}

/// Tells all but the last, which ends the command.
fn told(others: Vec<compose::ComposeError>, last: compose::ComposeError) -> Failure {
    for problem in others {
        failure::tell(&Error::from(problem), false);
    }
    Error::from(last).into()
}

/// Shows what each service gets; changes nothing.
fn plan(volumes: &Volumes, mut plan: Plan, output: Output) -> Result<(), Failure> {
    stack_plan::show(volumes, &plan, output)?;
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

fn create(volumes: &Volumes, mut plan: Plan, made: &mut Names) -> Result<(), Failure> {
    if let Some(last) = plan.problems.pop() {
        return Err(told(plan.problems, last));
    }
    nothing_in_the_way(volumes, &plan)?;
    let mut missing = Vec::new();
    for volume in &plan.volumes {
        match &volume.maker {
            Maker::Tierce(_) => {
                if let State::OfOther(other) = volumes.state(volume, &plan.stack)? {
                    let whose = match other {
                        Other::Stack(other) => format!("was made by stack '{other}': both use it"),
                        Other::Nobody => {
                            "was there before, and no stack made it: this one uses it, and leaves it"
                                .to_owned()
                        }
                    };
                    terminal::note(&format!(
                        "Volume '{}' {whose}; if that is meant, write 'external: true', else give it another name",
                        volume.full
                    ));
                }
                make(volumes, volume, &plan.stack)?;
                made.add(&volume.full)?;
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

fn remove(volumes: &Volumes, plan: &Plan, with_volumes: bool, removed: &mut Names) -> Result<(), Failure> {
    let mut failed = false;
    for volume in &plan.volumes {
        let Some(name) = volume.name() else { continue };
        let existing = match volumes.find(&volume.full) {
            Ok(existing) => existing,
            Err(error) => {
                failed = true;
                advice::tell(&error, volumes.root.path());
                continue;
            }
        };
        if let Some(other) = existing.as_ref().and_then(|volume| Other::of(volume, name, &plan.stack)) {
            let maker = match other {
                Other::Stack(other) => format!("stack '{other}'"),
                Other::Nobody => "no stack".to_owned(),
            };
            terminal::note(&format!("Volume '{}' is kept with its data: {maker} made it", volume.full));
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
            Ok(()) => removed.add(&volume.full)?,
            Err(Error::NotFound { .. }) => {}
            Err(error) => {
                failed = true;
                advice::tell(&error, volumes.root.path());
            }
        }
    }
    if failed { Err(Failure::Told) } else { Ok(()) }
}
