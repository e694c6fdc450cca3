//! Volumes of one host.
//!
//! ```text
//! <root>/volumes/local/<name>             a volume's data
//! <root>/volumes/<stack>/<name>           the same of a stack; its full name is <stack>_<name>
//! <root>/state/records/<stack>/<name>.json  its labels and who holds it; a folder without one is a volume too
//! <root>/pools/local/                     the images of volumes with a size, each mounted at its volume's folder
//! <root>/snapshots/<stack>/<name>/<snapshot>/  snapshots of plain volumes
//! <root>/state/locks/<full name>          held while a command changes it
//! ```

mod archive;
mod attachments;
mod census;
mod commands;
mod compose;
mod copies;
mod copy;
mod error;
mod fail;
mod images;
mod keys;
mod layout;
mod locks;
mod names;
mod record;
mod removal;
mod serve;
mod size;
mod space;
mod stack;
mod transfer;
mod users;
mod view;
mod volumes;

pub use commands::run;
pub use error::Error;
pub(crate) use stack::manifests;
