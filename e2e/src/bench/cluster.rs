//! The whole path, as a user goes it: claims, pods and Volumes on a cluster with the chart installed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tierce_crds::{Volume, names};

use super::audit::{Mark, Writes};
use super::client::milliseconds;
use super::figures::{Figure, Unit};
use super::statistics::Samples;
use super::watch::Arrivals;
use crate::images::BUSYBOX;

/// A tier that the chart ships.
pub(super) const TIER: &str = "standard-ssd";
const NAMESPACE: &str = "default";
/// Claims and pods that are measured one after the other.
const SINGLE_CLAIMS: usize = 20;
const PODS: usize = 20;
const COUNTED: u32 = 20;
/// After this long all statuses and reports of what was done are written.
const SETTLED: Duration = Duration::from_secs(3);

/// What the figures of a cluster should be.
pub(super) struct Aims {
    /// Stands before the name of each figure.
    pub prefix: &'static str,
    /// A claim applied until it is Bound, milliseconds.
    pub claim: f64,
    /// As many claims at once, and the seconds until all are Bound.
    pub at_once: &'static [(usize, f64)],
    /// A pod with a new Volume, against one with an emptyDir.
    pub pod: f64,
}

/// Image files on a node of this machine's kernel.
pub(super) const IMAGES: Aims =
    Aims { prefix: "", claim: 400.0, at_once: &[(100, 10.0), (200, 20.0)], pod: 1.3 };

/// A thin pool on a node that is a guest.
pub(super) const THIN_ON_GUEST: Aims =
    Aims { prefix: "LVM thin on a guest node: ", claim: 600.0, at_once: &[(100, 20.0)], pod: 1.5 };

/// `PersistentVolumeClaim` applied → Bound: one after the other, then many at once.
pub(super) async fn claims(client: &Client, aims: &Aims) -> Result<Vec<Figure>> {
    let prefix = aims.prefix;
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), NAMESPACE);
    let mut bound = Arrivals::watch(api.clone(), |claim: &PersistentVolumeClaim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
    });
    let mut times = Vec::new();
    for index in 0..SINGLE_CLAIMS {
        let name = format!("single-{index}");
        let started = Instant::now();
        api.create(&PostParams::default(), &claim(&name)?).await?;
        times.push((bound.of(&name).await? - started).as_secs_f64() * 1000.0);
    }
    let times: Samples = times.into_iter().collect();
    let mut figures = vec![
        Figure::median(format!("{prefix}claim applied → Bound"), &times, Unit::Milliseconds)
            .at_most(aims.claim)
            .note(format!("median of {SINGLE_CLAIMS}, one at a time; the longest {:.0} ms", times.max())),
    ];
    no_claims_left(client, &api).await?;
    for &(many, limit) in aims.at_once {
        let names: Vec<String> = (0..many).map(|index| format!("many-{many}-{index}")).collect();
        let started = Instant::now();
        futures::stream::iter(&names)
            .map(|name| {
                let api = api.clone();
                async move {
                    api.create(&PostParams::default(), &claim(name)?).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(many)
            .try_collect::<()>()
            .await?;
        let applied = started.elapsed();
        let mut last = started;
        for name in &names {
            last = last.max(bound.of(name).await?);
        }
        let seconds = (last - started).as_secs_f64();
        figures.push(
            Figure::new(format!("{prefix}{many} claims at once → all Bound"), seconds, Unit::Seconds)
                .at_most(limit)
                .note(format!("to apply them alone took {:.1} s", applied.as_secs_f64())),
        );
        no_claims_left(client, &api).await?;
    }
    Ok(figures)
}

/// A pod with a new Volume → Running, in turn with a pod that has an emptyDir.
pub(super) async fn pods(client: &Client, aims: &Aims) -> Result<Vec<Figure>> {
    let prefix = aims.prefix;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let volumes: Api<Volume> = Api::namespaced(client.clone(), NAMESPACE);
    let mut running = Arrivals::watch(pods.clone(), |pod: &Pod| {
        pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
    });
    let mut times: [Vec<f64>; 3] = Default::default();
    // The first of each kind is not counted: caches of the kubelet and the kernel are cold.
    for index in 0..=PODS {
        for (kind, binding) in [Some("OnFirstUse"), Some("Immediate"), None].into_iter().enumerate() {
            let name = format!("pod-{index}-{kind}");
            let source = match binding {
                Some(_) => json!({"persistentVolumeClaim": {"claimName": name}}),
                None => json!({"emptyDir": {}}),
            };
            let started = Instant::now();
            if let Some(binding) = binding {
                volumes.create(&PostParams::default(), &volume(&name, binding)?).await?;
            }
            pods.create(&PostParams::default(), &pod(&name, &source)?).await?;
            let taken = (running.of(&name).await? - started).as_secs_f64() * 1000.0;
            if index > 0 {
                times[kind].push(taken);
            }
            remove_pod(&pods, &name).await?;
            if binding.is_some() {
                volumes.delete(&name, &DeleteParams::default()).await?;
                until_gone(&volumes).await?;
            }
        }
    }
    let ms = |what: &str, kind: usize| {
        let times: Samples = times[kind].iter().copied().collect();
        Figure::median(format!("{prefix}{what}"), &times, Unit::Milliseconds)
            .note(format!("median of {PODS}, in turns"))
    };
    let ratio = |what: &str, kind: usize| {
        let ratios: Samples = times[kind].iter().zip(&times[2]).map(|(one, other)| one / other).collect();
        Figure::median(format!("{prefix}{what}, against emptyDir"), &ratios, Unit::Times)
    };
    Ok(vec![
        ms("new Volume and pod applied → Running", 0),
        ms("new Volume with binding Immediate and pod applied → Running", 1),
        ms("the same pod with emptyDir", 2),
        ratio("pod with a new Volume", 0)
            .at_most(aims.pod)
            .note(
                "median of the pairs; kube-scheduler looks once a second whether a volume that waits for its first pod is bound",
            ),
        ratio("pod with a new Volume with binding Immediate", 1).note("median of the pairs"),
    ])
}

/// Our writes to the API server for each claim and for each Volume.
pub(super) async fn writes(client: &Client, audit_log: &Path) -> Result<Vec<Figure>> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), NAMESPACE);
    let mut figures = count("a claim", &claims, audit_log, claim, |claim| {
        claim.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Bound"))
    })
    .await?;
    let volumes: Api<Volume> = Api::namespaced(client.clone(), NAMESPACE);
    let make = |name: &str| volume(name, "Immediate");
    figures.extend(
        count("a Volume", &volumes, audit_log, make, |volume| {
            volume.status.as_ref().is_some_and(|status| status.phase == Some(tierce_crds::Phase::Ready))
        })
        .await?,
    );
    Ok(figures)
}

async fn count<K>(
    what: &str,
    api: &Api<K>,
    audit_log: &Path,
    describe: impl Fn(&str) -> Result<K>,
    there: fn(&K) -> bool,
) -> Result<Vec<Figure>>
where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Serialize + Send + 'static,
{
    let mut arrivals = Arrivals::watch(api.clone(), there);
    tokio::time::sleep(SETTLED).await;
    let before = Mark::now(audit_log)?;
    let started = Instant::now();
    for index in 0..COUNTED {
        let name = format!("counted-{index}");
        api.create(&PostParams::default(), &describe(&name)?).await?;
        arrivals.of(&name).await?;
    }
    let each = milliseconds(started) / f64::from(COUNTED);
    tokio::time::sleep(SETTLED).await;
    let made = before.writes_since()?;
    let before = Mark::now(audit_log)?;
    for index in 0..COUNTED {
        api.delete(&format!("counted-{index}"), &DeleteParams::default()).await?;
    }
    until_gone(api).await?;
    tokio::time::sleep(SETTLED).await;
    let deleted = before.writes_since()?;
    let writes = |writes: &Writes, done: &str| {
        Figure::new(format!("API writes of Tierce for {what} {done}"), writes.each(COUNTED), Unit::Pieces)
            .note(writes.made_of(COUNTED))
    };
    Ok(vec![
        Figure::new(format!("{what} applied → there, binding Immediate"), each, Unit::Milliseconds)
            .note(format!("mean of {COUNTED}, one at a time")),
        writes(&made, "made").at_most(4.0),
        writes(&deleted, "deleted").at_most(2.0),
    ])
}

fn claim(name: &str) -> Result<PersistentVolumeClaim> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}},
            "storageClassName": names::storage_class(TIER, false, tierce_crds::Binding::Immediate)},
    }))?)
}

fn volume(name: &str, binding: &str) -> Result<Volume> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "storage.tierce.dev/v1alpha1", "kind": "Volume", "metadata": {"name": name},
        "spec": {"size": "64Mi", "tier": TIER, "binding": binding},
    }))?)
}

fn pod(name: &str, source: &serde_json::Value) -> Result<Pod> {
    let mut data = json!({"name": "data"});
    let fields = data.as_object_mut().context("a volume of a pod is an object")?;
    fields.extend(source.as_object().cloned().unwrap_or_default());
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": BUSYBOX, "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "100000"], "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [data],
        },
    }))?)
}

async fn remove_pod(pods: &Api<Pod>, name: &str) -> Result<()> {
    pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    // The kubelet takes the pod's mounts down after that; the next pod shall not meet its work.
    until_gone(pods).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

async fn no_claims_left(client: &Client, api: &Api<PersistentVolumeClaim>) -> Result<()> {
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    until_gone(api).await?;
    until_gone(&Api::<PersistentVolume>::all(client.clone())).await
}

/// Waits, unmeasured, until no object of the kind is left.
async fn until_gone<K>(api: &Api<K>) -> Result<()>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    let deadline = Instant::now() + Duration::from_mins(10);
    loop {
        let left = api.list_metadata(&ListParams::default()).await?.items.len();
        if left == 0 {
            return Ok(());
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "{left} of {} are not deleted",
            std::any::type_name::<K>()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
