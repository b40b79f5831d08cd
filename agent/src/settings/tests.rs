use daemon::settings::Document;
use directive::MachineId;

use super::*;

fn load(text: &str) -> Result<Settings, String> {
    let text = format!("[meter.m]\nkind = \"file\"\npath = \"m.kw\"\n{text}\n");
    let document = Document::parse("tieline.toml", &text).map_err(|faults| faults.to_string())?;
    let root = document.root();
    let settings = read(&root);
    root.finish();
    document.conclude(settings).map_err(|faults| faults.to_string())
}

#[test]
fn a_guard_has_a_meter_a_limit_and_defaults() {
    let settings = load("[guard.hall-a]\nmeter = \"m\"\nlimit_kw = 500").expect("all right");
    let guard = &settings.guards[0].guard;
    assert_eq!((guard.feed.as_str(), guard.meter.as_str()), ("hall-a", "m"));
    assert_eq!((guard.limit, guard.rating), (Watts(500_000), Watts(500_000)));
    assert_eq!(guard.machine, Watts(3_000));
    assert!(guard.machines.claims(&MachineId::from("acme.rig-1")), "all that the drivers reach");
    let text = "[guard.a]\nmeter = \"m\"\nlimit_kw = 500\nrating_kw = 600\nmachine_kw = 3.5\n\
        machines = [\"acme.*\"]\nstale_after = \"1m\"";
    let guard = load(text).expect("all right").guards.remove(0).guard;
    assert_eq!((guard.rating, guard.machine), (Watts(600_000), Watts(3_500)));
    assert!(!guard.machines.claims(&MachineId::from("other.rig-1")));
    assert_eq!(guard.stale_after, Duration::from_secs(60));
}

#[test]
fn mistakes_in_a_guard_are_named_with_file_line_and_key() {
    for (text, want) in [
        ("[guard.a]\nlimit_kw = 500", "tieline.toml:4:1: guard.a.meter"),
        ("[guard.a]\nmeter = \"m\"", "tieline.toml:4:1: guard.a.limit_kw"),
        (
            "[guard.a]\nmeter = \"n\"\nlimit_kw = 500",
            "tieline.toml:5:9: guard.a.meter: there is no [meter.n]",
        ),
        (
            "[guard.a]\nmeter = \"m\"\nlimit_kw = 500\nrating_kw = 400",
            "tieline.toml:7:13: guard.a.rating_kw: must not be less than limit_kw",
        ),
        ("[guard.a]\nmeter = \"m\"\nlimit_kw = -1", "tieline.toml:6:12: guard.a.limit_kw"),
        ("[guard.a]\nmeter = \"m\"\nlimit_kw = 5\nlimit = 5", "tieline.toml:7:1: guard.a.limit"),
        (
            "[guard.a]\nmeter = \"m\"\nlimit_kw = 5\nmachines = [\"a*\"]\n\
             [guard.b]\nmeter = \"m\"\nlimit_kw = 5",
            "tieline.toml:8:1: guard.b.machines: with several [guard.NAME]",
        ),
    ] {
        let mistakes = load(text).expect_err(text);
        assert!(mistakes.contains(want), "{text}: {mistakes}");
    }
}
