//! Native values as people read them: what the text protocol carries is text as it stands, but for bytes.

use arrow::datatypes::Field;
use weir_core::NativeText;
use weir_core::field::native_type;

use crate::SYSTEM;

weir_core::inventory::submit! {
    NativeText { system: SYSTEM, show }
}

/// `None` for bytes, which are shown as hexadecimal digits.
fn show(field: &Field, bytes: &[u8]) -> Option<String> {
    let (_, kind) = native_type(field)?;
    let binary = ["blob", "binary"].iter().any(|word| kind.contains(word));
    std::str::from_utf8(bytes).ok().filter(|_| !binary).map(str::to_owned)
}
