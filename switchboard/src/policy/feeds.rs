//! `[feed.NAME]`: reads the electrical nodes, checks that they form one tree, and checks their figures.

use std::collections::{BTreeMap, BTreeSet};

use daemon::settings::{Document, Section, Spot};
use directive::{FeedId, MeterId, Watts};

use super::limits;
use super::names::reference;
use super::power::Kilowatts as _;
use crate::facility::Feed;

/// A feed as read, with the places in the file that checks across feeds report.
struct Read {
    feed: Feed,
    parent_spot: Spot,
    house_spot: Spot,
    constraint_spot: Spot,
}

/// Reads all feeds. Returns them with parents before children.
pub(super) fn read(
    document: &Document,
    root: &Section<'_>,
    sections: Vec<(String, Section<'_>)>,
    feed_names: &[String],
) -> Option<Vec<Feed>> {
    if sections.is_empty() {
        // Anything in `feed` that is no section was reported already.
        if root.is_empty("feed") {
            root.mistake("feed", "no feeds: write a [feed.NAME] section for each electrical node");
        }
        return None;
    }
    let count = sections.len();
    let read: Vec<Read> = sections
        .into_iter()
        .filter_map(|(name, section)| read_one(document, &name, section, feed_names))
        .collect();
    if read.len() < count {
        return None;
    }
    let order = order(document, &read)?;
    check_houses(document, &read, &order);
    let mut feeds: Vec<Option<Feed>> = read.into_iter().map(|read| Some(read.feed)).collect();
    order.into_iter().map(|index| feeds[index].take()).collect()
}

/// The feeds without a default constraint, with the places in the file where it is missing.
pub(super) fn without_constraint(sections: &[(String, Section<'_>)]) -> BTreeMap<String, Spot> {
    let lacking = sections.iter().filter(|(_, section)| !section.has("default_constraint_kw"));
    lacking.map(|(name, section)| (name.clone(), section.spot("default_constraint_kw"))).collect()
}

/// Warns if two feeds name the same meter.
pub(super) fn check_meters(document: &Document, sections: &[(String, Section<'_>)]) {
    let mut former: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, section) in sections {
        let Some(meter) = section.peek_str("meter") else { continue };
        if let Some(other) = former.insert(meter, name) {
            let message = format!(
                "[meter.{}] measures [feed.{other}] already: it can hardly measure both",
                meter.escape_debug()
            );
            document.warn(&section.spot("meter"), message, None);
        }
    }
}

fn read_one(
    document: &Document,
    name: &str,
    section: Section<'_>,
    feed_names: &[String],
) -> Option<Read> {
    let has_parent = section.has("parent");
    let parent = reference(document, &section, "parent", "feed", feed_names);
    let limit = limits::read(&section, IMPLAUSIBLE);
    let continuous_factor = section.float_or("continuous_factor", 0.0..=1.0, CONTINUOUS_FACTOR);
    let reserve = section.kw_or("reserve_kw", Watts::ZERO);
    let house = section.kw_or("house_kw", Watts::ZERO);
    let default_constraint = section.optional_kw("default_constraint_kw");
    let guard_band = section.optional_kw("guard_band_kw");
    let down_per_min = section.optional_kw_above_zero("down_kw_per_min");
    let up_per_min = section.optional_kw_above_zero("up_kw_per_min");
    let has_meter = section.has("meter");
    let meter = section.optional_name("meter");
    let [parent_spot, house_spot, constraint_spot] =
        ["parent", "house_kw", "default_constraint_kw"].map(|key| section.spot(key));
    let limit_spot = section.spot("limit_kw");
    let band_spot = section.spot("guard_band_kw");
    section.finish();

    let feed = Feed {
        id: FeedId::from(name),
        parent: parent.map(FeedId::from),
        limit: limit?,
        continuous_factor,
        reserve,
        house,
        default_constraint,
        meter: meter.map(MeterId::from),
        guard_band,
        down_per_min,
        up_per_min,
    };
    // The highest limit must leave something. A lower one that does not is an outage: what the feed
    // cannot carry then is short.
    let (limit, usable) = (feed.limit.highest(), feed.most_usable());
    if let Some(band) = feed.guard_band.filter(|band| *band >= usable) {
        let message = format!("{band} leaves nothing of the usable {usable}");
        document.report(&band_spot, message, None);
    }
    if feed.house + feed.reserve > limit {
        let message = format!("house {house} + reserve {reserve} is more than the limit {limit}");
        document.report(&limit_spot, message, None);
    } else if usable <= Watts::ZERO {
        let message = format!(
            "nothing is usable: {limit} x {continuous_factor} - reserve {reserve} = {usable}"
        );
        document.report(&limit_spot, message, None);
    }
    // A name that is not defined was reported already. Without it the tree cannot be checked.
    if has_parent != feed.parent.is_some() || has_meter != feed.meter.is_some() {
        return None;
    }
    Some(Read { feed, parent_spot, house_spot, constraint_spot })
}

/// Orders the feeds from the root down; feeds of one depth keep the order of the file.
fn order(document: &Document, read: &[Read]) -> Option<Vec<usize>> {
    let index: BTreeMap<&FeedId, usize> =
        read.iter().enumerate().map(|(at, read)| (&read.feed.id, at)).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); read.len()];
    let mut roots = Vec::new();
    for (at, one) in read.iter().enumerate() {
        match &one.feed.parent {
            Some(parent) => children[*index.get(parent)?].push(at),
            None => roots.push(at),
        }
    }
    let mut order = roots.clone();
    let mut next = 0;
    while let Some(at) = order.get(next) {
        order.extend(&children[*at]);
        next += 1;
    }
    let reached: BTreeSet<usize> = order.iter().copied().collect();
    let circles = report_circles(document, read, &index, &reached);
    if let Some((first, more)) = roots.split_first() {
        for other in more {
            let message = format!(
                "a second feed without a parent: [feed.{}] is the root already",
                read[*first].feed.id
            );
            document.report(&read[*other].parent_spot, message, None);
        }
    }
    (roots.len() == 1 && !circles).then_some(order)
}

/// Reports each circle once, at the first of its feeds in the file. Returns whether there is one.
fn report_circles(
    document: &Document,
    read: &[Read],
    index: &BTreeMap<&FeedId, usize>,
    reached: &BTreeSet<usize>,
) -> bool {
    let parent_of =
        |at: usize| read[at].feed.parent.as_ref().and_then(|parent| index.get(parent)).copied();
    let mut seen = reached.clone();
    let mut found = false;
    for start in 0..read.len() {
        let mut path = Vec::new();
        let mut on_path = BTreeSet::new();
        let mut at = Some(start);
        while let Some(here) = at.filter(|here| seen.insert(*here)) {
            path.push(here);
            on_path.insert(here);
            at = parent_of(here);
        }
        let Some(closing) = at.filter(|at| on_path.contains(at)) else { continue };
        let from = path.iter().position(|here| *here == closing).unwrap_or(0);
        let circle = &path[from..];
        let first = circle.iter().copied().min().unwrap_or(closing);
        let turn = circle.iter().position(|here| *here == first).unwrap_or(0);
        let mut shown: Vec<&str> = circle
            .iter()
            .cycle()
            .skip(turn)
            .take(circle.len().min(SHOWN_MAX))
            .map(|at| read[*at].feed.id.as_str())
            .collect();
        shown.push(if circle.len() > SHOWN_MAX { "..." } else { read[first].feed.id.as_str() });
        document.report(
            &read[first].parent_spot,
            format!("the feeds form a circle: {}", shown.join(" -> ")),
            None,
        );
        found = true;
    }
    found
}

/// Checks that the house load at and below each feed fits the feed and its default constraint.
fn check_houses(document: &Document, read: &[Read], order: &[usize]) {
    let index: BTreeMap<&FeedId, usize> =
        read.iter().enumerate().map(|(at, read)| (&read.feed.id, at)).collect();
    // One feed's load is at most 1 TW, so an overflow takes 9 million feeds. It is reported
    // nevertheless, and does not wrap.
    let mut house: Vec<Option<Watts>> = read.iter().map(|read| Some(read.feed.house)).collect();
    for at in order.iter().rev() {
        let Some(parent) = read[*at].feed.parent.as_ref().and_then(|parent| index.get(parent))
        else {
            continue;
        };
        house[*parent] =
            house[*parent].zip(house[*at]).and_then(|(a, b)| a.0.checked_add(b.0)).map(Watts);
    }
    for at in order {
        let Read { feed, house_spot, constraint_spot, .. } = &read[*at];
        let (usable, Some(house)) = (feed.most_usable(), house[*at]) else {
            document.report(
                house_spot,
                "the house load below this feed adds up to no number",
                None,
            );
            continue;
        };
        let is_plausible =
            feed.house + feed.reserve <= feed.limit.highest() && usable > Watts::ZERO;
        if is_plausible && house > usable {
            let message =
                format!("the house load here and below, {house}, is more than the usable {usable}");
            document.report(house_spot, message, None);
            continue;
        }
        // A constraint above what is usable for a while is lowered for that time.
        match feed.default_constraint {
            Some(constraint) if constraint < house => {
                let message =
                    format!("{constraint} is less than the house load here and below, {house}");
                document.report(constraint_spot, message, None);
            }
            Some(constraint) if constraint > usable => {
                let Feed { continuous_factor, reserve, .. } = feed;
                let limit = feed.limit.highest();
                let message = format!(
                    "{constraint} is more than the usable {usable} = {limit} x {continuous_factor} - reserve {reserve}"
                );
                document.report(constraint_spot, message, None);
            }
            _ => {}
        }
    }
}

/// The default: North American codes allow 80 % of a breaker's rating continuously.
const CONTINUOUS_FACTOR: f64 = 0.8;
/// A limit above this exceeds the largest power plants: it was probably written in watts.
const IMPLAUSIBLE: Watts = Watts(25_000_000_000);
/// The maximum number of names of a circle of feeds that a report shows.
const SHOWN_MAX: usize = 8;
