//! The loops over columns that every conversion is made of: one typed pass over the values, no allocation for a good
//! row, and for a bad one its number and a reason.

use std::fmt::Write;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, BinaryArray, PrimitiveArray, StringArray, StringBuilder};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};

use super::CellFault;

/// Where a pass puts the cells it cannot convert.
pub(super) struct Cells<'a> {
    faults: &'a mut Vec<CellFault>,
    bad: Vec<usize>,
}

impl<'a> Cells<'a> {
    pub(super) fn new(faults: &'a mut Vec<CellFault>) -> Self {
        Self { faults, bad: Vec::new() }
    }

    /// Row `row` cannot be converted.
    pub(super) fn fault(&mut self, row: usize, reason: String) {
        self.faults.push(CellFault { row, reason });
        self.bad.push(row);
    }

    /// The validity of the result: the input's, without the faulty rows.
    pub(super) fn nulls(&self, rows: usize, nulls: Option<&NullBuffer>) -> Option<NullBuffer> {
        if self.bad.is_empty() {
            return nulls.cloned();
        }
        let mut valid = match nulls {
            Some(nulls) => nulls.iter().collect::<Vec<_>>(),
            None => vec![true; rows],
        };
        for row in &self.bad {
            valid[*row] = false;
        }
        Some(NullBuffer::new(BooleanBuffer::from(valid)))
    }
}

/// Every value through `convert`; where that gives `None`, `why` says why the value cannot be converted.
pub(super) fn map<S: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    column: &PrimitiveArray<S>,
    faults: &mut Vec<CellFault>,
    mut convert: impl FnMut(S::Native) -> Option<T::Native>,
    why: impl Fn(S::Native) -> String,
) -> PrimitiveArray<T> {
    let mut cells = Cells::new(faults);
    let mut values = Vec::with_capacity(column.len());
    let nulls = column.nulls();
    for (row, value) in column.values().iter().enumerate() {
        // What stands under a NULL is arbitrary, so it may not fit: that is no fault.
        values.push(match convert(*value) {
            Some(converted) => converted,
            None => {
                if nulls.is_none_or(|n| n.is_valid(row)) {
                    cells.fault(row, why(*value));
                }
                T::Native::default()
            }
        });
    }
    let nulls = cells.nulls(column.len(), nulls);
    PrimitiveArray::new(ScalarBuffer::from(values), nulls)
}

/// Every text through `parse`; its error is the reason.
pub(super) fn map_text<T: ArrowPrimitiveType>(
    column: &StringArray,
    faults: &mut Vec<CellFault>,
    parse: impl Fn(&str) -> Result<T::Native, String>,
) -> PrimitiveArray<T> {
    let mut cells = Cells::new(faults);
    let mut values = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        if column.is_null(row) {
            values.push(T::Native::default());
            continue;
        }
        values.push(parse(column.value(row)).unwrap_or_else(|reason| {
            cells.fault(row, reason);
            T::Native::default()
        }));
    }
    let nulls = cells.nulls(column.len(), column.nulls());
    PrimitiveArray::new(ScalarBuffer::from(values), nulls)
}

/// Every text through `check`, which may give another text in its place.
pub(super) fn revise_text(
    column: &StringArray,
    faults: &mut Vec<CellFault>,
    check: impl Fn(&str) -> Result<Option<String>, String>,
) -> StringArray {
    let mut builder = StringBuilder::with_capacity(column.len(), column.value_data().len());
    for row in 0..column.len() {
        if column.is_null(row) {
            builder.append_null();
            continue;
        }
        match check(column.value(row)) {
            Ok(None) => builder.append_value(column.value(row)),
            Ok(Some(text)) => builder.append_value(text),
            Err(reason) => {
                faults.push(CellFault { row, reason });
                builder.append_null();
            }
        }
    }
    builder.finish()
}

/// A text for every value, written by `write` into one growing buffer; its error is the reason.
pub(super) fn write_text(
    column: &dyn Array,
    faults: &mut Vec<CellFault>,
    width: usize,
    mut write: impl FnMut(usize, &mut String) -> Result<(), String>,
) -> StringArray {
    let mut builder = StringBuilder::with_capacity(column.len(), column.len() * width);
    let mut text = String::new();
    for row in 0..column.len() {
        if column.is_null(row) {
            builder.append_null();
            continue;
        }
        text.clear();
        match write(row, &mut text) {
            Ok(()) => builder.append_value(&text),
            Err(reason) => {
                faults.push(CellFault { row, reason });
                builder.append_null();
            }
        }
    }
    builder.finish()
}

/// Writes bytes as hexadecimal digits.
pub(super) fn write_hex(bytes: &[u8], out: &mut String) {
    out.reserve(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

/// Runs a kernel that turns what it cannot convert into NULL, and reports each such row.
pub(super) fn report_new_nulls(
    before: &ArrayRef,
    after: &ArrayRef,
    faults: &mut Vec<CellFault>,
    why: impl Fn(usize) -> String,
) {
    if after.null_count() > before.null_count() {
        for row in (0..before.len()).filter(|row| after.is_null(*row) && before.is_valid(*row)) {
            faults.push(CellFault { row, reason: why(row) });
        }
    }
}

/// Bytes as a Binary column.
pub(super) fn binary_of_text(column: &StringArray) -> BinaryArray {
    BinaryArray::from(column.clone())
}

/// A value as reasons quote it: short, whatever its length.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
