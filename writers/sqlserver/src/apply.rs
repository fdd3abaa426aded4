//! Bringing a batch into a table: INSERT BULK straight into it, or into `#weir_load` and on from there.

use std::ops::Range;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use tiberius::error::Error as Driver;
use tiberius::{ColumnData, SqlBulkCopyOption, TokenRow};
use weir_core::{Bisect, DirtyRow, Error, ErrorKind, Refusal, Refused, Result, bisect};
use weir_sqlserver::{QUOTING, Session, cell_number, from_driver, is_row_fault};

use crate::carry::{Carrier, Form, direct, through};
use crate::encode::Encoder;
use crate::state::{ROW, SPLIT, State, Written};
use crate::types::KEY_COLLATION;

/// The session's own table, which takes everything.
const SCRATCH: &str = "#weir_load";
/// The longest value, in bytes of UTF-8 or its own, that a bulk load brings: the driver takes 65,535 bytes, as which the
/// wire counts a MAX column's length, for a limit.
const LONGEST: usize = 32_767;
/// The number of a row in its batch.
const NUMBER: &str = "weir_number";

/// What a task sends rows to.
pub(crate) struct Target {
    table: String,
    names: Vec<String>,
    written: Vec<Written>,
    /// The forms of a bulk load straight into the table; `None` where some column has none.
    direct: Option<Vec<Form>>,
    carriers: Vec<Carrier>,
    /// Columns after the batch's own: the split, and the row's number in it.
    extra: usize,
    split: u32,
    /// Whether INSERT must be allowed to number an identity column.
    identity: bool,
    cast: bool,
}

/// A cell that is too long for a bulk load.
struct Long<'a> {
    row: usize,
    column: usize,
    cell: ColumnData<'a>,
}

impl Long<'_> {
    /// An empty cell in place of one that is too long.
    fn empty(cell: &ColumnData<'_>) -> Option<ColumnData<'static>> {
        match cell {
            ColumnData::String(Some(text)) if text.len() > LONGEST => Some(ColumnData::String(None)),
            ColumnData::Binary(Some(bytes)) if bytes.len() > LONGEST => Some(ColumnData::Binary(None)),
            _ => None,
        }
    }
}

/// A row that is at fault before the server sees it.
struct Fault {
    row: usize,
    column: Option<usize>,
    reason: String,
}

impl Fault {
    fn of(self, batch: &RecordBatch) -> DirtyRow {
        let column = self.column.map(|column| batch.schema_ref().field(column).name().clone());
        DirtyRow::of_batch(batch, self.row, column, self.reason)
    }
}

impl Target {
    pub(crate) fn new(state: &State, names: Vec<String>, split: u32, extra: usize) -> Result<Self> {
        let forms = state
            .columns
            .iter()
            .map(|c| direct(&c.kind(), c.collation.as_deref(), state.babelfish).map(|form| form.on(state.babelfish)));
        let direct = if state.straight { forms.collect() } else { None };
        let carriers = state.columns.iter().map(|c| {
            through(&c.kind(), &c.type_text, c.collation.as_deref(), state.babelfish)
                .map(|carrier| Carrier { form: carrier.form.on(state.babelfish), ..carrier })
                .ok_or_else(|| Error::internal(format!("`{}` cannot be written", c.type_text)))
        });
        Ok(Self {
            table: state.written_table().quoted(QUOTING),
            written: state.columns.clone(),
            direct,
            carriers: carriers.collect::<Result<_>>()?,
            extra,
            split,
            identity: state.identity && state.staging.is_none(),
            cast: state.cast,
            names,
        })
    }

    /// Whether a bulk load can go straight into the table.
    pub(crate) fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Whether a batch has a value that a bulk load does not bring.
    pub(crate) fn is_long(&self, batch: &RecordBatch) -> bool {
        batch.columns().iter().any(longest)
    }

    /// The written columns, quoted, with those that number rows in a staging table.
    fn columns(&self) -> Vec<String> {
        let own = self.names.iter().map(|n| QUOTING.quote(n));
        own.chain([SPLIT, ROW].iter().take(self.extra).map(|n| QUOTING.quote(n))).collect()
    }

    /// Makes the session's own table, if it is not there.
    pub(crate) async fn make_scratch(&self, session: &mut Session) -> Result<()> {
        let columns = self.carriers.iter().enumerate().map(|(i, c)| format!("c{i} {} NULL", c.ddl));
        let sql = format!(
            "IF OBJECT_ID(N'tempdb..{SCRATCH}') IS NULL CREATE TABLE {SCRATCH} ({}, {NUMBER} int NOT NULL)",
            columns.collect::<Vec<_>>().join(", ")
        );
        session.run(&sql).await?;
        if self.identity {
            session.run(&format!("SET IDENTITY_INSERT {} ON", self.table)).await?;
        }
        Ok(())
    }

    /// Takes back what [`make_scratch`](Self::make_scratch) did.
    pub(crate) async fn drop_scratch(&self, session: &mut Session) -> Result<()> {
        let mut sql = format!("DROP TABLE {SCRATCH}");
        if self.identity {
            sql.push_str(&format!("; SET IDENTITY_INSERT {} OFF", self.table));
        }
        session.run(&sql).await
    }

    /// `INSERT … SELECT` of the rows of the session's own table with numbers from `first` to before `last`; the first row
    /// of the batch has the number `next` in its split.
    fn insert(&self, first: usize, last: usize, next: u64) -> String {
        let carried = self.carriers.iter().enumerate().map(|(i, carrier)| match &carrier.cast {
            Some(cast) => cast.replace("{}", &format!("c{i}")),
            None => format!("c{i}"),
        });
        let numbers = [self.split.to_string(), format!("{next} + {NUMBER}")];
        let values: Vec<String> = carried.chain(numbers.into_iter().take(self.extra)).collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {SCRATCH} WHERE {NUMBER} >= {first} AND {NUMBER} < {last} ORDER BY {NUMBER}",
            self.table,
            self.columns().join(", "),
            values.join(", ")
        )
    }

    /// Loads a batch straight into the table; how many rows are in. The inner error is the server's word about some row:
    /// nothing of the batch is applied, or the whole transaction is gone, and nothing is added to `refused`.
    pub(crate) async fn load(
        &self,
        session: &mut Session,
        batch: &RecordBatch,
        next: u64,
        refused: &mut Refused,
    ) -> Result<Result<u64, Driver>> {
        let forms = self.direct.as_deref().ok_or_else(|| Error::internal("a bulk load has no way into the table"))?;
        let columns = self.columns();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let encoder = Encoder::new(batch, &self.written, forms, self.cast)?;
        let extra = |row: usize, cells: &mut TokenRow<'_>| {
            if self.extra > 0 {
                cells.push(ColumnData::I32(Some(self.split as i32)));
            }
            if self.extra > 1 {
                cells.push(ColumnData::I64(Some((next + row as u64) as i64)));
            }
        };
        let sent = bulk(session, &self.table, &columns, &encoder, batch.num_rows(), extra).await?;
        match sent {
            // The rows are in already, with nothing in the place of such a value.
            Ok((.., long)) if !long.is_empty() => {
                Err(Error::internal("a long value went into a bulk load of the table"))
            }
            Ok((rows, faults, _)) => {
                faults.into_iter().try_for_each(|fault| refused.add(fault.of(batch)))?;
                Ok(Ok(rows))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Brings a batch in by way of the session's own table, and finds the rows that the target refuses; how many are in.
    pub(crate) async fn through_scratch(
        &self,
        session: &mut Session,
        batch: &RecordBatch,
        next: u64,
        refused: &mut Refused,
    ) -> Result<u64> {
        let forms: Vec<Form> = self.carriers.iter().map(|c| c.form).collect();
        let names: Vec<String> = (0..forms.len()).map(|i| format!("c{i}")).chain([NUMBER.to_owned()]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let encoder = Encoder::new(batch, &self.written, &forms, self.cast)?;
        let number = |row: usize, cells: &mut TokenRow<'_>| cells.push(ColumnData::I32(Some(row as i32)));
        let loaded = bulk(session, SCRATCH, &names, &encoder, batch.num_rows(), number).await?;
        let (_, faults, long) = loaded.map_err(from_driver)?;
        faults.into_iter().try_for_each(|fault| refused.add(fault.of(batch)))?;
        let mut gone = None;
        for cell in long {
            let row = cell.row;
            // The row is gone since one of its other cells was refused.
            if gone == Some(row) {
                continue;
            }
            if let Some(fault) = self.send_long(session, cell).await? {
                refused.add(fault.of(batch))?;
                gone = Some(row);
            }
        }
        let mut inserts = Inserts { session, target: self, next, rows: 0 };
        bisect(&mut inserts, batch, refused).await?;
        let rows = inserts.rows;
        session.run(&format!("TRUNCATE TABLE {SCRATCH}")).await?;
        Ok(rows)
    }

    /// Brings a cell to its row in the session's own table, as a parameter.
    async fn send_long(&self, session: &mut Session, long: Long<'_>) -> Result<Option<Fault>> {
        let Long { row, column, cell } = long;
        let mut sql = format!("UPDATE {SCRATCH} SET c{column} = @P1 WHERE {NUMBER} = @P2");
        let in_page = self.carriers[column].ddl.starts_with("varchar");
        if in_page {
            // The server puts a question mark for what the code page lacks.
            sql += &format!(
                "; DELETE FROM {SCRATCH} WHERE {NUMBER} = @P2 AND CAST(c{column} AS nvarchar(max)) COLLATE {KEY_COLLATION} <> @P1"
            );
        }
        let number = row as i32;
        let (client, watch) = session.parts();
        let work = async {
            let done = match &cell {
                ColumnData::String(Some(text)) => client.execute(sql, &[&&**text, &number]).await?,
                ColumnData::Binary(Some(bytes)) => client.execute(sql, &[&&**bytes, &number]).await?,
                _ => return Ok(1),
            };
            Ok(done.total())
        };
        match watch.until(Box::pin(work)).await {
            Ok(Ok(1)) => Ok(None),
            Ok(Ok(2)) if in_page => Ok(Some(Fault { row, column: Some(column), reason: LACKS.into() })),
            Ok(Ok(rows)) => Err(Error::internal(format!("a long value has come to {rows} rows"))),
            Ok(Err(error)) => {
                if !matches!(error, Driver::Server(_)) {
                    session.lose();
                }
                Err(from_driver(error))
            }
            Err(error) => {
                session.stop().await;
                Err(error)
            }
        }
    }
}

const LACKS: &str = "a character that the column's code page lacks";

/// Whether a column of texts or bytes has a value that is too long for a bulk load.
fn longest(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Utf8 => any_long(array.as_string::<i32>().iter()),
        DataType::LargeUtf8 => any_long(array.as_string::<i64>().iter()),
        DataType::Utf8View => any_long(array.as_string_view().iter()),
        DataType::Binary => any_long(array.as_binary::<i32>().iter()),
        DataType::LargeBinary => any_long(array.as_binary::<i64>().iter()),
        DataType::BinaryView => any_long(array.as_binary_view().iter()),
        DataType::FixedSizeBinary(bytes) => *bytes as usize > LONGEST,
        _ => false,
    }
}

fn any_long<T: AsRef<[u8]>>(mut values: impl Iterator<Item = Option<T>>) -> bool {
    values.any(|value| value.is_some_and(|value| value.as_ref().len() > LONGEST))
}

/// One INSERT BULK: rows that were sent, those that could not be, and the cells that were left empty in them. The inner
/// error is the server's.
async fn bulk<'a>(
    session: &mut Session,
    table: &str,
    columns: &[&str],
    encoder: &Encoder<'a>,
    rows: usize,
    extra: impl Fn(usize, &mut TokenRow<'_>),
) -> Result<Result<(u64, Vec<Fault>, Vec<Long<'a>>), Driver>> {
    let options = SqlBulkCopyOption::KeepIdentity
        | SqlBulkCopyOption::CheckConstraints
        | SqlBulkCopyOption::KeepNulls
        | SqlBulkCopyOption::FireTriggers;
    let (client, watch) = session.parts();
    let work = async {
        let (mut faults, mut long) = (Vec::new(), Vec::new());
        let mut request = client.bulk_insert_with_options(table, columns, options, &[]).await?;
        for row in 0..rows {
            let mut cells = TokenRow::with_capacity(columns.len());
            let (mut column, before) = (0, long.len());
            let push = |cell| {
                match Long::empty(&cell) {
                    Some(empty) => {
                        cells.push(empty);
                        long.push(Long { row, column, cell });
                    }
                    None => cells.push(cell),
                }
                column += 1;
            };
            if let Err((column, reason)) = encoder.row(row, push) {
                long.truncate(before);
                faults.push(Fault { row, column: Some(column), reason });
                continue;
            }
            extra(row, &mut cells);
            match request.send(cells).await {
                Ok(()) => {}
                // The driver has taken the row back: it does not fit its column.
                Err(Driver::BulkInput(reason)) => {
                    long.truncate(before);
                    faults.push(Fault { row, column: None, reason: reason.into_owned() })
                }
                Err(Driver::Encoding(_)) => {
                    long.truncate(before);
                    faults.push(Fault { row, column: None, reason: LACKS.into() });
                }
                Err(error) => return Err(error),
            }
        }
        let sent = (rows - faults.len()) as u64;
        let counted = request.finalize().await?.total();
        Ok((sent, counted, faults, long))
    };
    match watch.until(Box::pin(work)).await {
        Ok(Ok((sent, counted, faults, long))) if counted == sent => Ok(Ok((sent, faults, long))),
        Ok(Ok((sent, counted, ..))) => Err(Error::new(
            ErrorKind::Remote,
            format!("the server counts {counted} rows of a bulk load of {sent}: nothing of it is committed"),
        )),
        Ok(Err(error)) => {
            if !matches!(error, Driver::Server(_)) {
                session.lose();
            }
            Ok(Err(error))
        }
        Err(error) => {
            session.stop().await;
            Err(error)
        }
    }
}

/// `INSERT … SELECT` from the session's own table, one statement at a time: each is applied whole or not at all.
struct Inserts<'a> {
    session: &'a mut Session,
    target: &'a Target,
    next: u64,
    rows: u64,
}

#[async_trait]
impl Bisect for Inserts<'_> {
    async fn apply(&mut self, _: &RecordBatch, rows: Range<usize>) -> Result<Option<Refusal>> {
        // The rows are at the server already, each under its number in the batch.
        let insert = self.target.insert(rows.start, rows.end, self.next);
        match self.session.try_change(&insert).await? {
            Ok(inserted) => {
                self.rows += inserted;
                Ok(None)
            }
            Err(error) => match is_row_fault(&error) {
                Some((column, reason)) => {
                    if !alive(self.session).await? {
                        return Err(Error::new(
                            ErrorKind::Data,
                            format!("because of a row the server has rolled back the whole transaction: {reason}"),
                        ));
                    }
                    Ok(Some(Refusal { row: None, column, reason }))
                }
                None => Err(from_driver(error)),
            },
        }
    }
}

/// Whether the session's transaction is still there and can be committed.
pub(crate) async fn alive(session: &mut Session) -> Result<bool> {
    let sql = "SELECT CAST(@@TRANCOUNT AS bigint), CAST(XACT_STATE() AS bigint)";
    let row = session.row(sql).await?;
    let cell = |at| row.as_ref().and_then(|row| cell_number(row, at));
    Ok(cell(0) == Some(1) && cell(1) == Some(1))
}

/// A task cannot go on after a lost transaction.
pub(crate) fn lost() -> Error {
    Error::internal("the task's connection is gone")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Publish;
    use weir_sql::TableName;

    #[test]
    fn rows_go_on_from_the_sessions_own_table_in_the_targets_types() {
        let written =
            |type_text: &str| Written { type_text: type_text.into(), collation: None, nullable: true, identity: false };
        let state = State {
            table: TableName::parse("dbo.t", QUOTING).unwrap(),
            create_schema: None,
            create: None,
            details: Vec::new(),
            staging: None,
            stage: None,
            commits: None,
            publish: Publish::None,
            taken: Vec::new(),
            referenced_by: Vec::new(),
            columns: vec![written("int"), written("decimal(9,2)")],
            identity: false,
            renumbers: true,
            babelfish: true,
            straight: true,
            cast: false,
            duplicate_keys: Default::default(),
            on_empty: Default::default(),
        };
        let target = Target::new(&state, vec!["a".into(), "b]".into()], 3, 2).unwrap();
        assert!(!target.is_direct(), "Babelfish misreads the decimals of a bulk load");
        assert_eq!(
            target.insert(5, 9, 100),
            "INSERT INTO [dbo].[t] ([a], [b]]], [weir_split], [weir_row]) SELECT c0, CAST(c1 AS decimal(9,2)), 3, \
             100 + weir_number FROM #weir_load WHERE weir_number >= 5 AND weir_number < 9 ORDER BY weir_number"
        );
        let state = State { babelfish: false, ..state };
        assert!(Target::new(&state, vec!["a".into(), "b".into()], 0, 0).unwrap().is_direct());
    }
}
