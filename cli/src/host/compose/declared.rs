//! The volumes that a Compose file declares: ours, those of others, and what their options say.

use std::collections::BTreeMap;

use super::node::{Map, Node, Value, Wrong};
use crate::host::{
    driver_options::{DriverOptions, Unfit},
    masked,
    names::Name,
};

/// Drivers that mean us.
const DRIVERS: [&str; 3] = ["", "local", "tierce"];

/// What Docker's own driver knows, which then mounts something of its own.
const OF_DOCKER: [&str; 3] = ["type", "o", "device"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct NamedVolume {
    /// Its key in the file.
    pub(in super::super) key: String,
    pub(in super::super) full: String,
    pub(in super::super) maker: Maker,
    pub(in super::super) driver: String,
    /// The driver's options as they stand there.
    pub(in super::super) options: BTreeMap<String, String>,
    /// What they ask us for, if it is ours.
    pub(in super::super) asked: DriverOptions,
    pub(in super::super) labels: Vec<String>,
}

/// Who makes a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Maker {
    /// We, at that place.
    Tierce(Name),
    /// It is there already.
    External,
    /// The engine of the containers; in words.
    Engine(String),
}

impl NamedVolume {
    /// Its place, if it is ours.
    pub(in super::super) fn name(&self) -> Option<&Name> {
        match &self.maker {
            Maker::Tierce(name) => Some(name),
            Maker::External | Maker::Engine(_) => None,
        }
    }
}

/// Reads one. What is wrong with it and needs not stop others goes to `problems`.
pub(super) fn read(
    stack: &str,
    key: &str,
    node: &Node,
    problems: &mut Vec<Wrong>,
) -> Result<NamedVolume, Wrong> {
    let what = |part: &str| format!("volume '{key}': {part}");
    let map = node.map(&format!("volume '{key}'"))?;
    let wrong = |node: &Node, reason: String| node.wrong(what(&reason));
    for (attribute, value) in map.iter() {
        if !["name", "driver", "driver_opts", "external", "labels"].contains(&attribute)
            && !attribute.starts_with("x-")
        {
            problems.push(wrong(
                value,
                format!("key '{attribute}' is not known: name, driver, driver_opts, external and labels are"),
            ));
        }
    }
    let own_name = map.filled("name").map(|name| name.text(&what("name"))).transpose()?;
    let labels = labels(map, &what("labels"))?;
    let external = map.get("external").map_or(Ok(false), |external| external.flag(&what("external")))?;
    if external {
        for (attribute, value) in map.iter() {
            if ["driver", "driver_opts", "labels"].contains(&attribute) {
                problems.push(wrong(
                    value,
                    format!("is external, so '{attribute}' can't be asked for: leave one of the two out"),
                ));
            }
        }
        let full = own_name.unwrap_or(key).to_owned();
        if full.is_empty() {
            return Err(wrong(map.get("name").unwrap_or(node), "the name '' is not valid".to_owned()));
        }
        return Ok(NamedVolume {
            key: key.to_owned(),
            full,
            maker: Maker::External,
            driver: String::new(),
            options: BTreeMap::new(),
            asked: DriverOptions::default(),
            labels,
        });
    }
    let driver = map.filled("driver").map_or(Ok(""), |driver| driver.text(&what("driver")))?;
    let options = options(map, &what("driver_opts"))?;
    let full = own_name.map_or_else(|| format!("{stack}_{key}"), str::to_owned);
    let place_of = |attribute: &str| map.get(attribute).unwrap_or(node);
    let mut asked = DriverOptions::default();
    let maker = if let Some(words) = of_engine(driver, &options) {
        Maker::Engine(words)
    } else {
        let place_of_option =
            |option: &str| place_of("driver_opts").as_map().and_then(|map| map.get(option)).unwrap_or(node);
        let (read, unfit) = DriverOptions::read(&options);
        asked = read;
        for Unfit { option, reason } in unfit {
            problems.push(wrong(place_of_option(&option), reason));
        }
        if asked.get("stack").is_some() {
            problems.push(wrong(
                place_of_option("stack"),
                "driver option 'stack' can't be here: the volumes of a file are of the file's stack"
                    .to_owned(),
            ));
        }
        let mode = place_of_option("mode");
        if matches!(mode.value, Value::Number(_)) {
            // Compose hands 0770 on as 504.
            problems.push(wrong(
                mode,
                "mode must be a text, or it is read as a number: write \"0770\"".to_owned(),
            ));
        }
        let name = own_name.map_or_else(|| Name::new(Some(stack), key), |name| Name::new(None, name));
        Maker::Tierce(name.map_err(|error| wrong(place_of("name"), error.to_string()))?)
    };
    Ok(NamedVolume { key: key.to_owned(), full, maker, driver: driver.to_owned(), options, asked, labels })
}

/// What is in a list before in the same words.
pub(super) fn twice(list: &[Node]) -> Option<&Node> {
    list.iter().enumerate().find(|(at, node)| list[..*at].contains(node)).map(|(_, node)| node)
}

/// What another driver does, or Docker's own with options that mount something.
fn of_engine(driver: &str, options: &BTreeMap<String, String>) -> Option<String> {
    if !DRIVERS.contains(&driver) {
        return Some(format!("driver {driver}"));
    }
    if driver == "tierce" || !options.keys().any(|key| OF_DOCKER.contains(&key.as_str())) {
        return None;
    }
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    let kind = match (option("type"), option("o")) {
        ("" | "none", o) if o.split(',').any(|word| word == "bind" || word == "rbind") => "bind",
        ("", _) => "local",
        (kind, _) => kind,
    };
    let from = if option("device") == kind { "" } else { option("device") };
    let more = if kind == "bind" && option("o") == "bind" { "" } else { option("o") };
    let words = [masked::url(kind), masked::url(from), masked::options(more)];
    Some(words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
}

fn options(map: &Map, what: &str) -> Result<BTreeMap<String, String>, Wrong> {
    let Some(options) = map.filled("driver_opts") else { return Ok(BTreeMap::new()) };
    let of = |(key, value): (&str, &Node)| {
        let (Value::Number(text) | Value::Text(text)) = &value.value else {
            return Err(value.wrong(format!("{what}: '{key}' must be a text or a number")));
        };
        Ok((key.to_owned(), text.clone()))
    };
    options.map(what)?.iter().map(of).collect()
}

/// Labels of both forms as `key=value`.
fn labels(map: &Map, what: &str) -> Result<Vec<String>, Wrong> {
    map.filled("labels").map_or(Ok(Vec::new()), |labels| labels_of(labels, what))
}

/// The same of the node.
pub(super) fn labels_of(labels: &Node, what: &str) -> Result<Vec<String>, Wrong> {
    if let Value::List(list) = &labels.value {
        if let Some(twice) = twice(list) {
            return Err(twice.wrong(format!("{what}: the same is there twice")));
        }
        return list.iter().map(|label| label.text(what).map(str::to_owned)).collect();
    }
    let of = |(key, value): (&str, &Node)| {
        let text = value.scalar().ok_or_else(|| value.wrong(format!("{what}: '{key}' must be a text")))?;
        Ok(format!("{key}={text}"))
    };
    labels.map(what)?.iter().map(of).collect()
}
