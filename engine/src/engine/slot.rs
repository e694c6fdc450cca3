//! A pool as it was configured, and what came of it.

use std::sync::Arc;

use uuid::Uuid;

use crate::{PoolConfig, PoolError, PoolErrorKind, pool::Pool};

/// A configured pool.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) config: PoolConfig,
    pub(super) opened: Result<Arc<dyn Pool>, PoolError>,
    /// The pool's own id, once seen: a pool with another id at the same path means that a disk is missing.
    pub(super) known: Option<Uuid>,
}

impl Slot {
    /// Whether the pool's disk is known not to answer.
    pub(super) fn is_silent(&self) -> bool {
        self.opened.as_ref().is_err_and(|error| error.kind == PoolErrorKind::NotAnswering)
    }
}
