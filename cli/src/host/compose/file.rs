//! The parts of a Compose file that concern volumes. What else it says is not ours and ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

/// Something in the file that can't be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) reason: String,
}

impl Wrong {
    /// At the place of a value.
    pub(super) fn at<T>(value: &Spanned<T>, reason: String) -> Self {
        Self { line: value.referenced.line().max(1), column: value.referenced.column().max(1), reason }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct File {
    pub(super) name: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) services: BTreeMap<String, Option<Service>>,
    #[serde(default)]
    pub(super) volumes: BTreeMap<String, Spanned<Option<TopVolume>>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Service {
    #[serde(default)]
    pub(super) volumes: Vec<Spanned<Mount>>,
}

/// A service's volume in one of two syntaxes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Mount {
    Short(String),
    Long(LongMount),
}

#[derive(Debug, Deserialize)]
pub(super) struct LongMount {
    pub(super) r#type: String,
    pub(super) source: Option<String>,
    pub(super) target: String,
    #[serde(default)]
    pub(super) read_only: bool,
    pub(super) bind: Option<Bind>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Bind {
    #[serde(default)]
    pub(super) create_host_path: bool,
}

#[derive(Debug, Default, Clone, Deserialize)]
pub(super) struct TopVolume {
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) external: bool,
    pub(super) driver: Option<String>,
    #[serde(default)]
    pub(super) driver_opts: BTreeMap<String, Scalar>,
    #[serde(default)]
    pub(super) labels: Labels,
}

/// A value that Compose files write with or without quotes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Scalar {
    Text(String),
    Number(i64),
    Flag(bool),
}

impl Scalar {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Flag(flag) => flag.to_string(),
        }
    }
}

/// Labels as a map or as a list of `key=value`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Labels {
    Map(BTreeMap<String, Option<Scalar>>),
    List(Vec<String>),
}

impl Default for Labels {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Labels {
    pub(super) fn texts(&self) -> Vec<String> {
        match self {
            Self::List(list) => list.clone(),
            Self::Map(map) => map
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_ref().map(Scalar::text).unwrap_or_default()))
                .collect(),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<File, Wrong> {
    serde_saphyr::from_str(text).map_err(|error| {
        let (line, column) = error.location().map_or((1, 1), |at| (at.line().max(1), at.column().max(1)));
        // The library's message goes on with an excerpt of the file.
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default();
        let reason = first.strip_prefix("error: ").unwrap_or(first);
        let reason = reason
            .split_once(": ")
            .filter(|(at, _)| at.starts_with("line "))
            .map_or(reason, |(_, rest)| rest);
        Wrong { line, column, reason: reason.to_owned() }
    })
}
