//! Table lists as DataX writes them: `t_[00-31]`, `a, b`, one string or many.

use weir_core::Faults;

/// Expands the entries of a `table` parameter. `shop.t_[00-03]x` stands for four tables, the digits padded to the width
/// of the first bound; a string may hold several names separated by commas. Brackets that are no digit range (SQL
/// Server's quotation marks) stay as they are.
///
/// # Errors
/// A range whose end lies before its start, or that would make more than 100,000 tables, at the entry's pointer.
pub fn expand(entries: &[String], pointer: &str) -> Result<Vec<String>, Faults> {
    let mut tables = Vec::new();
    let mut faults = Faults::default();
    for entry in entries {
        for name in entry.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            match expand_ranges(name) {
                Ok(expanded) => tables.extend(expanded),
                Err(message) => faults.add(pointer, message),
            }
        }
    }
    faults.or(tables)
}

fn expand_ranges(name: &str) -> Result<Vec<String>, String> {
    let Some((before, first, last, after)) = find_range(name) else { return Ok(vec![name.to_owned()]) };
    let width = first.len();
    let parse = |digits: &str| digits.parse::<u64>().map_err(|_| format!("`{name}`: {digits} is too large a number"));
    let (from, to) = (parse(first)?, parse(last)?);
    if from > to {
        return Err(format!("`{name}`: the range [{first}-{last}] runs backwards"));
    }
    if to - from >= 100_000 {
        return Err(format!("`{name}`: the range [{first}-{last}] stands for more than 100,000 tables"));
    }
    let rest = expand_ranges(after)?;
    Ok((from..=to).flat_map(|n| rest.iter().map(move |r| format!("{before}{n:0width$}{r}"))).collect())
}

/// The first `[digits-digits]` of a name, as (text before, first, last, text after).
fn find_range(name: &str) -> Option<(&str, &str, &str, &str)> {
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    name.match_indices('[').find_map(|(open, _)| {
        let close = open + name[open..].find(']')?;
        let (first, last) = name[open + 1..close].split_once('-')?;
        (digits(first) && digits(last)).then_some((&name[..open], first, last, &name[close + 1..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(entries: &[&str]) -> Vec<String> {
        expand(&entries.iter().map(|e| e.to_string()).collect::<Vec<_>>(), "/table").unwrap()
    }

    #[test]
    fn ranges_and_lists_expand() {
        assert_eq!(names(&["order_[00-03]"]), ["order_00", "order_01", "order_02", "order_03"]);
        assert_eq!(names(&["s[1-2].t[8-10]x"]), ["s1.t8x", "s1.t9x", "s1.t10x", "s2.t8x", "s2.t9x", "s2.t10x"]);
        assert_eq!(names(&["a, b", "c"]), ["a", "b", "c"]);
        assert_eq!(names(&["[dbo].[my-table]"]), ["[dbo].[my-table]"]);
    }

    #[test]
    fn a_backward_range_is_a_fault() {
        assert_eq!(expand(&["t[3-1]".into()], "/table").unwrap_err().0[0].pointer, "/table");
    }
}
