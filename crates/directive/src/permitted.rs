//! Which machines may have work without a permit that names them.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::MachineId;

/// The permitted set. The switchboard has booked the power of its machines, so that a proxy gives
/// them work at once, whether the switchboard can be heard or not. Any other machine that connects
/// waits without work until there is room for it.
///
/// As JSON, `"everyone"` or `{"only": ["rack1.07", …]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permitted {
    /// Every machine that a group claims.
    Everyone,
    /// These machines, as far as a group claims them.
    Only(Arc<BTreeSet<MachineId>>),
}

impl Permitted {
    /// Whether `machine` may have work.
    #[must_use]
    pub fn permits(&self, machine: &MachineId) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only(machines) => machines.contains(machine),
        }
    }

    /// Whether both are one and the same copy.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Only(one), Self::Only(other)) => Arc::ptr_eq(one, other),
            (Self::Everyone, Self::Everyone) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_read_and_written() {
        let machines: BTreeSet<MachineId> = ["a", "b"].map(MachineId::from).into();
        for (set, text) in [
            (Permitted::Everyone, r#""everyone""#),
            (Permitted::Only(Arc::new(machines)), r#"{"only":["a","b"]}"#),
        ] {
            assert_eq!(serde_json::to_string(&set).unwrap(), text);
            assert_eq!(serde_json::from_str::<Permitted>(text).unwrap(), set);
            assert!(set.permits(&"a".into()));
        }
        assert!(!Permitted::Only(Arc::default()).permits(&"a".into()));
    }
}
