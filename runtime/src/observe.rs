//! Every RPC leaves one log line and one count: method, code, milliseconds. Never its body.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use http::{Request, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument, Level, debug, error, info, info_span, warn};

/// Seconds. Around the figures that Tierce aims at (0.15 and 0.5) and the deadlines of the sidecars (10 to 60).
const BUCKETS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    method: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: String,
}

/// `tierce_grpc_requests_total{method,code}` and `tierce_grpc_request_seconds{method}`. Clones share their counts.
///
/// `method` is `csi.v1.Node/NodeStageVolume`; `code` is spelled as in Go (`OK`, `Aborted`, `Canceled`), so that it
/// matches the sidecars' `grpc_status_code`.
#[derive(Debug, Clone)]
pub struct RpcMetrics {
    requests: Family<Outcome, Counter>,
    seconds: Family<Method, Histogram, fn() -> Histogram>,
}

impl RpcMetrics {
    /// Makes the metrics and puts them into `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let requests = Family::default();
        let seconds = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        registry.register("tierce_grpc_requests", "RPCs served, by method and gRPC code", requests.clone());
        registry.register("tierce_grpc_request_seconds", "Time that RPCs took", seconds.clone());
        Self { requests, seconds }
    }

    fn count(&self, method: &str, code: Code, took: Duration) {
        let method = method.to_owned();
        self.seconds.get_or_create(&Method { method: method.clone() }).observe(took.as_secs_f64());
        self.requests.get_or_create(&Outcome { method, code: code_name(code) }).inc();
    }
}

/// What happens to a call whose client hangs up or whose deadline passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// It is dropped at its next await. For calls that only wait, such as for a watch.
    Drop,
    /// It runs to its end, so that no disk operation stops half way. The retry meets its lock.
    Finish,
}

/// Wraps a gRPC service: each call runs in a task of its own, inside a span `rpc` with the fields `method` and
/// `volume` (for handlers: `Span::current().record("volume", id)`). A call that panics answers `INTERNAL`; the
/// others on its connection go on.
#[derive(Debug, Clone)]
pub struct ObserveLayer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    metrics: RpcMetrics,
    abandoned: Abandoned,
    calls: TaskTracker,
}

impl ObserveLayer {
    /// `calls` knows which calls are under way.
    pub fn new(metrics: RpcMetrics, abandoned: Abandoned, calls: TaskTracker) -> Self {
        Self { shared: Arc::new(Shared { metrics, abandoned, calls }) }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, shared: Arc::clone(&self.shared) }
    }
}

/// See [`ObserveLayer`].
#[derive(Debug, Clone)]
pub struct Observed<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.uri().path().trim_start_matches('/').to_owned();
        let span = info_span!("rpc", method, volume = Empty);
        let call = self.inner.call(request);
        let record = Record::begin(self.shared.metrics.clone(), method);
        let observed = async move {
            let Ok(response) = call.await;
            record.end(&response);
            response
        };
        let task = self.shared.calls.spawn(observed.instrument(span));
        let abandoned = self.shared.abandoned;
        Box::pin(async move {
            let ended = match abandoned {
                Abandoned::Drop => AbortOnDropHandle::new(task).await,
                Abandoned::Finish => task.await,
            };
            Ok(ended.unwrap_or_else(|error| {
                let status = if error.is_panic() {
                    Status::internal("a bug: the call panicked; the log says where")
                } else {
                    Status::unavailable("shutting down")
                };
                status.into_http()
            }))
        })
    }
}

/// One call under way. Dropped without an end, it was abandoned or it panicked.
struct Record {
    metrics: RpcMetrics,
    method: String,
    begin: Instant,
    ended: bool,
}

impl Record {
    fn begin(metrics: RpcMetrics, method: String) -> Self {
        Self { metrics, method, begin: Instant::now(), ended: false }
    }

    /// Reads the code from the headers, where tonic puts every error. An answer without one has begun well; for a
    /// stream that is all we learn.
    fn end(mut self, response: &Response<Body>) {
        let status = Status::from_header_map(response.headers());
        let (code, message) = status.as_ref().map_or((Code::Ok, ""), |s| (s.code(), s.message()));
        self.write(code, message);
    }

    fn write(&mut self, code: Code, message: &str) {
        self.ended = true;
        let took = self.begin.elapsed();
        self.metrics.count(&self.method, code, took);
        let ms = (took.as_secs_f64() * 10_000.0).round() / 10.0;
        let code_name = code_name(code);
        // The method is in the span.
        match level(&self.method, code) {
            Level::ERROR => error!(code = code_name, ms, "{message}"),
            Level::WARN => warn!(code = code_name, ms, "{message}"),
            Level::INFO => info!(code = code_name, ms, "answered"),
            _ => debug!(code = code_name, ms, "answered"),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.ended {
        } else if thread::panicking() {
            self.write(Code::Internal, "the call panicked");
        } else {
            self.write(Code::Cancelled, "the client hung up or its deadline passed");
        }
    }
}

/// Calls that kubelet and sidecars repeat all day are not worth a line when they succeed.
fn level(method: &str, code: Code) -> Level {
    let name = method.rsplit('/').next().unwrap_or(method);
    match code {
        Code::Ok if is_routine(name) => Level::DEBUG,
        Code::Ok => Level::INFO,
        Code::Internal | Code::Unknown | Code::DataLoss => Level::ERROR,
        _ => Level::WARN,
    }
}

fn is_routine(name: &str) -> bool {
    name == "Probe"
        || name.ends_with("GetCapabilities")
        || name.starts_with("GetPlugin")
        || name.starts_with("List")
        || matches!(name, "GetCapacity" | "NodeGetInfo" | "NodeGetVolumeStats" | "GetInfo")
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let table = [
            ("csi.v1.Controller/CreateVolume", Code::Ok, Level::INFO),
            ("csi.v1.Node/NodeStageVolume", Code::Ok, Level::INFO),
            ("csi.v1.Identity/Probe", Code::Ok, Level::DEBUG),
            ("csi.v1.Node/NodeGetCapabilities", Code::Ok, Level::DEBUG),
            ("csi.v1.Node/NodeGetVolumeStats", Code::Ok, Level::DEBUG),
            ("csi.v1.Node/NodeGetVolumeStats", Code::NotFound, Level::WARN),
            ("csi.v1.Controller/CreateVolume", Code::ResourceExhausted, Level::WARN),
            ("csi.v1.Controller/CreateVolume", Code::Internal, Level::ERROR),
        ];
        for (method, code, expected) in table {
            assert_eq!(level(method, code), expected, "{method} {code:?}");
        }
    }
}
