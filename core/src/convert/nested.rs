//! Lists, structs and maps: element by element, and as JSON texts.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};

use super::columns::{Cells, quoted, revise_text, write_text};
use super::kinds::{Kind, decoded, stored};
use super::text::{Style, texts};
use super::{CellFault, Conversion};
use crate::Result;

/// A list with converted elements. A faulty element makes its row faulty.
pub(super) fn convert_elements(
    column: &ArrayRef,
    elements: &Conversion,
    item: &FieldRef,
    faults: &mut Vec<CellFault>,
) -> Result<ArrayRef> {
    let list = column.as_list::<i32>();
    let offsets = list.offsets();
    let (first, last) = (offsets[0] as usize, offsets[list.len()] as usize);
    let converted = elements.apply(&list.values().slice(first, last - first))?;
    let mut cells = Cells::new(faults);
    raise(&converted.faults, list, |row, reason| cells.fault(row, reason));
    let nulls = cells.nulls(list.len(), list.nulls());
    // What a slice of the column leaves out was not converted, so the elements now start at 0.
    let offsets = OffsetBuffer::from_lengths(list.offsets().lengths());
    Ok(Arc::new(ListArray::try_new(item.clone(), offsets, converted.column, nulls)?))
}

/// Tells each row once of the faults of its elements.
fn raise(faults: &[CellFault], list: &ListArray, mut tell: impl FnMut(usize, String)) {
    let offsets = list.offsets();
    let first = offsets[0] as usize;
    let mut last = None;
    for fault in faults {
        let element = fault.row + first;
        let row = offsets.partition_point(|o| *o as usize <= element) - 1;
        if last != Some(row) && list.is_valid(row) {
            last = Some(row);
            tell(row, format!("element {}: {}", element - offsets[row] as usize + 1, fault.reason));
        }
    }
}

/// A column's values as JSON texts in canonical form: numbers, booleans and JSON as they are, everything else as a
/// string of its text. NULL stays NULL.
pub(super) fn json_texts(
    column: &ArrayRef,
    field: &Field,
    style: &Style<'_>,
    faults: &mut Vec<CellFault>,
) -> Result<StringArray> {
    let column = &decoded(column)?;
    let field = &field.clone().with_data_type(column.data_type().clone());
    match (Kind::of(field), column.data_type()) {
        (Kind::List(item), _) => {
            let column = stored(column, &DataType::List(item.clone()))?;
            let list = column.as_list::<i32>();
            let offsets = list.offsets();
            let (first, last) = (offsets[0] as usize, offsets[list.len()] as usize);
            let mut inner = Vec::new();
            let elements = json_texts(&list.values().slice(first, last - first), &item, style, &mut inner)?;
            tell_json_nulls(&item, &elements, &mut inner);
            let mut bad = vec![None; list.len()];
            raise(&inner, list, |row, reason| bad[row] = Some(reason));
            Ok(write_text(list, faults, 32, |row, out| {
                if let Some(reason) = bad[row].take() {
                    return Err(reason);
                }
                out.push('[');
                for element in offsets[row] as usize..offsets[row + 1] as usize {
                    if out.len() > 1 {
                        out.push(',');
                    }
                    let element = element - first;
                    out.push_str(if elements.is_null(element) { "null" } else { elements.value(element) });
                }
                out.push(']');
                Ok(())
            }))
        }
        (_, DataType::Struct(fields)) => {
            let structs = column.as_struct();
            let mut inner = Vec::new();
            let mut columns = Vec::with_capacity(fields.len());
            for (field, column) in fields.iter().zip(structs.columns()) {
                let texts = json_texts(column, field, style, &mut inner)?;
                tell_json_nulls(field, &texts, &mut inner);
                columns.push((quote(field.name()), texts));
            }
            let mut bad = vec![None; structs.len()];
            for fault in inner {
                bad[fault.row] = Some(fault.reason);
            }
            Ok(write_text(structs, faults, 32, |row, out| {
                if let Some(reason) = bad[row].take() {
                    return Err(reason);
                }
                out.push('{');
                for (name, column) in &columns {
                    if out.len() > 1 {
                        out.push(',');
                    }
                    out.push_str(name);
                    out.push(':');
                    out.push_str(if column.is_null(row) { "null" } else { column.value(row) });
                }
                out.push('}');
                Ok(())
            }))
        }
        (_, DataType::Map(entries, _)) => {
            // As a list of {key, value}: keys need not be texts, and may come twice.
            let map = column.as_map();
            let list = ListArray::try_new(
                entries.clone(),
                map.offsets().clone(),
                Arc::new(map.entries().clone()),
                map.nulls().cloned(),
            )?;
            let field = Field::new(field.name(), DataType::List(entries.clone()), true);
            json_texts(&(Arc::new(list) as ArrayRef), &field, style, faults)
        }
        (kind, _) => {
            let texts = texts(column, field, style, faults)?;
            let raw = matches!(kind, Kind::Boolean | Kind::Integer(_) | Kind::Decimal(_) | Kind::Json);
            let number = matches!(kind, Kind::Float(_) | Kind::DecimalText);
            if raw {
                return Ok(texts);
            }
            Ok(revise_text(&texts, faults, |text| {
                let finite = number && text.bytes().last().is_some_and(|b| b.is_ascii_digit());
                Ok((!finite).then(|| quote(text)))
            }))
        }
    }
}

/// Within a JSON text a JSON null would be read as NULL.
fn tell_json_nulls(field: &Field, texts: &StringArray, faults: &mut Vec<CellFault>) {
    if Kind::of(field) == Kind::Json {
        let nulls = texts.iter().enumerate().filter(|(_, text)| text.is_some_and(|text| text.trim() == "null"));
        faults.extend(nulls.map(|(row, _)| CellFault { row, reason: "a JSON null would be read as NULL".into() }));
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Texts as JSON texts: nothing changes, but all of them are one JSON value.
pub(super) fn check_json(column: &ArrayRef, faults: &mut Vec<CellFault>) -> ArrayRef {
    Arc::new(revise_text(column.as_string::<i32>(), faults, |text| {
        // Nothing is kept of the value, so that digits and key order stay as they were.
        serde_json::from_str::<serde::de::IgnoredAny>(text)
            .map(|_| None)
            .map_err(|error| format!("{} is no JSON: {error}", quoted(text)))
    }))
}
