//! The proxy's HTTP routes: targets, sessions, workers and counts, all read-only.

mod listing;
mod sessions;
mod workers;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use daemon::admin::ApiError;
use daemon::clock;

use crate::handle::SessionView;
use crate::metrics::Counts;
use crate::target_view::TargetView;
use crate::upstream::PoolSet;
pub use listing::Listing;
pub use workers::{Rejects, WorkerView, Workers};

pub(crate) fn router(pools: Arc<PoolSet>) -> Router {
    Router::new()
        .route("/v1/targets", get(targets))
        .route("/v1/sessions", get(sessions))
        .route("/v1/workers", get(workers))
        .route("/v1/counts", get(counts))
        .with_state(pools)
}

async fn targets(State(pools): State<Arc<PoolSet>>) -> Json<Vec<TargetView>> {
    Json(pools.target_views())
}

async fn sessions(
    State(pools): State<Arc<PoolSet>>,
    query: Result<Query<sessions::Query>, QueryRejection>,
) -> Result<Json<Listing<SessionView>>, ApiError> {
    sessions::list(&pools.proxy.sessions, &pools.proxy.names, &read(query)?).map(Json)
}

async fn workers(
    State(pools): State<Arc<PoolSet>>,
    query: Result<Query<workers::Query>, QueryRejection>,
) -> Result<Json<Workers>, ApiError> {
    workers::list(&pools.proxy.machines, &read(query)?, clock::now()).map(Json)
}

fn read<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| ApiError::bad_request("bad_query", rejection.body_text()))
}

async fn counts(State(pools): State<Arc<PoolSet>>) -> Json<Counts> {
    Json(pools.proxy.books.metrics.counts())
}

#[cfg(test)]
mod tests;
