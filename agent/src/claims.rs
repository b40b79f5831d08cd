//! Which driver reaches which machine: by name, or by a glob over names. The first driver that claims a machine has it.

use std::collections::BTreeSet;

use directive::MachineId;

/// What one driver claims.
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
        self.machines.contains(machine) || self.globs.iter().any(|glob| glob_matches(glob, machine.as_str()))
    }
}

/// Matches in time linear in the text for each `*`, so that a hostile name costs nothing.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                retry = Some((g, t));
                g += 1;
            }
            Some(&want) if want == '?' || want == text[t] => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                g = star + 1;
                t = from + 1;
            }
        }
    }
    glob[g..].iter().all(|&rest| rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_claimed_by_glob_or_by_name() {
        let claims =
            Claims { globs: vec!["acme.rig-*".into(), "x?".into()], machines: [MachineId::from("lone")].into() };
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
