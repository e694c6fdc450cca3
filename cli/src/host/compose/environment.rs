//! What decides over a project before its files are read: the environment, environment files, which files, and the project's name.

use std::{
    collections::BTreeMap,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    dotenv,
    error::ComposeError,
    interpolate::interpolate,
    load::{Source, shown},
    node::{Node, Value},
    yaml,
};
use crate::args::StackFile;

/// File names that are looked for, the first that is there.
const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// What is to be loaded.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) files: Vec<Source>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) profiles: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Where the command runs.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) folder: PathBuf,
    pub(super) environment: BTreeMap<String, String>,
}

impl Surroundings {
    pub(super) fn of_process() -> Result<Self, ComposeError> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self { folder: current_folder()?, environment })
    }
}

/// Finds out what is to be loaded, in the order of `docker compose`.
pub(super) fn project(asked: &StackFile, around: Surroundings) -> Result<Project, ComposeError> {
    let Surroundings { folder: current, mut environment } = around;
    environment.entry("PWD".to_owned()).or_insert_with(|| current.display().to_string());
    let mut env_files: Vec<PathBuf> = asked.env_file.clone();
    if let Some(files) = environment.get("COMPOSE_ENV_FILES").filter(|_| env_files.is_empty()) {
        env_files = files.split(',').map(PathBuf::from).collect();
    }
    let by_default = !is_true(&environment, "COMPOSE_DISABLE_ENV_FILE")?;
    let env_files_of = |folder: &Path| match folder.join(".env") {
        _ if !env_files.is_empty() => env_files.iter().map(|file| current.join(file)).collect(),
        own if by_default && own.is_file() => vec![own],
        _ => Vec::new(),
    };
    let folder_of = |files: &[PathBuf]| {
        let first = files.iter().find(|file| file.as_os_str() != "-").and_then(|file| file.parent());
        match (&asked.project_directory, first) {
            (Some(folder), _) => super::load::beside(&current, &folder.to_string_lossy()),
            (None, Some(folder)) => super::load::beside(&current, &folder.to_string_lossy()),
            (None, None) => current.clone(),
        }
    };
    let mut files = asked.file.clone();
    add(&mut environment, &env_files_of(&folder_of(&files)))?;
    let mut notes = Vec::new();
    if files.is_empty() {
        files = named_by_environment(&environment, &current)?;
    }
    if files.is_empty() {
        files = found(&folder_of(&[]), &mut notes)?;
    }
    let folder = folder_of(&files);
    add(&mut environment, &env_files_of(&folder))?;
    let profiles = match environment.get("COMPOSE_PROFILES") {
        _ if !asked.profile.is_empty() => asked.profile.clone(),
        None => vec![String::new()],
        Some(profiles) => profiles.split(',').map(|profile| profile.trim().to_owned()).collect(),
    };
    let files = files.iter().map(|file| read(file, &current)).collect::<Result<Vec<_>, _>>()?;
    let name = name(asked, &environment, &files, &folder)?;
    environment.insert("COMPOSE_PROJECT_NAME".to_owned(), name.clone());
    Ok(Project { name, folder, files, environment, profiles, notes })
}

/// The current folder, by the name that the shell has for it: it may have come there by a link.
fn current_folder() -> Result<PathBuf, ComposeError> {
    let unknown = |source| ComposeError::Read { path: PathBuf::from("."), source };
    let real = std::fs::metadata(".").map_err(unknown)?;
    if let Some(named) = std::env::var_os("PWD").map(PathBuf::from)
        && named.is_absolute()
        && std::fs::metadata(&named).is_ok_and(|named| (named.dev(), named.ino()) == (real.dev(), real.ino()))
    {
        return Ok(named);
    }
    std::env::current_dir().map_err(unknown)
}

fn is_true(environment: &BTreeMap<String, String>, name: &str) -> Result<bool, ComposeError> {
    match environment.get(name).map(String::as_str) {
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some(other) => Err(ComposeError::Project(format!("{name} is '{other}': write true or false"))),
    }
}

/// Adds what environment files set and the environment does not have.
pub(super) fn add(environment: &mut BTreeMap<String, String>, files: &[PathBuf]) -> Result<(), ComposeError> {
    let mut set = BTreeMap::new();
    for path in files {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ComposeError::EnvironmentFile { path: shown(path), source })?;
        dotenv::read(&text, &mut set, &|name| environment.get(name).cloned())
            .map_err(|(line, reason)| ComposeError::Wrong { path: shown(path), line, column: 1, reason })?;
    }
    for (name, value) in set {
        environment.entry(name).or_insert(value);
    }
    Ok(())
}

fn named_by_environment(
    environment: &BTreeMap<String, String>,
    current: &Path,
) -> Result<Vec<PathBuf>, ComposeError> {
    let Some(files) = environment.get("COMPOSE_FILE") else { return Ok(Vec::new()) };
    let separator = environment.get("COMPOSE_PATH_SEPARATOR").filter(|text| !text.is_empty());
    let files = files.split(separator.map_or(":", String::as_str)).map(PathBuf::from);
    let checked = |file: PathBuf| {
        if file.as_os_str() == "-" || current.join(&file).is_file() {
            return Ok(file);
        }
        Err(ComposeError::Project(format!("COMPOSE_FILE names '{}', which is no file", file.display())))
    };
    files.map(checked).collect()
}

/// The file of a default name in a folder, or in the next one above that has any; and what overrides it.
fn found(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<PathBuf>, ComposeError> {
    for folder in folder.ancestors() {
        let mut files = Vec::new();
        for names in [NAMES, OVERRIDES] {
            let there: Vec<PathBuf> =
                names.iter().map(|name| folder.join(name)).filter(|file| file.exists()).collect();
            if let [first, _, ..] = there.as_slice() {
                let all: Vec<String> = there.iter().map(|file| shown(file).display().to_string()).collect();
                notes.push(format!("Of {} the first counts, {}", all.join(", "), shown(first).display()));
            }
            files.extend(there.into_iter().next());
            if files.is_empty() {
                break;
            }
        }
        if !files.is_empty() {
            return Ok(files);
        }
    }
    Err(ComposeError::Project(format!(
        "there is no Compose file ({}) in {} or any folder above it: name one with --file",
        NAMES.join(", "),
        folder.display()
    )))
}

fn read(file: &Path, current: &Path) -> Result<Source, ComposeError> {
    let failed = |source| ComposeError::Read { path: file.to_owned(), source };
    if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(Source {
            path: PathBuf::from("-"),
            shown: Arc::from(Path::new("(standard input)")),
            text,
        });
    }
    let path = super::load::beside(current, &file.to_string_lossy());
    let name = if file.is_absolute() { shown(&path) } else { file.to_owned() };
    Source::read(&path, &name).map_err(failed)
}

/// The project's name: of the command line, the environment, a file (the last that has one), or the folder.
fn name(
    asked: &StackFile,
    environment: &BTreeMap<String, String>,
    files: &[Source],
    folder: &Path,
) -> Result<String, ComposeError> {
    if let Some(name) = &asked.name {
        return Ok(name.clone());
    }
    if let Some(name) = environment.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()) {
        if normalised(name) == *name {
            return Ok(name.clone());
        }
        return Err(ComposeError::Project(format!(
            "COMPOSE_PROJECT_NAME is '{name}': write small letters, digits, '_' and '-', beginning with a letter or digit"
        )));
    }
    let mut named = None;
    for file in files {
        // What can't be read is told when the file is loaded.
        for document in yaml::documents(&file.text, &file.shown).unwrap_or_default() {
            let Some(name) = document.root.as_map().and_then(|top| top.filled("name")).cloned() else {
                continue;
            };
            if name.scalar().is_some_and(|text| !text.is_empty()) {
                named = Some(name);
            }
        }
    }
    let Some(named) = named else {
        let last = folder.file_name().unwrap_or_default().to_string_lossy();
        return Ok(normalised(&last));
    };
    of_file(&named, environment)
}

fn of_file(named: &Node, environment: &BTreeMap<String, String>) -> Result<String, ComposeError> {
    if !matches!(named.value, Value::Text(_)) {
        return Err(named.wrong("the project's name must be a text").into());
    }
    let text = named.scalar().unwrap_or_default();
    let text =
        interpolate(&text, &|name| environment.get(name).cloned()).map_err(|reason| named.wrong(reason))?;
    let name = normalised(&text);
    if name.is_empty() {
        return Err(named.wrong(format!("nothing of '{text}' can stand in a project's name")).into());
    }
    Ok(name)
}

/// A name as Compose makes a project's name of it.
pub(super) fn normalised(name: &str) -> String {
    let name = name.to_lowercase();
    let allowed: String =
        name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
    allowed.trim_start_matches(['_', '-']).to_owned()
}
