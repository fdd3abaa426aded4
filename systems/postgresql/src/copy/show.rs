//! Single native values as texts, for messages and the quarantine.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use weir_core::NativeText;
use weir_core::convert::to_display_text;
use weir_core::field::{NATIVE, TEXT, extension, native_type};

use super::{Decoder, HEADER, TRAILER};
use crate::types::{PgType, SYSTEM};

weir_core::inventory::submit! {
    NativeText { system: SYSTEM, show }
}

/// A value in its wire form as text; `None` for a type that has no form but that.
fn show(field: &Field, value: &[u8]) -> Option<String> {
    let own = PgType::parse(native_type(field)?.1)?;
    let forms = own.representations(field.name());
    let form = forms.into_iter().find(|form| !matches!(extension(form), Some(NATIVE | TEXT)))?;
    // A stream of one row with one field.
    let mut stream = [HEADER, &1_i16.to_be_bytes(), &i32::try_from(value.len()).ok()?.to_be_bytes()].concat();
    stream.extend_from_slice(value);
    stream.extend_from_slice(&TRAILER);
    let mut decoder = Decoder::new(Arc::new(Schema::new(vec![form.clone()])), &[own]).ok()?;
    decoder.push(&stream).ok()?;
    decoder.finish().ok()?;
    let decoded = decoder.take_ready().next()?;
    match decoded.dirty.first() {
        // `infinity` and the like have a text all the same.
        Some(dirty) => dirty.values.get(field.name())?.as_str().map(str::to_owned),
        None => Some(to_display_text(decoded.batch.column(0), &form).value(0).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BinaryArray};

    #[test]
    fn native_values_are_shown_as_what_they_are() {
        let shown = |type_text: &str, value: &[u8]| {
            let field = PgType::parse(type_text).unwrap().representations("c").remove(0);
            let column: ArrayRef = Arc::new(BinaryArray::from(vec![Some(value), None]));
            let texts = to_display_text(&column, &field);
            assert_eq!(texts.iter().nth(1), Some(None));
            texts.value(0).to_owned()
        };
        assert_eq!(shown("bigint", &603_i64.to_be_bytes()), "603");
        assert_eq!(shown("text", "né".as_bytes()), "né");
        assert_eq!(shown("date", &0_i32.to_be_bytes()), "2000-01-01");
        assert_eq!(shown("date", &i32::MAX.to_be_bytes()), "infinity");
        assert_eq!(shown("boolean", &[1]), "true");
        assert_eq!(shown("point", &[0; 16]), "0".repeat(32));
        assert_eq!(shown("bigint", &[1, 2]), "0102");
    }
}
