//! What an unquoted word of YAML is, and how Compose writes it where a text is wanted (a label, a driver's option).

use super::node::Value;

/// The value of an unquoted word, as the YAML library of Compose reads it: numbers with the prefixes of YAML 1.1 and 1.2.
pub(super) fn plain(word: &str) -> Value {
    match word {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Flag(true),
        "false" | "False" | "FALSE" => return Value::Flag(false),
        _ => {}
    }
    if let Some(moment) = moment(word) {
        return Value::Date(moment);
    }
    let number = match word.chars().next() {
        Some('.') => decimal("", word),
        Some(c) if c.is_ascii_digit() || matches!(c, '+' | '-') => number(&word.replace('_', "")),
        _ => None,
    };
    number.map_or_else(|| Value::Text(word.to_owned()), Value::Number)
}

fn number(word: &str) -> Option<String> {
    let (sign, digits) = match word.strip_prefix(['-', '+']) {
        Some(rest) => (&word[..1], rest),
        None => ("", word),
    };
    // Beyond these it is a floating-point number.
    let most = match sign {
        "-" => i64::MIN.unsigned_abs(),
        "+" => i64::MAX.unsigned_abs(),
        _ => u64::MAX,
    };
    let shown = if sign == "-" { "-" } else { "" };
    match whole(digits).filter(|number| *number <= most) {
        // A zero with a sign is one of those too, if it is written in this way.
        Some(0) if word != "-0" => Some("0".to_owned()),
        Some(number) => Some(format!("{shown}{number}")),
        None => decimal(shown, digits),
    }
}

fn decimal(sign: &str, digits: &str) -> Option<String> {
    let number = is_decimal(digits).then(|| digits.parse::<f64>().ok()).flatten()?;
    number.is_finite().then(|| format!("{sign}{}", float(number)))
}

fn whole(digits: &str) -> Option<u64> {
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let digit = |c: char| c.is_ascii_hexdigit();
    digits.chars().all(digit).then(|| u64::from_str_radix(digits, base).ok()).flatten()
}

/// `1`, `1.`, `.5`, each with an exponent or without.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    exponent && all_digits(before) && all_digits(after) && !(before.is_empty() && after.is_empty())
}

/// As Go writes a floating-point number: the shortest digits, with an exponent below 1e-4 and from a million on.
fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&power) {
        return number.to_string();
    }
    format!("{mantissa}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// An unquoted date becomes a moment, and a moment is written so where a text is wanted: `2024-01-01`, `2024-01-01 8:00:00.5`,
/// `2024-01-01T08:00:00+01:00`.
fn moment(word: &str) -> Option<String> {
    let (day, time) = match word.split_once(['T', 't', ' ']) {
        Some((day, time)) => (day, Some(time)),
        None => (word, None),
    };
    let is_local = word.contains(' ');
    let [year, month, day] = numbers(day, '-')?;
    if !word
        .as_bytes()
        .get(..5)
        .is_some_and(|start| start[4] == b'-' && start[..4].iter().all(u8::is_ascii_digit))
    {
        return None;
    }
    let date =
        jiff::civil::Date::new(i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?)
            .ok()?;
    let Some(time) = time else { return Some(format!("{date} 00:00:00 +0000 UTC")) };
    let (time, zone) = match time.strip_suffix('Z') {
        _ if is_local => (time, "+0000 UTC".to_owned()),
        Some(time) => (time, "+0000 UTC".to_owned()),
        None => {
            let (time, zone) = time.split_at_checked(time.len().checked_sub(6)?)?;
            let (sign, hours, minutes) =
                (zone.get(..1)?, zone.get(1..3)?, zone.strip_prefix(&zone[..3])?.strip_prefix(':')?);
            let fits =
                |text: &str, most: u8| text.len() == 2 && text.parse().is_ok_and(|number: u8| number <= most);
            if !["+", "-"].contains(&sign) || !fits(hours, 24) || !fits(minutes, 59) {
                return None;
            }
            let zone = format!("{sign}{hours}{minutes}");
            (time, if zone == "+0000" { "+0000 UTC".to_owned() } else { format!("{zone} {zone}") })
        }
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let [hour, minute, second] = numbers(time, ':')?;
    if hour > 23 || minute > 59 || second > 59 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = fraction.get(..9).unwrap_or(fraction).trim_end_matches('0');
    let fraction = if fraction.is_empty() { String::new() } else { format!(".{fraction}") };
    Some(format!("{date} {hour:02}:{minute:02}:{second:02}{fraction} {zone}"))
}

/// Three numbers, the first of up to four digits, the others of up to two.
fn numbers(text: &str, between: char) -> Option<[u16; 3]> {
    let mut parts = text.splitn(3, between);
    let mut number = |most: usize| {
        let part = parts.next()?;
        let digits = (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    Some([number(4)?, number(2)?, number(2)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written_as_compose_does() {
        for (word, text) in [
            ("1", "1"),
            ("1.0", "1"),
            ("1.10", "1.1"),
            ("0x10", "16"),
            ("017", "15"),
            ("0o17", "15"),
            ("0b11", "3"),
            ("1_000", "1000"),
            ("1e3", "1000"),
            (".5", "0.5"),
            ("1e30", "1e+30"),
            ("1e-7", "1e-07"),
            ("1e20", "1e+20"),
            ("089", "89"),
            ("123456789.5", "1.234567895e+08"),
            ("100000.0", "100000"),
            ("+1", "1"),
            ("-0", "-0"),
            ("-00", "0"),
            ("-9223372036854775809", "-9.223372036854776e+18"),
            ("+18446744073709551615", "1.8446744073709552e+19"),
            ("12345678901234567890", "12345678901234567890"),
        ] {
            assert_eq!(plain(word), Value::Number(text.to_owned()), "{word}");
        }
        for (word, text) in [
            ("2024-1-1", "2024-01-01 00:00:00 +0000 UTC"),
            ("2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.1 -0500 -0500"),
            ("2001-12-14T1:59:43Z", "2001-12-14 01:59:43 +0000 UTC"),
            ("2001-12-14 21:59:43.123456789", "2001-12-14 21:59:43.123456789 +0000 UTC"),
        ] {
            assert_eq!(plain(word), Value::Date(text.to_owned()), "{word}");
        }
        for text in [
            "yes",
            "tRue",
            ".5_0",
            "1e400",
            "1.2.3",
            "64Mi",
            "-",
            ".",
            "0x",
            "1e",
            "abc",
            "2024-13-01",
            "2024-01-01 8:00",
            "2024-01-01Tx",
            "24-01-01",
        ] {
            assert_eq!(plain(text), Value::Text(text.to_owned()), "{text}");
        }
        assert_eq!(plain("~"), Value::Null);
        assert_eq!(plain("TRUE"), Value::Flag(true));
    }
}
