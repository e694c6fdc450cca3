//! The record of a volume that is to be made.

use jiff::Timestamp;

use crate::{
    VolumeSpec,
    pool::record::{Encryption, Format, Further, Record},
};

/// The record of a volume as it was asked for. Its size is set by [`Record::set_size`].
pub(super) fn new_record(
    spec: &VolumeSpec,
    format: Format,
    sector_bytes: u32,
    encryption: Option<Encryption>,
) -> Record {
    Record {
        id: spec.id.clone(),
        size_bytes: 0,
        mode: spec.mode,
        sector_bytes,
        format,
        used: false,
        staged_at: None,
        label: spec.label.clone(),
        owner: spec.owner.clone(),
        mount_options: spec.mount_options.clone(),
        created_at: Timestamp::now(),
        role: None,
        origin: None,
        restore: None,
        encryption,
        asked_bytes: None,
        further: Further::new(),
    }
}
