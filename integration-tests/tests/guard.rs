//! The guard, from outside: the programs an operator runs, a driver that is a program, and a meter
//! that is a file.

use std::time::Duration;

use serde_json::Value;

use crate::programs::Programs;
use crate::site::until;

/// The feed in the answer of `GET /v1/feeds`.
fn feed(programs: &Programs) -> Value {
    programs.get("/v1/feeds")["feeds"][0].clone()
}

/// The usable power of the programs' feed, in kW.
const USABLE: f64 = 25.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_house_that_grows_takes_just_enough_machines_off_at_once_and_a_kill_forgets_none() {
    let mut programs = Programs::start().await;
    programs.until_all_mine().await;
    until("the feed is guarded", || {
        let feed = feed(&programs);
        // Eight machines of 3 kW, less what they draw asleep.
        let guards = feed["guard"]["state"] == "watching" && feed["guard"]["guardable_kw"] == 23.76;
        if guards { Ok(()) } else { Err(feed) }
    })
    .await;

    // 24.5 kW of 25 are drawn. With 6 kW more, two machines must go.
    programs.set_house(6.5);
    until("the meter shows the house", || match programs.metered() {
        Some(kw) if kw > USABLE => Ok(()),
        other => Err(format!("{other:?}").into()),
    })
    .await;
    let seen = daemon::clock::now();
    until("the feed is below its limit", || match programs.metered() {
        Some(kw) if kw <= USABLE => Ok(()),
        other => Err(format!("{other:?}").into()),
    })
    .await;
    // The meter is read every 200 ms and a machine sleeps within 300 ms; the rest is for a busy
    // machine that runs this test.
    let above = daemon::clock::now().duration_since(seen);
    assert!(above < Duration::from_secs(5), "{above:?} above the limit");
    assert_eq!(programs.asleep().len(), 2, "{:?}", programs.asleep());
    let asleep = programs.asleep();

    programs.kill().await;
    programs.run().await;
    until("the plan has taken the machines over", || {
        let feed = feed(&programs);
        let taken =
            programs.change(&["plan"]).out.contains("the guard of feed a put them to sleep");
        if feed["guard"]["state"] == "watching" && taken { Ok(()) } else { Err(feed) }
    })
    .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(programs.asleep(), asleep, "the same machines, and no others");
    assert!(programs.metered().is_some_and(|kw| kw <= USABLE));
    let status = programs.change(&["status"]);
    assert!(status.out.contains("watching"), "{}", status.out);
}
