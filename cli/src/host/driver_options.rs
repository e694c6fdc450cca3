//! What a driver's options ask for: alike in a Compose file and from an engine, which hands on what the file says.

use std::{collections::BTreeMap, path::Path};

use super::{
    Error, access,
    keys::{self, GivenKey},
    masked,
    names::STANDALONE,
    shape::Words,
    volumes::NewVolume,
};
use crate::{labels, sizes};

/// Of these `tier` counts on a cluster alone.
const OURS: [&str; 9] = ["size", "filesystem", "pool", "key-file", "stack", "uid", "gid", "mode", "tier"];

/// Options by our names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DriverOptions(BTreeMap<String, String>);

/// An option that can't be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// As it was given.
    pub(super) option: String,
    pub(super) reason: String,
}

impl From<Unfit> for Error {
    fn from(unfit: Unfit) -> Self {
        Self::InvalidArgument(unfit.reason)
    }
}

impl DriverOptions {
    /// What is given, by our names, and what of it can't be.
    pub(super) fn read(given: &BTreeMap<String, String>) -> (Self, Vec<Unfit>) {
        let (mut options, mut unfit) = (BTreeMap::new(), Vec::new());
        for (form, text) in given {
            let mut is_secret = false;
            for (option, value) in spread(form, text) {
                // What follows a password in a list may be a part of it.
                let shown = if is_secret { masked::MASK } else { option };
                is_secret |= masked::is_secret(option) && !OURS.contains(&option);
                let reason = reason_against(option, shown, value).or_else(|| {
                    let value = value.unwrap_or_default();
                    let other = options.insert(option.to_owned(), value.to_owned())?;
                    (other != value).then(|| {
                        format!(
                            "driver option '{option}' is given as '{other}' and as '{value}': give it once"
                        )
                    })
                });
                unfit.extend(reason.map(|reason| Unfit { option: form.clone(), reason }));
            }
        }
        (Self(options), unfit)
    }

    pub(super) fn get(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(String::as_str)
    }

    /// Each as `key=value`.
    pub(super) fn labels(&self) -> impl Iterator<Item = String> {
        let label =
            |(option, value): (&String, &String)| Some(format!("{}={value}", option.strip_prefix("label.")?));
        self.0.iter().filter_map(label)
    }

    /// The key, read from its file.
    pub(super) fn key(&self) -> Result<Option<GivenKey>, Error> {
        self.get("key-file").map(|file| keys::file(Path::new(file))).transpose()
    }

    /// What the volume shall be, with these labels and those of the options; its key is not read.
    pub(super) fn new_volume(&self, more: &[String]) -> Result<NewVolume, Error> {
        let named = |option: &str| format!("driver option '{option}'");
        let words = Words {
            size: self.get("size"),
            filesystem: self.get("filesystem"),
            pool: self.get("pool"),
            encryption: self.get("key-file").map(|_| "key-file"),
        };
        let shape = words.shape(named)?;
        let folder = access::Words { uid: self.get("uid"), gid: self.get("gid"), mode: self.get("mode") };
        let access = folder.access(named)?;
        let labels = labels::parse(&more.iter().cloned().chain(self.labels()).collect::<Vec<_>>())?;
        let by_full_name = self.get("stack").is_none();
        Ok(NewVolume { labels, shape, access, key: None, filling: None, by_full_name, stack: None })
    }
}

/// `o` has several, as it has for the engines' own driver; Podman takes some out of it and writes them large. `None`: a word without a value.
fn spread<'a>(form: &'a str, text: &'a str) -> Vec<(&'a str, Option<&'a str>)> {
    let pair = |part: &'a str| match part.split_once('=') {
        Some((option, value)) => (option, Some(value)),
        None => (part, None),
    };
    match form {
        "o" => text.split(',').filter(|part| !part.is_empty()).map(pair).collect(),
        "UID" => vec![("uid", Some(text))],
        "GID" => vec![("gid", Some(text))],
        "SIZE" => vec![("size", Some(text))],
        option => vec![(option, Some(text))],
    }
}

/// Why an option can't be, or its value, as far as one can tell of it alone. `shown`: what it is called.
fn reason_against(option: &str, shown: &str, value: Option<&str>) -> Option<String> {
    let known = || format!("{} and label.KEY are", OURS.join(", "));
    let Some(value) = value else {
        return Some(format!(
            "'{shown}' in driver option 'o' is not known: {}, each with = and a value",
            known()
        ));
    };
    match option {
        "size" if sizes::parse(value).is_none() => {
            let shown: String = value.escape_debug().take(40).collect();
            Some(format!("size '{shown}' is not valid: write {}", sizes::FORM))
        }
        "stack" if value == STANDALONE => Some(format!(
            "driver option 'stack' can't be '{STANDALONE}', as volumes of no stack lie there: leave it out"
        )),
        "passphrase" | "passphrase-file" => Some(format!(
            "driver option '{option}' is not known: nobody can be asked for a passphrase when a container starts; use 'key-file', or make the volume with tierce --host volume create"
        )),
        ours if OURS.contains(&ours) || ours.starts_with("label.") => None,
        _ => Some(format!("driver option '{shown}' is not known: {}", known())),
    }
}
