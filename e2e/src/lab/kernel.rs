//! The kernel of the guests: this machine's `linux.uml`, or a newer one of Debian where that is old.
//!
//! From Linux 6.16 on a guest's system calls need no tracing of its processes, so programs start three times faster there.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cache, command};

/// The first that knows `seccomp=`.
const FAST: (u32, u32) = (6, 16);
/// The Debian release whose kernel is taken where this machine's is older.
const RELEASE: &str = "forky";
/// Where Debian's package has its modules.
const MODULES: &str = "usr/lib/uml/modules";
/// What the kernel's program asks for to be started, and the same in its own folder.
const LOADER: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";
const OWN_LOADER: &[u8] = b"ld.so\0";
/// `installed`: this machine's, however old.
const CHOICE: &str = "TIERCE_LAB_KERNEL";

/// A kernel to start guests with.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    program: PathBuf,
    /// The folder that has one of the release's name with its modules.
    pub(super) modules: PathBuf,
    /// Set: it has its own C library there, and is started in that folder.
    folder: Option<PathBuf>,
}

impl Kernel {
    /// The one for all guests of this process; looked for, and fetched if need be, once.
    pub(super) fn choose() -> &'static Self {
        static CHOSEN: OnceLock<Kernel> = OnceLock::new();
        CHOSEN.get_or_init(|| {
            let installed =
                Self { program: "linux.uml".into(), modules: Path::new("/").join(MODULES), folder: None };
            if std::env::var_os(CHOICE).is_some_and(|choice| choice == "installed") || installed.is_fast() {
                return installed;
            }
            fetched().unwrap_or_else(|error| {
                eprintln!("guests run slowly, on this machine's older kernel; a newer one: {error:#}");
                installed
            })
        })
    }

    /// How it is started: a line for `env`.
    pub(super) fn words(&self) -> Vec<&OsStr> {
        let Some(folder) = &self.folder else { return vec!["env".as_ref(), self.program.as_ref()] };
        vec![
            "env".as_ref(),
            "--chdir".as_ref(),
            folder.as_ref(),
            "LD_LIBRARY_PATH=.".as_ref(),
            self.program.as_ref(),
        ]
    }

    fn is_fast(&self) -> bool {
        self.version().is_ok_and(|version| version >= FAST)
    }

    fn version(&self) -> Result<(u32, u32)> {
        let words = self.words();
        let (program, arguments) = words.split_first().context("a line has a first word")?;
        let text = command::run(Command::new(program).args(arguments).arg("--version"))?;
        parse(&text).with_context(|| format!("`linux.uml --version` says {text:?}"))
    }
}

/// The first two numbers of a kernel's version.
fn parse(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().split(['.', '-']).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// Debian's newer kernel from the user's cache folder; fetched the first time.
fn fetched() -> Result<Kernel> {
    let key = cache::Key::default().with(RELEASE).with(OWN_LOADER).finish();
    let folder = cache::folder()?.join(format!("kernel-{key}"));
    cache::once(&folder, fetch)?;
    let kernel =
        Kernel { program: "./linux.uml".into(), modules: folder.join("modules"), folder: Some(folder) };
    ensure!(kernel.is_fast(), "the kernel of Debian {RELEASE} does not run here");
    Ok(kernel)
}

/// Takes the kernel, its modules and its C library out of Debian's packages.
fn fetch(place: &Path) -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "Debian has user-mode Linux for amd64 alone");
    eprintln!("fetching the kernel of guests from Debian {RELEASE} …");
    fs::create_dir_all(place)?;
    let root = place.join("root");
    command::run(
        Command::new("mmdebstrap")
            .args(["--mode=chrootless", "--variant=extract", "--format=directory", "--quiet"])
            .arg("--include=user-mode-linux")
            // The packages' signatures are checked; a mirror that lags behind will do.
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg(RELEASE)
            .arg(&root),
    )?;
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    fs::rename(root.join(MODULES), place.join("modules")).context("the package has no modules")?;
    fs::copy(libraries.join("libc.so.6"), place.join("libc.so.6"))?;
    fs::copy(libraries.join("ld-linux-x86-64.so.2"), place.join("ld-linux-x86-64.so.2"))?;
    std::os::unix::fs::symlink("ld-linux-x86-64.so.2", place.join("ld.so"))?;
    let mut program = fs::read(root.join("usr/bin/linux.uml"))?;
    with_own_loader(&mut program)?;
    // A copy of the old one, so that it is executable.
    fs::copy(root.join("usr/bin/linux.uml"), place.join("linux.uml"))?;
    fs::write(place.join("linux.uml"), program)?;
    fs::remove_dir_all(root).context("can't remove what is not needed of the packages")
}

/// Lets a program be started by the loader in the folder that it is started in: it needs a newer C library than this
/// machine has, and that needs its own loader.
fn with_own_loader(program: &mut [u8]) -> Result<()> {
    let found: Vec<usize> = program
        .windows(LOADER.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == LOADER)
        .map(|(at, _)| at)
        .collect();
    let &[at] = found.as_slice() else {
        bail!("the kernel's program names its loader {} times", found.len())
    };
    let place = &mut program[at..at + LOADER.len()];
    place.fill(0);
    place[..OWN_LOADER.len()].copy_from_slice(OWN_LOADER);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(parse("6.1.176\n"), Some((6, 1)));
        assert_eq!(parse("7.2-rc1"), Some((7, 2)));
        assert_eq!(parse("7.2.7"), Some((7, 2)));
        assert_eq!(parse("Usage:"), None);
        assert!(parse("6.12.1").unwrap() < FAST && parse("6.16.0").unwrap() >= FAST);
    }

    #[test]
    fn a_program_gets_the_loader_beside_it() {
        let mut program = [b"\x7fELF".as_slice(), LOADER, b"code"].concat();
        with_own_loader(&mut program).unwrap();
        assert_eq!(program.len(), 4 + LOADER.len() + 4);
        assert!(program[4..].starts_with(b"ld.so\0\0") && program.ends_with(b"code"));
        assert!(with_own_loader(&mut program).is_err());
    }
}
