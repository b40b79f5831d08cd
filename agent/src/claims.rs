//! Assigns machines to drivers, by name or by a glob over names. The first driver that claims a
//! machine gets it.

use std::collections::BTreeSet;

use directive::MachineId;

/// The machines that one driver claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Globs (`*` any run, `?` any one character) over machine names.
    pub globs: Vec<String>,
    /// Machines that are declared: they are read and reported even while no timeline names them.
    pub machines: BTreeSet<MachineId>,
}

impl Claims {
    /// Claims every machine that one of `globs` matches.
    #[must_use]
    pub fn globs<S: Into<String>>(globs: impl IntoIterator<Item = S>) -> Self {
        Self { globs: globs.into_iter().map(Into::into).collect(), machines: BTreeSet::new() }
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
        assert!(Claims::globs(["a*b*c"]).claims(&MachineId::from("axxbyybzc")));
        assert!(!Claims::default().claims(&MachineId::from("")));
    }
}
