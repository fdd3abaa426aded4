//! Rows that are appended to a Parquet or Arrow file become rows of its columns: these have to be theirs.

use arrow::datatypes::{DataType, Schema};
use tokio_util::sync::CancellationToken;
use weir_core::field::type_text;
use weir_core::{Error, ErrorKind, PlannedColumn, Result};
use weir_files::{ColumnarReader, Entry};

use crate::plan::{Mode, Rules};

/// Compares the columns of the file that is there with those to append.
///
/// # Errors
/// [`Schema`](ErrorKind::Schema) when they differ.
pub(crate) async fn compare(
    rules: &Rules,
    columns: &[PlannedColumn],
    existing: &[Entry],
    cancel: &CancellationToken,
) -> Result<()> {
    if rules.mode != Mode::Append || rules.single.is_none() || rules.format.is_text() {
        return Ok(());
    }
    let Some(file) = existing.iter().find(|e| e.size > 0) else { return Ok(()) };
    let store = &rules.location.store;
    let reader = ColumnarReader::open(store, &file.path, rules.format, cancel).await?;
    let rows = Schema::new(columns.iter().map(|c| c.input.clone()).collect::<Vec<_>>());
    // What is within nested types is called as the file's writer likes; joining them finds out whether that matters.
    same(reader.schema(), &rows, DataType::equals_datatype).map_err(|e| e.with("file", store.display(&file.path)))
}

/// Whether a file has the columns of the rows, in their order.
///
/// # Errors
/// [`Schema`](ErrorKind::Schema) with the first one that differs.
pub(crate) fn same(file: &Schema, rows: &Schema, alike: fn(&DataType, &DataType) -> bool) -> Result<()> {
    let both = file.fields().iter().zip(rows.fields());
    let differs = |a: &DataType, b: &DataType| !alike(a, b);
    let first = both.clone().find(|(a, b)| a.name() != b.name() || differs(a.data_type(), b.data_type()));
    let more = |of: &Schema| of.fields().get(both.len()).map(|field| field.name().clone());
    let what = match (first, more(file), more(rows)) {
        (Some((a, b)), ..) if a.name() != b.name() => {
            format!("where it has `{}` they have `{}`", a.name(), b.name())
        }
        (Some((a, b)), ..) => format!("`{}` is {} in it, and {} in the rows", a.name(), type_text(a), type_text(b)),
        (None, Some(name), _) => format!("the rows have no `{name}`"),
        (None, None, Some(name)) => format!("it has no `{name}`"),
        (None, None, None) => return Ok(()),
    };
    let text = format!(
        "the file has other columns than the rows to append: {what}; map the rows onto them, write to another file, or truncate"
    );
    Err(Error::new(ErrorKind::Schema, text))
}
