//! A set of places in a cohort, as a row of bits: a cohort may have all machines of a site, and each
//! interval asks for the first few that are not in the set.

#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// Only as long as the last place needs.
    words: Vec<u64>,
    len: usize,
}

impl Places {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, place: u32) {
        let (word, bit) = position(place);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.len += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    pub(super) fn remove(&mut self, place: u32) {
        let (word, bit) = position(place);
        if let Some(word) = self.words.get_mut(word) {
            self.len -= usize::from(*word & bit != 0);
            *word &= !bit;
        }
    }

    /// The places in the set, the first one first.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(number, word)| {
            let from = u32::try_from(number * 64).unwrap_or(u32::MAX);
            let to = if *word == 0 { from } else { from.saturating_add(64) };
            (from..to).filter(move |place| word & position(*place).1 != 0)
        })
    }

    /// The places below `end` that are not in the set, the first one first.
    pub(super) fn absent(&self, end: u32) -> impl Iterator<Item = u32> {
        (0..end).step_by(64).flat_map(move |from| {
            let present = self.words.get(position(from).0).copied().unwrap_or(0);
            let to = if present == u64::MAX { from } else { end.min(from.saturating_add(64)) };
            (from..to).filter(move |place| present & position(*place).1 == 0)
        })
    }
}

/// The word that has the bit of `place`, and the bit.
fn position(place: u32) -> (usize, u64) {
    ((place / 64) as usize, 1 << (place % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::prelude::*;

    use super::*;

    #[test]
    fn the_row_of_bits_has_what_a_set_has() {
        let mut random = StdRng::seed_from_u64(3);
        let (mut places, mut set) = (Places::default(), BTreeSet::new());
        for _ in 0..3000 {
            let place = random.random_range(0..300);
            if random.random_bool(0.6) {
                places.insert(place);
                set.insert(place);
            } else {
                places.remove(place);
                set.remove(&place);
            }
            assert_eq!(places.len(), set.len());
            let end = random.random_range(0..400);
            let absent: Vec<u32> = (0..end).filter(|place| !set.contains(place)).collect();
            assert!(places.absent(end).eq(absent));
            assert!(places.iter().eq(set.iter().copied()));
            assert!(places.iter().rev().eq(set.iter().rev().copied()));
        }
    }
}
