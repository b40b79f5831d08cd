//! The bearer token: which routes need it, whether a request has it, and how often an address sent
//! a wrong one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::{Extension, Router};

use super::peer::Peer;
use super::{ApiError, Token};
use crate::clock;

/// Requires the bearer token for every mutating request (all methods but GET, HEAD and OPTIONS) to
/// a router. The token is that of the [`super::Admin`] (or [`with_token`]) that serves the router;
/// without a token every such request is refused.
pub fn require_token<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    if !routes.has_routes() {
        return routes;
    }
    routes.route_layer(middleware::from_fn(async |request: Request, next: Next| {
        if is_mutating(request.method())
            && let Err(err) = Access::of(&request).check(&request)
        {
            return err.into_response();
        }
        next.run(request).await
    }))
}

/// Whether a request may change something.
pub(super) fn is_mutating(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Sets the token that [`require_token`] checks. [`super::Admin`] does this itself; tests of a
/// router call it.
pub fn with_token(routes: Router, token: Option<Token>) -> Router {
    routes.layer(Extension(Access { token, failures: Arc::default() }))
}

/// The token of a listener, and the failed attempts by address.
#[derive(Debug, Clone, Default)]
pub(super) struct Access {
    token: Option<Token>,
    failures: Arc<Mutex<HashMap<IpAddr, Failures>>>,
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Access {
    pub(super) fn of(request: &Request) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Whether the request has the right token.
    pub(super) fn holds(&self, request: &Request) -> bool {
        let mut given = request.headers().get_all(header::AUTHORIZATION).iter();
        let (Some(one), None, Some(token)) = (given.next(), given.next(), &self.token) else {
            return false;
        };
        let Some((scheme, text)) = one.to_str().unwrap_or_default().split_once(' ') else {
            return false;
        };
        scheme.eq_ignore_ascii_case("bearer") && token.matches(text)
    }

    /// Checks the token. The right token always passes, so that no caller is locked out by failures
    /// from the same address.
    pub(super) fn check(&self, request: &Request) -> Result<(), ApiError> {
        if self.holds(request) {
            return Ok(());
        }
        let remote = request.extensions().get::<Peer>().map(|peer| peer.remote.ip());
        if request.headers().contains_key(header::AUTHORIZATION)
            && self.fails_too_often(remote, clock::now())
        {
            let message = "too many wrong tokens, wait a minute";
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", message));
        }
        Err(match self.token {
            Some(_) => ApiError::unauthorized(),
            None => ApiError::no_token(),
        })
    }

    fn fails_too_often(&self, remote: Option<IpAddr>, now: Instant) -> bool {
        let remote = remote.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED));
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |entry: &Failures| now.saturating_duration_since(entry.since) >= FAILURE_WINDOW;
        if failures.len() >= SOURCES_MAX && !failures.contains_key(&remote) {
            failures.retain(|_, entry| !over(entry));
            // The table is still full: more addresses fail at the same time than any site has. New
            // addresses are refused.
            if failures.len() >= SOURCES_MAX {
                return true;
            }
        }
        let entry = failures.entry(remote).or_insert(Failures { since: now, count: 0 });
        if over(entry) {
            *entry = Failures { since: now, count: 0 };
        }
        entry.count = entry.count.saturating_add(1);
        entry.count > FAILURES_MAX
    }
}

const FAILURES_MAX: u32 = 5;
const FAILURE_WINDOW: Duration = Duration::from_secs(60);
const SOURCES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_per_source_and_minute_in_bounded_space() {
        let access = Access::default();
        let start = clock::now();
        let source = |n: u32| Some(IpAddr::V4(n.into()));
        for n in 0..7 {
            assert_eq!(access.fails_too_often(source(1), start), n >= 5, "failure {n}");
        }
        assert!(!access.fails_too_often(source(2), start), "another source");
        assert!(!access.fails_too_often(source(1), start + FAILURE_WINDOW), "a minute later");
        for n in 10..5000 {
            access.fails_too_often(source(n), start);
        }
        assert_eq!(access.failures.lock().unwrap().len(), SOURCES_MAX);
        assert!(access.fails_too_often(source(9000), start), "no room");
        assert!(!access.fails_too_often(source(9000), start + 2 * FAILURE_WINDOW), "room again");
    }
}
