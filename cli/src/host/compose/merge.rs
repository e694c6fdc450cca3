//! One Compose file over another: what is added, what replaces, and what is the same thing said twice.

use super::{
    node::{Map, Node, Value, Wrong},
    short_syntax,
};

/// Sections with services of one kind or another.
pub(super) const SERVICES: [&str; 2] = ["services", "jobs"];

/// `over` upon `base`. `path`: the keys that led here.
pub(super) fn merge(base: Node, over: Node, path: &mut Vec<String>) -> Result<Node, Wrong> {
    match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["volumes", _, "labels"] => return labels(&base, &over),
        [section, _, "tmpfs"] if SERVICES.contains(section) => {
            let place = over.place.clone();
            return Ok(Node { place, value: Value::List(appended(sequence(base), sequence(over))) });
        }
        _ => {}
    }
    if over.is_null() {
        return Ok(base);
    }
    let place = over.place.clone();
    match (base.value, over.value) {
        (Value::Map(base), Value::Map(over)) => {
            Ok(Node { place, value: Value::Map(merge_maps(base, over, path)?) })
        }
        (Value::List(base), Value::List(over)) => {
            Ok(Node { place, value: Value::List(appended(base, over)) })
        }
        (Value::Map(_), _) => Err(place.wrong(format!("'{}' is a mapping in another place", path.join(".")))),
        (Value::List(_), _) => Err(place.wrong(format!("'{}' is a list in another place", path.join(".")))),
        (_, value) => Ok(Node { place, value }),
    }
}

pub(super) fn merge_maps(mut base: Map, over: Map, path: &mut Vec<String>) -> Result<Map, Wrong> {
    for (key, value) in over {
        let Some(own) = base.get_mut(&key) else {
            base.set(&key, value);
            continue;
        };
        path.push(key);
        let before = std::mem::replace(own, Node::new(&value.place, Value::Null));
        *own = merge(before, value, path)?;
        path.pop();
    }
    Ok(base)
}

/// Adds what is not there in the same words already.
fn appended(mut base: Vec<Node>, over: Vec<Node>) -> Vec<Node> {
    for node in over {
        if !base.contains(&node) {
            base.push(node);
        }
    }
    base
}

fn sequence(node: Node) -> Vec<Node> {
    match node.value {
        Value::List(list) => list,
        Value::Text(_) => vec![node],
        _ => Vec::new(),
    }
}

/// Labels of both forms as a list of `key=value`, in which the last of a key counts.
fn labels(base: &Node, over: &Node) -> Result<Node, Wrong> {
    let mut all = Vec::new();
    for node in [base, over] {
        match &node.value {
            Value::Map(map) => {
                for (key, value) in map.iter() {
                    let text =
                        value.scalar().ok_or_else(|| value.wrong(format!("label '{key}' must be a text")))?;
                    let text = if value.is_null() { key.to_owned() } else { format!("{key}={text}") };
                    all.push(Node::new(&value.place, Value::Text(text)));
                }
            }
            _ => all.extend(node.list("labels")?.iter().cloned()),
        }
    }
    Ok(Node::new(&over.place, Value::List(unique(all, |node| key_of(node, "a label"))?)))
}

/// Keeps the last of each key, in the place of the first.
fn unique(list: Vec<Node>, key: impl Fn(&Node) -> Result<String, Wrong>) -> Result<Vec<Node>, Wrong> {
    let mut kept: Vec<(String, Node)> = Vec::new();
    for node in list {
        let key = key(&node)?;
        match kept.iter_mut().find(|(own, _)| *own == key) {
            Some((_, own)) => *own = node,
            None => kept.push((key, node)),
        }
    }
    Ok(kept.into_iter().map(|(_, node)| node).collect())
}

fn key_of(node: &Node, what: &str) -> Result<String, Wrong> {
    let text = node.text(what)?;
    Ok(text.split_once('=').map_or(text, |(key, _)| key).to_owned())
}

/// Of the volumes of a service that have one target the last counts; so with `tmpfs` and profiles.
pub(super) fn keep_last_of_each(model: &mut Map) -> Result<(), Wrong> {
    let Some(Node { value: Value::Map(services), .. }) = model.get_mut("services") else { return Ok(()) };
    for (_, service) in services.iter_mut() {
        let Value::Map(service) = &mut service.value else { continue };
        for (key, node) in service.iter_mut() {
            let Value::List(list) = &mut node.value else { continue };
            let list_now = std::mem::take(list);
            *list = match key {
                "volumes" => unique(list_now, target)?,
                "tmpfs" => unique(list_now, |node| key_of(node, "an entry of tmpfs"))?,
                "profiles" => unique(list_now, |node| key_of(node, "a profile"))?,
                _ => list_now,
            };
        }
    }
    Ok(())
}

fn target(node: &Node) -> Result<String, Wrong> {
    match &node.value {
        Value::Map(map) => {
            let target = map.get("target").and_then(Node::as_text);
            target.map(str::to_owned).ok_or_else(|| node.wrong("a volume of a service has no target"))
        }
        // What can't be read is told when it is put into the long form.
        Value::Text(text) => Ok(short_syntax::target_of(text).unwrap_or_else(|_| text.clone())),
        _ => Err(node.wrong("a volume of a service must be a text or a mapping")),
    }
}

/// Takes away what a file's `!reset` and `!override` name, from what was there before.
pub(super) fn reset(model: &mut Map, paths: &[Vec<String>]) {
    for path in paths {
        reset_one(model, path);
    }
}

fn reset_one(map: &mut Map, path: &[String]) {
    match path {
        [] => {}
        [last] => {
            map.remove(last);
        }
        [first, rest @ ..] => {
            if let Some(Node { value: Value::Map(below), .. }) = map.get_mut(first) {
                reset_one(below, rest);
            }
        }
    }
}
