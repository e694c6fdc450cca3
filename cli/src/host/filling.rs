//! Volumes that are not whole: an import fills them, or did until it was killed. Nobody else gets them, neither to use nor to copy, as what is
//! in them goes when the import fails, or is begun anew.

use std::{io, os::fd::OwnedFd};

use tierce_client::InUse;

use super::{
    Error,
    attachments::Holder,
    census::Census,
    engines::Answer,
    locks::Lock,
    tree_descent::each_name,
    tree_removal::remove_tree,
    users::Users,
    volume_removal::left_is_told,
    volumes::{Volume, Volumes},
};

impl Volume {
    fn filling(&self) -> Option<&Holder> {
        self.record.as_ref()?.filling.as_ref()
    }

    /// Whether it was to be filled, and who did that has ended before it was whole.
    pub(super) fn is_half_made(&self) -> Result<bool, Error> {
        self.filling().map_or(Ok(false), |filling| Ok(!filling.is_alive()?))
    }

    /// Who fills it just now, and has it all to itself, also between two files.
    pub(super) fn filled_by(&self) -> Result<Option<&'static str>, Error> {
        let Some(filling) = self.filling() else { return Ok(None) };
        Ok(filling.is_alive()?.then_some(match self.copy_of() {
            Some(_) => "tierce volume export, whose copy it is",
            None => "tierce volume import, which fills it",
        }))
    }

    /// The volume that an export made it of.
    fn copy_of(&self) -> Option<&str> {
        self.record.as_ref()?.export_of.as_deref()
    }

    /// Refuses what is not whole.
    pub(super) fn check_whole(&self) -> Result<(), Error> {
        let name = self.name.full();
        if let Some(by) = self.filled_by()? {
            return Err(InUse { name, by: by.to_owned(), advice: "Try again once that has ended." }.into());
        }
        match self.copy_of() {
            _ if !self.is_half_made()? => Ok(()),
            None => Err(Error::HalfMade { name }),
            Some(of) => Err(Error::Refused(format!(
                "Volume '{name}' is left of an export of volume '{of}' that was killed: remove it"
            ))),
        }
    }
}

impl Volumes {
    /// The folder that this process, `us`, is to fill. `None`: the volume is not, or no longer, its.
    pub(super) fn open_to_fill(&self, full: &str, us: &Holder) -> Result<Option<OwnedFd>, Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        self.still_filled_by(us, full)?.map(|volume| self.open_data(&volume)).transpose()
    }

    /// Notes that a volume has all that it was to be filled with.
    pub(super) fn is_whole(&self, full: &str, us: &Holder) -> Result<(), Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        let Some(volume) = self.still_filled_by(us, full)? else { return Err(replaced(full)) };
        let mut record = Self::record(&volume)?;
        record.filling = None;
        record.save(&self.root, &volume.name)
    }

    /// Removes what this process could not fill, and has open still.
    pub(super) fn give_up(&self, full: &str, us: &Holder, folder: OwnedFd) -> Result<(), Error> {
        let (_, users) = self.to_give_up(full, us)?;
        if users.is_empty() {
            // Before the lock, which is a file: there may be no inode left for it. What bears the name by then is another folder.
            let _ = empty(&folder);
        }
        // A volume with a size is not unmounted while that is open.
        drop(folder);
        let _lock = Lock::acquire(&self.root, full)?;
        let (volume, users) = self.to_give_up(full, us)?;
        left_is_told(self.remove_unless_used(&volume, &users))
    }

    /// That volume, and who else uses it.
    fn to_give_up(&self, full: &str, us: &Holder) -> Result<(Volume, Users), Error> {
        let Some(mut volume) = self.still_filled_by(us, full)? else { return Err(replaced(full)) };
        if let Some(record) = &mut volume.record {
            record.filling = None;
        }
        let users = Users::of(&volume, &Census::take()?)?;
        Ok((volume, users))
    }

    /// The volume of that name where `us` fills it: by now it may have been removed, and another made.
    fn still_filled_by(&self, us: &Holder, full: &str) -> Result<Option<Volume>, Error> {
        Ok(self.find(full)?.filter(|volume| volume.filling() == Some(us)))
    }

    /// Removes what a killed import left, for the next one. Under its lock.
    pub(super) fn make_room(&self, left: &Volume) -> Result<(), Error> {
        // Not asked of the engines: a container that waits for the volume is why it is imported again.
        left_is_told(self.remove_unless_used(left, &Users::of(left, &Census::take()?)?))
    }

    /// Removes volumes whose import was killed. Returns why others of them stay.
    pub(super) fn remove_half_made(&self) -> Result<Vec<Error>, Error> {
        let mut names = Vec::new();
        for volume in self.list()?.0 {
            if volume.is_half_made()? {
                names.push(volume.name.full());
            }
        }
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // Not under a lock: an engine may wait for a call of ours that waits for it.
        let engines = self.engines.ask(&names);
        Ok(names.iter().filter_map(|name| self.remove_if_half_made(name, &engines).err()).collect())
    }

    fn remove_if_half_made(&self, full: &str, engines: &Answer) -> Result<(), Error> {
        let _lock = Lock::acquire(&self.root, full)?;
        // Another command may have removed it meanwhile, or imported it again.
        let Some(volume) = self.find(full)? else { return Ok(()) };
        if !volume.is_half_made()? {
            return Ok(());
        }
        let mut users = Users::of(&volume, &Census::take()?)?;
        users.add_containers(&volume, engines)?;
        match engines.silent.first() {
            Some(silent) if users.is_empty() => Err(Error::NotPruned(silent.clone())),
            _ => self.remove_unless_used(&volume, &users),
        }
    }

    fn remove_unless_used(&self, volume: &Volume, users: &Users) -> Result<(), Error> {
        if users.is_empty() {
            return self.remove_now(volume, users);
        }
        let advice = "Its import was interrupted: end that use, then import it again, or remove it.";
        Err(InUse { name: volume.name.full(), by: users.names().join(", "), advice }.into())
    }
}

fn empty(folder: &OwnedFd) -> io::Result<()> {
    let mut names = Vec::new();
    each_name(folder, |name| {
        names.push(name.to_owned());
        io::Result::Ok(())
    })?;
    names.iter().try_for_each(|name| remove_tree(folder, name))
}

fn replaced(full: &str) -> Error {
    Error::Replaced { name: full.to_owned() }
}
