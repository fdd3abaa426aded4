//! The value of a number that stands as text, exactly.

/// A number by its digits: equal for equal numbers, whatever their spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digits {
    /// Whether it is below zero, which no zero is.
    pub negative: bool,
    /// Without zeros at either end; none for zero.
    pub digits: String,
    /// The power of ten by which `0.digits` is multiplied; 0 for zero.
    pub exponent: i64,
}

impl Digits {
    /// Of a number as JSON spells it; `None` for what is none, or has an exponent past all use.
    pub fn of(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if ![whole, fraction, unsigned].into_iter().all(are_digits) {
            return None;
        }
        let all = format!("{whole}{fraction}");
        let digits = all.trim_matches('0');
        if digits.is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let zeros = all.len() - all.trim_start_matches('0').len();
        let exponent = exponent.parse::<i64>().ok()?.checked_add(whole.len() as i64 - zeros as i64)?;
        Some(Self { negative: rest.len() < text.len(), digits: digits.to_owned(), exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::Digits;

    #[test]
    fn one_number_has_one_form() {
        for (one, others) in [
            ("1", vec!["1.0", "10e-1", "0.1E1", "0.001e+3"]),
            ("0", vec!["-0", "0.00", "-0e7", "0e99999999999999999999"]),
            ("-120", vec!["-1.2e2", "-120.000"]),
            ("12345678901234567890123", vec!["1234567890123456789012.3e1"]),
            ("1e400", vec!["10E+399"]),
        ] {
            others.iter().for_each(|other| assert_eq!(Digits::of(other), Digits::of(one), "{other}"));
        }
        let all =
            ["1", "-1", "10", "0.1", "101", "12345678901234567890123", "12345678901234567890124", "1e400", "1e-400"];
        for (at, one) in all.iter().enumerate() {
            let one = Digits::of(one).unwrap();
            assert!(all[..at].iter().all(|other| Digits::of(other).unwrap() != one), "{one:?}");
        }
        for none in ["", "-", "1.", ".5", "1e", "1e+", "+1", "0x1", "NaN", "1 ", "1e99999999999999999999"] {
            assert_eq!(Digits::of(none), None, "{none}");
        }
    }
}
