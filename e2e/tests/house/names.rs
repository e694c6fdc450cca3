//! Labels, annotations, finalizers and other names of Tierce in Kubernetes have one prefix, that of its API group.

use std::fs;
use std::path::{Path, PathBuf};

const GROUP: &str = "storage.tierce.dev";

/// Names that can't change, since objects hold them that nobody may edit, and why they lie elsewhere:
/// docs/decisions/2026-11-30-shapes-that-last.md.
const OTHERS: [&str; 4] = [
    // In the node affinity of every PersistentVolume.
    "topology.tierce.dev/node",
    // Paths in the folder that the kubelet gives to the driver of that name.
    "csi.tierce.dev/csi.sock",
    "csi.tierce.dev/exports",
    "csi.tierce.dev/shared",
];

const READ: [&str; 8] = ["rs", "yaml", "yml", "tpl", "sh", "md", "txt", "json"];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_dir() && !["target", ".git"].contains(&name) {
            files(&path, found);
        } else if READ.contains(&extension) {
            found.push(path);
        }
    }
}

/// Names below a domain of Tierce.
fn names(text: &str) -> Vec<String> {
    let part = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    let domain = concat!("tierce", ".dev/");
    let found = text.match_indices(domain).map(|(at, _)| {
        let start = text[..at].trim_end_matches(part).len();
        let rest = &text[at + domain.len()..];
        let end = at + domain.len() + (rest.len() - rest.trim_start_matches(part).len());
        text[start..end].trim_end_matches('.').to_owned()
    });
    found.collect()
}

fn is_one_of_ours(name: &str) -> bool {
    let prefix = name.split('/').next().unwrap_or_default();
    // `volumes.storage.tierce.dev/data` is an object, as kubectl prints it.
    prefix == GROUP || prefix.ends_with(&format!(".{GROUP}")) || OTHERS.contains(&name)
}

#[test]
fn every_name_in_kubernetes_has_one_prefix() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = Vec::new();
    files(root, &mut all);
    let (mut seen, mut wrong) = (0, Vec::new());
    for file in all {
        for name in names(&fs::read_to_string(&file).unwrap_or_default()) {
            seen += 1;
            if !is_one_of_ours(&name) {
                wrong.push(format!("{}: {name}", file.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert!(seen > 50, "it looked at too little: {seen}");
    assert!(wrong.is_empty(), "not below {GROUP}/:\n{}", wrong.join("\n"));
}

#[test]
fn a_name_with_another_prefix_is_found() {
    let text =
        concat!("see \"pool.tierce", ".dev/size\" and storage.tierce", ".dev/volume, tierce", ".dev/x.");
    let found = names(text);
    assert_eq!(found.len(), 3, "{found:?}");
    let ours: Vec<_> = found.iter().map(|name| is_one_of_ours(name)).collect();
    assert_eq!(ours, [false, true, false], "{found:?}");
}
