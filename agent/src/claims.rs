//! Assigns machines to drivers, by name or by a glob over names. The first assignment that claims a
//! machine decides about it.

use std::collections::BTreeSet;
use std::time::Duration;

use directive::MachineId;

/// Machines that are alike, the driver that commands them, and how long they take to follow. Several
/// assignments may share one driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub claims: Claims,
    /// Index into the list of drivers.
    pub driver: usize,
    /// How long the machines may take to fall asleep, and to wake, if that is longer than
    /// [`crate::core::Timing`] says. Before that time is over, no command is repeated, and no
    /// machine counts as not obeying.
    pub sleeps_within: Duration,
    pub wakes_within: Duration,
}

/// Which machines an assignment claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Globs (`*` any run, `?` any one character) over machine names.
    pub globs: Vec<String>,
    /// Declared machines: they are read and reported even if no timeline names them.
    pub machines: BTreeSet<MachineId>,
}

impl Claims {
    /// Claims every machine that one of `globs` matches.
    #[must_use]
    pub fn globs<S: Into<String>>(globs: impl IntoIterator<Item = S>) -> Self {
        Self { globs: globs.into_iter().map(Into::into).collect(), machines: BTreeSet::new() }
    }

    /// Claims every machine that one of `patterns` matches. A pattern without `*` and `?` is the name
    /// of one machine, which is declared by it.
    #[must_use]
    pub fn patterns<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Self {
        let mut claims = Self::default();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            if pattern.contains(['*', '?']) {
                claims.globs.push(pattern.to_owned());
            } else {
                claims.machines.insert(pattern.into());
            }
        }
        claims
    }

    /// Claims exactly these machines, and reads them from the start.
    #[must_use]
    pub fn machines(machines: impl IntoIterator<Item = MachineId>) -> Self {
        Self { globs: Vec::new(), machines: machines.into_iter().collect() }
    }

    /// Whether `machine` is claimed.
    #[must_use]
    pub fn claims(&self, machine: &MachineId) -> bool {
        self.machines.contains(machine) || self.globs.iter().any(|glob| machine.matches(glob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_claimed_by_glob_or_by_name() {
        let claims = Claims {
            globs: vec!["acme.rig-*".into(), "x?".into()],
            machines: [MachineId::from("lone")].into(),
        };
        for (machine, want) in [
            ("acme.rig-7", true),
            ("acme.sig-7", false),
            ("xy", true),
            ("xyz", false),
            ("lone", true),
            ("lonely", false),
        ] {
            assert_eq!(claims.claims(&MachineId::from(machine)), want, "{machine}");
        }
        let patterns = Claims::patterns(["acme.rig-*", "lone", "x?"]);
        assert_eq!(patterns, claims, "a name without a wildcard is a machine");
        assert!(Claims::globs(["a*b*c"]).claims(&MachineId::from("axxbyybzc")));
        assert!(!Claims::default().claims(&MachineId::from("")));
    }
}
