//! What is linked in, against what lies in the folders.

use std::collections::BTreeSet;
use std::path::Path;

fn folders(of: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(of);
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_connector_folder_is_registered_under_its_own_name() {
    // `memory` comes with the test library.
    let own = |names: Vec<&str>| names.into_iter().filter(|n| *n != "memory").map(str::to_owned).collect();
    let readers: BTreeSet<String> = own(weir::core::readers().iter().map(|p| p.name).collect());
    assert_eq!(readers, folders("readers"));
    let writers: BTreeSet<String> = own(weir::core::writers().iter().map(|p| p.name).collect());
    assert_eq!(writers, folders("writers"));
}

#[test]
fn the_runtime_names_no_connector() {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("runtime/Cargo.toml")).unwrap();
    assert!(!manifest.contains("weir-reader") && !manifest.contains("weir-writer"));
}
