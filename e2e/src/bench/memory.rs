//! Resident memory of both programs.

use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};

use super::client::Client;
use super::figures::{Figure, Unit};
use super::machine::resident_mebibytes;
use crate::sanity::stand::Stand;

const VOLUMES: usize = 1000;
const MIB: i64 = 1 << 20;

/// Idle, and after many volumes were made.
pub(super) async fn measure(stand: &Stand) -> Result<Vec<Figure>> {
    let programs = [("tierce-controller", 64.0), ("tierce-csi", 24.0)];
    let mut figures = Vec::new();
    for (program, _) in programs {
        let idle = resident_mebibytes(stand.pid(program)?)?;
        figures.push(Figure::new(format!("memory of {program}, idle"), idle, Unit::Mebibytes).note("VmRSS"));
    }
    let client = Client::of(stand).await?;
    futures::stream::iter(0..VOLUMES)
        .map(|index| {
            let mut client = client.clone();
            async move { client.create(&format!("pvc-memory-{index}"), 16 * MIB).await.map(drop) }
        })
        .buffer_unordered(8)
        .try_collect::<()>()
        .await?;
    // The last status and the node's report are still on their way.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for (program, limit) in programs {
        let full = resident_mebibytes(stand.pid(program)?)?;
        figures.push(
            Figure::new(format!("memory of {program}, {VOLUMES} volumes"), full, Unit::Mebibytes)
                .at_most(limit)
                .note("VmRSS, volumes of the simulator, all on one node"),
        );
    }
    Ok(figures)
}
