//! `tierce-csi`: the node plugin.

use anyhow::Context;
use clap::Parser;
use tierce_csi::{config::Config, plugin};
use tierce_runtime::{api_server, logs, shutdown};

/// Threads for calls that wait for disks.
const MAX_DISK_THREADS: usize = 1024;

fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    logs::init()?;
    // Two workers: calls go on while one of them decodes a long list. Threads for disk calls are bounded in each pool, by its
    // lanes and by the engine: so many in all that pools which don't answer leave enough to the others. One exists only
    // while it is needed.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(MAX_DISK_THREADS)
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    let lock = runtime.block_on(async {
        let shutdown = shutdown::on_signal().context("can't listen for signals")?;
        let client = api_server::client(concat!("tierce-csi/", env!("CARGO_PKG_VERSION"))).await?;
        Box::pin(plugin::run(config, client, shutdown)).await
    })?;
    // Waits for what still works on a disk.
    drop(runtime);
    drop(lock);
    Ok(())
}
