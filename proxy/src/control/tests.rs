use directive::{Action, Downlink, Generation, Means, ReceiverRole, Step, Timeline, in_process};
use prometheus_client::registry::Registry;

use super::*;
use crate::log_limit::tests::Log;
use crate::reasons::metrics::Alarms;

fn control(file: Option<Arc<StateFile>>) -> Control {
    let every = Duration::from_secs(1);
    let core = ControlCore::new(None, file.is_some(), every, clock::now());
    let orders = core.orders().clone();
    let directions = Directions { orders, ..Directions::default() };
    let mut registry = Registry::default();
    Control::new(Setup {
        core,
        sender: ReportSender::new(1),
        file,
        directions: Arc::new(watch::channel(directions).0),
        machines: Arc::default(),
        metrics: ControlMetrics::register(&Alarms::register(&mut registry), &mut registry),
    })
}

/// A timeline that starves one machine from now on.
fn downlink() -> Downlink {
    let at = clock::wall();
    let step = Step {
        at,
        group: "g".into(),
        action: Action::Drain,
        means: Means::Starve,
        machines: vec!["rig".into()],
        lease: None,
        reason: String::new(),
    };
    let number = Generation { epoch: 1, generation: 1 };
    let timeline = Timeline {
        number,
        issued_at: at,
        horizon: at,
        ledger_head: None,
        steps: vec![step],
        holds_taken: std::collections::BTreeMap::new(),
    };
    Downlink { timeline: Some(Arc::new(timeline)), ..Downlink::default() }
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_tried_again_and_logged_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = Arc::new(StateFile::new(dir.path().join("late").join("proxy.json")));
    let mut control = control(Some(file.clone()));
    let (link, _outlet) = in_process("p".into(), ReceiverRole::Proxy);
    let log = Log::new();
    let logged = tracing::subscriber::set_default(log.clone());
    for tries in 1..=12 {
        if tries == 11 {
            std::fs::create_dir(dir.path().join("late")).expect("a folder");
        }
        control.setup.core.hear(downlink(), clock::now());
        control.turn(&link);
        control.finish_write().await;
    }
    drop(logged);
    assert_eq!(
        log.shown(),
        ["state not written: a restart would forget it, trying again", "state written again"]
    );
    let saved: Saved = file.load().expect("readable").expect("written by now");
    assert_eq!(saved.applied.len(), 1, "a restart knows the machine is off");
    assert_eq!(control.setup.metrics.machines_shed.get(), 1);
    assert_eq!(control.setup.metrics.generation.get(), 1);
}

#[tokio::test]
async fn the_state_is_written_at_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = Arc::new(StateFile::new(dir.path().join("proxy.json")));
    let mut control = control(Some(file.clone()));
    let (link, _outlet) = in_process("p".into(), ReceiverRole::Proxy);
    control.setup.core.hear(downlink(), clock::now());
    control.turn(&link);
    control.stop().await;
    let saved: Saved = file.load().expect("readable").expect("written");
    assert_eq!(saved.applied.len(), 1);
}
