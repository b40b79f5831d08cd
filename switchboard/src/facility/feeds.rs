//! The facility's feeds by number, so that sums over them need no name lookups, and how many
//! machines count below them. [`crate::admit`] and [`crate::plan`] decide which watts are
//! sheddable, committed or chosen.

use std::collections::BTreeMap;

use directive::{FeedId, Watts};

use super::{Feed, Group, Policy, Population};

/// Feeds by number, in the policy's order: parents before children.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    pub(crate) policy: &'a Policy,
    index: BTreeMap<&'a str, usize>,
    paths: Vec<Vec<usize>>,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(policy: &'a Policy) -> Self {
        let index: BTreeMap<&str, usize> =
            policy.feeds.iter().enumerate().map(|(i, feed)| (feed.id.as_str(), i)).collect();
        let mut paths: Vec<Vec<usize>> = Vec::with_capacity(policy.feeds.len());
        for (i, feed) in policy.feeds.iter().enumerate() {
            let parent =
                feed.parent.as_ref().and_then(|parent| index.get(parent.as_str())).copied();
            // Parents come first, so that the path above is known; one that does not is treated as
            // a root.
            let above = parent.and_then(|parent| paths.get(parent)).cloned().unwrap_or_default();
            paths.push(std::iter::once(i).chain(above).collect());
        }
        Self { policy, index, paths }
    }

    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    pub(crate) fn of(&self, feed: &FeedId) -> Option<usize> {
        self.index.get(feed.as_str()).copied()
    }

    pub(crate) fn feed(&self, number: usize) -> &'a Feed {
        &self.policy.feeds[number]
    }

    /// The feed and everything above it, bottom-up. Empty for a feed that does not exist.
    pub(crate) fn path(&self, feed: &FeedId) -> &[usize] {
        self.of(feed).map_or(&[], |number| &self.paths[number])
    }

    /// The depth of this feed in the tree.
    pub(crate) fn depth(&self, number: usize) -> usize {
        self.paths[number].len()
    }

    /// Adds `watts`, drawn at `feed`, to every feed that carries it.
    pub(crate) fn add(&self, sums: &mut [Watts], feed: &FeedId, watts: Watts) {
        for &node in self.path(feed) {
            sums[node] += watts;
        }
    }

    /// The house load at each feed and below it.
    pub(crate) fn house(&self) -> Vec<Watts> {
        let mut sums = vec![Watts::ZERO; self.len()];
        for feed in &self.policy.feeds {
            self.add(&mut sums, &feed.id, feed.house);
        }
        sums
    }

    /// The load counted for sessions that no group declares.
    pub(crate) fn unassigned(&self, population: &Population) -> Vec<Watts> {
        let mut sums = vec![Watts::ZERO; self.len()];
        self.add(
            &mut sums,
            &self.policy.unassigned_feed,
            times(self.policy.unassigned, population.unassigned),
        );
        sums
    }

    /// Sums `of(group)` per machine over the groups at and below each feed.
    pub(crate) fn machines(
        &self,
        population: &Population,
        of: impl Fn(&Group) -> Watts,
    ) -> Vec<Watts> {
        let mut sums = vec![Watts::ZERO; self.len()];
        for group in &self.policy.groups {
            self.add(&mut sums, &group.feed, times(of(group), population.machines(group)));
        }
        sums
    }
}

/// `count` × `watts`, saturating.
pub(crate) fn times(watts: Watts, count: u32) -> Watts {
    Watts(watts.0.saturating_mul(i64::from(count)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_is_drawn_below_counts_above() {
        let policy = fixture::policy();
        let tree = Tree::new(&policy);
        let (root, a, b) = (
            tree.of(&"root".into()).unwrap(),
            tree.of(&"a".into()).unwrap(),
            tree.of(&"b".into()).unwrap(),
        );
        let house = tree.house();
        assert_eq!((house[root], house[a], house[b]), (Watts(5000), Watts(1000), Watts(0)));
        let mut seen = Population { groups: BTreeMap::new(), unassigned: 2 };
        seen.groups.insert("old".into(), 12);
        let full = tree.machines(&seen, |group| group.watts);
        assert_eq!(
            (full[a], full[b], full[root]),
            (Watts(16 * 3000), Watts(13 * 3000), Watts(29 * 3000))
        );
        assert_eq!(tree.unassigned(&seen)[root], Watts(7000));
        assert_eq!(tree.unassigned(&seen)[a], Watts::ZERO);
    }
}
