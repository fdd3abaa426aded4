//! Dirty rows: data that cannot be converted or that the target refuses, and the helper that finds them in a batch.

use std::fmt;
use std::ops::Range;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Result;
use crate::convert::to_display_text;

/// A row that could not be moved, as the quarantine file keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DirtyRow {
    /// The row's values by column name, as text; NULL as null. What could not be decoded stands as the source had it.
    pub values: Map<String, Value>,
    /// The column at fault, where it is known.
    pub column: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
}

impl DirtyRow {
    /// Row `row` of `batch`.
    pub fn of_batch(batch: &RecordBatch, row: usize, column: Option<String>, reason: impl Into<String>) -> Self {
        Self { values: row_values(batch, row), column, reason: reason.into() }
    }
}

/// The values of one row by column name, as text in canonical form (see [`to_text`](crate::convert::to_text); bytes as
/// hexadecimal); NULL as null.
pub fn row_values(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let fields = batch.schema_ref().fields().iter();
    fields
        .zip(batch.columns())
        .map(|(field, column)| {
            let text = to_display_text(&column.slice(row, 1), field);
            let value = if text.is_null(0) { Value::Null } else { Value::from(text.value(0)) };
            (field.name().clone(), value)
        })
        .collect()
}

/// Takes a row that a target refuses; an error ends the task.
type Tell = Box<dyn FnMut(DirtyRow) -> Result<()> + Send>;

/// The rows of a task that its target refuses. Each is told as soon as it is found, so that the one that is too many ends the
/// run there: a batch may have many thousand, and each costs some statements to find.
#[derive(Default)]
pub struct Refused {
    tell: Option<Tell>,
    /// Those that nobody was told of.
    pub kept: Vec<DirtyRow>,
    /// How many there were in all.
    pub rows: usize,
}

impl Refused {
    /// Tells `tell` of each row, whose error ends the task; without, they are kept.
    pub fn told(tell: impl FnMut(DirtyRow) -> Result<()> + Send + 'static) -> Self {
        Self { tell: Some(Box::new(tell)), ..Self::default() }
    }

    /// One more.
    ///
    /// # Errors
    /// [`DirtyLimit`](crate::ErrorKind::DirtyLimit) when that is one too many: no further row is to be tried.
    pub fn add(&mut self, row: DirtyRow) -> Result<()> {
        self.rows += 1;
        match &mut self.tell {
            Some(tell) => tell(row),
            None => {
                self.kept.push(row);
                Ok(())
            }
        }
    }

    /// Adds the rows at fault, as (row, column, reason) in any order; the others. No fault is asked for after the one that is
    /// too many.
    ///
    /// # Errors
    /// Those of [`add`](Self::add).
    pub fn take_out(
        &mut self,
        batch: &RecordBatch,
        faults: impl IntoIterator<Item = (usize, usize, String)>,
    ) -> Result<RecordBatch> {
        let mut good = None;
        for (row, column, reason) in faults {
            let name = batch.schema_ref().field(column).name().clone();
            self.add(DirtyRow::of_batch(batch, row, Some(name), reason))?;
            good.get_or_insert_with(|| vec![true; batch.num_rows()])[row] = false;
        }
        match good {
            Some(good) => Ok(filter_record_batch(batch, &BooleanArray::from(good))?),
            None => Ok(batch.clone()),
        }
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("kept", &self.kept).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Why a target refused some rows of a batch.
#[derive(Debug, Clone, Default)]
pub struct Refusal {
    /// The first refused row, counted from the first that was tried, where the target names it.
    pub row: Option<usize>,
    /// The column at fault, where the target names it.
    pub column: Option<String>,
    /// The target's reason.
    pub reason: String,
}

/// A target that takes a batch whole or not at all, for [`bisect`].
#[async_trait]
pub trait Bisect: Send {
    /// Applies these rows of `batch` under a savepoint of their own. `Ok(Some(refusal))`: the target refused because of
    /// some row, and nothing of `rows` is applied.
    ///
    /// # Errors
    /// Anything that no row is to blame for: the task fails.
    async fn apply(&mut self, batch: &RecordBatch, rows: Range<usize>) -> Result<Option<Refusal>>;
}

/// Applies all rows of `batch` that the target takes, and adds the others to `refused`.
///
/// When the target names the row, the rows before it are applied, the row is set aside and the rest is tried, about as far
/// as the next bad row is likely to be, so that what has to be sent again stays a small multiple of the batch; else the
/// batch is halved until single rows are left. A thousand bad rows in a batch cost some ten thousand statements at worst,
/// not one for each row of the batch.
///
/// # Errors
/// Those of [`Bisect::apply`] and [`Refused::add`].
pub async fn bisect(target: &mut dyn Bisect, batch: &RecordBatch, refused: &mut Refused) -> Result<()> {
    // Ranges still to be applied, the next one last; an explicit stack because async functions cannot recurse cheaply.
    let mut ranges = vec![(0, batch.num_rows())];
    // How many rows to try at once.
    let mut most = usize::MAX;
    while let Some((start, all)) = ranges.pop() {
        if all == 0 {
            continue;
        }
        let rows = all.min(most);
        ranges.push((start + rows, all - rows));
        let Some(refusal) = target.apply(batch, start..start + rows).await? else {
            most = most.saturating_mul(2);
            continue;
        };
        if rows == 1 {
            refused.add(DirtyRow::of_batch(batch, start, refusal.column, refusal.reason))?;
            continue;
        }
        match refusal.row.filter(|row| *row < rows) {
            Some(row) => {
                most = (2 * (row + 1)).max(64);
                ranges.push((start + row + 1, rows - row - 1));
                // The named row is tried alone once more: its own reason is then certain, and a target that
                // misnames a row costs a statement, not a row.
                ranges.push((start + row, 1));
                ranges.push((start, row));
            }
            None => {
                ranges.push((start + rows / 2, rows - rows / 2));
                ranges.push((start, rows / 2));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Error, ErrorKind};
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::Int32Type;

    #[test]
    fn rows_are_kept_as_text() {
        let bytes = arrow::array::BinaryArray::from(vec![Some([0_u8, 255].as_slice()), None]);
        let dates = arrow::array::Date32Array::from(vec![None, Some(19_753)]);
        let batch = RecordBatch::try_from_iter([("b", Arc::new(bytes) as _), ("d", Arc::new(dates) as _)]).unwrap();
        assert_eq!(Value::from(row_values(&batch, 0)), serde_json::json!({"b": "00ff", "d": null}));
        assert_eq!(Value::from(row_values(&batch, 1)), serde_json::json!({"b": null, "d": "2024-01-31"}));
    }

    struct NoNegatives {
        names_the_row: bool,
        taken: Vec<i32>,
        statements: usize,
        sent: usize,
    }

    #[async_trait]
    impl Bisect for NoNegatives {
        async fn apply(&mut self, batch: &RecordBatch, rows: Range<usize>) -> Result<Option<Refusal>> {
            let rows = batch.slice(rows.start, rows.len());
            self.statements += 1;
            self.sent += rows.num_rows();
            let values = rows.column(0).as_primitive::<Int32Type>().values();
            match values.iter().position(|v| *v < 0) {
                Some(row) => Ok(Some(Refusal {
                    row: self.names_the_row.then_some(row),
                    column: None,
                    reason: "negative".into(),
                })),
                None => {
                    self.taken.extend(values);
                    Ok(None)
                }
            }
        }
    }

    #[tokio::test]
    async fn good_rows_land_in_order_and_bad_ones_come_back() {
        let values: Vec<i32> = (0..10_000).map(|i| if i % 997 == 5 { -i } else { i }).collect();
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(values.clone())) as _)]).unwrap();
        for names_the_row in [true, false] {
            let mut target = NoNegatives { names_the_row, taken: vec![], statements: 0, sent: 0 };
            let mut refused = Refused::default();
            bisect(&mut target, &batch, &mut refused).await.unwrap();
            let refused = refused.kept;
            assert_eq!(target.taken, values.iter().copied().filter(|v| *v >= 0).collect::<Vec<_>>());
            assert_eq!(refused.len(), values.iter().filter(|v| **v < 0).count());
            assert_eq!(refused[0].values["n"], "-5");
            assert!(target.statements < 400, "{}", target.statements);
            assert!(target.sent < 8 * values.len(), "{}", target.sent);
        }
    }

    /// The third row is one too many.
    fn two() -> Refused {
        let mut left = 2_usize;
        Refused::told(move |_| {
            left = left.checked_sub(1).ok_or_else(|| Error::new(ErrorKind::DirtyLimit, "too many"))?;
            Ok(())
        })
    }

    #[tokio::test]
    async fn one_row_too_many_ends_the_search() {
        let values = Int32Array::from_iter_values((0..10_000).map(|i| -1 - i));
        let batch = RecordBatch::try_from_iter([("n", Arc::new(values) as _)]).unwrap();
        for names_the_row in [true, false] {
            let mut target = NoNegatives { names_the_row, taken: vec![], statements: 0, sent: 0 };
            let mut refused = two();
            let error = bisect(&mut target, &batch, &mut refused).await.unwrap_err();
            assert_eq!((error.kind(), refused.rows, refused.kept.len()), (ErrorKind::DirtyLimit, 3, 0));
            assert!(target.statements < 40, "{}", target.statements);
        }
    }

    #[test]
    fn faults_are_looked_for_no_further_than_the_one_that_is_too_many() {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from_iter_values(0..9)) as _)]).unwrap();
        let faults = |rows: usize| (0..rows).map(|i| (8 - 2 * i, 0, format!("fault {i}")));
        let mut refused = two();
        let good = refused.take_out(&batch, faults(2)).unwrap();
        assert_eq!(good.column(0).as_primitive::<Int32Type>().values(), &[0, 1, 2, 3, 4, 5, 7]);
        assert_eq!(refused.take_out(&batch, faults(0)).unwrap(), batch);
        let mut looked = 0;
        let error = refused.take_out(&batch, faults(4).inspect(|_| looked += 1)).unwrap_err();
        assert_eq!((error.kind(), refused.rows, looked), (ErrorKind::DirtyLimit, 3, 1));
        let mut kept = Refused::default();
        kept.take_out(&batch, faults(1)).unwrap();
        assert_eq!((kept.kept[0].column.as_deref(), kept.kept[0].reason.as_str()), (Some("n"), "fault 0"));
    }
}
