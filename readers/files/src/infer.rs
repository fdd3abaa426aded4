//! Types from sample values.

use crate::kinds::{Kind, moment};

/// What the values of one column have been so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guess {
    seen: bool,
    other: bool,
    integer: bool,
    decimal: bool,
    float: bool,
    boolean: bool,
    date: bool,
    local: bool,
    instant: bool,
    nanos: bool,
    /// The most digits before the point, and the least and the most after it.
    whole: usize,
    scale: Option<(usize, usize)>,
    digits: usize,
    beyond: bool,
    negative: bool,
    json: bool,
    text: bool,
}

impl Guess {
    /// Looks at a value of a CSV file.
    pub(crate) fn value(&mut self, text: &str) {
        self.seen = true;
        if self.number(text) {
        } else if text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false") {
            self.boolean = true;
        } else if let Some((_, offset, digits)) = moment(text) {
            let timed = text.contains(':');
            self.date |= !timed;
            self.instant |= offset.is_some();
            self.local |= offset.is_none() && timed;
            self.nanos |= digits > 6;
        } else {
            self.other = true;
        }
    }

    /// Looks at a value of a JSON file, as written.
    pub(crate) fn json_value(&mut self, raw: &str) {
        self.seen = true;
        match raw.as_bytes().first() {
            Some(b'"') => self.text = true,
            Some(b'{' | b'[') => self.json = true,
            Some(b't' | b'f') => self.boolean = true,
            _ => {
                if !self.number(raw) {
                    self.other = true;
                }
            }
        }
    }

    fn number(&mut self, text: &str) -> bool {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        // `007` is a code, not a number.
        if plain(whole) && (whole == "0" || !whole.starts_with('0')) && fraction.is_none_or(plain) {
            self.negative |= text.starts_with('-');
            self.whole = self.whole.max(whole.len());
            match fraction {
                None => {
                    self.integer = true;
                    self.beyond |= text.parse::<i64>().is_err();
                    self.digits = self.digits.max(whole.len());
                }
                Some(fraction) => {
                    self.decimal = true;
                    let (least, most) = self.scale.unwrap_or((fraction.len(), fraction.len()));
                    self.scale = Some((least.min(fraction.len()), most.max(fraction.len())));
                    self.digits = self.digits.max(whole.len() + fraction.len());
                }
            }
            return true;
        }
        let exponent = digits.bytes().next().is_some_and(|b| b.is_ascii_digit())
            && digits.contains(['e', 'E'])
            && !(whole.len() > 1 && whole.starts_with('0'))
            && text.parse::<f64>().is_ok_and(f64::is_finite);
        self.float |= exponent || matches!(text, "NaN" | "inf" | "-inf" | "Infinity" | "-Infinity");
        exponent || matches!(text, "NaN" | "inf" | "-inf" | "Infinity" | "-Infinity")
    }

    /// The type that holds all values seen.
    pub(crate) fn kind(&self) -> Kind {
        let number = self.integer || self.decimal || self.float;
        let time = self.date || self.local || self.instant;
        let groups = [number, time, self.boolean, self.text, self.json, self.other].iter().filter(|g| **g).count();
        let in_json = self.text || self.json;
        match groups {
            0 => Kind::Text,
            1 if number => self.number_kind(),
            1 if self.boolean => Kind::Bool,
            1 if self.date && !self.local && !self.instant => Kind::Date,
            1 if time && !self.instant => Kind::Timestamp(self.nanos, false),
            1 if time && !self.local && !self.date => Kind::Timestamp(self.nanos, true),
            1 if self.json => Kind::Json,
            // Strings beside numbers or objects: only JSON text keeps them apart.
            _ if in_json && groups > 1 => Kind::Json,
            _ => Kind::Text,
        }
    }

    fn number_kind(&self) -> Kind {
        let (least, most) = self.scale.unwrap_or((0, 0));
        match (self.decimal, self.float) {
            (_, true) if self.digits <= 17 => Kind::Float64,
            (_, true) => Kind::Text,
            (false, false) if !self.beyond => Kind::Int64,
            (false, false) if !self.negative && self.whole <= 19 => Kind::UInt64,
            (false, false) if self.whole <= 38 => Kind::Decimal128(38, 0),
            (true, false) if least == most && self.whole + most <= 38 => Kind::Decimal128(38, most as i8),
            // Up to 15 digits a double gives back the same decimal.
            (true, false) if self.digits <= 15 => Kind::Float64,
            _ => Kind::DecimalText,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_type_that_loses_nothing() {
        let kind = |values: &[&str]| {
            let mut guess = Guess::default();
            values.iter().for_each(|v| guess.value(v));
            guess.kind()
        };
        assert_eq!(kind(&["1", "-20"]), Kind::Int64);
        assert_eq!(kind(&["1", "007"]), Kind::Text);
        assert_eq!(kind(&["1.50", "-20.25", "3"]), Kind::Decimal128(38, 2));
        assert_eq!(kind(&["1.5", "2.25"]), Kind::Float64);
        assert_eq!(kind(&["1.5", "2.2512345678901234567890"]), Kind::DecimalText);
        assert_eq!(kind(&["1e5", "2"]), Kind::Float64);
        assert_eq!(kind(&["99999999999999999999"]), Kind::Decimal128(38, 0));
        assert_eq!(kind(&["true", "FALSE"]), Kind::Bool);
        assert_eq!(kind(&["2024-01-01"]), Kind::Date);
        assert_eq!(kind(&["2024-01-01", "2024-01-01 10:00:00"]), Kind::Timestamp(false, false));
        assert_eq!(kind(&["2024-01-01T10:00:00Z"]), Kind::Timestamp(false, true));
        assert_eq!(kind(&["2024-01-01T10:00:00.1234567Z"]), Kind::Timestamp(true, true));
        assert_eq!(kind(&["2024-01-01T10:00:00Z", "2024-01-01 10:00:00"]), Kind::Text);
        assert_eq!(kind(&["1", "true"]), Kind::Text);
        assert_eq!(kind(&[]), Kind::Text);
        let mut guess = Guess::default();
        ["\"a\"", "{\"b\":1}"].iter().for_each(|v| guess.json_value(v));
        assert_eq!(guess.kind(), Kind::Json);
    }
}
