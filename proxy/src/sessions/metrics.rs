//! Metrics of miners' connections.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::handle::SessionState;
use crate::reasons::{CloseReason, Correction, Retarget};
use crate::series::{CounterBy, Labels, NOWHERE, TargetLabels, registered};
use crate::target::{PerTarget, TargetId};

#[derive(Debug)]
pub(crate) struct SessionMetrics {
    working: PerTarget<Option<Gauge>>,
    nowhere: [(SessionState, Gauge); STATES_NOWHERE.len()],
    pub(crate) accepts: Counter,
    pub(crate) closes: CounterBy<CloseReason>,
    pub(crate) corrections: CounterBy<Correction>,
    pub(crate) retargets: CounterBy<Retarget>,
}

/// States of sessions that have no target.
pub(crate) const STATES_NOWHERE: [SessionState; 3] =
    [SessionState::Handshake, SessionState::Waiting, SessionState::Parked];

impl SessionMetrics {
    pub(crate) fn register(targets: &TargetLabels, registry: &mut Registry) -> Self {
        let sessions: Family<Labels<2>, Gauge> =
            registered(registry, "sessions", "Miners' connections by state and target");
        let series = |target: &str, state: SessionState| {
            sessions.get_or_create_owned(&[
                ("target", target.to_owned()),
                ("state", state.name().to_owned()),
            ])
        };
        Self {
            working: targets.series(|target| series(target, SessionState::Working)),
            nowhere: STATES_NOWHERE.map(|state| (state, series(NOWHERE, state))),
            accepts: registered(registry, "accepts", "Connections accepted from miners"),
            closes: CounterBy::register(
                registry,
                "session_closes",
                "Miners' connections that ended, by reason",
                "reason",
            ),
            corrections: CounterBy::register(
                registry,
                "corrections",
                "Steps taken with miners whose shares were all bad",
                "step",
            ),
            retargets: CounterBy::register(
                registry,
                "retargets",
                "Difficulties that sessions were given, by reason",
                "reason",
            ),
        }
    }

    /// Shows how many sessions work for a target.
    pub(crate) fn show_working(&self, target: TargetId, count: i64) {
        if let Some(Some(gauge)) = self.working.get(target) {
            gauge.set(count);
        }
    }

    /// Shows how many sessions without a target are in a state.
    pub(crate) fn show_nowhere(&self, state: SessionState, count: i64) {
        for (_, gauge) in self.nowhere.iter().filter(|(of, _)| *of == state) {
            gauge.set(count);
        }
    }
}
