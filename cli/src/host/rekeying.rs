//! A new key for a volume that exists, and what a crash after each step leaves.

use super::{
    Error,
    devices::Mounted,
    fail,
    keys::{self, GivenKey},
    locks::Whole,
    mounting::{Verify, is_encrypted},
    record::Record,
    volumes::Volumes,
};

impl Volumes {
    /// Gives an encrypted volume another key; it may be in use meanwhile. `new` is asked once the present key is seen to open it.
    ///
    /// 1. The record says which key is to come. A crash after it: either may open the volume, and the next mount, or the same call again,
    ///    makes that one the only key.
    /// 2. The engine puts the new key into a further slot, sees that it opens, and empties the old one's: the same.
    /// 3. The record names the new key alone.
    pub(super) fn change_key(
        &self,
        full: &str,
        new: impl FnOnce() -> Result<GivenKey, Error>,
    ) -> Result<(), Error> {
        let _whole = Whole::acquire(&self.root, full)?;
        let volume = self.get(full)?;
        let Some((_, devices)) = self.device_of(&volume).filter(|_| is_encrypted(&volume)) else {
            return Err(Error::Refused(format!(
                "Volume '{full}' is not encrypted, and has no key to change: make an encrypted one and copy the data (tierce --host volume cp)"
            )));
        };
        let present = self.unlock(&volume, devices, Some(Verify))?;
        let new = new()?;
        if new.key == present.key {
            return self.note_key(&volume, &new.source);
        }
        let mut record = Record::load(&self.root, &volume.name)?.map_or_else(|| Self::record(&volume), Ok)?;
        record.next_key = Some(new.source.clone());
        record.save(&self.root, &volume.name)?;
        fail::point("key: noted");
        match devices.mount(&volume.name, &volume.path, Some(&present.key), Some(&new.key))? {
            Mounted::Done => {}
            Mounted::KeyNeeded | Mounted::KeyWrong => return Err(keys::wrong(full, &present.source)),
        }
        fail::point("key: changed");
        self.note_key(&volume, &new.source)
    }
}
