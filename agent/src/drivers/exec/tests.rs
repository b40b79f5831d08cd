use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;

/// A timeout that is longer than any of these programs takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn config(argv: Vec<String>) -> ExecConfig {
    ExecConfig {
        sleep: argv.clone(),
        wake: argv.clone(),
        read: argv,
        timeout: PATIENCE,
        concurrency: 4,
    }
}

/// An actuator whose every command is this shell script, with the machine's name as `$1`.
fn script(dir: &Path, body: &str) -> ExecActuator {
    let path = dir.join("tool.sh");
    std::fs::write(&path, body).unwrap();
    ExecActuator::new(config(argv(&["/bin/sh", path.to_str().unwrap(), "{machine}"]))).unwrap()
}

fn rig() -> MachineId {
    MachineId::from("acme.rig-1")
}

#[test]
fn commands_that_cannot_work_are_refused_by_name() {
    let good = config(argv(&["/bin/true", "{machine}"]));
    for (bad, want) in [
        (ExecConfig { sleep: vec![], ..good.clone() }, "sleep: empty"),
        (ExecConfig { wake: argv(&["", "{machine}"]), ..good.clone() }, "wake: empty"),
        (
            ExecConfig { wake: argv(&["/opt/{machine}", "{machine}"]), ..good.clone() },
            "wake[0]: the program may not contain {machine}",
        ),
        (
            ExecConfig { read: argv(&["/bin/true", "x"]), ..good.clone() },
            "read: no argument contains {machine}",
        ),
        (ExecConfig { timeout: Duration::ZERO, ..good.clone() }, "timeout: must be more than 0"),
        (ExecConfig { concurrency: 0, ..good.clone() }, "concurrency: must be more than 0"),
    ] {
        assert_eq!(ExecActuator::new(bad).unwrap_err().to_string(), want);
    }
    assert!(ExecActuator::new(good).is_ok());
}

#[test]
fn the_name_goes_into_each_argument_and_is_not_expanded_again() {
    let template = argv(&["tool", "--dir=/x/{machine}", "{machine}", "plain"]);
    assert_eq!(
        fill(&template, &rig()).unwrap(),
        ["tool", "--dir=/x/acme.rig-1", "acme.rig-1", "plain"]
    );
    let odd = MachineId::from("a{machine}$(id);");
    assert_eq!(fill(&argv(&["tool", "{machine}"]), &odd).unwrap(), ["tool", "a{machine}$(id);"]);
}

#[test]
fn names_that_could_be_more_than_a_name_reach_no_program() {
    let template = argv(&["tool", "{machine}"]);
    let long = "x".repeat(129);
    for bad in ["", "-rf", "a b", "a\"b", "a'b", "a`b", "a\nb", "a\0b", "r\u{e9}g", long.as_str()] {
        let error = fill(&template, &MachineId::from(bad)).unwrap_err();
        assert!(matches!(error, ActuatorError::Failed { .. }), "{bad:?}: {error}");
        assert!(!error.to_string().contains('\n'), "escaped: {error}");
    }
    assert!(
        fill(&argv(&["tool", "--machine={machine}"]), &MachineId::from("-rf")).is_ok(),
        "not an argument of its own"
    );
}

#[tokio::test]
async fn an_exit_status_of_zero_is_sent_and_any_other_is_refused() {
    let yes = ExecActuator::new(config(argv(&["/bin/true", "{machine}"]))).unwrap();
    assert_eq!(yes.sleep(&rig()).await, Ok(()));
    assert_eq!(yes.wake(&rig()).await, Ok(()));
    let no = ExecActuator::new(config(argv(&["/bin/false", "{machine}"]))).unwrap();
    assert_eq!(
        no.sleep(&rig()).await,
        Err(ActuatorError::Refused { why: "exit status: 1".into() })
    );
    let none = ExecActuator::new(config(argv(&["/no/such/tool", "{machine}"]))).unwrap();
    let error = none.sleep(&rig()).await.unwrap_err();
    assert!(
        matches!(&error, ActuatorError::Failed { why } if why.contains("/no/such/tool")),
        "{error}"
    );
}

#[tokio::test]
async fn a_refusal_carries_the_programs_words_cut_and_escaped() {
    let dir = tempfile::tempdir().unwrap();
    let tool = script(
        dir.path(),
        "printf 'no \\033[31m%s\\nmore' \"$1\" >&2; head -c 100000 /dev/zero >&2; exit 3",
    );
    let Err(ActuatorError::Refused { why }) = tool.sleep(&rig()).await else {
        panic!("it exits with 3")
    };
    assert!(why.starts_with("exit status: 3: no \\u{1b}[31macme.rig-1\\nmore"), "{why}");
    assert!(why.len() < 300 && !why.chars().any(char::is_control), "{why}");
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let mut tool = script(dir.path(), &format!("echo $$ > {}; exec sleep 600", pid_file.display()));
    let ended =
        timed_out_once_started(&mut tool, &pid_file, async |tool| tool.sleep(&rig()).await).await;
    assert!(matches!(ended, Err(ActuatorError::Timeout { .. })), "{ended:?}");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "process {pid} is gone");
}

/// An actuator whose program does not end by itself, and starts a child that writes its process id
/// and does not end either.
fn slow_script(dir: &Path) -> (ExecActuator, std::path::PathBuf) {
    let pid_file = dir.join("pid");
    (script(dir, &format!("sleep 600 & echo $! > {}; wait", pid_file.display())), pid_file)
}

fn is_written(pid_file: &Path) -> bool {
    std::fs::read_to_string(pid_file).is_ok_and(|pid| pid.ends_with('\n'))
}

/// Runs a command with ever longer time limits, until its program has written its process id: how
/// long that takes depends on the test machine.
async fn timed_out_once_started<T>(
    tool: &mut ExecActuator,
    pid_file: &Path,
    run: impl AsyncFn(&ExecActuator) -> Result<T, ActuatorError>,
) -> Result<T, ActuatorError> {
    for secs in [1, 4, 16, 64] {
        tool.config.timeout = Duration::from_secs(secs);
        let ended = run(tool).await;
        if is_written(pid_file) || ended.is_ok() {
            return ended;
        }
    }
    panic!("it never started");
}

async fn is_gone(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    let stat = Path::new("/proc").join(pid.trim()).join("stat");
    let gone = async {
        // An orphan may stay as a zombie where no process reaps it.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.is_ok()
}

#[tokio::test]
async fn what_a_killed_program_has_started_is_killed_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mut tool, pid_file) = slow_script(dir.path());
    let ended =
        timed_out_once_started(&mut tool, &pid_file, async |tool| tool.wake(&rig()).await).await;
    assert!(matches!(ended, Err(ActuatorError::Timeout { .. })), "{ended:?}");
    assert!(is_gone(&pid_file).await, "it could still wake the machine");
}

#[tokio::test]
async fn a_command_that_is_given_up_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (tool, pid_file) = slow_script(dir.path());
    let started = async {
        while !is_written(&pid_file) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let rig = rig();
    tokio::select! {
        ended = tool.sleep(&rig) => panic!("it waits: {ended:?}"),
        started = tokio::time::timeout(PATIENCE, started) => started.expect("it starts"),
    }
    assert!(is_gone(&pid_file).await);
}

#[tokio::test]
async fn a_child_that_holds_the_pipe_does_not_hold_up_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let tool = script(dir.path(), "echo asleep 30; sleep 30 & exit 0");
    assert_eq!(tool.read(&rig()).await.unwrap().state, DeviceState::Asleep);
}

#[tokio::test]
async fn a_megabyte_of_output_is_read_to_its_end_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    let tool = script(dir.path(), "echo asleep; head -c 1000000 /dev/zero; echo done");
    let error = tool.read(&rig()).await.unwrap_err();
    assert!(matches!(&error, ActuatorError::Unreadable { why } if why.contains("4096")), "{error}");
    assert_eq!(tool.sleep(&rig()).await, Ok(()), "a command may print what it likes");
}

#[tokio::test]
async fn a_reading_is_taken_from_what_the_program_prints() {
    let dir = tempfile::tempdir().unwrap();
    let tool = script(dir.path(), "echo \"asleep 31\"");
    let reading = tool.read(&rig()).await.unwrap();
    assert_eq!((reading.state, reading.watts), (DeviceState::Asleep, Some(Watts(31))));
}

#[test]
fn readings_are_parsed_strictly() {
    let at = Timestamp::UNIX_EPOCH;
    for (text, state, watts) in [
        ("awake", DeviceState::Awake, None),
        ("asleep\n", DeviceState::Asleep, None),
        ("asleep 30\n", DeviceState::Asleep, Some(Watts(30))),
        ("awake 3400.4", DeviceState::Awake, Some(Watts(3400))),
    ] {
        assert_eq!(
            parse(text.as_bytes(), at),
            Ok(Reading { state, watts, read_at: at }),
            "{text:?}"
        );
    }
    for bad in [
        "",
        "\n",
        "Asleep",
        "off",
        "asleep -3",
        "asleep NaN",
        "asleep inf",
        "asleep 1e30",
        "asleep 30 W",
        "asleep x",
    ] {
        assert!(parse(bad.as_bytes(), at).is_err(), "{bad:?}");
    }
    assert!(parse(b"\xff", at).is_err());
}

#[tokio::test]
async fn no_more_programs_run_at_once_than_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().display();
    // Each run counts the runs that are alive at the same time.
    let body = format!(
        "touch {here}/$1.live; ls {here} | grep -c live >> {here}/counts; sleep 0.05; rm {here}/$1.live"
    );
    let mut tool = script(dir.path(), &body);
    tool.running = Semaphore::new(3);
    let tool = Arc::new(tool);
    let mut runs = tokio::task::JoinSet::new();
    for number in 0..12 {
        let tool = tool.clone();
        runs.spawn(async move { tool.sleep(&MachineId::from(format!("m{number}"))).await });
    }
    while let Some(ended) = runs.join_next().await {
        assert_eq!(ended.unwrap(), Ok(()));
    }
    let counts = std::fs::read_to_string(dir.path().join("counts")).unwrap();
    let most: u32 = counts.lines().map(|count| count.trim().parse().unwrap()).max().unwrap();
    assert!((1..=3).contains(&most), "{most} at once");
    assert_eq!(counts.lines().count(), 12);
}
