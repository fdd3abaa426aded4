//! Two folders of this machine change places, in one step.

use std::io;
use std::path::Path;

/// Exchanges two folders of the same file system: whoever looks sees the one or the other, never both or none.
///
/// # Errors
/// [`Unsupported`](io::ErrorKind::Unsupported) elsewhere than on Linux, and what the file system has against it.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (one, other);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Whether this process may make files in a folder.
pub fn is_writable(folder: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        std::fs::metadata(folder).is_ok_and(|data| !data.permissions().readonly())
    }
}

/// The lowest folder that is there, of `folder` and those above it: the others can be made if that one is writable.
pub fn nearest(folder: &Path) -> &Path {
    let found = folder.ancestors().find(|above| above.exists());
    found.unwrap_or(Path::new(if folder.is_absolute() { "/" } else { "." }))
}

/// Gives `new` the permissions, the owner and the extended attributes (access lists) of `old`.
///
/// # Errors
/// One of them may not be given away: the owner, mostly.
pub fn dress(new: &Path, old: &Path) -> io::Result<()> {
    let (like, own) = (std::fs::metadata(old)?, std::fs::metadata(new)?);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if (like.uid(), like.gid()) != (own.uid(), own.gid()) {
            std::os::unix::fs::chown(new, Some(like.uid()), Some(like.gid()))?;
        }
    }
    #[cfg(not(unix))]
    let _ = own;
    #[cfg(target_os = "linux")]
    attributes(new, old)?;
    std::fs::set_permissions(new, like.permissions())
}

#[cfg(target_os = "linux")]
fn attributes(new: &Path, old: &Path) -> io::Result<()> {
    use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};
    use rustix::io::Errno;
    let mut names = vec![0u8; 64 << 10];
    let length = match listxattr(old, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let mut value = vec![0u8; 64 << 10];
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let size = getxattr(old, name, &mut value[..])?;
        match setxattr(new, name, &value[..size], XattrFlags::empty()) {
            Ok(()) => {}
            // Labels of the security system are given by it, not by us.
            Err(_) if name.starts_with(b"security.") => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn folders_change_places_and_looks_are_copied() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        std::fs::write(a.join("x"), "").unwrap();
        std::fs::set_permissions(&b, std::fs::Permissions::from_mode(0o2750)).unwrap();
        dress(&a, &b).unwrap();
        assert_eq!(std::fs::metadata(&a).unwrap().permissions().mode() & 0o7777, 0o2750);
        exchange(&a, &b).unwrap();
        assert!(b.join("x").exists() && !a.join("x").exists());
        assert!(exchange(&a, &a.join("none")).is_err());
        assert!(is_writable(&a));
        assert_eq!(nearest(&a.join("not/there")), a);
        assert_eq!((nearest(Path::new("not-there")), nearest(Path::new(""))), (Path::new("."), Path::new(".")));
    }
}
