//! From the staging table into the target: the statements of the publishing transaction.

use weir_core::{Error, Receipt, Result, WritePlan};
use weir_mysql::{QUOTING, Session};
use weir_sql::config::DuplicateKeys;
use weir_sql::keys::equal_keys;
use weir_sql::order::Steps;

use crate::state::{Publish, ROW, SPLIT, State};

/// The names that the statements are made of.
pub(crate) struct Names {
    target: String,
    staging: String,
    /// The written columns.
    columns: Vec<String>,
    /// Those of them whose values of equal keys may differ all the same: texts, by case or accent.
    texts: Vec<String>,
    /// Those that tie rows to each other, written or not.
    ties: Vec<String>,
    /// Which rows of the staging table belong to finished splits.
    chosen: String,
}

impl Names {
    pub(crate) fn new(plan: &WritePlan, state: &State, receipts: &[Receipt]) -> Result<Self> {
        let staging = state.staging.as_ref().ok_or_else(|| Error::internal("nothing is staged"))?;
        let mut splits: Vec<u32> = receipts.iter().map(|r| r.split).collect();
        splits.sort_unstable();
        let chosen = match splits.as_slice() {
            [] => "1 = 0".into(),
            splits => format!("s.{SPLIT} IN ({})", splits.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
        };
        let texts = plan.columns.iter().zip(state.kinds()).filter(|(_, kind)| kind.is_text());
        Ok(Self {
            target: state.table.quoted(QUOTING),
            staging: staging.quoted(QUOTING),
            columns: plan.columns.iter().map(|c| c.name.clone()).collect(),
            texts: texts.map(|(c, _)| c.name.clone()).collect(),
            ties: state.ties.clone(),
            chosen,
        })
    }

    fn list(&self) -> String {
        QUOTING.quote_all(&self.columns)
    }

    /// The values of new rows, but for what ties them to each other.
    fn values(&self) -> String {
        let value = |n: &String| match self.ties.contains(n) {
            true => "NULL".into(),
            false => format!("s.{}", QUOTING.quote(n)),
        };
        self.columns.iter().map(value).collect::<Vec<_>>().join(", ")
    }

    fn equal(keys: &[String]) -> String {
        Self::equal_in("t", keys)
    }

    fn equal_in(table: &str, keys: &[String]) -> String {
        keys.iter().map(|k| format!("{table}.{0} = s.{0}", QUOTING.quote(k))).collect::<Vec<_>>().join(" AND ")
    }

    /// Those columns that may differ between rows of equal keys.
    fn differing(&self, keys: &[String], with_keys: bool) -> Vec<&String> {
        let differs = |n: &&String| !keys.contains(n) || (with_keys && self.texts.contains(n));
        self.columns.iter().filter(differs).collect()
    }

    fn sets(columns: &[&String]) -> String {
        columns.iter().map(|n| format!("t.{0} = s.{0}", QUOTING.quote(n))).collect::<Vec<_>>().join(", ")
    }

    /// Updates what is there and inserts the rest; what ties rows to each other comes when all are there. All columns once
    /// more then: one that the server would fill by itself is told its value.
    fn merge(&self, columns: &[&String], update: impl Fn(&str) -> String, insert: String) -> Vec<String> {
        let (ties, free): (Vec<&String>, Vec<&String>) = columns.iter().copied().partition(|n| self.ties.contains(n));
        // The server itself leaves rows alone that would not change.
        let mut fill: Vec<String> = (!free.is_empty()).then(|| update(&Self::sets(&free))).into_iter().collect();
        fill.push(insert);
        fill.extend((!ties.is_empty()).then(|| update(&Self::sets(columns))));
        fill
    }

    /// Takes away what ties rows to others that go, or does not tie them any more.
    fn untie(&self, equal: &str) -> Vec<String> {
        let Self { target, staging, chosen, .. } = self;
        let of = |tie: &String| {
            let column = QUOTING.quote(tie);
            let other = match self.columns.contains(tie) {
                true => format!(" OR NOT (t.{column} <=> s.{column})"),
                false => String::new(),
            };
            format!(
                "UPDATE {target} t LEFT JOIN {staging} s ON {equal} AND {chosen} SET t.{column} = NULL \
                 WHERE t.{column} IS NOT NULL AND (s.{SPLIT} IS NULL{other})"
            )
        };
        self.ties.iter().map(of).collect()
    }

    pub(crate) fn steps(&self, publish: &Publish, keys: &[String], same: &str) -> Steps {
        let Self { target, staging, chosen, .. } = self;
        let (list, values) = (self.list(), self.values());
        match publish {
            Publish::None => Steps::default(),
            Publish::Insert | Publish::InsertTied(_) | Publish::InsertMissing | Publish::ReplaceEqual => {
                let verb = if *publish == Publish::ReplaceEqual { "REPLACE" } else { "INSERT" };
                // As INSERT IGNORE, but every other fault stays an error.
                let skip = match publish {
                    Publish::InsertMissing => {
                        let same = QUOTING.quote(same);
                        format!(" ON DUPLICATE KEY UPDATE {same} = {target}.{same}")
                    }
                    _ => String::new(),
                };
                let insert = format!(
                    "{verb} INTO {target} ({list}) SELECT {values} FROM {staging} s WHERE {chosen} \
                     ORDER BY s.{SPLIT}, s.{ROW}{skip}"
                );
                let mut fill = vec![insert];
                if let Publish::InsertTied(key) = publish {
                    let (equal, sets) = (Self::equal(key), Self::sets(&self.differing(key, false)));
                    fill.push(format!("UPDATE {target} t JOIN {staging} s ON {equal} AND {chosen} SET {sets}"));
                }
                Steps { fill, ..Steps::default() }
            }
            Publish::Replace => Steps {
                clear: Some(format!("DELETE FROM {target}")),
                fill: vec![format!("INSERT INTO {target} ({list}) SELECT {values} FROM {staging} s WHERE {chosen}")],
                ..Steps::default()
            },
            Publish::Diff(keys) => {
                let equal = Self::equal(keys);
                // By its full name: an alias to delete from is looked for in the session's database, and there may be none.
                let clear = format!(
                    "DELETE {target} FROM {target} LEFT JOIN {staging} s ON {} AND {chosen} WHERE s.{SPLIT} IS NULL",
                    Self::equal_in(target, keys)
                );
                let update =
                    |sets: &str| format!("UPDATE {target} t JOIN {staging} s ON {equal} AND {chosen} SET {sets}");
                let insert = self.insert_missing(&format!("{staging} s"), keys);
                let fill = self.merge(&self.differing(keys, true), update, insert);
                Steps { untie: self.untie(&equal), clear: Some(clear), by_key: true, fill }
            }
            Publish::OnDuplicate => {
                let mut sets: Vec<String> = (self.columns.iter().filter(|n| !keys.contains(n)))
                    .map(|n| format!("{0} = s.{0}", QUOTING.quote(n)))
                    .collect();
                if sets.is_empty() {
                    let same = QUOTING.quote(same);
                    sets.push(format!("{same} = {target}.{same}"));
                }
                let insert = format!(
                    "INSERT INTO {target} ({list}) SELECT {values} FROM {staging} s WHERE {chosen} \
                     ORDER BY s.{SPLIT}, s.{ROW} ON DUPLICATE KEY UPDATE {}",
                    sets.join(", ")
                );
                Steps { fill: vec![insert], ..Steps::default() }
            }
            Publish::Join { nullable } => {
                let last = self.last_rows(keys, nullable);
                let equal = Self::equal(keys);
                let update = |sets: &str| format!("UPDATE {last} JOIN {target} t ON {equal} SET {sets}");
                let fill = self.merge(&self.differing(keys, false), update, self.insert_missing(&last, keys));
                Steps { fill, ..Steps::default() }
            }
        }
    }

    fn insert_missing(&self, from: &str, keys: &[String]) -> String {
        let Self { target, chosen, .. } = self;
        let first = keys.first().map(|k| QUOTING.quote(k)).unwrap_or_default();
        format!(
            "INSERT INTO {target} ({}) SELECT {} FROM {from} LEFT JOIN {target} t ON {} WHERE t.{first} IS NULL AND \
             {chosen}",
            self.list(),
            self.values(),
            Self::equal(keys)
        )
    }

    /// The rows of the staging table of which no later one has the same key, as a joined table `s`.
    fn last_rows(&self, keys: &[String], nullable: &[String]) -> String {
        let Self { staging, chosen, .. } = self;
        let number = format!("(s.{SPLIT} << 32) | s.{ROW}");
        let mut groups: Vec<String> = keys.iter().map(|k| format!("s.{}", QUOTING.quote(k))).collect();
        // A NULL equals no other one.
        groups.extend(nullable.iter().map(|k| format!("IF(s.{} IS NULL, {number}, 0)", QUOTING.quote(k))));
        format!(
            "(SELECT MAX({number}) AS weir_last FROM {staging} s WHERE {chosen} GROUP BY {}) w JOIN {staging} s \
             ON s.{SPLIT} = w.weir_last >> 32 AND s.{ROW} = w.weir_last & 4294967295",
            groups.join(", ")
        )
    }

    /// Fails when two staged rows have one key and the job wants to know.
    pub(crate) async fn check_duplicates(
        &self,
        session: &mut Session,
        plan: &WritePlan,
        wanted: DuplicateKeys,
    ) -> Result<()> {
        let keys = &plan.keys;
        if wanted == DuplicateKeys::Last || keys.is_empty() {
            return Ok(());
        }
        let Self { staging, chosen, .. } = self;
        let names: Vec<String> = keys.iter().map(|k| format!("s.{}", QUOTING.quote(k))).collect();
        let shown = names.iter().map(|n| format!("QUOTE({n})")).collect::<Vec<_>>().join(", ', ', ");
        let there = names.iter().map(|n| format!("{n} IS NOT NULL")).collect::<Vec<_>>().join(" AND ");
        let twice: Option<(Vec<u8>, u64)> = session
            .row(&format!(
                "SELECT CONCAT({shown}), COUNT(*) FROM {staging} s WHERE {chosen} AND {there} GROUP BY {} \
                 HAVING COUNT(*) > 1 LIMIT 1",
                names.join(", ")
            ))
            .await?;
        let Some((key, rows)) = twice else { return Ok(()) };
        let key: String = String::from_utf8_lossy(&key).chars().take(200).collect();
        Err(equal_keys(&self.target, (&plan.columns, keys), &key, rows))
    }
}
