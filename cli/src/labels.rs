//! Labels on the command line.

use std::collections::BTreeMap;

use crate::failure::Failure;

/// A text on the command line that is no label, change or filter; says what to write.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LabelError(String);

impl From<LabelError> for Failure {
    fn from(error: LabelError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// One change of labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LabelChange {
    Set(String, String),
    Remove(String),
}

impl LabelChange {
    fn key(&self) -> &str {
        match self {
            Self::Set(key, _) | Self::Remove(key) => key,
        }
    }
}

/// `KEY=VALUE`, or `KEY` alone for an empty value.
pub(crate) fn parse(texts: &[String]) -> Result<BTreeMap<String, String>, LabelError> {
    texts.iter().map(|text| pair(text)).collect()
}

/// `KEY=VALUE` sets, `KEY-` removes.
pub(crate) fn parse_changes(texts: &[String]) -> Result<Vec<LabelChange>, LabelError> {
    let change = |text: &String| match text.strip_suffix('-') {
        Some(key) if !key.contains('=') => Ok(LabelChange::Remove(checked(key)?)),
        _ if text.contains('=') => pair(text).map(|(key, value)| LabelChange::Set(key, value)),
        _ => Err(LabelError(format!(
            "'{text}' is no change of a label: write KEY=VALUE, or KEY- to remove it"
        ))),
    };
    let changes: Vec<LabelChange> = texts.iter().map(change).collect::<Result<_, _>>()?;
    for (index, change) in changes.iter().enumerate() {
        let differs = |other: &&LabelChange| other.key() == change.key() && *other != change;
        if changes[..index].iter().any(|other| differs(&other)) {
            return Err(LabelError(format!(
                "Label '{}' is to become two things: name each label once",
                change.key()
            )));
        }
    }
    Ok(changes)
}

fn pair(text: &str) -> Result<(String, String), LabelError> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if value.chars().any(char::is_control) {
        return Err(LabelError(format!("The value of label '{key}' has control characters")));
    }
    Ok((checked(key)?, value.to_owned()))
}

fn checked(key: &str) -> Result<String, LabelError> {
    let odd = |c: char| c.is_control() || c.is_whitespace();
    if key.is_empty() || key.len() > 256 || key.contains(odd) {
        let shown: String = key.escape_debug().take(80).collect();
        return Err(LabelError(format!(
            "Label '{shown}' is not valid: write KEY=VALUE, the key without spaces"
        )));
    }
    Ok(key.to_owned())
}

/// Which volumes a command means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Key, wanted value if any, and whether it must be so (or must not).
    labels: Vec<(String, Option<String>, bool)>,
}

impl Filter {
    /// `label=KEY`, `label=KEY=VALUE`, and both with `label!=`.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, LabelError> {
        let one = |text: &String| {
            let (wanted, rest) = match (text.strip_prefix("label="), text.strip_prefix("label!=")) {
                (Some(rest), _) => (true, rest),
                (_, Some(rest)) => (false, rest),
                _ => {
                    return Err(LabelError(format!(
                        "Filter '{text}' is not known: write label=KEY or label=KEY=VALUE (label!=… for the others)"
                    )));
                }
            };
            let (key, value) = match rest.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (rest, None),
            };
            Ok((checked(key)?, value, wanted))
        };
        Ok(Self { labels: texts.iter().map(one).collect::<Result<_, _>>()? })
    }

    pub(crate) fn accepts(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value, wanted)| {
            let has = labels.get(key).is_some_and(|own| value.as_ref().is_none_or(|value| value == own));
            has == *wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_ask_for_keys_and_values() {
        let labels = parse(&["team=blue".to_owned(), "old".to_owned()]).unwrap();
        for (filters, expected) in [
            (vec![], true),
            (vec!["label=team"], true),
            (vec!["label=team=blue", "label=old="], true),
            (vec!["label=team=red"], false),
            (vec!["label!=team=red"], true),
            (vec!["label!=old"], false),
        ] {
            let filters: Vec<String> = filters.into_iter().map(str::to_owned).collect();
            assert_eq!(Filter::parse(&filters).unwrap().accepts(&labels), expected, "{filters:?}");
        }
        assert!(Filter::parse(&["name=x".to_owned()]).is_err());
    }

    #[test]
    fn changes_set_and_remove() {
        let changes = parse_changes(&["a=b-".to_owned(), "b-".to_owned()]).unwrap();
        assert_eq!(changes, [LabelChange::Set("a".into(), "b-".into()), LabelChange::Remove("b".into())]);
        for bad in ["a", "-", "=x", "a b=c", "a=b,a-", "a-,a=b", "a=b,a=c"] {
            let texts: Vec<String> = bad.split(',').map(str::to_owned).collect();
            assert!(parse_changes(&texts).is_err(), "{bad}");
        }
        let twice = ["a=b".to_owned(), "c-".to_owned(), "a=b".to_owned()];
        assert_eq!(parse_changes(&twice).unwrap().len(), 3, "the same again is no contradiction");
    }
}
