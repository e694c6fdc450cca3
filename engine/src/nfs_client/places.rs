//! Mounting, showing and unmounting a volume of another node.

use std::{
    ffi::CString,
    fs, io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    system::uname,
};

use super::{
    error::{NfsError, Trying},
    identity, mounted,
    options::{self, Remote},
};
use crate::{
    Change, Error,
    kernel::{Call, in_child},
    mount::place::{Found, Place, fd_path},
    mountinfo::Line,
};

/// How long a server may take to show that it is there.
const ASK: Duration = Duration::from_secs(5);
/// When a server is given up that went away while its last mount was written out, which then is in no table any more.
const GIVE_UP_LATER: Duration = Duration::from_mins(3);

/// The fill level of a volume of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes that a user may still write.
    pub available_bytes: u64,
    /// Inodes in all, and free ones; 0 where there is no limit.
    pub inodes: (u64, u64),
}

/// Mounts a volume of another node at a place, whose parent must exist. The folder is made.
///
/// # Errors
/// [`NfsError::TimedOut`] where the server does not answer, or knows the volume and can't give it yet; [`NfsError::Foreign`] where something
/// else is at the place; [`NfsError::Io`], with `NotFound` or `PermissionDenied` where the server does not export it to this node.
pub fn mount(remote: &Remote, place: &Path, limit: Duration) -> Result<Change<()>, NfsError> {
    let doing = || format!("mount {} at {}", remote.source(), place.display());
    let at = open(place)?;
    let table = mounted::table()?;
    if let Some(line) = mounted::top(&table, at.path()) {
        if line.source == Path::new(&remote.source()) && mounted::carries(line, &remote.export) {
            return Ok(Change::Unchanged(()));
        }
        return Err(foreign(&at, &remote.source(), Some(line)));
    }
    empty_folder(&at, &remote.source())?;
    identity::ensure(&remote.identity)?;
    let ours = options::address_towards(remote.server, remote.port).trying(doing)?;
    let way_out = options::has_way_out(&uname().release().to_string_lossy());
    let text = |text: String| CString::new(text).map_err(io::Error::from).trying(doing);
    let (source, options) = (text(remote.source())?, text(remote.options(ours, way_out))?);
    at.seal()?;
    let handle = at.handle().trying(doing)?;
    let target = text(fd_path(&handle))?;
    let mut flags = libc::MS_NOSUID | libc::MS_NODEV;
    if remote.read_only {
        flags |= libc::MS_RDONLY;
    }
    let call = Call::Mount { source: &source, kind: c"nfs4", options: &options, at: &target, flags };
    let done = in_child(call, &[handle.as_fd()], limit).trying(doing);
    if !matches!(done, Ok(Some(Ok(())))) {
        let _ = at.unseal();
    }
    match done? {
        Some(done) => done.trying(doing).map(Change::Changed),
        None => Err(NfsError::TimedOut { doing: doing(), limit }),
    }
}

/// Whether that export is mounted at a place. Asks no server.
///
/// # Errors
/// [`NfsError::Io`].
pub fn is_ours(place: &Path, export: &str) -> Result<bool, NfsError> {
    let Some(at) = Place::open(place)? else { return Ok(false) };
    let table = mounted::table()?;
    Ok(mounted::top(&table, at.path()).is_some_and(|line| mounted::carries(line, export)))
}

/// Shows what is mounted at a place at another one as well, whose parent must exist. The folder is made.
///
/// # Errors
/// [`NfsError::Foreign`] where `place` does not carry that export, or something else is at `target`; [`NfsError::TimedOut`],
/// [`NfsError::Io`].
pub fn bind(
    export: &str,
    place: &Path,
    target: &Path,
    readonly: bool,
    limit: Duration,
) -> Result<Change<()>, NfsError> {
    let doing = || format!("bind {} to {}", place.display(), target.display());
    let (from, to) = (open(place)?, open(target)?);
    let table = mounted::table()?;
    let line = mounted::top(&table, from.path());
    let Some(staged) = line.filter(|line| mounted::carries(line, export)) else {
        return Err(foreign(&from, export, line));
    };
    let readonly = readonly || staged.readonly;
    let is_it = |line: &Line| line.device == staged.device && mounted::carries(line, export);
    if let Some(line) = mounted::top(&table, to.path()) {
        return if is_it(line) && line.readonly == readonly {
            Ok(Change::Unchanged(()))
        } else {
            Err(foreign(&to, export, Some(line)))
        };
    }
    empty_folder(&to, export)?;
    to.seal()?;
    let handle = to.handle().trying(doing)?;
    let path = CString::new(from.path().as_os_str().as_bytes()).map_err(io::Error::from).trying(doing)?;
    let done = in_child(Call::Bind { from: &path, to: handle.as_fd(), readonly }, &[], limit).trying(doing);
    drop(handle);
    // Where the place was unmounted meanwhile, the folder below it is what is shown now.
    let table = mounted::table()?;
    let shown = mounted::top(&table, to.path());
    let result = match done? {
        Some(Ok(())) if shown.is_some_and(is_it) => return Ok(Change::Changed(())),
        Some(Ok(())) => Err(foreign(&from, export, shown)),
        Some(Err(error)) => Err(error).trying(doing),
        None => Err(NfsError::TimedOut { doing: doing(), limit }),
    };
    if shown.is_some() {
        let _ = crate::folder::hide(to.path());
    }
    let _ = remove_folder(&to);
    result
}

/// Unmounts that export at a place and removes the folder. The last mount of it is taken away only while the server answers, as the kernel first
/// takes it out of the table, and then writes out what is in memory, for as long as that takes. `give_up`: a server that does not answer is given
/// up, and what was written and is not yet with it is lost; only where nothing else of this node shows the same mount, as those would lose it too.
///
/// # Errors
/// [`NfsError::Busy`]; [`NfsError::TimedOut`], after which the same call goes on; [`NfsError::Foreign`] where something else is mounted there.
pub fn unmount(export: &str, place: &Path, give_up: bool, limit: Duration) -> Result<Change<()>, NfsError> {
    let Some(at) = Place::open(place)? else { return Ok(Change::Unchanged(())) };
    let deadline = Instant::now() + limit;
    let mut changed = false;
    loop {
        let table = mounted::table()?;
        let Some(line) = mounted::top(&table, at.path()) else { break };
        if !mounted::carries(line, export) {
            return Err(foreign(&at, export, Some(line)));
        }
        let others = table.iter().any(|other| other.device == line.device && other.id != line.id);
        if !others && !answers(&at, line, ASK.min(limit / 2))? {
            if !give_up {
                let doing = format!("wait for the server of {}", at.path().display());
                return Err(NfsError::TimedOut { doing, limit: ASK.min(limit / 2) });
            }
            end_server(at.path(), line);
        }
        unmount_one(&at, line, give_up && !others, deadline)?;
        changed = true;
    }
    changed |= remove_folder(&at)?;
    Ok(if changed { Change::Changed(()) } else { Change::Unchanged(()) })
}

fn unmount_one(at: &Place, line: &Line, give_up: bool, deadline: Instant) -> Result<(), NfsError> {
    let doing = || format!("unmount {} at {}", line.source.display(), at.path().display());
    let left = || deadline.saturating_duration_since(Instant::now());
    let (start, limit) = (Instant::now(), left());
    let parent = at.path().parent().unwrap_or(at.path());
    let name = at.path().file_name().unwrap_or_default();
    // The folder above is of this node's own disk, or the call would not be one of ours.
    let path =
        CString::new(parent.join(name).as_os_str().as_bytes()).map_err(io::Error::from).trying(doing)?;
    let mut patience = if give_up { limit / 2 } else { limit };
    let mut flags = libc::UMOUNT_NOFOLLOW;
    loop {
        match in_child(Call::Unmount { at: &path, flags }, &[], patience).trying(doing)? {
            Some(Ok(())) => return Ok(()),
            Some(Err(error)) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                // Often only for a moment: somebody asks for the fill level, or the last one has just ended.
                if start.elapsed() > Duration::from_millis(500) || left().is_zero() {
                    return Err(NfsError::Busy { path: at.path().to_owned() });
                }
                thread::sleep(Duration::from_millis(20));
            }
            // It went while somebody waited for it.
            Some(Err(error)) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => return Ok(()),
            Some(Err(error)) => return Err(error).trying(doing),
            None if !give_up => {
                end_server_later(line);
                return Err(NfsError::TimedOut { doing: doing(), limit });
            }
            None => {
                end_server(at.path(), line);
                // What waits where the kernel has no way to end it is ended by force, again and again.
                flags |= libc::MNT_FORCE;
                patience = Duration::from_secs(1).min(left());
                let table = mounted::table()?;
                if mounted::top(&table, at.path()).is_none_or(|top| top.id != line.id) {
                    return Ok(());
                }
                if left().is_zero() {
                    return Err(NfsError::TimedOut { doing: doing(), limit });
                }
            }
        }
    }
}

/// Whether the server of a mount answers in time; with an error, too. Who asks can be killed, unlike who waits for what is written out.
fn answers(at: &Place, line: &Line, limit: Duration) -> Result<bool, NfsError> {
    let doing = || format!("ask the server of {}", line.source.display());
    let path = CString::new(at.path().as_os_str().as_bytes()).map_err(io::Error::from).trying(doing)?;
    let (_out, write) = pipe_with(PipeFlags::CLOEXEC).trying(doing)?;
    let call = Call::Fill { at: &path, out: write.as_fd() };
    Ok(in_child(call, &[], limit).trying(doing)?.is_some())
}

/// Ends all that waits for the server of this mount. Linux before 6.5 has no way to do that.
fn end_server(at: &Path, line: &Line) {
    tracing::warn!(at = %at.display(), source = %line.source.display(), "the server of a mount is given up");
    let _ = fs::write(knob(line), "1\n");
}

/// The same after a while, for a mount that is out of the table and still written out: whoever waits for that can't be killed, and would hold up
/// the end of this program's container.
fn end_server_later(line: &Line) {
    let (knob, device) = (knob(line), line.device);
    thread::spawn(move || {
        thread::sleep(GIVE_UP_LATER);
        // The number may be another mount's by then.
        if mounted::table().is_ok_and(|table| table.iter().all(|line| line.device != device)) {
            let _ = fs::write(knob, "1\n");
        }
    });
}

fn knob(line: &Line) -> String {
    format!("/sys/fs/nfs/{}:{}/shutdown", line.device.major, line.device.minor)
}

/// Writes out what this node has in memory of that export, mounted at a place.
///
/// # Errors
/// [`NfsError::TimedOut`] where the server does not answer, or takes longer: the same call goes on. [`NfsError::Foreign`] where it is not mounted
/// there, [`NfsError::Io`].
pub fn flush(export: &str, place: &Path, limit: Duration) -> Result<(), NfsError> {
    let doing = || format!("write out what is in memory of {}", place.display());
    let at = open(place)?;
    let table = mounted::table()?;
    let line = mounted::top(&table, at.path());
    let Some(line) = line.filter(|line| mounted::carries(line, export)) else {
        return Err(foreign(&at, export, line));
    };
    let start = Instant::now();
    let timed_out = || NfsError::TimedOut { doing: doing(), limit };
    if !answers(&at, line, ASK.min(limit / 2))? {
        return Err(timed_out());
    }
    let path = CString::new(at.path().as_os_str().as_bytes()).map_err(io::Error::from).trying(doing)?;
    let left = limit.saturating_sub(start.elapsed());
    in_child(Call::Sync { at: &path }, &[], left).trying(doing)?.ok_or_else(timed_out)?.trying(doing)
}

/// The fill level of that export, mounted at a place.
///
/// # Errors
/// [`NfsError::Foreign`] where it is not mounted there, [`NfsError::TimedOut`], [`NfsError::Io`].
pub fn fill(export: &str, place: &Path, limit: Duration) -> Result<Fill, NfsError> {
    let doing = || format!("ask for the fill level of {}", place.display());
    let at = open(place)?;
    let table = mounted::table()?;
    let line = mounted::top(&table, at.path());
    if !line.is_some_and(|line| mounted::carries(line, export)) {
        return Err(foreign(&at, export, line));
    }
    let path = CString::new(at.path().as_os_str().as_bytes()).map_err(io::Error::from).trying(doing)?;
    let (out, write) = pipe_with(PipeFlags::CLOEXEC).trying(doing)?;
    let call = Call::Fill { at: &path, out: write.as_fd() };
    in_child(call, &[], limit)
        .trying(doing)?
        .ok_or_else(|| NfsError::TimedOut { doing: doing(), limit })?
        .trying(doing)?;
    drop(write);
    let numbers = crate::kernel::fill_in(out).trying(doing)?;
    Ok(Fill {
        total_bytes: numbers.blocks.saturating_mul(numbers.block_bytes),
        used_bytes: numbers.blocks.saturating_sub(numbers.free).saturating_mul(numbers.block_bytes),
        available_bytes: numbers.available.saturating_mul(numbers.block_bytes),
        inodes: (numbers.inodes, numbers.free_inodes),
    })
}

fn open(path: &Path) -> Result<Place, NfsError> {
    let missing = || Error::InvalidArgument(format!("the folder above {} does not exist", path.display()));
    Ok(Place::open(path)?.ok_or_else(missing)?)
}

/// Makes the folder, or takes one that is empty.
fn empty_folder(at: &Place, expected: &str) -> Result<(), NfsError> {
    match at.found()? {
        Found::Nothing => Ok(at.make_directory()?),
        Found::Directory if at.is_empty_directory()? => Ok(()),
        _ => Err(NfsError::Foreign {
            path: at.path().to_owned(),
            expected: expected.to_owned(),
            found: "something that is no empty folder".to_owned(),
        }),
    }
}

/// Removes an empty folder; `false`: there is none.
fn remove_folder(at: &Place) -> Result<bool, NfsError> {
    match at.found()? {
        Found::Nothing => return Ok(false),
        Found::Directory if at.is_empty_directory()? => {
            at.unseal()?;
            at.remove_directory()?;
        }
        _ => return Err(at.foreign("something that is no empty folder").into()),
    }
    Ok(true)
}

fn foreign(at: &Place, expected: &str, line: Option<&Line>) -> NfsError {
    NfsError::Foreign {
        path: at.path().to_owned(),
        expected: expected.to_owned(),
        found: mounted::what(line),
    }
}
