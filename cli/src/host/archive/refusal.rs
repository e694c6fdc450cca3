//! Why an archive is not taken, in words that go on after "can't import volume 'x': ".

use std::io;

/// An archive, or a part of it, that can't be what is asked for.
pub(super) fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

/// An archive that ends before its end.
pub(super) fn early(error: io::Error) -> io::Error {
    match error.kind() {
        // A decompressor's own words say more.
        io::ErrorKind::UnexpectedEof
            if error.get_ref().is_none_or(|inner| !inner.to_string().contains("compression")) =>
        {
            bad("the archive ends early: a part of it is missing")
        }
        _ => error,
    }
}

/// Names the entry in an error that says what is wrong with it.
pub(super) fn of_entry(path: &[u8], error: &io::Error) -> io::Error {
    let path = String::from_utf8_lossy(path).escape_debug().to_string();
    io::Error::new(error.kind(), format!("the archive's entry '{path}' {error}"))
}
