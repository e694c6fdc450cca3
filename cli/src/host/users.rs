//! Who uses a volume: asking, noting, forgetting.

use std::{
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use tierce_engine::folder;

use tierce_client::{Differs, InUse};

use super::{
    Error,
    attachments::{Attachment, Holder},
    census::{self, Census},
    engines::{Answer, Container},
    error::Context,
    fail,
    locks::Lock,
    record::Record,
    volumes::{Volume, Volumes},
};
use crate::{privilege, terminal};

/// How long a volume counts as used at most only because a command of ours, a list perhaps, looks through it.
const LOOK: Duration = Duration::from_secs(2);

/// Who uses a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Users {
    pub(super) attachments: Vec<Attachment>,
    /// What only the kernel, or an engine of containers, knows of.
    others: Vec<String>,
    /// Containers that were never given back, and are gone with whoever asked for them.
    gone: Vec<String>,
}

impl Users {
    /// Who uses it now: living holders, other mounts of it; open files if there is neither. A command of ours that has no more than files open is
    /// waited for, a moment.
    pub(super) fn of(volume: &Volume, census: &Census) -> Result<Self, Error> {
        let begun = Instant::now();
        let mut users = Self::of_each([volume], census)?.pop().unwrap_or_default();
        while users.only_look() && begun.elapsed() < LOOK {
            thread::sleep(Duration::from_millis(20));
            // Who came meanwhile is seen as well.
            users = Self::of_each([volume], &Census::take()?)?.pop().unwrap_or_default();
        }
        Ok(users)
    }

    /// Whether all that uses it are processes that are called as this one is.
    fn only_look(&self) -> bool {
        self.attachments.is_empty()
            && !self.others.is_empty()
            && self.others.iter().all(|other| census::is_called_as_we_are(other))
    }

    /// The same of several volumes, with one look at the open files.
    pub(super) fn of_each<'a>(
        volumes: impl IntoIterator<Item = &'a Volume>,
        census: &Census,
    ) -> Result<Vec<Self>, Error> {
        let (mut each, mut idle) = (Vec::new(), Vec::new());
        for volume in volumes {
            let users = Self::told(volume, census)?;
            // Open files are told by real paths, too.
            if users.is_empty() {
                idle.push((each.len(), volume.real_path()?));
            }
            each.push(users);
        }
        let paths: Vec<PathBuf> = idle.iter().map(|(_, path)| path.clone()).collect();
        let mut open = census::open_files_below(&paths)?;
        for (at, path) in idle {
            each[at].others = open.remove(&path).unwrap_or_default();
        }
        Ok(each)
    }

    /// Who uses it without a look at open files.
    fn told(volume: &Volume, census: &Census) -> Result<Self, Error> {
        let mut users = Self::default();
        if let Some(record) = &volume.record {
            for attachment in &record.attachments {
                if record.lives(attachment)? {
                    users.attachments.push(attachment.clone());
                } else if matches!(attachment.holder, Holder::Container { .. }) {
                    users.gone.push(attachment.consumer.clone());
                }
            }
        }
        // Mounts are told by their real paths.
        let path = volume.real_path()?;
        let known: Vec<PathBuf> =
            users.attachments.iter().filter_map(|attachment| attachment.path.clone()).collect();
        users.others = census.mounts_of(&path, &known);
        users.others.extend(volume.filled_by()?.map(str::to_owned));
        Ok(users)
    }

    pub(super) fn names(&self) -> Vec<String> {
        // What Docker and Podman give as an id is not the container's own (Podman gives one for all): the kernel knows better.
        let known = self.others.iter().any(|other| other.starts_with(census::CONTAINER));
        let mut names = Vec::new();
        for attachment in &self.attachments {
            if !(known && matches!(attachment.holder, Holder::Container { .. })) {
                names.push(attachment.consumer.clone());
            }
        }
        names.extend(self.others.iter().cloned());
        names.dedup();
        names
    }

    /// Its full name, if all that is known is a use that was never given back: whether it has ended Podman knows.
    pub(super) fn unreturned(&self, volume: &Volume) -> Option<String> {
        (self.is_empty() && !self.gone.is_empty()).then(|| volume.name.full())
    }

    /// Adds what engines say, but for containers that the kernel shows already.
    pub(super) fn add_containers(&mut self, volume: &Volume, engines: &Answer) -> Result<(), Error> {
        self.add_those(volume, engines, |_| true)
    }

    /// The same without containers that are stopped: these hold nothing of it until they are started.
    pub(super) fn add_running(&mut self, volume: &Volume, engines: &Answer) -> Result<(), Error> {
        self.add_those(volume, engines, Container::may_run)
    }

    fn add_those(
        &mut self,
        volume: &Volume,
        engines: &Answer,
        counts: impl Fn(&Container) -> bool,
    ) -> Result<(), Error> {
        let (name, real) = (volume.name.full(), volume.real_path()?);
        for container in engines.containers_of(&name, [&volume.path, &real]).filter(|one| counts(one)) {
            if !self.others.contains(&format!("{}{}", census::CONTAINER, container.short_id())) {
                self.others.push(format!("{}{}", census::CONTAINER, container.in_words()));
            }
        }
        if self.is_empty() && engines.has_mounted(&name, [&volume.path, &real]) {
            self.others.push("Podman, which has it mounted".to_owned());
        }
        Ok(())
    }

    /// Says which uses ended by themselves, where nothing else uses the volume.
    pub(super) fn tell_of_the_gone(&self, volume: &Volume) {
        if self.is_empty() {
            for gone in &self.gone {
                let name = volume.name.full();
                terminal::note(&format!(
                    "Volume '{name}' is free: {gone} never gave it back, but whoever asked for it has ended, and nothing has it mounted"
                ));
            }
        }
    }

    /// Whether all that is known is what an engine said when it asked for the volume.
    pub(super) fn are_only_said(&self) -> bool {
        let is_container = |attachment: &Attachment| matches!(attachment.holder, Holder::Container { .. });
        self.others.is_empty() && self.attachments.iter().all(is_container)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attachments.is_empty() && self.others.is_empty()
    }
}

impl Volumes {
    /// Notes a use, and shows the volume at a path where one is given.
    ///
    /// 1. The entry in the record: a crash after it leaves a use without a mount, which a repeated attach completes.
    /// 2. The mount.
    pub(super) fn attach(&self, full: &str, attachment: &Attachment) -> Result<(), Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        volume.check_whole()?;
        let census = Census::take()?;
        let mut record = Self::record_without_the_dead(&volume, &census)?;
        let same =
            |other: &&Attachment| other.consumer == attachment.consumer && other.path == attachment.path;
        if let Some(existing) = record.attachments.iter().find(same)
            && existing.read_only != attachment.read_only
        {
            let access = |read_only| if read_only { "read-only" } else { "read-write" }.to_owned();
            return Err(Differs {
                what: "Volume",
                name: full.to_owned(),
                parameter: "access for this consumer",
                existing: access(existing.read_only),
                requested: access(attachment.read_only),
            }
            .into());
        }
        record.attachments.retain(|other| !same(&other));
        record.attachments.push(attachment.clone());
        record.save(&self.root, &volume.name)?;
        fail::point("attach: noted");
        let shown = self.mount(&volume).and_then(|()| match &attachment.path {
            Some(path) if !census.shows(&volume.real_path()?, path) => {
                folder::show(&volume.path, path, attachment.read_only).map_err(|error| match error {
                    tierce_engine::Error::ForeignTarget { path, found } => Error::Refused(format!(
                        "Volume '{full}' can't be shown at {}: {found}; name an empty folder",
                        path.display()
                    )),
                    other => other.into(),
                })
            }
            _ => Ok(()),
        });
        if shown.is_err() {
            self.take_back(&volume, |attachments| attachments.retain(|other| !same(&other)))?;
        }
        shown
    }

    /// Takes a use back that came to nothing.
    fn take_back(&self, volume: &Volume, change: impl FnOnce(&mut Vec<Attachment>)) -> Result<(), Error> {
        // What was noted of the volume's key meanwhile must stay.
        let Some(mut record) = Record::load(&self.root, &volume.name)? else { return Ok(()) };
        change(&mut record.attachments);
        record.save(&self.root, &volume.name)
    }

    /// Undoes all uses by a consumer; one that does not use it is detached already.
    pub(super) fn detach(&self, full: &str, consumer: &str) -> Result<(), Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        let mut record = Self::record_without_the_dead(&volume, &Census::take()?)?;
        // A container by its id alone, too.
        let is_meant = |attachment: &Attachment| {
            attachment.consumer == consumer
                || attachment.consumer.strip_prefix(census::CONTAINER) == Some(consumer)
        };
        for attachment in record.attachments.iter().filter(|attachment| is_meant(attachment)) {
            hide(&volume, attachment)?;
        }
        fail::point("detach: hidden");
        record.attachments.retain(|attachment| !is_meant(attachment));
        record.save(&self.root, &volume.name)
    }

    /// Notes that a container uses a volume, once more if it does already; `caller`: the process that asks for it. Returns where the data is.
    pub(super) fn mount_for_container(
        &self,
        full: &str,
        id: &str,
        caller: Option<Holder>,
    ) -> Result<PathBuf, Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        volume.check_whole()?;
        let census = Census::take()?;
        let mut record = Self::record_without_the_dead(&volume, &census)?;
        let holder = Holder::container(id)?;
        if let Some(at) = record.attachments.iter().position(|attachment| attachment.holder == holder)
            && !record.lives(&record.attachments[at])?
        {
            let users = Users::of(&volume, &census)?;
            if users.is_empty() {
                // Whoever asks anew has forgotten that; else it runs, and its engine will give it back.
                users.tell_of_the_gone(&volume);
                record.attachments.remove(at);
            }
        }
        if let Some(known) = record.attachments.iter_mut().find(|attachment| attachment.holder == holder) {
            known.count = known.count.saturating_add(1);
        } else {
            let short: String = id.chars().take(12).collect();
            let consumer = format!("{}{short}", census::CONTAINER);
            let holder = holder.clone();
            record.attachments.push(Attachment { consumer, holder, path: None, read_only: false, count: 1 });
        }
        record.add_caller(id, caller.map_or_else(Holder::boot, Ok)?)?;
        record.save(&self.root, &volume.name)?;
        fail::point("container: noted");
        if let Err(error) = self.mount(&volume) {
            // Whoever could not mount it will not unmount it.
            self.take_back(&volume, |attachments| give_back(attachments, &holder))?;
            return Err(error);
        }
        Ok(volume.path)
    }

    /// Undoes one of them; one that is undone already stays so.
    pub(super) fn unmount_for_container(&self, full: &str, id: &str) -> Result<(), Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        let mut record = Self::record(&volume)?;
        // Before it counts as gone: its processes have ended already.
        give_back(&mut record.attachments, &Holder::container(id)?);
        record.save(&self.root, &volume.name)
    }

    /// The record as it shall be written next: what dead holders left mounted is taken away.
    fn record_without_the_dead(volume: &Volume, census: &Census) -> Result<Record, Error> {
        let mut record = Self::record(volume)?;
        let real = volume.real_path().ok();
        let mut living = Vec::new();
        for attachment in std::mem::take(&mut record.attachments) {
            if record.lives(&attachment)? {
                living.push(attachment);
            } else if attachment
                .path
                .as_ref()
                .is_some_and(|path| real.as_ref().is_some_and(|real| census.shows(real, path)))
            {
                hide(volume, &attachment)?;
            } else if attachment.holder.is_alive()? {
                // A container's, never given back: its engine may still do that, and Podman is asked before the volume is removed.
                living.push(attachment);
            }
        }
        record.attachments = living;
        Ok(record)
    }
}

/// Undoes one of a container's uses.
fn give_back(attachments: &mut Vec<Attachment>, container: &Holder) {
    for attachment in attachments.iter_mut().filter(|attachment| attachment.holder == *container) {
        attachment.count = attachment.count.saturating_sub(1);
    }
    attachments.retain(|attachment| attachment.count > 0);
}

/// Takes away what an attachment shows; a mount there that is not ours stays.
pub(super) fn hide(volume: &Volume, attachment: &Attachment) -> Result<(), Error> {
    let Some(path) = &attachment.path else { return Ok(()) };
    let folder = volume.real_path()?;
    if !Census::take()?.shows(&folder, path) || folder::hide(path)? {
        return Ok(());
    }
    let mut users = census::open_files_below(std::slice::from_ref(path))?.remove(path).unwrap_or_default();
    if users.is_empty() {
        users.push(format!("open files below {}", path.display()));
    }
    let (name, by) = (volume.name.full(), users.join(", "));
    Err(InUse { name, by, advice: "End that first, then try again." }.into())
}

pub(super) fn attachment(
    consumer: &str,
    pid: Option<u32>,
    path: Option<PathBuf>,
    read_only: bool,
) -> Result<Attachment, Error> {
    if consumer.trim().is_empty() || consumer.chars().any(char::is_control) || consumer.chars().count() > 128
    {
        return Err(Error::InvalidArgument(
            "A consumer's name has 1 to 128 characters, none of them a control character".to_owned(),
        ));
    }
    if path.is_some() && !privilege::is_root() {
        return Err(Error::NeedsRoot {
            what: "Showing a volume at another path",
            instead: "leave the path out, which only notes the use",
        });
    }
    let holder = pid.map_or_else(Holder::boot, Holder::process)?;
    let path = match path {
        None => None,
        Some(path) => Some(path.canonicalize().doing(|| format!("find the folder {}", path.display()))?),
    };
    Ok(Attachment { consumer: consumer.to_owned(), holder, path, read_only, count: 1 })
}
