//! Making filesystems with whatever mkfs the host has: an older one does not know each word, a newer one
//! turns on by itself what an older kernel can't mount. Both is learned from them, and remembered.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::{
    features,
    make::{self, Learned},
    probe::WINDOW,
};
use crate::{CommandError, Error, Runner, error::Context, filesystem::make::NewFilesystem, lasting::lasting};

/// How often mkfs is run at most for one filesystem. It is run again only when a run has shown what this
/// host's mkfs lacks.
const ATTEMPTS: usize = 4;

/// Makes filesystems, and remembers what this host's mkfs programs do not know and what they do unasked.
#[derive(Debug, Default)]
pub(crate) struct Maker {
    learned: Mutex<Learned>,
}

impl Maker {
    /// Makes a filesystem that Linux 5.15 can mount.
    pub(crate) fn make(
        &self,
        runner: &dyn Runner,
        device: &Path,
        new: &NewFilesystem<'_>,
    ) -> Result<(), Error> {
        let filesystem = new.filesystem;
        let mut unknown = Vec::new();
        for _ in 0..ATTEMPTS {
            let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let program = make::program(new, &learned, device);
            tracing::info!(program = program.line(), "making a filesystem");
            match lasting("make a filesystem", || runner.run(&program)) {
                Err(CommandError::Failed { stderr, .. })
                    if !learned.no_prezeroed && stderr.contains(make::PREZEROED) =>
                {
                    self.learn(|learned| learned.no_prezeroed = true);
                    continue;
                }
                other => other?,
            };
            let head = head(device).doing(|| format!("read what was made on {}", device.display()))?;
            let beyond = features::beyond(filesystem, &head);
            if beyond.is_empty() {
                return Ok(());
            }
            unknown = beyond.iter().map(|feature| feature.name.clone()).collect();
            let words = beyond.iter().filter_map(|feature| Some((filesystem, feature.left_out_by?)));
            let new_words: Vec<_> = words.filter(|word| !learned.left_out.contains(word)).collect();
            if new_words.is_empty() {
                break;
            }
            tracing::info!(%filesystem, features = unknown.join(", "), "leaving out what Linux 5.15 can't mount");
            // Another call may have learned the same meanwhile, and mkfs.xfs takes no word twice.
            self.learn(|learned| {
                for word in new_words {
                    if !learned.left_out.contains(&word) {
                        learned.left_out.push(word);
                    }
                }
            });
        }
        Err(Error::Unsupported(format!(
            "the mkfs.{filesystem} of this host gives a filesystem features that Linux 5.15 can't mount ({}), so it was not used",
            unknown.join(", ")
        )))
    }

    fn learn(&self, what: impl FnOnce(&mut Learned)) {
        what(&mut self.learned.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn head(device: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(device)?.take(WINDOW).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::FileExt, process::Command, sync::Mutex};

    use uuid::Uuid;

    use super::*;
    use crate::{CommandOutput, Filesystem, Program};

    /// What newer programs turn on unless they are told this word: its place in the superblock.
    const NEWER: [(&str, &str, u64, [u8; 4]); 4] = [
        ("mkfs.btrfs", "^block-group-tree", 65_536 + 180, [8, 0, 0, 0]),
        ("mkfs.btrfs", "^raid-stripe-tree", 65_536 + 188, [0, 0x40, 0, 0]),
        ("mkfs.xfs", "nrext64=0", 216, [0, 0, 0, 0x20]),
        ("mkfs.xfs", "parent=0", 216, [0, 0, 0, 0x80]),
    ];

    /// The programs of this machine, as if they were of another age.
    struct Tools {
        newer: Vec<(&'static str, &'static str, u64, [u8; 4])>,
        lines: Mutex<Vec<String>>,
    }

    fn tools(newer: &[(&'static str, &'static str, u64, [u8; 4])]) -> Tools {
        Tools { newer: newer.to_vec(), lines: Mutex::default() }
    }

    impl Runner for Tools {
        fn run(&self, program: &Program) -> Result<CommandOutput, CommandError> {
            self.lines.lock().unwrap().push(program.line());
            let asked: Vec<&str> =
                program.arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
            if self.newer.is_empty() && asked.iter().any(|argument| argument.contains("prezeroed")) {
                return Err(CommandError::Failed {
                    line: program.line(),
                    status: "exit status: 1".to_owned(),
                    code: Some(1),
                    stderr: "\nBad option(s) specified: assume_storage_prezeroed\n\nExtended options"
                        .to_owned(),
                    stdout: String::new(),
                });
            }
            // The program of this machine may not know the words; each is one option's.
            let known = |at: usize| NEWER.iter().all(|(_, word, ..)| asked.get(at) != Some(word));
            let fewer: Vec<&str> =
                (0..asked.len()).filter(|at| known(*at) && known(at + 1)).map(|at| asked[at]).collect();
            let run = |arguments: &[&str]| {
                Command::new(program.name)
                    .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                    .env("MKE2FS_CONFIG", Path::new(asked.last().unwrap()).with_extension("conf"))
                    .args(arguments)
                    .output()
                    .unwrap()
            };
            let output = Some(run(&asked)).filter(|output| output.status.success());
            let output = output.unwrap_or_else(|| run(&fewer));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let device = File::options().read(true).write(true).open(asked.last().unwrap()).unwrap();
            for (name, word, at, bits) in &self.newer {
                if program.name == *name && !asked.contains(word) {
                    let mut now = [0; 4];
                    device.read_exact_at(&mut now, *at).unwrap();
                    let with = u32::from_ne_bytes(now) | u32::from_ne_bytes(*bits);
                    device.write_all_at(&with.to_ne_bytes(), *at).unwrap();
                }
            }
            Ok(CommandOutput { code: 0, stdout: String::new() })
        }
    }

    /// Makes one with these programs; what its superblock has beyond Linux 5.15, and how often mkfs was run.
    fn made(
        maker: &Maker,
        tools: &Tools,
        filesystem: Filesystem,
    ) -> Option<(Result<Vec<String>, Error>, usize)> {
        let name = format!("mkfs.{filesystem}");
        if !["/usr/sbin", "/sbin"].iter().any(|folder| Path::new(folder).join(&name).exists()) {
            println!("skipped: {name} is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("device");
        File::create(&device).unwrap().set_len(filesystem.min_volume_bytes()).unwrap();
        // What the defaults of newer programs may be.
        let features = "has_journal,ext_attr,extent,64bit,metadata_csum,metadata_csum_seed,orphan_file";
        let types = format!("[fs_types]\n\text4 = {{\n\t\tfeatures = {features}\n\t}}\n");
        let defaults = "[defaults]\n\tbase_features = sparse_super,filetype\n";
        std::fs::write(device.with_extension("conf"), format!("{defaults}{types}")).unwrap();
        let before = tools.lines.lock().unwrap().len();
        let new = NewFilesystem {
            filesystem,
            uuid: Uuid::new_v4(),
            label: "l",
            bytes: filesystem.min_volume_bytes(),
            zeroed: true,
        };
        let result = maker.make(tools, &device, &new).map(|()| {
            let beyond = features::beyond(filesystem, &head(&device).unwrap());
            beyond.into_iter().map(|feature| feature.name).collect()
        });
        Some((result, tools.lines.lock().unwrap().len() - before))
    }

    #[test]
    fn whatever_mkfs_turns_on_by_itself_linux_5_15_can_mount_what_is_made() {
        let (maker, tools) = (Maker::default(), tools(&NEWER));
        for (filesystem, first) in [(Filesystem::Ext4, 1), (Filesystem::Xfs, 2), (Filesystem::Btrfs, 2)] {
            // What was learned is remembered.
            for expected in [first, 1] {
                let Some((beyond, calls)) = made(&maker, &tools, filesystem) else { continue };
                assert_eq!((beyond.unwrap(), calls), (Vec::<String>::new(), expected), "{filesystem}");
            }
        }
    }

    #[test]
    fn a_feature_that_can_not_be_left_out_is_named_and_the_filesystem_is_not_used() {
        let tools = tools(&[("mkfs.xfs", "unheard-of", 216, [0x40, 0, 0, 0])]);
        let Some((result, calls)) = made(&Maker::default(), &tools, Filesystem::Xfs) else { return };
        let error = result.unwrap_err();
        assert!(error.to_string().contains("incompat 0x40000000"), "{error}");
        assert_eq!(calls, 1);
    }

    #[test]
    fn an_older_mkfs_ext4_is_not_told_what_it_does_not_know() {
        let (maker, tools) = (Maker::default(), tools(&[]));
        for expected in [2, 1] {
            let Some((beyond, calls)) = made(&maker, &tools, Filesystem::Ext4) else { return };
            assert_eq!((beyond.unwrap(), calls), (Vec::new(), expected));
        }
        let lines = tools.lines.lock().unwrap();
        assert!(lines.last().unwrap().contains("lazy_itable_init=1"), "{lines:?}");
    }
}
