//! The HTTP listener for operators and other roles: `/metrics`, `/livez`, `/readyz`, and the routes
//! of a role. It bounds what a caller can keep busy, and refuses requests from web pages of other
//! sites. The routes are the role's; TLS is left to a reverse proxy.
//!
//! | bound | at it |
//! | --- | --- |
//! | 64 connections, 8 more from this machine | the one idle for longest is closed, else one that has been slow with its request or with reading for 1 s; if there is none, the next gets 503 and is closed |
//! | 5 s for a request's headers, also when idle | closed |
//! | 16 KiB, 100 headers | 431, closed |
//! | 64 KiB body ([`axum::extract::DefaultBodyLimit`] on a route changes it) | 413 |
//! | 10 s until the answer begins, body included | 408, closed |
//! | 30 s for reading an answer of known length | closed |
//! | 5 wrong tokens a minute from an address | 429; the right token is still taken |

mod access;
mod connection;
mod error;
mod exposition;
mod guard;
mod json;
mod network;
mod peer;
mod places;
mod token;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::HttpBody;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

pub use access::{require_token, with_token};
pub use error::ApiError;
pub use json::{ApiJson, from_json};
pub use network::{Network, NetworkError};
pub use peer::Peer;
pub use token::{TOKEN_MIN, Token, TokenError};

use crate::clock;
use connection::{refuse, serve};
use guard::{Guard, Trusted};
use places::Places;

/// The registry of a process's metrics.
pub type Metrics = Arc<Mutex<Registry>>;

/// Returns whether the role is ready, and details for the answer.
type Readiness = Arc<dyn Fn() -> (bool, Value) + Send + Sync>;

/// The maximum number of open connections.
pub const CONNECTIONS_MAX: usize = 64;
/// Extra places for connections from this machine, when all [`CONNECTIONS_MAX`] are in use: an
/// operator at the machine can always get in.
pub const CONNECTIONS_KEPT: usize = 8;
/// The deadline for the headers of a request.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The deadline for the beginning of the answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The deadline for reading an answer of known length.
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum length of a request body, in bytes, unless a route sets another.
pub const BODY_MAX: usize = 64 * 1024;

const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// A bound listener. Configure it with the methods that return `Self`, then call [`Self::run`].
pub struct Admin {
    listener: TcpListener,
    addr: SocketAddr,
    token: Option<Token>,
    routes: Router,
    hosts: Vec<String>,
    plain_from: Vec<Network>,
    metrics: Option<Metrics>,
    readiness: Option<Readiness>,
}

/// Why the listener could not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Other machines could reach the listener without a token.
    #[error(
        "{addr} can be reached from other machines: configure a token, or listen on a loopback address"
    )]
    TokenNeeded {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The system refused the address.
    #[error("cannot listen on {addr}: {source}")]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        source: std::io::Error,
    },
}

/// Returns an error if other machines can reach the address and there is no token. Call it before
/// anything starts.
pub fn check_listen(addr: SocketAddr, has_token: bool) -> Result<(), AdminError> {
    if has_token || addr.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(AdminError::TokenNeeded { addr })
    }
}

impl Admin {
    /// Binds the address. `routes` must not define `/metrics`, `/livez`, `/healthz` or `/readyz`.
    /// Without a token, routes behind [`require_token`] answer 401 to everybody. Returns an error
    /// if the address can be reached from other machines and there is no token, or if the system
    /// refuses it.
    pub async fn bind(
        addr: SocketAddr,
        token: Option<Token>,
        routes: Router,
    ) -> Result<Self, AdminError> {
        check_listen(addr, token.is_some())?;
        let refused = |source| AdminError::Bind { addr, source };
        let listener = TcpListener::bind(addr).await.map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        let (hosts, plain_from) = (Vec::new(), Vec::new());
        Ok(Self {
            listener,
            addr,
            token,
            routes,
            hosts,
            plain_from,
            metrics: None,
            readiness: None,
        })
    }

    /// The address of the listener, with the port that the system chose.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves these metrics at `/metrics`, as OpenMetrics or in the classic format of Prometheus,
    /// whichever the caller asks for.
    #[must_use]
    pub fn metrics(self, metrics: Metrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Calls `readiness` for each `/readyz`; without it the answer is always ready. It must not
    /// block.
    #[must_use]
    pub fn readiness(self, readiness: impl Fn() -> (bool, Value) + Send + Sync + 'static) -> Self {
        Self { readiness: Some(Arc::new(readiness)), ..self }
    }

    /// Accepts these names in the `Host` header too, besides loopback names and the address itself.
    #[must_use]
    pub fn hosts(self, names: impl IntoIterator<Item = String>) -> Self {
        Self { hosts: names.into_iter().map(|name| name.to_ascii_lowercase()).collect(), ..self }
    }

    /// Lets these networks read without a token; mutating routes still need it. By default only
    /// loopback addresses may.
    #[must_use]
    pub fn allow_plain_from(self, networks: Vec<Network>) -> Self {
        Self { plain_from: networks, ..self }
    }

    /// Serves until cancelled; requests in progress then have 5 s to finish.
    pub async fn run(self, cancel: CancellationToken) {
        let Self { listener, addr, token, routes, hosts, plain_from, metrics, readiness } = self;
        let guard = Guard::new(addr.ip(), hosts, plain_from);
        let routes =
            routes.merge(own_routes(metrics, readiness)).layer(DefaultBodyLimit::max(BODY_MAX));
        let routes = with_token(guard::guarded(routes, guard), token)
            .layer(middleware::from_fn(close_unread));
        info!(%addr, "admin listening");
        let (places, mut connections) = (Places::default(), JoinSet::new());
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => report_panic(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, remote)) => {
                        let is_local = remote.ip().to_canonical().is_loopback();
                        let mut place = places.take(is_local, clock::now());
                        if place.is_none() {
                            // Connections accepted just before may not have recorded their progress
                            // yet.
                            tokio::task::yield_now().await;
                            place = places.take(is_local, clock::now());
                        }
                        let Some(place) = place else {
                            refuse(stream);
                            continue;
                        };
                        let local = stream.local_addr().unwrap_or(addr);
                        let peer = Peer { remote, local };
                        connections.spawn(serve(stream, peer, place, routes.clone(), cancel.clone()));
                    }
                    Err(err) => {
                        warn!(%err, "admin accept failed");
                        // No file descriptors are left. The connection stays in the accept queue,
                        // so wait instead of looping.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                report_panic(ended);
            }
        };
        if tokio::time::timeout(SHUTDOWN_GRACE, all_ended).await.is_err() {
            debug!("admin connections cut at shutdown");
        }
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("addr", &self.addr)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Adds `connection: close` to the answer of a refused request that has a body. The body may not
/// have been read, so its rest would be taken for the next request, and a caller that does not know
/// this would send its next request into a closed connection.
async fn close_unread(request: Request, next: Next) -> Response {
    let has_body = !request.body().is_end_stream();
    let mut response = next.run(request).await;
    if has_body && response.status().is_client_error() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn own_routes(metrics: Option<Metrics>, readiness: Option<Readiness>) -> Router {
    let metrics = metrics.unwrap_or_default();
    let show = move |headers: HeaderMap| {
        let registry = metrics.lock().unwrap_or_else(PoisonError::into_inner);
        std::future::ready(exposition::show(&registry, &headers))
    };
    let ready = move |Extension(trusted): Extension<Trusted>| {
        std::future::ready(show_ready(readiness.as_ref(), trusted))
    };
    Router::new()
        .route("/metrics", get(show))
        .route("/readyz", get(ready))
        .route("/livez", get(async || "ok\n"))
        .route("/healthz", get(async || "ok\n"))
}

fn show_ready(readiness: Option<&Readiness>, trusted: Trusted) -> Response {
    let (ready, detail) = readiness.map_or((true, Value::Null), |ask| ask());
    let status = if ready {
        axum::http::StatusCode::OK
    } else {
        axum::http::StatusCode::SERVICE_UNAVAILABLE
    };
    let body = if trusted.0 {
        json!({ "ready": ready, "detail": detail })
    } else {
        json!({ "ready": ready })
    };
    (status, Json(body)).into_response()
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if ended.is_err_and(|err| err.is_panic()) {
        error!("an admin request panicked");
    }
}

#[cfg(test)]
mod tests;
