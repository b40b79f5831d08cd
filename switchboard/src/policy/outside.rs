//! What a policy names outside itself: programs and files of this machine. A policy may be checked
//! on another machine than the one it is for, so what is missing here is only warned of.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use daemon::settings::{Document, Section, Spot};

/// Warns of what is not there, once for each program.
pub(super) struct Outside<'a> {
    document: &'a Document,
    told: BTreeSet<String>,
}

impl<'a> Outside<'a> {
    pub(super) fn new(document: &'a Document) -> Self {
        Self { document, told: BTreeSet::new() }
    }

    /// Warns if an actuator's program cannot be run.
    pub(super) fn check_program(&mut self, spot: &Spot, program: &str) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if let Some(why) = cannot_run(program, &path)
            && self.told.insert(program.to_owned())
        {
            let message = format!("{program:?} {why}: its machines could not be commanded");
            self.document.warn(spot, message, None);
        }
    }
}

/// Warns of a driver that the program itself would have to bring.
pub(super) fn warn_of_registered(section: &Section<'_>) {
    let message = "`tieline run` has no registered drivers and would not start: they are for programs that bring their own, such \
         as the demo";
    section.warn("kind", message);
}

/// Why a program cannot be run, as the operating system looks for it: a name without a slash in the
/// folders of `PATH`.
fn cannot_run(program: &str, search: &OsStr) -> Option<&'static str> {
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

/// Warns if a meter's file is not there: something else has to write it.
pub(super) fn check_meter_file(section: &Section<'_>, path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let shown = path.display();
    let why = match (std::fs::metadata(path), folder) {
        (Ok(file), _) if file.is_dir() => format!("{shown} is a folder"),
        (Ok(_), _) => return,
        (Err(_), Some(folder)) if !folder.is_dir() => {
            format!("there is no folder {} on this machine", folder.display())
        }
        (Err(_), _) => format!("there is no {shown} yet: whatever measures has to write it"),
    };
    section.warn("path", why);
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
        assert_eq!(cannot_run(&full, OsStr::new("")), Some("is not executable"));
        assert_eq!(cannot_run("tool", search), Some("is not found in PATH on this machine"));
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(cannot_run(&full, OsStr::new("")), None);
        assert_eq!(cannot_run("tool", search), None);
        assert_eq!(
            cannot_run("tool", OsStr::new("/nowhere")),
            Some("is not found in PATH on this machine")
        );
        let folder = folder.path().display().to_string();
        assert_eq!(cannot_run(&folder, search), Some("is not a program but a folder or device"));
        assert_eq!(cannot_run("/nowhere/tool", search), Some("does not exist on this machine"));
    }
}
