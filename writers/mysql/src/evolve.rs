//! Changing the table: columns added, widened, made to take NULL; keys that come after the rows.

use async_trait::async_trait;
use weir_core::{
    Completed, Completion, Error, ErrorKind, Evolve, Fit, KeyDefinition, MappedColumn, PresentColumn, Reference,
    Relation, Result, ResultExt, TableChange, WriteRequest,
};
use weir_mysql::{Kind, QUOTING, Server, Session, Table};

use crate::details::{comment, default_text};
use crate::keys;
use crate::known::Known;
use crate::types::for_new;
use crate::writer::MySqlWriter;

impl MySqlWriter {
    /// The table that is to be changed.
    async fn evolving(&self, session: &mut Session) -> Result<(Server, Table)> {
        present(self.ask(session).await?)
    }

    /// What is known of the table, whose keys are found, dropped or made again.
    async fn keyed(&self, session: &mut Session) -> Result<Known> {
        match self.find_left() {
            Some(known) => Ok(known),
            None => self.ask(session).await,
        }
    }
}

fn present(known: Known) -> Result<(Server, Table)> {
    let gone = || Error::new(ErrorKind::NotFound, "there is no such table to change").with("table", &known.name);
    Ok((known.server, known.table.ok_or_else(gone)?))
}

#[async_trait]
impl Evolve for MySqlWriter {
    async fn compare(&self, request: &WriteRequest) -> Result<Vec<Fit>> {
        let (server, table) = match self.seen.find() {
            Some(known) => present(known)?,
            None => {
                let mut session = self.connect().await?;
                let found = self.evolving(&mut session).await?;
                session.rest().await;
                found
            }
        };
        Ok(request.columns.iter().map(|column| fit(&server, &table, column)).collect())
    }

    async fn alterations(&self, changes: &[TableChange]) -> Result<Vec<String>> {
        let mut session = self.connect().await?;
        let (server, table) = self.evolving(&mut session).await?;
        let statement = statement(&mut session, &server, &table, changes).await?;
        session.close().await;
        Ok(statement.into_iter().collect())
    }

    async fn alter(&self, changes: &[TableChange]) -> Result<Vec<String>> {
        self.seen.forget();
        let mut session = self.connect().await?;
        let (server, table) = self.evolving(&mut session).await?;
        let statement = statement(&mut session, &server, &table, changes).await?;
        if let Some(sql) = &statement {
            impatient(&mut session).await?;
            session.run(sql).await.context("statement", sql)?;
        }
        session.close().await;
        Ok(statement.into_iter().collect())
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
        let unique = known.table.map(|table| table.unique).unwrap_or_default();
        Ok(unique.into_iter().map(|(_, columns)| columns).collect())
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
        Ok(keys::definitions(known, meant))
    }

    async fn release(&self, keys: &[KeyDefinition]) -> Result<()> {
        let mut session = self.connect().await?;
        let known = self.keyed(&mut session).await?;
        if known.table.is_some() {
            impatient(&mut session).await?;
            let _alone = self.alone().await?;
            let dropped = keys::drop(&mut session, &known, keys).await.context("table", &known.name);
            // It may have been done all the same: whoever tries again asks.
            dropped.inspect_err(|_| self.seen.forget())?;
            self.note_dropped(&known.name, keys);
        }
        session.close().await;
        Ok(())
    }

    async fn restore(&self, key: &KeyDefinition) -> Result<()> {
        let mut session = self.connect().await?;
        let known = self.keyed(&mut session).await?;
        if known.table.is_some() {
            impatient(&mut session).await?;
            let _alone = self.alone().await?;
            // As above.
            keys::restore(&mut session, &known, key).await.inspect_err(|_| self.seen.forget())?;
            self.note_restored(&known.name, key);
        }
        session.close().await;
        Ok(())
    }

    async fn complete(&self, completion: &Completion) -> Result<Completed> {
        let mut session = self.connect().await?;
        let known = match self.take_left() {
            Some(known) => known,
            None => self.ask(&mut session).await?,
        };
        let (_, table) = present(known.clone())?;
        impatient(&mut session).await?;
        let mut completed = Completed::default();
        for (column, next) in &completion.positions {
            position(&mut session, &table, column, *next).await.context("column", column)?;
        }
        let quoted = table.name.quoted(QUOTING);
        for key in &completion.unique {
            let same = |(_, other): &(String, Vec<String>)| {
                other.len() == key.columns.len() && other.iter().all(|column| key.columns.contains(column))
            };
            if !table.unique.iter().any(same) {
                let sql = format!("ALTER TABLE {quoted} ADD UNIQUE KEY ({})", QUOTING.quote_all(&key.columns));
                tried(&mut session, &sql, &mut completed).await?;
            }
        }
        for key in keys::missing(&known, &completion.foreign_keys) {
            let _alone = self.alone().await?;
            if let Some(named) = &key.named {
                match session.run(named).await {
                    Err(error) if keys::is_name_taken(&error) => {}
                    other => {
                        if settled(other, named, &mut completed)? {
                            completed.foreign_keys.push(key.key);
                        }
                        continue;
                    }
                }
            }
            if tried(&mut session, &key.unnamed, &mut completed).await? {
                completed.foreign_keys.push(Reference { name: String::new(), ..key.key });
            }
        }
        session.close().await;
        Ok(completed)
    }
}

/// Whoever waits for the table keeps everybody else waiting, so nobody is waited for long.
async fn impatient(session: &mut Session) -> Result<()> {
    session.run("SET SESSION lock_wait_timeout = 60").await
}

/// Runs a statement that the rows or the types may not allow, and tells whether it was done; that it failed is then said and no
/// error.
async fn tried(session: &mut Session, sql: &str, completed: &mut Completed) -> Result<bool> {
    settled(session.run(sql).await, sql, completed)
}

fn settled(done: Result<()>, sql: &str, completed: &mut Completed) -> Result<bool> {
    match done {
        Ok(()) => {
            completed.keys.push(sql.to_owned());
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::Cancelled || error.is_retryable() => Err(error),
        Err(error) => {
            completed.undone.push(format!("{sql}: {}", error.full()));
            Ok(false)
        }
    }
}

fn fit(server: &Server, table: &Table, column: &MappedColumn) -> Fit {
    let is_key = table.primary_key().contains(&column.name);
    let wanted = for_new(column, is_key, server, &[]).type_text;
    let family = |text: &str| Kind::parse(text).family(text);
    let present = table.column(&column.name).map(|found| PresentColumn {
        native_type: found.type_text.clone(),
        relation: family(&found.type_text).relation(&family(&wanted)),
    });
    Fit { wanted, present }
}

/// All changes as one statement, which the server does whole or not at all.
async fn statement(
    session: &mut Session,
    server: &Server,
    table: &Table,
    changes: &[TableChange],
) -> Result<Option<String>> {
    let mut actions: Vec<String> = Vec::new();
    // A column that is widened and takes NULL is one that is modified once.
    let mut modified: Vec<(String, String, bool)> = Vec::new();
    for change in changes {
        let column = change.column();
        let fit = fit(server, table, column);
        let Some(present) = fit.present else {
            match change {
                TableChange::AddColumn { default, .. } => actions.push(addition(server, column, default.as_ref())),
                _ => {
                    return Err(Error::new(ErrorKind::Conflict, "the column is gone from the target: run again")
                        .with("column", &column.name));
                }
            }
            continue;
        };
        let nullable = table.column(&column.name).is_some_and(|found| found.nullable);
        let (type_text, allow) = match change {
            TableChange::WidenColumn { .. } => match present.relation {
                Relation::Same | Relation::Holds => continue,
                Relation::Widens => (fit.wanted, false),
                Relation::Crosses | Relation::Apart => {
                    let text = format!("{} cannot be widened to {}", present.native_type, fit.wanted);
                    return Err(Error::new(ErrorKind::Unsupported, text).with("column", &column.name));
                }
            },
            TableChange::AllowNull { .. } if !nullable => (present.native_type, true),
            TableChange::AllowNull { .. } | TableChange::AddColumn { .. } => continue,
        };
        match modified.iter_mut().find(|(name, ..)| *name == column.name) {
            Some((_, text, null)) => {
                if !allow {
                    *text = type_text;
                }
                *null |= allow;
            }
            None => modified.push((column.name.clone(), type_text, allow)),
        }
    }
    if !modified.is_empty() {
        let shown: Option<(String, String)> =
            session.row(&format!("SHOW CREATE TABLE {}", table.name.quoted(QUOTING))).await?;
        let shown = shown.map(|(_, text)| text).unwrap_or_default();
        for (name, type_text, allow) in modified {
            let present = table.column(&name).map_or("", |found| found.type_text.as_str());
            let rest = definition(&shown, &name, present).ok_or_else(|| {
                Error::new(ErrorKind::Unsupported, "the server does not show how the column is defined")
                    .with("column", &name)
            })?;
            // The words come before the default and the comment, the only ones with texts of their own.
            let rest = if allow { rest.replacen(" NOT NULL", " NULL", 1) } else { rest };
            actions.push(format!("MODIFY COLUMN {} {type_text}{rest}", QUOTING.quote(&name)));
        }
    }
    Ok((!actions.is_empty()).then(|| format!("ALTER TABLE {} {}", table.name.quoted(QUOTING), actions.join(", "))))
}

fn addition(server: &Server, column: &MappedColumn, default: Option<&weir_core::ColumnDefault>) -> String {
    let new = for_new(column, false, server, &[]);
    let default = default.map_or_else(String::new, |default| default_text(default, &new.type_text, server));
    // Without the word a timestamp takes no NULL on older servers.
    let null = if default.is_empty() || column.nullable { " NULL" } else { " NOT NULL" };
    format!("ADD COLUMN {} {}{null}{default}{}", QUOTING.quote(&column.name), new.ddl, comment(column))
}

/// What stands behind a column's type in `SHOW CREATE TABLE`: ` NOT NULL DEFAULT 5 COMMENT '…'`.
fn definition(shown: &str, name: &str, type_text: &str) -> Option<String> {
    let start = format!("  {} ", QUOTING.quote(name));
    let line = shown.lines().find_map(|line| line.strip_prefix(start.as_str()))?;
    // MariaDB shows its json as the longtext that it is.
    let rest =
        line.strip_prefix(type_text).or_else(|| line.strip_prefix("longtext").filter(|_| type_text == "json"))?;
    Some(rest.strip_suffix(',').unwrap_or(rest).to_owned())
}

/// Lets the next number of a column be at least `next`; InnoDB itself goes beyond all that are there.
async fn position(session: &mut Session, table: &Table, column: &str, next: i64) -> Result<()> {
    let numbered = table.column(column).is_some_and(|found| found.numbered);
    let behind = table.next.is_none_or(|now| i128::from(now) < i128::from(next));
    if numbered && behind && next > 1 {
        session.run(&format!("ALTER TABLE {} AUTO_INCREMENT = {next}", table.name.quoted(QUOTING))).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_taken_over_behind_the_type() {
        let shown = "CREATE TABLE `t` (\n  `id` int(11) NOT NULL AUTO_INCREMENT,\n  `a``b` varchar(10) CHARACTER SET latin1 \
                     NOT NULL DEFAULT 'x, NOT NULL' COMMENT 'it''s',\n  `j` longtext DEFAULT NULL CHECK (json_valid(`j`)),\n  \
                     PRIMARY KEY (`id`)\n) ENGINE=InnoDB";
        assert_eq!(definition(shown, "id", "int(11)").unwrap(), " NOT NULL AUTO_INCREMENT");
        let rest = definition(shown, "a`b", "varchar(10)").unwrap();
        assert_eq!(
            rest.replacen(" NOT NULL", " NULL", 1),
            " CHARACTER SET latin1 NULL DEFAULT 'x, NOT NULL' COMMENT 'it''s'"
        );
        assert_eq!(definition(shown, "j", "json").unwrap(), " DEFAULT NULL CHECK (json_valid(`j`))");
        assert_eq!(definition(shown, "gone", "int(11)"), None);
    }
}
