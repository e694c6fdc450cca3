//! Results on standard output.
//!
//! Words from a cluster, a file or another program may hold control characters, which a terminal would carry out: none gets out as it is.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

use serde::Serialize;

use crate::args::Output;

/// JSON as Docker indents it.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> io::Result<()> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    bytes.push(b'\n');
    io::stdout().lock().write_all(safe_json(&String::from_utf8_lossy(&bytes)).as_bytes())
}

pub(crate) fn yaml<T: Serialize>(value: &T) -> io::Result<()> {
    let text = serde_saphyr::to_string(value).map_err(io::Error::other)?;
    io::stdout().lock().write_all(safe_yaml(&text).as_bytes())
}

pub(crate) fn lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    lines.into_iter().try_for_each(|line| writeln!(out, "{}", shown(line.as_ref())))
}

/// The names of what a command made, changed or removed: a line as soon as each is there, or one list of all at the end.
pub(crate) struct Names {
    output: Output,
    list: Vec<String>,
}

impl Names {
    pub(crate) const fn new(output: Output) -> Self {
        Self { output, list: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: &str) -> io::Result<()> {
        match self.output {
            Output::Json | Output::Yaml => {
                self.list.push(name.to_owned());
                Ok(())
            }
            Output::Table | Output::Wide | Output::Name => lines([name]),
        }
    }

    /// Writes the list. Of what failed as a whole there is none.
    pub(crate) fn end(&self, failed: bool) -> io::Result<()> {
        match self.output {
            _ if failed && self.list.is_empty() => Ok(()),
            Output::Json => json(&self.list),
            Output::Yaml => yaml(&self.list),
            Output::Table | Output::Wide | Output::Name => Ok(()),
        }
    }
}

/// Writes the names that `work` adds, also those that it added before it failed.
pub(crate) fn names<E: From<io::Error>>(
    output: Output,
    work: impl FnOnce(&mut Names) -> Result<(), E>,
) -> Result<(), E> {
    let mut names = Names::new(output);
    let done = work(&mut names);
    names.end(done.is_err())?;
    done
}

/// Writes the name of the one thing that a command was about.
pub(crate) fn name(output: Output, name: &str) -> io::Result<()> {
    names(output, |names| names.add(name))
}

/// How a word may go on, with what is shown beside it, as cobra reads them: a tab between both.
pub(crate) fn candidates(candidates: impl IntoIterator<Item = (String, Option<String>)>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    candidates.into_iter().try_for_each(|(value, help)| match help {
        Some(help) => writeln!(out, "{}\t{}", shown(&value), shown(&help)),
        None => writeln!(out, "{}", shown(&value)),
    })
}

/// Columns as wide as their widest cell and three spaces, none after the last.
pub(crate) fn columns(rows: &[Vec<String>]) -> io::Result<()> {
    let rows: Vec<Vec<Cow<'_, str>>> =
        rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0) + 3
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    lines(rows.iter().map(|row| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
        line.trim_end().to_owned()
    }))
}

/// Text in one line as a terminal may get it: what it would carry out, or show in another order than it stands, is written as an escape.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' | '\t' => safe.push(' '),
            c if acts(c) => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Control characters, and those that reorder what stands beside them.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The serializer escapes only what JSON demands. A control character that is left stands within a string.
fn safe_json(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && acts(c), |c, safe| _ = write!(safe, "\\u{:04x}", u32::from(c)))
}

/// The serializer quotes and escapes control characters; this is for those that it might leave in a block of lines.
fn safe_yaml(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !matches!(c, '\n' | '\t') && c.is_control(), |c, safe| safe.extend(c.escape_default()))
}

fn escaped(text: &str, odd: fn(char) -> bool, escape: fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(odd) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if odd(c) { escape(c, &mut safe) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_carry_out_is_shown_as_an_escape() {
        for (text, safe) in [
            ("plain, ä and ☃", "plain, ä and ☃"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("a\rb", "a\\rb"),
            ("a\nb\tc", "a b c"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("gnp\u{202e}.exe", "gnp\\u{202e}.exe"),
        ] {
            assert_eq!(shown(text), safe);
        }
    }

    proptest! {
        #[test]
        fn json_and_yaml_hold_no_control_character_and_json_the_same_text(text in any::<String>()) {
            let value = serde_json::json!({ "message": text, "lines": [format!("a\n{text}\nb")] });
            let plain = serde_json::to_string(&value).unwrap();
            let json = safe_json(&plain);
            prop_assert!(!json.chars().any(|c| c != '\n' && acts(c)), "{json:?}");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value.clone());
            let yaml = serde_saphyr::to_string(&value).unwrap();
            let yaml = safe_yaml(&yaml);
            prop_assert!(!yaml.chars().any(|c| !matches!(c, '\n' | '\t') && c.is_control()), "{yaml:?}");
        }
    }
}
