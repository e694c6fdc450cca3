//! What a volume costs in I/O: fio on a file in a mounted volume, and on a file beside the images.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::client::Client;
use super::figures::{Figure, Unit};
use super::statistics::Samples;
use super::wanted::Wanted;
use crate::command;
use crate::sanity::stand::Stand;

const GIB: i64 = 1 << 30;
/// Measured bytes: more than any cache of a controller, less than the volume.
const FILE_MIB: u32 = 1024;
const SECONDS: u32 = 1;
/// Pairs of runs, one on each file; which of the two comes first alternates.
const PAIRS: usize = 20;

/// A way to read or write.
struct Load {
    title: &'static str,
    mode: &'static str,
    block: &'static str,
    depth: u32,
    aim: f64,
}

const LOADS: [Load; 6] = [
    Load { title: "4K random read, depth 16", mode: "randread", block: "4k", depth: 16, aim: 80.0 },
    Load { title: "4K random write, depth 16", mode: "randwrite", block: "4k", depth: 16, aim: 80.0 },
    Load { title: "4K random read, depth 1", mode: "randread", block: "4k", depth: 1, aim: 80.0 },
    Load { title: "4K random write, depth 1", mode: "randwrite", block: "4k", depth: 1, aim: 80.0 },
    Load { title: "1M sequential read, depth 4", mode: "read", block: "1m", depth: 4, aim: 98.0 },
    Load { title: "1M sequential write, depth 4", mode: "write", block: "1m", depth: 4, aim: 98.0 },
];

/// The throughput of a volume in percent of a plain file's.
pub(super) async fn measure(stand: &Stand, wanted: &Wanted) -> Result<Vec<Figure>> {
    ensure!(command::find("fio").is_some(), "fio is missing; run e2e/setup.sh");
    let mut client = Client::of(stand).await?;
    let (id, _) = client.create("pvc-io", 2 * GIB).await?;
    client.stage(&id).await?;
    let files = [stand.folder().join("plain"), client.publish(&id, "io").await?.join("file")];
    for file in &files {
        // Every block is written once: neither file is sparse or has unwritten extents.
        fio(file, "write", "1m", 4, &["--end_fsync=1"])?;
    }
    let mut figures = Vec::new();
    for load in LOADS.iter().filter(|load| wanted.names(load.title)) {
        figures.push(compare(load, &files)?);
    }
    std::fs::remove_file(&files[0])?;
    client.unpublish(&id, "io").await?;
    client.unstage(&id).await?;
    client.delete(&id).await?;
    Ok(figures)
}

fn compare(load: &Load, files: &[PathBuf; 2]) -> Result<Figure> {
    let mut rates = [Vec::new(), Vec::new()];
    let mut ratios = Vec::new();
    let runtime = format!("--runtime={SECONDS}");
    for pair in 0..PAIRS {
        let mut rate = [0.0; 2];
        for which in if pair % 2 == 0 { [0, 1] } else { [1, 0] } {
            rate[which] = fio(&files[which], load.mode, load.block, load.depth, &["--time_based", &runtime])?;
            rates[which].push(rate[which]);
        }
        ratios.push(100.0 * rate[1] / rate[0]);
    }
    let [plain, volume] = rates.map(|rates| rates.into_iter().collect::<Samples>().median());
    let each = if load.block == "1m" { "MiB/s" } else { "IOPS" };
    let note =
        format!("volume {volume:.0}, plain file {plain:.0} {each}; median of {PAIRS} pairs of {SECONDS} s");
    let ratios: Samples = ratios.into_iter().collect();
    Ok(Figure::median(format!("{} of the plain file's", load.title), &ratios, Unit::Percent)
        .at_least(load.aim)
        .note(note))
}

/// Operations per second, past the page cache.
fn fio(file: &Path, mode: &str, block: &str, depth: u32, extra: &[&str]) -> Result<f64> {
    #[derive(Deserialize)]
    struct Report {
        jobs: Vec<Job>,
    }
    #[derive(Deserialize)]
    struct Job {
        read: Side,
        write: Side,
    }
    #[derive(Deserialize)]
    struct Side {
        iops: f64,
    }
    let mut fio = Command::new("fio");
    fio.args(["--name=bench", "--direct=1", "--ioengine=libaio", "--output-format=json"])
        .arg(format!("--filename={}", file.display()))
        .arg(format!("--size={FILE_MIB}m"))
        .args([format!("--rw={mode}"), format!("--bs={block}"), format!("--iodepth={depth}")])
        .args(extra);
    let text = command::run(&mut fio)?;
    let report: Report = serde_json::from_str(&text).context("fio's report can't be read")?;
    let job = report.jobs.first().context("fio reports no job")?;
    Ok(job.read.iops + job.write.iops)
}
