//! A running proxy, as its host sees it. It is started in [`crate::start`].

use std::net::SocketAddr;
use std::sync::Arc;

use crate::api;
use crate::handle::SessionView;
use crate::metrics::Counts;
use crate::target_view::TargetView;
use crate::upstream::PoolSet;

/// A running proxy. Its tasks end with the [`daemon::tasks::Tasks`] it was started on.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// The addresses on which the proxy listens.
    pub(crate) addrs: Arc<[SocketAddr]>,
    pub(crate) pools: Arc<PoolSet>,
}

impl Proxy {
    /// Where miners connect to, in the order of the configuration.
    #[must_use]
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The counts of all submits so far, by outcome.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.pools.proxy.books.metrics.counts()
    }

    /// The current state of the targets.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetView> {
        self.pools.target_views()
    }

    #[must_use]
    pub fn sessions(&self) -> Vec<SessionView> {
        self.pools.proxy.sessions.views(&self.pools.proxy.names)
    }

    /// The routes of the API.
    pub fn router(&self) -> axum::Router {
        api::router(self.pools.clone())
    }

    /// Whether miners have work, with details for people.
    #[must_use]
    pub fn readiness(&self) -> (bool, serde_json::Value) {
        let targets = self.targets();
        let up = targets.iter().any(|target| target.up);
        let sessions = self.pools.proxy.sessions.len();
        (up, serde_json::json!({ "targets": targets, "sessions": sessions }))
    }
}
