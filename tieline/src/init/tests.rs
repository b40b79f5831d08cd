use std::fs;

use proxy::TargetId;
use switchboard::policy::Policy;

use super::*;
use crate::cli::LISTEN;
use crate::files::{Files, Sound};

fn options(dir: &Path) -> Init {
    Init {
        pool: "stratum+tcp://pool.example:3333".to_owned(),
        user: "acme.site1".to_owned(),
        site: "barn".to_owned(),
        dir: dir.to_owned(),
        listen: LISTEN,
    }
}

fn proxy(settings: &Settings) -> &proxy::Config {
    settings.proxy.as_ref().expect("a proxy")
}

fn written(options: &Init) -> Sound {
    init(options).unwrap_or_else(|failure| panic!("{failure}"));
    let files = Files::read(&options.dir.join(CONFIG));
    files.sound().unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn what_is_written_has_no_mistakes_and_no_warnings() {
    let folder = tempfile::tempdir().unwrap();
    // A folder that does not exist yet is made.
    let dir = folder.path().join("etc/tieline");
    let Sound { settings, policy, warnings, .. } = written(&options(&dir));
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(proxy(&settings).servers[0].listen, LISTEN);
    assert_eq!(proxy(&settings).targets[TargetId::nth(0)].at().to_string(), "pool.example:3333");
    assert_eq!(proxy(&settings).targets[TargetId::nth(0)].user, "acme.site1");
    assert_eq!(policy.expect("a policy").policy.facility.site(), "barn");
    let alone = switchboard::policy::check(&dir.join(POLICY));
    assert!(alone.policy.is_ok() && alone.warnings.is_empty());
}

/// The policy of a site that has not been described lets all machines that the proxy serves run,
/// with a plan and without one, and leaves no power that a lease could be promised.
#[test]
fn the_policy_limits_nobody_and_promises_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Sound { settings, policy, .. } = written(&options(folder.path()));
    let policy: Policy = policy.expect("a policy").policy;
    let [feed] = policy.facility.feeds().as_slice() else {
        panic!("one feed: {:?}", policy.facility.feeds())
    };
    let [group] = policy.facility.groups() else {
        panic!("one group: {:?}", policy.facility.groups())
    };
    assert_eq!(group.machines as usize, proxy(&settings).sessions_max);
    assert_eq!(group.watts.0 * i64::from(group.machines), feed.most_usable().0);
    assert_eq!(feed.default_constraint, Some(feed.most_usable()));
    assert!(group.claims(&"anything.at-all".into()) && !group.backs_firm());
}

#[test]
fn what_is_there_is_not_overwritten_and_nothing_is_half_written() {
    for there in [CONFIG, POLICY] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(there), "mine").unwrap();
        let failure = init(&options(folder.path())).expect_err("it exists");
        let told = failure.to_string();
        assert!(told.contains(there) && told.contains("exists"), "{told}");
        assert!(matches!(failure, Failure::Runtime(_)));
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(fs::read_to_string(folder.path().join(there)).unwrap(), "mine");
    }
}

#[test]
fn options_are_judged_as_check_judges_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let change = |edit: fn(&mut Init)| {
        let mut options = options(folder.path());
        edit(&mut options);
        match init(&options) {
            Err(Failure::Usage(told)) => told,
            other => panic!("{other:?}"),
        }
    };
    for (edit, want) in [
        (
            (|o| o.pool = "pool.example".to_owned()) as fn(&mut Init),
            "--pool: missing port: host:port",
        ),
        (|o| o.pool = "http://pool.example:1".to_owned(), "--pool: \"http\" is no Stratum scheme"),
        (|o| o.pool = String::new(), "--pool: must not be empty"),
        (|o| o.pool = "a\"\nb:1".to_owned(), "--pool: "),
        (|o| o.user = "acme site".to_owned(), "--user: must not contain spaces"),
        (|o| o.user = String::new(), "--user: must not be empty"),
        (|o| o.site = "x".repeat(200), "--site: must be at most 128 bytes"),
        (
            |o| o.pool = "127.0.0.1:3333".to_owned(),
            "--pool: is the address of [[server]] \"asics\"",
        ),
        (
            |o| o.listen = ([127, 0, 0, 1], 8080).into(),
            "--listen: 127.0.0.1:8080 is in use by [admin]",
        ),
    ] {
        let told = change(edit);
        assert!(told.starts_with(want) && told.lines().count() == 1, "{want}: {told}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn names_are_written_as_toml_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let options = Init {
        user: "acme\\\"x.ü@PORT@".to_owned(),
        site: "Bärn \"two\" \\ @ZONE@ @LIMIT@".to_owned(),
        ..options(folder.path())
    };
    let Sound { settings, policy, .. } = written(&options);
    assert_eq!(proxy(&settings).targets[TargetId::nth(0)].user, options.user);
    assert_eq!(policy.expect("a policy").policy.facility.site(), options.site);
}

#[test]
fn commands_to_copy_are_quoted_for_a_shell() {
    for (path, argument) in [
        ("site/tieline.toml", "site/tieline.toml"),
        ("hall 3/tieline.toml", "'hall 3/tieline.toml'"),
        ("it's/tieline.toml", r"'it'\''s/tieline.toml'"),
        ("a$b/tieline.toml", "'a$b/tieline.toml'"),
        ("hall-ü/tieline.toml", "hall-ü/tieline.toml"),
    ] {
        assert_eq!(for_a_shell(Path::new(path)), argument);
    }
}

#[test]
fn a_file_is_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "mine").unwrap();
    let told = init(&options(&file)).expect_err("it is no folder").to_string();
    assert_eq!(told, format!("{} is not a folder; nothing was written", file.display()));
}
