//! Which machines groups claim by their names.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::MachineId;

/// The patterns of all groups of a policy: a machine that none of them matches is of no group. As JSON,
/// a list of globs ([`MachineId::matches`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Claims {
    /// The patterns by what they begin with, up to the first wildcard, so that a name is compared with
    /// few of thousands.
    by_prefix: HashMap<String, Vec<String>>,
    /// The lengths of these beginnings, in bytes.
    lengths: BTreeSet<usize>,
}

impl Claims {
    /// Whether a pattern matches `machine`.
    #[must_use]
    pub fn claims(&self, machine: &MachineId) -> bool {
        let name = machine.as_str();
        let beginnings = self.lengths.iter().filter_map(|length| name.get(..*length));
        beginnings
            .filter_map(|beginning| self.by_prefix.get(beginning))
            .flatten()
            .any(|pattern| machine.matches(pattern))
    }
}

impl<P: Into<String>> FromIterator<P> for Claims {
    fn from_iter<I: IntoIterator<Item = P>>(patterns: I) -> Self {
        let mut claims = Self::default();
        // Each pattern once, in one order, so that equal policies give equal claims.
        for pattern in patterns.into_iter().map(Into::into).collect::<BTreeSet<String>>() {
            let prefix = pattern.split(['*', '?']).next().unwrap_or_default().to_owned();
            claims.lengths.insert(prefix.len());
            claims.by_prefix.entry(prefix).or_default().push(pattern);
        }
        claims
    }
}

impl From<Vec<String>> for Claims {
    fn from(patterns: Vec<String>) -> Self {
        patterns.into_iter().collect()
    }
}

impl From<Claims> for Vec<String> {
    fn from(claims: Claims) -> Self {
        let patterns: BTreeSet<String> = claims.by_prefix.into_values().flatten().collect();
        patterns.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_of_patterns_is_read_and_written() {
        let claims: Claims = serde_json::from_str(r#"["b?","a.*","b?"]"#).unwrap();
        assert!(claims.claims(&"a.1".into()) && claims.claims(&"bé".into()));
        assert!(!claims.claims(&"b".into()) && !claims.claims(&"é".into()));
        assert_eq!(serde_json::to_string(&claims).unwrap(), r#"["a.*","b?"]"#);
        assert!(!Claims::default().claims(&"a".into()));
    }

    proptest! {
        #[test]
        fn a_machine_is_claimed_if_any_pattern_matches(
            patterns in prop::collection::vec("[aé*?]{0,4}", 0..6),
            name in "[aé]{0,5}",
        ) {
            let machine = MachineId::from(name.as_str());
            let matches = patterns.iter().any(|pattern| machine.matches(pattern));
            let claims: Claims = patterns.into_iter().collect();
            prop_assert_eq!(claims.claims(&machine), matches);
        }
    }
}
