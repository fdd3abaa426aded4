//! The scheduled time, and the time zone it is meant in.

use std::path::Path;

use chrono::{DateTime, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use weir_core::Faults;

/// A zone, and who named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Zone {
    pub tz: Tz,
    pub from: &'static str,
}

/// Chooses the zone: the job's `setting.timeZone`, else `WEIR_TZ`, else the machine's.
pub(crate) fn choose(setting: Option<(&str, &str)>, variable: Option<&str>) -> Result<Zone, Faults> {
    if let Some((name, pointer)) = setting {
        let tz = parse(name).map_err(|message| Faults::one(pointer, message))?;
        return Ok(Zone { tz, from: "setting.timeZone" });
    }
    if let Some(name) = variable.filter(|name| !name.trim().is_empty()) {
        let tz = parse(name).map_err(|message| Faults::one("", format!("WEIR_TZ: {message}")))?;
        return Ok(Zone { tz, from: "WEIR_TZ" });
    }
    Ok(Zone { tz: machine().unwrap_or(Tz::UTC), from: "machine" })
}

/// A zone by its IANA name, or by an offset such as `+08:00` or `GMT+8`.
pub(crate) fn parse(name: &str) -> Result<Tz, String> {
    let name = name.trim();
    if let Some(tz) = TZ_VARIANTS.iter().find(|tz| tz.name().eq_ignore_ascii_case(name)) {
        return Ok(*tz);
    }
    let upper = name.to_ascii_uppercase();
    let offset = upper.strip_prefix("GMT").or_else(|| upper.strip_prefix("UTC")).unwrap_or(&upper);
    if let Some(tz) = offset_seconds(offset).and_then(|seconds| with_offset(seconds, &Utc::now())) {
        return Ok(tz);
    }
    let near = weir_core::config::nearest(name, TZ_VARIANTS.iter().map(|tz| tz.name()));
    let hint = near
        .map(|near| format!(": did you mean `{near}`?"))
        .unwrap_or_else(|| ": use a name such as `Europe/Berlin` or `UTC`".into());
    Err(format!("`{name}` is no time zone{hint}"))
}

/// `+8`, `+08`, `+0800`, `+08:00`, `Z`.
fn offset_seconds(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let digits = &text[1..];
    if !digits.chars().all(|c| c.is_ascii_digit() || c == ':') {
        return None;
    }
    let (hours, minutes) = match digits.split_once(':') {
        Some(pair) => pair,
        None if digits.len() == 4 => digits.split_at(2),
        None => (digits, "0"),
    };
    let (hours, minutes) = (hours.parse::<i32>().ok()?, minutes.parse::<i32>().ok()?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

/// A zone that has this offset at this moment: one of fixed offset where there is one.
fn with_offset(seconds: i32, moment: &DateTime<Utc>) -> Option<Tz> {
    if seconds == 0 {
        return Some(Tz::UTC);
    }
    if seconds % 3600 == 0 {
        // The names of these zones count westwards.
        let name = format!("Etc/GMT{:+}", -seconds / 3600);
        if let Ok(tz) = name.parse() {
            return Some(tz);
        }
    }
    let has = |tz: &Tz, moment: &DateTime<Utc>| {
        tz.offset_from_utc_datetime(&moment.naive_utc()).fix().local_minus_utc() == seconds
    };
    // Prefer a zone that keeps its offset for the whole year.
    let half_year = *moment + chrono::Duration::days(182);
    let mut fitting = TZ_VARIANTS.iter().filter(|tz| has(tz, moment));
    let first = fitting.next().copied();
    first.into_iter().chain(fitting.copied()).find(|tz| has(tz, &half_year)).or(first)
}

/// The machine's zone, from `TZ`, `/etc/localtime` or `/etc/timezone`.
fn machine() -> Option<Tz> {
    if let Ok(name) = std::env::var("TZ")
        && let Ok(tz) = name.trim_start_matches(':').parse()
    {
        return Some(tz);
    }
    let linked = std::fs::read_link(Path::new("/etc/localtime")).ok().and_then(|path| {
        let path = path.to_string_lossy().into_owned();
        path.split_once("zoneinfo/").and_then(|(_, name)| name.trim_start_matches("posix/").parse().ok())
    });
    linked.or_else(|| std::fs::read_to_string("/etc/timezone").ok()?.trim().parse().ok())
}

/// The scheduled time: `--at`, or now.
pub(crate) fn scheduled(at: Option<&str>, now: DateTime<Utc>, zone: Zone) -> Result<(DateTime<Tz>, Zone), Faults> {
    let Some(text) = at else { return Ok((now.with_timezone(&zone.tz), zone)) };
    let text = text.trim();
    if let Some(moment) = with_explicit_offset(text) {
        let seconds = moment.offset().local_minus_utc();
        let utc = moment.with_timezone(&Utc);
        // The job's own zone, when it says the same, also knows the days when clocks change.
        let own = zone.tz.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc() == seconds;
        if own && zone.from != "machine" {
            return Ok((utc.with_timezone(&zone.tz), zone));
        }
        let tz = with_offset(seconds, &utc)
            .ok_or_else(|| Faults::one("", format!("--at: no time zone has the offset of `{text}`")))?;
        return Ok((utc.with_timezone(&tz), Zone { tz, from: "--at" }));
    }
    let naive = without_offset(text).ok_or_else(|| {
        Faults::one(
            "",
            format!("--at: `{text}` is no time: write `2025-11-01`, `2025-11-01T06:00` or `2025-11-01T06:00:00+08:00`"),
        )
    })?;
    match zone.tz.from_local_datetime(&naive) {
        LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => Ok((time, zone)),
        LocalResult::None => Err(Faults::one(
            "",
            format!("--at: `{text}` does not exist in {}, where clocks go forward then: give an offset", zone.tz),
        )),
    }
}

fn with_explicit_offset(text: &str) -> Option<DateTime<FixedOffset>> {
    let text = text.replacen(' ', "T", 1);
    DateTime::parse_from_rfc3339(&text)
        .ok()
        .or_else(|| {
            ["%Y-%m-%dT%H:%M%:z", "%Y-%m-%dT%H:%M%#z", "%Y-%m-%dT%H:%M:%S%#z"]
                .iter()
                .find_map(|format| DateTime::parse_from_str(&text, format).ok())
        })
        .or_else(|| {
            let start = text.strip_suffix(['Z', 'z'])?;
            Some(without_offset(start)?.and_utc().fixed_offset())
        })
}

fn without_offset(text: &str) -> Option<NaiveDateTime> {
    let text = text.replacen('T', " ", 1);
    let times = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y%m%d%H%M%S", "%Y%m%d %H%M%S", "%Y%m%d%H%M"];
    let date = |format| NaiveDate::parse_from_str(&text, format).ok().map(|d| d.and_time(NaiveTime::MIN));
    // A bare date first: eight digits are no time.
    date("%Y-%m-%d")
        .or_else(|| if text.len() == 8 { date("%Y%m%d") } else { None })
        .or_else(|| times.iter().find_map(|format| NaiveDateTime::parse_from_str(&text, format).ok()))
        .filter(|time| (1..=9999).contains(&chrono::Datelike::year(time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> Zone {
        Zone { tz: Tz::Europe__Berlin, from: "setting.timeZone" }
    }

    fn at(text: &str) -> String {
        let (time, zone) = scheduled(Some(text), Utc::now(), berlin()).unwrap();
        format!("{} {}", time.format("%Y-%m-%dT%H:%M:%S%:z"), zone.from)
    }

    #[test]
    fn times_with_and_without_an_offset() {
        assert_eq!(at("2025-11-01"), "2025-11-01T00:00:00+01:00 setting.timeZone");
        assert_eq!(at("2025-07-01 06:30"), "2025-07-01T06:30:00+02:00 setting.timeZone");
        assert_eq!(at("20250701063000"), "2025-07-01T06:30:00+02:00 setting.timeZone");
        assert_eq!(at("20250701"), "2025-07-01T00:00:00+02:00 setting.timeZone");
        assert_eq!(at("2025-07-01T06:30:00+02:00"), "2025-07-01T06:30:00+02:00 setting.timeZone");
        assert_eq!(at("2025-07-01T06:30:00+08:00"), "2025-07-01T06:30:00+08:00 --at");
        assert_eq!(at("2025-07-01T06:30+05:30"), "2025-07-01T06:30:00+05:30 --at");
        assert_eq!(at("2025-07-01 06:30:00Z"), "2025-07-01T06:30:00+00:00 --at");
        assert_eq!(at("2025-07-01T06:30Z"), "2025-07-01T06:30:00+00:00 --at");
        // The hour that is there twice means its first time.
        assert_eq!(at("2025-10-26 02:30"), "2025-10-26T02:30:00+02:00 setting.timeZone");
        for wrong in ["", "yesterday", "2025-13-01", "2025-03-30 02:30", "99999-01-01"] {
            assert!(scheduled(Some(wrong), Utc::now(), berlin()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn zones_by_name_and_offset() {
        assert_eq!(parse("asia/shanghai"), Ok(Tz::Asia__Shanghai));
        assert_eq!(parse("GMT+8"), Ok(Tz::Etc__GMTMinus8));
        assert_eq!(parse("-03:00"), Ok(Tz::Etc__GMTPlus3));
        assert_eq!(parse("UTC"), Ok(Tz::UTC));
        assert!(parse("Europe/Berln").unwrap_err().contains("`Europe/Berlin`"));
        assert!(parse("nowhere at all").is_err());
    }

    #[test]
    fn the_nearest_voice_names_the_zone() {
        assert_eq!(choose(Some(("UTC", "/x")), Some("Asia/Tokyo")).unwrap().from, "setting.timeZone");
        assert_eq!(choose(None, Some("Asia/Tokyo")).unwrap(), Zone { tz: Tz::Asia__Tokyo, from: "WEIR_TZ" });
        assert_eq!(choose(None, None).unwrap().from, "machine");
        assert_eq!(choose(Some(("x", "/setting/timeZone")), None).unwrap_err().0[0].pointer, "/setting/timeZone");
    }
}
