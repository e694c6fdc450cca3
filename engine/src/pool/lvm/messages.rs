//! What LVM has still to tell the kernel of a thin pool.
//!
//! LVM writes a change of a thin pool into the group's metadata together with a message, sends the message to
//! the kernel, has it count the transaction, and strikes the message out. Where a command is killed, or the
//! machine stops, after the kernel made a snapshot and before it counted that, LVM (seen with 2.03.16) sends
//! its message again: the kernel refuses it, and with it every later change of the pool. So the kernel's
//! device goes first.

use std::sync::MutexGuard;

use super::{LvmPool, report::NeverMade, thin_pool};
use crate::CommandError;

impl LvmPool {
    /// Removes the volume that LVM wrote down and never made.
    pub(super) fn remove_never_made(
        &self,
        turn: &MutexGuard<'_, ()>,
        found: &NeverMade,
    ) -> Result<(), CommandError> {
        if let Some((pool, number)) = self.thin_pool.as_ref().zip(found.number)
            && let Err(error) = thin_pool::forget(&self.group, pool, found.transaction, number)
        {
            let volume = self.full(&found.name);
            tracing::warn!(volume, %error, "can't remove from the kernel what a killed command began");
        }
        self.lvm.change("lvremove", &["-qq", "-f", &self.full(&found.name)])?;
        self.renew(turn)
    }
}
