//! `setting` and `core`: limits and tolerances, in the words of all forms.

use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::model::{ErrorLimit, Retry, Setting};
use super::notes::Notes;
use super::text::child;
use super::validate::{is_empty, show};

const MEBIBYTE: f64 = 1_048_576.0;

impl FromStr for ErrorLimit {
    type Err = String;

    /// `unlimited`, a number of rows, or a share such as `0.5%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("unlimited") {
            return Ok(Self { record: None, percentage: None });
        }
        if let Some(share) = text.strip_suffix('%') {
            let share = share.trim().parse::<f64>().ok().filter(|s| (0.0..=100.0).contains(s));
            let share = share.ok_or_else(|| format!("`{text}` is no share: write 0% to 100%"))?;
            return Ok(Self { record: None, percentage: Some(share / 100.0) });
        }
        match text.parse() {
            Ok(record) => Ok(Self { record: Some(record), percentage: None }),
            Err(_) => {
                Err(format!("`{text}` is no error limit: write a number of rows, `unlimited`, or a share such as `1%`"))
            }
        }
    }
}

/// Where the parts stand in a file.
pub(crate) struct Parts<'a> {
    pub setting: &'a Value,
    /// The pointer of `setting`.
    pub pointer: &'a str,
    /// DataX's `core`, else null.
    pub core: &'a Value,
    /// DataX's `common.column`, else null.
    pub column_formats: &'a Value,
    /// Whether `mbps` counts only with `throttle`, as in DataWorks' scripts.
    pub script: bool,
}

/// Reads the setting of either form.
pub(crate) fn read(parts: &Parts<'_>, notes: &mut Notes) -> Setting {
    let mut setting = Setting { column_formats: parts.column_formats.clone(), ..Setting::default() };
    if !notes.object(parts.setting, parts.pointer) {
        per_channel(parts.core, &mut setting, notes);
        return setting;
    }
    notes.unknown_keys(
        parts.setting,
        parts.pointer,
        "setting",
        &["speed", "errorLimit", "timeZone", "retry", "timeout", "verify"],
        &[
            ("executeMode", "there is one way to run"),
            ("failoverEnable", "there is one machine"),
            ("locale", "times and numbers have one form"),
            ("jvmOption", "there is no Java machine"),
            ("keyVersion", "secrets are references"),
        ],
    );
    speed(parts, &mut setting, notes);
    per_channel(parts.core, &mut setting, notes);
    setting.error_limit = error_limit(&parts.setting["errorLimit"], &child(parts.pointer, "errorLimit"), notes);
    setting.retry = retry(&parts.setting["retry"], &child(parts.pointer, "retry"), notes);
    let timeout = notes.number(&parts.setting["timeout"], &child(parts.pointer, "timeout"), "a number of seconds");
    setting.verify = notes.boolean(&parts.setting["verify"], &child(parts.pointer, "verify")).unwrap_or(false);
    setting.timeout = timeout.filter(|seconds| *seconds >= 1.0).map(|seconds| seconds as u64);
    setting
}

fn retry(value: &Value, at: &str, notes: &mut Notes) -> Retry {
    let mut retry = Retry::default();
    if is_empty(value) || !notes.object(value, at) {
        return retry;
    }
    notes.unknown_keys(value, at, "retry", &["times", "interval", "maxInterval"], &[]);
    if let Some(times) = notes.number(&value["times"], &child(at, "times"), "a whole number, 0 for never") {
        retry.times = times.max(0.0) as u32;
    }
    let mut seconds = |key: &str| {
        let seconds = notes.number(&value[key], &child(at, key), "a number of seconds")?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    retry.interval = seconds("interval").unwrap_or(retry.interval);
    retry.max_interval = seconds("maxInterval").unwrap_or(retry.max_interval).max(retry.interval);
    retry
}

fn speed(parts: &Parts<'_>, setting: &mut Setting, notes: &mut Notes) {
    let at = child(parts.pointer, "speed");
    let bare;
    let speed = match &parts.setting["speed"] {
        Value::Number(bytes) => {
            // As a sample of DataX's documentation has it.
            notes.warn(&at, "a bare number is taken for `speed.byte`, bytes a second for the whole job");
            bare = serde_json::json!({"byte": bytes});
            &bare
        }
        speed => speed,
    };
    if is_empty(speed) || !notes.object(speed, &at) {
        return;
    }
    let known = ["channel", "byte", "record", "concurrent", "throttle", "mbps"];
    notes.unknown_keys(speed, &at, "speed", &known, &[("dmu", "the machine decides")]);
    // Zero and less mean that there is no limit, as in DataX.
    let mut rate = |key: &str| {
        let number = notes.number(&speed[key], &child(&at, key), "a whole number, or 0 for no limit")?;
        (number >= 1.0).then_some(number as u64)
    };
    setting.bytes_per_second = rate("byte");
    setting.rows_per_second = rate("record");
    let mut ceiling = |key: &str| {
        let number = notes.number(&speed[key], &child(&at, key), "a whole number, 1 or more")?;
        if number < 1.0 || number.fract() != 0.0 {
            notes
                .faults
                .add(child(&at, key), format!("expected a whole number, 1 or more, found {}", show(&speed[key])));
            return None;
        }
        Some(number as usize)
    };
    let ceilings = [ceiling("channel"), ceiling("concurrent")];
    let throttle = notes.boolean(&speed["throttle"], &child(&at, "throttle"));
    let mbps = notes.number(&speed["mbps"], &child(&at, "mbps"), "a number of megabytes a second");
    // Whoever gives a rate in another form means it.
    match (throttle.or((!parts.script && mbps.is_some()).then_some(true)), mbps) {
        (Some(true), Some(mbps)) if mbps > 0.0 => {
            let bytes = ((mbps * MEBIBYTE) as u64).max(1);
            setting.bytes_per_second = Some(setting.bytes_per_second.map_or(bytes, |b| b.min(bytes)));
        }
        (Some(true), _) if throttle.is_some() => {
            notes.warn(&at, "`throttle` is true, but `mbps` gives no rate: nothing is throttled");
        }
        (None, Some(_)) if parts.script => notes.warn(&at, "`mbps` counts only with `\"throttle\": true`"),
        _ => {}
    }
    setting.channels = ceilings.into_iter().flatten().min();
}

/// DataX's `core.transport.channel.speed`, a rate for each channel: it divides the job's rate into channels, and where the
/// job has no rate of that kind it makes one, by the number of channels there will be.
fn per_channel(core: &Value, setting: &mut Setting, notes: &mut Notes) {
    let core = &core["transport"]["channel"]["speed"];
    let mut each = |key: &str| {
        let pointer = format!("/core/transport/channel/speed/{key}");
        let number = notes.number(&core[key], &pointer, "a whole number, or -1 for no limit")?;
        (number >= 1.0).then_some(number as u64)
    };
    let (bytes, rows) = (each("byte"), each("record"));
    let divided =
        |total: Option<u64>, each: Option<u64>| Some(usize::try_from((total? / each?).max(1)).unwrap_or(usize::MAX));
    let computed = [divided(setting.bytes_per_second, bytes), divided(setting.rows_per_second, rows)];
    setting.channels = computed.into_iter().flatten().chain(setting.channels).min();
    // Where nothing says how many channels there are, the machine does: see `plan::channels`.
    let channels = crate::plan::channels(setting) as u64;
    let multiplied = |each: Option<u64>| Some(each?.saturating_mul(channels));
    setting.bytes_per_second = setting.bytes_per_second.or_else(|| multiplied(bytes));
    setting.rows_per_second = setting.rows_per_second.or_else(|| multiplied(rows));
}

fn error_limit(value: &Value, at: &str, notes: &mut Notes) -> ErrorLimit {
    if is_empty(value) {
        return ErrorLimit::default();
    }
    if value.is_string() || value.is_number() {
        return record(value, at, notes).unwrap_or_default();
    }
    if !notes.object(value, at) {
        return ErrorLimit::default();
    }
    notes.unknown_keys(value, at, "errorLimit", &["record", "percentage"], &[]);
    let limit = record(&value["record"], &child(at, "record"), notes);
    let expected = "a share from 0 to 1";
    let pointer = child(at, "percentage");
    let share = notes.number(&value["percentage"], &pointer, expected);
    let share = share.filter(|share| {
        let fits = (0.0..=1.0).contains(share);
        if !fits {
            notes.faults.add(&pointer, format!("expected {expected} (0.02 is two in a hundred), found `{share}`"));
        }
        fits
    });
    match (limit, share) {
        // DataX's rule: a number of rows, where there is one, decides alone.
        (Some(ErrorLimit { record: Some(rows), .. }), _) => ErrorLimit { record: Some(rows), percentage: None },
        (Some(_) | None, Some(share)) => ErrorLimit { record: None, percentage: Some(share) },
        (Some(limit), None) => limit,
        (None, None) => ErrorLimit::default(),
    }
}

fn record(value: &Value, at: &str, notes: &mut Notes) -> Option<ErrorLimit> {
    let text = match value {
        empty if is_empty(empty) => return None,
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    match text.parse::<ErrorLimit>() {
        Ok(limit) => Some(limit),
        Err(_) => {
            let expected = "a number of rows (0 for none), or \"unlimited\"";
            notes.faults.add(at, format!("expected {expected}, found {}", show(value)));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(setting: Value, core: Value) -> (Setting, Notes) {
        of_form(setting, core, true)
    }

    fn of_form(setting: Value, core: Value, script: bool) -> (Setting, Notes) {
        let mut notes = Notes::default();
        let column_formats = &Value::Null;
        let parts = Parts { setting: &setting, pointer: "/job/setting", core: &core, column_formats, script };
        let read = read(&parts, &mut notes);
        (read, notes)
    }

    fn limits(speed: Value, core: Value) -> (Option<usize>, Option<u64>, Option<u64>) {
        let core = json!({"transport": {"channel": {"speed": core}}});
        let (setting, notes) = of(json!({"speed": speed}), core);
        assert!(notes.faults.0.is_empty(), "{}", notes.faults);
        (setting.channels, setting.rows_per_second, setting.bytes_per_second)
    }

    #[test]
    fn channel_arithmetic() {
        let none = json!({});
        assert_eq!(limits(json!({}), none.clone()), (None, None, None));
        assert_eq!(limits(json!({"channel": "3"}), none.clone()), (Some(3), None, None));
        assert_eq!(limits(json!(100), json!({"byte": 30})), (Some(3), None, Some(100)));
        assert_eq!(limits(json!({"byte": 100}), json!({"byte": 30})), (Some(3), None, Some(100)));
        assert_eq!(limits(json!({"byte": 10}), json!({"byte": "30"})), (Some(1), None, Some(10)));
        assert_eq!(
            limits(json!({"byte": 100, "record": 100}), json!({"byte": 10, "record": 50})),
            (Some(2), Some(100), Some(100))
        );
        assert_eq!(limits(json!({"byte": 100, "channel": 2}), json!({"byte": 10})), (Some(2), None, Some(100)));
        assert_eq!(limits(json!({"byte": 100, "channel": 20}), json!({"byte": 10})), (Some(10), None, Some(100)));
        assert_eq!(limits(json!({"byte": 100}), none.clone()), (None, None, Some(100)));
        assert_eq!(limits(json!({"byte": -1, "record": 0, "channel": 1}), json!({"byte": -1})), (Some(1), None, None));
        assert_eq!(limits(json!({"channel": 4}), json!({"byte": 10})), (Some(4), None, Some(40)));
        // Four channels by the bytes, each of which may send seven rows.
        assert_eq!(limits(json!({"byte": 40}), json!({"byte": 10, "record": 7})), (Some(4), Some(28), Some(40)));
    }

    #[test]
    fn a_rate_for_each_channel_holds_also_where_nothing_says_how_many_there_are() {
        let automatic = crate::plan::channels(&Setting::default()) as u64;
        assert_eq!(limits(json!({}), json!({"byte": 10})), (None, None, Some(10 * automatic)));
        assert_eq!(limits(Value::Null, json!({"record": "5"})), (None, Some(5 * automatic), None));
        let core = json!({"transport": {"channel": {"speed": {"byte": "fast"}}}});
        let (setting, notes) = of(Value::Null, core);
        assert_eq!(setting.bytes_per_second, None);
        assert!(notes.faults.to_string().contains("/core/transport/channel/speed/byte"), "{}", notes.faults);
    }

    #[test]
    fn script_mode_throttles_only_when_told() {
        let none = json!({});
        assert_eq!(
            limits(json!({"throttle": false, "concurrent": 2, "mbps": "5"}), none.clone()),
            (Some(2), None, None)
        );
        assert_eq!(
            limits(json!({"throttle": "true", "concurrent": "2", "mbps": "5"}), none.clone()),
            (Some(2), None, Some(5 << 20))
        );
        assert_eq!(limits(json!({"throttle": true, "mbps": 0.5}), none), (None, None, Some(1 << 19)));
        assert_eq!(of(json!({"speed": {"throttle": true}}), json!({})).1.warnings.len(), 1);
    }

    #[test]
    fn outside_of_scripts_a_rate_counts_by_itself() {
        let limit = |speed: Value, script| {
            let (setting, notes) = of_form(json!({"speed": speed}), Value::Null, script);
            (setting.bytes_per_second, notes.warnings.len())
        };
        assert_eq!(limit(json!({"mbps": 50}), false), (Some(50 << 20), 0));
        assert_eq!(limit(json!({"mbps": 50}), true), (None, 1));
        assert_eq!(limit(json!({"mbps": 50, "byte": 1000}), false), (Some(1000), 0));
        assert_eq!(limit(json!({"mbps": 50, "throttle": false}), false), (None, 0));
        assert_eq!(limit(json!({"mbps": 0}), false), (None, 0));
    }

    #[test]
    fn error_limits() {
        let limit = |value: Value| {
            let (setting, notes) = of(json!({"errorLimit": value}), Value::Null);
            assert!(notes.faults.0.is_empty(), "{}", notes.faults);
            (setting.error_limit.record, setting.error_limit.percentage)
        };
        assert_eq!(limit(Value::Null), (Some(0), None));
        assert_eq!(limit(json!({})), (Some(0), None));
        assert_eq!(limit(json!({"record": "0"})), (Some(0), None));
        assert_eq!(limit(json!({"record": 5, "percentage": 0.02})), (Some(5), None));
        assert_eq!(limit(json!({"percentage": "0.02"})), (None, Some(0.02)));
        assert_eq!(limit(json!({"record": "", "percentage": 1})), (None, Some(1.0)));
        assert_eq!(limit(json!({"record": "unlimited"})), (None, None));
        assert_eq!(limit(json!({"record": "Unlimited", "percentage": 0.5})), (None, Some(0.5)));
        assert_eq!(limit(json!(7)), (Some(7), None));
        assert_eq!("1%".parse(), Ok(ErrorLimit { record: None, percentage: Some(0.01) }));
        assert!("many".parse::<ErrorLimit>().is_err());
    }

    #[test]
    fn wrong_settings_are_all_named() {
        let (_, notes) = of(
            json!({"speed": {"channel": 0, "byte": "x", "recrod": 1, "throttle": "maybe", "mbps": []},
                "errorLimit": {"record": -1, "percentage": 2}, "errorlimit": 1}),
            Value::Null,
        );
        let text = notes.faults.to_string();
        for pointer in [
            "/speed/channel: ",
            "/speed/byte: ",
            "/speed/recrod: ",
            "/speed/throttle: ",
            "/errorLimit/record: ",
            "/errorLimit/percentage: ",
            "/errorlimit: ",
        ] {
            assert!(text.contains(&format!("/job/setting{pointer}")), "{pointer}\n{text}");
        }
        assert_eq!(notes.faults.0.len(), 7, "{text}");
        let (_, notes) = of(json!([1]), Value::Null);
        assert_eq!(notes.faults.0.len(), 1);
    }
}
