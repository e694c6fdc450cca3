//! `include`: other projects' files, read with their own folder and environment.

use std::path::{Path, PathBuf};

use super::{
    environment,
    load::{Loader, Scope, beside, is_remote, referred},
    merge::{self, SERVICES},
    node::{Map, Node, Value, Wrong},
};
use crate::failure;

/// Files that include each other twice would double that with each.
const MOST: usize = 1000;

/// One entry.
struct Included<'a> {
    node: &'a Node,
    paths: Vec<&'a str>,
    env_files: Vec<(&'a str, &'a Node)>,
    project_directory: Option<&'a str>,
}

impl Loader {
    /// Adds what `top` includes to it, and takes the key away.
    pub(super) fn include(
        &mut self,
        top: &mut Map,
        resets: &[Vec<String>],
        scope: &Scope,
        included: &[PathBuf],
    ) -> Result<(), Wrong> {
        let Some(include) = top.remove("include") else { return Ok(()) };
        for node in include.list("include")? {
            let entry = self.entry(node)?;
            if let Some(remote) = entry.paths.iter().find(|path| is_remote(path)) {
                self.problem(
                    node.wrong(format!("include '{remote}' is of another machine, and is not fetched")),
                );
                continue;
            }
            let Some(inner) = self.included(&entry, scope, included)? else { continue };
            for section in SERVICES.into_iter().chain(["volumes"]) {
                if let Some(from) = inner.get(section) {
                    import(top, section, from, resets)?;
                }
            }
        }
        Ok(())
    }

    fn entry<'a>(&mut self, node: &'a Node) -> Result<Included<'a>, Wrong> {
        if let Value::Text(path) = &node.value {
            return Ok(Included { node, paths: vec![path], env_files: Vec::new(), project_directory: None });
        }
        let map = node.map("an entry of include")?;
        for (key, value) in map.iter() {
            if !["path", "env_file", "project_directory"].contains(&key) {
                self.problem(value.wrong(format!(
                    "include: key '{key}' is not known: path, env_file and project_directory are"
                )));
            }
        }
        let paths = map.filled("path").map_or(Ok(Vec::new()), |path| path.texts("include: path"))?;
        Ok(Included {
            node,
            paths: paths.into_iter().map(|(path, _)| path).collect(),
            env_files: map
                .filled("env_file")
                .map_or(Ok(Vec::new()), |file| file.texts("include: env_file"))?,
            project_directory: map
                .filled("project_directory")
                .map(|folder| match &folder.value {
                    Value::Number(text) if text.parse::<i64>().is_ok() => Ok(text.as_str()),
                    _ => folder.text("include: project_directory"),
                })
                .transpose()?,
        })
    }

    fn included(
        &mut self,
        entry: &Included<'_>,
        scope: &Scope,
        included: &[PathBuf],
    ) -> Result<Option<Map>, Wrong> {
        let paths: Vec<PathBuf> = entry.paths.iter().map(|path| beside(&scope.folder, path)).collect();
        let Some(first) = paths.first() else { return Ok(None) };
        if included.contains(first) {
            return Err(entry.node.wrong(format!("{} includes itself", first.display())));
        }
        self.included += paths.len();
        if self.included > MOST {
            return Err(entry
                .node
                .wrong(format!("more than {MOST} files are included, the same ones counted each time")));
        }
        let folder = match entry.project_directory {
            Some(folder) => beside(&scope.folder, folder),
            None => first.parent().unwrap_or_else(|| Path::new("/")).to_owned(),
        };
        // Of a folder that is not there Compose takes the one above for the paths of mounts, if it is named from here.
        let is_whole = entry.project_directory.is_some_and(|folder| folder.starts_with('/'));
        let mounts = match folder.parent() {
            Some(above) if !folder.is_dir() && !is_whole => above.to_owned(),
            _ => folder.clone(),
        };
        let mut environment = scope.environment.clone();
        let own = folder.join(".env");
        let named = entry.env_files.iter().filter(|(file, _)| *file != "/dev/null");
        let mut files: Vec<PathBuf> = named.map(|(file, _)| beside(&scope.folder, file)).collect();
        if entry.env_files.is_empty() && own.is_file() {
            files.push(own);
        }
        let at = entry.env_files.first().map_or(entry.node, |(_, node)| node);
        environment::add(&mut environment, &files).map_err(|error| at.wrong(failure::in_words(&error)))?;
        let files =
            paths.iter().map(|path| referred(path, &entry.node.place)).collect::<Result<Vec<_>, _>>()?;
        self.model(&files, &Scope { folder, mounts, environment }, included).map(Some)
    }
}

/// Adds what a section of an included file has: what the including file says of the same goes over it.
fn import(top: &mut Map, section: &str, from: &Node, resets: &[Vec<String>]) -> Result<(), Wrong> {
    let mut own = match top.remove(section) {
        Some(own) if !own.is_null() => own.map(section)?.clone(),
        _ => Map::default(),
    };
    for (name, theirs) in from.map(section)?.iter() {
        let merged = match own.get(name) {
            Some(ours) if ours != theirs => {
                let mut theirs = theirs.clone();
                if let Value::Map(map) = &mut theirs.value {
                    merge::reset(map, &below(resets, &[section, name]));
                }
                merge::merge(theirs, ours.clone(), &mut vec![section.to_owned(), name.to_owned()])?
            }
            Some(_) => continue,
            None => theirs.clone(),
        };
        own.set(name, merged);
    }
    top.set(section, Node::new(&from.place, Value::Map(own)));
    Ok(())
}

/// Of paths those that lead further than `start`, from there on.
pub(super) fn below(paths: &[Vec<String>], start: &[&str]) -> Vec<Vec<String>> {
    let further = |path: &&Vec<String>| {
        path.len() > start.len() && path.iter().zip(start).all(|(own, other)| own == other)
    };
    paths.iter().filter(further).map(|path| path[start.len()..].to_vec()).collect()
}
