//! `stack plan`: which volumes and folders each service gets, and how they are there.

use std::path::Path;

use serde::Serialize;

use super::{
    compose::{Access, Maker, NamedVolume, Plan, ServiceMount, Source},
    volumes::Volumes,
};
use crate::{args::Output, failure::Failure, output, terminal};

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report<'a> {
    stack: &'a str,
    mounts: Vec<Mount<'a>>,
    volumes: Vec<Declared<'a>>,
}

/// What a service gets at one place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Mount<'a> {
    service: &'a str,
    target: &'a str,
    access: &'static str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    options: &'a [String],
    source: String,
    state: String,
    /// Whose mount it is, as the file has that.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#as: Option<&'a str>,
}

impl<'a> Mount<'a> {
    fn of(volumes: &Volumes, plan: &Plan, mount: &'a ServiceMount) -> Result<Self, Failure> {
        let (source, state) = source(volumes, plan, &mount.source)?;
        let access = match mount.access {
            Access::ReadWrite => "rw",
            Access::ReadOnly => "ro",
        };
        Ok(Self {
            service: &mount.service,
            target: &mount.target,
            access,
            options: &mount.options,
            source,
            state,
            r#as: mount.from.as_deref(),
        })
    }
}

/// A volume of the stack.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Declared<'a> {
    name: &'a str,
    /// Who makes it.
    maker: &'static str,
}

impl<'a> Declared<'a> {
    fn of(volume: &'a NamedVolume) -> Self {
        let maker = match volume.maker {
            Maker::Tierce(_) => "tierce",
            Maker::External => "external",
            Maker::Engine(_) => "engine",
        };
        Self { name: &volume.full, maker }
    }
}

pub(super) fn show(volumes: &Volumes, plan: &Plan, output: Output) -> Result<(), Failure> {
    let report = Report {
        stack: &plan.stack,
        mounts: plan.mounts.iter().map(|mount| Mount::of(volumes, plan, mount)).collect::<Result<_, _>>()?,
        volumes: plan.volumes.iter().map(Declared::of).collect(),
    };
    match output {
        Output::Json => output::json(&report)?,
        Output::Yaml => output::yaml(&report)?,
        Output::Name => output::lines(report.volumes.iter().map(|volume| volume.name))?,
        Output::Table | Output::Wide => table(&report.mounts)?,
    }
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
    if !plan.left_out.is_empty() {
        terminal::note(&format!("Left out, since no --profile asks for them: {}", plan.left_out.join(", ")));
    }
    Ok(())
}

fn table(mounts: &[Mount<'_>]) -> std::io::Result<()> {
    let row = |cells: [&str; 5]| cells.map(str::to_owned).to_vec();
    let mut rows = vec![row(["SERVICE", "TARGET", "ACCESS", "SOURCE", "STATE"])];
    rows.extend(mounts.iter().map(|mount| {
        let access: Vec<&str> =
            [mount.access].into_iter().chain(mount.options.iter().map(String::as_str)).collect();
        let source = match mount.r#as {
            Some(other) => format!("{} (as {other})", mount.source),
            None => mount.source.clone(),
        };
        row([mount.service, mount.target, &access.join(","), &source, &mount.state])
    }));
    output::columns(&rows)
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
