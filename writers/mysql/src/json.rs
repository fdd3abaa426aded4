//! What MySQL's binary JSON cannot hold: it knows integers of 64 bits and doubles, and rounds every other number.

use weir_core::Digits;

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
    double.is_finite() && Digits::of(token) == Digits::of(&format!("{double:e}"))
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
