//! SQL of a job over a Delta table, computed by DataFusion batch by batch: expressions of the `column` list and the
//! condition `where`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use weir_core::{Error, ErrorKind, Result};
use weir_sql::{Quoting, find_name};

/// An expression that is ready to be computed.
#[derive(Clone)]
struct Computed {
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
    columns: Vec<String>,
}

impl Computed {
    fn new(text: &str, schema: &SchemaRef) -> Result<Self, DataFusionError> {
        // Nothing depends on the machine's zone; `now()` is an instant.
        let context = SessionConfig::new().set_str("datafusion.execution.time_zone", "+00:00");
        let context = SessionContext::new_with_config(context);
        let df_schema = DFSchema::try_from(schema.as_ref().clone())?;
        let expression = parse(&context, text, schema, &df_schema)?;
        let mut columns: Vec<String> = expression.column_refs().into_iter().map(|c| c.name.clone()).collect();
        columns.sort();
        // `now()` is a constant from here on.
        let mut state = context.state();
        let options = Arc::clone(state.config_options());
        state.execution_props_mut().mark_start_execution(Arc::clone(&options));
        let simplifying = SimplifyContext::builder()
            .with_schema(Arc::new(df_schema.clone()))
            .with_config_options(options)
            .with_query_execution_start_time(state.execution_props().query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(simplifying);
        let expression = simplifier.simplify(simplifier.coerce(expression, &df_schema)?)?;
        let physical = state.create_physical_expr(expression, &df_schema)?;
        let data_type = physical.data_type(df_schema.as_arrow())?;
        Ok(Self { physical, data_type, columns })
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
        self.physical.evaluate(batch)?.into_array(batch.num_rows())
    }
}

/// Names mean what they mean in SQL, in lower case unless they are quoted; where that gives nothing, they mean the one
/// column that they are but for case.
fn parse(context: &SessionContext, text: &str, schema: &SchemaRef, df: &DFSchema) -> Result<Expr, DataFusionError> {
    let plain = context.parse_sql_expr(text, df);
    match (plain, resolve_names(text, schema)) {
        (Ok(expression), _) => Ok(expression),
        (Err(error), None) => Err(error),
        (Err(error), Some(resolved)) => context.parse_sql_expr(&resolved, df).map_err(|_| error),
    }
}

/// The text with every unquoted word that is a column's name but for case as that column, in quotation marks.
fn resolve_names(text: &str, schema: &SchemaRef) -> Option<String> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).with_unescape(false).tokenize().ok()?;
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let is_space = |token: &&Token| !matches!(token, Token::Whitespace(_));
    let mut resolved = String::new();
    for (i, token) in tokens.iter().enumerate() {
        let column = match token {
            Token::Word(word) if word.quote_style.is_none() => {
                let next = tokens[i + 1..].iter().find(is_space);
                let before = tokens[..i].iter().rev().find(is_space);
                let is_function = matches!(next, Some(Token::LParen));
                // `date '2025-01-01'`, and the type after AS or `::`.
                let is_type = matches!(next, Some(Token::SingleQuotedString(_)))
                    || matches!(before, Some(Token::DoubleColon))
                    || matches!(before, Some(Token::Word(w)) if w.keyword == Keyword::AS);
                let found = find_name("column", &word.value, names.iter().copied()).ok();
                found.filter(|_| !is_function && !is_type && !is_reserved(word.keyword)).map(|index| names[index])
            }
            _ => None,
        };
        match column {
            Some(name) => resolved.push_str(&Quoting::DOUBLE.quote(name)),
            None => resolved.push_str(&token.to_string()),
        }
    }
    Some(resolved)
}

/// Words that are never a column's name without quotation marks.
fn is_reserved(word: Keyword) -> bool {
    use Keyword::{
        AND, AS, BETWEEN, CASE, CAST, DISTINCT, ELSE, END, ESCAPE, EXTRACT, FALSE, FROM, ILIKE, IN, INTERVAL, IS, LIKE,
        NOT, NULL, OR, THEN, TRUE, WHEN,
    };
    let words = [
        AND, AS, BETWEEN, CASE, CAST, DISTINCT, ELSE, END, ESCAPE, EXTRACT, FALSE, FROM, ILIKE, IN, INTERVAL, IS, LIKE,
        NOT, NULL, OR, THEN, TRUE, WHEN,
    ];
    words.contains(&word)
}

/// An expression or a constant in a reader's `column` list.
#[derive(Clone)]
pub struct Expression {
    computed: Computed,
    field: Field,
}

impl Expression {
    /// Parses `text` and checks it against the table's columns.
    ///
    /// # Errors
    /// No SQL expression, an unknown column or function, a type that batches cannot have.
    pub fn new(text: &str, schema: &SchemaRef) -> Result<Self> {
        let wrong = |e: DataFusionError| {
            let message = format!("`{text}` is neither a column of the table nor an SQL expression over its columns");
            Error::config(message).with("column", text).because(e)
        };
        let computed = Computed::new(text, schema).map_err(wrong)?;
        let data_type = canonical_type(&computed.data_type).ok_or_else(|| {
            let message = format!("`{text}` gives {}: cast it to a plainer type, or to text", computed.data_type);
            Error::new(ErrorKind::Unsupported, message).with("column", text)
        })?;
        Ok(Self { computed, field: Field::new(text, data_type, true) })
    }

    /// The columns that the expression looks at.
    pub fn columns(&self) -> &[String] {
        &self.computed.columns
    }

    /// Its name, which is its text, and its type.
    pub fn field(&self) -> &Field {
        &self.field
    }

    /// Its values. `batch` has all columns of the schema given to [`Expression::new`], in that order.
    ///
    /// # Errors
    /// A value for which the expression cannot be computed.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let failed = || Error::new(ErrorKind::Data, "an expression of `column` cannot be computed for some rows");
        let failed = || failed().with("column", self.field.name());
        let values = self.computed.evaluate(batch).map_err(|e| failed().because(e))?;
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&values, self.field.data_type(), &options).map_err(|e| failed().because(e))
    }
}

/// The type that batches have for values of `data_type`, if any.
fn canonical_type(data_type: &DataType) -> Option<DataType> {
    const MICROS: TimeUnit = TimeUnit::Microsecond;
    Some(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Timestamp(_, zone) => DataType::Timestamp(MICROS, zone.as_ref().map(|_| "UTC".into())),
        DataType::Date64 => DataType::Timestamp(MICROS, None),
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(MICROS),
        DataType::Duration(_) => DataType::Duration(MICROS),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(p, s) | DataType::Decimal64(p, s) => DataType::Decimal128(*p, *s),
        DataType::Dictionary(_, values) => canonical_type(values)?,
        DataType::List(item) | DataType::LargeList(item) => {
            DataType::List(Arc::new(Field::new("element", canonical_type(item.data_type())?, true)))
        }
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => data_type.clone(),
        _ => return None,
    })
}

/// A condition that is ready to be evaluated.
#[derive(Clone)]
pub struct Filter(Computed);

impl Filter {
    /// Parses `condition` and checks it against the table's columns.
    ///
    /// # Errors
    /// No SQL condition, an unknown column, or something that is neither true nor false.
    pub fn new(condition: &str, schema: &SchemaRef) -> Result<Self> {
        let computed = Computed::new(condition, schema).map_err(|e| {
            Error::config("the `where` condition does not fit the table").with("where", condition).because(e)
        })?;
        match &computed.data_type {
            DataType::Boolean | DataType::Null => Ok(Self(computed)),
            other => {
                let message = format!("the `where` condition gives {other}, not true or false");
                Err(Error::config(message).with("where", condition))
            }
        }
    }

    /// The columns that the condition looks at.
    pub fn columns(&self) -> &[String] {
        &self.0.columns
    }

    /// The rows for which the condition holds. `batch` has all columns of the schema given to [`Filter::new`], in
    /// that order.
    ///
    /// # Errors
    /// A value for which the condition cannot be computed.
    pub fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let mask = self.0.evaluate(batch).map_err(|e| {
            Error::new(ErrorKind::Data, "the `where` condition cannot be computed for some rows").because(e)
        })?;
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
    use arrow::array::{Array, Int64Array, StringArray};
    use arrow::util::display::array_value_to_string;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![Some(1), Some(2), None])) as ArrayRef),
            ("Name", Arc::new(StringArray::from(vec!["a", "b", "it's"]))),
            ("Date", Arc::new(StringArray::from(vec!["2025-01-01", "2025-01-02", "2025-01-03"]))),
        ])
        .unwrap()
    }

    #[test]
    fn a_condition_keeps_the_rows_for_which_it_holds() {
        let batch = batch();
        let keep =
            |condition: &str| Filter::new(condition, &batch.schema()).map(|f| f.apply(&batch).unwrap().num_rows());
        assert_eq!(keep("n >= 2").unwrap(), 1);
        assert_eq!(keep("n is null or \"Name\" = 'a'").unwrap(), 2);
        assert_eq!(keep("null").unwrap(), 0);
        // Names as other systems take them.
        assert_eq!(keep("Name = 'it''s' or NAME = 'b'").unwrap(), 2);
        assert_eq!(keep("cast(Date as date) >= date '2025-01-02' and N is not null").unwrap(), 1);
        for wrong in ["n >", "missing = 1", "n + 1"] {
            assert!(keep(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn expressions_and_constants_have_values_of_canonical_types() {
        let batch = batch();
        for (text, data_type, first) in [
            ("1", DataType::Int64, "1"),
            ("'x'::varchar", DataType::Utf8, "x"),
            ("null", DataType::Utf8, ""),
            ("N * 2 + 0.5", DataType::Float64, "2.5"),
            ("upper(name) || '-' || \"Date\"", DataType::Utf8, "A-2025-01-01"),
            ("cast(date as date)", DataType::Date32, "2025-01-01"),
            ("case when n > 1 then true else false end", DataType::Boolean, "false"),
        ] {
            let expression = Expression::new(text, &batch.schema()).unwrap();
            assert_eq!((expression.field().name().as_str(), expression.field().data_type()), (text, &data_type));
            let values = expression.evaluate(&batch).unwrap();
            assert_eq!((values.data_type(), values.len()), (&data_type, 3), "{text}");
            assert_eq!(array_value_to_string(&values, 0).unwrap(), first, "{text}");
        }
        for wrong in ["missing + 1", "no_such_function(n)", "n n", "interval '1 day'"] {
            assert!(Expression::new(wrong, &batch.schema()).is_err(), "{wrong}");
        }
        let instant = Expression::new("now()", &batch.schema()).unwrap();
        assert_eq!(instant.field().data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        instant.evaluate(&batch).unwrap();
    }
}
