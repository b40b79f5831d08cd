//! One connection of the listener, from its first byte to its close. What the requests mean is left
//! to the routes.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::debug;

use super::guard::Peer;
use super::{HEADER_TIMEOUT, READ_TIMEOUT};
use crate::clock;

/// Longest head of a request in bytes.
pub(super) const HEADERS_MAX: usize = 16 * 1024;

/// Says no to a connection too many, without waiting for it to read that.
pub(super) fn refuse(stream: TcpStream) {
    debug!("admin connection refused: too many");
    let answer =
        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let _ = stream.try_write(answer);
}

/// Serves one connection until it closes, breaks a bound, or the process stops.
pub(super) async fn serve(
    stream: TcpStream,
    peer: Peer,
    routes: Router,
    cancel: CancellationToken,
) {
    let (answered, mut read_by) = watch::channel(None::<Instant>);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (routes, answered) = (routes.clone(), answered.clone());
        async move {
            answered.send_replace(None);
            let mut request: Request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let response = routes.oneshot(request).await?;
            // A stream has no known length, and may be read for as long as it lasts.
            if response.body().size_hint().exact().is_some() {
                answered.send_replace(Some(clock::now() + READ_TIMEOUT));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(err) = ended {
                    debug!(remote = %peer.remote, %err, "admin connection ended");
                }
                return;
            }
            () = overdue(&mut read_by) => {
                debug!(remote = %peer.remote, "admin connection closed: reads too slowly");
                return;
            }
            () = cancel.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Waits until the instant last sent has passed.
async fn overdue(read_by: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let until = *read_by.borrow_and_update();
        let changed = match until {
            Some(at) => match tokio::time::timeout_at(at.into(), read_by.changed()).await {
                Ok(changed) => changed,
                Err(_) => return,
            },
            None => read_by.changed().await,
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
