//! What was said outside the guest's disks, over all boots.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// The file, and what it held at the boot.
#[derive(Clone)]
pub(crate) struct Said {
    file: PathBuf,
    lines: Vec<String>,
}

impl Said {
    pub(crate) fn open(file: &Path) -> Self {
        let mut text = fs::read_to_string(file).unwrap_or_default();
        // The cut came while the last line was on its way; nobody was told of it, and the next line is none of it.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            text.truncate(whole);
            let file = fs::OpenOptions::new().write(true).open(file).unwrap();
            file.set_len(whole.try_into().unwrap()).unwrap();
        }
        Self { file: file.to_owned(), lines: text.lines().map(str::to_owned).collect() }
    }

    /// Says something. It is the host's when this returns: the guest's kernel writes the file out as it is closed.
    pub(crate) fn say(&self, line: &str) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(&self.file).unwrap();
        // By one call, since writers speak beside it.
        file.write_all(format!("{line}\n").as_bytes()).unwrap();
        drop(file);
        println!("said: {line}");
    }

    /// The words after `start` in the last line that starts so, of boots before this one.
    pub(crate) fn last(&self, start: &str) -> Option<Vec<String>> {
        let of_line = |line: &String| line.strip_prefix(start).map(words);
        self.lines.iter().rev().find_map(of_line)
    }

    /// The highest number of records of a volume that was acknowledged.
    pub(crate) fn acknowledged(&self, volume: &str) -> u64 {
        self.last(&format!("acknowledged {volume}")).map_or(0, |words| words[0].parse().unwrap())
    }

    /// Whether the last operation that began with this line was settled.
    pub(crate) fn settled(&self, begin: &str) -> bool {
        let newest = self.lines.iter().rev().take_while(|line| !line.starts_with(begin));
        newest.into_iter().any(|line| line == "settled")
    }

    /// Whether one of those lines came after the last that starts with `begin`.
    pub(crate) fn since_begin(&self, line: &str) -> bool {
        let newest = self.lines.iter().rev().take_while(|said| !said.starts_with("begin "));
        newest.into_iter().any(|said| said == line)
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
