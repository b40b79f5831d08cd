use super::*;
use crate::fixture::{at, feed, origin};

const SETTLE: Duration = Duration::from_secs(60);

/// What one feed shows in one second.
#[derive(Debug, Clone, Copy)]
struct Shows {
    watts: Option<i64>,
    is_mute: bool,
    is_believed: bool,
    /// The machines that work, those that only show themselves, and how many are not to be off.
    works: u32,
    answers: u32,
    all: u32,
    /// Those of the gone ones whose devices were not read since.
    awaited: u32,
}

/// The machines of the tests draw 3 kW.
const fn shows(watts: i64, works: u32, all: u32) -> Shows {
    Shows {
        watts: Some(watts),
        is_mute: false,
        is_believed: true,
        works,
        answers: 0,
        all,
        awaited: 0,
    }
}

/// `poi` above `a` and `b`, looked at once a second.
struct Site {
    feeds: Feeds,
    blackouts: Blackouts,
    secs: i64,
    origin: Instant,
    /// When all machines of each feed worked last.
    worked: [Option<Instant>; 3],
    /// Whether nobody is heard who knows the machines that seem to work.
    is_unheard: bool,
}

impl Site {
    fn new() -> Self {
        let feeds = vec![
            feed("poi", None, 100_000, 0),
            feed("a", Some("poi"), 60_000, 0),
            feed("b", Some("poi"), 60_000, 0),
        ];
        let feeds = Feeds::new(feeds).expect("every name leads somewhere");
        let blackouts = Blackouts::new(&feeds);
        Self { feeds, blackouts, secs: 0, origin: origin(), worked: [None; 3], is_unheard: false }
    }

    /// One that has seen its machines at work, and its meters, for 100 s.
    fn at_work() -> Self {
        let mut site = Self::new();
        assert_eq!(site.run(100, FULL), []);
        site
    }

    fn now(&self) -> Instant {
        self.origin + Duration::from_secs(u64::try_from(self.secs).expect("time runs forward"))
    }

    fn number(&self, place: usize) -> FeedNumber {
        self.feeds.numbers().nth(place).expect("there are three")
    }

    /// Each second up to `to` shows the same. Returns the changes, as second, feed and word.
    fn run(&mut self, to: i64, shown: [Shows; 3]) -> Vec<(i64, String, FeedSupply)> {
        let mut changes = Vec::new();
        while self.secs < to {
            self.secs += 1;
            let now = self.now();
            for (worked, shows) in self.worked.iter_mut().zip(&shown) {
                if shows.works > 0 && shows.works == shows.all {
                    *worked = Some(now);
                }
            }
            let place = |feed: FeedNumber| {
                self.feeds.numbers().position(|other| other == feed).expect("it is there")
            };
            let seen = PerFeed::each(&self.feeds, |feed| {
                let Shows { watts, is_mute, is_believed, .. } = shown[place(feed)];
                Some(Seen {
                    metered: watts.map(Watts),
                    leased: Watts::ZERO,
                    is_mute,
                    is_believed,
                    band: Watts(3_000),
                })
            });
            let worked = self.worked;
            let count = |froms: &PerFeed<Option<Counting>>| {
                PerFeed::each(&self.feeds, |feed| {
                    let Shows { works, answers, all, awaited, .. } = shown[place(feed)];
                    let since = froms[feed].zip(worked[place(feed)]);
                    let has_worked = since.is_some_and(|(count, worked)| worked >= count.from);
                    let worked = if has_worked { all } else { works };
                    Machines {
                        worked,
                        draws: Watts(i64::from(worked) * 3_000),
                        stopped: worked.saturating_sub(works),
                        gone: worked.saturating_sub(works + answers),
                        awaited,
                        unheard: if self.is_unheard { works } else { 0 },
                        shown: works + answers,
                    }
                })
            };
            let wall = at(self.secs);
            let feeds = &self.feeds;
            for change in self.blackouts.look(feeds, &seen, count, SETTLE, (wall, now)) {
                changes.push((self.secs, change.feed.to_string(), change.to));
            }
        }
        changes
    }

    fn supply(&self, place: usize) -> FeedSupply {
        self.blackouts.supply(&self.feeds, self.number(place))
    }

    fn has_fallen(&self, place: usize) -> bool {
        self.blackouts.has_fallen(self.number(place))
    }
}

const FULL: [Shows; 3] = [shows(90_000, 30, 30), shows(50_000, 16, 16), shows(40_000, 14, 14)];
/// `a` is dark.
const DARK: [Shows; 3] = [shows(40_000, 14, 30), shows(1_000, 0, 16), FULL[2]];

fn dead(secs: i64) -> [(i64, String, FeedSupply); 1] {
    [(secs, "a".into(), FeedSupply::Dead)]
}

#[test]
fn a_feed_is_dead_when_its_meter_falls_and_its_machines_are_gone() {
    let mut site = Site::at_work();
    assert_eq!(site.run(110, DARK), dead(101));
    assert_eq!(site.supply(0), FeedSupply::Live, "what is above it goes on");
    assert_eq!(site.supply(2), FeedSupply::Live);
    // It is not forgotten while nothing comes back.
    assert_eq!(site.run(5_000, DARK), []);
    // What it drew is missing above it, and comes back with the power.
    let missing = site.blackouts.missing(&site.feeds, |_| Watts(1_000));
    assert_eq!(missing[site.number(0)], Watts(49_000));
    assert_eq!((missing[site.number(1)], missing[site.number(2)]), (Watts::ZERO, Watts::ZERO));
}

#[test]
fn a_dead_feed_takes_those_below_it_with_it_and_is_the_one_that_is_told() {
    let mut site = Site::at_work();
    let dark = [shows(0, 0, 30), shows(0, 0, 16), shows(0, 0, 14)];
    let changes = site.run(101, dark);
    assert_eq!(changes.first(), Some(&(101, "poi".into(), FeedSupply::Dead)));
    for place in 0..3 {
        assert_eq!(site.supply(place), FeedSupply::Dead);
        let cause = site.blackouts.cause(&site.feeds, site.number(place));
        assert_eq!(cause, Some(site.number(0)));
    }
    // The power is back at the top, and a breaker keeps `a` dark.
    let changes = site.run(102, [shows(40_000, 0, 30), shows(0, 0, 16), shows(38_000, 0, 14)]);
    assert_eq!(changes.first(), Some(&(102, "poi".into(), FeedSupply::Reclosing)));
    assert_eq!((site.supply(1), site.supply(2)), (FeedSupply::Dead, FeedSupply::Reclosing));
}

#[test]
fn a_feed_above_one_that_has_power_is_not_dead() {
    // Nearly all that `poi` carries is at `a`.
    let full = [shows(52_000, 16, 17), FULL[1], shows(2_000, 1, 1)];
    let full = [Shows { works: 17, ..full[0] }, full[1], full[2]];
    let mut site = Site::new();
    assert_eq!(site.run(100, full), []);
    let dark = [shows(2_000, 1, 17), shows(0, 0, 16), full[2]];
    assert_eq!(site.run(400, dark), dead(101));
    assert_eq!(site.supply(0), FeedSupply::Live);
    // A meter that is not believed shows no power.
    let mut site = Site::new();
    site.run(100, full);
    let wrong = Shows { is_believed: false, ..full[2] };
    let changes = site.run(110, [shows(0, 1, 17), dark[1], wrong]);
    assert_eq!(changes.first(), Some(&(101, "poi".into(), FeedSupply::Dead)));
}

#[test]
fn a_feed_whose_fall_is_that_of_a_feed_below_it_is_not_dead_while_it_shows_its_own_load() {
    // All machines and nearly all that `poi` carries are at `a`; `poi` has a house of 1 kW.
    let full = [shows(51_000, 16, 16), FULL[1], shows(0, 0, 0)];
    let mut site = Site::new();
    site.run(100, full);
    let dark = [shows(1_000, 0, 16), shows(0, 0, 16), full[2]];
    assert_eq!(site.run(400, dark), dead(101));
    let mut site = Site::new();
    site.run(100, full);
    let changes = site.run(101, [shows(0, 0, 16), shows(0, 0, 16), full[2]]);
    assert_eq!(changes.first(), Some(&(101, "poi".into(), FeedSupply::Dead)));
}

#[test]
fn sessions_that_are_cut_while_the_meter_shows_their_power_are_no_blackout() {
    let mut site = Site::at_work();
    let cut = [shows(90_000, 14, 30), shows(50_000, 0, 16), FULL[2]];
    assert_eq!(site.run(400, cut), []);
    assert!(!site.has_fallen(1));
}

#[test]
fn a_meter_that_is_off_by_a_thousand_over_working_machines_is_no_blackout() {
    let mut site = Site::at_work();
    let wrong = [FULL[0], shows(50, 16, 16), FULL[2]];
    assert_eq!(site.run(110, wrong), []);
    assert!(site.has_fallen(1), "it may be dead");
    let number = site.number(1);
    assert!(!site.blackouts.may_be_dead(number), "its machines work: the meter is judged");
    assert_eq!(site.run(400, wrong), []);
    assert!(!site.has_fallen(1), "not for longer than two minutes");
}

#[test]
fn machines_that_answer_have_power() {
    let mut site = Site::at_work();
    let idle = Shows { answers: 16, ..shows(1_000, 0, 16) };
    assert_eq!(site.run(110, [shows(41_000, 14, 30), idle, FULL[2]]), []);
    assert!(site.blackouts.may_be_dead(site.number(1)), "its machines have stopped");
    assert_eq!(site.run(400, [shows(41_000, 14, 30), idle, FULL[2]]), []);
}

#[test]
fn machines_that_are_to_be_off_do_not_count_as_gone() {
    // A lease takes fourteen of sixteen machines of `a`. The two that are left draw more than 5 % of
    // their own power, so that the feed is not dead when these two lose their sessions.
    let mut site = Site::at_work();
    let shed = [shows(44_000, 16, 16), Shows { answers: 14, ..shows(2_000, 0, 2) }, FULL[2]];
    let shed = [shed[0], Shows { answers: 0, ..shed[1] }, shed[2]];
    assert_eq!(site.run(400, shed), []);
    // All machines are to be off: nothing shows that power is gone.
    let mut site = Site::at_work();
    let off = [shows(41_000, 14, 14), shows(0, 0, 0), FULL[2]];
    assert_eq!(site.run(400, off), []);
}

#[test]
fn a_few_machines_are_not_enough() {
    let few = [shows(50_000, 17, 17), shows(10_000, 3, 3), FULL[2]];
    let mut site = Site::new();
    site.run(100, few);
    assert_eq!(site.run(200, [shows(40_000, 15, 17), shows(0, 1, 3), FULL[2]]), []);
    let mut site = Site::new();
    site.run(100, few);
    assert_eq!(site.run(200, [shows(40_000, 14, 17), shows(0, 0, 3), FULL[2]]), dead(101));
    // Twelve of sixteen are 75 %.
    let mut site = Site::at_work();
    assert_eq!(site.run(200, [shows(40_000, 18, 30), shows(0, 4, 16), FULL[2]]), []);
}

#[test]
fn machines_that_are_gone_long_after_the_meter_fell_are_gone_for_another_reason() {
    let mut site = Site::at_work();
    let fallen = [shows(40_000, 30, 30), shows(1_000, 16, 16), FULL[2]];
    site.run(105, fallen);
    assert!(site.has_fallen(1), "it may be dead");
    assert_eq!(site.run(230, fallen), []);
    assert!(!site.has_fallen(1));
    assert_eq!(site.run(600, DARK), []);
}

#[test]
fn a_meter_that_falls_silent_with_its_machines_is_without_power() {
    let silent = Shows { watts: None, is_mute: true, ..shows(0, 0, 16) };
    let mut site = Site::at_work();
    assert_eq!(site.run(110, [DARK[0], silent, FULL[2]]), dead(101));
    // Nobody is heard who reads it, or a clock is wrong: the meter itself is not silent.
    let mut site = Site::at_work();
    let unheard = Shows { is_mute: false, ..silent };
    assert_eq!(site.run(400, [DARK[0], unheard, FULL[2]]), []);
    // The machines work on.
    let mut site = Site::at_work();
    let mute = Shows { works: 16, ..silent };
    assert_eq!(site.run(400, [FULL[0], mute, FULL[2]]), []);
}

#[test]
fn at_a_start_no_feed_is_dead() {
    // The switchboard starts while `a` is dark: no machine was seen at work, no reading is known.
    let mut site = Site::new();
    assert_eq!(site.run(400, DARK), []);
    // It has known the readings for less than a minute.
    let mut site = Site::new();
    site.run(50, FULL);
    assert_eq!(site.run(400, DARK), []);
    // It has never believed the meter.
    let mut site = Site::new();
    let unbelieved = Shows { is_believed: false, ..FULL[1] };
    site.run(100, [FULL[0], unbelieved, FULL[2]]);
    assert_eq!(site.run(400, DARK), []);
}

#[test]
fn what_counts_as_usual_is_the_mean_of_the_last_minute_of_believed_readings() {
    // For one second, it showed fifty times as much.
    let mut site = Site::at_work();
    site.run(101, [FULL[0], shows(2_500_000, 16, 16), FULL[2]]);
    site.run(102, FULL);
    assert!(!site.has_fallen(1), "50 kW are less than 5 % of the most, and more than of the mean");
}

#[test]
fn a_feed_recloses_until_its_reading_stays_within_the_band() {
    let mut site = Site::at_work();
    site.run(600, DARK);
    // House and tenants are back at once, machines one after the other.
    let house = [shows(44_000, 14, 30), shows(4_000, 0, 16), FULL[2]];
    assert_eq!(site.run(601, house), [(601, "a".into(), FeedSupply::Reclosing)]);
    assert_eq!(site.run(650, house), []);
    let (since, rest) =
        site.blackouts.loss(site.number(1), SETTLE, site.now()).expect("it settles");
    assert_eq!((since, rest), (at(101), Some(SETTLE - Duration::from_secs(49))));
    let some = Shows { answers: 7, ..shows(20_000, 0, 16) };
    let some = [shows(60_000, 14, 30), some, FULL[2]];
    assert_eq!(site.run(700, some), [], "it has risen in the last minute");
    // Of the first half of the minute, five seconds show 16 kW less: that is within the band of 3 kW.
    assert_eq!(site.run(800, some), [(706, "a".into(), FeedSupply::Live)]);
    assert_eq!(site.blackouts.loss(site.number(1), SETTLE, site.now()), None);
}

#[test]
fn machines_that_return_show_that_power_is_back_before_the_meter_does() {
    let mut site = Site::at_work();
    let silent = Shows { watts: None, is_mute: true, ..shows(0, 0, 16) };
    let dark = [DARK[0], silent, FULL[2]];
    assert_eq!(site.run(600, dark), dead(101));
    let three = [DARK[0], Shows { answers: 3, ..silent }, FULL[2]];
    assert_eq!(site.run(700, three), [], "three of sixteen may be wired elsewhere");
    let four = [DARK[0], Shows { answers: 4, ..silent }, FULL[2]];
    assert_eq!(site.run(705, four), [(701, "a".into(), FeedSupply::Reclosing)]);
    // Nothing is steady that is not read.
    assert_eq!(site.run(900, four), []);
    let read = [DARK[0], Shows { answers: 16, ..shows(9_000, 0, 16) }, FULL[2]];
    assert_eq!(site.run(1_000, read), [(961, "a".into(), FeedSupply::Live)]);
}

#[test]
fn power_that_is_lost_again_begins_anew() {
    let mut site = Site::at_work();
    site.run(600, DARK);
    let back = [shows(55_000, 14, 30), Shows { answers: 10, ..shows(15_000, 0, 16) }, FULL[2]];
    site.run(650, back);
    assert_eq!(site.supply(1), FeedSupply::Reclosing);
    assert_eq!(site.run(651, DARK), dead(651));
    let (since, _) = site.blackouts.loss(site.number(1), SETTLE, site.now()).expect("it is dead");
    assert_eq!(since, at(101));
}

#[test]
fn a_reading_near_the_limit_does_not_change_the_supply_each_time() {
    let mut site = Site::at_work();
    site.run(600, DARK);
    let mut changes = Vec::new();
    for secs in (601..660).step_by(2) {
        changes.extend(site.run(secs, [DARK[0], shows(2_600, 0, 16), FULL[2]]));
        changes.extend(site.run(secs + 1, [DARK[0], shows(2_400, 0, 16), FULL[2]]));
    }
    assert_eq!(changes, [(601, "a".into(), FeedSupply::Reclosing)]);
}

#[test]
fn power_that_is_back_before_devices_are_found_silent_settles_too() {
    let mut site = Site::at_work();
    // Devices are read every half minute: they seem to answer.
    let dark = [DARK[0], Shows { answers: 16, ..shows(0, 0, 16) }, FULL[2]];
    assert_eq!(site.run(120, dark), []);
    let back = [shows(44_000, 14, 30), Shows { answers: 16, ..shows(4_000, 0, 16) }, FULL[2]];
    assert_eq!(site.run(121, back), [(121, "a".into(), FeedSupply::Reclosing)]);
    // One sample of nothing over working machines settles nothing.
    let mut site = Site::at_work();
    site.run(101, [FULL[0], shows(0, 16, 16), FULL[2]]);
    assert_eq!(site.run(400, FULL), []);
    assert_eq!(site.run(401, DARK), dead(401), "and what it showed before is known");
}

/// At a large site it takes agents long to find every device silent.
#[test]
fn devices_that_were_not_read_since_the_fall_keep_no_feed_from_being_dead() {
    let mut site = Site::at_work();
    let dark = [DARK[0], Shows { awaited: 14, ..DARK[1] }, DARK[2]];
    assert_eq!(site.run(200, dark), dead(131), "after the time in which one of them would answer");
    // Somebody else puts all of them to sleep: within that time, they answer.
    let mut site = Site::at_work();
    assert_eq!(site.run(125, dark), []);
    let asleep = [DARK[0], Shows { answers: 14, ..DARK[1] }, DARK[2]];
    assert_eq!(site.run(400, asleep), []);
}

#[test]
fn a_feed_without_a_meter_is_not_dead_by_itself() {
    let mut below = feed("a", Some("poi"), 60_000, 0);
    below.meter = None;
    let feeds = Feeds::new(vec![feed("poi", None, 100_000, 0), below]).expect("one is the root");
    let mut blackouts = Blackouts::new(&feeds);
    let root = feeds.numbers().next().expect("there are two");
    let seen = PerFeed::each(&feeds, |feed| {
        let metered = Some(Watts(50_000));
        let poi = Seen { metered, is_believed: true, ..Seen::default() };
        (feed == root).then_some(poi)
    });
    for secs in 0..200 {
        let gone = Machines { worked: 16, stopped: 16, gone: 16, ..Machines::default() };
        let count = |_: &PerFeed<Option<Counting>>| PerFeed::all(&feeds, gone);
        let now = origin() + Duration::from_secs(secs);
        assert_eq!(blackouts.look(&feeds, &seen, count, SETTLE, (at(0), now)), []);
    }
    // A record of a time in which it had one does not keep it dead for ever.
    let change = SupplyChange {
        feed: "a".into(),
        to: FeedSupply::Dead,
        since: at(-500),
        before: Watts(50_000),
        own_before: Watts(50_000),
        machines: 16,
        with: None,
    };
    blackouts.restore(&feeds, [&change], origin());
    let a = feeds.numbers().nth(1).expect("there are two");
    assert_eq!(blackouts.supply(&feeds, a), FeedSupply::Live);
}

#[test]
fn a_loss_that_is_on_record_goes_on_after_a_restart() {
    let change = |feed: &str, to| SupplyChange {
        feed: feed.into(),
        to,
        since: at(-500),
        before: Watts(50_000),
        own_before: Watts(50_000),
        machines: 16,
        with: None,
    };
    let mut site = Site::new();
    let changes = [change("a", FeedSupply::Dead), change("b", FeedSupply::Reclosing)];
    site.blackouts.restore(&site.feeds, &changes, site.origin);
    assert_eq!((site.supply(1), site.supply(2)), (FeedSupply::Dead, FeedSupply::Reclosing));
    let dark = [DARK[0], shows(0, 0, 16), shows(40_000, 0, 14)];
    assert_eq!(site.run(59, dark), []);
    assert_eq!(site.run(300, dark), [(61, "b".into(), FeedSupply::Live)], "it settles anew");
    let back = [shows(60_000, 14, 30), Shows { answers: 16, ..shows(20_000, 0, 16) }, dark[2]];
    assert_eq!(site.run(301, back), [(301, "a".into(), FeedSupply::Reclosing)]);
    assert_eq!(site.run(400, back), [(361, "a".into(), FeedSupply::Live)]);
}

/// `a` has its power back at 601 s, and shows `watts` from then on. Returns when it is live.
fn live_at(watts: impl Fn(i64) -> i64) -> Option<i64> {
    let mut site = Site::at_work();
    site.run(600, DARK);
    while site.secs < 1_500 {
        let secs = site.secs + 1;
        let back = shows(watts(secs), 0, 16);
        for (at, _, to) in site.run(secs, [shows(90_000, 14, 30), back, FULL[2]]) {
            if to == FeedSupply::Live {
                return Some(at);
            }
        }
    }
    None
}

#[test]
fn a_reading_with_noise_is_steady() {
    // 3 % of 90 kW up or down, which is nearly twice the band between the lowest and the highest.
    let noise = |secs: i64| 90_000 + secs * 7_919 % 5_401 - 2_700;
    let at = live_at(noise).expect("it settles");
    assert!((661..=700).contains(&at), "{at}");
}

#[test]
fn a_compressor_that_starts_and_stops_does_not_keep_a_feed_reclosing() {
    // 20 kW for 45 s, then nothing for 45 s.
    let at = live_at(|secs| 10_000 + if secs % 90 < 45 { 20_000 } else { 0 });
    assert!(at.is_some_and(|at| (661..=760).contains(&at)), "{at:?}");
}

#[test]
fn a_feed_that_is_never_steady_recloses_for_ten_times_the_time() {
    assert_eq!(live_at(|secs| (secs - 600) * 200 + 5_000), Some(1_201));
}

#[test]
fn a_feed_whose_machines_have_all_been_put_to_sleep_fell_by_our_own_doing() {
    let mut site = Site::at_work();
    let asleep = Shows { answers: 0, ..shows(500, 0, 0) };
    let off = [shows(40_500, 14, 14), asleep, FULL[2]];
    assert_eq!(site.run(102, off), []);
    assert!(!site.has_fallen(1));
    let missing = site.blackouts.missing(&site.feeds, |_| Watts(500));
    assert_eq!(missing[site.number(0)], Watts::ZERO);
    for secs in 103..300 {
        assert_eq!(site.run(secs, off), []);
        assert!(!site.has_fallen(1), "at {secs}");
    }
}

#[test]
fn nothing_is_settled_for_ten_minutes_while_nobody_is_heard_who_knows_the_machines() {
    let unheard = || {
        let mut site = Site::at_work();
        site.is_unheard = true;
        let seems = [shows(40_000, 30, 30), shows(500, 16, 16), FULL[2]];
        assert_eq!(site.run(600, seems), []);
        (site, seems)
    };
    // The proxy lost its power with its machines, is heard again, and knows that they are gone.
    let (mut site, _) = unheard();
    assert!(site.has_fallen(1), "it may be dead");
    site.is_unheard = false;
    assert_eq!(site.run(610, DARK), dead(601));
    // It is never heard again.
    let (mut site, seems) = unheard();
    assert_eq!(site.run(710, seems), []);
    assert!(!site.has_fallen(1));
}
