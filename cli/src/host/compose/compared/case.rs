//! Cases as texts: `=== title`, lines of options, and files that begin with `--- name`.

use std::{collections::BTreeMap, fs, path::Path};

#[derive(Debug, Clone, Default)]
pub(super) struct Case {
    pub(super) title: String,
    pub(super) files: Vec<(String, String)>,
    pub(super) environment: BTreeMap<String, String>,
    /// Options of the command line.
    pub(super) options: Vec<(String, String)>,
    /// Where the command runs, below the project's folder.
    pub(super) within: String,
    pub(super) lines_of_windows: bool,
    pub(super) expected: Expected,
    /// What our refusal must say.
    pub(super) word: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Expected {
    #[default]
    Same,
    Refused,
    RefusedByUs,
    RefusedByCompose,
}

impl Case {
    pub(super) fn option(&self, name: &str) -> Vec<String> {
        self.options.iter().filter(|(own, _)| own == name).map(|(_, value)| value.clone()).collect()
    }

    pub(super) fn write(&self, folder: &Path) {
        for (name, text) in &self.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = if self.lines_of_windows { &text.replace('\n', "\r\n") } else { text };
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(folder.join(&self.within)).unwrap();
    }
}

pub(super) fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("=== ") {
            cases.push(Case { title: title.to_owned(), ..Case::default() });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        if let Some(name) = line.strip_prefix("--- ") {
            case.files.push((name.to_owned(), String::new()));
        } else if let Some((_, text)) = case.files.last_mut() {
            text.push_str(line);
            text.push('\n');
        } else {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "" | "#" => {}
                "env" => {
                    let (name, value) = rest.split_once('=').unwrap();
                    case.environment.insert(name.to_owned(), value.to_owned());
                }
                "lines-of-windows" => case.lines_of_windows = true,
                "in" => rest.clone_into(&mut case.within),
                "refused" => (case.expected, case.word) = (Expected::Refused, rest.to_owned()),
                "refused-by-us" => (case.expected, case.word) = (Expected::RefusedByUs, rest.to_owned()),
                "refused-by-compose" => case.expected = Expected::RefusedByCompose,
                "file" | "name" | "profile" | "env-file" | "project-directory" => {
                    case.options.push((word.to_owned(), rest.to_owned()));
                }
                other => panic!("{}: '{other}' is no option of a case", case.title),
            }
        }
    }
    cases
}
