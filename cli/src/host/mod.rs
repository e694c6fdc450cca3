//! Volumes of one host.
//!
//! ```text
//! <root>/volumes/local/<name>             a volume's data
//! <root>/volumes/<stack>/<name>           the same of a stack; its full name is <stack>_<name>
//! <root>/state/records/<stack>/<name>.json  its labels and who holds it; a folder without one is a volume too
//! <root>/pools/local/                     the images of volumes with a size, each mounted at its volume's folder
//! <root>/state/pools.json                 the ids of the pools that the configuration adds
//! <root>/snapshots/<stack>/<name>/<snapshot>/  snapshots of plain volumes
//! <root>/state/locks/<full name>          held while a command changes it
//! <root>/state/locks/.data-…              shared while the volume is copied, held alone while its data is taken away or exchanged
//! <root>/state/locks/.room                shared while anything is made, held alone while remains are cleaned up
//! <root>/state/locks/.copy-…               where a copy of files is working
//! <root>/state/locks/.promise-…           room that a living command has set aside
//! ```

mod access;
mod advice;
mod archive;
mod attachments;
mod census;
mod commands;
mod completion;
mod compose;
mod copying;
mod devices;
mod disk_usage;
mod driver_options;
mod engines;
mod error;
mod fail;
mod filling;
mod kept_snapshots;
mod keys;
mod layout;
mod left_out;
mod leftovers;
mod listing;
mod locks;
mod making;
mod masked;
mod metadata;
mod moment;
mod mounting;
mod names;
mod pools;
mod promises;
mod prune;
mod record;
mod rekeying;
mod relative;
mod serve;
mod shape;
mod snapshots_and_clones;
mod stack;
mod stack_plan;
mod stack_state;
mod transfer;
mod tree_copy;
mod tree_descent;
mod tree_removal;
mod tree_size;
mod unfinished_copies;
mod users;
mod view;
mod volume_removal;
mod volumes;

pub(crate) use commands::run;
pub(crate) use completion::names;
pub use error::Error;
pub(crate) use shape::filesystem;
pub(crate) use stack::manifests;
