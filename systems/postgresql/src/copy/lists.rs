//! Lists that come as JSON, `[1,null,"a"]`, as the text that the server reads for an array, `{1,NULL,"a"}`.
//!
//! So come arrays back that have been in a system without arrays. Digits stay as they are written.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::{numeric, temporal};
use crate::types::Wire;

/// What an array's elements are, as far as the server would alter them without a word.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Elements {
    /// How they look on the wire; `None` for types without a form of ours.
    pub(super) wire: Option<Wire>,
}

impl Elements {
    /// The array literal of a JSON list; any other text as it is, for the server to judge.
    ///
    /// # Errors
    /// An element that the column's type would cut, and an empty list within a list.
    pub(super) fn literal(&self, text: &str, out: &mut String) -> Result<(), String> {
        // `[0:1]={1,2}` is the server's own, and no JSON.
        if !text.trim_start().starts_with('[') || serde_json::from_str::<IgnoredAny>(text).is_err() {
            out.push_str(text);
            return Ok(());
        }
        self.list(text.trim_start(), true, out).map(drop)
    }

    /// Writes the list that `text` starts with, and gives what stands behind it. The text is known to be JSON.
    fn list<'a>(&self, text: &'a str, outermost: bool, out: &mut String) -> Result<&'a str, String> {
        let mut rest = text[1..].trim_start();
        out.push('{');
        if let Some(after) = rest.strip_prefix(']') {
            if !outermost {
                return Err("an empty list within a list has no form in PostgreSQL".into());
            }
            out.push('}');
            return Ok(after);
        }
        loop {
            rest = match rest.as_bytes().first() {
                Some(b'[') if !matches!(self.wire, Some(Wire::Json | Wire::Jsonb)) => self.list(rest, false, out)?,
                Some(_) => {
                    let (element, after) = rest.split_at(end_of(rest));
                    self.element(element, out)?;
                    after
                }
                None => return Err("the list ends in the middle".into()),
            };
            rest = rest.trim_start();
            match rest.strip_prefix(',') {
                Some(next) => {
                    out.push(',');
                    rest = next.trim_start();
                }
                None => {
                    out.push('}');
                    return Ok(rest.strip_prefix(']').unwrap_or(rest));
                }
            }
        }
    }

    fn element(&self, json: &str, out: &mut String) -> Result<(), String> {
        if json == "null" {
            out.push_str("NULL");
            return Ok(());
        }
        let json_elements = matches!(self.wire, Some(Wire::Json | Wire::Jsonb));
        let unescaped;
        let text = match json.starts_with('"') && !json_elements {
            true => {
                unescaped = serde_json::from_str::<String>(json).map_err(|e| e.to_string())?;
                unescaped.as_str()
            }
            false => json,
        };
        let mut text = Cow::Borrowed(text);
        match &self.wire {
            Some(Wire::Numeric(Some((_, scale)))) => numeric::from_text(&text, Some(*scale), &mut Vec::new())?,
            Some(Wire::Time(digits) | Wire::Timestamp(digits) | Wire::TimestampTz(digits)) => decimals(&text, *digits)?,
            _ => {}
        }
        if let (Some(Wire::Date | Wire::Timestamp(_) | Wire::TimestampTz(_)), Cow::Borrowed(plain)) =
            (&self.wire, &text)
        {
            text = temporal::with_era(plain);
        }
        out.push('"');
        if self.wire == Some(Wire::Bytea) {
            use std::fmt::Write;
            out.push_str("\\\\x");
            // Writing into a String cannot fail.
            for byte in text.bytes() {
                let _ = write!(out, "{byte:02x}");
            }
        } else {
            for c in text.chars() {
                if matches!(c, '"' | '\\') {
                    out.push('\\');
                }
                out.push(c);
            }
        }
        out.push('"');
        Ok(())
    }
}

/// The length of the JSON value that `text` starts with.
fn end_of(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    quoted = false;
                    if depth == 0 {
                        return at + 1;
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' | b']' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// Checks that a time's text has no more than `digits` digits after the second: the server would round.
///
/// # Errors
/// It has more.
pub(super) fn decimals(text: &str, digits: i32) -> Result<(), String> {
    // Points before the first colon are a date's, as in 31.1.2024.
    let time = text.find(':').map_or(text, |at| &text[at..]);
    let fraction = time.split_once('.').map_or("", |(_, fraction)| fraction);
    let fraction: &str = &fraction[..fraction.bytes().take_while(u8::is_ascii_digit).count()];
    if fraction.trim_end_matches('0').len() > digits.max(0) as usize {
        return Err(format!("the value has more than the column's {digits} digits after the second"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(wire: Option<Wire>, text: &str) -> Result<String, String> {
        let mut out = String::new();
        Elements { wire }.literal(text, &mut out).map(|()| out)
    }

    #[test]
    fn json_lists_become_arrays() {
        let of = |text| literal(Some(Wire::Text), text).unwrap();
        assert_eq!(of(r#"[1, null ,"a\"b\\", "NULL",true]"#), r#"{"1",NULL,"a\"b\\","NULL","true"}"#);
        assert_eq!(of("[]"), "{}");
        assert_eq!(of("[[1,2],[3,4]]"), r#"{{"1","2"},{"3","4"}}"#);
        assert_eq!(of("{1,2}"), "{1,2}");
        assert_eq!(of("[0:1]={1,2}"), "[0:1]={1,2}");
        assert_eq!(of(r#"["\u00e9,]"]"#), r#"{"é,]"}"#);
        assert_eq!(of("[123456789012345678901234567890.10]"), r#"{"123456789012345678901234567890.10"}"#);
        assert!(literal(None, "[[],[]]").is_err());
        assert_eq!(literal(Some(Wire::Jsonb), r#"[{"a":[1]},"x",[2]]"#).unwrap(), r#"{"{\"a\":[1]}","\"x\"","[2]"}"#);
        assert_eq!(literal(Some(Wire::Bytea), r#"["aé"]"#).unwrap(), r#"{"\\x61c3a9"}"#);
    }

    #[test]
    fn elements_that_would_be_rounded_are_refused() {
        let numeric = |text| literal(Some(Wire::Numeric(Some((5, 2)))), text);
        assert!(numeric("[1.50, 1.500]").is_ok() && numeric("[1.555]").is_err());
        let time = |text| literal(Some(Wire::Timestamp(0)), text);
        assert!(time(r#"["2024-01-01 00:00:00.000"]"#).is_ok() && time(r#"["2024-01-01 00:00:00.5"]"#).is_err());
        assert!(decimals("12:00:00.25+02", 2).is_ok() && decimals("12:00:00.25+02", 1).is_err());
    }
}
