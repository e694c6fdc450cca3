//! Podman without a socket: its command.

use std::ffi::OsString;

use serde::de::DeserializeOwned;
use tierce_engine::{CommandError, Input, Program, Runner, SystemRunner};

use super::{
    answer::Said,
    container::{Container, Mount},
    forms::{self, Inspected},
    patience::Patience,
    places::{OwnVolume, OwnVolumes},
};

/// What decides which containers Podman knows: handed on as its caller has it.
const SURROUNDINGS: [&str; 11] = [
    "HOME",
    "USER",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "CONTAINERS_CONF",
    "CONTAINERS_CONF_OVERRIDE",
    "CONTAINERS_STORAGE_CONF",
    "STORAGE_DRIVER",
    "STORAGE_OPTS",
];
/// How often all are asked for at most: a container may go between the two questions.
const ATTEMPTS: usize = 5;
/// How many containers one command inspects: it has ten seconds, and takes some twenty milliseconds for each.
const AT_ONCE: usize = 100;

/// Every container, what Podman's own volumes show, and which of these volumes are mounted.
pub(super) fn ask(volumes: &[String], patience: &Patience) -> Result<Said, String> {
    let mut containers = containers(patience)?;
    if containers.iter().any(Container::has_own_volumes) {
        let own = own_volumes(patience)?;
        for container in &mut containers {
            container.follow(&own);
        }
    }
    let mounted = if volumes.is_empty() { Ok(Vec::new()) } else { mounted(volumes, patience) };
    Ok(Said { containers, mounted })
}

/// Why it does not list these volumes; `None`: it does.
pub(super) fn trouble_with_list(volumes: &[String], patience: &Patience) -> Option<String> {
    mounted(volumes, patience).err()
}

fn mounted(volumes: &[String], patience: &Patience) -> Result<Vec<Mount>, String> {
    let filters: Vec<String> =
        volumes.iter().map(|name| format!("--filter=name={}", forms::pattern(name))).collect();
    let fixed = ["volume", "ls", "--format", "json"];
    let arguments: Vec<&str> = fixed.into_iter().chain(filters.iter().map(String::as_str)).collect();
    Ok(forms::mounted(list(&arguments, patience)?))
}

/// The volumes that Podman keeps itself. Those of plugins are left out, which would be asked for them, this one too.
fn own_volumes(patience: &Patience) -> Result<OwnVolumes, String> {
    let volumes: Vec<OwnVolume> =
        list(&["volume", "ls", "--format", "json", "--filter=driver=local"], patience)?;
    Ok(volumes.into_iter().collect())
}

/// A list as JSON; Podman prints nothing for an empty one.
fn list<T: DeserializeOwned>(arguments: &[&str], patience: &Patience) -> Result<Vec<T>, String> {
    let json = run(arguments, patience).map_err(|error| in_words(&error))?;
    if json.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&json).map_err(|error| not_understood(&error))
}

fn not_understood(error: &serde_json::Error) -> String {
    format!("its answer is not understood: {error}")
}

/// Every container, running or not.
fn containers(patience: &Patience) -> Result<Vec<Container>, String> {
    'anew: for _ in 0..ATTEMPTS {
        let ids =
            run(&["ps", "--all", "--quiet", "--no-trunc"], patience).map_err(|error| in_words(&error))?;
        let ids: Vec<&str> = ids.split_ascii_whitespace().collect();
        patience.count(ids.len());
        let mut containers = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            match run(&[&["container", "inspect"], some].concat(), patience) {
                Ok(json) => {
                    let found: Vec<Inspected> =
                        serde_json::from_str(&json).map_err(|error| not_understood(&error))?;
                    for one in found {
                        containers.push(one.container(patience)?);
                    }
                }
                Err(CommandError::Failed { stderr, .. }) if stderr.contains("no such container") => {
                    continue 'anew;
                }
                Err(error) => return Err(in_words(&error)),
            }
        }
        return Ok(containers);
    }
    Err("its containers come and go too quickly".to_owned())
}

fn run(arguments: &[&str], patience: &Patience) -> Result<String, CommandError> {
    // Programs are started without any variable but those that are named to them.
    let variable = |name: &&str| {
        let mut assignment = OsString::from(format!("{name}="));
        assignment.push(std::env::var_os(name)?);
        Some(assignment)
    };
    let surroundings = SURROUNDINGS.iter().filter_map(variable);
    let command = std::iter::once("podman").chain(arguments.iter().copied()).map(OsString::from);
    let program = Program {
        name: "env",
        arguments: surroundings.chain(command).collect(),
        input: Input::default(),
        good: &[0],
        limit: patience.left(),
        environment: &[],
        outlives_us: false,
    };
    Ok(SystemRunner.run(&program)?.stdout)
}

/// In its own words: the line that was run is long.
fn in_words(error: &CommandError) -> String {
    match error {
        CommandError::Failed { stderr, status, .. } => match stderr.lines().last() {
            Some(line) => format!("podman: {line}"),
            None => format!("podman: {status}"),
        },
        CommandError::Timeout { seconds, .. } => format!("podman gave no answer within {seconds} s"),
        other => other.to_string(),
    }
}
