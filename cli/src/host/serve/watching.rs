//! Thin pools that fill up: while `serve` runs they grow from the free space of their volume groups. The kernel tells when that is due.

use std::{collections::BTreeMap, mem::MaybeUninit, os::fd::OwnedFd, sync::Arc, thread};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tierce_engine::{Engine, LinuxHost};
use tokio::sync::Notify;

use super::super::{Error, error::Context, pools::Pools};

/// Watches the thin pools as long as it is polled. A pool that can't be opened is told of, and tried again at the next of `looks`, which
/// come with calls; a pool that gets its first volume makes one itself.
pub(super) async fn watch(pools: Pools, looks: Arc<Notify>) -> Result<(), Error> {
    if !pools.has_thin_pools() {
        return Ok(());
    }
    notice_first_volumes(&pools, Arc::clone(&looks))?;
    // Of its own: those of the calls live as long as a call.
    let engine = Engine::new(Arc::new(LinuxHost::new()));
    let mut told = BTreeMap::new();
    loop {
        match pools.thin_pools() {
            Ok(settings) => engine.set_pools(settings).await,
            Err(error) => tracing::warn!(%error, "thin pools can't be watched"),
        }
        let reports = engine.reports().await.into_iter();
        let troubles: BTreeMap<String, String> =
            reports.filter_map(|report| Some((report.name, report.result.err()?.to_string()))).collect();
        for (pool, trouble) in &troubles {
            if told.get(pool) != Some(trouble) {
                tracing::warn!("{trouble}: its thin pool is not watched until that is mended");
            }
        }
        told = troubles;
        looks.notified().await;
    }
}

/// A pool is known from its first volume on, which another process may make.
fn notice_first_volumes(pools: &Pools, looks: Arc<Notify>) -> Result<(), Error> {
    let folder = pools.state_folder()?;
    let doing = || format!("watch {}", folder.display());
    let changes = inotify::init(CreateFlags::CLOEXEC).doing(doing)?;
    inotify::add_watch(&changes, &folder, WatchFlags::MOVED_TO).doing(doing)?;
    let wait = move || {
        if let Err(error) = each_change(&changes, &looks) {
            tracing::warn!(%error, "first volumes of pools are not noticed any more: restart this service after one");
        }
    };
    thread::Builder::new().name("tierce-new-pools".to_owned()).spawn(wait).map(drop).doing(doing)
}

fn each_change(changes: &OwnedFd, looks: &Notify) -> rustix::io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(changes, &mut buffer);
    loop {
        match reader.next() {
            Ok(_) => looks.notify_one(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
