//! Copying a volume: what of it is held meanwhile, and how a folder's copy is made.
//!
//! A copy is made under a hidden name beside its place and appears by one rename; a killed one is removed by the next or by
//! `system prune`.

use std::os::fd::OwnedFd;

use rustix::fs::{self, Mode, RenameFlags};
use tierce_client::InUse;

use super::{
    Error,
    census::Census,
    devices::Devices,
    error::{Context, full_disk},
    fail,
    layout::{self, Root},
    left_out::LeftOut,
    leftovers::{self, NEW},
    locks::Lock,
    mounting::{busy, is_encrypted},
    tree_copy::Copier,
    tree_size,
    users::Users,
    volumes::{Volume, Volumes},
};
use crate::terminal::Progress;

/// How a volume is held while it is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Others may copy it too, and mount it.
    Shared,
    /// It may be unmounted meanwhile, so nobody else does anything with it.
    Alone,
}

impl Hold {
    /// Tries to copy something as it is, and where only its unmounting helps, again with that allowed: who waits for the whole of a volume
    /// must not have a part of it.
    pub(super) fn shared_or_alone(copy: impl Fn(Self) -> Result<(), Error>) -> Result<(), Error> {
        match copy(Self::Shared) {
            Err(Error::Engine(tierce_engine::Error::CopyNeedsPause { .. })) => copy(Self::Alone),
            other => other,
        }
    }

    /// The lock of the volume's data.
    pub(super) fn data(self, root: &Root, full: &str) -> Result<Lock, Error> {
        match self {
            Self::Shared => Lock::share_data(root, full),
            Self::Alone => Lock::data(root, full),
        }
    }
}

impl Volumes {
    /// Gives the lock of a volume's name back before it is copied, where others may do something with it meanwhile. A device that is not
    /// mounted must stay so; the header of an encrypted one may change with a mount.
    pub(super) fn kept(&self, source: &Volume, hold: Hold, name: Lock) -> Option<Lock> {
        let must_stay = match self.device_of(source) {
            None => false,
            Some((_, devices)) => is_encrypted(source) || !devices.is_mounted(&source.name, &source.path),
        };
        (hold == Hold::Alone || must_stay).then_some(name)
    }

    /// Copies a device; one that can't be copied quickly enough while it is mounted, and that nothing uses, is unmounted meanwhile. The error
    /// of the copy where that is not allowed.
    pub(super) fn at_rest(
        &self,
        volume: &Volume,
        devices: &Devices,
        hold: Hold,
        copy: impl Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let moving = match copy() {
            Err(error @ Error::Engine(tierce_engine::Error::CopyNeedsPause { .. })) => error,
            other => return other.map_err(|error| busy(error, volume)),
        };
        let users = Users::of(volume, &Census::take()?)?;
        if !users.is_empty() {
            let (name, by) = (volume.name.full(), users.names().join(", "));
            let advice = "This disk can't share blocks, so it can't be copied meanwhile: stop that, or keep the root on XFS or btrfs.";
            return Err(InUse { name, by, advice }.into());
        }
        match hold {
            Hold::Shared => Err(moving),
            Hold::Alone => self.while_unmounted(volume, devices, copy),
        }
    }

    /// Copies a folder under a hidden name and lets it appear as `name`.
    pub(super) fn copied(
        &self,
        from: &OwnedFd,
        (within, name): (&OwnedFd, &str),
        source: &Volume,
        left_out: &LeftOut,
    ) -> Result<(), Error> {
        let hidden = self.copied_hidden(from, (within, name), source, left_out)?;
        let doing = || format!("put the copy of volume '{}' in place as '{name}'", source.name);
        fail::point("copy: whole");
        fs::renameat_with(within, &hidden, within, name, RenameFlags::NOREPLACE).doing(doing)?;
        fs::fsync(within).doing(doing)
    }

    pub(super) fn copied_hidden(
        &self,
        from: &OwnedFd,
        (within, name): (&OwnedFd, &str),
        source: &Volume,
        left_out: &LeftOut,
    ) -> Result<String, Error> {
        let hidden = format!("{NEW}{name}");
        let doing =
            || format!("copy volume '{}' to {hidden} below {}", source.name, self.root.path().display());
        leftovers::give_free(within, &hidden).doing(doing)?;
        // Before all of the source is looked at, which may take long: an empty stack's folder goes with a removal meanwhile.
        fs::mkdirat(within, &hidden, Mode::RWXU).doing(doing)?;
        let (bytes, _) = tree_size::bytes_used(from);
        fail::point("copy: begun");
        let progress = Progress::new("copied", bytes);
        let copied = layout::open_beneath(within, &hidden, fs::OFlags::RDONLY | fs::OFlags::DIRECTORY)
            .map_err(std::io::Error::from)
            .and_then(|to| {
                Copier::new(&|bytes| progress.add(bytes), left_out).folder(from, &to)?;
                Ok(fs::syncfs(&to)?)
            });
        if let Err(error) = copied {
            let missing = bytes.saturating_sub(progress.done());
            let error = full_disk(error, missing, doing(), within);
            leftovers::give_free(within, &hidden).doing(doing)?;
            return Err(error);
        }
        if let Err(error) = left_out.told() {
            leftovers::give_free(within, &hidden).doing(doing)?;
            return Err(error);
        }
        Ok(hidden)
    }
}
