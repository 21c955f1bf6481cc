//! Files are written whole: a temporary sibling, fsync, rename. A killed run leaves the old file or the new one.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail};

use crate::error::WithHint as _;

/// Who may read a written file.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    /// The owner alone (0600).
    Private,
    /// Whoever the umask allows.
    Shared,
}

/// What to do when the file exists.
#[derive(Clone, Copy)]
pub(crate) enum Existing {
    /// Leave it alone and fail.
    Refuse,
    /// Put the new file in its place.
    Replace,
}

/// Writes a whole file, making the folders above it.
///
/// # Errors
/// When the file exists and may not be replaced, or the system refuses; nothing is left half-written.
pub(crate) fn write_whole(
    path: &Path,
    bytes: &[u8],
    access: Access,
    existing: Existing,
) -> anyhow::Result<()> {
    if matches!(existing, Existing::Refuse) {
        refuse_existing(path)?;
    }
    let folder = folder_of(path);
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make folder {}", folder.display()))?;
    write_into(folder, path, bytes, access, existing)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn write_into(
    folder: &Path,
    path: &Path,
    bytes: &[u8],
    access: Access,
    existing: Existing,
) -> anyhow::Result<()> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".oml-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = match access {
            Access::Private => 0o600,
            Access::Shared => 0o666,
        };
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    match existing {
        Existing::Refuse => file.persist_noclobber(path)?,
        Existing::Replace => file.persist(path)?,
    };
    fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// Fails when something is already there.
///
/// # Errors
/// When `path` exists.
pub(crate) fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_ok() {
        let found: anyhow::Result<()> = Err(anyhow::anyhow!("{} already exists", path.display()));
        return found.hint("Nothing is overwritten: name another path, or move the old one away.");
    }
    Ok(())
}

/// Fails when no file can be made beside `path`, making the folders above it; for work that ends with one.
///
/// # Errors
/// When the system refuses.
pub(crate) fn check_writable(path: &Path) -> anyhow::Result<()> {
    let folder = folder_of(path);
    let fault = || format!("cannot write {}", path.display());
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make folder {}", folder.display()))?;
    tempfile::Builder::new()
        .prefix(".oml-")
        .tempfile_in(folder)
        .with_context(fault)?;
    Ok(())
}

/// Fails when the file system of `folder` has fewer than `bytes` left.
///
/// # Errors
/// When it has, or the system does not tell.
pub(crate) fn check_space(folder: &Path, bytes: u64) -> anyhow::Result<()> {
    let system = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot look for space in {}", folder.display()))?;
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    if free < bytes {
        let full: anyhow::Result<()> = Err(anyhow::anyhow!(
            "{}: expected {bytes} bytes of free space, got {free}",
            folder.display()
        ));
        return full.hint("Free some space, or name an --out on another disk.");
    }
    Ok(())
}

/// Makes a rename in the folder of `path` last.
///
/// # Errors
/// When the system refuses.
pub(crate) fn sync_folder_of(path: &Path) -> anyhow::Result<()> {
    let folder = folder_of(path);
    let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.with_context(|| format!("cannot sync folder {}", folder.display()))
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// When the file is missing or larger.
pub(crate) fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<u8>> {
    let fault = || format!("cannot read {}", path.display());
    let file = fs::File::open(path).with_context(fault)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells a larger file, also one whose length the system does not know.
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .with_context(fault)?;
    if bytes.len() > limit {
        bail!("{}: expected at most {limit} bytes", path.display());
    }
    Ok(bytes)
}

/// Reads a text file of at most `limit` bytes.
///
/// # Errors
/// When the file is missing, larger, or not UTF-8.
pub(crate) fn read_text(path: &Path, limit: usize) -> anyhow::Result<String> {
    String::from_utf8(read(path, limit)?)
        .with_context(|| format!("{}: expected UTF-8 text", path.display()))
}

/// When a file changed last, and its length: what tells that it is to be read again. Nothing where there is no file.
pub(crate) fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The owner file used when `--owner` is not given: `oml/owner.json` in the user's config folder.
///
/// # Errors
/// When the user has no home folder.
pub(crate) fn default_owner_file() -> anyhow::Result<PathBuf> {
    use etcetera::BaseStrategy as _;
    let base = etcetera::choose_base_strategy().context("cannot find the user's config folder");
    let base = base.hint("Say where the owner file is with --owner FILE.")?;
    Ok(base.config_dir().join("oml").join("owner.json"))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_whole_and_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        write_whole(&path, b"one", Access::Private, Existing::Refuse).unwrap();
        write_whole(&path, b"two", Access::Private, Existing::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn an_existing_file_is_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner.json");
        write_whole(&path, b"one", Access::Private, Existing::Refuse).unwrap();
        let error = write_whole(&path, b"two", Access::Private, Existing::Refuse).unwrap_err();
        assert!(error.to_string().ends_with("already exists"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
    }

    #[cfg(unix)]
    #[test]
    fn a_private_file_is_readable_by_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner.json");
        write_whole(&path, b"secret", Access::Private, Existing::Refuse).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn a_text_over_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "abcd").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "abcd");
        assert!(
            read_text(&path, 3)
                .unwrap_err()
                .to_string()
                .ends_with("expected at most 3 bytes")
        );
    }
}
