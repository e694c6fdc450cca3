//! A Compose file as a tree of values, each with the place where it was written.

use std::{path::Path, sync::Arc};

/// Where something was written. Lines and columns count from 1.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) file: Arc<Path>,
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Place {
    pub(super) fn start(file: &Arc<Path>) -> Self {
        Self { file: Arc::clone(file), line: 1, column: 1 }
    }

    pub(super) fn wrong(&self, reason: impl Into<String>) -> Wrong {
        Wrong { place: self.clone(), reason: reason.into() }
    }
}

/// Something in a file that can't be.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    pub(super) place: Place,
    pub(super) reason: String,
}

/// Two are equal if they say the same, wherever they stand.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Flag(bool),
    /// In the digits that Compose hands on.
    Number(String),
    /// A day, or a moment of one, as Compose writes it where a text is wanted.
    Date(String),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

impl Value {
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Node {
    pub(super) fn new(place: &Place, value: Value) -> Self {
        Self { place: place.clone(), value }
    }

    pub(super) fn wrong(&self, reason: impl Into<String>) -> Wrong {
        self.place.wrong(reason)
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        self.value.as_text()
    }

    pub(super) fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// A text. `what` it is, for the message.
    pub(super) fn text(&self, what: &str) -> Result<&str, Wrong> {
        self.as_text().ok_or_else(|| self.wrong(format!("{what} must be a text, not {}", self.kind())))
    }

    /// A mapping; one that is left empty has nothing in it.
    pub(super) fn map(&self, what: &str) -> Result<&Map, Wrong> {
        match &self.value {
            Value::Map(map) => Ok(map),
            Value::Null => Ok(&EMPTY),
            _ => Err(self.wrong(format!("{what} must be a mapping, not {}", self.kind()))),
        }
    }

    /// A list; one that is left empty has nothing in it.
    pub(super) fn list(&self, what: &str) -> Result<&[Self], Wrong> {
        match &self.value {
            Value::List(list) => Ok(list),
            Value::Null => Ok(&[]),
            _ => Err(self.wrong(format!("{what} must be a list, not {}", self.kind()))),
        }
    }

    /// A text, or a list of them.
    pub(super) fn texts(&self, what: &str) -> Result<Vec<(&str, &Self)>, Wrong> {
        match &self.value {
            Value::Text(text) => Ok(vec![(text, self)]),
            _ => self.list(what)?.iter().map(|node| Ok((node.text(what)?, node))).collect(),
        }
    }

    /// `true`, `false`, and the words that older YAML had for them.
    pub(super) fn flag(&self, what: &str) -> Result<bool, Wrong> {
        match &self.value {
            Value::Flag(flag) => Ok(*flag),
            Value::Null => Ok(false),
            Value::Text(text) => match text.to_lowercase().as_str() {
                "true" | "y" | "yes" | "on" => Ok(true),
                "false" | "n" | "no" | "off" => Ok(false),
                _ => Err(self.wrong(format!("{what} is '{text}': write true or false"))),
            },
            _ => Err(self.wrong(format!("{what} must be true or false, not {}", self.kind()))),
        }
    }

    /// Of a single value the text that it is handed on as.
    pub(super) fn scalar(&self) -> Option<String> {
        match &self.value {
            Value::Null => Some(String::new()),
            Value::Flag(flag) => Some(flag.to_string()),
            Value::Number(text) | Value::Date(text) | Value::Text(text) => Some(text.clone()),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Flag(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Date(_) => "a date: put it in quotes",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

static EMPTY: Map = Map(Vec::new());

/// Keys in the order of the file, each once.
#[derive(Debug, Clone, Default)]
pub(super) struct Map(Vec<(String, Node)>);

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl Map {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.iter_mut().find(|(own, _)| own == key).map(|(_, value)| value)
    }

    /// Of a key that is there and has a value.
    pub(super) fn filled(&self, key: &str) -> Option<&Node> {
        self.get(key).filter(|node| !node.is_null())
    }

    pub(super) fn set(&mut self, key: &str, value: Node) {
        match self.get_mut(key) {
            Some(own) => *own = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    pub(super) fn remove(&mut self, key: &str) -> Option<Node> {
        let at = self.0.iter().position(|(own, _)| own == key)?;
        Some(self.0.remove(at).1)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(key, _)| keep(key));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.0.iter_mut().map(|(key, value)| (key.as_str(), value))
    }
}

impl IntoIterator for Map {
    type Item = (String, Node);
    type IntoIter = std::vec::IntoIter<(String, Node)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
