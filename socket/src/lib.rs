//! Unix sockets: where they are, and how one is taken over from a program that is gone.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

/// How long a server may take to accept before it counts as alive but busy.
const ANSWER: Duration = Duration::from_secs(1);
/// How long another program may take to bind a socket in the same folder.
const TURN: Duration = Duration::from_secs(2);
const BACKLOG: u32 = 128;

/// The longest path that the kernel binds a socket to, in bytes: `sun_path` of `unix(7)` has room for a zero behind it.
const LONGEST: usize = 107;

/// Why a socket could not be bound. Each names the path.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path is relative, so it depends on where the program was started.
    #[error("{0:?}: the path of a socket must be absolute, such as /run/csi/csi.sock")]
    NotAbsolute(PathBuf),
    /// The kernel has no room for the path.
    #[error("{0:?}: the path of a socket has at most {LONGEST} bytes; choose a shorter one")]
    TooLong(PathBuf),
    /// A server answers there; two would fight over the same volumes.
    #[error("{0:?}: another server answers on this socket; stop it first")]
    InUse(PathBuf),
    /// Something else than a socket is in the way. It is left alone.
    #[error("{0:?} exists and is not a socket; it was left alone")]
    NotASocket(PathBuf),
    /// The kernel said no.
    #[error("{path:?}: can't {action}")]
    Io {
        /// What we tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A listening socket that only its owner may connect to (mode 0600). Dropping it removes the path, unless somebody
/// else has put another socket there.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// The path of a socket and which inode it was when we made it. Dropping it removes the path, unless somebody else has put another socket
/// there.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Socket {
    /// Listens on `path`, making its parent folders. A socket that nobody serves any more is replaced.
    pub async fn bind(path: impl Into<PathBuf>) -> Result<Self, SocketError> {
        let path = path.into();
        let parent = match path.parent() {
            Some(parent) if path.is_absolute() => parent.to_owned(),
            _ => return Err(SocketError::NotAbsolute(path)),
        };
        // Before any folder is made for it.
        if path.as_os_str().len() > LONGEST {
            return Err(SocketError::TooLong(path));
        }
        DirBuilder::new().recursive(true).mode(0o750).create(&parent).map_err(io_error("make", &parent))?;
        // Two programs that start at once would both find the socket stale, and the second would remove the first
        // one's new socket. So looking and binding happen under a lock of the folder.
        let folder = File::open(&parent).map_err(io_error("open", &parent))?;
        lock(&folder, &parent).await?;

        remove_stale(&path).await?;
        let socket = UnixSocket::new_stream().map_err(io_error("make a socket for", &path))?;
        socket.bind(&path).map_err(io_error("bind", &path))?;
        // Before listen nobody can connect, so there is no moment with the mode that the umask gave.
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(io_error("set the mode of", &path))?;
        let metadata = fs::symlink_metadata(&path).map_err(io_error("look at", &path))?;
        let file = SocketFile { path, inode: (metadata.dev(), metadata.ino()) };
        let listener = socket.listen(BACKLOG).map_err(io_error("listen on", &file.path))?;
        Ok(Self { listener, file })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// What takes connections, and the path, which is removed when that is dropped.
    pub fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl SocketFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        match fs::symlink_metadata(&self.path) {
            Ok(now) if (now.dev(), now.ino()) == self.inode => {
                if let Err(error) = fs::remove_file(&self.path) {
                    warn!("can't remove the socket {:?}: {error}", self.path);
                }
            }
            Ok(_) => debug!("{:?} belongs to somebody else now", self.path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => warn!("can't look at the socket {:?}: {error}", self.path),
        }
    }
}

/// The path in a CSI endpoint: `unix:///run/csi.sock`, `unix:/run/csi.sock` or the bare path. For clap.
pub fn parse_endpoint(endpoint: &str) -> Result<PathBuf, SocketError> {
    let path =
        endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
    let path = PathBuf::from(path);
    if path.is_absolute() && path.file_name().is_some() {
        Ok(path)
    } else {
        Err(SocketError::NotAbsolute(path))
    }
}

async fn lock(folder: &File, path: &Path) -> Result<(), SocketError> {
    let deadline = Instant::now() + TURN;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(io_error("lock", path)(error.into())),
        }
    }
}

async fn remove_stale(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(SocketError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at", path)(error)),
    }
    match timeout(ANSWER, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            info!("replacing {path:?}, which nobody serves");
            fs::remove_file(path).map_err(io_error("remove the stale socket", path))
        }
        // Gone between the two looks.
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A full backlog (EAGAIN) or no answer in time: somebody listens, only slowly.
        Ok(Ok(_)) | Err(_) => Err(SocketError::InUse(path.to_owned())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(SocketError::InUse(path.to_owned()))
        }
        Ok(Err(error)) => Err(io_error("connect to", path)(error)),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as StdListener;
    use std::sync::Arc;

    use tokio::sync::Barrier;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[tokio::test]
    async fn makes_the_parent_and_lets_only_the_owner_in() {
        let folder = folder();
        let path = folder.path().join("a/b/csi.sock");
        let socket = Socket::bind(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(socket.path()).await.unwrap();
        drop(socket);
        assert!(!path.exists(), "removed on drop");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let folder = folder();
        let path = folder.path().join("csi.sock");
        drop(StdListener::bind(&path).unwrap()); // as a killed program leaves it
        assert!(path.exists());
        let _socket = Socket::bind(&path).await.unwrap();
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test]
    async fn a_live_server_is_not_disturbed() {
        let folder = folder();
        let path = folder.path().join("csi.sock");
        let first = Socket::bind(&path).await.unwrap();
        let error = Socket::bind(&path).await.unwrap_err();
        assert!(matches!(error, SocketError::InUse(_)), "{error}");
        UnixStream::connect(first.path()).await.unwrap();
    }

    #[tokio::test]
    async fn something_else_in_the_way_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("csi.sock");
        fs::write(&path, "precious").unwrap();
        let error = Socket::bind(&path).await.unwrap_err();
        assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn drop_leaves_the_socket_of_a_successor() {
        let folder = folder();
        let path = folder.path().join("csi.sock");
        let first = Socket::bind(&path).await.unwrap();
        fs::rename(&path, folder.path().join("old.sock")).unwrap();
        let _second = Socket::bind(&path).await.unwrap();
        drop(first);
        UnixStream::connect(&path).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 8)]
    async fn of_many_that_start_at_once_exactly_one_serves() {
        let folder = folder();
        for round in 0..15 {
            let path = folder.path().join(format!("{round}.sock"));
            drop(StdListener::bind(&path).unwrap());
            let start = Arc::new(Barrier::new(8));
            let tasks = (0..8).map(|_| {
                let (path, start) = (path.clone(), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    Socket::bind(path).await
                })
            });
            let results = futures::future::join_all(tasks).await.into_iter().map(Result::unwrap);
            let (bound, refused): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
            assert_eq!(bound.len(), 1, "round {round}");
            assert!(refused.iter().all(|r| matches!(r, Err(SocketError::InUse(_)))), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn errors_name_what_was_tried() {
        let relative = Socket::bind("csi.sock").await.unwrap_err().to_string();
        assert!(relative.contains("must be absolute"), "{relative}");
        let folder = folder();
        let long = folder.path().join("missing").join("x".repeat(120));
        let long = Socket::bind(&long).await.unwrap_err().to_string();
        assert!(long.contains("at most 107 bytes"), "{long}");
        assert!(!folder.path().join("missing").exists(), "a folder for a socket that can't be");
        let longest = folder.path().join("x".repeat(106 - folder.path().as_os_str().len()));
        Socket::bind(&longest).await.unwrap();
    }

    #[test]
    fn endpoints() {
        let table = [
            ("unix:///run/csi.sock", Some("/run/csi.sock")),
            ("unix:/run/csi.sock", Some("/run/csi.sock")),
            ("/run/csi.sock", Some("/run/csi.sock")),
            ("run/csi.sock", None),
            ("unix://run/csi.sock", None),
            ("tcp://127.0.0.1:9000", None),
            ("unix://", None),
            ("/", None),
            ("", None),
        ];
        for (endpoint, path) in table {
            assert_eq!(parse_endpoint(endpoint).ok(), path.map(PathBuf::from), "{endpoint}");
        }
    }
}
