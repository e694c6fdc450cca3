//! Volumes of one host.
//!
//! ```text
//! <root>/volumes/local/<name>             a volume's data
//! <root>/volumes/<stack>/<name>           the same of a stack; its full name is <stack>_<name>
//! <root>/state/records/<stack>/<name>.json  its labels and who holds it; a folder without one is a volume too
//! <root>/state/locks/<full name>          held while a command changes it
//! ```

mod attachments;
mod census;
mod commands;
mod error;
mod fail;
mod labels;
mod layout;
mod locks;
mod names;
mod record;
mod removal;
mod size;
mod space;
mod users;
mod view;
mod volumes;

pub use commands::run;
pub use error::Error;
