//! The whole path, as a user goes it: claims, pods and Volumes on a cluster with the chart installed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tierce_crds::{Volume, names};

use super::audit::Mark;
use super::client::milliseconds;
use super::figures::{Figure, Samples, Unit};
use super::watch::Arrivals;
use crate::images::BUSYBOX;

/// A tier that the chart ships.
const TIER: &str = "standard-ssd";
const NAMESPACE: &str = "default";
/// Claims and pods that are measured one after the other.
const SINGLE_CLAIMS: usize = 20;
const PODS: usize = 10;
const COUNTED_VOLUMES: u32 = 20;
/// After this long all statuses and reports of what was done are written.
const SETTLED: Duration = Duration::from_secs(3);

/// `PersistentVolumeClaim` applied → Bound: one after the other, then many at once.
pub(super) async fn claims(client: &Client) -> Result<Vec<Figure>> {
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
        Figure::new("claim applied → Bound", times.median(), Unit::Milliseconds)
            .at_most(400.0)
            .note(format!("median of {SINGLE_CLAIMS}, one at a time; the longest {:.0} ms", times.max())),
    ];
    no_claims_left(client, &api).await?;
    for (many, limit) in [(100, 10.0), (200, 20.0)] {
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
            Figure::new(format!("{many} claims at once → all Bound"), seconds, Unit::Seconds)
                .at_most(limit)
                .note(format!("to apply them alone took {:.1} s", applied.as_secs_f64())),
        );
        no_claims_left(client, &api).await?;
    }
    Ok(figures)
}

/// A pod with a new Volume → Running, in turn with a pod that has an emptyDir.
pub(super) async fn pods(client: &Client) -> Result<Vec<Figure>> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let volumes: Api<Volume> = Api::namespaced(client.clone(), NAMESPACE);
    let mut running = Arrivals::watch(pods.clone(), |pod: &Pod| {
        pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
    });
    let (mut with_volume, mut with_empty_dir, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first of each kind is not counted: caches of the kubelet and the kernel are cold.
    for index in 0..=PODS {
        let name = format!("volume-{index}");
        let started = Instant::now();
        volumes.create(&PostParams::default(), &volume(&name, "OnFirstUse")?).await?;
        pods.create(
            &PostParams::default(),
            &pod(&name, &json!({"persistentVolumeClaim": {"claimName": name}}))?,
        )
        .await?;
        let one = (running.of(&name).await? - started).as_secs_f64() * 1000.0;
        remove_pod(&pods, &name).await?;
        volumes.delete(&name, &DeleteParams::default()).await?;
        until_gone(&volumes).await?;

        let name = format!("empty-{index}");
        let started = Instant::now();
        pods.create(&PostParams::default(), &pod(&name, &json!({"emptyDir": {}}))?).await?;
        let other = (running.of(&name).await? - started).as_secs_f64() * 1000.0;
        remove_pod(&pods, &name).await?;
        if index > 0 {
            with_volume.push(one);
            with_empty_dir.push(other);
            ratios.push(one / other);
        }
    }
    let median = |values: Vec<f64>| values.into_iter().collect::<Samples>().median();
    let (one, other) = (median(with_volume), median(with_empty_dir));
    Ok(vec![
        Figure::new("new Volume and pod applied → Running", one, Unit::Milliseconds)
            .note(format!("median of {PODS}, in turn with the next")),
        Figure::new("the same pod with emptyDir", other, Unit::Milliseconds),
        Figure::new("pod with a new Volume, against emptyDir", median(ratios), Unit::Times)
            .at_most(1.3)
            .note("median of the pairs"),
    ])
}

/// Our writes to the API server for each Volume.
pub(super) async fn writes(client: &Client, audit_log: &Path) -> Result<Vec<Figure>> {
    let volumes: Api<Volume> = Api::namespaced(client.clone(), NAMESPACE);
    let mut ready = Arrivals::watch(volumes.clone(), |volume: &Volume| {
        volume.status.as_ref().is_some_and(|status| status.phase == Some(tierce_crds::Phase::Ready))
    });
    tokio::time::sleep(SETTLED).await;
    let before = Mark::now(audit_log)?;
    let started = Instant::now();
    for index in 0..COUNTED_VOLUMES {
        let name = format!("counted-{index}");
        volumes.create(&PostParams::default(), &volume(&name, "Immediate")?).await?;
        ready.of(&name).await?;
    }
    let each = milliseconds(started) / f64::from(COUNTED_VOLUMES);
    tokio::time::sleep(SETTLED).await;
    let made = before.writes_since()?;
    let before = Mark::now(audit_log)?;
    for index in 0..COUNTED_VOLUMES {
        volumes.delete(&format!("counted-{index}"), &DeleteParams::default()).await?;
    }
    until_gone(&volumes).await?;
    tokio::time::sleep(SETTLED).await;
    let deleted = before.writes_since()?;
    Ok(vec![
        Figure::new("Volume applied → Ready (Immediate)", each, Unit::Milliseconds)
            .note(format!("mean of {COUNTED_VOLUMES}, one at a time")),
        Figure::new("API writes of Tierce for a Volume made", made.each(COUNTED_VOLUMES), Unit::Pieces)
            .at_most(4.0)
            .note(made.made_of(COUNTED_VOLUMES)),
        Figure::new("API writes of Tierce for a Volume deleted", deleted.each(COUNTED_VOLUMES), Unit::Pieces)
            .at_most(2.0)
            .note(deleted.made_of(COUNTED_VOLUMES)),
    ])
}

fn claim(name: &str) -> Result<PersistentVolumeClaim> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}},
            "storageClassName": names::storage_class(TIER, tierce_crds::Binding::Immediate)},
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
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let deadline = Instant::now() + Duration::from_mins(2);
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
