//! Keeps what this node serves to others as the objects say.
//!
//! A volume that is to be served is first in the table as one that waits to be opened, so that the kernel's server, which may have clients of
//! before a reboot, gives none of them a "no". Then it is mounted at its place, then open in the table, then its status says so. The way back
//! is the other way round: off the table, which ends what clients had open, then unmounted.
//!
//! What is mounted and served stays so when this program ends: the next one takes it over. Nobody is cut off for what is not known: neither
//! for a node whose address nobody says, nor for an object that can't be read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tierce_crds::conditions::{Verdict, node_volume as reason};
use tierce_crds::{NodeVolume, Served};
use tierce_engine::{Engine, Error, Export, StageRequest, Uuid, VolumeId};
use tierce_runtime::errors::in_words;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Sharing;
use super::addresses::Addresses;
use super::entries;
use super::kernel::ServeError;
use super::wanted::{self, Wanted};
use crate::intents::Intents;
use crate::served::{Board, Said};

/// How often nodes' addresses are asked for again while nothing happens.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// How soon what failed is tried again: this, doubled each time, and at most that.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is at a volume's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Something of an earlier process, or of a try that failed.
    Unknown,
    Opening,
    /// The volume, mounted.
    Open,
    Closing,
}

/// How the work at a place ended.
struct Ended {
    id: VolumeId,
    now: Option<Place>,
    trouble: Option<String>,
}

/// One for each node.
pub(crate) struct Exporter {
    me: String,
    engine: Engine,
    sharing: Sharing,
    volumes: Intents<NodeVolume>,
    board: Board,
    addresses: Addresses,
    places: BTreeMap<VolumeId, Place>,
    /// What went wrong at a place last.
    troubles: BTreeMap<VolumeId, String>,
    /// Places where an earlier process left something mounted that has not been looked at yet.
    left: BTreeSet<VolumeId>,
    /// What is served by our own word; `None`: this process has not said anything yet.
    table: Option<Vec<Export>>,
    /// What was said last, whether the kernel took it or not.
    last: Vec<Export>,
    /// When the kernel took it; `None`: it did not.
    served: Option<Instant>,
    /// Whether something was served since the folder of exports was tidied.
    untidy: bool,
}

impl Exporter {
    /// The exporter of the node `me`; `board` is told what comes of it.
    pub(crate) fn new(
        me: String,
        client: Client,
        engine: Engine,
        sharing: Sharing,
        volumes: Intents<NodeVolume>,
        board: Board,
    ) -> Self {
        Self {
            me,
            engine,
            sharing,
            volumes,
            board,
            addresses: Addresses::new(client),
            places: BTreeMap::new(),
            troubles: BTreeMap::new(),
            left: BTreeSet::new(),
            table: None,
            last: Vec::new(),
            served: None,
            untidy: true,
        }
    }

    /// Runs until `shutdown`; where nothing is shared only until nothing of before is left.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.volumes.listed() => {}
            () = shutdown.cancelled() => return,
        }
        match self.sharing.places.exported() {
            Ok(found) => self.find(found),
            Err(error) => warn!("can't look for what was served before: {error}"),
        }
        let (ended, mut ends) = mpsc::unbounded_channel();
        let mut pause = FIRST_PAUSE;
        loop {
            let is_well = self.look(&ended).await;
            if is_well && self.sharing.port.is_none() && self.places.is_empty() {
                info!("nothing is shared with other nodes");
                return;
            }
            let wait = if is_well { LOOK_AGAIN } else { pause };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.volumes.changed() => {}
                Some(end) = ends.recv() => self.take(end),
                () = sleep(wait) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            if is_well {
                pause = FIRST_PAUSE;
            }
        }
    }

    /// What an earlier process left. What is mounted is served on while it is looked at: its clients have open files.
    fn find(&mut self, found: Vec<(VolumeId, bool)>) {
        self.left = found.iter().filter(|(_, is_mounted)| *is_mounted).map(|(id, _)| id.clone()).collect();
        self.places = found.into_iter().map(|(id, _)| (id, Place::Unknown)).collect();
    }

    /// Makes everything as the objects say, as far as it goes now. Whether nothing is left to be tried again.
    async fn look(&mut self, ended: &mpsc::UnboundedSender<Ended>) -> bool {
        let (mut wanted, mut unread) = (BTreeMap::new(), BTreeMap::new());
        if self.sharing.port.is_some() {
            wanted =
                self.volumes.readable().iter().filter_map(|volume| Wanted::of(&self.me, volume)).collect();
            unread = self.volumes.unreadable().iter().filter_map(entries::who).collect();
        }
        self.addresses.refresh(&wanted::nodes(&wanted)).await;
        let refused = self.serve(self.table_of(&wanted, &unread)).await.err();
        if let Some(error) = &refused {
            warn!("serving volumes to other nodes: {error}");
        }
        self.open_and_close(&wanted, refused.is_none(), ended);
        if self.places.is_empty() && std::mem::take(&mut self.untidy) {
            let kernel = Arc::clone(&self.sharing.kernel);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || kernel.tidy()).await {
                warn!("the folder of exports: {error}");
            }
        }
        self.troubles.retain(|id, _| self.places.contains_key(id) || wanted.contains_key(id));
        let said = self.said(&wanted, refused.as_ref());
        let is_well = refused.is_none()
            && self.troubles.is_empty()
            && said
                .values()
                .all(|said| said.verdict.as_ref().is_none_or(|verdict| verdict.status == Some(true)));
        for id in self.board.say(said) {
            self.volumes.nudges().volume(&id);
        }
        is_well
    }

    fn table_of(
        &self,
        wanted: &BTreeMap<VolumeId, Wanted>,
        unread: &BTreeMap<VolumeId, Uuid>,
    ) -> Vec<Export> {
        let now = wanted
            .iter()
            .map(|(id, wanted)| entries::of(id, wanted, self.is_open(id), |node| self.addresses.of(node)));
        let kept = unread.iter().filter_map(|(id, fsid)| {
            let before = self.last.iter().find(|entry| entry.id == *id);
            let is_asked_for = self.places.contains_key(id) || !wanted.is_empty();
            entries::unread(id, *fsid, before, self.is_open(id), is_asked_for)
        });
        now.chain(kept).collect()
    }

    /// Whether what is mounted at its place may be served.
    fn is_open(&self, id: &VolumeId) -> bool {
        match self.places.get(id) {
            Some(Place::Open) => true,
            Some(Place::Unknown | Place::Opening) => self.left.contains(id),
            Some(Place::Closing) | None => false,
        }
    }

    async fn serve(&mut self, table: Vec<Export>) -> Result<(), ServeError> {
        // The first time always: an earlier process may have served what is to end now. And again and again: others may stop the server.
        let is_recent = self.served.is_some_and(|at| at.elapsed() < LOOK_AGAIN);
        if is_recent && self.table.as_ref() == Some(&table) {
            return Ok(());
        }
        // What the kernel does not take it may have taken in part.
        self.served = None;
        self.last.clone_from(&table);
        let kernel = Arc::clone(&self.sharing.kernel);
        let now = table.clone();
        let served = tokio::task::spawn_blocking(move || kernel.serve(&now)).await;
        served.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        self.table = Some(table);
        self.served = Some(Instant::now());
        Ok(())
    }

    fn open_and_close(
        &mut self,
        wanted: &BTreeMap<VolumeId, Wanted>,
        is_served: bool,
        ended: &mpsc::UnboundedSender<Ended>,
    ) {
        for (id, wanted) in wanted {
            let place = self.places.get(id);
            if is_served && matches!(place, None | Some(Place::Unknown)) {
                self.places.insert(id.clone(), Place::Opening);
                self.untidy = true;
                let path = self.sharing.places.export(id);
                tokio::spawn(open(self.engine.clone(), id.clone(), path, wanted.gid, ended.clone()));
            }
        }
        let served =
            |id: &VolumeId| self.table.iter().flatten().chain(&self.last).any(|entry| entry.id == *id);
        let to_close: Vec<VolumeId> = self
            .places
            .iter()
            .filter(|(id, place)| {
                matches!(place, Place::Unknown | Place::Open) && !wanted.contains_key(id) && !served(id)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for id in to_close {
            self.left.remove(&id);
            self.places.insert(id.clone(), Place::Closing);
            let path = self.sharing.places.export(&id);
            tokio::spawn(close(self.engine.clone(), id, path, ended.clone()));
        }
    }

    fn take(&mut self, end: Ended) {
        let Ended { id, now, trouble } = end;
        if let Some(trouble) = trouble {
            warn!("volume {id} for other nodes: {trouble}");
            self.troubles.insert(id.clone(), trouble);
        } else {
            info!("volume {id} is {} other nodes", if now.is_some() { "open to" } else { "closed to" });
            self.troubles.remove(&id);
        }
        if let Some(now) = now {
            self.places.insert(id, now);
        } else {
            self.places.remove(&id);
            // A deletion may have waited for this.
            self.volumes.nudges().volume(&id);
        }
    }

    fn said(
        &self,
        wanted: &BTreeMap<VolumeId, Wanted>,
        refused: Option<&ServeError>,
    ) -> BTreeMap<VolumeId, Said> {
        let mut all: BTreeMap<VolumeId, Said> = wanted
            .iter()
            .map(|(id, wanted)| {
                let served = self.entry(id).and_then(|entry| {
                    self.served(entry, &wanted.export.nodes, &wanted.export.read_only_nodes)
                });
                let verdict = self.verdict(id, wanted, refused, served.is_some());
                (id.clone(), Said { served, verdict })
            })
            .collect();
        // Still in the kernel's table, because it could not be taken off, or its object can't be read.
        for entry in self.table.iter().flatten().filter(|entry| !wanted.contains_key(&entry.id)) {
            let old = self.board.of(&entry.id).unwrap_or_default();
            let verdict = refused.map(ServeError::verdict).or(old.verdict);
            all.insert(entry.id.clone(), Said { served: old.served, verdict });
        }
        all
    }

    fn entry(&self, id: &VolumeId) -> Option<&Export> {
        self.table.iter().flatten().find(|entry| entry.id == *id)
    }

    /// What the status says of an entry that is in force; `None`: nobody can use it.
    fn served(&self, entry: &Export, nodes: &[String], read_only: &[String]) -> Option<Served> {
        let known = |nodes: &[String]| -> Vec<String> {
            let is_in = |node: &&String| {
                self.addresses
                    .of(node)
                    .iter()
                    .any(|address| entry.clients.iter().any(|(known, _)| known == address))
            };
            nodes.iter().filter(is_in).cloned().collect()
        };
        let served = Served {
            addresses: self.sharing.addresses.iter().map(ToString::to_string).collect(),
            port: self.sharing.port?.into(),
            nodes: known(nodes),
            read_only_nodes: known(read_only),
        };
        (entry.open && !(served.nodes.is_empty() && served.read_only_nodes.is_empty())).then_some(served)
    }

    fn verdict(
        &self,
        id: &VolumeId,
        wanted: &Wanted,
        refused: Option<&ServeError>,
        is_served: bool,
    ) -> Option<Verdict> {
        if let Some(error) = refused {
            return Some(error.verdict());
        }
        if let Some(trouble) = self.troubles.get(id) {
            return Some(Verdict::no(reason::SERVE_FAILED, trouble.clone()));
        }
        if let Some(unknown) = wanted.nodes().find(|node| self.addresses.of(node).is_empty()) {
            let message = format!("node {unknown} says no InternalIP, so it can't be let in");
            return Some(Verdict::no(reason::SERVE_FAILED, message));
        }
        // While it is being opened what was said before counts.
        is_served.then(|| Verdict::yes(reason::SERVING, "every node that is to use it can"))
    }
}

async fn open(engine: Engine, id: VolumeId, place: PathBuf, gid: u32, ended: mpsc::UnboundedSender<Ended>) {
    let staged = async {
        engine.stage(&id, &place, &StageRequest::default()).await?;
        engine.give_to_group(&id, &place, gid).await
    };
    let end = match staged.await {
        Ok(_) => Ended { id, now: Some(Place::Open), trouble: None },
        Err(error) => Ended { id, now: Some(Place::Unknown), trouble: Some(in_words(&error)) },
    };
    // At shutdown nobody listens any more.
    let _ = ended.send(end);
}

async fn close(engine: Engine, id: VolumeId, place: PathBuf, ended: mpsc::UnboundedSender<Ended>) {
    let closed = async {
        engine.unstage(&id, &place).await?;
        match std::fs::remove_dir(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let doing = format!("remove {}", place.display());
                Err(Error::Io { doing, source: error })
            }
            _ => Ok(()),
        }
    };
    let end = match closed.await {
        Ok(()) => Ended { id, now: None, trouble: None },
        Err(error) => Ended { id, now: Some(Place::Unknown), trouble: Some(in_words(&error)) },
    };
    let _ = ended.send(end);
}
