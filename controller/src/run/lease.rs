//! Leader election over a `Lease` (`coordination.k8s.io/v1`): only its holder reconciles. Every write carries the
//! resource version that was read, so two can't both win. A candidate trusts no clock but its own: a lease has run out
//! when it did not change for its whole duration while the candidate was watching (as client-go does).

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, ResourceExt};
use std::pin::pin;
use std::time::Duration;
use tierce_runtime::errors::in_words;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long a lease lasts that nobody renews.
const DURATION: Duration = Duration::from_secs(15);
/// How often the holder renews it.
const RENEW: Duration = Duration::from_secs(5);
/// A holder that could not renew for so long stops: before others may begin.
const GIVE_UP: Duration = Duration::from_secs(10);
/// Between two attempts after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// A lease as it was last seen to change.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The object; `None` if there is none.
    lease: Option<Lease>,
    /// When it was seen to change, by our clock.
    at: Instant,
}

/// What to do about the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nobody holds it: take it.
    Take,
    /// It is ours: renew it at this moment.
    RenewAt(Instant),
    /// Another one holds it, at least until this moment.
    WaitUntil(Instant),
}

/// Decides from what was seen.
pub fn decide(seen: &Seen, me: &str) -> Decision {
    let Some(spec) = seen.lease.as_ref().and_then(|lease| lease.spec.as_ref()) else { return Decision::Take };
    match spec.holder_identity.as_deref() {
        None | Some("") => Decision::Take,
        Some(holder) if holder == me => Decision::RenewAt(seen.at + RENEW),
        Some(_) => {
            let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
            let ends = seen.at + seconds.map_or(DURATION, Duration::from_secs);
            if ends <= Instant::now() { Decision::Take } else { Decision::WaitUntil(ends) }
        }
    }
}

/// The next content of the lease when it is taken, renewed or released by `me`.
fn next(old: Option<&LeaseSpec>, holder: &str, now: Timestamp) -> LeaseSpec {
    let old = old.cloned().unwrap_or_default();
    let same = old.holder_identity.as_deref() == Some(holder);
    let taken = !same && !holder.is_empty();
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        renew_time: Some(MicroTime(now)),
        acquire_time: if same { old.acquire_time } else { Some(MicroTime(now)) },
        lease_transitions: Some(old.lease_transitions.unwrap_or(0).saturating_add(i32::from(taken))),
        ..LeaseSpec::default()
    }
}

/// One candidate for one lease.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    me: String,
}

/// The lease is ours until this is lost or released.
pub struct Held {
    candidate: Candidate,
    lease: Lease,
    /// Before the write that made it ours or renewed it: others may count from there, however late its answer came.
    renewed: Instant,
}

impl Candidate {
    /// For the lease `name` in `namespace`; `me` differs from every other candidate.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        Self { leases: Api::namespaced(client, namespace), name: name.to_owned(), me: me.to_owned() }
    }

    /// Returns once the lease is ours. Sleeps on a watch meanwhile.
    pub async fn acquire(self) -> Held {
        let changes = watch_object(self.leases.clone(), &self.name).default_backoff();
        let mut changes = pin!(changes);
        let mut seen: Option<Seen> = None;
        info!(lease = self.name, me = self.me, "waiting to lead");
        loop {
            let wake = match &seen {
                None => None,
                Some(now) => match decide(now, &self.me) {
                    // Left by an earlier run under our name: as good as free.
                    Decision::Take | Decision::RenewAt(_) => {
                        let renewed = Instant::now();
                        match self.write(now.lease.as_ref(), &self.me).await {
                            Ok(lease) => {
                                info!(lease = self.name, me = self.me, "leading");
                                return Held { candidate: self, lease, renewed };
                            }
                            Err(kube::Error::Api(status))
                                if status.is_conflict() || status.is_already_exists() =>
                            {
                                debug!("another one was faster");
                            }
                            Err(error) => warn!("cannot take the lease: {}", in_words(&error)),
                        }
                        Some(Instant::now() + RETRY)
                    }
                    Decision::WaitUntil(moment) => Some(moment),
                },
            };
            tokio::select! {
                change = changes.next() => match change {
                    Some(Ok(lease)) => seen = Some(Seen { lease, at: Instant::now() }),
                    Some(Err(error)) => debug!("watch of the lease interrupted: {}", in_words(&error)),
                    None => unreachable!("a watch with backoff never ends"),
                },
                () = async { sleep_until(wake.unwrap_or_else(Instant::now)).await }, if wake.is_some() => {}
            }
        }
    }

    async fn write(&self, old: Option<&Lease>, holder: &str) -> Result<Lease, kube::Error> {
        let spec = Some(next(old.and_then(|lease| lease.spec.as_ref()), holder, Timestamp::now()));
        let parameters = PostParams::default();
        match old {
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.leases.create(&parameters, &Lease { metadata, spec }).await
            }
            Some(old) => {
                let metadata = ObjectMeta {
                    name: Some(self.name.clone()),
                    resource_version: old.resource_version(),
                    labels: old.metadata.labels.clone(),
                    annotations: old.metadata.annotations.clone(),
                    ..ObjectMeta::default()
                };
                self.leases.replace(&self.name, &parameters, &Lease { metadata, spec }).await
            }
        }
    }
}

impl Held {
    /// Renews the lease until `stop`, then gives it free, so that another one takes over at once. Returns `false` as soon
    /// as it is lost: the caller must stop reconciling then.
    pub async fn keep(mut self, stop: CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep_until(Instant::now() + RENEW) => {}
            }
            while let Err(error) = self.renew(self.renewed + GIVE_UP).await {
                if matches!(&error, Some(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found())
                {
                    warn!("somebody else wrote the lease");
                    if !self.still_ours().await {
                        return false;
                    }
                    continue;
                }
                if self.renewed.elapsed() >= GIVE_UP {
                    return false;
                }
                let words = error.map_or_else(|| "not in time".to_owned(), |error| in_words(&error));
                warn!("cannot renew the lease: {words}");
                tokio::time::sleep(RETRY).await;
            }
        }
        match timeout(RETRY, self.candidate.write(Some(&self.lease), "")).await {
            Ok(Ok(_)) => info!("gave the lease free"),
            Ok(Err(error)) => debug!("cannot give the lease free; it runs out: {}", in_words(&error)),
            Err(_) => debug!("cannot give the lease free in time; it runs out"),
        }
        true
    }

    /// `Err(None)`: not in time.
    async fn renew(&mut self, until: Instant) -> Result<(), Option<kube::Error>> {
        let write = self.candidate.write(Some(&self.lease), &self.candidate.me);
        let now = Instant::now();
        let limit = until.max(now + RETRY);
        self.lease = tokio::time::timeout_at(limit, write).await.map_err(|_| None)?.map_err(Some)?;
        self.renewed = now;
        Ok(())
    }

    /// Our own write may have been carried out although its answer was lost.
    async fn still_ours(&mut self) -> bool {
        let Ok(Ok(Some(lease))) = timeout(RETRY, self.candidate.leases.get_opt(&self.candidate.name)).await
        else {
            return false;
        };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        let ours = holder == Some(self.candidate.me.as_str());
        self.lease = lease;
        ours
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: Option<&str>, seconds: Option<i32>) -> Lease {
        let spec = LeaseSpec {
            holder_identity: holder.map(ToOwned::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        };
        Lease { metadata: ObjectMeta::default(), spec: Some(spec) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_taken_only_when_it_is_free_or_has_run_out() {
        let start = Instant::now();
        tokio::time::advance(Duration::from_secs(20)).await;
        let now = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for (what, lease, seen_at, decision) in [
            ("there is none", None, at(20), Decision::Take),
            ("no spec", Some(Lease::default()), at(20), Decision::Take),
            ("released", Some(held_by(Some(""), Some(15))), at(20), Decision::Take),
            ("never held", Some(held_by(None, Some(15))), at(20), Decision::Take),
            ("ours", Some(held_by(Some("me"), Some(15))), now, Decision::RenewAt(now + RENEW)),
            ("another's, fresh", Some(held_by(Some("you"), Some(15))), at(20), Decision::WaitUntil(at(35))),
            (
                "another's, about to end",
                Some(held_by(Some("you"), Some(15))),
                at(6),
                Decision::WaitUntil(at(21)),
            ),
            ("another's, run out", Some(held_by(Some("you"), Some(15))), at(5), Decision::Take),
            (
                "another's, of a longer duration",
                Some(held_by(Some("you"), Some(60))),
                at(5),
                Decision::WaitUntil(at(65)),
            ),
            (
                "another's, without a duration",
                Some(held_by(Some("you"), None)),
                at(6),
                Decision::WaitUntil(at(21)),
            ),
            (
                "another's, with nonsense",
                Some(held_by(Some("you"), Some(-1))),
                at(6),
                Decision::WaitUntil(at(21)),
            ),
        ] {
            assert_eq!(decide(&Seen { lease, at: seen_at }, "me"), decision, "{what}");
        }
    }

    #[test]
    fn transitions_count_changes_of_the_holder_only() {
        let now = Timestamp::now();
        let first = next(None, "a", now);
        assert_eq!(first.lease_transitions, Some(1));
        let renewed = next(Some(&first), "a", now);
        assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(1), &first.acquire_time));
        let released = next(Some(&renewed), "", now);
        assert_eq!((released.holder_identity.as_deref(), released.lease_transitions), (Some(""), Some(1)));
        assert_eq!(next(Some(&released), "b", now).lease_transitions, Some(2));
    }
}
