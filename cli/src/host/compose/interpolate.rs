//! `$VARIABLE` in the values of a Compose file and of an environment file.
//!
//! The grammar is the one that Compose has, its edges included: a `$` that begins nothing stays, what stands in braces ends at the brace that
//! fits, and a text may hold several of them one after the other.

pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces variables; `Err` says what is wrong.
pub(super) fn interpolate(text: &str, variable: Environment<'_>) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        rest = match after.as_bytes().first() {
            Some(b'$') => {
                result.push('$');
                &after[1..]
            }
            Some(byte) if is_first(*byte) => {
                let (name, rest) = after.split_at(name_length(after));
                result.push_str(&variable(name).unwrap_or_default());
                rest
            }
            Some(b'{') => {
                let length = braced_length(&after[1..]).ok_or_else(invalid)?;
                let (braced, rest) = after.split_at(length + 1);
                result.push_str(&braces(braced, variable)?);
                rest
            }
            _ => {
                result.push('$');
                after
            }
        };
    }
    result.push_str(rest);
    Ok(result)
}

/// Without the text, which may be a password.
fn invalid() -> String {
    "what begins with '${' is not understood: write ${NAME}, ${NAME:-default}, ${NAME:+other} or ${NAME:?message}, and $$ for a single $".to_owned()
}

fn is_first(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

fn name_length(text: &str) -> usize {
    if !text.bytes().next().is_some_and(is_first) {
        return 0;
    }
    text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
}

/// The operator behind a name.
fn operator(text: &str) -> Option<&'static str> {
    [":-", "-", ":+", "+", ":?", "?"].into_iter().find(|operator| text.starts_with(operator))
}

/// How far what follows `${` reaches: with an operator to the last `}` of the line, since a default may hold braces itself.
fn braced_length(text: &str) -> Option<usize> {
    let name = name_length(text);
    let after = &text[name..];
    if name == 0 {
        return None;
    }
    if operator(after).is_some() {
        let line = after.split('\n').next().unwrap_or_default();
        return line.rfind('}').map(|end| name + end + 1);
    }
    after.starts_with('}').then_some(name + 1)
}

/// `braced`: `{NAME…}` and what may follow up to a later `}`.
fn braces(braced: &str, variable: Environment<'_>) -> Result<String, String> {
    let end = fitting_brace(braced).unwrap_or(braced.len() - 1);
    let (inside, rest) = (&braced[1..end], &braced[end + 1..]);
    let (name, after) = inside.split_at(name_length(inside));
    if name.is_empty() {
        return Err(invalid());
    }
    let value = variable(name);
    let Some(operator) = operator(after) else {
        return Ok(value.unwrap_or_default() + rest);
    };
    let other = &after[operator.len()..];
    let value_counts = value.as_ref().is_some_and(|value| !operator.starts_with(':') || !value.is_empty());
    let replaced = match (operator.trim_start_matches(':'), value_counts) {
        ("+", false) | ("-" | "?", true) => value.unwrap_or_default(),
        ("?", false) => {
            let message = interpolate(other, variable)?;
            let message = if message.is_empty() { message } else { format!(": {message}") };
            return Err(format!("variable {name} is not set{message}"));
        }
        _ => interpolate(other, variable)?,
    };
    Ok(replaced + &interpolate(rest, variable)?)
}

/// Where the first brace is closed again. What follows an opening one directly is passed over, as Compose does.
fn fitting_brace(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut open, mut at) = (0_i32, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            b'{' => {
                open += 1;
                at += 1;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "A" => Some("x".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_as_compose_does() {
        for (text, expected) in [
            ("plain", Some("plain")),
            ("$A/${A}$$A", Some("x/x$A")),
            ("${NONE}-$NONE", Some("-")),
            ("${NONE:-d}${EMPTY:-d}${EMPTY-d}", Some("dd")),
            ("${NONE:-${ALSO_NONE:-deep}}", Some("deep")),
            ("${NONE:-a-${A}}/${A:+b}", Some("a-x/b")),
            ("${NONE:+b}${EMPTY:+b}${EMPTY+c}${A+$A}", Some("cx")),
            ("${NONE:-g}h}", Some("gh}")),
            ("${NONE:-{\"a\":{}}", Some("{\"a\":{}")),
            ("${A:-${UNCLOSED}", Some("x")),
            ("n$${A}", Some("n${A}")),
            ("$ 5$ $1", Some("$ 5$ $1")),
            ("${A:?no}", Some("x")),
            ("${NONE:?say it}", None),
            ("${EMPTY?}", Some("")),
            ("${EMPTY:?}", None),
            ("${A", None),
            ("${}", None),
            ("${A!}", None),
            ("${1}", None),
            ("${NONE:-a\nb}", None),
        ] {
            assert_eq!(interpolate(text, &variable).ok().as_deref(), expected, "{text}");
        }
        assert_eq!(interpolate("${N:?not ${A}}", &variable).unwrap_err(), "variable N is not set: not x");
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "[$A{}:?+\\-\nä1]{0,24}") {
            let _ = interpolate(&text, &variable);
        }
    }
}
