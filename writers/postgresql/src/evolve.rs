//! Changing the table: columns added, widened, made to take NULL; keys that come after the rows.

use arrow::datatypes::DataType;
use async_trait::async_trait;
use weir_core::field::native_type;
use weir_core::{
    Completed, Completion, Error, ErrorKind, Evolve, Family, Fit, KeyDefinition, MappedColumn, PresentColumn,
    Reference, Relation, Result, ResultExt, TableChange, WriteRequest,
};
use weir_postgresql::catalog::Table;
use weir_postgresql::find::require_table;
use weir_postgresql::types::labels;
use weir_postgresql::{PgType, SYSTEM, Session, literal};
use weir_sql::TableName;

use crate::created::{Created, NewType, created_type, new_labels};
use crate::details::{comment, default_sql};
use crate::keys;
use crate::known::{Found, Known};
use crate::plan::Q;
use crate::writer::PostgresqlWriter;

/// The statements of some changes.
#[derive(Default)]
struct Alteration {
    /// Types that do not exist yet.
    new_types: Vec<NewType>,
    /// Statements that each stand for themselves: labels of an enum cannot be added and used in one transaction.
    labels: Vec<String>,
    /// The parts of one ALTER TABLE.
    actions: Vec<String>,
    /// Comments of new columns.
    comments: Vec<String>,
}

impl Alteration {
    fn statements(&self, table: &TableName) -> Vec<String> {
        let mut all: Vec<String> = self.new_types.iter().map(NewType::sql).collect();
        all.extend(self.labels.iter().cloned());
        if !self.actions.is_empty() {
            all.push(format!("ALTER TABLE {} {}", table.quoted(Q), self.actions.join(", ")));
        }
        all.extend(self.comments.iter().cloned());
        all
    }
}

#[async_trait]
impl Evolve for PostgresqlWriter {
    async fn compare(&self, request: &WriteRequest) -> Result<Vec<Fit>> {
        let mut session = self.connect().await?;
        let found;
        let seen = self.seen.find();
        let table = match seen.as_ref().and_then(Known::table) {
            Some(table) => table,
            None => {
                found = require_table(&mut session, &self.table).await?;
                &found
            }
        };
        let mut fits = Vec::with_capacity(request.columns.len());
        for column in &request.columns {
            fits.push(fit(&mut session, table, column, &mut Vec::new()).await?.1);
        }
        session.rest().await;
        Ok(fits)
    }

    async fn alterations(&self, changes: &[TableChange]) -> Result<Vec<String>> {
        let mut session = self.connect().await?;
        let table = require_table(&mut session, &self.table).await?;
        let alteration = alteration(&mut session, &table, changes).await?;
        session.close().await;
        Ok(alteration.statements(&table.name))
    }

    async fn alter(&self, changes: &[TableChange]) -> Result<Vec<String>> {
        self.seen.forget();
        let mut session = self.connect().await?;
        let table = require_table(&mut session, &self.table).await?;
        let alteration = alteration(&mut session, &table, changes).await?;
        for new in &alteration.new_types {
            new.create(&mut session).await?;
        }
        let statements = alteration.statements(&table.name);
        // Whoever waits for the table keeps everybody else waiting, so nobody is waited for long.
        session.execute("SET lock_timeout = '60s'").await?;
        for statement in &statements[alteration.new_types.len()..] {
            session.execute(statement).await.context("statement", statement)?;
        }
        session.close().await;
        Ok(statements)
    }

    async fn unique_keys(&self) -> Result<Vec<Vec<String>>> {
        let known = match self.seen.find() {
            Some(known) => known,
            None => {
                let mut session = self.connect().await?;
                let known = self.ask(&mut session).await?;
                session.rest().await;
                known
            }
        };
        Ok(known.found.map(|found| found.unique).unwrap_or_default())
    }

    async fn foreign_keys(&self, meant: &[Reference]) -> Result<Vec<KeyDefinition>> {
        let known = match self.find_left() {
            Some(known) => known,
            None => {
                let mut session = self.connect().await?;
                let known = self.ask(&mut session).await?;
                session.rest().await;
                known
            }
        };
        Ok(keys::meant(known, meant))
    }

    async fn release(&self, keys: &[KeyDefinition]) -> Result<()> {
        let mut session = self.connect().await?;
        let known = match self.find_left() {
            Some(known) => known,
            None => self.ask(&mut session).await?,
        };
        if let Some(table) = known.table() {
            keys::drop(&mut session, table, keys).await.context("table", &table.name)?;
            self.note_dropped(table, keys);
        }
        session.rest().await;
        Ok(())
    }

    async fn restore(&self, key: &KeyDefinition) -> Result<()> {
        let mut session = self.connect().await?;
        let known = match self.find_left() {
            Some(known) => known,
            None => self.ask(&mut session).await?,
        };
        let table = known.table().cloned();
        // It may have been done all the same: whoever tries again asks.
        keys::restore(&mut session, known, key).await.inspect_err(|_| self.seen.forget())?;
        if let Some(table) = &table {
            self.note_restored(table, key);
        }
        session.rest().await;
        Ok(())
    }

    async fn complete(&self, completion: &Completion) -> Result<Completed> {
        let mut session = self.connect().await?;
        let known = match self.take_left() {
            Some(known) => known,
            None => self.ask(&mut session).await?,
        };
        let Some(Found { table, unique: present, keys, .. }) = known.found else {
            return Err(require_table(&mut session, &self.table).await.err().unwrap_or_else(|| {
                Error::new(ErrorKind::Conflict, "the table was created meanwhile: run again").retryable(true)
            }));
        };
        let quoted = table.name.quoted(Q);
        let mut completed = Completed::default();
        for (column, next) in &completion.positions {
            if let Err(error) = position(&mut session, &quoted, column, *next).await {
                undone(&format!("the next number of {column}"), error, &mut completed)?;
            }
        }
        for key in &completion.unique {
            let same = |other: &Vec<String>| {
                other.len() == key.columns.len() && other.iter().all(|column| key.columns.contains(column))
            };
            if !present.iter().any(same) {
                let sql = format!("CREATE UNIQUE INDEX ON {quoted} ({})", Q.quote_all(&key.columns));
                tried(&mut session, &sql, &mut completed).await?;
            }
        }
        for (key, sql) in keys::missing(&table.name, &keys, known.schema.as_deref(), &completion.foreign_keys) {
            if tried(&mut session, &sql, &mut completed).await? {
                completed.foreign_keys.push(key);
            }
        }
        session.rest().await;
        Ok(completed)
    }
}

/// Runs a statement that the rows may not allow, and tells whether it was done; that it failed is then said and no error.
async fn tried(session: &mut Session, sql: &str, completed: &mut Completed) -> Result<bool> {
    match session.execute(sql).await {
        Ok(_) => {
            completed.keys.push(sql.to_owned());
            Ok(true)
        }
        Err(error) => undone(sql, error, completed).map(|()| false),
    }
}

/// Says that something could not be done, unless it is to be tried again: the rest goes on.
fn undone(what: &str, error: Error, completed: &mut Completed) -> Result<()> {
    if error.kind() == ErrorKind::Cancelled || error.is_retryable() {
        return Err(error);
    }
    completed.undone.push(format!("{what}: {}", error.full()));
    Ok(())
}

/// The type a column would be given today, and how it stands to the one that is there.
async fn fit(
    session: &mut Session,
    table: &Table,
    column: &MappedColumn,
    new_types: &mut Vec<NewType>,
) -> Result<(PgType, Fit)> {
    let Created { pg: wanted, lacks, .. } =
        created_type(session, column, (&table.name, &table.columns), new_types).await?;
    let present = table.column(&column.name).map(|found| PresentColumn {
        native_type: found.pg.text.clone(),
        relation: relation(&found.pg, &wanted, column),
    });
    // A column that is there is widened by rule; one that comes has to be able to hold its values.
    new_types.extend(lacks.filter(|lacks| present.is_none() && !new_types.contains(lacks)));
    let fit = Fit { wanted: wanted.text.clone(), present };
    Ok((wanted, fit))
}

fn relation(found: &PgType, wanted: &PgType, column: &MappedColumn) -> Relation {
    let family = match wanted.family() {
        // The type of that name here may lack labels that the source has.
        Family::Labels(own) => Family::Labels(column.offers.iter().find_map(labels).unwrap_or(own)),
        other => other,
    };
    // Forms that only this system has are the same by their names, also where a domain hides the base type.
    if column.offers.iter().filter_map(native_type).any(|(system, text)| system == SYSTEM && text == found.text)
        && !matches!(family, Family::Labels(_))
    {
        return Relation::Same;
    }
    match (found.family(), &family) {
        // No whole number of the server's own holds unsigned ones of 64 bits: they are decimals, and so become what was narrower.
        (Family::Integer { bits, .. }, Family::Decimal { limits: Some((precision, 0)) })
            if is_unsigned(column) && *precision >= digits(bits) =>
        {
            Relation::Widens
        }
        (own, family) => match (own.relation(family), family) {
            // Labels that only the target has stay, another table's perhaps.
            (Relation::Crosses, Family::Labels(_)) => Relation::Widens,
            (relation, _) => relation,
        },
    }
}

/// Whether a source's numbers are unsigned ones of 64 bits.
fn is_unsigned(column: &MappedColumn) -> bool {
    column.offers.iter().any(|offer| *offer.data_type() == DataType::UInt64)
}

/// The most decimal digits of a signed number.
fn digits(bits: u8) -> u32 {
    match bits {
        ..=16 => 5,
        17..=32 => 10,
        _ => 19,
    }
}

async fn alteration(session: &mut Session, table: &Table, changes: &[TableChange]) -> Result<Alteration> {
    let mut done = Alteration::default();
    for change in changes {
        let column = change.column();
        let name = Q.quote(&column.name);
        let present = table.column(&column.name);
        match (change, present) {
            (TableChange::AddColumn { .. }, Some(_)) => {}
            (TableChange::AddColumn { default, .. }, None) => {
                let (pg, _) = fit(session, table, column, &mut done.new_types).await?;
                let default = default.as_ref().and_then(|default| default_sql(default, &pg));
                let null = if default.is_some() && !column.nullable { " NOT NULL" } else { "" };
                let default = default.map_or_else(String::new, |sql| format!(" DEFAULT {sql}"));
                done.actions.push(format!("ADD COLUMN {name} {}{default}{null}", pg.text));
                done.comments.extend(comment(&table.name, column));
            }
            (TableChange::WidenColumn { .. }, Some(found)) => {
                let (pg, fit) = fit(session, table, column, &mut done.new_types).await?;
                match fit.present.map(|present| present.relation) {
                    Some(Relation::Same | Relation::Holds) | None => {}
                    Some(Relation::Widens) if found.pg.kind == 'e' => {
                        done.labels
                            .extend(new_labels(&found.pg, &column.offers.iter().find_map(labels).unwrap_or_default()));
                    }
                    Some(Relation::Widens) => done.actions.push(format!("ALTER COLUMN {name} TYPE {}", pg.text)),
                    Some(Relation::Crosses | Relation::Apart) => {
                        return Err(Error::new(
                            ErrorKind::Unsupported,
                            format!("{} cannot be widened to {}", found.pg.text, pg.text),
                        )
                        .with("column", &column.name));
                    }
                }
            }
            (TableChange::AllowNull { .. }, Some(found)) if !found.nullable => {
                done.actions.push(format!("ALTER COLUMN {name} DROP NOT NULL"));
            }
            (TableChange::AllowNull { .. }, Some(_)) => {}
            (_, None) => {
                return Err(Error::new(ErrorKind::Conflict, "the column is gone from the target: run again")
                    .with("column", &column.name));
            }
        }
    }
    Ok(done)
}

/// Lets the next number of a column lie beyond `next` and all that are there, in the direction in which its sequence counts,
/// or at the sequence's end.
async fn position(session: &mut Session, quoted: &str, column: &str, next: i64) -> Result<()> {
    let name = Q.quote(column);
    let sequence: Option<String> =
        session.value(&format!("SELECT pg_get_serial_sequence({}, {})", literal(quoted), literal(column))).await?;
    // A column that the target does not number needs no position.
    let Some(sequence) = sequence else { return Ok(()) };
    // In numeric, for what comes after the last number that a type has is none of that type.
    session
        .rows(&format!(
            "SELECT CASE WHEN m.next > q.seqmax THEN setval(q.seqrelid::regclass, q.seqmax, true) \
               WHEN m.next < q.seqmin THEN setval(q.seqrelid::regclass, q.seqmin, true) \
               ELSE setval(q.seqrelid::regclass, m.next::int8, false) END \
             FROM (SELECT s.seqrelid, s.seqmin, s.seqmax, s.seqincrement > 0 AS up, \
                 coalesce(pg_sequence_last_value(s.seqrelid)::numeric + s.seqincrement, s.seqstart) AS next \
               FROM pg_catalog.pg_sequence s WHERE s.seqrelid = {0}::regclass) q, \
             LATERAL (SELECT CASE WHEN q.up \
               THEN greatest({next}, (SELECT max({name})::numeric + 1 FROM {quoted}), q.next) \
               ELSE least({next}, (SELECT min({name})::numeric - 1 FROM {quoted}), q.next) END AS next) m \
             WHERE m.next <> q.next",
            literal(&sequence)
        ))
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_added_where_the_source_has_them() {
        let list = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
        let found = PgType {
            text: "mood".into(),
            base: "mood".into(),
            oid: 99_999,
            typmod: -1,
            kind: 'e',
            labels: list(&["calm", "glad"]),
        };
        assert_eq!(
            new_labels(&found, &list(&["sad", "calm", "it's", "glad"])),
            [
                "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'sad' BEFORE 'calm'",
                "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'it''s' AFTER 'calm'"
            ]
        );
    }
}
