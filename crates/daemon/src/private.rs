//! Makes files and directories that only the process's own user may read: power draw and revenue
//! are not for everybody on the machine.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use tracing::warn;

/// Makes a directory, and missing ones above it, with mode 0700. An existing directory is not
/// changed: its owner may share it on purpose.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes an empty file with mode 0600, or [tightens](tighten) the mode of an existing one.
pub fn create_file(path: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    tighten(path)
}

/// Removes the rights of the group and of others on a file, and warns if they had any. It is not an
/// error if there is no file. If the mode cannot be changed, because the file belongs to somebody
/// else, it only warns.
pub fn tighten(path: &Path) -> io::Result<()> {
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o7777,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err),
    };
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let (file, shown) = (path.display(), format!("{mode:04o}"));
    match fs::set_permissions(path, Permissions::from_mode(mode & 0o7700)) {
        Ok(()) => warn!(%file, mode = shown, "file was open to other users: closed"),
        Err(err) => warn!(%file, mode = shown, %err, "file is open to other users"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_made_is_private_and_what_is_there_keeps_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("state/deep");
        create_dir_all(&dir).unwrap();
        create_dir_all(&dir).unwrap();
        assert_eq!((mode(&dir), mode(dir.parent().unwrap())), (0o700, 0o700));
        let file = dir.join("ledger.db");
        create_file(&file).unwrap();
        assert_eq!((mode(&file), fs::read(&file).unwrap().len()), (0o600, 0));
        fs::write(&file, "content").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        create_file(&file).unwrap();
        assert_eq!((mode(&file), fs::read(&file).unwrap()), (0o600, b"content".to_vec()));
    }

    #[test]
    fn a_directory_of_somebody_elses_making_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
        create_dir_all(folder.path()).unwrap();
        assert_eq!(mode(folder.path()), 0o750);
        create_file(folder.path()).unwrap_err();
        assert_eq!(mode(folder.path()), 0o750);
    }

    #[test]
    fn only_what_others_may_do_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        tighten(&file).unwrap();
        assert!(!file.exists(), "nothing is made");
        fs::write(&file, "").unwrap();
        for (before, after) in [(0o400, 0o400), (0o444, 0o400), (0o660, 0o600), (0o600, 0o600)] {
            fs::set_permissions(&file, Permissions::from_mode(before)).unwrap();
            tighten(&file).unwrap();
            assert_eq!(mode(&file), after, "{before:o}");
        }
    }
}
