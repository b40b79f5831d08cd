//! Programs that a configuration names: whether one can be run on this machine, and running it. A
//! configuration may be checked on a machine other than the one it is for, so a missing program only
//! causes a warning.

mod run;

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;

pub(crate) use run::{OUTPUT_MAX_BYTES, run};

/// Why a program cannot be run here; `None` if it can.
pub(crate) fn cannot_run(program: &str) -> Option<&'static str> {
    cannot_run_from(program, &std::env::var_os("PATH").unwrap_or_default())
}

/// Looks for a program as the operating system does: a name without a slash in the folders of
/// `PATH`.
fn cannot_run_from(program: &str, search: &OsStr) -> Option<&'static str> {
    if program.contains('/') {
        return match std::fs::metadata(program) {
            Err(_) => Some("does not exist on this machine"),
            Ok(file) if !file.is_file() => Some("is not a program but a folder or device"),
            Ok(file) if file.permissions().mode() & 0o111 == 0 => Some("is not executable"),
            Ok(_) => None,
        };
    }
    let found = std::env::split_paths(search).any(|folder| {
        std::fs::metadata(folder.join(program))
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    });
    (!found).then_some("is not found in PATH on this machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_as_they_are_run() {
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("tool");
        std::fs::write(&tool, "#!/bin/sh\n").unwrap();
        let full = tool.display().to_string();
        let search = folder.path().as_os_str();
        assert_eq!(cannot_run_from(&full, OsStr::new("")), Some("is not executable"));
        assert_eq!(cannot_run_from("tool", search), Some("is not found in PATH on this machine"));
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(cannot_run_from(&full, OsStr::new("")), None);
        assert_eq!(cannot_run_from("tool", search), None);
        assert_eq!(
            cannot_run_from("tool", OsStr::new("/nowhere")),
            Some("is not found in PATH on this machine")
        );
        let folder = folder.path().display().to_string();
        assert_eq!(
            cannot_run_from(&folder, search),
            Some("is not a program but a folder or device")
        );
        assert_eq!(
            cannot_run_from("/nowhere/tool", search),
            Some("does not exist on this machine")
        );
    }
}
