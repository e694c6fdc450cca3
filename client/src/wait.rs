//! What becomes of a request, seen by a watch.

use std::{fmt::Debug, pin::pin, time::Duration};

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
use tokio::time::Instant;

use crate::{Cluster, Error};

/// An object that can be watched.
pub(crate) trait Watched: Resource + Clone + DeserializeOwned + Debug + Send + 'static {}

impl<K: Resource + Clone + DeserializeOwned + Debug + Send + 'static> Watched for K {}

/// How far an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// There; with a word for the person.
    Done(Option<String>),
    /// On its way; what the cluster says.
    Waiting(String),
    /// It needs somebody to act first; what the cluster says.
    Hopeless(String),
}

/// Whoever waits, and is told what for.
pub trait Audience: Sync {
    /// A wait begins, for `what`.
    fn waits_for(&self, what: &str);
    /// What the cluster says meanwhile.
    fn hears(&self, word: &str);
    /// The wait is over.
    fn is_done(&self);
}

/// How long a verb looks at what becomes of its request.
#[derive(Clone, Copy)]
pub enum Patience<'a> {
    /// Until it is done; an error if it is not by then.
    UntilDone {
        /// By when.
        deadline: Instant,
        /// How long that is from the beginning, for messages.
        after: Duration,
        /// Who waits.
        audience: &'a dyn Audience,
    },
    /// A moment, for what the cluster says at once.
    Glance {
        /// Its end.
        deadline: Instant,
    },
}

const MOMENT: Duration = Duration::from_secs(1);

impl<'a> Patience<'a> {
    /// Until it is done, and so long at most.
    pub fn until_done(after: Duration, audience: &'a dyn Audience) -> Self {
        Self::UntilDone { deadline: Instant::now() + after, after, audience }
    }

    /// A moment.
    pub fn moment() -> Self {
        Self::Glance { deadline: Instant::now() + MOMENT }
    }

    pub(crate) fn is_glance(self) -> bool {
        matches!(self, Self::Glance { .. })
    }
}

/// How far a request is when nobody looks at it any longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done; with a word for the person.
    Done(Option<String>),
    /// It goes on by itself; what the cluster said last.
    UnderWay(String),
}

/// Looks at what becomes of a request. What a glance can't see is no failure: the request itself was accepted.
pub(crate) async fn follow<K: Watched>(
    cluster: &Cluster,
    api: Api<K>,
    name: &str,
    what: &str,
    patience: Patience<'_>,
    look: impl Fn(Option<&K>) -> State,
) -> Result<Outcome, Error> {
    match (until(cluster, api, name, what, patience, look).await, patience) {
        (Ok(word), _) => Ok(Outcome::Done(word)),
        (Err(Error::Timeout { last, .. }), Patience::Glance { .. }) => Ok(Outcome::UnderWay(last)),
        (Err(error @ Error::Hopeless { .. }), _) | (Err(error), Patience::UntilDone { .. }) => Err(error),
        (Err(error), Patience::Glance { .. }) => Ok(Outcome::UnderWay(error.to_string())),
    }
}

/// Waits until `look` says that the object of that name is as it should be. `None`: it is not there (any more).
async fn until<K: Watched>(
    cluster: &Cluster,
    api: Api<K>,
    name: &str,
    what: &str,
    patience: Patience<'_>,
    look: impl Fn(Option<&K>) -> State,
) -> Result<Option<String>, Error> {
    let (deadline, after, audience) = match patience {
        Patience::UntilDone { deadline, after, audience } => (deadline, after, Some(audience)),
        Patience::Glance { deadline } => (deadline, MOMENT, None),
    };
    let _told = audience.map(|audience| Told::new(audience, what));
    let mut last = "the cluster has not said anything yet".to_owned();
    let mut deadline = pin!(tokio::time::sleep_until(deadline));
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut stream = pin!(watcher(api, config).default_backoff());
    let mut seen = false;
    loop {
        let event = tokio::select! {
            () = &mut deadline => {
                return Err(Error::Timeout { what: what.to_owned(), after, last });
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
                if let Some(audience) = audience {
                    audience.hears(&word);
                }
                last = word;
            }
        }
    }
}

/// The audience of one wait, which is over however that ends.
struct Told<'a>(&'a dyn Audience);

impl<'a> Told<'a> {
    fn new(audience: &'a dyn Audience, what: &str) -> Self {
        audience.waits_for(what);
        Self(audience)
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.is_done();
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

/// Whether that very object is gone: one that somebody made anew under its name is another.
pub(crate) fn gone<K: Resource>(left: Option<&K>, uid: Option<&str>, last: impl Fn(&K) -> String) -> State {
    match left {
        Some(left) if left.meta().uid.as_deref() == uid => State::Waiting(last(left)),
        _ => State::Done(None),
    }
}

/// What a Volume's `Ready` condition says of its present spec, as status, reason and message; `None` while it says nothing of it.
pub(crate) fn ready(volume: &Volume) -> Option<(bool, &str, &str)> {
    let status = volume.status.as_ref()?;
    if status.observed_generation != volume.metadata.generation {
        return None;
    }
    let condition = conditions::find(&status.conditions, conditions::READY)?;
    Some((condition.status == "True", &condition.reason, &condition.message))
}
