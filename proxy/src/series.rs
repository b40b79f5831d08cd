//! What the metrics of all parts of the proxy have in common: how a metric is registered, counters
//! with a label out of a list in the code, and which targets have series.
//!
//! Labels come from the configuration (targets) and from lists in the code (outcomes, reasons),
//! never from peers. Series that are known at the start are created then, so that a first event
//! shows as an increase.

use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Metric, Registry};

use crate::label::Label;
use crate::target::{PerTarget, TargetUse};

/// Names and values of a series' labels.
pub(crate) type Labels<const N: usize> = [(&'static str, String); N];

/// A counter of seconds or of work.
pub(crate) type FloatCounter = Counter<f64, AtomicU64>;

/// The label `target` of sessions and submits that belong to no target.
pub(crate) const NOWHERE: &str = "none";

/// Registers a metric that begins at its default.
pub(crate) fn registered<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

/// A counter for each label of a list of reasons.
#[derive(Debug, Clone)]
pub(crate) struct CounterBy<L> {
    key: &'static str,
    family: Family<[(&'static str, &'static str); 1], Counter>,
    list: PhantomData<fn(L)>,
}

impl<L: Label> CounterBy<L> {
    /// Registers the counters, all at 0. `key` is the label's name.
    pub(crate) fn register(
        registry: &mut Registry,
        name: &str,
        help: &str,
        key: &'static str,
    ) -> Self {
        let family: Family<[(&'static str, &'static str); 1], Counter> =
            registered(registry, name, help);
        for label in L::labels() {
            family.get_or_create_owned(&[(key, label)]);
        }
        Self { key, family, list: PhantomData }
    }

    pub(crate) fn count(&self, reason: L) {
        self.family.get_or_create(&[(self.key, reason.label())]).inc();
    }
}

/// The targets that have metrics, each with the value of its label `target`.
#[derive(Debug)]
pub(crate) struct TargetLabels(PerTarget<Option<String>>);

impl TargetLabels {
    /// The labels of targets with these names and uses.
    pub(crate) fn new(targets: &PerTarget<(String, TargetUse)>) -> Self {
        Self(targets.map(|_, (name, used)| used.is_used().then(|| name.clone())))
    }

    /// The labels of targets that miners share.
    #[cfg(test)]
    pub(crate) fn shared(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| Some((*name).to_owned())).collect();
        Self(names.into())
    }

    /// Makes the series of each target that has metrics, by its label.
    pub(crate) fn series<T>(&self, mut make: impl FnMut(&str) -> T) -> PerTarget<Option<T>> {
        self.0.map(|_, name| name.as_deref().map(&mut make))
    }
}
