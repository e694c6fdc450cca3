//! Why an archive is not taken, in words that go on after "can't import volume 'x': ".

use std::io;

use super::super::tree_descent::shown;

/// What GNU tar says with a kind of entry, or in its POSIX dialect with a keyword.
pub(super) const OF_A_SPLIT_ARCHIVE: &str =
    "the archive is a part of a split one: unpack all parts with GNU tar, and pack them anew without -M";
pub(super) const OF_AN_INCREMENTAL_ARCHIVE: &str =
    "the archive is incremental, which is not read here: unpack it with GNU tar and pack it anew";

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
    let path = shown(path).escape_debug().to_string();
    let text = error.to_string();
    // Words of ours go on after the name; the system's, and those of the whole archive, are a sentence of their own.
    let goes_on = error.kind() == io::ErrorKind::InvalidData && !text.starts_with("the archive");
    let link = if goes_on { "" } else { ":" };
    io::Error::new(error.kind(), format!("the archive's entry '{path}'{link} {text}"))
}
