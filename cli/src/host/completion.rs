//! Names on this host, for a command line that is being typed. Trouble is no matter of a suggestion.

use std::path::Path;

use super::{keys::Asking, layout::Root, names::Name, record::Record, volumes::Volumes};
use crate::{
    config::{LOCAL_POOL, Pool},
    named::Named,
};

/// The names of all that may be meant; `volume`: the volume that the line names already.
pub(crate) fn names(what: Named, volume: Option<&str>, root: &Path, pools: &[Pool]) -> Vec<String> {
    let root = Root::new(root);
    let mut names = match what {
        Named::Volume => volumes(&root).iter().map(Name::full).collect(),
        Named::Stack => volumes(&root).iter().map(|name| name.stack().to_owned()).collect(),
        Named::Pool => pools.iter().map(|pool| pool.name.clone()).chain([LOCAL_POOL.to_owned()]).collect(),
        Named::Consumer => consumers(&root, volume),
        Named::Snapshot => snapshots(root, pools, volume),
        Named::Tier | Named::Namespace | Named::Context => Vec::new(),
    };
    names.sort_unstable();
    names.dedup();
    names
}

/// What has a place below the root, without a look at any pool.
fn volumes(root: &Root) -> Vec<Name> {
    root.scan().map(|(names, _)| names).unwrap_or_default()
}

fn consumers(root: &Root, volume: Option<&str>) -> Vec<String> {
    let meant = volumes(root).into_iter().filter(|name| volume.is_none_or(|volume| name.full() == volume));
    let records = meant.filter_map(|name| Record::load(root, &name).ok().flatten());
    records.flat_map(|record| record.attachments).map(|attachment| attachment.consumer).collect()
}

fn snapshots(root: Root, pools: &[Pool], volume: Option<&str>) -> Vec<String> {
    let Some(volume) = volume else { return Vec::new() };
    let found = Volumes::new(root, pools, Asking::Never).snapshots(volume).unwrap_or_default();
    found.into_iter().map(|snapshot| snapshot.name).collect()
}
