//! Paths as Compose completes them.

use std::path::{Component, Path, PathBuf};

/// Joins a path with the folder that it is relative to. What begins with `/`, or with a drive of Windows, is left as it stands.
pub(super) fn resolve(folder: &Path, text: &str, home: Option<&str>) -> String {
    let text = match (text.strip_prefix('~'), home) {
        (Some(rest), Some(home)) => clean(&format!("{home}/{rest}")),
        _ => text.to_owned(),
    };
    if text.starts_with('/') || is_of_windows(&text) {
        return text;
    }
    clean(&format!("{}/{text}", folder.display()))
}

/// Whether a path names a place of Windows: a drive, or a share (`\\server\share`).
pub(super) fn is_of_windows(path: &str) -> bool {
    let separator = |byte: Option<&u8>| matches!(byte, Some(b'/' | b'\\'));
    let bytes = path.as_bytes();
    if bytes.get(1) == Some(&b':') {
        return separator(bytes.get(2));
    }
    separator(bytes.first()) && separator(bytes.get(1))
}

/// Without `.`, `..`, doubled slashes and one at the end.
pub(super) fn clean(path: &str) -> String {
    let mut cleaned = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match cleaned.components().next_back() {
                Some(Component::RootDir) => {}
                Some(Component::Normal(_)) => {
                    cleaned.pop();
                }
                _ => cleaned.push(".."),
            },
            other => cleaned.push(other),
        }
    }
    let cleaned = cleaned.to_string_lossy().into_owned();
    if cleaned.is_empty() { ".".to_owned() } else { cleaned }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_completed_as_compose_does() {
        for (text, path) in [
            ("./a", "/p/a"),
            ("a/../../b/", "/b"),
            ("..", "/"),
            ("", "/p"),
            ("../../../q", "/q"),
            ("/a/../b", "/a/../b"),
            ("~/x", "/home/u/x"),
            ("~", "/home/u"),
            ("C:\\x", "C:\\x"),
            ("c:/x", "c:/x"),
            ("c:x", "/p/c:x"),
            ("\\\\srv\\share", "\\\\srv\\share"),
        ] {
            assert_eq!(resolve(Path::new("/p"), text, Some("/home/u")), path, "{text}");
        }
        assert_eq!(clean("relative/./x"), "relative/x");
        assert_eq!(clean("a/.."), ".");
    }
}
