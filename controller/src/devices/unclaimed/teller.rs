//! Tells of what nobody speaks of any more and that may hold data: once each, by an Event, a metric and the log.

use super::Memory;
use crate::index::OnNode;
use crate::metrics::Metrics;
use crate::run::events::Events;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use std::marker::PhantomData;
use std::time::Duration;
use tracing::warn;

/// Of the objects of one kind.
pub struct Teller<T> {
    memory: Memory,
    events: Events,
    metrics: Metrics,
    kind: PhantomData<fn() -> T>,
}

impl<T: OnNode> Teller<T> {
    /// By these Events and metrics.
    pub fn new(events: Events, metrics: Metrics) -> Self {
        Self { memory: Memory::default(), events, metrics, kind: PhantomData }
    }

    /// How long nobody has spoken of it.
    pub fn unclaimed_for(&self, facts: &T) -> Duration {
        self.memory.unclaimed_for(&facts.id, &facts.uid)
    }

    /// Somebody speaks of it, or it is gone.
    pub fn forget(&self, id: &str) {
        if self.memory.forget(id) {
            self.metrics.unclaimed(T::WHAT, id, false);
        }
    }

    /// Whether it was told about.
    pub fn has_told(&self, id: &str) -> bool {
        self.memory.was_told(id)
    }

    /// Tells, if that was not done yet.
    pub async fn tell(&self, facts: &T, message: &str) {
        if !self.memory.tell(&facts.id) {
            return;
        }
        let kind = T::Object::kind(&());
        warn!(node = facts.node, "{kind} {}: {message}", facts.id);
        self.metrics.unclaimed(T::WHAT, &facts.id, true);
        let about = ObjectReference {
            api_version: Some(T::Object::api_version(&()).into_owned()),
            kind: Some(kind.into_owned()),
            name: Some(facts.id.clone()),
            uid: Some(facts.uid.clone()),
            ..ObjectReference::default()
        };
        self.events.tell(&about, true, "Unclaimed", message).await;
    }
}
