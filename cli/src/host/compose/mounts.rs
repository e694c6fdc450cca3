//! What a service sees: its volumes, its `tmpfs`, and what it takes from another service.

use super::{
    declared,
    node::{Map, Node, Value, Wrong},
    paths, short_syntax,
};

/// One thing that a service sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct ServiceMount {
    pub(in super::super) service: String,
    pub(in super::super) target: String,
    pub(in super::super) source: Source,
    pub(in super::super) access: Access,
    /// What the engine of the containers is asked for besides, in its words.
    pub(in super::super) options: Vec<String>,
    /// The entry of `volumes_from` that brings it.
    pub(in super::super) from: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Source {
    /// A named volume, by its key in the file.
    Volume(String),
    /// A named volume that the file does not declare.
    Undeclared(String),
    /// A path of the host; whether the engine makes it where it is missing.
    Bind {
        path: String,
        made: bool,
    },
    /// A volume without a name, which the engine of the containers makes and removes.
    Anonymous,
    Tmpfs,
    /// Something else that the engine brings, in words.
    Engine(String),
}

/// What a service may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Access {
    ReadWrite,
    ReadOnly,
}

/// Reads what stands below one service.
pub(super) struct Reading<'a> {
    pub(super) service: &'a str,
    /// The keys of all declared volumes.
    pub(super) declared: &'a [&'a str],
    /// What is wrong, and needs not stop others.
    pub(super) problems: &'a mut Vec<Wrong>,
}

impl Reading<'_> {
    fn what(&self, part: &str) -> String {
        format!("service '{}': {part}", self.service)
    }

    fn problem(&mut self, node: &Node, reason: &str) {
        let reason = self.what(reason);
        self.problems.push(node.wrong(reason));
    }

    /// The volumes of a service in their order.
    pub(super) fn volumes(&mut self, list: &Node) -> Result<Vec<ServiceMount>, Wrong> {
        let mut mounts: Vec<ServiceMount> = Vec::new();
        for node in list.list(&self.what("volumes"))? {
            match self.mount(node) {
                Ok(mount) => {
                    if mounts.iter().any(|other| other.target == mount.target) {
                        self.problem(node, &format!("two volumes at {}", mount.target));
                    }
                    mounts.push(mount);
                }
                Err(wrong) => self.problems.push(wrong),
            }
        }
        Ok(mounts)
    }

    fn mount(&mut self, node: &Node) -> Result<ServiceMount, Wrong> {
        let map = node.map(&self.what("a volume"))?;
        let text = |key: &str| map.filled(key).map(|node| node.text(&self.what(key))).transpose();
        let missing = |key: &str| node.wrong(self.what(&format!("a volume has no {key}")));
        let kind = text("type")?.ok_or_else(|| missing("type"))?;
        let target = text("target")?.ok_or_else(|| missing("target"))?;
        let named = text("source")?;
        let read_only = map.get("read_only").map_or(Ok(false), |node| node.flag(&self.what("read_only")))?;
        let source = self.source(kind, named, map, node)?;
        let target = if kind == "npipe" { target.to_owned() } else { paths::clean(target) };
        if !target.starts_with('/') && kind != "npipe" {
            self.problem(node, &format!("'{target}' is no path in a container: it must begin with /"));
        }
        let mut options = Vec::new();
        for (key, value) in map.iter() {
            match key {
                "type" | "source" | "target" | "read_only" => {}
                "consistency" => {
                    let text = value.text(&self.what(key))?;
                    let known = ["cached", "delegated", "consistent"].contains(&text);
                    options.push(if known { text.to_owned() } else { format!("consistency={text}") });
                }
                "bind" | "volume" | "tmpfs" | "image" => {
                    options_of(&self.what(key), key, value, &mut options, self.problems)?;
                }
                short_syntax::WORDS => options.extend(value.list(key)?.iter().filter_map(Node::scalar)),
                key if key.starts_with("x-") => {}
                _ => self.problem(value, &format!("key '{key}' of a volume is not known")),
            }
        }
        let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
        Ok(ServiceMount { service: self.service.to_owned(), target, source, access, options, from: None })
    }

    fn source(&mut self, kind: &str, source: Option<&str>, map: &Map, node: &Node) -> Result<Source, Wrong> {
        let named = source.unwrap_or_default();
        Ok(match (kind, source) {
            ("volume", None | Some("")) => Source::Anonymous,
            ("volume", Some(key)) if self.declared.contains(&key) => Source::Volume(key.to_owned()),
            ("volume", Some(key)) => {
                self.problem(node, &format!(
                    "volume '{key}' is not declared: add it below the top-level 'volumes:' ('extends' brings services alone), or write ./{key} for a folder"
                ));
                Source::Undeclared(key.to_owned())
            }
            ("bind", Some(path)) => {
                let bind = map.filled("bind").map(|bind| bind.map(&self.what("bind"))).transpose()?;
                let made = match bind.and_then(|bind| bind.filled("create_host_path")) {
                    Some(made) => made.flag(&self.what("create_host_path"))?,
                    None => true,
                };
                Source::Bind { path: path.to_owned(), made }
            }
            ("bind", None) => return Err(node.wrong(self.what("a bind mount has no source"))),
            ("tmpfs", _) => Source::Tmpfs,
            ("image", _) => Source::Engine(format!("image {named}")),
            ("npipe", _) => Source::Engine(format!("named pipe {named}")),
            ("cluster", _) => Source::Engine(format!("cluster volume {named}")),
            (other, _) => {
                return Err(node.wrong(self.what(&format!(
                    "type '{other}' is not known: volume, bind, tmpfs, image, npipe and cluster are"
                ))));
            }
        })
    }
}

/// What stands below `bind:`, `volume:`, `tmpfs:` or `image:`.
fn options_of(
    what: &str,
    kind: &str,
    node: &Node,
    options: &mut Vec<String>,
    problems: &mut Vec<Wrong>,
) -> Result<(), Wrong> {
    for (key, value) in node.map(what)?.iter() {
        let what = format!("{what}: {key}");
        let one_of = |words: &[&str]| {
            let text = value.text(&what)?;
            if words.contains(&text) {
                return Ok(text.to_owned());
            }
            Err(value.wrong(format!("{what} '{text}' is not known: {} are", words.join(", "))))
        };
        match (kind, key) {
            ("bind", "create_host_path") => {}
            ("bind", "selinux") => options.push(one_of(&["z", "Z"])?),
            ("bind", "propagation") => options.push(one_of(&short_syntax::PROPAGATIONS)?),
            ("bind", "recursive") => {
                let how = one_of(&["enabled", "disabled", "writable", "readonly"])?;
                options.push(format!("recursive={how}"));
            }
            ("volume", "nocopy") => {
                if value.flag(&what)? {
                    options.push("nocopy".to_owned());
                }
            }
            ("volume", "labels") => {
                declared::labels_of(value, &what)?;
                options.push("labels".to_owned());
            }
            ("volume" | "image", "subpath") => {
                let path = value.text(&what)?;
                if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                    problems.push(value.wrong(format!("{what} '{path}' leads out of it")));
                }
                options.push(format!("subpath={path}"));
            }
            ("tmpfs", "size" | "mode") => match (key, &value.value) {
                ("size", Value::Number(text)) if text.parse::<u64>().is_ok() => {
                    options.push(format!("size={text}"));
                }
                ("size", Value::Text(text)) if is_amount(text) => {
                    options.push(format!("size={text}"));
                }
                ("mode", Value::Number(text)) if text.parse::<u32>().is_ok() => {
                    options.push(format!("mode={text}"));
                }
                _ => {
                    let text = value.scalar().unwrap_or_default();
                    let form = if key == "size" {
                        "write 64m or 1g"
                    } else {
                        "write a number without quotes, as 0o1777"
                    };
                    problems.push(value.wrong(format!("{what} '{text}' is not valid: {form}")));
                }
            },
            (_, key) if key.starts_with("x-") => {}
            _ => problems.push(value.wrong(format!("{what} is not known"))),
        }
    }
    Ok(())
}

/// Whether it is a number of bytes as Docker writes them: `1048576`, `64m`, `1.5 GiB`.
fn is_amount(text: &str) -> bool {
    let digits = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |at| at + 1);
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit =
        unit.strip_suffix("ib").filter(|unit| !unit.is_empty()).or(unit.strip_suffix('b')).unwrap_or(&unit);
    number.parse::<f64>().is_ok_and(|number| number >= 0.0) && ["", "k", "m", "g", "t", "p"].contains(&unit)
}

/// `tmpfs:`, a path or several, each with the options that follow a colon.
pub(super) fn of_tmpfs(service: &str, node: &Node) -> Result<Vec<ServiceMount>, Wrong> {
    let texts = node.texts(&format!("service '{service}': tmpfs"))?;
    let of = |(text, _): (&str, &Node)| {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let mut options: Vec<String> =
            options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        let read_only = options.iter().any(|option| option == "ro");
        options.retain(|option| option != "ro" && option != "rw");
        ServiceMount {
            service: service.to_owned(),
            target: target.to_owned(),
            source: Source::Tmpfs,
            access: if read_only { Access::ReadOnly } else { Access::ReadWrite },
            options,
            from: None,
        }
    };
    Ok(texts.into_iter().map(of).collect())
}

/// An entry of `volumes_from`: whose, and whether read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct From {
    pub(super) of: Other,
    pub(super) read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Other {
    Service(String),
    Container(String),
}

pub(super) fn from(text: &str) -> From {
    let (rest, is_container) = text.strip_prefix("container:").map_or((text, false), |rest| (rest, true));
    let (name, mode) = rest.split_once(':').unwrap_or((rest, ""));
    let name = name.to_owned();
    From {
        of: if is_container { Other::Container(name) } else { Other::Service(name) },
        read_only: mode.split(',').any(|word| word == "ro"),
    }
}
