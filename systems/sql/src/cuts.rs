//! Cutting a table by the values of a column, where the server says how large the table is.

use serde_json::Value;
use weir_core::{Result, Split, SplitRequest};

use crate::names::{Quoting, find_name};
use crate::ranges::{integer_boundaries, key_ranges};

/// Below this, cutting costs more than it brings.
const SMALL: u64 = 8 * 1024 * 1024;

/// A column that a table may be cut by.
#[derive(Debug, Clone, Copy)]
pub struct CutColumn<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it takes NULL.
    pub nullable: bool,
}

/// A place to cut: as SQL, and for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Boundary {
    /// A literal that the server compares as it does the column's values.
    pub sql: String,
    /// What people see of it.
    pub shown: String,
}

/// Which column of a table it is cut by: the job's `splitPk`, else the first of the primary key.
///
/// # Errors
/// There is no such column.
pub fn key_column<'a>(
    split_pk: Option<&str>,
    names: impl Iterator<Item = &'a str> + Clone,
    primary: Option<&str>,
    quoting: Quoting,
) -> Result<Option<usize>> {
    match split_pk {
        Some(name) => {
            find_name("column", &quoting.unquote(name), names).map(Some).map_err(|e| e.with("parameter", "splitPk"))
        }
        None => Ok(primary.and_then(|primary| names.clone().position(|name| name == primary))),
    }
}

/// How many pieces a table of so many bytes is cut into, one of so many `tables`; `asked`: whether the job names the column.
pub fn pieces(bytes: Option<u64>, asked: bool, tables: usize, request: &SplitRequest) -> usize {
    if request.limit.is_some_and(|limit| limit <= 100_000) {
        return 1;
    }
    let bytes = bytes.unwrap_or(0);
    let bounded = bytes.div_ceil(request.max_bytes.max(1)) as usize;
    let channels = request.channels.max(1);
    let wanted = if asked {
        channels.div_ceil(tables.max(1))
    } else if bytes < SMALL {
        1
    } else {
        // Several for each channel, so that the last one does not leave the others idle.
        (4 * channels).div_ceil(tables.max(1)).min((bytes / SMALL) as usize)
    };
    wanted.max(bounded).clamp(1, 10_000)
}

/// The places that cut the whole numbers from `min` to `max` into ranges of equal width; `None` where most of the numbers
/// are unused, and such ranges would not hold equally many of the `rows`.
pub fn even(min: i128, max: i128, rows: Option<u64>, pieces: usize) -> Option<Vec<Boundary>> {
    let known = i128::from(rows.unwrap_or(u64::MAX));
    let cuts = ((max - min) / 16 <= known.max(1000)).then(|| integer_boundaries(min, max, pieces))?;
    Some(cuts.into_iter().map(|sql| Boundary { shown: sql.clone(), sql }).collect())
}

/// The pieces of a split that is cut at these places; `part` makes the reader's own words of a range's condition.
///
/// # Errors
/// Those of `part`.
pub fn cut(
    whole: &Split,
    column: CutColumn<'_>,
    quoting: Quoting,
    boundaries: Vec<Boundary>,
    part: impl Fn(Option<String>) -> Result<Value>,
) -> Result<Vec<Split>> {
    let CutColumn { name, nullable } = column;
    let (sql, shown): (Vec<_>, Vec<_>) = boundaries.into_iter().map(|b| (b.sql, b.shown)).unzip();
    let ranges = key_ranges(&quoting.quote(name), name, &sql, nullable);
    let named = key_ranges(name, name, &shown, nullable);
    // Few rows have a NULL key, as a rule: the estimate is shared by the other ranges.
    let share = (ranges.len() - usize::from(nullable && ranges.len() > 1)).max(1) as u64;
    let pieces = ranges.into_iter().zip(named).map(|(range, named)| {
        Ok(Split {
            description: named.description,
            rows: whole.rows.map(|n| n / share),
            bytes: whole.bytes.map(|n| n / share),
            part: part(range.condition)?,
            ..whole.clone()
        })
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_tables_are_cut_for_all_channels() {
        let request = SplitRequest { channels: 4, max_bytes: 1 << 30, snapshot: None, stable: false, limit: None };
        let of = |bytes, asked, tables| pieces(bytes, asked, tables, &request);
        assert_eq!([of(None, false, 1), of(None, true, 1), of(Some(SMALL), true, 2)], [1, 4, 2]);
        assert_eq!([of(Some(5 * SMALL), false, 1), of(Some(1 << 40), false, 1)], [5, 1024]);
        let few = SplitRequest { limit: Some(10), ..request.clone() };
        assert_eq!(pieces(Some(1 << 40), true, 1, &few), 1);
    }

    #[test]
    fn numbers_with_wide_gaps_are_not_cut_evenly() {
        assert_eq!(even(1, 10, None, 2), Some(vec![Boundary { sql: "6".into(), shown: "6".into() }]));
        assert_eq!(even(0, 1 << 40, Some(10), 2), None);
    }

    #[test]
    fn pieces_share_what_the_whole_has() {
        let whole = Split {
            id: 0,
            table: "t".into(),
            description: "all rows".into(),
            rows: Some(100),
            bytes: None,
            stable: true,
            part: Value::Null,
        };
        let column = CutColumn { name: "k", nullable: true };
        let at = vec![Boundary { sql: "X'41'".into(), shown: "'A'".into() }];
        let all = cut(&whole, column, Quoting::BRACKET, at, |condition| Ok(condition.into())).unwrap();
        let shown: Vec<_> = all.iter().map(|s| (s.description.as_str(), s.part.as_str().unwrap(), s.rows)).collect();
        assert_eq!(
            shown,
            [
                ("k < 'A'", "[k] < X'41'", Some(50)),
                ("k >= 'A'", "[k] >= X'41'", Some(50)),
                ("k IS NULL", "[k] IS NULL", Some(50))
            ]
        );
    }

    #[test]
    fn a_key_is_the_jobs_or_the_tables() {
        let key = |asked, primary| key_column(asked, ["a", "B"].into_iter(), primary, Quoting::BRACKET);
        assert_eq!([key(Some("[b]"), None).unwrap(), key(None, Some("a")).unwrap()], [Some(1), Some(0)]);
        assert_eq!(key(None, None).unwrap(), None);
        assert!(key(Some("c"), None).unwrap_err().to_string().contains("no such column"));
    }
}
