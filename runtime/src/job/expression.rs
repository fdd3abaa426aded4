//! The scheduling grammar: dates relative to a scheduled time, `${yyyymmdd-1}` and `$[yyyymmddhh24-1/24]`.
//!
//! A trailing `±integer` is the offset, everything before it is the format. `${…}` shows the business date, the day
//! before the scheduled time, and has days, months or years only; `$[…]` shows the scheduled time, with offsets in
//! days and fractions of days. A whole number of days moves the calendar (the wall clock stays), a fraction moves by
//! elapsed time, so that hourly windows stay an hour long when clocks change.

use std::fmt::Write;

use chrono::{DateTime, Datelike, Days, Duration, Months, NaiveDateTime, Timelike};
use chrono_tz::Tz;

/// What an expression amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Evaluated {
    /// Its value.
    Value(String),
    /// It is no expression of this grammar.
    Foreign,
    /// It looks like one, but is wrong.
    Wrong(String),
}

use Evaluated::{Foreign, Value, Wrong};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Year,
    ShortYear,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Separator(char),
}

const TOKENS: [(&str, Token); 7] = [
    ("yyyy", Token::Year),
    ("yy", Token::ShortYear),
    ("mm", Token::Month),
    ("dd", Token::Day),
    ("hh24", Token::Hour),
    ("mi", Token::Minute),
    ("ss", Token::Second),
];

/// The business date that belongs to a scheduled time, at midnight.
pub(crate) fn business_date(at: &DateTime<Tz>) -> NaiveDateTime {
    let day = at.naive_local().date();
    day.pred_opt().unwrap_or(day).and_time(chrono::NaiveTime::MIN)
}

/// Evaluates the body of `${…}`.
pub(crate) fn business(body: &str, at: &DateTime<Tz>) -> Evaluated {
    let (format, offset) = split_offset(body);
    let Some(tokens) = tokens(format) else {
        return if starts_like_a_format(body) && body.contains(['+', '-']) {
            malformed("${", body, "}")
        } else {
            Foreign
        };
    };
    let timed = |t: &Token| matches!(t, Token::Hour | Token::Minute | Token::Second);
    if tokens.iter().any(timed) {
        return Wrong(format!(
            "`${{{body}}}` asks the business date for a time of day, and it has none: write `$[{body}]` for the \
             scheduled time"
        ));
    }
    let date = business_date(at);
    let Some(offset) = offset else { return Value(show(&tokens, &date)) };
    let Some((negative, factors)) = factors(offset) else { return malformed("${", body, "}") };
    let [(number, _)] = factors[..] else {
        return Wrong(format!(
            "`${{{body}}}`: the business date moves by whole days, months or years; write one number"
        ));
    };
    let moved = if tokens.contains(&Token::Day) {
        shift_days(date, number, negative)
    } else if tokens.contains(&Token::Month) {
        shift_months(date, Some(number), negative)
    } else {
        shift_months(date, number.checked_mul(12), negative)
    };
    moved.map_or_else(|| too_far("${", body, "}"), |date| Value(show(&tokens, &date)))
}

/// Evaluates the body of `$[…]`.
pub(crate) fn scheduled(body: &str, at: &DateTime<Tz>) -> Evaluated {
    if let Some(rest) = body.trim().strip_prefix("add_months") {
        return add_months(rest.trim(), body, at);
    }
    let (format, offset) = split_offset(body);
    let Some(tokens) = tokens(format) else {
        return if starts_like_a_format(body) { malformed("$[", body, "]") } else { Foreign };
    };
    let Some(offset) = offset else { return Value(show(&tokens, &at.naive_local())) };
    let Some((negative, factors)) = factors(offset) else { return malformed("$[", body, "]") };
    // An exact fraction of days: 1/24 is an hour.
    let mut fraction = Some((1i128, 1i128));
    for (number, divides) in factors {
        let number = i128::from(number);
        fraction = match fraction {
            _ if divides && number == 0 => return Wrong(format!("`$[{body}]` divides by zero")),
            Some((above, below)) if divides => below.checked_mul(number).map(|below| (above, below)),
            Some((above, below)) => above.checked_mul(number).map(|above| (above, below)),
            None => None,
        };
    }
    let moved = fraction.and_then(|(above, below)| {
        if above % below == 0 {
            return shift_days(at.naive_local(), u64::try_from(above / below).ok()?, negative);
        }
        let seconds = i64::try_from(above.checked_mul(86_400)? / below).ok()?;
        let elapsed = Duration::try_seconds(if negative { -seconds } else { seconds })?;
        Some(at.checked_add_signed(elapsed)?.naive_local())
    });
    moved.map_or_else(|| too_far("$[", body, "]"), |time| Value(show(&tokens, &time)))
}

/// `add_months(fmt, ±int[*int…])`: the day of the month stays, or becomes the month's last.
fn add_months(rest: &str, body: &str, at: &DateTime<Tz>) -> Evaluated {
    let inner = rest.strip_prefix('(').and_then(|r| r.strip_suffix(')')).and_then(|r| r.rsplit_once(','));
    let parsed = inner.and_then(|(format, months)| {
        let months = months.trim();
        let signed = if months.starts_with(['+', '-']) { months.to_owned() } else { format!("+{months}") };
        let (negative, factors) = factors(&signed)?;
        let number = factors.iter().try_fold(1u64, |product, (n, divides)| match divides {
            true => None,
            false => product.checked_mul(*n),
        })?;
        Some((tokens(format)?, number, negative))
    });
    let Some((tokens, number, negative)) = parsed else {
        return Wrong(format!("`$[{body}]` should look like `$[add_months(yyyymmdd,-1)]`"));
    };
    shift_months(at.naive_local(), Some(number), negative)
        .map_or_else(|| too_far("$[", body, "]"), |time| Value(show(&tokens, &time)))
}

/// A built-in variable: `bizdate`, `cyctime`, `gmtdate`, `bizmonth`.
pub(crate) fn system_variable(name: &str, at: &DateTime<Tz>) -> Option<String> {
    let business = business_date(at);
    let now = at.naive_local();
    Some(match name {
        "bizdate" => business.format("%Y%m%d").to_string(),
        "gmtdate" => now.format("%Y%m%d").to_string(),
        "cyctime" => now.format("%Y%m%d%H%M%S").to_string(),
        // The last month that is complete: a run inside a month means the month before.
        "bizmonth" if (business.year(), business.month()) == (now.year(), now.month()) => {
            business.checked_sub_months(Months::new(1))?.format("%Y%m").to_string()
        }
        "bizmonth" => business.format("%Y%m").to_string(),
        _ => return None,
    })
}

/// Splits off a trailing `±int(*|/int)*`.
fn split_offset(body: &str) -> (&str, Option<&str>) {
    let body = body.trim();
    let tail = body.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '*' | '/' | ' '));
    // What was cut may begin with a separator of the format itself; only a sign right before digits is an offset.
    match tail.strip_suffix(['+', '-']) {
        Some(format) if body[tail.len()..].contains(|c: char| c.is_ascii_digit()) => {
            (format.trim_end(), Some(&body[format.len()..]))
        }
        _ => (body, None),
    }
}

/// `-2/24` as its sign and `[(2, multiply), (24, divide)]`.
fn factors(offset: &str) -> Option<(bool, Vec<(u64, bool)>)> {
    let offset = offset.trim();
    let negative = offset.starts_with('-');
    let mut rest = offset.strip_prefix(['+', '-'])?.trim_start();
    let mut factors = Vec::new();
    let mut divides = false;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        factors.push((rest[..end].parse().ok()?, divides));
        rest = rest[end..].trim_start();
        if rest.is_empty() {
            return Some((negative, factors));
        }
        divides = rest.starts_with('/');
        rest = rest.strip_prefix(['*', '/'])?.trim_start();
    }
}

/// A format as tokens, if it is one: at least one date token, and otherwise only separators.
fn tokens(format: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        if let Some((text, token)) = TOKENS.iter().find(|(text, _)| rest.starts_with(text)) {
            tokens.push(*token);
            rest = &rest[text.len()..];
        } else if matches!(first, '-' | '/' | ':' | '.' | '_' | ' ' | ',') {
            tokens.push(Token::Separator(first));
            rest = &rest[first.len_utf8()..];
        } else {
            return None;
        }
    }
    tokens.iter().any(|t| !matches!(t, Token::Separator(_))).then_some(tokens)
}

fn starts_like_a_format(body: &str) -> bool {
    // `mm` and shorter begin too many words; the others are hardly anything else.
    let body = body.trim_start();
    ["yyyy", "hh24", "mmdd", "miss", "add_months"].iter().any(|t| body.starts_with(t))
        || TOKENS.iter().any(|(t, _)| body.strip_prefix(t).is_some_and(|r| r.starts_with(['+', '-'])))
}

fn show(tokens: &[Token], time: &NaiveDateTime) -> String {
    let mut text = String::new();
    for token in tokens {
        // Writing to a String cannot fail.
        let _ = match token {
            Token::Year => write!(text, "{:04}", time.year()),
            Token::ShortYear => write!(text, "{:02}", time.year().rem_euclid(100)),
            Token::Month => write!(text, "{:02}", time.month()),
            Token::Day => write!(text, "{:02}", time.day()),
            Token::Hour => write!(text, "{:02}", time.hour()),
            Token::Minute => write!(text, "{:02}", time.minute()),
            Token::Second => write!(text, "{:02}", time.second()),
            Token::Separator(c) => write!(text, "{c}"),
        };
    }
    text
}

fn shift_days(time: NaiveDateTime, days: u64, back: bool) -> Option<NaiveDateTime> {
    let moved = if back { time.checked_sub_days(Days::new(days)) } else { time.checked_add_days(Days::new(days)) };
    moved.filter(printable)
}

fn shift_months(time: NaiveDateTime, months: Option<u64>, back: bool) -> Option<NaiveDateTime> {
    let months = Months::new(u32::try_from(months?).ok()?);
    let moved = if back { time.checked_sub_months(months) } else { time.checked_add_months(months) };
    moved.filter(printable)
}

fn printable(time: &NaiveDateTime) -> bool {
    (1..=9999).contains(&time.year())
}

fn malformed(open: &str, body: &str, close: &str) -> Evaluated {
    Wrong(format!(
        "`{open}{body}{close}` is no date expression: a format of yyyy, yy, mm (month), dd, hh24, mi, ss, then perhaps \
         an offset such as -1 or -1/24"
    ))
}

fn too_far(open: &str, body: &str, close: &str) -> Evaluated {
    Wrong(format!("`{open}{body}{close}` lies beyond the years 1 to 9999"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeZone;

    fn at(text: &str) -> DateTime<Tz> {
        let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
        chrono_tz::Asia::Shanghai.from_local_datetime(&naive).unwrap()
    }

    fn cyc(body: &str, time: &str) -> String {
        match scheduled(body, &at(time)) {
            Value(text) => text,
            other => panic!("{body}: {other:?}"),
        }
    }

    fn biz(body: &str, time: &str) -> String {
        match business(body, &at(time)) {
            Value(text) => text,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn scheduled_times_and_fractions_of_days() {
        let both = |a: &str, b: &str, t: &str| cyc(a, t) + &cyc(b, t);
        assert_eq!(both("yyyymmddhh24-2/24", "miss-10/24/60", "2023-04-23 19:00"), "20230423175000");
        assert_eq!(both("yyyymmddhh24-1/24", "miss-10/24/60", "2023-04-23 19:00"), "20230423185000");
        assert_eq!(both("yyyymmddhh24-2/24", "miss-10/24/60", "2023-04-23 19:15"), "20230423170500");
        assert_eq!(cyc("mi-15/24/60", "2025-07-27 00:05"), "50");
        assert_eq!(cyc("hh24-15/24/60", "2025-07-27 00:05"), "23");
        assert_eq!(cyc("yyyymmddhh24-1/24", "2025-07-27 00:05"), "2025072623");
        assert_eq!(cyc("yyyy-mm-dd-1", "2025-03-01 00:00"), "2025-02-28");
        assert_eq!(cyc("yyyy-mm-dd hh24:mi:ss", "2025-03-01 07:08"), "2025-03-01 07:08:00");
        assert_eq!(cyc("yyyymmdd+3*2", "2025-03-01 00:00"), "20250307");
        assert_eq!(cyc("yyyymmdd - 1", "2024-03-01 00:00"), "20240229");
        assert_eq!(cyc("yy/mm", "2024-03-01 00:00"), "24/03");
        assert_eq!(cyc("hh24", "2024-03-01 23:00"), "23");
    }

    #[test]
    fn months_end_where_the_month_ends() {
        assert_eq!(cyc("add_months(yyyymmdd,-1)", "2025-03-31 00:00"), "20250228");
        assert_eq!(cyc("add_months(yyyymmdd,-1)", "2024-03-31 00:00"), "20240229");
        assert_eq!(cyc("add_months(yyyy-mm-dd, 12*1)", "2024-02-29 00:00"), "2025-02-28");
        assert_eq!(cyc("add_months(yyyymm,+1)", "2024-12-29 00:00"), "202501");
        assert_eq!(cyc("add_months(yyyymmdd,12)", "2024-12-29 00:00"), "20251229");
    }

    #[test]
    fn business_dates_are_the_day_before() {
        assert_eq!(biz("yyyymmdd", "2025-11-01 00:00"), "20251031");
        assert_eq!(biz("yyyymmdd-1", "2025-11-01 00:00"), "20251030");
        assert_eq!(biz("yyyy-mm-dd+1", "2025-11-01 12:00"), "2025-11-01");
        assert_eq!(biz("yyyymm-2", "2025-11-01 00:00"), "202508");
        assert_eq!(biz("yyyymm-1", "2025-04-01 00:00"), "202502");
        assert_eq!(biz("yyyy-1", "2024-03-01 00:00"), "2023");
        assert_eq!(biz("dd", "2024-03-01 00:00"), "29");
    }

    #[test]
    fn system_variables() {
        let time = at("2025-11-01 00:00");
        let of = |name| system_variable(name, &time).unwrap();
        assert_eq!(of("bizdate"), "20251031");
        assert_eq!(of("cyctime"), "20251101000000");
        assert_eq!(of("gmtdate"), "20251101");
        assert_eq!(of("bizmonth"), "202510");
        assert_eq!(system_variable("bizmonth", &at("2025-11-15 00:00")).unwrap(), "202510");
        assert_eq!(system_variable("dt", &time), None);
    }

    #[test]
    fn an_hour_is_an_hour_when_clocks_change() {
        let naive = NaiveDateTime::parse_from_str("2025-03-30 03:30", "%Y-%m-%d %H:%M").unwrap();
        let time = chrono_tz::Europe::Berlin.from_local_datetime(&naive).unwrap();
        assert_eq!(scheduled("hh24mi-1/24", &time), Value("0130".into()));
        assert_eq!(scheduled("yyyymmddhh24mi-1", &time), Value("202503290330".into()));
        assert_eq!(scheduled("yyyymmddhh24mi-24/24", &time), Value("202503290330".into()));
    }

    #[test]
    fn what_is_no_expression_is_told_from_what_is_a_wrong_one() {
        let time = at("2025-11-01 00:00");
        for foreign in ["0", "*", "last-1", "", "name", "table_1", "?(@.address=='x')", "mmm", "-1"] {
            assert_eq!(scheduled(foreign, &time), Foreign, "{foreign}");
            assert_eq!(business(foreign, &time), Foreign, "{foreign}");
        }
        for wrong in ["yyyymmdd-1/0", "yyyymmdd-x", "yyyymmdd-", "add_months(yyyymmdd)", "yyyy-99999999", "hh24-1-"] {
            match scheduled(wrong, &time) {
                // A format may end in a separator.
                Value(_) if wrong.ends_with('-') && wrong.starts_with("yyyymmdd") => {}
                Wrong(_) => {}
                other => panic!("{wrong}: {other:?}"),
            }
        }
        for wrong in ["yyyymmdd-1/24", "hh24", "yyyymmddhh24", "yyyymmdd-x", "yyyy+99999"] {
            assert!(matches!(business(wrong, &time), Wrong(_)), "{wrong}");
        }
    }
}
