//! One connection of the listener, from its first byte to its close. The routes answer the
//! requests; [`super::places`] decides how many connections there may be.

mod watched;

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

use super::peer::Peer;
use super::places::Place;
use super::{HEADER_TIMEOUT, READ_TIMEOUT};
use crate::clock;
use watched::{WatchedBody, WatchedStream};

/// The maximum length of a request's head, in bytes.
pub(super) const HEADERS_MAX: usize = 16 * 1024;

/// Answers 503 to a connection for which there is no place, and closes it without waiting until the
/// answer is read.
pub(super) fn refuse(stream: TcpStream) {
    debug!("admin connection refused: too many");
    let answer =
        b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let _ = stream.try_write(answer);
}

/// Serves one connection until it closes, exceeds a bound, loses its place, or the process stops.
pub(super) async fn serve(
    stream: TcpStream,
    peer: Peer,
    place: Place,
    routes: Router,
    cancel: CancellationToken,
) {
    let (answered, mut read_by) = watch::channel(None::<Instant>);
    let progress = place.progress.clone();
    let stream = WatchedStream::new(stream, progress.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (routes, answered, progress) = (routes.clone(), answered.clone(), progress.clone());
        async move {
            answered.send_replace(None);
            progress.request(!request.body().is_end_stream(), clock::now());
            let mut request: Request =
                request.map(|body| Body::new(WatchedBody::of_request(body, progress.clone())));
            request.extensions_mut().insert(peer);
            let response = routes.oneshot(request).await?;
            // A stream has no known length, and may be read for as long as it lasts.
            let is_stream = response.body().size_hint().exact().is_none();
            let now = clock::now();
            if !is_stream {
                answered.send_replace(Some(now + READ_TIMEOUT));
            }
            progress.answer(is_stream, now);
            Ok::<_, Infallible>(response.map(|body| WatchedBody::of_answer(body, progress)))
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
            () = place.lost.cancelled() => {
                debug!(remote = %peer.remote, "admin connection closed: its place is needed");
                return;
            }
            () = cancel.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Waits until the deadline that was set last has passed.
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
