//! Job files and parameters that no person would write: the parser gives a job, or faults that say where; it never panics.

use serde_json::{Value, json};
use weir::job::{self, parse_parameters};
use weir::{LoadOptions, core::Faults};

/// A small generator (SplitMix64: Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

const TOKENS: &[&str] = &[
    "${",
    "}",
    "$[",
    "]",
    "$",
    "${yyyymmdd-1}",
    "$[yyyymmdd-1/24]",
    "${env:HOME}",
    "${file:/etc/hostname}",
    "${env:",
    "$bizdate",
    "${a}",
    "$[hh24miss+99999999999]",
    "$[yyyymm-99999999]",
    "${yyyymmdd-9223372036854775807}",
    "$[add_months(yyyymmdd,-99999999)]",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "\u{feff}",
    "//",
    "/*",
    "*/",
    ",",
    ":",
    "{",
    "[",
    "null",
    "true",
    "-1",
    "1e999",
    "-0.0",
    "18446744073709551616",
    "9223372036854775808",
    "1e-400",
    "é",
    "日本",
    "\n",
    "*.{0}",
    "[0-9",
    "?(",
    "{{",
    "''",
    "--",
];

const VALUES: &[&str] = &[
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "0",
    "-1",
    "1e999",
    "18446744073709551615",
    "-9223372036854775808",
    "0.1",
    "\"*\"",
    "[null]",
    "[[]]",
    "{\"\": 0}",
    "\"${env:NOBODY_HAS_THIS}\"",
    "\"a\\u0000b\"",
    "\"jdbc:\"",
    "\"://\"",
    "\"postgresql://[::1\"",
    "\"mysql://a:b@c:99999/d\"",
    "\"s3://\"",
    "\"\\\\\"",
    "[1, \"a\", {}]",
    "\"unlimited\"",
    "\"99999999999999999999\"",
    "\"NaN\"",
    "\"Mars/Olympus\"",
    "{\"value\": {\"value\": []}}",
    "\"dx_groovy\"",
    "\"2025-02-30\"",
];

fn jobs() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/jobs");
    let mut all: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let rich = json!({"job": {"name": "rich", "setting": {
            "speed": {"channel": 3, "record": 1000, "byte": 1048576}, "errorLimit": {"record": 5, "percentage": 0.02},
            "timeZone": "Europe/Berlin", "timeout": 60, "retry": {"times": 3, "interval": 1, "maxInterval": 9}},
        "content": [{
            "reader": {"name": "mysqlreader", "parameter": {"username": "u", "password": "${env:P}", "column": ["id", "concat(a, b)"],
                "splitPk": "id", "where": "day = '${yyyymmdd-1}'",
                "connection": [{"table": ["t[0-3]", "u"], "jdbcUrl": ["jdbc:mysql://h:3306/d?useSSL=false"]}]}},
            "transformer": [{"name": "dx_substr", "parameter": {"columnIndex": 1, "paras": ["0", "3"]}},
                {"name": "dx_filter", "parameter": {"columnIndex": 0, "paras": [">", "1"]}}],
            "writer": {"name": "postgresqlwriter", "parameter": {"username": "u", "password": "p", "column": ["id", "v"],
                "writeMode": "upsert", "preSql": ["delete from t where day = $bizdate"],
                "connection": [{"jdbcUrl": "jdbc:postgresql://h/d", "table": ["t"]}]}}}]}});
    let script = json!({"type": "job", "version": "2.0", "steps": [
            {"stepType": "mysql", "name": "Reader", "category": "reader", "parameter": {"datasource": "shop", "table": "t", "column": ["id"]}},
            {"stepType": "odps", "name": "Writer", "category": "writer", "parameter": {"datasource": "lake", "table": "t", "partition": "dt=${bizdate}"}}],
        "setting": {"errorLimit": {"record": "0"}, "speed": {"throttle": true, "concurrent": 2, "mbps": "10"}},
        "order": {"hops": [{"from": "Reader", "to": "Writer"}]}});
    let files = json!({"job": {"content": [{
        "reader": {"name": "files", "parameter": {"path": ["in/*.csv"], "column": [{"index": 0, "type": "long"}, {"value": "$cyctime"}],
            "delimiter": "||", "quote": "none", "nullFormat": "\\N"}},
        "writer": {"name": "lakehouse", "parameter": {"path": "s3://b/k", "partitionBy": ["day"], "writeMode": "overwrite",
            "mapping": [{"from": "a", "to": "b"}, {"value": 1, "to": "c"}], "storageOptions": {"region": "x"}}}}]}});
    all.extend([rich, script, files].iter().map(|job| format!("{job:#}")));
    all
}

fn cut(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The text with a few pieces lost, doubled, moved or put in.
fn text_mutant(random: &mut Random, text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..1 + random.below(4) {
        let from = cut(&text, random.below(text.len() + 1));
        let to = cut(&text, from + random.below(30)).max(from);
        let piece = text[from..to].to_owned();
        match random.below(5) {
            0 => text.replace_range(from..to, ""),
            1 => text.insert_str(from, random.pick(TOKENS)),
            2 => text.replace_range(from..to, random.pick(TOKENS)),
            3 => text.insert_str(to, &piece),
            _ => text.replace_range(from..to, random.pick(VALUES)),
        }
    }
    text
}

/// The value with nodes replaced, removed, renamed or added.
fn tree_mutant(random: &mut Random, value: &mut Value) {
    let children = match value {
        Value::Object(map) => map.len(),
        Value::Array(list) => list.len(),
        _ => 0,
    };
    if children == 0 || random.below(6) == 0 {
        if let Value::Object(map) = value
            && random.below(3) > 0
        {
            let key = random.pick(&[
                "name",
                "parameter",
                "column",
                "where",
                "path",
                "url",
                "",
                "a~1/b",
                "Column",
                "speed",
                "content",
            ]);
            map.insert(key.to_owned(), serde_json::from_str(random.pick(VALUES)).unwrap_or_default());
            return;
        }
        *value = serde_json::from_str(random.pick(VALUES)).unwrap_or_default();
        return;
    }
    let at = random.below(children);
    match value {
        Value::Object(map) => {
            let key = map.keys().nth(at).unwrap().clone();
            if random.below(8) == 0 {
                let gone = map.shift_remove(&key).unwrap();
                if random.below(2) == 0 {
                    map.insert(key + "x", gone);
                }
            } else {
                tree_mutant(random, &mut map[&key]);
            }
        }
        Value::Array(list) => match random.below(8) {
            0 => drop(list.remove(at)),
            1 => list.push(list[at].clone()),
            _ => tree_mutant(random, &mut list[at]),
        },
        _ => {}
    }
}

fn options() -> LoadOptions {
    LoadOptions {
        parameters: vec![("a".into(), "b\"\\\n".into()), ("channels".into(), "3".into())],
        at: Some("2025-11-01T00:00:00+01:00".into()),
        ..LoadOptions::default()
    }
}

fn are_faults(faults: &Faults) {
    assert!(!faults.0.is_empty(), "refused without a reason");
    for fault in &faults.0 {
        assert!(fault.pointer.is_empty() || fault.pointer.starts_with('/'), "no pointer: {fault:?}");
        assert!(!fault.message.trim().is_empty(), "nothing is said: {fault:?}");
        assert!(!fault.message.contains("internal error"), "{fault:?}");
    }
}

/// Runs a check and, when it panics, says with what.
fn guarded(seed: u64, text: &str, check: impl Fn()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err() {
        panic!("seed {seed}:\n{text}");
    }
}

#[test]
fn a_job_file_is_a_job_or_has_faults_that_say_where() {
    let jobs = jobs();
    let (mut good, mut refused) = (0, 0);
    let options = options();
    let began = std::time::Instant::now();
    for seed in 0..4_000u64 {
        if began.elapsed().as_secs() >= 20 {
            break;
        }
        let mut random = Random(seed);
        let job = &jobs[random.below(jobs.len())];
        let parsed = serde_json::from_str::<Value>(job).ok();
        let text = match parsed {
            Some(mut tree) if random.below(2) == 0 => {
                for _ in 0..1 + random.below(3) {
                    tree_mutant(&mut random, &mut tree);
                }
                tree.to_string()
            }
            _ => text_mutant(&mut random, job),
        };
        guarded(seed, &text, || {
            if let Err(faults) = job::load(&text, &options) {
                are_faults(&faults);
            }
        });
        match job::load(&text, &options) {
            Ok(_) => good += 1,
            Err(_) => refused += 1,
        }
    }
    println!("{good} jobs, {refused} refused");
    assert!(good > 20 && refused > 200, "mutants are of one kind only: {good} jobs, {refused} refused");
}

#[test]
fn nesting_without_end_is_refused() {
    for (open, depth) in [("[", 200_000), ("{\"a\":", 200_000), ("{\"job\":{\"content\":[{\"reader\":", 50_000)] {
        let text = open.repeat(depth);
        are_faults(&job::load(&text, &options()).unwrap_err());
    }
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let job = json!({"job": {"content": [{"reader": {"name": "stream", "parameter": {"column": "DEEP"}},
        "writer": {"name": "stream", "parameter": {}}}]}});
    are_faults(&job::load(&job.to_string().replace("\"DEEP\"", &deep), &options()).unwrap_err());
}

#[test]
fn parameters_are_pairs_or_faults() {
    let pieces =
        ["-D", "-Da=1", "a", "=", " ", "b c", "-p", "\"", "é", "", "--D", "-Dx", "=-D", "${", "\n", "1", "_", "$", "-"];
    for seed in 0..50_000u64 {
        let mut random = Random(seed);
        let text: String = (0..random.below(9)).map(|_| random.pick(&pieces)).collect();
        guarded(seed, &text, || match parse_parameters(&text) {
            Ok(pairs) => {
                for (name, _) in &pairs {
                    assert!(!name.trim().is_empty() && !name.contains('='), "{pairs:?}");
                }
                // What was read can be written and read again.
                for (name, value) in pairs {
                    if !name.starts_with("-D") && value == value.trim() {
                        let again = parse_parameters(&format!("{name}={value}")).unwrap();
                        assert_eq!(again, [(name, value)]);
                    }
                }
            }
            Err(faults) => are_faults(&faults),
        });
    }
}

/// Values land in the job as they are, whatever they hold (but dates, which are meant to be evaluated).
#[test]
fn a_value_of_a_parameter_arrives_as_it_is() {
    for seed in 0..3_000u64 {
        let mut random = Random(seed);
        let value: String =
            (0..random.below(6)).map(|_| random.pick(TOKENS)).filter(|token| !token.contains('$')).collect();
        let text = r#"{"job": {"content": [{"reader": {"name": "stream", "parameter": {"column": [{"value": "<${v}>"}], "sliceRecordCount": 1}},
            "writer": {"name": "stream"}}]}}"#;
        let options = LoadOptions { parameters: vec![("v".into(), value.clone())], ..options() };
        guarded(seed, &value, || {
            let job = job::load(text, &options).unwrap_or_else(|faults| panic!("{faults}"));
            let found = &job.entries[0].reader.parameter["column"][0]["value"];
            // A secret's reference is resolved later, where a connector is opened.
            assert_eq!(found, &json!(format!("<{value}>")));
        });
    }
}
