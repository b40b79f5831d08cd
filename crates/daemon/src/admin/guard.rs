//! The checks that every request must pass before a route sees it: a `Host` of ours (otherwise a
//! page of another site could reach a loopback listener by DNS rebinding), no foreign `Origin`, no
//! token in the query, a JSON content type if the request may change something, and the bearer
//! token where one is needed. Browsers get no CORS headers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use super::access::{Access, is_mutating};
use super::json::{is_json, wrong_type};
use super::peer::Peer;
use super::{ApiError, Network, REQUEST_TIMEOUT};

/// Whether the caller may see details: its address is trusted, or it has the token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trusted(pub(super) bool);

/// The checks of one listener.
#[derive(Debug)]
pub(super) struct Guard {
    bound: IpAddr,
    hosts: Vec<String>,
    plain_from: Vec<Network>,
}

/// Applies the checks to a whole router.
pub(super) fn guarded(routes: Router, guard: Guard) -> Router {
    routes.layer(middleware::from_fn_with_state(Arc::new(guard), enforce))
}

async fn enforce(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let mut response = match guard.judge(&request) {
        Err(err) => err.into_response(),
        Ok(trusted) => {
            request.extensions_mut().insert(trusted);
            match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
                Ok(response) => in_our_shape(response),
                Err(_) => {
                    let message = "no whole request, or no answer to it, in time";
                    ApiError::new(StatusCode::REQUEST_TIMEOUT, "timeout", message).into_response()
                }
            }
        }
    };
    for (name, value) in ALWAYS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Headers added to every answer that does not set them itself.
const ALWAYS: [(HeaderName, &str); 3] = [
    (header::CONTENT_SECURITY_POLICY, "default-src 'self'"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CACHE_CONTROL, "no-store"),
];

impl Guard {
    pub(super) fn new(bound: IpAddr, hosts: Vec<String>, plain_from: Vec<Network>) -> Self {
        Self { bound: bound.to_canonical(), hosts, plain_from }
    }

    fn judge(&self, request: &Request) -> Result<Trusted, ApiError> {
        let peer = request.extensions().get::<Peer>().copied();
        let host = self.check_host(request, peer)?;
        check_origin(request.headers(), &host)?;
        check_query(request.uri().query().unwrap_or_default())?;
        check_encoding(request.headers())?;
        if must_be_json(request) && !is_json(request.headers()) {
            return Err(wrong_type());
        }
        let near = peer.is_some_and(|peer| self.is_near(peer.remote.ip()));
        let access = Access::of(request);
        let open = matches!(request.uri().path(), "/livez" | "/healthz" | "/readyz");
        if !near && !open {
            access.check(request)?;
        }
        Ok(Trusted(near || (open && access.holds(request))))
    }

    fn is_near(&self, remote: IpAddr) -> bool {
        remote.to_canonical().is_loopback()
            || self.plain_from.iter().any(|network| network.contains(remote))
    }

    fn check_host(&self, request: &Request, peer: Option<Peer>) -> Result<Authority, ApiError> {
        let mut given = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (given.next(), given.next()) else {
            return Err(ApiError::bad_request("bad_host", "send exactly one host header"));
        };
        let host: Option<Authority> = host.to_str().ok().and_then(|host| host.parse().ok());
        let foreign = || {
            ApiError::new(
                StatusCode::MISDIRECTED_REQUEST,
                "foreign_host",
                "this host is not served here",
            )
        };
        let host = host.filter(|host| self.is_ours(host, peer)).ok_or_else(foreign)?;
        // A request in absolute form has the host in its first line too.
        if request.uri().authority().is_some_and(|named| !self.is_ours(named, peer)) {
            return Err(foreign());
        }
        Ok(host)
    }

    fn is_ours(&self, host: &Authority, peer: Option<Peer>) -> bool {
        if host.as_str().contains('@') {
            return false;
        }
        let name = host.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        match name.parse::<IpAddr>() {
            // Anyone can make a DNS name point at us, but not a bare address.
            Ok(ip) => {
                let ip = ip.to_canonical();
                let local = peer.map(|peer| peer.local.ip().to_canonical());
                ip.is_loopback()
                    || ip == self.bound
                    || Some(ip) == local
                    || self.hosts.contains(&name)
            }
            Err(_) => name == "localhost" || self.hosts.contains(&name),
        }
    }
}

fn check_origin(headers: &HeaderMap, host: &Authority) -> Result<(), ApiError> {
    let ours = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let named = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        named.is_some_and(|named| named.eq_ignore_ascii_case(host.as_str()))
    };
    if headers.get_all(header::ORIGIN).iter().all(ours) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        "requests from pages of other sites are refused",
    ))
}

/// Refuses a token in the query, because queries end up in logs and browser histories. Refusing it
/// at once shows the caller the mistake.
fn check_query(query: &str) -> Result<(), ApiError> {
    let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    for name in names {
        if TOKEN_NAMES.iter().any(|taboo| name.eq_ignore_ascii_case(taboo)) {
            let message = "send the token in the authorization header, never in the address; replace this one";
            return Err(ApiError::bad_request("token_in_query", message));
        }
    }
    Ok(())
}

const TOKEN_NAMES: [&str; 6] =
    ["token", "access_token", "api_token", "api_key", "apikey", "authorization"];

/// Refuses compressed bodies: a small one could unpack to a huge one.
fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        return Ok(());
    }
    let message = "compressed bodies are not taken";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message))
}

/// Whether a request must have a JSON content type. A page of another site can make a browser send
/// a POST with other types, or without one, and the browser asks no permission first. Before a
/// DELETE it does ask, so a DELETE needs the content type only if it has a body.
fn must_be_json(request: &Request) -> bool {
    match *request.method() {
        Method::DELETE => !request.body().is_end_stream(),
        _ => is_mutating(request.method()),
    }
}

/// Gives the empty error answers of the router (404, 405) the form of all API errors.
fn in_our_shape(response: Response) -> Response {
    let bare = response.body().size_hint().exact() == Some(0);
    let (code, message) = match response.status() {
        StatusCode::NOT_FOUND if bare => ("not_found", "there is nothing here"),
        StatusCode::METHOD_NOT_ALLOWED if bare => {
            ("method_not_allowed", "this method does nothing here")
        }
        _ => return response,
    };
    let mut shaped = ApiError::new(response.status(), code, message).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        shaped.headers_mut().insert(header::ALLOW, allow.clone());
    }
    shaped
}
