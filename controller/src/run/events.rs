//! Events, in the user's words.
//!
//! Not with kube's `Recorder`: it keeps every Event for six minutes and walks through all of them for each new one, so that
//! it can count repetitions. Ours are written on changes only, and thousands of Volumes may change at once.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use std::fmt;
use tierce_runtime::errors::in_words;
use tracing::debug;

/// The Events API takes at most so many bytes of a note.
const NOTE: usize = 1024;
/// Events about objects without a namespace are in this one.
const DEFAULT_NAMESPACE: &str = "default";

/// Writes Events. One that can't be written is no reason to stop.
#[derive(Clone)]
pub struct Events {
    client: Client,
    identity: String,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// As this replica.
    pub fn new(client: Client, identity: &str) -> Self {
        Self { client, identity: identity.to_owned() }
    }

    /// Tells about an object; `bad` is what somebody should look at.
    pub async fn tell(&self, about: &ObjectReference, bad: bool, reason: &str, message: &str) {
        let namespace = about.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        let event = self.event(about, bad, reason, message, Timestamp::now());
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            debug!(reason, "cannot write an Event: {}", in_words(&error));
        }
    }

    fn event(
        &self,
        about: &ObjectReference,
        bad: bool,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Event {
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or_default(), now.as_nanosecond());
        Event {
            metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
            type_: Some(if bad { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(reason.to_owned()),
            action: Some(reason.to_owned()),
            note: Some(message[..message.floor_char_boundary(NOTE)].to_owned()),
            regarding: Some(about.clone()),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some("tierce-controller".to_owned()),
            reporting_instance: Some(self.identity.clone()),
            ..Event::default()
        }
    }
}
