//! What each service gets, and which volumes there are: decided from the files alone, before anything is made.

use std::collections::BTreeMap;

use super::{
    declared::{self, NamedVolume},
    error::ComposeError,
    merge::SERVICES,
    mounts::{self, Access, Other, Reading, ServiceMount, Source},
    node::{Map, Node, Place, Wrong},
};
use crate::host::names;

/// What a Compose file asks for.
#[derive(Debug)]
pub(in super::super) struct Plan {
    pub(in super::super) stack: String,
    pub(in super::super) volumes: Vec<NamedVolume>,
    /// Services and jobs of active profiles.
    #[cfg(test)]
    pub(super) services: Vec<String>,
    pub(in super::super) mounts: Vec<ServiceMount>,
    /// What the user should know of the files, but need not change.
    pub(in super::super) notes: Vec<String>,
    /// Services that no active profile has, with their profiles.
    pub(in super::super) left_out: Vec<String>,
    /// What can't be honoured.
    pub(in super::super) problems: Vec<ComposeError>,
    /// Where each declared volume says what it shall be.
    places: BTreeMap<String, Place>,
}

impl Plan {
    /// The volume of a key in the file.
    pub(in super::super) fn declared(&self, key: &str) -> Option<&NamedVolume> {
        self.volumes.iter().find(|volume| volume.key == key)
    }

    /// Notes why the volume of a key can't be made as the file has it.
    pub(in super::super) fn refuse(&mut self, key: &str, reason: &str) {
        if let Some(place) = self.places.get(key) {
            self.problems.push(place.wrong(format!("volume '{key}': {reason}")).into());
        }
    }
}

/// A service of an active profile.
struct Service<'a> {
    /// As results call it.
    name: String,
    content: &'a Map,
}

/// `model`: all files in one, in the long form. `problems`: what was found while they were read.
pub(super) fn plan(
    stack: &str,
    model: &Map,
    profiles: &[String],
    notes: Vec<String>,
    mut problems: Vec<Wrong>,
) -> Result<Plan, ComposeError> {
    if !names::is_valid(stack) || stack == names::STANDALONE {
        return Err(ComposeError::Project(format!(
            "'{stack}' can't be a stack's name: give one with --name, of letters, digits, '_' and '-', not 'local'"
        )));
    }
    let (mut volumes, mut keys, mut places) = (Vec::new(), Vec::new(), BTreeMap::new());
    if let Some(section) = model.get("volumes") {
        for (key, node) in section.map("volumes")?.iter() {
            keys.push(key);
            let options = node.as_map().and_then(|map| map.filled("driver_opts")).unwrap_or(node);
            places.insert(key.to_owned(), options.place.clone());
            match declared::read(stack, key, node, &mut problems) {
                Ok(volume) => volumes.push(volume),
                Err(wrong) => problems.push(wrong),
            }
        }
    }
    volumes.sort_by(|one, other| one.key.cmp(&other.key));
    let (services, left_out) = active(model, profiles)?;
    let mut own = BTreeMap::new();
    for service in &services {
        let mut seen = Vec::new();
        if let Some(list) = service.content.get("volumes") {
            seen =
                Reading { service: &service.name, declared: &keys, problems: &mut problems }.volumes(list)?;
        }
        own.insert(service.name.clone(), seen);
    }
    let mut all = Vec::new();
    for service in &services {
        let behind = &mut vec![service.name.clone()];
        let mut seen = with_others(service, &services, &own, behind, &mut problems)?;
        if let Some(tmpfs) = service.content.get("tmpfs") {
            for mount in mounts::of_tmpfs(&service.name, tmpfs)? {
                if seen.iter().any(|other| other.target == mount.target && other.from.is_none()) {
                    problems.push(
                        tmpfs.wrong(format!("service '{}': two mounts at {}", service.name, mount.target)),
                    );
                }
                seen.push(mount);
            }
        }
        all.extend(seen);
        for (index, hook) in hooks(service.content)?.into_iter().enumerate() {
            let name = format!("{}/pre_start[{index}]", service.name);
            all.extend(Reading { service: &name, declared: &keys, problems: &mut problems }.volumes(hook)?);
        }
    }
    let problems = problems.into_iter().map(ComposeError::from).collect();
    Ok(Plan {
        stack: stack.to_owned(),
        volumes,
        #[cfg(test)]
        services: services.into_iter().map(|service| service.name).collect(),
        mounts: all,
        notes,
        left_out,
        problems,
        places,
    })
}

/// The volumes of what runs before a service.
fn hooks(service: &Map) -> Result<Vec<&Node>, Wrong> {
    let Some(hooks) = service.get("pre_start") else { return Ok(Vec::new()) };
    let maps = hooks.list("pre_start")?.iter().map(|hook| hook.map("an entry of pre_start"));
    Ok(maps.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(|hook| hook.get("volumes")).collect())
}

/// The services and jobs of active profiles by name, and the names of the others.
fn active<'a>(model: &'a Map, profiles: &[String]) -> Result<(Vec<Service<'a>>, Vec<String>), Wrong> {
    static NOTHING: std::sync::LazyLock<Map> = std::sync::LazyLock::new(Map::default);
    let (mut services, mut left_out) = (Vec::new(), Vec::new());
    for section in SERVICES {
        let Some(node) = model.get(section) else { continue };
        for (name, service) in node.map(section)?.iter() {
            let content =
                if service.is_null() { &NOTHING } else { service.map(&format!("service '{name}'"))? };
            let declared = match content.get("profiles") {
                Some(declared) => declared.list(&format!("service '{name}': profiles"))?,
                None => &[],
            };
            let is_asked = |profile: &String| {
                profile == "*" || declared.iter().any(|own| own.as_text() == Some(profile))
            };
            if declared.is_empty() || profiles.iter().any(is_asked) {
                services.push(Service { name: name.to_owned(), content });
            } else {
                let of: Vec<String> = declared.iter().filter_map(Node::scalar).collect();
                left_out.push(format!("{name} ({})", of.join(", ")));
            }
        }
    }
    services.sort_by(|one, other| one.name.cmp(&other.name));
    left_out.sort();
    Ok((services, left_out))
}

/// A service's own mounts, and those of the services whose volumes it takes where it has none at that place.
fn with_others(
    service: &Service<'_>,
    services: &[Service<'_>],
    own: &BTreeMap<String, Vec<ServiceMount>>,
    behind: &mut Vec<String>,
    problems: &mut Vec<Wrong>,
) -> Result<Vec<ServiceMount>, Wrong> {
    let mut seen = own.get(&service.name).cloned().unwrap_or_default();
    let Some(node) = service.content.get("volumes_from") else { return Ok(seen) };
    let what = format!("service '{}': volumes_from", service.name);
    if let Some(twice) = declared::twice(node.list(&what)?) {
        problems.push(twice.wrong(format!("{what}: the same is there twice")));
    }
    for node in node.list(&what)? {
        let text = node.text(&what)?;
        let from = mounts::from(text);
        let theirs = match from.of {
            Other::Container(name) => vec![ServiceMount {
                service: String::new(),
                target: "(as there)".to_owned(),
                source: Source::Engine(format!("container {name}")),
                access: Access::ReadWrite,
                options: Vec::new(),
                from: None,
            }],
            Other::Service(name) => {
                let Some(other) = services.iter().find(|other| other.name == name) else {
                    problems.push(node.wrong(format!(
                        "{what}: there is no service '{name}', or its profile is not active"
                    )));
                    continue;
                };
                if behind.contains(&name) {
                    problems.push(node.wrong(format!("{what}: '{name}' takes its volumes from here")));
                    continue;
                }
                behind.push(name);
                let theirs = with_others(other, services, own, behind, problems)?;
                behind.pop();
                theirs
            }
        };
        for mut mount in theirs {
            if seen.iter().any(|other| other.target == mount.target && !mount.target.starts_with('(')) {
                continue;
            }
            mount.service.clone_from(&service.name);
            mount.from = Some(text.to_owned());
            if from.read_only {
                mount.access = Access::ReadOnly;
            }
            seen.push(mount);
        }
    }
    Ok(seen)
}
