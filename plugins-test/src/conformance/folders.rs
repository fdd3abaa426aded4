//! Whether every connector's crate is linked: a dependency without `use its_crate as _;` registers nothing, silently.

use std::collections::BTreeSet;
use std::path::Path;

use weir_core::{readers, writers};

/// Compares the names that are registered in this program with the folders of `readers/` and `writers/`.
///
/// # Panics
/// When a folder's connector is not registered, or a registered one has no folder.
pub fn check_folders(workspace: &Path) {
    let registered = [
        ("readers", readers().iter().map(|p| p.name.to_owned()).collect::<BTreeSet<_>>()),
        ("writers", writers().iter().map(|p| p.name.to_owned()).collect()),
    ];
    let mut faults = Vec::new();
    for (side, mut names) in registered {
        // Ours, for tests.
        names.remove("memory");
        let folders = folders(&workspace.join(side));
        if folders.is_empty() {
            faults.push(format!("{side}/ holds no connector"));
        }
        for name in folders.difference(&names) {
            faults.push(format!(
                "{side}/{name} is not registered: it needs `use weir_…_{name} as _;` where it is linked"
            ));
        }
        for name in names.difference(&folders) {
            faults.push(format!("`{name}` is registered, but there is no folder {side}/{name}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn folders(side: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(side).unwrap_or_else(|e| panic!("cannot list {}: {e}", side.display()));
    entries
        .flatten()
        .filter(|entry| entry.path().join("Cargo.toml").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
