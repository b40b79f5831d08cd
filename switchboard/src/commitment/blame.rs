//! Whose doing it is that promised power is missing.

use directive::Watts;
use serde::{Deserialize, Serialize};

use crate::words::kilowatts;

/// Who brought about a breach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doing {
    /// The facility: machines are not down that should be, or nothing else explains it.
    Ours,
    /// A tenant draws more than it has reserved.
    Tenant,
    /// More is drawn than is declared: by the house, or by machines beyond their nameplates.
    House,
    /// The limit is lower than when the lease was committed, or than it was then to be at this time.
    Derate,
    /// A meter on the way was silent or implausible shortly before.
    Meter,
}

impl Doing {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Tenant => "tenant",
            Self::House => "house",
            Self::Derate => "derate",
            Self::Meter => "meter",
        }
    }
}

/// What brought the missing power about, with the watts that it explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blame {
    pub doing: Doing,
    pub watts: Watts,
}

impl std::fmt::Display for Blame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let watts = kilowatts(self.watts);
        match self.doing {
            Doing::Ours if self.watts == Watts::ZERO => {
                f.write_str("nothing outside the facility explains it")
            }
            Doing::Ours => write!(f, "machines that are to be off may draw {watts} of it"),
            Doing::Tenant => write!(f, "a tenant draws {watts} more than it has reserved"),
            Doing::House => {
                write!(f, "{watts} more are drawn than house and machines are declared to")
            }
            Doing::Derate => {
                write!(f, "the limit is {watts} lower than when the lease was committed")
            }
            Doing::Meter => f.write_str("a meter on its way was silent or implausible before"),
        }
    }
}

/// What may explain that power is missing at a feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Causes {
    /// What tenants draw beyond what they have reserved.
    pub(crate) tenant: Watts,
    /// By how much less is usable now than admission counted on when the lease was committed; negative if
    /// it is more.
    pub(crate) derate: Watts,
    /// What is drawn beyond tenants, the declared house and the machines that are seen and not
    /// confirmed to be down.
    pub(crate) house: Watts,
    /// What machines may draw that are to be off.
    pub(crate) undone: Watts,
    /// Whether a meter on the way was silent or implausible a while ago.
    pub(crate) is_meter: bool,
}

/// The meters of feeds, tenants and devices are not read at one moment, and each has an error. A cause
/// that explains this part of what is missing explains it.
const EXPLAINS: f64 = 0.8;

impl Causes {
    /// The first cause that explains `missing`: a tenant that draws more than was agreed comes first,
    /// then machines of the facility that do not obey, unless the house explains it as well. What was
    /// lowered or wrong a while ago excuses nobody whose machines should have followed.
    pub(crate) fn blame(&self, missing: Watts) -> Blame {
        let least = missing.scale(EXPLAINS);
        let derate = self.derate.max(Watts::ZERO);
        let blame = |doing, watts| Blame { doing, watts };
        let ours = blame(Doing::Ours, self.undone.min(missing));
        if self.tenant >= least {
            return blame(Doing::Tenant, self.tenant);
        }
        if self.undone >= least && self.house < least {
            return ours;
        }
        if derate >= least {
            return blame(Doing::Derate, derate);
        }
        if self.is_meter {
            return blame(Doing::Meter, Watts::ZERO);
        }
        if self.house >= least {
            return blame(Doing::House, self.house);
        }
        let outside =
            [(Doing::Tenant, self.tenant), (Doing::Derate, derate), (Doing::House, self.house)];
        let together: Watts = outside.iter().map(|(_, watts)| *watts).sum();
        match outside.into_iter().max_by_key(|(_, watts)| *watts) {
            Some((doing, watts)) if together >= least && watts >= self.undone => {
                blame(doing, watts)
            }
            _ => ours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_who_explains_what_is_missing_is_named() {
        let kw = |kw: i64| Watts(kw * 1000);
        let none = Causes::default();
        let table = [
            (none, Doing::Ours, 0),
            (Causes { undone: kw(3), ..none }, Doing::Ours, 3),
            (Causes { tenant: kw(9), undone: kw(9), ..none }, Doing::Tenant, 9),
            (Causes { tenant: kw(9), derate: kw(32), ..none }, Doing::Tenant, 9),
            (Causes { tenant: kw(2), derate: kw(32), ..none }, Doing::Derate, 32),
            (Causes { house: kw(20), ..none }, Doing::House, 20),
            (Causes { house: kw(20), is_meter: true, ..none }, Doing::Meter, 0),
            // 10 kW are missing: what tenants and the house explain together is enough.
            (Causes { tenant: kw(5), house: kw(4), ..none }, Doing::Tenant, 5),
            (Causes { tenant: kw(2), undone: kw(9), ..none }, Doing::Ours, 9),
            // What was wrong or lowered a while ago does not excuse machines that do not obey.
            (Causes { undone: kw(9), is_meter: true, ..none }, Doing::Ours, 9),
            (Causes { undone: kw(9), derate: kw(32), ..none }, Doing::Ours, 9),
            (Causes { undone: kw(7), derate: kw(32), ..none }, Doing::Derate, 32),
            (Causes { undone: kw(7), is_meter: true, ..none }, Doing::Meter, 0),
            (Causes { undone: kw(9), house: kw(9), ..none }, Doing::House, 9),
            // A limit that was raised takes nothing from what others explain.
            (Causes { tenant: kw(5), house: kw(4), derate: kw(-20), ..none }, Doing::Tenant, 5),
        ];
        for (causes, doing, watts) in table {
            assert_eq!(causes.blame(kw(10)), Blame { doing, watts: kw(watts) }, "{causes:?}");
        }
    }
}
