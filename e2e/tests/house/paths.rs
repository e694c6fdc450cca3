//! Every path that a document names is there.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders and files at the top of the tree: a word in back-ticks that begins with one of them is a path.
fn tops(root: &Path) -> Vec<String> {
    let listed = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    listed.filter(|name| name != "target" && name != ".git").collect()
}

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !["target", ".git", "node_modules"].contains(&name) {
            documents(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The words in single back-ticks and the targets of links, outside of blocks of code.
fn named(text: &str) -> Vec<(String, bool)> {
    let mut words = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            words.extend(line.split('`').skip(1).step_by(2).map(|word| (word.to_owned(), false)));
            for piece in line.split("](").skip(1) {
                let target = piece.split([')', '#', ' ']).next().unwrap_or_default();
                if !target.is_empty() && !target.contains("://") {
                    words.push((target.to_owned(), true));
                }
            }
        }
    }
    words
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn spelled_out(word: &str) -> Vec<String> {
    let Some((before, rest)) = word.split_once('{') else { return vec![word.to_owned()] };
    let Some((inside, after)) = rest.split_once('}') else { return vec![word.to_owned()] };
    inside.split(',').flat_map(|piece| spelled_out(&format!("{before}{}{after}", piece.trim()))).collect()
}

/// True if something is at that path, in which a `*` stands for any part of one name.
fn there(root: &Path, path: &str) -> bool {
    let Some((before, after)) = path.split_once('*') else { return root.join(path).exists() };
    let (folder, start) = before.rsplit_once('/').unwrap_or(("", before));
    let (end, rest) = after.split_once('/').map_or((after, ""), |(end, rest)| (end, rest));
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(start) && name.ends_with(end) && (rest.is_empty() || there(&entry.path(), rest))
    })
}

#[test]
fn every_path_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tops = tops(root);
    let mut files = Vec::new();
    documents(root, &mut files);
    let (mut looked_at, mut missing) = (0, Vec::new());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let short = file.strip_prefix(root).unwrap().display().to_string();
        for (word, is_link) in named(&text) {
            let first = word.split('/').next().unwrap_or_default();
            let is_path = word.contains('/')
                && tops.iter().any(|top| top == first)
                && !word.contains(['…', '<', ' ', '$', ':', '='])
                && !word.contains("::");
            if !is_link && !is_path {
                continue;
            }
            let here = file.parent().unwrap();
            for path in spelled_out(&word) {
                looked_at += 1;
                let path = path.trim_end_matches('/');
                // A link leads on from its document; other words from the top of the tree or from there.
                if !there(here, path) && (is_link || !there(root, path)) {
                    missing.push(format!("{short}: {path}"));
                }
            }
        }
    }
    assert!(looked_at > 50, "only {looked_at} paths were found in the documents");
    assert!(missing.is_empty(), "these paths are named and not there:\n{}", missing.join("\n"));
}

#[test]
fn a_path_is_told_from_other_words() {
    let text =
        "See `a/b.rs` and [c](d/e.md#f), not [web](https://x.y).\n```\n`no/path`\n```\n`tierce-<tier>`";
    let words: Vec<(String, bool)> = named(text);
    let expected = [("a/b.rs", false), ("d/e.md", true), ("tierce-<tier>", false)];
    assert_eq!(words, expected.map(|(word, is_link)| (word.to_owned(), is_link)));
    assert_eq!(spelled_out("x/{a,b}.rs"), ["x/a.rs", "x/b.rs"]);
}
