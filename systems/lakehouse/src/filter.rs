//! A job's `where` on a Delta table: a SQL condition, evaluated by DataFusion batch by batch.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use weir_core::{Error, Result};

/// A condition that is ready to be evaluated.
#[derive(Clone)]
pub struct Filter {
    condition: Arc<dyn PhysicalExpr>,
    columns: Vec<String>,
}

impl Filter {
    /// Parses `condition` and checks it against the table's columns.
    ///
    /// # Errors
    /// No SQL condition, an unknown column, or something that is neither true nor false.
    pub fn new(condition: &str, schema: &SchemaRef) -> Result<Self> {
        let wrong = |e: datafusion::error::DataFusionError| {
            Error::config("the `where` condition does not fit the table").with("where", condition).because(e)
        };
        let context = SessionContext::new();
        let schema = DFSchema::try_from(schema.as_ref().clone()).map_err(wrong)?;
        let expression = context.parse_sql_expr(condition, &schema).map_err(wrong)?;
        let mut columns: Vec<String> = expression.column_refs().into_iter().map(|c| c.name.clone()).collect();
        columns.sort();
        let condition_type = |e: &Arc<dyn PhysicalExpr>| e.data_type(schema.as_arrow());
        let physical = context.create_physical_expr(expression, &schema).map_err(wrong)?;
        match condition_type(&physical).map_err(wrong)? {
            DataType::Boolean | DataType::Null => {}
            other => {
                let message = format!("the `where` condition gives {other}, not true or false");
                return Err(Error::config(message).with("where", condition));
            }
        }
        Ok(Self { condition: physical, columns })
    }

    /// The columns that the condition looks at.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The rows for which the condition holds. `batch` has all columns of the schema given to [`Filter::new`], in
    /// that order.
    ///
    /// # Errors
    /// A value for which the condition cannot be computed.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let failed = |e: datafusion::error::DataFusionError| {
            Error::new(weir_core::ErrorKind::Data, "the `where` condition cannot be computed for some rows").because(e)
        };
        let mask = self.condition.evaluate(batch).map_err(failed)?;
        let mask = mask.into_array(batch.num_rows()).map_err(failed)?;
        match mask.data_type() {
            DataType::Boolean => Ok(filter_record_batch(batch, mask.as_boolean())?),
            // Always NULL: true for no row.
            _ => Ok(batch.slice(0, 0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    #[test]
    fn a_condition_keeps_the_rows_for_which_it_holds() {
        let batch = RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(1), Some(2), None])) as _),
            ("Name", Arc::new(StringArray::from(vec!["a", "b", "c"])) as _),
        ])
        .unwrap();
        let keep =
            |condition: &str| Filter::new(condition, &batch.schema()).map(|f| f.apply(&batch).unwrap().num_rows());
        assert_eq!(keep("n >= 2").unwrap(), 1);
        assert_eq!(keep("n is null or \"Name\" = 'a'").unwrap(), 2);
        assert_eq!(keep("null").unwrap(), 0);
        for wrong in ["n >", "missing = 1", "n + 1"] {
            assert!(keep(wrong).is_err(), "{wrong}");
        }
    }
}
