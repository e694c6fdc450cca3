//! Publishing: a staged volume appears at a pod's target.

use std::path::Path;

use super::{core::Core, staging::check_mode};
use crate::{
    Change, Error, PublishRequest, VolumeId, VolumeMode,
    mount::{
        place::{Found, Place},
        table::{self, Carries, Mount},
    },
};

impl Core {
    pub(super) fn publish(
        &self,
        id: &VolumeId,
        staging: &Path,
        target: &Path,
        request: PublishRequest,
    ) -> Result<Change<()>, Error> {
        let found = self.find(id)?;
        check_mode(id, found.record.mode, request.block)?;
        // What is staged must be our own device, checked again each time: a folder whose mount is missing
        // would take the pod's writes.
        let (from, device) = self.device_at(&found, staging)?;
        let Some(to) = Place::open(target)? else {
            return Err(Error::InvalidArgument(format!(
                "the folder above {} does not exist",
                target.display()
            )));
        };
        if from.path() == to.path() {
            return Err(Error::InvalidArgument("staging and target path are the same".to_owned()));
        }
        let wanted = match found.record.mode {
            VolumeMode::Filesystem(_) => Carries::Filesystem { device: device.number, whole: true },
            VolumeMode::Block => Carries::Node { device: device.number },
        };
        let mounts = self.host.mounts()?;
        if let Some(top) = table::top_at(&mounts, to.path()) {
            return already(id, top, wanted, &to, request.readonly);
        }
        // Only whole filesystems: the kubelet itself binds folders of a published one for a pod's subPath.
        let elsewhere = |mount: &&Mount| mount.carries == wanted && mount.point != from.path();
        if request.exclusive
            && let Some(other) = mounts.iter().find(elsewhere)
        {
            return Err(Error::InUse { id: id.clone(), by: other.point.display().to_string() });
        }
        match (found.record.mode, to.found()?) {
            (VolumeMode::Filesystem(_), Found::Nothing) => to.make_directory()?,
            (VolumeMode::Block, Found::Nothing) => to.make_file()?,
            (VolumeMode::Filesystem(_), Found::Directory) if to.is_empty_directory()? => {}
            (VolumeMode::Block, Found::File) => {}
            (_, Found::Directory) => {
                return Err(to.foreign("a directory that is not an empty mount point"));
            }
            (_, Found::File) => return Err(to.foreign("a file")),
            (_, Found::Other) => return Err(to.foreign("neither a directory nor an empty file")),
        }
        self.host.seal(&to)?;
        let bound = match found.record.mode {
            VolumeMode::Filesystem(_) => self.host.bind(device.number, &from, &to, request.readonly),
            VolumeMode::Block => self.host.bind_node(&device, &to, request.readonly),
        };
        if bound.is_err() {
            let _ = self.remove_target(&to);
        }
        bound?;
        // If the staging path was unmounted while we copied it, we copied the folder below.
        let now = table::top_at(&self.host.mounts()?, to.path()).map(|top| (top.carries, top.what.clone()));
        match now {
            Some((carries, _)) if carries == wanted => Ok(Change::Changed(())),
            other => {
                if other.is_some() && self.host.unmount(&to)? {
                    let _ = self.remove_target(&to);
                }
                let found = other.map_or("nothing".to_owned(), |(_, what)| what);
                Err(Error::NotStaged { id: id.clone(), path: staging.to_owned(), found })
            }
        }
    }

    pub(super) fn unpublish(&self, id: &VolumeId, target: &Path) -> Result<Change<()>, Error> {
        let Some(place) = Place::open(target)? else { return Ok(Change::Unchanged(())) };
        let found = self.find_for_teardown(id);
        let mut changed = false;
        // Mounts can lie on one another; each is looked at before it goes.
        while let Some(top) = table::top_at(&self.host.mounts()?, place.path()) {
            let ours =
                |number| top.carries.is_whole_of(number) || top.carries == Carries::Node { device: number };
            if !self.is_attached(id, found.as_ref(), ours)? {
                return Err(match found {
                    Some(_) => place.foreign(&top.what),
                    // The target may be another volume's.
                    None => Error::NotFound { id: id.clone() },
                });
            }
            self.unmount(id, &place)?;
            changed = true;
        }
        changed |= self.remove_target(&place)?;
        Ok(Change::of(changed))
    }

    /// Removes an empty mount point; `false`: there is none.
    fn remove_target(&self, place: &Place) -> Result<bool, Error> {
        match place.found()? {
            Found::Nothing => return Ok(false),
            Found::Directory if place.is_empty_directory()? => {
                self.host.unseal(place)?;
                place.remove_directory()?;
            }
            Found::File => {
                self.host.unseal(place)?;
                place.remove_file()?;
            }
            Found::Directory => return Err(place.foreign("a directory with files in it")),
            Found::Other => return Err(place.foreign("neither a directory nor an empty file")),
        }
        Ok(true)
    }
}

/// The answer where something is mounted at the target already. That mount is never taken down, healthy or
/// broken: a pod may be writing to it.
fn already(
    id: &VolumeId,
    top: &Mount,
    wanted: Carries,
    target: &Place,
    readonly: bool,
) -> Result<Change<()>, Error> {
    if top.carries != wanted {
        return Err(target.foreign(&top.what));
    }
    if top.readonly != readonly {
        let name = |readonly| if readonly { "read-only" } else { "read-write" }.to_owned();
        return Err(Error::Conflict {
            id: id.clone(),
            field: "access",
            existing: name(top.readonly),
            requested: name(readonly),
        });
    }
    Ok(Change::Unchanged(()))
}
