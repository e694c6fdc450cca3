//! The socket in the kubelet's folder, and its name.
//!
//! The kubelet keeps a back-off of up to two minutes for each path at which it met nobody, as after a reboot, when it
//! starts before us, or where a registration failed (`pkg/util/goroutinemap`). A new name has none. But a new name at
//! each start would be worse: one pass of its reconciler ends the registration at an old path and begins that at a new
//! one *at once*, both under the same driver name; when the first ends last, the driver is gone from the `CSINode` for
//! good. For one path it does both in order. So a plugin takes the name that it finds, and another one only while the
//! kubelet does not come, when there is no registration that could end late.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tierce_crds::names;
use tierce_runtime::grpc::{self, Abandoned, Routes, RpcMetrics};
use tierce_socket::Socket;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{RegistrationService, Stage};

/// The kubelet looks once a second, and needs two looks where it ends an older registration first; it may be busy.
const FIRST_PATIENCE: Duration = Duration::from_secs(6);
const LONGEST_PATIENCE: Duration = Duration::from_secs(16);
/// Longer than the kubelet waits for the answers of a plugin that it registers (`csiTimeout`).
const REGISTERS: Duration = Duration::from_secs(150);

/// Any name will do for the kubelet, but not for HTTP/2: its plugin watcher (`pkg/kubelet/pluginmanager`,
/// `operationexecutor`, `dial`) sends the percent-encoded path as `:authority`, and Rust's `http` crate, as RFC 3986
/// has it, takes a `%` only in the user's part before an `@`. Without one in the name every call of the kubelet is
/// answered with `PROTOCOL_ERROR`. For CSI calls the kubelet sends `localhost`.
const ENDING: &str = "@reg.sock";

/// Answers the kubelet on a socket in its folder until `shutdown`.
pub(crate) async fn serve(
    service: RegistrationService,
    folder: &Path,
    metrics: RpcMetrics,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut path = take_over(folder).with_context(|| format!("can't look into {}", folder.display()))?;
    let mut patience = FIRST_PATIENCE;
    loop {
        service.stage.send_replace(Stage::Waiting);
        let socket = Socket::bind(&path).await?;
        let stop = shutdown.child_token();
        let routes = Routes::new(service.clone().into_server());
        let mut serving =
            Box::pin(grpc::serve(socket, routes, metrics.clone(), Abandoned::Drop, stop.clone()));
        tokio::select! {
            ended = &mut serving => return Ok(ended?),
            () = service.overlooked(patience) => {}
        }
        stop.cancel();
        serving.await?;
        if shutdown.is_cancelled() {
            return Ok(());
        }
        path = another(folder);
        info!("the kubelet does not come to the plugin's socket: trying {}", path.display());
        patience = (2 * patience).min(LONGEST_PATIENCE);
    }
}

/// The name under which the kubelet may still know a plugin that was killed; the usual one where there is none. All
/// others go.
fn take_over(folder: &Path) -> io::Result<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.file_name();
        let ours =
            name.to_str().is_some_and(|name| name.starts_with(names::DRIVER) && name.ends_with(ENDING));
        if ours && entry.file_type()?.is_socket() {
            found.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    found.sort();
    let last = found.pop();
    for (_, older) in found {
        fs::remove_file(older)?;
    }
    Ok(last.map_or_else(|| folder.join(format!("{}{ENDING}", names::DRIVER)), |(_, path)| path))
}

/// A name that was not there before.
fn another(folder: &Path) -> PathBuf {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    folder.join(format!("{}-{now}{ENDING}", names::DRIVER))
}

impl RegistrationService {
    /// Returns when the kubelet has not come for so long, or began to register us and never ended; from then on nobody
    /// can begin. Never returns while it knows us.
    async fn overlooked(&self, patience: Duration) {
        let mut stages = self.stage.subscribe();
        loop {
            let seen = *stages.borrow_and_update();
            let wait = match seen {
                Stage::Waiting | Stage::Refused => patience,
                Stage::Asked(_) => REGISTERS,
                Stage::Registered | Stage::Closing => Duration::MAX,
            };
            tokio::select! {
                changed = stages.changed() => changed.expect("self holds the sender"),
                () = tokio::time::sleep(wait) => {
                    let unchanged = self.stage.send_if_modified(|stage| {
                        let unchanged = *stage == seen;
                        if unchanged {
                            *stage = Stage::Closing;
                        }
                        unchanged
                    });
                    if unchanged {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use prometheus_client::registry::Registry;
    use tempfile::TempDir;
    use tierce_proto::pluginregistration::registration_server::Registration as _;
    use tierce_proto::pluginregistration::{InfoRequest, RegistrationStatus};
    use tierce_runtime::readiness::Readiness;
    use tokio::time::sleep;
    use tonic::Request;

    use super::*;

    struct Stand {
        folder: TempDir,
        service: RegistrationService,
        _stop: tokio_util::sync::DropGuard,
    }

    /// A plugin that has just begun to listen.
    async fn start() -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let mut registry = Registry::default();
        let part = Readiness::new().part("registration");
        let service = RegistrationService::new(Path::new("/csi.sock"), part, &mut registry);
        let shutdown = CancellationToken::new();
        let (metrics, stop) = (RpcMetrics::register(&mut registry), shutdown.clone().drop_guard());
        let (served, path) = (service.clone(), folder.path().to_owned());
        tokio::spawn(async move { serve(served, &path, metrics, shutdown).await.unwrap() });
        sleep(Duration::from_millis(100)).await;
        Stand { folder, service, _stop: stop }
    }

    impl Stand {
        /// The one socket that is there.
        fn name(&self) -> String {
            let entries = fs::read_dir(self.folder.path()).unwrap();
            let all: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!(all.len(), 1, "{all:?}");
            all[0].clone()
        }

        async fn notify(&self, registered: bool) {
            let status = RegistrationStatus { plugin_registered: registered, error: "not now".into() };
            self.service.notify_registration_status(Request::new(status)).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kubelet_that_does_not_come_is_offered_another_name() {
        let stand = start().await;
        assert_eq!(stand.name(), "csi.tierce.dev@reg.sock");
        sleep(FIRST_PATIENCE + Duration::from_secs(1)).await;
        let second = stand.name();
        assert!(second.starts_with("csi.tierce.dev-") && second.ends_with("@reg.sock"), "{second}");
        sleep(2 * FIRST_PATIENCE + Duration::from_secs(1)).await;
        assert_ne!(stand.name(), second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kubelet_that_knows_the_plugin_or_is_about_to_is_left_alone() {
        let stand = start().await;
        stand.service.get_info(Request::new(InfoRequest {})).await.unwrap();
        sleep(REGISTERS / 2).await;
        assert_eq!(stand.name(), "csi.tierce.dev@reg.sock", "it is at work");
        stand.notify(true).await;
        sleep(Duration::from_hours(1)).await;
        assert_eq!(stand.name(), "csi.tierce.dev@reg.sock");
        // It came back to life and met trouble.
        stand.service.get_info(Request::new(InfoRequest {})).await.unwrap();
        stand.notify(false).await;
        sleep(FIRST_PATIENCE + Duration::from_secs(1)).await;
        assert_ne!(stand.name(), "csi.tierce.dev@reg.sock");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_begins_at_a_socket_that_goes() {
        let stand = start().await;
        let overlooked = stand.service.overlooked(Duration::from_secs(1));
        overlooked.await;
        let refused = stand.service.get_info(Request::new(InfoRequest {})).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
    }

    #[test]
    fn the_last_name_of_a_killed_plugin_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let socket = |name: &str| drop(UnixListener::bind(folder.path().join(name)).unwrap());
        assert_eq!(take_over(folder.path()).unwrap(), folder.path().join("csi.tierce.dev@reg.sock"));
        socket("csi.other.dev@reg.sock");
        socket("csi.tierce.dev@reg.sock");
        std::thread::sleep(Duration::from_millis(20));
        socket("csi.tierce.dev-7@reg.sock");
        assert_eq!(take_over(folder.path()).unwrap(), folder.path().join("csi.tierce.dev-7@reg.sock"));
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 2, "the older one goes, another driver's stays");
        let none = take_over(&folder.path().join("none")).unwrap();
        assert!(none.ends_with("csi.tierce.dev@reg.sock"));
    }
}
