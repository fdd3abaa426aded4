//! What MySQL's binary JSON cannot hold: it knows integers of 64 bits and doubles, and rounds every other number.

/// Why a JSON text would not be kept as it is.
pub(crate) fn altered_number(json: &[u8]) -> Option<String> {
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => {
                at += 1;
                while at < json.len() && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let length = json[at..]
                    .iter()
                    .position(|b| !matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
                    .unwrap_or(json.len() - at);
                let token = std::str::from_utf8(&json[at..at + length]).unwrap_or_default();
                if !is_kept(token) {
                    return Some(format!("MySQL's JSON would round the number {token}"));
                }
                at += length;
            }
            _ => at += 1,
        }
    }
    None
}

fn is_kept(token: &str) -> bool {
    if token.parse::<i64>().is_ok() || token.parse::<u64>().is_ok() {
        return true;
    }
    let Ok(double) = token.parse::<f64>() else { return true };
    double.is_finite() && significant(token) == significant(&format!("{double:e}"))
}

/// Digits without zeros at their ends, and the power of ten of the first one.
fn significant(text: &str) -> (String, i64) {
    let text = text.trim_start_matches('-');
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let kept = digits.trim_matches('0').to_owned();
    if kept.is_empty() {
        return (kept, 0);
    }
    let exponent: i64 = exponent.trim_start_matches('+').parse().unwrap_or(i64::MAX / 2);
    (kept, exponent + whole.len() as i64 - zeros as i64)
}

#[cfg(test)]
mod tests {
    use super::altered_number;

    #[test]
    fn numbers_that_doubles_hold_pass() {
        for kept in [
            "1",
            "-0.10",
            "1e2",
            "18446744073709551615",
            "0.1",
            "1e300",
            r#"{"a 1234567890123456789012": [1.5e-3]}"#,
            "100000000000000000000",
        ] {
            assert_eq!(altered_number(kept.as_bytes()), None, "{kept}");
        }
        for rounded in ["18446744073709551616.5", "12345678901234567890123", "[0.12345678901234567890]", "1e400"] {
            assert!(altered_number(rounded.as_bytes()).is_some(), "{rounded}");
        }
    }
}
