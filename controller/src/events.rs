//! Events, in the user's words.

use crate::words::in_words;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use std::fmt;
use tracing::debug;

/// The Events API takes at most so many bytes of a note.
const NOTE: usize = 1024;

/// Writes Events. One that can't be written is no reason to stop.
#[derive(Clone)]
pub struct Events(Recorder);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// As this replica.
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter =
            Reporter { controller: "tierce-controller".into(), instance: Some(identity.to_owned()) };
        Self(Recorder::new(client, reporter))
    }

    /// Tells about an object; `bad` is what somebody should look at.
    pub async fn tell(&self, about: &ObjectReference, bad: bool, reason: &str, message: &str) {
        let end = message.floor_char_boundary(NOTE);
        let event = Event {
            type_: if bad { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(message[..end].to_owned()),
            action: reason.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, about).await {
            debug!(reason, "cannot write an Event: {}", in_words(&error));
        }
    }
}
