//! Dates in the patterns that Java's SimpleDateFormat made common.

use chrono::{NaiveDate, NaiveDateTime};

/// The pattern where a job gives none.
pub(crate) const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

/// Parses `text` by `pattern` into microseconds since 1970, without a zone.
pub(crate) fn parse(text: &str, pattern: &str) -> Result<i64, String> {
    let format = translate(pattern)?;
    let text = text.trim();
    NaiveDateTime::parse_from_str(text, &format)
        .or_else(|_| NaiveDate::parse_from_str(text, &format).map(|d| d.and_time(chrono::NaiveTime::MIN)))
        .map(|t| t.and_utc().timestamp_micros())
        .map_err(|_| format!("`{text}` is no date of the form `{pattern}`; set `dateFormat` to the form it has"))
}

/// The same pattern in chrono's words.
fn translate(pattern: &str) -> Result<String, String> {
    let letters: Vec<char> = pattern.chars().collect();
    let mut format = String::new();
    let mut at = 0;
    while at < letters.len() {
        let letter = letters[at];
        if letter == '\'' {
            let end = letters[at + 1..].iter().position(|c| *c == '\'').map(|n| at + 1 + n);
            let end = end.ok_or_else(|| format!("the pattern `{pattern}` opens a quote and does not close it"))?;
            // Two quotes in a row stand for one.
            let literal: String = if end == at + 1 { "'".into() } else { letters[at + 1..end].iter().collect() };
            format.push_str(&literal.replace('%', "%%"));
            at = end + 1;
            continue;
        }
        let run = letters[at..].iter().take_while(|c| **c == letter).count();
        match (letter, run) {
            ('y', 2) => format.push_str("%y"),
            ('y', _) => format.push_str("%Y"),
            ('M', 1 | 2) => format.push_str("%m"),
            ('d', _) => format.push_str("%d"),
            ('H', _) => format.push_str("%H"),
            ('m', _) => format.push_str("%M"),
            ('s', _) => format.push_str("%S"),
            ('S', 3) => format.push_str("%3f"),
            ('S', _) => format.push_str("%f"),
            (c, _) if c.is_ascii_alphabetic() => {
                return Err(format!("the letters `{}` of the pattern `{pattern}` are not supported", {
                    letters[at..at + run].iter().collect::<String>()
                }));
            }
            ('%', n) => format.push_str(&"%%".repeat(n)),
            (c, n) => format.extend(std::iter::repeat_n(c, n)),
        }
        at += run;
    }
    Ok(format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_patterns_are_understood() {
        assert_eq!(parse("1970-01-02 00:00:01", DEFAULT), Ok(86_401_000_000));
        assert_eq!(parse(" 1970/01/02 ", "yyyy/MM/dd"), Ok(86_400_000_000));
        assert_eq!(parse("19700101T000000.250", "yyyyMMdd'T'HHmmss.SSS"), Ok(250_000));
        assert!(parse("yesterday", DEFAULT).unwrap_err().contains("dateFormat"));
        assert!(parse("1", "QQ").unwrap_err().contains("QQ"));
    }
}
