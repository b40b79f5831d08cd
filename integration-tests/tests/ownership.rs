//! Who put a machine to sleep, from outside: the programs are killed at random moments around sleep
//! and wake commands, and lose what they know. At the end no machine sleeps that nobody wants asleep.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::programs::Programs;
use crate::site::until;

/// How often the programs are killed.
const KILLS: u64 = 20;

/// The first numbers of a seeded sequence (`SplitMix64`): the kills come at the same moments in every
/// run, as far as the machine that runs this test is as fast.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }

    async fn pause(&mut self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(millis))).await;
    }
}

/// The files with which an agent remembers what it did.
const STATE: [&str; 2] = ["state/agent.json", "state/agent.json.journal"];

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_and_no_lost_state_leaves_a_machine_asleep_that_nobody_wants() {
    let mut programs = Programs::start().await;
    programs.until_all_mine().await;
    let mut dice = Dice(12);
    let mut copy: Option<String> = None;
    let mut leases: Vec<String> = Vec::new();
    let mut with_sleepers = 0;
    for kill in 0..KILLS {
        // Two to six machines go about a second after the lease is committed, or come back after it
        // is cancelled.
        if leases.is_empty() || dice.below(3) == 0 {
            let (id, kw) = (format!("lease-{kill}-x"), (3 * (2 + dice.below(5))).to_string());
            let terms = ["--it-kw", &kw, "--start", "+9s", "--end", "+10m", "--id", &id];
            let lease = ["lease", "add", "--tenant", "t", "--feed", "a"];
            // It is refused while another one takes too much.
            if programs.change(&[&lease[..], &terms[..]].concat()).code == 0 {
                leases.push(id);
            }
            dice.pause(1800).await;
        } else if let Some(lease) = leases.pop() {
            let said = programs.change(&["lease", "cancel", &lease, "--force"]);
            assert_eq!(said.code, 0, "{said:?}");
            dice.pause(1000).await;
        }
        programs.kill().await;
        with_sleepers += u32::from(!programs.asleep().is_empty());
        match kill % 6 {
            1 => fs::remove_file(programs.path(STATE[0])).unwrap_or_default(),
            3 => STATE.iter().for_each(|file| {
                fs::remove_file(programs.path(file)).unwrap_or_default();
            }),
            4 => copy = fs::read_to_string(programs.path(STATE[0])).ok(),
            5 if copy.is_some() => {
                fs::write(programs.path(STATE[0]), copy.as_deref().unwrap()).expect("written");
            }
            _ => {}
        }
        programs.run().await;
    }
    for lease in leases {
        let said = programs.change(&["lease", "cancel", &lease, "--force"]);
        assert_eq!(said.code, 0, "{said:?}");
    }
    let shown = |programs: &Programs| programs.get("/v1/status")["asleep_not_by_us"].clone();
    // A machine that nothing knew to be ours would be shown, and stay asleep.
    let left = until("every machine is awake or shown", || {
        let (asleep, shown) = (programs.asleep(), shown(&programs));
        let status = || programs.change(&["status"]).out;
        if shown["count"] == asleep.len() {
            Ok(asleep)
        } else {
            Err(format!("{asleep:?}, {shown}\n{}", status()).into())
        }
    })
    .await;
    println!("{with_sleepers} kills found machines asleep; asleep, not by us: {left:?}");
    assert!(with_sleepers >= 6, "{with_sleepers}: most kills showed nothing");
    // Only a kill that loses the agent's state, and with it what the journal no longer has (1, 3 and
    // 5 of 6), leaves the ledger alone to know. It has each machine before the plan lets it go, and
    // is never lost here, so that these may forget none either.
    assert!(left.is_empty(), "{left:?}: forgotten\n{}", programs.log());
    programs.until_all_mine().await;
    assert!(programs.asleep().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_a_person_put_to_sleep_is_shown_and_returns_when_it_is_adopted() {
    let mut programs = Programs::start().await;
    programs.until_all_mine().await;
    let machine = "acme.rig-3";
    fs::write(programs.path(&format!("devices/{machine}.state")), "asleep").expect("written");
    let status = until("it is shown", || {
        let status = programs.change(&["status"]);
        if status.out.contains("asleep, not by us: 1 machine since") {
            Ok(status.out)
        } else {
            Err(Value::String(status.out))
        }
    })
    .await;
    assert!(status.contains(machine), "{status}");
    // Neither a restart nor the loss of the agent's state makes it ours.
    programs.kill().await;
    STATE.iter().for_each(|file| fs::remove_file(programs.path(file)).unwrap_or_default());
    programs.run().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(programs.asleep().contains(machine), "nobody asked for it");
    assert_eq!(programs.get("/v1/status")["asleep_not_by_us"]["count"], 1);

    let unknown = programs.change(&["machine", "adopt", machine, "acme.rig-99"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(unknown.err.contains("no agent reports a machine acme.rig-99"), "{unknown:?}");
    let plain = programs.tieline(&["machine", "adopt", machine, "--url", &programs.url()]);
    assert_eq!(plain.code, 1, "a change needs the token: {plain:?}");
    let said = programs.change(&["machine", "adopt", machine, "--by", "kari"]);
    assert_eq!((said.code, said.out.as_str()), (0, "acme.rig-3 comes back now\n"), "{said:?}");
    programs.until_all_mine().await;
    assert!(programs.asleep().is_empty());
    let log = programs.log();
    assert!(log.contains("sleeping machines adopted") && log.contains("kari"), "{log}");
}
