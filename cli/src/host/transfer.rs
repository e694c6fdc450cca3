//! `volume cp`: files between volumes and local paths.

use std::{
    ffi::{CString, OsStr},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::{
    Error,
    attachments::{Attachment, Holder},
    error::{Context, full_disk},
    left_out::LeftOut,
    names,
    tree_copy::Copier,
    tree_descent, tree_size,
    unfinished_copies::{self, Note, Whose},
    volumes::Volumes,
};
use crate::terminal::Progress;

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Local(PathBuf),
    Volume { name: String, path: PathBuf },
}

impl Side {
    /// `name:path` is a path in a volume; what has a `/` before its first `:` is a local path.
    fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some((name, path)) if !name.contains('/') => {
                names::check("Volume", name)?;
                Ok(Self::Volume { name: name.to_owned(), path: path.into() })
            }
            _ if text.is_empty() => {
                Err(Error::InvalidArgument("An empty path: write ./dir or VOLUME:/path".to_owned()))
            }
            _ => Ok(Self::Local(text.into())),
        }
    }

    fn volume(&self) -> Option<&str> {
        match self {
            Self::Local(_) => None,
            Self::Volume { name, .. } => Some(name),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Local(path) | Self::Volume { path, .. } => path,
        }
    }
}

/// Where paths of one side begin.
struct Base {
    folder: OwnedFd,
    resolve: ResolveFlags,
}

impl Base {
    /// Opens a path; in a volume its links lead nowhere but into the volume itself.
    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        fs::openat2(&self.folder, path, flags | OFlags::CLOEXEC, Mode::empty(), self.resolve)
    }
}

impl Volumes {
    /// Copies a file or folder as `cp -a` does: into the target where that is a folder, else to that name. A source that ends in `/.`, or
    /// is a whole volume, stands for what is in it.
    pub(super) fn transfer(&self, from: &str, to: &str, left_out: &LeftOut) -> Result<(), Error> {
        let (source, target) = (Side::parse(from)?, Side::parse(to)?);
        self.held(source.volume(), "cp", || {
            self.held(target.volume(), "cp", || {
                let note = self.note_copy(target.volume())?;
                self.copy_sides((from, &source), (to, &target), (&note, left_out))
                    .map_err(|error| self.missing(error, (from, &source), (to, &target)))
            })
        })
    }

    /// Says on which side something is missing.
    fn missing(&self, error: Error, (from, source): (&str, &Side), (to, target): (&str, &Side)) -> Error {
        match &error {
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {}
            _ => return error,
        }
        let is_there = |side: &Side, path: &Path| {
            self.base(side).is_ok_and(|base| base.open(path, OFlags::PATH | OFlags::NOFOLLOW).is_ok())
        };
        let above = target.path().parent().unwrap_or_else(|| Path::new("."));
        if !is_there(source, source.path()) {
            return Error::Refused(format!("can't copy {from} to {to}: {from} is not there"));
        }
        if !is_there(target, above) {
            return Error::Refused(format!(
                "can't copy {from} to {to}: the folder above {to} is not there; make it first"
            ));
        }
        error
    }

    /// Does something with a volume, which is mounted where that is due, and noted as used by this process meanwhile.
    pub(super) fn held<T>(
        &self,
        name: Option<&str>,
        verb: &str,
        work: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let Some(name) = name else { return work() };
        let pid = std::process::id();
        let consumer = format!("tierce volume {verb} (process {pid})");
        let holder = Holder::process(pid)?;
        self.attach(
            name,
            &Attachment { consumer: consumer.clone(), holder, path: None, read_only: false, count: 1 },
        )?;
        let done = self.remove_unfinished_copies(Whose::Volume(name)).and_then(|()| work());
        match self.detach(name, &consumer) {
            Err(error) if done.is_ok() => Err(error),
            _ => done,
        }
    }

    fn base(&self, side: &Side) -> Result<Base, Error> {
        Ok(match side {
            Side::Local(_) => Base {
                folder: fs::openat(
                    CWD,
                    ".",
                    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )
                .doing(|| "open the current folder".to_owned())?,
                resolve: ResolveFlags::empty(),
            },
            Side::Volume { name, .. } => Base {
                folder: self.open_data(&self.get(name)?)?,
                resolve: ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            },
        })
    }

    fn copy_sides(
        &self,
        (from, source): (&str, &Side),
        (to, target): (&str, &Side),
        (note, left_out): (&Note, &LeftOut),
    ) -> Result<(), Error> {
        let (from_base, to_base) = (self.base(source)?, self.base(target)?);
        let doing = || format!("copy {from} to {to}");
        let folder_at = |base: &Base, path: &Path| base.open(path, OFlags::RDONLY | OFlags::DIRECTORY);
        let parent = |base: &Base, path: &Path| folder_at(base, path.parent().unwrap_or(Path::new(".")));
        // The whole of a volume, or a path that ends in `/.`.
        let name = last_name(source.path()).filter(|_| !from.trim_end_matches('/').ends_with("/."));
        let into = match folder_at(&to_base, target.path()) {
            Ok(folder) => Some(folder),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(error) => return Err(error).doing(doing),
        };
        let is_new = into.is_none();
        let target_folder = into.map_or_else(|| parent(&to_base, target.path()), Ok).doing(doing)?;
        self.remove_unfinished_copies(Whose::Local(
            &unfinished_copies::filesystem(&target_folder).doing(doing)?,
        ))?;
        // Before anything is made. What is in there, added up.
        let size_of = |folder: &OwnedFd| {
            if tree_descent::lies_in(&target_folder, folder).doing(doing)? {
                return Err(Error::Refused(format!(
                    "can't {}: a folder can't be copied into itself",
                    doing()
                )));
            }
            Ok(tree_size::bytes_used(folder).0)
        };
        let Some(name) = name else {
            let folder = folder_at(&from_base, source.path()).doing(doing)?;
            let bytes = size_of(&folder)?;
            if is_new {
                let new = make(&to_base, target.path()).doing(doing)?;
                return run(bytes, doing, |copier| copier.new_folder(&folder, &new), (&new, note, left_out));
            }
            // A folder that is there stays whose it is: it may be the user's own, or the volume's.
            let copy = |copier: &Copier<'_>| copier.content(&folder, &target_folder);
            return run(bytes, doing, copy, (&target_folder, note, left_out));
        };
        if from.ends_with('/') {
            // The folder that a link leads to, under the link's name.
            let folder = folder_at(&from_base, source.path()).doing(doing)?;
            let bytes = size_of(&folder)?;
            let copy = if is_new { make(&to_base, target.path()) } else { make_in(&target_folder, name) };
            let copy = copy.doing(doing)?;
            return run(bytes, doing, |copier| copier.new_folder(&folder, &copy), (&copy, note, left_out));
        }
        let source_folder = parent(&from_base, source.path()).doing(doing)?;
        let c_name = CString::new(name.as_bytes()).doing(doing)?;
        let stat = fs::statat(&source_folder, &*c_name, AtFlags::SYMLINK_NOFOLLOW).doing(doing)?;
        let bytes = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => size_of(&folder_at(&from_base, source.path()).doing(doing)?)?,
            _ if is_new && (to.ends_with('/') || to.ends_with("/.")) => {
                return Err(Error::Refused(format!(
                    "can't {}: no folder has that name; make it first, or leave the / out",
                    doing()
                )));
            }
            _ => u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        };
        let new = if is_new {
            let new = last_name(target.path()).ok_or(Errno::NOENT).doing(doing)?;
            CString::new(new.as_bytes()).doing(doing)?
        } else {
            c_name.clone()
        };
        let copy = |copier: &Copier<'_>| copier.entry(&source_folder, &c_name, &target_folder, &new);
        run(bytes, doing, copy, (&target_folder, note, left_out))
    }
}

/// Refuses what can't fit, copies, and waits for the disk.
fn run(
    bytes: u64,
    doing: impl Fn() -> String,
    copy: impl FnOnce(&Copier<'_>) -> std::io::Result<()>,
    (target, note, left_out): (&OwnedFd, &Note, &LeftOut),
) -> Result<(), Error> {
    let progress = Progress::new("copied", bytes);
    copy(&Copier::noted(&|bytes| progress.add(bytes), left_out, note))
        .map_err(|error| full_disk(error, bytes.saturating_sub(progress.done()), doing(), target))?;
    fs::syncfs(target).doing(doing)?;
    left_out.told()
}

fn make(base: &Base, path: &Path) -> rustix::io::Result<OwnedFd> {
    let name = last_name(path).ok_or(Errno::NOENT)?;
    let above =
        base.open(path.parent().unwrap_or_else(|| Path::new(".")), OFlags::RDONLY | OFlags::DIRECTORY)?;
    fs::mkdirat(&above, name, Mode::from_raw_mode(0o755))?;
    base.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The folder of that name, which an earlier copy may have made.
fn make_in(folder: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    match fs::mkdirat(folder, name, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(folder, name, flags, Mode::empty())
}

/// The name that a copy of that path gets; `None` where the path has none, as `/` or `..`.
fn last_name(path: &Path) -> Option<&OsStr> {
    match path.components().next_back() {
        Some(Component::Normal(name)) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_before_any_slash_makes_a_volume() {
        let volume = |name: &str, path: &str| Side::Volume { name: name.to_owned(), path: path.into() };
        for (text, expected) in [
            ("./dir", Side::Local("./dir".into())),
            ("dir", Side::Local("dir".into())),
            ("./a:b", Side::Local("./a:b".into())),
            ("vol:/path", volume("vol", "/path")),
            ("vol:", volume("vol", "")),
            ("stack_vol:a/b", volume("stack_vol", "a/b")),
        ] {
            assert_eq!(Side::parse(text).unwrap(), expected, "{text}");
        }
        for bad in ["", ":/x", "..:/x", "a b:/x"] {
            assert!(Side::parse(bad).is_err(), "{bad:?}");
        }
    }
}
