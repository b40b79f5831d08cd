//! Why a machine is off, as data. [`Cause`] is what the plan knows of a period: for which lease, or
//! because of which feed. [`OffBy`] is one word for each answer to "why is this machine off?", those
//! that are no decision of the plan too: views, metrics and texts share these words.

use directive::{FeedId, LeaseId};
use serde::{Deserialize, Serialize};

/// For what the plan has a machine off. The order is that of the steps of one instant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An older version recorded the period without a cause, and for no lease. The next plan that
    /// keeps the machine off finds the cause.
    Unrecorded,
    /// The feed would carry too much even without any lease below it.
    Load(FeedId),
    /// The limit of the feed is lower for a while.
    Limit(FeedId),
    /// The guard of the feed put the machine to sleep, and the plan keeps it off.
    Guard(FeedId),
    /// A new policy claims the machine, which had no work: it gets work when the feed has room.
    Room(FeedId),
    /// The lease needs the power, or is about to: its machines go before it begins.
    Lease(LeaseId),
    /// What the machine was off for is over. It stays off for this lease, which begins too soon for
    /// the machine to come back until then.
    Stays(LeaseId),
}

impl Cause {
    /// The lease that the machine is off for, if it is one.
    #[must_use]
    pub fn lease(&self) -> Option<&LeaseId> {
        match self {
            Self::Lease(lease) | Self::Stays(lease) => Some(lease),
            Self::Unrecorded | Self::Load(_) | Self::Limit(_) | Self::Guard(_) | Self::Room(_) => {
                None
            }
        }
    }

    /// The feed that makes the machine go, if no lease does.
    #[must_use]
    pub fn feed(&self) -> Option<&FeedId> {
        match self {
            Self::Load(feed) | Self::Limit(feed) | Self::Guard(feed) | Self::Room(feed) => {
                Some(feed)
            }
            Self::Unrecorded | Self::Lease(_) | Self::Stays(_) => None,
        }
    }

    /// Whether the plan gives the cause anew when it keeps the machine off for no lease.
    pub(crate) fn is_provisional(&self) -> bool {
        matches!(self, Self::Unrecorded | Self::Room(_))
    }

    /// The cause in one word.
    #[must_use]
    pub fn word(&self) -> OffBy {
        match self {
            Self::Unrecorded => OffBy::Unrecorded,
            Self::Load(_) => OffBy::Load,
            Self::Limit(_) => OffBy::Limit,
            Self::Guard(_) => OffBy::Guard,
            Self::Room(_) => OffBy::Room,
            Self::Lease(_) => OffBy::Lease,
            Self::Stays(_) => OffBy::Stays,
        }
    }
}

/// By what a machine is off, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OffBy {
    /// A lease has its power, or is about to.
    Lease,
    /// It stays off for a lease that begins too soon for it to come back until then.
    Stays,
    /// Its feed would carry too much even without leases.
    Load,
    /// The limit of its feed is lower for a while.
    Limit,
    /// The guard of a feed put it to sleep.
    Guard,
    /// It may come back, and waits for its turn or for a permit, which needs room at its feeds.
    Room,
    /// It gets no work, though nothing decided here keeps it off: its proxy holds no timeline that
    /// lets it work, or has lost its switchboard.
    Parked,
    /// No group of the policy claims it, so that it gets no work.
    NoGroup,
    /// It sleeps, nobody wants it asleep, and somebody else put it to sleep.
    NotByUs,
    /// It was put to sleep by us, and no agent reaches it now.
    OutOfReach,
    /// An older version recorded no cause.
    Unrecorded,
}

impl OffBy {
    pub const ALL: [Self; 11] = [
        Self::Lease,
        Self::Stays,
        Self::Load,
        Self::Limit,
        Self::Guard,
        Self::Room,
        Self::Parked,
        Self::NoGroup,
        Self::NotByUs,
        Self::OutOfReach,
        Self::Unrecorded,
    ];

    /// The word in JSON and as a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Stays => "stays",
            Self::Load => "load",
            Self::Limit => "limit",
            Self::Guard => "guard",
            Self::Room => "room",
            Self::Parked => "parked",
            Self::NoGroup => "no_group",
            Self::NotByUs => "not_by_us",
            Self::OutOfReach => "out_of_reach",
            Self::Unrecorded => "unrecorded",
        }
    }

    /// The word as people say it.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Stays => "stays off for the next lease",
            Self::Load => "load of the feed",
            Self::Limit => "lower limit",
            Self::Guard => "guard",
            Self::Room => "waiting for room",
            Self::Parked => "parked by the proxy",
            Self::NoGroup => "in no group",
            Self::NotByUs => "not by us",
            Self::OutOfReach => "out of reach",
            Self::Unrecorded => "not recorded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_reads_as_one_key_with_its_name() {
        let causes = [
            (Cause::Unrecorded, r#""unrecorded""#),
            (Cause::Load("a".into()), r#"{"load":"a"}"#),
            (Cause::Limit("a".into()), r#"{"limit":"a"}"#),
            (Cause::Guard("a".into()), r#"{"guard":"a"}"#),
            (Cause::Room("a".into()), r#"{"room":"a"}"#),
            (Cause::Lease("l".into()), r#"{"lease":"l"}"#),
            (Cause::Stays("l".into()), r#"{"stays":"l"}"#),
        ];
        for (cause, json) in causes {
            assert_eq!(serde_json::to_string(&cause).unwrap(), json);
            assert_eq!(serde_json::from_str::<Cause>(json).unwrap(), cause);
            assert!(json.contains(cause.word().as_str()));
        }
    }

    #[test]
    fn a_word_is_the_same_in_json_and_as_a_label() {
        for word in OffBy::ALL {
            assert_eq!(serde_json::to_value(word).unwrap(), word.as_str());
        }
    }
}
