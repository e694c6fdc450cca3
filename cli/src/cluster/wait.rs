//! Waiting on a watch until an object is as it should be.

use std::{fmt::Debug, pin::pin};

use futures::StreamExt;
use kube::{
    Api, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tierce_crds::{Volume, conditions};

use super::{Error, access::Cluster};
use crate::{args::Waiting, terminal::Spinner};

/// How far an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// There; with a word for the person.
    Done(Option<String>),
    /// On its way; what the cluster says.
    Waiting(String),
    /// It needs somebody to act first; what the cluster says.
    Hopeless(String),
}

/// Waits until `look` says that the object of that name is as it should be. `None`: it is not there (any more).
pub(super) async fn until<K>(
    cluster: &Cluster,
    api: Api<K>,
    name: &str,
    what: &str,
    waiting: &Waiting,
    look: impl Fn(Option<&K>) -> State,
) -> Result<Option<String>, Error>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let spinner = Spinner::new(what);
    let mut last = "the cluster has not said anything yet".to_owned();
    let mut deadline = pin!(tokio::time::sleep(waiting.timeout));
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = pin!(watcher(api, config).default_backoff());
    let mut seen = false;
    loop {
        let event = tokio::select! {
            () = &mut deadline => {
                return Err(Error::Timeout { what: what.to_owned(), after: waiting.timeout, last });
            }
            event = stream.next() => event,
        };
        let state = match event {
            Some(Ok(Event::Init)) => {
                seen = false;
                continue;
            }
            Some(Ok(Event::InitApply(object) | Event::Apply(object))) if object.name_any() == name => {
                seen = true;
                look(Some(&object))
            }
            Some(Ok(Event::InitDone)) if !seen => look(None),
            Some(Ok(Event::Delete(object))) if object.name_any() == name => look(None),
            Some(Ok(_)) => continue,
            Some(Err(error)) => match lasting(error) {
                Ok(error) => return Err(cluster.failed(&format!("wait for {what}"), error)),
                Err(passing) => State::Waiting(passing),
            },
            None => State::Waiting("the watch ended".to_owned()),
        };
        match state {
            State::Done(word) => return Ok(word),
            State::Hopeless(why) => return Err(Error::Hopeless { what: what.to_owned(), why }),
            State::Waiting(word) => {
                spinner.says(&word);
                last = word;
            }
        }
    }
}

/// `Ok`: no later try will do better. `Err`: the words of trouble that passes, as an API server that starts anew.
fn lasting(error: watcher::Error) -> Result<kube::Error, String> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            if matches!(status.code, 401 | 403 | 404) =>
        {
            Ok(kube::Error::Api(status))
        }
        other => Err(other.to_string()),
    }
}

/// What a Volume's `Ready` condition says of its present spec, as status, reason and message; `None` while it says nothing of it.
pub(super) fn ready(volume: &Volume) -> Option<(bool, &str, &str)> {
    let status = volume.status.as_ref()?;
    if status.observed_generation != volume.metadata.generation {
        return None;
    }
    let condition = conditions::find(&status.conditions, conditions::READY)?;
    Some((condition.status == "True", &condition.reason, &condition.message))
}
