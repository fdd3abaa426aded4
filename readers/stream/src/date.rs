//! Dates in the patterns that Java's SimpleDateFormat made common.

use weir_core::convert::Pattern;

/// The pattern where a job gives none.
pub(crate) const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

/// Parses `text` by `pattern` into microseconds since 1970, without a zone.
pub(crate) fn parse(text: &str, pattern: &str) -> Result<i64, String> {
    let compiled = Pattern::new(pattern).map_err(|error| error.message().to_owned())?;
    let text = text.trim();
    let micros = |moment: weir_core::convert::Moment| {
        let of_days = moment.days.unwrap_or(0).checked_mul(86_400_000_000)?;
        let offset = moment.offset.unwrap_or(0) * 1_000_000;
        of_days.checked_add(moment.nanos.unwrap_or(0) / 1000)?.checked_sub(offset)
    };
    compiled
        .parse(text)
        .and_then(micros)
        .ok_or_else(|| format!("`{text}` is no date of the form `{pattern}`; set `dateFormat` to the form it has"))
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
