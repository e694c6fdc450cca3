//! `extends`: a service that begins with what another one has, of the same file or of another.

use std::path::{Path, PathBuf};

use super::{
    include::below,
    load::{Loader, Scope, Source, beside, documents, is_remote, referred, resolve},
    merge::{self, SERVICES},
    node::{Map, Node, Value, Wrong},
};

/// The services of one file, and what its marks take away.
struct Base {
    services: Map,
    resets: Vec<Vec<String>>,
    path: PathBuf,
}

impl Loader {
    /// Completes the services of a file with what they extend.
    pub(super) fn extend(
        &mut self,
        top: &mut Map,
        resets: &[Vec<String>],
        file: &Source,
        scope: &Scope,
    ) -> Result<(), Wrong> {
        for section in SERVICES {
            let Some(node) = top.get_mut(section) else { continue };
            let place = node.place.clone();
            let services = node.map(section)?.clone();
            let names: Vec<String> = services.iter().map(|(name, _)| name.to_owned()).collect();
            let mut base = Base { services, resets: resets.to_vec(), path: file.path.clone() };
            for name in names {
                let whole = self.extended(&name, &mut base, scope, &[])?;
                base.services.set(&name, whole);
            }
            *node = Node::new(&place, Value::Map(base.services));
        }
        Ok(())
    }

    /// A service with all that it extends. `behind`: the services that led here.
    fn extended(
        &mut self,
        name: &str,
        base: &mut Base,
        scope: &Scope,
        behind: &[(PathBuf, String)],
    ) -> Result<Node, Wrong> {
        let Some(service) = base.services.get(name).cloned() else { return Ok(null(base)) };
        if service.is_null() {
            return Ok(service);
        }
        let mut own = service.map(&format!("service '{name}'"))?.clone();
        let Some(extends) = own.get("extends").cloned() else { return Ok(service) };
        let (of, file) = named(name, &extends)?;
        let step = (base.path.clone(), name.to_owned());
        if behind.contains(&step) {
            return Err(extends.wrong(format!("service '{name}' extends itself")));
        }
        let behind: Vec<_> = behind.iter().cloned().chain([step]).collect();
        let missing = |file: &Path| {
            extends.wrong(format!("service '{name}' extends '{of}', which {} does not have", file.display()))
        };
        let from = match file {
            Some(file) if is_remote(file) => {
                self.problem(
                    extends.wrong(format!("extends: '{file}' is of another machine, and is not fetched")),
                );
                own.remove("extends");
                return Ok(Node::new(&service.place, Value::Map(own)));
            }
            Some(file) => {
                let mut other = self.base(&beside(&scope.folder, file), &extends, scope)?;
                if other.services.get(of).is_none() {
                    return Err(missing(&other.path));
                }
                self.extended(of, &mut other, scope, &behind)?
            }
            None if base.services.get(of).is_none() => return Err(missing(&extends.place.file)),
            None => self.extended(of, base, scope, &behind)?,
        };
        let mut whole = match from.value {
            Value::Map(mut from) => {
                merge::reset(&mut from, &below(&base.resets, &["services", name]));
                merge::merge_maps(from, own, &mut vec!["services".to_owned(), name.to_owned()])?
            }
            _ => own,
        };
        whole.remove("extends");
        let whole = Node::new(&service.place, Value::Map(whole));
        base.services.set(name, whole.clone());
        Ok(whole)
    }

    /// The services of another file, in the long form, with paths from there. What it includes does not count.
    fn base(&mut self, path: &Path, extends: &Node, scope: &Scope) -> Result<Base, Wrong> {
        let file = referred(path, &extends.place)?;
        let (mut model, mut resets) = (Map::default(), Vec::new());
        for document in documents(&file, scope)? {
            let Value::Map(mut top) = document.root.value else {
                return Err(document
                    .root
                    .place
                    .wrong("a Compose file must be a mapping: services, volumes …"));
            };
            top.retain(|key| SERVICES.contains(&key));
            merge::reset(&mut model, &document.resets);
            resets = document.resets;
            long_extends(&mut top);
            model = self.merged(model, top)?;
        }
        resolve(&mut model, path.parent().unwrap_or_else(|| Path::new("/")), scope.home());
        let services = match model.remove("services") {
            Some(services) => services.map("services")?.clone(),
            None => Map::default(),
        };
        Ok(Base { services, resets, path: path.to_owned() })
    }
}

/// Before files are merged: the short form of `extends` names a service only.
fn long_extends(top: &mut Map) {
    let Some(Node { value: Value::Map(services), .. }) = top.get_mut("services") else { return };
    for (_, service) in services.iter_mut() {
        if let Value::Map(service) = &mut service.value
            && let Some(extends) = service.get_mut("extends")
            && let Value::Text(_) = &extends.value
        {
            let mut map = Map::default();
            map.set("service", extends.clone());
            extends.value = Value::Map(map);
        }
    }
}

fn null(base: &Base) -> Node {
    let file = std::sync::Arc::from(base.path.as_path());
    Node::new(&super::node::Place::start(&file), Value::Null)
}

/// The service that is extended, and its file where that is another.
fn named<'a>(name: &str, extends: &'a Node) -> Result<(&'a str, Option<&'a str>), Wrong> {
    if let Value::Text(service) = &extends.value {
        return Ok((service, None));
    }
    let what = format!("service '{name}': extends");
    let map = extends.map(&what)?;
    if let Some((key, value)) = map.iter().find(|(key, _)| !["service", "file"].contains(key)) {
        return Err(value.wrong(format!("{what}: key '{key}' is not known: service and file are")));
    }
    let of = map.filled("service").ok_or_else(|| extends.wrong(format!("{what} names no service")))?;
    let file = map.filled("file").map(|file| file.text(&what)).transpose()?;
    Ok((of.text(&what)?, file))
}
