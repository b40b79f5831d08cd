//! The feeds as one tree. Each feed has a number, parents before children, and the way from each feed
//! to the root is computed once. Names are looked up where a request or a file names a feed; sums and
//! walks use numbers.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use directive::{FeedId, Watts};

use super::feed::Feed;

/// The number of a feed: its index in the [`Feeds`] it came from, valid only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedNumber(u32);

impl FeedNumber {
    fn at(place: usize) -> Self {
        Self(u32::try_from(place).expect("a policy file has fewer than 2^32 feeds"))
    }

    fn place(self) -> usize {
        self.0 as usize
    }
}

/// The tree of feeds. It does not change after it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Feeds {
    feeds: Vec<Feed>,
    numbers: HashMap<FeedId, FeedNumber>,
    /// Each feed and everything above it, bottom-up.
    paths: Vec<Box<[FeedNumber]>>,
    /// For a walk that visits each feed and then everything below it: at which visit each feed is
    /// reached, and the number of feeds in its subtree. So a subtree is a range of visits.
    subtrees: Vec<(usize, usize)>,
}

impl Feeds {
    /// Numbers `feeds` in their order. `None` if two have the same name, or if a feed comes before its
    /// parent.
    #[must_use]
    pub fn new(feeds: Vec<Feed>) -> Option<Self> {
        let mut numbers = HashMap::with_capacity(feeds.len());
        let mut paths: Vec<Box<[FeedNumber]>> = Vec::with_capacity(feeds.len());
        for (place, feed) in feeds.iter().enumerate() {
            let above = match &feed.parent {
                Some(parent) => {
                    let parent: &FeedNumber = numbers.get(parent)?;
                    &*paths[parent.place()]
                }
                None => &[],
            };
            let number = FeedNumber::at(place);
            let path = std::iter::once(number).chain(above.iter().copied()).collect();
            paths.push(path);
            if numbers.insert(feed.id.clone(), number).is_some() {
                return None;
            }
        }
        let subtrees = subtrees(&paths);
        Some(Self { feeds, numbers, paths, subtrees })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.feeds.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.feeds.is_empty()
    }

    /// All feeds, parents before children.
    #[must_use]
    pub fn as_slice(&self) -> &[Feed] {
        &self.feeds
    }

    /// All feeds, parents before children.
    pub fn iter(&self) -> std::slice::Iter<'_, Feed> {
        self.feeds.iter()
    }

    /// All numbers, parents before children.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = FeedNumber> + use<> {
        (0..self.feeds.len()).map(FeedNumber::at)
    }

    /// The number of the feed of that name.
    #[must_use]
    pub fn number(&self, name: &FeedId) -> Option<FeedNumber> {
        self.numbers.get(name).copied()
    }

    /// The feed and everything above it, bottom-up.
    #[must_use]
    pub fn path(&self, feed: FeedNumber) -> &[FeedNumber] {
        &self.paths[feed.place()]
    }

    /// The path of the feed of that name. It is empty for a feed that the policy no longer has, which
    /// an old lease may name.
    #[must_use]
    pub fn path_of(&self, name: &FeedId) -> &[FeedNumber] {
        self.number(name).map_or(&[], |number| self.path(number))
    }

    /// Whether `feed` is `above` or hangs below it.
    #[must_use]
    pub fn is_below(&self, feed: FeedNumber, above: FeedNumber) -> bool {
        let (first, count) = self.subtrees[above.place()];
        (first..first + count).contains(&self.subtrees[feed.place()].0)
    }

    /// Whether the feed of that name is `above` or hangs below it. `false` for a feed that the policy
    /// no longer has, which an old lease may name.
    #[must_use]
    pub fn carries(&self, above: FeedNumber, name: &FeedId) -> bool {
        self.number(name).is_some_and(|feed| self.is_below(feed, above))
    }

    /// All feeds, the deepest first and the root last.
    #[must_use]
    pub fn bottom_up(&self) -> Vec<FeedNumber> {
        let mut order: Vec<FeedNumber> = self.numbers().collect();
        order.sort_by_key(|feed| std::cmp::Reverse(self.path(*feed).len()));
        order
    }

    /// Adds `watts`, drawn at `feed`, to every feed that carries it.
    pub fn add(&self, sums: &mut PerFeed<Watts>, feed: FeedNumber, watts: Watts) {
        for &above in self.path(feed) {
            sums[above] += watts;
        }
    }
}

impl Index<FeedNumber> for Feeds {
    type Output = Feed;

    fn index(&self, feed: FeedNumber) -> &Feed {
        &self.feeds[feed.place()]
    }
}

impl<'a> IntoIterator for &'a Feeds {
    type Item = &'a Feed;
    type IntoIter = std::slice::Iter<'a, Feed>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One value for each feed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerFeed<T>(Vec<T>);

impl<T: Clone> PerFeed<T> {
    /// `value` for every one of `feeds`.
    #[must_use]
    pub fn all(feeds: &Feeds, value: T) -> Self {
        Self(vec![value; feeds.len()])
    }
}

impl<T> PerFeed<T> {
    /// What `of` gives for every one of `feeds`.
    #[must_use]
    pub fn each(feeds: &Feeds, of: impl FnMut(FeedNumber) -> T) -> Self {
        Self(feeds.numbers().map(of).collect())
    }

    /// The value for `feed`; `None` if there are no values.
    #[must_use]
    pub fn get(&self, feed: FeedNumber) -> Option<&T> {
        self.0.get(feed.place())
    }

    /// The values, in the order of the feeds.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<T> Index<FeedNumber> for PerFeed<T> {
    type Output = T;

    fn index(&self, feed: FeedNumber) -> &T {
        &self.0[feed.place()]
    }
}

impl<T> IndexMut<FeedNumber> for PerFeed<T> {
    fn index_mut(&mut self, feed: FeedNumber) -> &mut T {
        &mut self.0[feed.place()]
    }
}

/// Computes [`Feeds::subtrees`].
fn subtrees(paths: &[Box<[FeedNumber]>]) -> Vec<(usize, usize)> {
    let parent = |path: &[FeedNumber]| path.get(1).map(|parent| parent.place());
    let mut counts = vec![1; paths.len()];
    for (place, path) in paths.iter().enumerate().rev() {
        if let Some(parent) = parent(path) {
            counts[parent] += counts[place];
        }
    }
    let mut firsts = vec![0; paths.len()];
    // The visit at which the next child of each feed begins, and the next root.
    let (mut next, mut next_root) = (vec![0; paths.len()], 0);
    for (place, path) in paths.iter().enumerate() {
        let from = match parent(path) {
            Some(parent) => &mut next[parent],
            None => &mut next_root,
        };
        firsts[place] = *from;
        *from += counts[place];
        next[place] = firsts[place] + 1;
    }
    firsts.into_iter().zip(counts).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    fn feed(name: usize, parent: Option<usize>) -> Feed {
        let parent = parent.map(|parent| parent.to_string());
        fixture::feed(&name.to_string(), parent.as_deref(), 1, 0)
    }

    #[test]
    fn a_parent_that_comes_later_or_is_missing_makes_no_tree() {
        assert!(Feeds::new(vec![feed(1, Some(0)), feed(0, None)]).is_none());
        assert!(Feeds::new(vec![feed(0, Some(7))]).is_none());
        assert!(Feeds::new(vec![feed(0, None), feed(0, None)]).is_none());
    }

    proptest! {
        /// In trees of any shape, a feed is below `above` exactly when `above` is on its path to
        /// the root.
        #[test]
        fn below_is_what_has_the_feed_on_its_path(picks in prop::collection::vec(any::<prop::sample::Index>(), 0..40)) {
            let mut list = vec![feed(0, None)];
            for (at, pick) in picks.iter().enumerate() {
                list.push(feed(at + 1, Some(pick.index(at + 1))));
            }
            let feeds = Feeds::new(list).expect("parents come first");
            for lower in feeds.numbers() {
                for upper in feeds.numbers() {
                    let on_path = feeds.path(lower).contains(&upper);
                    prop_assert_eq!(feeds.is_below(lower, upper), on_path);
                }
            }
            let order = feeds.bottom_up();
            prop_assert_eq!(order.last().map(|root| feeds[*root].id.as_str()), Some("0"));
        }
    }
}
