//! Names of things, as types that cannot be swapped.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id! {
    /// A machine is named by the worker name it authorizes with: groups match it, agents address
    /// it, directives list it.
    MachineId
}
id! {
    /// A group of machines that are planned alike.
    GroupId
}
id! {
    /// An electrical node: interconnect, transformer, busway, PDU.
    FeedId
}
id! {
    /// A power meter.
    MeterId
}
id! {
    /// A lease of power to an AI tenant.
    LeaseId
}
id! {
    /// A proxy or an agent, by the name that its link has. A report does not say who sent it: the
    /// link does.
    ReceiverId
}

impl MachineId {
    /// Whether the name matches a glob of `*` (any run) and `?` (any one character), in time linear
    /// in the name for each `*`, so that a hostile name or pattern costs nothing.
    #[must_use]
    pub fn matches(&self, glob: &str) -> bool {
        let (mut glob, mut name) = (glob, &*self.0);
        // After the last `*`: the glob's rest, and the name's rest that the `*` has not taken yet.
        let mut retry: Option<(&str, &str)> = None;
        while let Some(first) = name.chars().next() {
            match glob.chars().next() {
                Some('*') => {
                    glob = &glob[1..];
                    retry = Some((glob, name));
                }
                Some(want) if want == '?' || want == first => {
                    glob = &glob[want.len_utf8()..];
                    name = &name[first.len_utf8()..];
                }
                _ => {
                    let Some((after, from)) = retry else { return false };
                    // The `*` takes one more character.
                    let taken = from.chars().next().map_or(0, char::len_utf8);
                    (glob, name) = (after, &from[taken..]);
                    retry = Some((after, name));
                }
            }
        }
        glob.chars().all(|rest| rest == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_worker_names() {
        for (glob, name, want) in [
            ("acme.rig-*", "acme.rig-17", true),
            ("acme.rig-*", "acme.sig-17", false),
            ("*", "", true),
            ("?", "", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyybz", false),
            ("rig-?", "rig-10", false),
            ("", "", true),
        ] {
            assert_eq!(MachineId::from(name).matches(glob), want, "{glob} ~ {name}");
        }
    }

    #[test]
    fn a_hostile_glob_takes_no_exponential_time() {
        assert!(!MachineId::from("b".repeat(20_000)).matches(&"*a".repeat(60)));
    }
}
