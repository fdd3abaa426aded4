//! Text in aligned columns, for people.

/// Where a cell stands in its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// At the column's beginning.
    Left,
    /// At its end, as numbers do.
    Right,
}

/// The head and every row as a line each, with two spaces between the columns and none at the end.
pub fn aligned(head: &[(&str, Align)], rows: &[Vec<String>]) -> Vec<String> {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
        cells.chain([head[i].0.chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let padded = cells.iter().zip(head).zip(&widths).map(|((cell, (_, align)), width)| {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            match align {
                Align::Left => format!("{cell}{pad}"),
                Align::Right => format!("{pad}{cell}"),
            }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let titles: Vec<String> = head.iter().map(|(title, _)| (*title).to_owned()).collect();
    std::iter::once(&titles).chain(rows).map(|cells| line(cells)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["ä".into(), "1".into()], vec!["bbb".into(), "1,000".into()], vec!["c".into()]];
        let lines = aligned(&[("name", Align::Left), ("rows", Align::Right)], &rows);
        assert_eq!(lines, ["name   rows", "ä         1", "bbb   1,000", "c"]);
    }
}
