//! Compose files to one model: each over the former, with what it includes and extends.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    interpolate::interpolate,
    merge::{self, SERVICES},
    node::{Map, Node, Place, Value, Wrong},
    paths, short_syntax,
    yaml::{self, Document},
};

/// Keys of a whole file. The others that begin with `x-` are the user's own.
const TOP: [&str; 10] =
    ["version", "name", "include", "services", "jobs", "volumes", "networks", "secrets", "configs", "models"];

/// What decides over the volumes of a service.
const OF_SERVICE: [&str; 6] = ["volumes", "volumes_from", "tmpfs", "extends", "profiles", "pre_start"];

/// A file, read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    /// As messages call it.
    pub(super) shown: Arc<Path>,
    pub(super) text: String,
}

impl Source {
    pub(super) fn read(path: &Path, shown: &Path) -> std::io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        Ok(Self { path: path.to_owned(), shown: Arc::from(shown), text })
    }
}

/// What a file is read with.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// Where the files lie that it includes or extends.
    pub(super) folder: PathBuf,
    /// What the paths of mounts are relative to.
    pub(super) mounts: PathBuf,
    pub(super) environment: BTreeMap<String, String>,
}

impl Scope {
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.environment.get(name).cloned()
    }

    pub(super) fn home(&self) -> Option<&str> {
        self.environment.get("HOME").map(String::as_str).filter(|home| !home.is_empty())
    }
}

/// Reads files; what can't be, but stands in nobody's way, is kept beside.
#[derive(Debug, Default)]
pub(super) struct Loader {
    pub(super) problems: Vec<Wrong>,
    /// What the user should know, but need not change.
    pub(super) notes: Vec<String>,
    /// How many times a file was included.
    pub(super) included: usize,
}

impl Loader {
    /// The files in their order, as one model in the long form with whole paths. `included`: the files that led here.
    pub(super) fn model(
        &mut self,
        files: &[Source],
        scope: &Scope,
        included: &[PathBuf],
    ) -> Result<Map, Wrong> {
        let mut model = Map::default();
        for file in files {
            for document in documents(file, scope)? {
                model = self.upon(model, file, document, scope, included)?;
            }
        }
        resolve(&mut model, &scope.mounts, scope.home());
        Ok(model)
    }

    fn upon(
        &mut self,
        mut model: Map,
        file: &Source,
        document: Document,
        scope: &Scope,
        included: &[PathBuf],
    ) -> Result<Map, Wrong> {
        let Document { root, resets } = document;
        let Value::Map(mut top) = root.value else {
            return Err(root.place.wrong("a Compose file must be a mapping: services, volumes …"));
        };
        for (key, value) in top.iter() {
            if !TOP.contains(&key) && !key.starts_with("x-") {
                self.problem(value.wrong(format!("'{key}' is no key of a Compose file")));
            }
        }
        if let Some(name) = top.filled("name") {
            name.text("the project's name")?;
        }
        for section in SERVICES.into_iter().chain(["volumes"]) {
            let of_section = top.get(section).and_then(Node::as_map);
            for (name, value) in of_section.into_iter().flat_map(Map::iter) {
                if !is_name(name) {
                    self.problem(value.wrong(format!(
                        "{section}: '{name}' can't be a name: write letters, digits, '.', '_' and '-'"
                    )));
                }
            }
        }
        let mut included = included.to_vec();
        included.push(file.path.clone());
        self.include(&mut top, &resets, scope, &included)?;
        merge::reset(&mut model, &resets);
        self.extend(&mut top, &resets, file, scope)?;
        self.merged(model, top)
    }

    /// Puts one part upon the other, in the long form.
    pub(super) fn merged(&mut self, model: Map, top: Map) -> Result<Map, Wrong> {
        let mut model = merge::merge_maps(model, top, &mut Vec::new())?;
        merge::keep_last_of_each(&mut model)?;
        self.long_form(&mut model);
        merge::keep_last_of_each(&mut model)?;
        Ok(model)
    }

    pub(super) fn problem(&mut self, wrong: Wrong) {
        let same = |own: &Wrong| {
            own.reason == wrong.reason
                && (own.place.line, own.place.column) == (wrong.place.line, wrong.place.column)
        };
        if !self.problems.iter().any(same) {
            self.problems.push(wrong);
        }
    }

    fn long_form(&mut self, model: &mut Map) {
        for section in SERVICES {
            for (name, service) in entries(model, section) {
                if let Some(Node { value: Value::List(list), .. }) = service.get_mut("volumes") {
                    self.long_volumes(name, list);
                }
                if let Some(Node { value: Value::List(hooks), .. }) = service.get_mut("pre_start") {
                    for hook in hooks {
                        if let Value::Map(hook) = &mut hook.value
                            && let Some(Node { value: Value::List(list), .. }) = hook.get_mut("volumes")
                        {
                            self.long_volumes(name, list);
                        }
                    }
                }
            }
        }
        for (_, volume) in entries(model, "volumes") {
            if let Some(external) = volume.get("external").cloned()
                && let Value::Map(old) = &external.value
            {
                for (key, value) in old.iter() {
                    if key != "name" && !key.starts_with("x-") {
                        self.problem(value.wrong(format!("external: key '{key}' is not known: name is")));
                    }
                }
                if let Some(name) = old.get("name") {
                    match volume.get("name") {
                        Some(own) if own != name => self.problem(external.wrong(
                            "'name' and 'external.name' differ: write 'name' alone, with 'external: true'",
                        )),
                        _ => volume.set("name", name.clone()),
                    }
                }
                volume.set("external", Node::new(&external.place, Value::Flag(true)));
            }
        }
    }

    fn long_volumes(&mut self, service: &str, list: &mut Vec<Node>) {
        for node in std::mem::take(list) {
            match &node.value {
                Value::Text(text) => match short_syntax::read(text, &node.place) {
                    Ok(long) => {
                        let note = format!(
                            "'{text}' of service '{service}' is a drive of Windows to Compose itself: give the volume two letters"
                        );
                        if short_syntax::is_of_one_letter(text) && !self.notes.contains(&note) {
                            self.notes.push(note);
                        }
                        list.push(long);
                    }
                    Err(reason) => self.problem(node.wrong(format!("service '{service}': {reason}"))),
                },
                _ => list.push(node),
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.bytes().all(fits)
}

/// The mappings of a section.
fn entries<'a>(model: &'a mut Map, section: &str) -> impl Iterator<Item = (&'a str, &'a mut Map)> {
    let section = match model.get_mut(section) {
        Some(Node { value: Value::Map(map), .. }) => Some(map),
        _ => None,
    };
    section.into_iter().flat_map(Map::iter_mut).filter_map(|(name, node)| match &mut node.value {
        Value::Map(map) => Some((name, map)),
        _ => None,
    })
}

/// The documents of a file: of what concerns volumes, with variables put in.
pub(super) fn documents(file: &Source, scope: &Scope) -> Result<Vec<Document>, Wrong> {
    let mut documents = yaml::documents(&file.text, &file.shown)?;
    for document in &mut documents {
        if let Value::Map(top) = &mut document.root.value {
            for section in SERVICES {
                for (_, service) in entries(top, section) {
                    service.retain(|key| OF_SERVICE.contains(&key));
                    if let Some(Node { value: Value::List(hooks), .. }) = service.get_mut("pre_start") {
                        for hook in hooks {
                            if let Value::Map(hook) = &mut hook.value {
                                hook.retain(|key| key == "volumes");
                            }
                        }
                    }
                }
            }
            for (key, node) in top.iter_mut() {
                if ["services", "jobs", "volumes", "include"].contains(&key) {
                    put_variables_in(node, &|name| scope.variable(name))?;
                }
            }
        }
    }
    Ok(documents)
}

fn put_variables_in(node: &mut Node, variable: &dyn Fn(&str) -> Option<String>) -> Result<(), Wrong> {
    match &mut node.value {
        Value::Text(text) if text.contains('$') => {
            *text = interpolate(text, variable).map_err(|reason| node.place.wrong(reason))?;
        }
        Value::List(list) => list.iter_mut().try_for_each(|node| put_variables_in(node, variable))?,
        Value::Map(map) => map.iter_mut().try_for_each(|(_, node)| put_variables_in(node, variable))?,
        _ => {}
    }
    Ok(())
}

/// Makes paths whole: of folders that are mounted, of devices that are folders, and of files that are extended.
pub(super) fn resolve(model: &mut Map, folder: &Path, home: Option<&str>) {
    let whole = |node: &mut Node| {
        if let Value::Text(text) = &mut node.value {
            *text = paths::resolve(folder, text, home);
        }
    };
    let mounts = |list: &mut Node| {
        let Value::List(list) = &mut list.value else { return };
        for node in list {
            if let Value::Map(mount) = &mut node.value
                && mount.get("type").and_then(Node::as_text) == Some("bind")
                && let Some(source) = mount.get_mut("source")
            {
                whole(source);
            }
        }
    };
    for section in SERVICES {
        for (_, service) in entries(model, section) {
            if let Some(list) = service.get_mut("volumes") {
                mounts(list);
            }
            if let Some(Node { value: Value::List(hooks), .. }) = service.get_mut("pre_start") {
                for hook in hooks {
                    if let Value::Map(hook) = &mut hook.value
                        && let Some(list) = hook.get_mut("volumes")
                    {
                        mounts(list);
                    }
                }
            }
            if let Some(Node { value: Value::Map(extends), .. }) = service.get_mut("extends")
                && let Some(file) = extends.get_mut("file")
            {
                whole(file);
            }
        }
    }
    for (_, volume) in entries(model, "volumes") {
        if volume.get("driver").and_then(Node::as_text) == Some("local")
            && let Some(Node { value: Value::Map(options), .. }) = volume.get_mut("driver_opts")
            && options.get("o").and_then(Node::as_text) == Some("bind")
            && let Some(device) = options.get_mut("device")
        {
            whole(device);
        }
    }
}

/// Whether a path names something of another machine, which `docker compose` would fetch.
pub(super) fn is_remote(path: &str) -> bool {
    ["oci://", "git://", "ssh://", "https://", "http://", "git@", "github.com/"]
        .iter()
        .any(|start| path.starts_with(start))
}

/// Where a path leads that a file names.
pub(super) fn beside(folder: &Path, path: &str) -> PathBuf {
    PathBuf::from(paths::clean(&folder.join(path).to_string_lossy()))
}

/// A file that another one names, at `place`.
pub(super) fn referred(path: &Path, place: &Place) -> Result<Source, Wrong> {
    Source::read(path, &shown(path))
        .map_err(|error| place.wrong(format!("can't read the Compose file {}: {error}", path.display())))
}

/// From the current folder, where it lies below that.
pub(super) fn shown(path: &Path) -> PathBuf {
    let current = std::env::current_dir().ok();
    let below = current.and_then(|current| path.strip_prefix(current).ok().map(Path::to_owned));
    below.filter(|below| !below.as_os_str().is_empty()).unwrap_or_else(|| path.to_owned())
}
