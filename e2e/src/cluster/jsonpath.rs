//! `JSONPath` as kubectl has it, by a library for the form that RFC 9535 gave it.

use anyhow::{Context as _, Result};
use jsonpath_rust::JsonPath as _;
use serde_json::Value;

/// A path such as `.status.conditions[?(@.type=="Ready")].message`; a dot in a name has a backslash before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(String);

impl JsonPath {
    /// Fails where the library can't read it.
    pub fn parse(path: &str) -> Result<Self> {
        let standard = standard(path);
        Value::Null.query(&standard).with_context(|| format!("the path {path} can't be read"))?;
        Ok(Self(standard))
    }

    /// What kubectl prints of an object: strings as they are, anything else as JSON, several with blanks between them.
    pub fn text(&self, object: &Value) -> String {
        let found = object.query(&self.0).unwrap_or_default();
        let texts = found.into_iter().filter(|value| !value.is_null()).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        texts.collect::<Vec<_>>().join(" ")
    }
}

/// Names that RFC 9535 wants in brackets are put there.
fn standard(path: &str) -> String {
    let mut standard = "$".to_owned();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '[' => rest.find(']').map_or(rest.len(), |end| end + 1),
            '.' => end_of_name(rest),
            _ => rest.len(),
        };
        let (part, behind) = rest.split_at(end);
        let name = part.strip_prefix('.').map(|name| name.replace(r"\.", "."));
        match name {
            Some(name) if name.contains(|one: char| !one.is_ascii_alphanumeric()) => {
                standard.extend(["['", &name, "']"]);
            }
            _ => standard.push_str(part),
        }
        rest = behind;
    }
    standard
}

/// Where the name ends that begins behind the first dot.
fn end_of_name(text: &str) -> usize {
    let mut before = '.';
    for (at, one) in text.char_indices().skip(1) {
        if one == '[' || (one == '.' && before != '\\') {
            return at;
        }
        before = one;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_finds_what_kubectl_finds() {
        let object = json!({
            "metadata": {"annotations": {"storage.tierce.dev/retained-from": "ada/data"}, "generation": 3},
            "status": {"used": true, "conditions": [
                {"type": "Ready", "message": "all [is] well"}, {"type": "Other", "message": "no"}
            ]},
            "spec": {"drivers": [{"name": "a"}, {"name": "b"}], "access-modes": ["x"]},
        });
        for (path, text) in [
            (".metadata.generation", "3"),
            (".status.used", "true"),
            (r".metadata.annotations.storage\.tierce\.dev/retained-from", "ada/data"),
            (r#".status.conditions[?(@.type=="Ready")].message"#, "all [is] well"),
            (".spec.drivers[*].name", "a b"),
            (".spec.drivers[1].name", "b"),
            (".spec.access-modes", r#"["x"]"#),
            (".status.missing.deeper", ""),
            (r#".status.conditions[?(@.type=="Absent")].message"#, ""),
        ] {
            assert_eq!(JsonPath::parse(path).unwrap().text(&object), text, "{path}");
        }
        assert!(JsonPath::parse(".spec[?(").is_err());
    }
}
