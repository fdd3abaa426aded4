//! In which order the tables of one transaction are written that refer to each other.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use weir_core::{Error, ErrorKind};

/// The longest way from each table along its foreign keys: sorted by it, none comes before one that it refers to. Each of
/// `tables` is its name and the names of those that refer to it, others than these among them too.
pub fn depths<N, R>(tables: impl IntoIterator<Item = (N, R)>) -> Vec<usize>
where
    N: Eq + Hash,
    R: IntoIterator<Item = N>,
{
    let (names, referenced_by): (Vec<N>, Vec<R>) = tables.into_iter().unzip();
    let at: HashMap<N, usize> = names.into_iter().enumerate().map(|(index, name)| (name, index)).collect();
    let mut depths = vec![0; referenced_by.len()];
    let mut references = Vec::new();
    for (to, by) in referenced_by.into_iter().enumerate() {
        let by = by.into_iter().filter_map(|name| at.get(&name).copied());
        references.extend(by.filter(|by| *by != to).map(|by| (by, to)));
    }
    // As often as the longest chain has tables; a circle has no order, and no end.
    for _ in 1..depths.len() {
        let before = depths.clone();
        for (by, to) in &references {
            depths[*by] = depths[*by].max(depths[*to] + 1);
        }
        if depths == before {
            break;
        }
    }
    depths
}

/// The statements that publish a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Steps {
    /// First these take away what ties its rows to each other.
    pub untie: Vec<String>,
    /// Takes away what the source does not have.
    pub clear: Option<String>,
    /// Whether `clear` leaves alone what the source has, found by a key: then it may also come last.
    pub by_key: bool,
    /// Then these bring what it has, in this order.
    pub fill: Vec<String>,
}

/// One of them in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// The place of its table among the transaction's.
    pub table: usize,
    /// The statement.
    pub sql: &'a str,
    /// Whether it can be put off to the end when rows refer to what it deletes: they may be rows of another table that stay,
    /// and refer to something else by then.
    pub can_wait: bool,
}

/// The statements of a transaction over tables of which the depth is known: rows go before those that they refer to, and come
/// after them.
pub fn queue<'a>(tables: impl IntoIterator<Item = (usize, &'a Steps)>) -> VecDeque<Step<'a>> {
    let mut sorted: Vec<_> = tables.into_iter().enumerate().collect();
    sorted.sort_by_key(|(_, (depth, _))| *depth);
    let together = sorted.len() > 1;
    let step = |table, sql: &'a String| Step { table, sql, can_wait: false };
    let untie = sorted.iter().flat_map(|(table, (_, steps))| steps.untie.iter().map(move |sql| step(*table, sql)));
    let clear = sorted.iter().rev().filter_map(|(table, (_, steps))| {
        let sql = steps.clear.as_deref()?;
        Some(Step { table: *table, sql, can_wait: together && steps.by_key })
    });
    let fill = sorted.iter().flat_map(|(table, (_, steps))| steps.fill.iter().map(move |sql| step(*table, sql)));
    untie.chain(clear).chain(fill).collect()
}

/// What is to be said when the server refuses rows for a unique key beside the one by which they are found; `way_out` is what
/// would let rows exchange its values there.
pub fn clashed(error: Error, way_out: &str) -> Error {
    let text = format!(
        "rows clash in a unique key beside the one that they are found by, and nothing was changed: two rows of the source \
         have one value of it; or a row of the target that is not in the source holds it, and is to be deleted there or \
         given another one; or a row is to get the value that another one has until it is changed itself, for the server \
         compares row by row: {way_out}"
    );
    Error::new(ErrorKind::Conflict, text).because(error)
}

/// What is to be said when the server refuses staged rows of an append for a unique key: which one, it says itself.
pub fn taken(error: Error) -> Error {
    let text = "rows that were staged have a key that a row of the target has got since, or that was not looked at (over an \
                expression, say, or a part of the rows), and nothing was changed: run again, or take such rows out of the source";
    Error::new(ErrorKind::Conflict, text).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_refers_is_deeper_whatever_the_order() {
        let chain = [("lines", vec![]), ("customers", vec!["orders"]), ("orders", vec!["lines", "strangers"])];
        assert_eq!(depths(chain), [2, 0, 1]);
        // The longest way counts.
        let two = [("a", vec!["b", "c"]), ("b", vec!["c"]), ("c", vec![]), ("alone", vec![])];
        assert_eq!(depths(two), [0, 1, 2, 0]);
        assert!(depths(Vec::<(&str, Vec<&str>)>::new()).is_empty());
    }

    #[test]
    fn a_circle_has_no_order_and_yet_an_end() {
        assert_eq!(depths([("tree", vec!["tree"])]), [0], "a table's own keys ask for no order");
        assert_eq!(depths([("a", vec!["b"]), ("b", vec!["a"]), ("c", vec![])]).len(), 3);
    }

    #[test]
    fn rows_go_before_those_that_they_refer_to_and_come_after_them() {
        let steps = |by_key, name: &str| Steps {
            untie: Vec::new(),
            clear: Some(format!("clear {name}")),
            by_key,
            fill: vec![format!("update {name}"), format!("insert {name}")],
        };
        let (lines, orders) = (steps(false, "lines"), steps(true, "orders"));
        let tied = Steps { untie: vec!["untie orders".into()], ..orders.clone() };
        assert_eq!(queue([(1, &lines), (0, &tied)])[0].sql, "untie orders", "before anything goes");
        let upsert = Steps { clear: None, ..steps(false, "notes") };
        let all = queue([(1, &lines), (0, &orders), (2, &upsert)]);
        let said: Vec<_> = all.iter().map(|step| (step.table, step.sql)).collect();
        let fill = [
            (1, "update orders"),
            (1, "insert orders"),
            (0, "update lines"),
            (0, "insert lines"),
            (2, "update notes"),
            (2, "insert notes"),
        ];
        assert_eq!(said, [[(0, "clear lines"), (1, "clear orders")].as_slice(), &fill].concat());
        assert_eq!(all.iter().filter(|step| step.can_wait).map(|step| step.sql).collect::<Vec<_>>(), ["clear orders"]);
        assert!(queue([(0, &orders)]).iter().all(|step| !step.can_wait), "nobody else's rows come");
    }
}
