//! The HTTP API of the switchboard: JSON in and out, kilowatts in requests, both units in answers.
//! [`crate::view`] defines the answers; [`daemon::admin`] checks the token and bounds connections.

mod error;

use axum::Json;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use daemon::admin::{ApiJson, require_token};
use directive::LeaseId;
use serde::Deserialize;

pub use error::ApiError;

use crate::commitment::Phase;
use crate::core::{Answer, Command, LeaseFilter, LeasePlace, LeaseQuery};
use crate::lease::LeaseRequest;
use crate::reconcile::Handle;
use crate::view::{AdoptRequest, AmendRequest};

/// The maximum length of a request body, in bytes.
const BODY: usize = 64 * 1024;
/// The maximum number of entries on a page, and the default for machines.
const PAGE: usize = 1000;
/// The default number of leases on a page.
const LEASES: usize = 100;
/// The maximum length of an `Idempotency-Key`, and of the name of who asks for a change.
const KEY: usize = 128;

/// All routes. Those that change something require the bearer token.
pub fn router(handle: Handle) -> Router {
    reads(handle.clone()).merge(require_token(mutations(handle)))
}

/// The routes that change nothing, including the dry run of an admission.
pub fn reads(handle: Handle) -> Router {
    Router::new()
        .route("/v1/leases", get(leases))
        .route("/v1/leases/{id}", get(lease))
        .route("/v1/plan", get(plan))
        .route("/v1/status", get(status))
        .route("/v1/feeds", get(feeds))
        .route("/v1/machines", get(machines))
        .route("/v1/ledger/head", get(head))
        .route("/v1/admit", post(admit))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(handle)
}

/// The routes that commit power, cancel and amend leases, and adopt machines. They require a token.
pub fn mutations(handle: Handle) -> Router {
    Router::new()
        .route("/v1/leases", post(commit))
        .route("/v1/leases/{id}", delete(cancel).patch(amend))
        .route("/v1/machines/adopt", post(adopt))
        .route("/v1/machines/wake", post(wake))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(handle)
}

type Answered = Result<Response, ApiError>;

async fn ask(handle: &Handle, command: Command) -> Answered {
    let answer = handle.ask(command).await.map_err(|_| ApiError::unavailable())?;
    Ok(match answer {
        Answer::Admitted(answer) => Json(answer).into_response(),
        Answer::Committed(answer) => {
            let place = format!("/v1/leases/{}", answer.lease.id);
            (StatusCode::CREATED, [(header::LOCATION, place)], Json(answer)).into_response()
        }
        Answer::Lease(answer) => Json(answer).into_response(),
        Answer::Amended(answer) => Json(answer).into_response(),
        Answer::Leases(answer) => Json(answer).into_response(),
        Answer::Plan(view) => Json(view).into_response(),
        Answer::Status(view) => Json(view).into_response(),
        Answer::Feeds(answer) => Json(answer).into_response(),
        Answer::Machines(answer) => Json(answer).into_response(),
        Answer::Adopted(answer) => Json(answer).into_response(),
        Answer::Head(answer) => Json(answer).into_response(),
        Answer::Done => StatusCode::NO_CONTENT.into_response(),
        Answer::Refused(refused) => return Err(refused.into()),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeasesPage {
    state: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

async fn leases(State(handle): State<Handle>, query: Queried<LeasesPage>) -> Answered {
    let page = read(query)?;
    let state = page.state.as_deref().unwrap_or("all");
    let state = LeaseFilter::named(state).ok_or_else(|| {
        let states = Phase::ALL.map(Phase::as_str).join(", ");
        ApiError::bad("state", &format!("{state:?} is none of all, open, {states}"))
    })?;
    let after = page.cursor.map(|cursor| {
        let wrong = || ApiError::bad("cursor", "no cursor of this list");
        LeasePlace::from_cursor(&cursor).ok_or_else(wrong)
    });
    let limit = limited(page.limit, LEASES)?;
    ask(&handle, Command::Leases(LeaseQuery { state, after: after.transpose()?, limit })).await
}

async fn lease(State(handle): State<Handle>, Path(id): Path<String>) -> Answered {
    ask(&handle, Command::Lease(LeaseId::from(id))).await
}

async fn plan(State(handle): State<Handle>) -> Answered {
    ask(&handle, Command::Plan).await
}

async fn status(State(handle): State<Handle>) -> Answered {
    ask(&handle, Command::Status).await
}

async fn feeds(State(handle): State<Handle>) -> Answered {
    ask(&handle, Command::Feeds).await
}

async fn head(State(handle): State<Handle>) -> Answered {
    ask(&handle, Command::Head).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<usize>,
    after: Option<String>,
}

async fn machines(State(handle): State<Handle>, query: Queried<Page>) -> Answered {
    let page = read(query)?;
    let limit = limited(page.limit, PAGE)?;
    ask(&handle, Command::Machines { after: page.after, limit }).await
}

/// A query, or what is wrong with it.
type Queried<T> = Result<Query<T>, QueryRejection>;

fn read<T>(query: Queried<T>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|error| ApiError::bad("query", &error.body_text()))
}

fn limited(limit: Option<usize>, default: usize) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(default);
    if !(1..=PAGE).contains(&limit) {
        return Err(ApiError::bad("limit", &format!("must lie between 1 and {PAGE}, not {limit}")));
    }
    Ok(limit)
}

async fn admit(State(handle): State<Handle>, ApiJson(request): ApiJson<LeaseRequest>) -> Answered {
    ask(&handle, Command::Admit(request)).await
}

async fn commit(
    State(handle): State<Handle>,
    headers: HeaderMap,
    ApiJson(request): ApiJson<LeaseRequest>,
) -> Answered {
    let key = match headers.get("idempotency-key") {
        None => None,
        Some(value) => {
            let key = value.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY);
            let wrong = || {
                ApiError::bad(
                    "idempotency-key",
                    &format!("must be 1 to {KEY} printable ASCII characters"),
                )
            };
            Some(key.ok_or_else(wrong)?.to_owned())
        }
    };
    ask(&handle, Command::Commit(request, key)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
}

async fn cancel(
    State(handle): State<Handle>,
    Path(id): Path<String>,
    query: Queried<Cancel>,
) -> Answered {
    let Cancel { force, dry_run } = read(query)?;
    let lease = LeaseId::from(id);
    let command = if dry_run {
        Command::CancelDryRun { lease, force }
    } else {
        Command::Cancel { lease, force }
    };
    ask(&handle, command).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Amend {
    #[serde(default)]
    dry_run: bool,
}

async fn amend(
    State(handle): State<Handle>,
    Path(id): Path<String>,
    query: Queried<Amend>,
    ApiJson(request): ApiJson<AmendRequest>,
) -> Answered {
    let Amend { dry_run } = read(query)?;
    let end = request.end.parse().map_err(|_| {
        let shown: String = request.end.chars().take(80).collect();
        ApiError::bad("end", &format!("{shown:?} is no RFC 3339 time with an offset"))
    })?;
    ask(&handle, Command::Amend { lease: LeaseId::from(id), end, dry_run }).await
}

async fn adopt(State(handle): State<Handle>, ApiJson(request): ApiJson<AdoptRequest>) -> Answered {
    ask(&handle, adoption(request, false)?).await
}

async fn wake(State(handle): State<Handle>, ApiJson(request): ApiJson<AdoptRequest>) -> Answered {
    ask(&handle, adoption(request, true)?).await
}

fn adoption(AdoptRequest { machines, by }: AdoptRequest, wake: bool) -> Result<Command, ApiError> {
    if !(1..=PAGE).contains(&machines.len()) {
        let what = format!("must name between 1 and {PAGE} machines, not {}", machines.len());
        return Err(ApiError::bad("machines", &what));
    }
    if by.as_ref().is_some_and(|by| by.len() > KEY || by.chars().any(char::is_control)) {
        let what = format!("must have at most {KEY} bytes and no control characters");
        return Err(ApiError::bad("by", &what));
    }
    Ok(Command::Adopt { machines: machines.into_iter().collect(), wake, by })
}

#[cfg(test)]
mod tests;
