//! What each service gets: decided from the file alone, before anything is made.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_saphyr::Spanned;

use super::{
    file::{File, LongMount, Mount, TopVolume, Wrong},
    interpolate::interpolate,
};
use crate::{
    host::names::{self, Name},
    sizes,
};

/// Drivers that mean us.
const DRIVERS: [&str; 3] = ["", "local", "tierce"];

/// What a Compose file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Plan {
    pub(in super::super) stack: String,
    pub(in super::super) volumes: Vec<NamedVolume>,
    pub(in super::super) mounts: Vec<ServiceMount>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct NamedVolume {
    /// Its key in the file.
    pub(in super::super) key: String,
    pub(in super::super) full: String,
    /// Its place; `None`: it is external, so only its full name is known.
    pub(in super::super) name: Option<Name>,
    /// `size`, `filesystem`, `tier` (of a cluster), `pool` (of a host).
    pub(in super::super) options: BTreeMap<String, String>,
    pub(in super::super) labels: Vec<String>,
}

/// One thing that a service sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ServiceMount {
    pub(in super::super) service: String,
    pub(in super::super) target: String,
    pub(in super::super) source: Source,
    pub(in super::super) access: Access,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Source {
    /// A named volume, by full name.
    Volume(String),
    /// A path of the host, absolute.
    Bind(PathBuf),
    /// A volume without a name, which the engine of the containers makes and removes.
    Anonymous,
    Tmpfs,
}

/// What a service may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Access {
    ReadWrite,
    ReadOnly,
}

type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `folder`: where the file lies; relative paths begin there.
pub(super) fn plan(
    file: &File,
    folder: &Path,
    name: Option<&str>,
    environment: Environment<'_>,
) -> Result<Plan, Wrong> {
    let start = |reason: String| Wrong { line: 1, column: 1, reason };
    let folder = std::path::absolute(folder).map_err(|error| start(error.to_string()))?;
    let stack = match (name, &file.name) {
        (Some(name), _) => name.to_owned(),
        (None, Some(name)) => {
            interpolate(&name.value, environment).map_err(|reason| Wrong::at(name, reason))?
        }
        (None, None) => from_folder(&folder),
    };
    if !names::is_valid(&stack) || stack == names::STANDALONE {
        let reason = format!(
            "'{stack}' can't be a stack's name: give one with --name, of letters, digits, '_' and '-', not 'local'"
        );
        return Err(file
            .name
            .as_ref()
            .map_or_else(|| start(reason.clone()), |name| Wrong::at(name, reason.clone())));
    }
    let top = |(key, volume): (&String, &Spanned<Option<TopVolume>>)| {
        let read = named(&stack, key, volume.value.as_ref(), environment);
        read.map_err(|reason| Wrong::at(volume, format!("volume '{key}': {reason}")))
    };
    let volumes = file.volumes.iter().map(top).collect::<Result<Vec<_>, _>>()?;
    let mut mounts = Vec::new();
    for (service, content) in &file.services {
        for mount in content.iter().flat_map(|service| &service.volumes) {
            let read = service_mount(service, &mount.value, &volumes, &folder, environment);
            mounts.push(read.map_err(|reason| Wrong::at(mount, format!("service '{service}': {reason}")))?);
        }
    }
    Ok(Plan { stack, volumes, mounts })
}

/// The folder's name as Compose makes a project's name of it.
fn from_folder(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let allowed: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
    allowed.trim_start_matches(['_', '-']).to_owned()
}

fn named(
    stack: &str,
    key: &str,
    volume: Option<&TopVolume>,
    environment: Environment<'_>,
) -> Result<NamedVolume, String> {
    let volume = volume.cloned().unwrap_or_default();
    let own_name = volume.name.as_deref().map(|name| interpolate(name, environment)).transpose()?;
    let name = if volume.external {
        None
    } else {
        let place =
            own_name.as_ref().map_or_else(|| Name::new(Some(stack), key), |name| Name::new(None, name));
        Some(place.map_err(|error| error.to_string())?)
    };
    let full = match (&name, own_name) {
        (Some(name), _) => name.full(),
        (None, own_name) => own_name.unwrap_or_else(|| key.to_owned()),
    };
    let driver = volume.driver.unwrap_or_default();
    if !DRIVERS.contains(&driver.as_str()) {
        return Err(format!("driver '{driver}' is not known: leave it out, or write local or tierce"));
    }
    let mut options = BTreeMap::new();
    for (key, value) in &volume.driver_opts {
        if !["size", "filesystem", "tier", "pool"].contains(&key.as_str()) {
            return Err(format!("driver option '{key}' is not known: size, filesystem, tier and pool are"));
        }
        options.insert(key.clone(), interpolate(&value.text(), environment)?);
    }
    if let Some(size) = options.get("size")
        && sizes::parse(size).is_none()
    {
        return Err(format!("size '{size}' is not valid: write {}", sizes::FORM));
    }
    let labels = volume
        .labels
        .texts()
        .iter()
        .map(|label| interpolate(label, environment))
        .collect::<Result<_, _>>()?;
    Ok(NamedVolume { key: key.to_owned(), full, name, options, labels })
}

fn service_mount(
    service: &str,
    mount: &Mount,
    volumes: &[NamedVolume],
    folder: &Path,
    environment: Environment<'_>,
) -> Result<ServiceMount, String> {
    let (source, target, access) = match mount {
        Mount::Short(text) => short(&interpolate(text, environment)?, volumes, folder)?,
        Mount::Long(long) => long_form(long, volumes, folder, environment)?,
    };
    if !target.starts_with('/') {
        return Err(format!("'{target}' is no path in a container: it must begin with /"));
    }
    Ok(ServiceMount { service: service.to_owned(), target, source, access })
}

fn short(text: &str, volumes: &[NamedVolume], folder: &Path) -> Result<(Source, String, Access), String> {
    let mut parts = text.splitn(3, ':');
    let (first, second, options) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let Some(target) = second else { return Ok((Source::Anonymous, first.to_owned(), Access::ReadWrite)) };
    let mut access = Access::ReadWrite;
    for option in options.unwrap_or_default().split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => access = Access::ReadOnly,
            // Labels of SELinux and ways of mounting, which the engine of the containers carries out.
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "nocopy" | "U" => {}
            other => return Err(format!("option '{other}' of '{text}' is not known: ro and rw are")),
        }
    }
    let source = if first.starts_with(['/', '.', '~']) {
        // As Compose itself does, a missing source of the short syntax would be made: we say so instead of guessing.
        Source::Bind(existing(bind_path(first, folder)?, false)?)
    } else {
        declared(first, volumes)?
    };
    Ok((source, target.to_owned(), access))
}

fn long_form(
    long: &LongMount,
    volumes: &[NamedVolume],
    folder: &Path,
    environment: Environment<'_>,
) -> Result<(Source, String, Access), String> {
    let source = long.source.as_deref().map(|text| interpolate(text, environment)).transpose()?;
    let target = interpolate(&long.target, environment)?;
    let access = if long.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let source = match (long.r#type.as_str(), source) {
        ("volume", None) => Source::Anonymous,
        ("volume", Some(name)) => declared(&name, volumes)?,
        ("bind", Some(path)) => {
            let may_be_made = long.bind.as_ref().is_some_and(|bind| bind.create_host_path);
            Source::Bind(existing(bind_path(&path, folder)?, may_be_made)?)
        }
        ("bind", None) => return Err(format!("the bind mount at '{target}' has no source")),
        ("tmpfs", _) => Source::Tmpfs,
        (other, _) => return Err(format!("type '{other}' is not known: volume, bind and tmpfs are")),
    };
    Ok((source, target, access))
}

fn declared(key: &str, volumes: &[NamedVolume]) -> Result<Source, String> {
    let found = volumes.iter().find(|volume| volume.key == key);
    found.map(|volume| Source::Volume(volume.full.clone())).ok_or_else(|| {
        format!("volume '{key}' is not declared: add it below the top-level 'volumes:', or write ./{key} for a folder")
    })
}

fn bind_path(text: &str, folder: &Path) -> Result<PathBuf, String> {
    let path = match text.strip_prefix('~') {
        Some(rest) => {
            let home = std::env::var_os("HOME").ok_or_else(|| format!("'{text}' needs HOME to be set"))?;
            PathBuf::from(home).join(rest.trim_start_matches('/'))
        }
        None => folder.join(text),
    };
    Ok(path.components().collect())
}

fn existing(path: PathBuf, may_be_made: bool) -> Result<PathBuf, String> {
    if path.exists() || may_be_made {
        return Ok(path);
    }
    Err(format!("the bind source {} does not exist: make it first", path.display()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::file, *};

    fn planned(text: &str) -> Result<Plan, Wrong> {
        plan(&file::parse(text)?, Path::new("/tmp"), Some("s"), &|_| None)
    }

    #[test]
    fn both_syntaxes_say_the_same() {
        let plan = planned(
            "services:\n  a:\n    volumes:\n      - data:/d:ro\n      - /:/host\n      - /anonymous\n  b:\n    volumes:\n      - {type: volume, source: data, target: /d, read_only: true}\n      - {type: bind, source: /, target: /host}\n      - {type: volume, target: /anonymous}\n      - {type: tmpfs, target: /t}\n  c:\nvolumes:\n  data:\n",
        )
        .unwrap();
        let of = |service: &str| -> Vec<_> {
            let own = plan.mounts.iter().filter(|mount| mount.service == service);
            own.map(|mount| (mount.target.clone(), mount.source.clone(), mount.access)).collect()
        };
        assert_eq!(of("a"), of("b")[..3]);
        assert_eq!(of("a")[0], ("/d".to_owned(), Source::Volume("s_data".to_owned()), Access::ReadOnly));
    }

    #[test]
    fn names_are_of_the_stack_their_own_or_external() {
        let plan = planned(
            "volumes:\n  a:\n  b: {name: own}\n  c: {external: true}\n  d: {external: true, name: other}\n",
        )
        .unwrap();
        let names: Vec<_> =
            plan.volumes.iter().map(|volume| (volume.full.as_str(), volume.name.is_some())).collect();
        assert_eq!(names, [("s_a", true), ("own", true), ("c", false), ("other", false)]);
    }

    #[test]
    fn what_can_not_be_is_told_with_its_place() {
        for (text, line, part) in [
            ("services:\n  a:\n    volumes:\n      - data:/d\n", 4, "volume 'data' is not declared"),
            ("services:\n  a:\n    volumes:\n      - /nonesuch/x:/d\n", 4, "does not exist"),
            ("services:\n  a:\n    volumes:\n      - /:/d:rx\n", 4, "option 'rx'"),
            ("services:\n  a:\n    volumes:\n      - /:d\n", 4, "must begin with /"),
            ("services:\n  a:\n    volumes:\n      - {type: npipe, target: /d}\n", 4, "type 'npipe'"),
            ("volumes:\n  a:\n    driver: nfs\n", 3, "driver 'nfs' is not known"),
            ("volumes:\n  a:\n    driver_opts: {size: 10GB}\n", 3, "size '10GB' is not valid"),
            ("volumes:\n  a:\n    driver_opts: {o: bind}\n", 3, "driver option 'o'"),
            ("services:\n  a: [\n", 3, ""),
            ("services:\n\ta: b\n", 2, ""),
        ] {
            let wrong = planned(text).unwrap_err();
            assert!(wrong.reason.contains(part), "{text}: {wrong:?}");
            assert!(wrong.line.abs_diff(line) <= 1 && wrong.column > 0, "{text}: {wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_short_syntax_makes_a_name_of_a_path(text in "[a-z./:~,-]{0,20}") {
            let volumes = [named("s", "data", None, &|_| None).unwrap()];
            if let Ok((Source::Volume(name), ..)) = short(&text, &volumes, Path::new("/tmp")) {
                prop_assert_eq!(name, "s_data");
            }
        }

        #[test]
        fn no_text_is_a_panic(text in "(services|volumes|[a-z: \\n{}\\[\\]-]){0,60}") {
            let _ = planned(&text);
        }
    }
}
