//! `source:target:options` of a service's volume.

use super::{
    node::{Map, Node, Place, Value},
    paths,
};

/// What Compose itself looks at.
pub(super) const PROPAGATIONS: [&str; 6] = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];

/// What the engines of containers know besides, and carry out.
const OF_ENGINES: [&str; 18] = [
    "cached",
    "delegated",
    "consistent",
    "U",
    "O",
    "exec",
    "noexec",
    "dev",
    "nodev",
    "suid",
    "nosuid",
    "bind",
    "rbind",
    "copy",
    "notmpcopyup",
    "tmpcopyup",
    "sync",
    "noatime",
];

/// The key of the long syntax that has the options for which it has none. Nobody can have written it.
pub(super) const WORDS: &str = "\0words";

/// The same in the long syntax, the options that it has no key for below [`WORDS`].
///
/// A single letter before the first colon is a drive of Windows to Compose. What then is no path in a container (`v:/v`) can only be meant as
/// a volume of one letter, and is taken as that.
pub(super) fn read(text: &str, place: &Place) -> Result<Node, String> {
    let parts = parts(text)?;
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, target, None),
        [source, target] => (Some(source), target, None),
        [source, target, options] => (Some(source), target, Some(options)),
        _ => return Err(format!("'{text}' has too many colons")),
    };
    let node = |value| Node::new(place, value);
    let text_node = |text: &str| node(Value::Text(text.to_owned()));
    let is_path = source.is_some_and(|source| is_path(source));
    let (mut map, mut inner, mut words) = (Map::default(), Map::default(), Vec::new());
    let mut bind = Map::default();
    map.set("type", text_node(if is_path { "bind" } else { "volume" }));
    if let Some(source) = source {
        map.set("source", text_node(source));
    }
    map.set("target", text_node(&paths::clean(target)));
    for option in options.map(|options| options.split(',')).into_iter().flatten() {
        match option {
            "ro" | "rw" => map.set("read_only", node(Value::Flag(option == "ro"))),
            "nocopy" => inner.set("nocopy", node(Value::Flag(true))),
            "z" | "Z" => bind.set("selinux", text_node(option)),
            _ if PROPAGATIONS.contains(&option) => bind.set("propagation", text_node(option)),
            _ if OF_ENGINES.contains(&option) || option.starts_with("idmap") => words.push(text_node(option)),
            "" => {}
            _ => {
                return Err(format!(
                    "option '{option}' of '{text}' is not known: ro and rw are, and what engines of containers know"
                ));
            }
        }
    }
    if is_path {
        bind.set("create_host_path", node(Value::Flag(true)));
    }
    for (key, map_of) in [("volume", inner), ("bind", bind)] {
        if !map_of.is_empty() {
            map.set(key, node(Value::Map(map_of)));
        }
    }
    if !words.is_empty() {
        map.set(WORDS, node(Value::List(words)));
    }
    Ok(node(Value::Map(map)))
}

/// Whether Compose takes for a drive of Windows what we take for a volume.
pub(super) fn is_of_one_letter(text: &str) -> bool {
    parts(text).is_ok_and(|own| split(text, true).is_ok_and(|parts| parts != own))
}

/// Where it is mounted, as written.
pub(super) fn target_of(text: &str) -> Result<String, String> {
    Ok(target(&parts(text)?).to_owned())
}

fn parts(text: &str) -> Result<Vec<&str>, String> {
    let parts = split(text, true)?;
    if target(&parts).starts_with('/') {
        return Ok(parts);
    }
    // Without a path in a container either way, Compose's own reading stays.
    let without_drives = split(text, false).ok().filter(|parts| target(parts).starts_with('/'));
    Ok(without_drives.unwrap_or(parts))
}

fn target<'a>(parts: &[&'a str]) -> &'a str {
    parts.get(1).or(parts.first()).copied().unwrap_or_default()
}

/// Splits at colons, but not at those of `C:` (if there are `drives`) and of `${…}`.
fn split(text: &str, drives: bool) -> Result<Vec<&str>, String> {
    if text.is_empty() {
        return Err("a volume is empty".to_owned());
    }
    if text.len() <= 2 {
        return Ok(vec![text]);
    }
    let (mut parts, mut start, mut braces) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '$' if text[at + 1..].starts_with('{') => braces += 1,
            '}' if braces > 0 => braces -= 1,
            ':' if braces == 0 => {
                let part = &text[start..at];
                let mut letters = part.chars();
                let is_drive = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
                if is_drive && drives && start + part.len() == at {
                    continue;
                }
                parts.push(part);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    if parts.contains(&"") {
        return Err(format!("'{text}' has nothing between two colons, or behind the last"));
    }
    Ok(parts)
}

fn is_path(source: &str) -> bool {
    let mut letters = source.chars();
    let drive = letters.next().is_some_and(char::is_alphabetic) && letters.next() == Some(':');
    source.starts_with(['.', '/', '~']) || source.starts_with("\\\\") || drive
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Result<String, String> {
        let place = Place::start(&Arc::from(Path::new("compose.yaml")));
        let node = read(text, &place)?;
        let map = node.as_map().unwrap();
        let of = |key: &str| map.get(key).and_then(Node::scalar).unwrap_or_default();
        Ok(format!("{} {} {} {}", of("type"), of("source"), of("target"), of("read_only")))
    }

    #[test]
    fn the_parts_are_told_apart_as_compose_does() {
        for (text, expected) in [
            ("/data", "volume  /data "),
            ("data:/data/", "volume data /data "),
            ("./a:/a:ro", "bind ./a /a true"),
            ("~/a:/a:ro,rw,Z", "bind ~/a /a false"),
            ("C:\\data:/data:ro", "bind C:\\data /data true"),
            ("c:/data:/data", "bind c:/data /data "),
            ("\\\\srv\\share:/data", "bind \\\\srv\\share /data "),
            ("v:/v", "volume v /v "),
            ("v:/v:ro", "volume v /v true"),
            ("data:relative", "volume data relative "),
            ("data", "volume  data "),
        ] {
            assert_eq!(shown(text).unwrap(), expected, "{text}");
        }
        assert!(is_of_one_letter("v:/v:ro") && !is_of_one_letter("c:/data:/data"));
        for bad in ["", "data::ro", "data:/d:", ":/d", "data:/d:ro:rw", "data:/d:rx"] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic_and_the_target_is_one(text in "[a-zC:/.~,${}ä\\\\]{0,20}") {
            let target = target_of(&text);
            if let Ok(read) = shown(&text) {
                prop_assert!(target.is_ok(), "{read}");
            }
        }
    }
}
