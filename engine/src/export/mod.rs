//! Exports of volumes to other nodes, by the kernel's own NFS server (version 4 alone). No program of nfs-utils takes part: this process
//! drives the server by its files, answers the kernel's three questions (who is this address, may it have this path, which path is this file
//! handle), and keeps the records of clients that let locks outlive a restart of the server.
//!
//! The server's threads, sockets and state belong to the host's network namespace and not to a process: where this process is away, clients
//! that are known go on. Those that ask something new wait for half a minute, and are then told "no" by the kernel itself, which asks nobody
//! who is away for longer. A next process takes over without stopping anything: it lets the kernel forget all answers, and gives those that
//! it knows anew at once.
//!
//! A volume that is known but whose pool is not open yet gets no answer, and its clients wait. A "no" would end every file that they have open.

mod answers;
mod caches;
mod channels;
mod error;
mod holders;
mod kernel;
mod marker;
mod records;
mod revoke;
mod root;
mod server;
mod settings;
mod table;
mod tracker;

pub use error::ExportError;
pub use server::ExportServer;
pub use settings::{Access, Export, ServerSettings, Serving};
