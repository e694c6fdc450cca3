//! YAML to trees: anchors, merge keys, and the tags `!reset` and `!override` of Compose.

use std::{collections::HashMap, path::Path, sync::Arc};

use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{
    node::{Map, Node, Place, Value, Wrong},
    scalar,
};

/// Values of one document, aliases followed: what is meant for people has some thousands.
const MOST_VALUES: usize = 200_000;
const DEEPEST: usize = 200;

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Node,
    /// The keys, from the top down, that take away what earlier files say there.
    pub(super) resets: Vec<Vec<String>>,
}

/// The documents of a text, in their order.
pub(super) fn documents(text: &str, file: &Arc<Path>) -> Result<Vec<Document>, Wrong> {
    let mut reader = Reader::new(text, file);
    let mut documents = Vec::new();
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return Ok(documents),
            (Event::DocumentStart(..), _) => {
                reader.anchors.clear();
                reader.resets.clear();
                reader.values = 0;
                let (event, span) = reader.next()?;
                if matches!(event, Event::DocumentEnd) {
                    continue;
                }
                let read = reader.node(event, span, 0)?;
                documents.push(Document { root: read.node, resets: std::mem::take(&mut reader.resets) });
            }
            _ => {}
        }
    }
}

/// What a tag asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Reset,
    Override,
}

#[derive(Debug, Clone)]
struct Read {
    node: Node,
    mark: Mark,
    values: usize,
    depth: usize,
    /// Below it, from there on.
    resets: Vec<Vec<String>>,
}

struct Reader<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    file: Arc<Path>,
    anchors: HashMap<usize, Read>,
    path: Vec<String>,
    resets: Vec<Vec<String>>,
    values: usize,
    /// In how many values with `!override` we are, where other marks count for nothing.
    overridden: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, file: &Arc<Path>) -> Self {
        let mut options = granit_parser::Options::default();
        options.set_emit_comments(false);
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            file: Arc::clone(file),
            anchors: HashMap::new(),
            path: Vec::new(),
            resets: Vec::new(),
            values: 0,
            overridden: 0,
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Wrong> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => {
                Err(at(&self.file, error.marker().line(), error.marker().col()).wrong(error.info()))
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Read, Wrong> {
        let place = at(&self.file, span.start.line(), span.start.col());
        self.values += 1;
        if depth > DEEPEST || self.values > MOST_VALUES {
            return Err(place.wrong("the file is nested too deep or repeats its anchors too often"));
        }
        let (before, first) = (self.values, self.resets.len());
        let (value, anchor, mark) = match event {
            Event::Alias(id) => return self.alias(id, &place, depth),
            Event::Scalar(text, style, anchor, tag) => {
                let mark = mark(tag.as_deref());
                (scalar_value(&text, style, tag.as_deref()), anchor, mark)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let mark = self.enter(mark(tag.as_deref()));
                let list = self.list(depth)?;
                self.leave(mark);
                (Value::List(list), anchor, mark)
            }
            Event::MappingStart(_, anchor, tag) => {
                let mark = self.enter(mark(tag.as_deref()));
                let map = self.mapping(depth)?;
                self.leave(mark);
                (Value::Map(map), anchor, mark)
            }
            _ => return Err(place.wrong("a value was expected here")),
        };
        let own = self.resets[first..].iter().map(|path| path[self.path.len()..].to_vec()).collect();
        let read =
            Read { node: Node { place, value }, mark, values: self.values - before + 1, depth, resets: own };
        if anchor != 0 {
            let mut kept = read.clone();
            kept.depth = deepest(&kept.node);
            self.anchors.insert(anchor, kept);
        }
        Ok(read)
    }

    fn enter(&mut self, mark: Mark) -> Mark {
        self.overridden += usize::from(mark == Mark::Override);
        mark
    }

    fn leave(&mut self, mark: Mark) {
        self.overridden -= usize::from(mark == Mark::Override);
    }

    fn alias(&mut self, id: usize, place: &Place, depth: usize) -> Result<Read, Wrong> {
        let Some(read) = self.anchors.get(&id) else {
            return Err(place.wrong("this alias stands inside of what it names"));
        };
        self.values += read.values;
        if depth + read.depth > DEEPEST || self.values > MOST_VALUES {
            return Err(place.wrong("the file is nested too deep or repeats its anchors too often"));
        }
        let read = read.clone();
        if self.overridden == 0 {
            for path in &read.resets {
                self.resets.push(self.path.iter().chain(path).cloned().collect());
            }
        }
        Ok(read)
    }

    /// Whether a value stays; notes what its mark asks for.
    fn stays(&mut self, mark: Mark) -> bool {
        if mark != Mark::None && self.overridden == 0 {
            self.resets.push(self.path.clone());
            return mark == Mark::Override;
        }
        true
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Wrong> {
        let mut list = Vec::new();
        for index in 0_usize.. {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            self.path.push(index.to_string());
            let read = self.node(event, span, depth + 1)?;
            if self.stays(read.mark) {
                list.push(read.node);
            }
            self.path.pop();
        }
        Ok(list)
    }

    fn mapping(&mut self, depth: usize) -> Result<Map, Wrong> {
        let (mut map, mut merged, mut seen) = (Map::default(), None, Vec::<(String, u64)>::new());
        loop {
            let (event, span) = self.next()?;
            let (key, place, is_merge) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, _, tag) => {
                    let place = at(&self.file, span.start.line(), span.start.col());
                    let is_merge = text == "<<" && style == ScalarStyle::Plain && tag.is_none();
                    if scalar_value(&text, style, tag.as_deref()).as_text() != Some(&text) {
                        return Err(place.wrong(format!("a key must be a text: put {text} in quotes")));
                    }
                    (text.into_owned(), place, is_merge)
                }
                Event::Alias(id) => {
                    let place = at(&self.file, span.start.line(), span.start.col());
                    let read = self.alias(id, &place, depth)?;
                    let key =
                        read.node.as_text().ok_or_else(|| place.wrong("a key must be a text"))?.to_owned();
                    (key, place, false)
                }
                _ => {
                    return Err(
                        at(&self.file, span.start.line(), span.start.col()).wrong("a key must be a text")
                    );
                }
            };
            if let Some((_, line)) = seen.iter().find(|(own, _)| *own == key) {
                return Err(place.wrong(format!("key '{key}' is there already, in line {line}")));
            }
            seen.push((key.clone(), place.line));
            let (event, span) = self.next()?;
            if is_merge {
                merged = Some(self.node(event, span, depth + 1)?.node);
                continue;
            }
            self.path.push(key);
            let read = self.node(event, span, depth + 1)?;
            let stays = self.stays(read.mark);
            if let Some(key) = self.path.pop().filter(|_| stays) {
                map.set(&key, read.node);
            }
        }
        if let Some(merged) = merged {
            merge(&mut map, &merged)?;
        }
        Ok(map)
    }
}

/// Adds what `<<` names: own keys stay, and of several mappings the first counts.
fn merge(map: &mut Map, merged: &Node) -> Result<(), Wrong> {
    let sources = match &merged.value {
        Value::Map(_) => std::slice::from_ref(merged),
        Value::List(list) => list.as_slice(),
        _ => &[],
    };
    if sources.is_empty() && !matches!(merged.value, Value::List(_)) {
        return Err(merged.wrong("'<<' takes a mapping, or a list of them"));
    }
    for source in sources {
        let from = source.as_map().ok_or_else(|| source.wrong("'<<' takes a mapping, or a list of them"))?;
        for (key, value) in from.iter() {
            if map.get(key).is_none() {
                map.set(key, value.clone());
            }
        }
    }
    Ok(())
}

fn mark(tag: Option<&Tag>) -> Mark {
    match tag.map(|tag| (tag.handle(), tag.suffix())) {
        Some(("!", "reset")) => Mark::Reset,
        Some(("!", "override")) => Mark::Override,
        _ => Mark::None,
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    if style == ScalarStyle::Plain && !is_text { scalar::plain(text) } else { Value::Text(text.to_owned()) }
}

fn deepest(node: &Node) -> usize {
    match &node.value {
        Value::List(list) => 1 + list.iter().map(deepest).max().unwrap_or(0),
        Value::Map(map) => 1 + map.iter().map(|(_, value)| deepest(value)).max().unwrap_or(0),
        _ => 0,
    }
}

fn at(file: &Arc<Path>, line: usize, column: usize) -> Place {
    Place { file: Arc::clone(file), line: line.max(1) as u64, column: column as u64 + 1 }
}
