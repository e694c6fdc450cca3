//! Environment files (`.env`), in the dialect of Compose.

use std::collections::BTreeMap;

use super::interpolate::interpolate;

/// Adds what a file sets to `set`. Its values may name variables: those of `outside` come before those of the file. `Err`: line and reason.
pub(super) fn read(
    text: &str,
    set: &mut BTreeMap<String, String>,
    outside: &dyn Fn(&str) -> Option<String>,
) -> Result<(), (u64, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(());
        }
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count() as u64;
        let wrong = |reason: String| (line, reason);
        let (key, value) = key(rest).map_err(wrong)?;
        let known = |name: &str| outside(name).or_else(|| set.get(name).cloned());
        let Some(value) = value else {
            // A name alone takes the value that it has.
            let (given, after) = (known(&key), rest.split_once('\n').map_or("", |(_, after)| after));
            set.extend(given.map(|given| (key, given)));
            rest = after;
            continue;
        };
        let (value, after) = if let Some(quote @ ('"' | '\'')) = value.chars().next() {
            quoted(value, quote).map_err(wrong)?
        } else {
            let (line, after) = value.split_once('\n').unwrap_or((value, ""));
            let value = line.split_once(" #").map_or(line, |(value, _)| value).trim_end();
            (Value::Open(value.to_owned()), after)
        };
        let value = match value {
            Value::Literal(value) => value,
            Value::Open(value) => interpolate(&value, &known).map_err(wrong)?,
        };
        set.insert(key, value);
        rest = after;
    }
}

enum Value {
    Literal(String),
    /// With variables in it.
    Open(String),
}

/// The key, and what follows `=` or `:`; `None`: the key stands alone.
fn key(text: &str) -> Result<(String, Option<&str>), String> {
    let blank = |c: char| c.is_whitespace() && c != '\n';
    let exported = text.strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace));
    let text = exported.map_or(text, |rest| rest.trim_start_matches(blank));
    for (at, c) in text.char_indices() {
        match c {
            '\n' => return named(&text[..at]).map(|key| (key, None)),
            '=' | ':' => {
                return Ok((named(&text[..at])?, Some(text[at + 1..].trim_start_matches(blank))));
            }
            '_' | '.' | '-' | '[' | ']' => {}
            c if c.is_alphanumeric() || blank(c) => {}
            // Without the line, which may be one of a key.
            c => return Err(format!("'{c}' can't be in the name of a variable")),
        }
    }
    if text.is_empty() {
        return Err("'export' names nothing".to_owned());
    }
    // Without a line's end Compose takes no name from it.
    Ok((String::new(), None))
}

fn named(key: &str) -> Result<String, String> {
    let key = key.trim_end();
    if key.contains(' ') { Err("the name of a variable has a space".to_owned()) } else { Ok(key.to_owned()) }
}

/// The value in quotes, and what follows.
fn quoted(text: &str, quote: char) -> Result<(Value, &str), String> {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices().skip(1) {
        match (c, escaped) {
            ('\\', false) => escaped = true,
            (c, false) if c == quote => {
                let after = &text[at + 1..];
                let value = if quote == '"' { Value::Open(escapes(&value)) } else { Value::Literal(value) };
                return Ok((value, after));
            }
            (c, was_escaped) => {
                if was_escaped && c != quote {
                    value.push('\\');
                }
                value.push(c);
                escaped = false;
            }
        }
    }
    // Without the value, which may be a password.
    Err("the quote is not closed".to_owned())
}

/// What a shell writes with a backslash. A literal `$` comes out as `$$`, for the variables that are put in next.
fn escapes(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        result.push_str(before);
        let Some(c) = after.chars().next() else {
            result.push('\\');
            return result;
        };
        rest = &after[c.len_utf8()..];
        match c {
            'a' => result.push('\u{7}'),
            'b' => result.push('\u{8}'),
            'f' => result.push('\u{c}'),
            'n' => result.push('\n'),
            'r' => result.push('\r'),
            't' => result.push('\t'),
            'v' => result.push('\u{b}'),
            '$' => result.push_str("$$"),
            '"' | '\\' => result.push(c),
            '0' => {
                let length = rest.bytes().take(3).take_while(u8::is_ascii_digit).count();
                let octal =
                    u32::from_str_radix(&rest[..length], 8).ok().filter(|code| length == 3 && *code < 256);
                match octal.and_then(char::from_u32) {
                    Some(c) => {
                        result.push(c);
                        rest = &rest[length..];
                    }
                    None => result.push_str("\\0"),
                }
            }
            c => {
                result.push('\\');
                result.push(c);
            }
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<BTreeMap<String, String>, (u64, String)> {
        let mut set = BTreeMap::new();
        read(text, &mut set, &|name| (name == "OUTSIDE").then(|| "out".to_owned())).map(|()| set)
    }

    #[test]
    fn values_are_read_as_compose_does() {
        for (text, value) in [
            ("K=v", "v"),
            ("K= v  # words", "v"),
            ("K=v#no words", "v#no words"),
            ("  export K = v", "v"),
            ("export\tK=v", "v"),
            ("K: v", "v"),
            ("K=a=b", "a=b"),
            ("K=", ""),
            ("K=\"a # b\" # words", "a # b"),
            ("K='$A \\n'", "$A \\n"),
            ("K='it\\'s'", "it's"),
            ("K=\"a\\nb\\\"\\$A \\0123 \\x\"", "a\nb\"$A S \\x"),
            ("K=\"two\nlines\"", "two\nlines"),
            ("K=C:\\dir\\x", "C:\\dir\\x"),
            ("A=1\nK=${A}${B:-2}$OUTSIDE", "12out"),
            ("OUTSIDE=in\nK=$OUTSIDE", "out"),
            ("\u{feff}# words\n\nK=v\r\n", "v"),
        ] {
            assert_eq!(parsed(text).unwrap().get("K").map(String::as_str), Some(value), "{text:?}");
        }
        assert_eq!(
            parsed("OUTSIDE\nNONE\n").unwrap().into_iter().collect::<Vec<_>>(),
            [("OUTSIDE".into(), "out".into())]
        );
        for (text, line) in [("K=v\nlol$wut", 2), ("A B=c", 1), ("\n\nK=\"open", 3), ("K=${x", 1)] {
            assert_eq!(parsed(text).unwrap_err().0, line, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "[K='\"\\\\$\n#0ä :]{0,24}") {
            let _ = parsed(&text);
        }
    }
}
