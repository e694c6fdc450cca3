//! The names of what is not whole yet.

use std::ffi::{CStr, CString};

/// The same for the same file, so that the next copy replaces what a killed one left. Short, as names may have their greatest length.
pub(super) fn temporary(new: &CStr) -> CString {
    use std::hash::{DefaultHasher, Hash, Hasher};

    let mut hasher = DefaultHasher::new();
    new.hash(&mut hasher);
    CString::new(format!(".tierce-copy-{:016x}", hasher.finish())).expect("hexadecimal digits have no NUL")
}
