//! Calls at the sockets: how long a volume takes to be made, and a killed plugin to serve again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};

use super::client::{Client, milliseconds};
use super::figures::{Figure, Unit};
use super::statistics::Samples;
use crate::sanity::stand::Stand;

const MIB: i64 = 1 << 20;
/// Volumes of each series: of fewer than 368 the 99th percentile has no upper bound.
const VOLUMES: usize = 400;
/// How many calls csi-provisioner may have under way here.
const PARALLEL: usize = 8;
const KILLS: usize = 20;

/// `CreateVolume` and `DeleteVolume` at the controller's socket.
pub(super) async fn create_and_delete(stand: &Stand) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for parallel in [1, PARALLEL] {
        let client = Client::of(stand).await?;
        let made: Vec<(String, f64)> = futures::stream::iter(0..VOLUMES)
            .map(|index| {
                let mut client = client.clone();
                async move { client.create(&format!("pvc-calls-{parallel}-{index}"), 64 * MIB).await }
            })
            .buffer_unordered(parallel)
            .try_collect()
            .await?;
        let deleted: Vec<f64> = futures::stream::iter(&made)
            .map(|(id, _)| {
                let mut client = client.clone();
                async move { client.delete(id).await }
            })
            .buffer_unordered(parallel)
            .try_collect()
            .await?;
        let how = if parallel == 1 { "one at a time".to_owned() } else { format!("{parallel} at a time") };
        let times: Samples = made.iter().map(|(_, time)| *time).collect();
        let ms = |call: &str, percent: usize, times: &Samples| {
            let what = format!("{call} p{percent}, {how}");
            Figure::percentile(what, times, percent, Unit::Milliseconds).note(format!("{VOLUMES} calls"))
        };
        figures.push(ms("CreateVolume", 50, &times).at_most(150.0));
        figures.push(ms("CreateVolume", 99, &times).at_most(500.0));
        let times: Samples = deleted.into_iter().collect();
        figures.push(ms("DeleteVolume", 50, &times));
        figures.push(ms("DeleteVolume", 99, &times));
    }
    Ok(figures)
}

/// SIGKILL of the node plugin until `NodePublishVolume` is answered again; the plugin is started anew at once.
pub(super) async fn restart(stand: &mut Stand) -> Result<Vec<Figure>> {
    let (id, _) = Client::of(stand).await?.create("pvc-restart", 64 * MIB).await?;
    Client::of(stand).await?.stage(&id).await?;
    let mut times = Vec::new();
    for kill in 0..KILLS {
        let pod = format!("restart-{kill}");
        let killed = Instant::now();
        stand.kill("tierce-csi")?;
        stand.start_plugin()?;
        loop {
            let served = async { Client::of(stand).await?.publish(&id, &pod).await };
            if served.await.is_ok() {
                break;
            }
            ensure!(killed.elapsed() < Duration::from_secs(30), "the plugin does not come back");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        times.push(milliseconds(killed));
        Client::of(stand).await?.unpublish(&id, &pod).await?;
    }
    stand.wait_until_ready().await?;
    let mut client = Client::of(stand).await?;
    client.unstage(&id).await?;
    client.delete(&id).await?;
    let times: Samples = times.into_iter().collect();
    Ok(vec![
        Figure::new("node plugin killed → NodePublishVolume works", times.max(), Unit::Milliseconds)
            .at_most(2000.0)
            .note(format!(
                "the longest of {KILLS}; median {:.0} ms; the kubelet's pause apart",
                times.median()
            )),
    ])
}
