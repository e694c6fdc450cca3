//! Who calls: the process at the other end of a connection.

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use tokio::net::UnixListener;

use super::super::{
    attachments::Holder,
    engines::{self, Peer},
};

/// A process that asks us for something, and may be an engine.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    /// `None`: it is not known, as of another namespace.
    pub(super) process: Option<Holder>,
    pub(super) engine: Option<engines::Caller>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let Ok(peer) = stream.io().peer_cred() else { return Self::default() };
        // 0 is a process that has no number here.
        let Some(pid) = peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0) else {
            return Self::default();
        };
        let engine = engines::Caller::of(Peer { pid: Some(pid), uid: peer.uid() });
        Self { process: Holder::caller(pid).ok(), engine }
    }
}
