//! Log lines of a running process about itself: what it starts with, and whether miners can be served,
//! as `/readyz` answers it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use daemon::clock;
use proxy::{Proxy, TargetView};
use switchboard::policy::Policy;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::settings::Settings;
use crate::site::{Faults, Site};

/// The maximum number of listeners, and of pools, in the first line.
const NAMES: usize = 8;
/// How often readiness is checked.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a start may take before the log says what is missing.
const START: Duration = Duration::from_secs(10);
/// A loss of readiness that is shorter than this is not logged, because another pool takes over.
const LOSS: Duration = Duration::from_secs(3);

/// Logs the first line: what this process is. It holds no user names and no passwords.
pub fn starting(path: &Path, settings: &Settings, policy: Option<&Policy>) {
    let proxy = settings.proxy.as_ref();
    let listeners = proxy.map(|proxy| {
        let servers = proxy.servers.iter();
        some_of(servers.map(|server| format!("{}={}", server.name, server.listen)))
    });
    let pools = proxy.map(|proxy| {
        let targets: Vec<_> = proxy.used_targets().collect();
        some_of(targets.into_iter().map(|target| {
            let tls = if target.tls.is_some() { " (TLS)" } else { "" };
            format!("{}={}{tls}", target.name, target.at())
        }))
    });
    info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = %path.display(),
        listeners,
        pools,
        admin = %settings.admin_listen,
        site = policy.map(|policy| policy.facility.site()),
        policy = settings.switchboard.as_ref().map(|control| tracing::field::display(control.policy.display())),
        revision = policy.and_then(|policy| policy.revision),
        waits_for = proxy.map(|_| "work from a pool"),
        "starting"
    );
}

fn some_of(names: impl ExactSizeIterator<Item = String>) -> String {
    let all = names.len();
    let mut text = names.take(NAMES).collect::<Vec<_>>().join(", ");
    if all > NAMES {
        let _ = write!(text, " and {} more", all - NAMES);
    }
    text
}

/// Logs when miners can be served and when they no longer can, until `stop` is cancelled.
pub async fn watch_readiness(site: &Site, stop: CancellationToken) {
    let Some(proxy) = &site.proxy else {
        info!("ready");
        return;
    };
    let mut readiness = Readiness::new(clock::now());
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let (ready, _) = site.readiness(Faults::default());
        match readiness.look(ready, clock::now()) {
            None => {}
            Some(News::Ready { after }) => {
                let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                info!(after_ms, pools = up(proxy), "ready");
            }
            Some(News::Lost) => {
                warn!(pools = faults(proxy.targets()), "not ready, no pool brings work");
            }
            Some(News::Late) => {
                warn!(pools = faults(proxy.targets()), "not ready yet, no pool brings work");
            }
        }
    }
}

fn up(proxy: &Proxy) -> String {
    let targets: Vec<_> = proxy.targets().into_iter().filter(|target| target.up).collect();
    some_of(targets.into_iter().map(|target| target.name))
}

/// The last fault of each target that should have work for miners and has none.
fn faults(targets: Vec<TargetView>) -> String {
    let targets: Vec<_> = targets.into_iter().filter(TargetView::is_down).collect();
    some_of(targets.into_iter().map(|target| match target.last_fault {
        Some(fault) => format!("{}: {fault}", target.name),
        None => format!("{}: no answer yet", target.name),
    }))
}

/// A change of readiness that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Ready {
        /// The time since the start, or since readiness was lost.
        after: Duration,
    },
    Lost,
    /// The start takes long.
    Late,
}

/// Decides what is logged: a loss only when it lasts, and each change once.
#[derive(Debug)]
struct Readiness {
    /// When the process was last ready; before the first time, when it started.
    last: Instant,
    was_ready: bool,
    /// Whether the last line in the log about readiness says that the process is ready.
    told: bool,
    complained: bool,
}

impl Readiness {
    fn new(now: Instant) -> Self {
        Self { last: now, was_ready: false, told: false, complained: false }
    }

    fn look(&mut self, ready: bool, now: Instant) -> Option<News> {
        let since = now.saturating_duration_since(self.last);
        if ready {
            self.last = now;
            self.was_ready = true;
            self.complained = false;
            return (!std::mem::replace(&mut self.told, true))
                .then_some(News::Ready { after: since });
        }
        let patience = if self.was_ready { LOSS } else { START };
        if self.complained || since < patience {
            return None;
        }
        self.told = false;
        self.complained = true;
        Some(if self.was_ready { News::Lost } else { News::Late })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::target;

    fn played(ready: impl Fn(u64) -> bool, seconds: u64) -> Vec<(u64, News)> {
        let start = clock::now();
        let mut readiness = Readiness::new(start);
        let look = |second| {
            let news = readiness.look(ready(second), start + Duration::from_secs(second));
            news.map(|news| (second, news))
        };
        (0..seconds).filter_map(look).collect()
    }

    fn after(secs: u64) -> News {
        News::Ready { after: Duration::from_secs(secs) }
    }

    #[test]
    fn it_is_told_once_that_miners_can_be_served() {
        assert_eq!(played(|second| second >= 2, 100), [(2, after(2))]);
    }

    #[test]
    fn a_start_that_takes_long_is_told_and_its_end() {
        assert_eq!(played(|second| second >= 50, 100), [(10, News::Late), (50, after(50))]);
        assert_eq!(played(|_| false, 1000), [(10, News::Late)]);
    }

    #[test]
    fn a_loss_is_told_when_it_lasts_and_flapping_is_not() {
        let lost = |second: u64| !(20..30).contains(&second);
        assert_eq!(played(lost, 100), [(0, after(0)), (22, News::Lost), (30, after(11))]);
        assert_eq!(played(|second| second % 3 == 0, 100), [(0, after(0))]);
        let slowly = played(|second| second % 10 < 5, 100);
        assert!(slowly.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 3), "{slowly:?}");
    }

    #[test]
    fn a_disabled_pool_brings_no_work_and_is_no_fault() {
        let lost = target("a", false, false, Some("connection refused"));
        let disabled = TargetView { disabled: true, ..target("b", false, false, None) };
        assert_eq!(faults(vec![lost, disabled]), "a: connection refused");
    }

    #[test]
    fn lists_are_bounded() {
        let names = |count: usize| some_of((0..count).map(|number| number.to_string()));
        assert_eq!(names(2), "0, 1");
        assert_eq!(names(300), "0, 1, 2, 3, 4, 5, 6, 7 and 292 more");
    }
}
