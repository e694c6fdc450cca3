//! `$VARIABLE` in a Compose file's values (compose-spec, "Interpolation").

/// Replaces variables; `Err` says what is wrong. `$$` is one `$`.
pub(super) fn interpolate(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) =
                after.split_once('}').ok_or_else(|| format!("'${{' without '}}' in '{text}'"))?;
            result.push_str(&braced(inside, variable)?);
            rest = after;
        } else {
            let length =
                after.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
            let (name, after) = after.split_at(length);
            if name.is_empty() {
                return Err(format!("'$' without a name in '{text}': write $$ for a single $"));
            }
            result.push_str(&variable(name).unwrap_or_default());
            rest = after;
        }
    }
    result.push_str(rest);
    Ok(result)
}

fn braced(inside: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let length = inside.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let (name, operator) = inside.split_at(length);
    let set = variable(name);
    let full = set.clone().filter(|value| !value.is_empty());
    if operator.is_empty() && !name.is_empty() {
        return Ok(set.unwrap_or_default());
    }
    let missing = |message: &str| format!("variable {name} is not set: {message}");
    for (mark, value) in [(":-", &full), ("-", &set)] {
        if let Some(default) = operator.strip_prefix(mark) {
            return Ok(value.clone().unwrap_or_else(|| default.to_owned()));
        }
    }
    for (mark, value) in [(":?", &full), ("?", &set)] {
        if let Some(message) = operator.strip_prefix(mark) {
            return value.clone().ok_or_else(|| missing(message));
        }
    }
    Err(format!(
        "'${{{inside}}}' is not understood: write ${{NAME}}, ${{NAME:-default}} or ${{NAME:?message}}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_compose_does() {
        let variable = |name: &str| match name {
            "A" => Some("x".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("plain", Some("plain")),
            ("$A/${A}$$A", Some("x/x$A")),
            ("${NONE}-$NONE", Some("-")),
            ("${NONE:-d}${EMPTY:-d}${EMPTY-d}", Some("dd")),
            ("${A:?no}", Some("x")),
            ("${NONE:?say it}", None),
            ("${A", None),
            ("$", None),
            ("${A!}", None),
        ] {
            assert_eq!(interpolate(text, &variable).ok().as_deref(), expected, "{text}");
        }
    }
}
