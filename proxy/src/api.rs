//! What the proxy shows of itself over HTTP: targets, sessions, workers and counts. Nothing here changes anything.

mod listing;
mod workers;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use daemon::admin::ApiError;
use daemon::clock;
use serde::{Deserialize, Serialize};

use crate::metrics::Counts;
use crate::sessions::SessionView;
use crate::{Shared, TargetView};

/// The proxy's routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/targets", get(targets))
        .route("/v1/sessions", get(sessions))
        .route("/v1/workers", get(workers))
        .route("/v1/counts", get(counts))
        .with_state(shared)
}

/// Which part of a list is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    /// First entry, counted from 0.
    #[serde(default)]
    offset: usize,
    /// Most entries, at most 1,000.
    #[serde(default = "default_limit")]
    limit: usize,
    /// Only entries whose worker name begins with this.
    #[serde(default)]
    worker_name: String,
}

fn default_limit() -> usize {
    100
}

/// Most entries of one answer.
const LIMIT_MAX: usize = 1000;

#[derive(Debug, Serialize)]
struct Listing<T> {
    total: usize,
    offset: usize,
    items: Vec<T>,
}

impl Page {
    fn cut<T>(&self, items: Vec<T>) -> Listing<T> {
        let total = items.len();
        let items = items.into_iter().skip(self.offset).take(self.limit.min(LIMIT_MAX)).collect();
        Listing { total, offset: self.offset, items }
    }
}

fn page(query: Result<Query<Page>, axum::extract::rejection::QueryRejection>) -> Result<Page, ApiError> {
    match query {
        Ok(Query(page)) => Ok(page),
        Err(rejection) => Err(ApiError::bad_request("bad_query", rejection.body_text())),
    }
}

async fn targets(State(shared): State<Arc<Shared>>) -> Json<Vec<TargetView>> {
    Json(shared.targets())
}

async fn sessions(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Listing<SessionView>>, ApiError> {
    let page = page(query)?;
    let mut views = shared.session_views();
    views.retain(|view| view.worker_name.as_deref().unwrap_or_default().starts_with(&page.worker_name));
    Ok(Json(page.cut(views)))
}

async fn workers(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<workers::Query>, QueryRejection>,
) -> Result<Json<listing::Listing<workers::WorkerView>>, ApiError> {
    let query = query.map_err(|rejection| ApiError::bad_request("bad_query", rejection.body_text()))?;
    workers::list(&shared.machines, &query, clock::now()).map(Json)
}

async fn counts(State(shared): State<Arc<Shared>>) -> Json<Counts> {
    Json(shared.metrics.counts())
}
