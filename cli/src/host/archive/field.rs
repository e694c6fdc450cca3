//! Numbers, times, names and check sums as archives write them.

use std::io;

use rustix::fs::Timespec;

use super::refusal::bad;

/// Bytes of a header; the content of a file is filled up to a multiple of it.
pub(super) const BLOCK: u64 = 512;

/// A number of a header: octal digits, or, where the first bit is set, the number itself.
pub(super) fn number(field: &[u8]) -> io::Result<i128> {
    if let Some(first) = field.first().filter(|first| **first & 0x80 != 0) {
        // The bit after the mark is the sign.
        let begin = if first & 0x40 != 0 { -1 } else { 0 };
        let head = i128::from(first & 0x7f) | if begin < 0 { !0x7f } else { 0 };
        return Ok(field[1..].iter().fold(head, |value, byte| (value << 8) | i128::from(*byte)));
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| !blank(byte)).copied();
    let digits: Vec<u8> = digits.collect();
    let rest = field.iter().skip_while(|byte| **byte == b' ').skip(digits.len());
    if !rest.clone().all(blank) || !digits.iter().all(|digit| matches!(digit, b'0'..=b'7')) {
        return Err(bad("has a number in its header that can't be read"));
    }
    Ok(digits.iter().fold(0, |value, digit| value * 8 + i128::from(digit - b'0')))
}

/// The same for what is never negative and fits.
pub(super) fn natural<T: TryFrom<i128>>(field: &[u8]) -> io::Result<T> {
    T::try_from(number(field)?).map_err(|_| bad("has a number in its header that is out of range"))
}

/// The check sum counts its own field as blanks. Some old writers took bytes for signed numbers.
pub(super) fn is_sum_right(block: &[u8; 512]) -> bool {
    let blanked =
        || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let plain: i128 = blanked().map(i128::from).sum();
    let signed: i128 = blanked().map(|byte| i128::from(byte.cast_signed())).sum();
    number(&block[148..156]).is_ok_and(|sum| sum == plain || sum == signed)
}

/// A decimal number of an extended record.
pub(super) fn decimal<T: std::str::FromStr>(text: &[u8]) -> io::Result<T> {
    let digits = text.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(text).ok()).flatten();
    digits
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| bad(&format!("has '{}' for a number", String::from_utf8_lossy(text))))
}

/// Seconds with a fraction, which may be negative. Python writes what is near to zero with an exponent.
pub(super) fn time(text: &[u8]) -> io::Result<Timespec> {
    let wrong = || bad(&format!("has '{}' for a time", String::from_utf8_lossy(text)));
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (digits, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty()
        || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        || fraction.contains('.')
    {
        return Err(wrong());
    }
    // A hundred digits more in front of the point, and as many behind the last one: nobody has a time that needs more.
    let exponent: isize = exponent.parse().map_err(|_| wrong())?;
    let point = exponent.checked_add_unsigned(whole.len() + 100).filter(|_| exponent.unsigned_abs() <= 100);
    let digits = format!("{0:0<100}{whole}{fraction}{0:0<100}", "");
    let (whole, fraction) = digits.split_at(usize::try_from(point.ok_or_else(wrong)?).map_err(|_| wrong())?);
    let seconds: i64 = whole.parse().map_err(|_| wrong())?;
    // The kernel knows no more than nanoseconds: what is between two of them is of the earlier one.
    let nanoseconds: i64 = format!("{fraction:0<9.9}").parse().map_err(|_| wrong())?;
    let is_between = negative && fraction.bytes().skip(9).any(|digit| digit != b'0');
    let nanoseconds = nanoseconds + i64::from(is_between);
    Ok(match (negative, nanoseconds) {
        (false, _) => Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
        (true, 0) => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        // Nanoseconds count forward.
        (true, _) => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanoseconds },
    })
}

/// A time as an extended record writes it.
pub(super) fn written_time(time: Timespec) -> String {
    let (seconds, nanoseconds) = (time.tv_sec, time.tv_nsec);
    match (seconds < 0, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (false, _) => format!("{seconds}.{nanoseconds:09}"),
        (true, _) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

/// What is before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary_and_nothing_else() {
        for (field, expected) in [
            (b"0000644\0".as_slice(), 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"        ", 0),
            (b"77777777", 0o77_777_777),
            (&[0x80, 0, 0, 0, 0x12, 0x34, 0x56, 0x78], 0x1234_5678),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], -2),
        ] {
            assert_eq!(number(field).unwrap(), expected, "{field:?}");
        }
        for bad in [b"0000648\0".as_slice(), b"-000001\0", b"12 34\0\0\0", b"abc\0\0\0\0\0"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
        assert!(natural::<u64>(&[0xff; 8]).is_err());
    }

    #[test]
    fn times_before_1970_and_fractions_go_round() {
        let spec = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        for (text, expected) in [
            ("0", spec(0, 0)),
            ("1234567890.5", spec(1_234_567_890, 500_000_000)),
            ("1.0000000019", spec(1, 1)),
            ("-1", spec(-1, 0)),
            ("-0.25", spec(-1, 750_000_000)),
            ("-1.5", spec(-2, 500_000_000)),
            ("-1.0000000019", spec(-2, 999_999_998)),
            ("-1.9999999999", spec(-2, 0)),
            ("1e-05", spec(0, 10_000)),
            ("1.5e-09", spec(0, 1)),
            ("-9.5367431640625e-07", spec(-1, 999_999_046)),
            ("1e-100", spec(0, 0)),
            ("1.796e+09", spec(1_796_000_000, 0)),
            ("12.5E1", spec(125, 0)),
        ] {
            let read = time(text.as_bytes()).unwrap();
            assert_eq!((read.tv_sec, read.tv_nsec), (expected.tv_sec, expected.tv_nsec), "{text}");
            let again = time(written_time(read).as_bytes()).unwrap();
            assert_eq!((again.tv_sec, again.tv_nsec), (read.tv_sec, read.tv_nsec), "{text}");
        }
        for bad in [
            "",
            ".",
            "1.2.3",
            "1e",
            "e9",
            "1e1.5",
            "1e9e9",
            "1e101",
            "1e-101",
            "1e99999999999999999999",
            "1e19",
            "--1",
            "+1",
            "9999999999999999999",
        ] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
