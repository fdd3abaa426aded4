//! Table lists as DataX writes them: `t_[00-31]`, `a, b`, one string or many.

use crate::Faults;

/// The most tables one entry may stand for.
const MOST: u64 = 10_000;

/// Expands the entries of a `table` parameter. `shop.t_[00-03]x` stands for four tables, the digits padded to the width
/// of the first bound; a string may hold several names separated by commas. Between quotation marks (`"`, `` ` ``, and
/// brackets around anything but a digit range, as SQL Server has them) everything is part of the name.
///
/// # Errors
/// A range whose end lies before its start, or ranges that together make more than 10,000 tables, at the entry's
/// pointer.
pub fn expand(entries: &[String], pointer: &str) -> Result<Vec<String>, Faults> {
    let mut tables = Vec::new();
    let mut faults = Faults::default();
    for entry in entries {
        for pieces in parse(entry) {
            match combine(&pieces) {
                Ok(expanded) => tables.extend(expanded),
                Err(message) => faults.add(pointer, message),
            }
        }
    }
    faults.or(tables)
}

/// A stretch of a name.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    Text(&'a str),
    /// First and last number, as digits.
    Range(&'a str, &'a str),
}

/// The names of an entry, each in pieces.
fn parse(entry: &str) -> Vec<Vec<Piece<'_>>> {
    let mut names = Vec::new();
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    let (mut start, mut at) = (0, 0);
    // A mark opens a quoted part at its beginning only.
    let mut begins = true;
    while let Some(c) = entry[at..].chars().next() {
        let rest = &entry[at + c.len_utf8()..];
        match c {
            '"' | '`' if begins => {
                // A mark that is not closed runs to the end: whoever looks for the table says so.
                at = closing(entry, at + 1, c).unwrap_or(entry.len());
                begins = false;
            }
            '[' => {
                if let Some((first, last, length)) = range(rest) {
                    pieces.push(Piece::Text(&entry[start..at]));
                    pieces.push(Piece::Range(first, last));
                    at += 1 + length;
                    start = at;
                } else if begins {
                    at = closing(entry, at + 1, ']').unwrap_or(at + 1);
                } else {
                    at += 1;
                }
                begins = false;
            }
            ',' => {
                pieces.push(Piece::Text(&entry[start..at]));
                names.push(std::mem::take(&mut pieces));
                at += 1;
                start = at;
                begins = true;
            }
            c => {
                begins = c == '.' || (begins && c.is_whitespace());
                at += c.len_utf8();
            }
        }
    }
    pieces.push(Piece::Text(&entry[start..]));
    names.push(pieces);
    for pieces in &mut names {
        if let Some(Piece::Text(text)) = pieces.first_mut() {
            *text = text.trim_start();
        }
        if let Some(Piece::Text(text)) = pieces.last_mut() {
            *text = text.trim_end();
        }
    }
    names.retain(|pieces| pieces.iter().any(|p| *p != Piece::Text("")));
    names
}

/// Where the text goes on after the mark that closes a quoted part; a mark written twice is part of it.
fn closing(entry: &str, from: usize, mark: char) -> Option<usize> {
    let mut at = from;
    loop {
        at += entry[at..].find(mark)? + 1;
        if !entry[at..].starts_with(mark) {
            return Some(at);
        }
        at += 1;
    }
}

/// `digits-digits]` at the start of `text`: first, last and the length with the bracket.
fn range(text: &str) -> Option<(&str, &str, usize)> {
    let digits = |t: &str| t.bytes().take_while(u8::is_ascii_digit).count();
    let first = digits(text);
    let after = text[first..].strip_prefix('-')?;
    let last = digits(after);
    (first > 0 && last > 0 && after[last..].starts_with(']'))
        .then(|| (&text[..first], &after[..last], first + last + 2))
}

/// Every name that the pieces stand for.
fn combine(pieces: &[Piece<'_>]) -> Result<Vec<String>, String> {
    let mut names = vec![String::new()];
    for piece in pieces {
        match piece {
            Piece::Text(text) => names.iter_mut().for_each(|name| name.push_str(text)),
            Piece::Range(first, last) => {
                let shown = || {
                    let short = |digits: &str| digits.chars().take(20).collect::<String>();
                    format!("the range [{}-{}]", short(first), short(last))
                };
                // As many digits as the largest number has, so that no width is absurd.
                let parse = |digits: &str| digits.parse::<u64>().ok().filter(|_| digits.len() <= 20);
                let (Some(from), Some(to)) = (parse(first), parse(last)) else {
                    return Err(format!("{} has too large a number", shown()));
                };
                if from > to {
                    return Err(format!("{} runs backwards", shown()));
                }
                let count = (to - from).saturating_add(1).saturating_mul(names.len() as u64);
                if count > MOST {
                    return Err(format!("{} makes the entry stand for more than {MOST} tables", shown()));
                }
                let width = first.len();
                names = names.iter().flat_map(|n| (from..=to).map(move |i| format!("{n}{i:0width$}"))).collect();
            }
        }
    }
    Ok(names)
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
        assert_eq!(names(&["a, b", "c,"]), ["a", "b", "c"]);
        assert_eq!(names(&["[dbo].[my-table], [a,b]"]), ["[dbo].[my-table]", "[a,b]"]);
    }

    #[test]
    fn between_quotation_marks_everything_is_the_name() {
        let own = r#""a, b[0-1]""c".`x,y`"#;
        assert_eq!(names(&[&format!(" {own} , d[1-2]")]), [own, "d1", "d2"]);
        assert_eq!(names(&["it's\"a, b[x"]), ["it's\"a", "b[x"]);
        assert_eq!(names(&["\"open, a"]), ["\"open, a"]);
        assert_eq!(names(&["größe[1-1], 表"]), ["größe1", "表"]);
    }

    #[test]
    fn ranges_that_are_wrong_or_too_many_are_faults() {
        let wide = format!("t[{}-1]", "0".repeat(70_000));
        for (entry, message) in [
            ("t[3-1]", "backwards"),
            ("t[0-99][0-99][0-1]", "10000 tables"),
            ("t[0-18446744073709551615]", "10000 tables"),
            ("t[1-99999999999999999999]", "too large"),
            (wide.as_str(), "too large"),
        ] {
            let fault = &expand(&[entry.into()], "/table").unwrap_err().0[0];
            assert!(fault.pointer == "/table" && fault.message.contains(message), "{fault:?}");
        }
        assert_eq!(names(&["t[0-99][0-99]"]).len(), 10_000);
        assert_eq!(names(&[&"[1-1]".repeat(20_000)])[0].len(), 20_000);
    }
}
