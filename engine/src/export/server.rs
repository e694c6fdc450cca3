//! The server: brings what the kernel serves into line with the table that it is given.

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    answers::{self, Cache},
    caches::{Answering, Shared},
    channels,
    error::{ExportError, Trying},
    kernel::{self, Kernel},
    marker::Marker,
    records, revoke, root,
    settings::{Export, ServerSettings, Serving},
    table::{Entry, Loss, Table},
    tracker::{self, Tracking},
};
use crate::VolumeId;

/// The NFS server of this node, over the kernel's. One for a process.
///
/// Dropping it stops nothing that clients see: the next process takes over.
pub struct ExportServer {
    settings: ServerSettings,
    marker: Marker,
    kernel: Kernel,
    table: Shared,
    inner: Mutex<Inner>,
}

/// What one call at a time changes.
#[derive(Default)]
struct Inner {
    answering: Option<Answering>,
    tracking: Option<Tracking>,
    /// What clients lost and may still hold, as a call before could not take it back.
    due: Vec<Loss>,
    /// Whether answers of an earlier process may be in the kernel's caches.
    stale: bool,
}

impl ExportServer {
    /// Looks whether this node can serve. Nothing is started, and a server of an earlier process goes on as it was, until the first
    /// [`Self::set`].
    ///
    /// # Errors
    /// [`ExportError::Busy`] where somebody else serves NFS here, [`ExportError::Unsupported`] where the kernel has no server.
    pub fn start(settings: ServerSettings) -> Result<Self, ExportError> {
        let kernel = Kernel::open()?;
        let marker = Marker::new(&settings.run_dir);
        let this = Self {
            marker,
            kernel,
            table: Arc::default(),
            inner: Mutex::new(Inner { stale: true, ..Inner::default() }),
            settings,
        };
        this.check_ours()?;
        Ok(this)
    }

    /// Exports these volumes, and no others: starts the kernel's server with the first one, and stops it with the last one. What somebody may
    /// have no more is taken back before this returns, within two seconds or so; then the volume can be unmounted. Volumes that are known
    /// belong to the list even while they can't be opened, as soon as the first call after a start: whom the kernel asks for and is not in
    /// it loses what it has open.
    ///
    /// Blocks; call it on a thread that may.
    ///
    /// # Errors
    /// As [`Self::start`]; [`ExportError::Untracked`], [`ExportError::Held`], [`ExportError::Io`]. The same call goes on where it failed.
    pub fn set(&self, exports: Vec<Export>) -> Result<(), ExportError> {
        let mut inner = self.inner();
        if exports.is_empty() && !self.is_ours()? {
            // Whoever serves here, it is not us.
            *self.lock_table() = None;
            (inner.answering, inner.tracking) = (None, None);
            return Ok(());
        }
        self.check_ours()?;
        let root = root::make(&self.settings.exports_dir)?;
        let mut next = Table::new(&root, exports);
        for id in next.volumes().keys() {
            root::make_folder(&root, id)?;
        }
        let previous = {
            let mut table = self.lock_table();
            if let Some(previous) = table.as_ref() {
                next.keep(previous);
            }
            table.replace(next.clone())
        };
        inner.due.extend(previous.iter().flat_map(|previous| previous.losses(&next)));
        let left = self.left_by_others(&next, previous.as_ref()).map(|losses| inner.due.extend(losses));
        // What is to be taken back waits for nothing that may fail, such as an address that can't be listened at.
        let running = self.keep_running(&mut inner, &next);
        let taken = self.take_back(&mut inner, &next);
        say_again(&next);
        left.and(taken).and(running)?;
        if next.is_empty() {
            self.stop(&mut inner)?;
        }
        Ok(())
    }

    /// What is served; `None`: nothing.
    pub fn state(&self) -> Option<Serving> {
        let inner = self.inner();
        inner.tracking.as_ref()?;
        let table = self.lock_table();
        let table = table.as_ref()?;
        let open = table.volumes().iter().filter(|(_, entry)| entry.open && !entry.clients.is_empty());
        Some(Serving {
            addresses: self.settings.addresses.clone(),
            port: self.settings.port,
            exports: open.map(|(id, _)| id.clone()).collect(),
        })
    }

    /// The folder on which a volume is to be mounted to be exported. It is made, in the root of what clients see: what is mounted there before
    /// this was called would be covered by that.
    ///
    /// # Errors
    /// [`ExportError::Io`].
    pub fn place(&self, id: &VolumeId) -> Result<PathBuf, ExportError> {
        let _turn = self.inner();
        let root = root::make(&self.settings.exports_dir)?;
        root::make_folder(&root, id)?;
        Ok(root.join(id.as_str()))
    }

    /// Takes away the folder of exports once nothing is served or mounted there. `false`: something still is.
    ///
    /// # Errors
    /// [`ExportError::Io`].
    pub fn tidy(&self) -> Result<bool, ExportError> {
        let inner = self.inner();
        if inner.answering.is_some() || self.is_ours()? {
            return Ok(false);
        }
        root::remove(&self.settings.exports_dir)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_table(&self) -> MutexGuard<'_, Option<Table>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server is one that we started in this boot.
    fn is_ours(&self) -> Result<bool, ExportError> {
        Ok(self.marker.read()?.is_some())
    }

    fn check_ours(&self) -> Result<(), ExportError> {
        if self.is_ours()? {
            return Ok(());
        }
        match self.kernel.threads()? {
            0 if self.kernel.listens()? => {
                Err(ExportError::Busy { what: "its kernel's NFS server has a socket".to_owned() })
            }
            0 => Ok(()),
            threads => Err(ExportError::Busy { what: format!("{threads} threads of its kernel do") }),
        }
    }

    /// Sees to it that the kernel serves, and that we answer it.
    fn keep_running(&self, inner: &mut Inner, table: &Table) -> Result<(), ExportError> {
        let serving = self.kernel.threads()? > 0;
        if table.is_empty() && !serving {
            return Ok(());
        }
        // The caches first: what they hold of an earlier process is only forgotten once somebody answers anew.
        if inner.answering.is_none() {
            inner.answering = Some(Answering::start(Arc::clone(&self.table))?);
        }
        if !serving {
            // It holds the pipe of the server that was stopped, and the kernel waits only a second for a reader of the next one.
            inner.tracking = None;
        }
        if inner.tracking.is_none() {
            let over = serving && self.kernel.grace_is_over();
            inner.tracking = Some(Tracking::start(self.kernel.pipes()?, &self.settings.state_dir, over)?);
        }
        if inner.stale {
            channels::flush(&Cache::ALL)?;
            // At once, so that those who are served already wait for a moment only.
            say_again(table);
            inner.stale = false;
        }
        if serving {
            return self.listen_where_missing();
        }
        let Some(tracking) = &inner.tracking else { return Ok(()) };
        let begun = self.begin(tracking);
        if begun.is_err() {
            inner.tracking = None;
        }
        begun
    }

    /// Starts the kernel's server.
    fn begin(&self, tracking: &Tracking) -> Result<(), ExportError> {
        // Sockets that a process left which died right here.
        if self.kernel.listens()? {
            self.kernel.set_threads(0)?;
        }
        let (mut addresses, mut sockets, mut failed) = (Vec::new(), Vec::new(), Ok(()));
        for &address in &self.settings.addresses {
            match kernel::listening(address, self.settings.port) {
                Ok(socket) => {
                    addresses.push(address);
                    sockets.push(socket);
                }
                Err(error) => failed = failed.and(Err(not_yet(address, error))),
            }
        }
        if sockets.is_empty() {
            failed?;
        }
        self.kernel.configure()?;
        self.marker.write(&addresses)?;
        let before = tracking.starts();
        let begun = sockets
            .into_iter()
            .try_for_each(|socket| self.kernel.serve_at(&socket))
            .and_then(|()| self.kernel.set_threads(self.settings.threads));
        // The kernel takes another way to keep track of its clients where it found nobody at the pipe, and takes the pipe away.
        let tracked = tracking.starts() > before && tracker::has_pipe(self.kernel.pipes()?);
        match begun {
            Ok(()) if tracked => Ok(()),
            failed => {
                self.kernel.set_threads(0)?;
                self.marker.remove()?;
                failed.and(Err(ExportError::Untracked))
            }
        }
    }

    /// The node may have got another address since the server was started. One that can't be listened at keeps nobody from the others.
    fn listen_where_missing(&self) -> Result<(), ExportError> {
        let Some(mut known) = self.marker.read()? else { return Ok(()) };
        let missing: Vec<IpAddr> =
            self.settings.addresses.iter().copied().filter(|address| !known.contains(address)).collect();
        for address in missing {
            match kernel::listening(address, self.settings.port) {
                Ok(socket) => self.kernel.serve_at(&socket)?,
                Err(error) if !known.is_empty() => {
                    not_yet(address, error);
                    continue;
                }
                Err(error) => return Err(error),
            }
            known.push(address);
            self.marker.write(&known)?;
        }
        Ok(())
    }

    /// What clients may hold that an earlier process let them have, and that nobody has any more. Of those volumes of which the table before did
    /// not know who might have them.
    fn left_by_others(&self, table: &Table, previous: Option<&Table>) -> Result<Vec<Loss>, ExportError> {
        if previous.is_some_and(Table::is_complete) {
            return Ok(Vec::new());
        }
        let doing = || "look what an earlier process exported".to_owned();
        let mut losses = Vec::new();
        for folder in std::fs::read_dir(table.root()).trying(doing)? {
            let name = folder.trying(doing)?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<VolumeId>().ok()) else { continue };
            if previous.is_some_and(|previous| !previous.is_unsure_of(&id)) {
                continue;
            }
            let Some(device) = root::mounted_device(&table.path(&id)).trying(doing)? else { continue };
            let is_known = |entry: &&Entry| !entry.complete || !entry.clients.is_empty();
            let Some(entry) = table.volumes().get(&id).filter(is_known) else {
                losses.push(Loss::Volume(id));
                continue;
            };
            if !entry.complete {
                continue;
            }
            let holders = revoke::addresses(self.kernel.folder(), device).trying(doing)?;
            let gone = holders.into_iter().filter(|address| !entry.clients.contains_key(address));
            losses.extend(gone.map(|address| Loss::Client(id.clone(), address)));
        }
        Ok(losses)
    }

    /// Takes back what somebody lost.
    fn take_back(&self, inner: &mut Inner, table: &Table) -> Result<(), ExportError> {
        inner.due.sort();
        inner.due.dedup();
        if inner.due.is_empty() {
            return Ok(());
        }
        channels::flush(&[Cache::Export, Cache::Handle])?;
        let mut left = Vec::new();
        let mut failed = Ok(());
        for loss in std::mem::take(&mut inner.due) {
            let done = self.take_back_one(table, &loss);
            if done.is_err() {
                left.push(loss);
            }
            failed = failed.and(done);
        }
        inner.due = left;
        failed
    }

    fn take_back_one(&self, table: &Table, loss: &Loss) -> Result<(), ExportError> {
        let (Loss::Volume(id) | Loss::Client(id, _) | Loss::Writing(id, _)) = loss;
        let path = table.path(id);
        let device = root::mounted_device(&path).trying(|| "read the table of mounts".to_owned())?;
        // What is not mounted is held by nobody.
        let Some(device) = device else { return Ok(()) };
        match loss {
            Loss::Volume(_) => revoke::volume(self.kernel.folder(), id.as_str(), &path, device),
            Loss::Client(_, address) => {
                // It may have got it back by a later call.
                let back = table.volumes().get(id).is_some_and(|entry| entry.clients.contains_key(address));
                if back {
                    Ok(())
                } else {
                    revoke::client(self.kernel.folder(), id.as_str(), device, *address)
                }
            }
            // The flush was all: the kernel asks for each write whether the client may.
            Loss::Writing(..) => Ok(()),
        }
    }

    fn stop(&self, inner: &mut Inner) -> Result<(), ExportError> {
        self.kernel.set_threads(0)?;
        self.marker.remove()?;
        (inner.answering, inner.tracking) = (None, None);
        inner.stale = true;
        // Nobody can come back to what is exported no more.
        let forgotten = records::forget(&self.settings.state_dir);
        forgotten.trying(|| "forget the clients of the NFS server".to_owned())?;
        *self.lock_table() = None;
        Ok(())
    }
}

/// Says that an address will be listened at later.
fn not_yet(address: IpAddr, error: ExportError) -> ExportError {
    tracing::warn!(%address, error = %error, "shared volumes are not served at an address of this node");
    error
}

/// Tells the kernel unasked what clients may have: it may have been told "no" before, or be waiting.
fn say_again(table: &Table) {
    let tell = |cache: Cache, line: &str| {
        let told = channels::open(cache, false).and_then(|channel| channels::tell(&channel, line));
        if let Err(error) = told {
            tracing::warn!(cache = cache.name(), line, %error, "the kernel's NFS server was not told");
        }
    };
    for (id, entry) in table.volumes().iter().filter(|(_, entry)| entry.open) {
        // Never the folder below.
        if root::device(&table.path(id)) == root::device(table.root()) {
            continue;
        }
        for &client in entry.clients.keys() {
            for (cache, line) in answers::lines(table, id, client, channels::expiry()).into_iter().flatten() {
                tell(cache, &line);
            }
        }
    }
}
