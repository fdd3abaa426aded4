//! Whole job files.

use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir_core::{ConnectorContext, Faults, Form, OnTypeLoss};

use super::{Job, LoadOptions, load, load_file};

const DATAX: &str = r#"{
  // moves a day
  "job": {
    "setting": {"speed": {"channel": ${ch}, "byte": -1}, "errorLimit": {"record": "0", "percentage": 0.02},},
    "content": [{
      "reader": {"name": "fakereader", "parameter": {
        "username": "u", "password": "p", "column": ["id", "name"], "fetchSize": 1000, "encoding": "utf8", "splitPk": "",
        "connection": [{"table": ["t_[00-03]"], "jdbcUrl": ["jdbc:fake://h/d"]}]}},
      "writer": {"name": "fakewriter", "parameter": {"url": "fake://x", "table": "t_${dt}", "batchSize": "1024",
        "createTable": "TRUE", "session": "", "onTypeLoss": "cast", "mapping": [{"from": "id", "to": "a"}, {"value": "${bizdate}", "to": "b"}]}},
      "transformer": [{"name": "dx_substr", "parameter": {"columnIndex": 1, "paras": ["0", "5"]}}]
    }]
  },
  "core": {"container": {"x": 1}, "transport": {"channel": {"speed": {"byte": 1048576}}}}
}"#;

const SCRIPT: &str = r#"{"type": "job", "version": "2.0",
  "steps": [
    {"stepType": "fake", "parameter": {"url": "fake://a", "table": "t", "envType": 1}, "name": "Reader", "category": "reader"},
    {"stepType": "fake", "parameter": {"url": "fake://b", "table": "t"}, "name": "Writer", "category": "writer"}],
  "order": {"hops": [{"from": "Reader", "to": "Writer"}]},
  "setting": {"errorLimit": {"record": "10"}, "speed": {"throttle": "true", "concurrent": "2", "mbps": 1}, "executeMode": null}}"#;

fn options(pairs: &[(&str, &str)]) -> LoadOptions {
    LoadOptions {
        parameters: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        at: Some("2025-11-01T00:00:00+08:00".into()),
        // No file of the developer's own may take part.
        datasources: Some(PathBuf::from("/nonexistent/sources.json")),
        ..LoadOptions::default()
    }
}

fn given() -> LoadOptions {
    options(&[("ch", "3"), ("dt", "20251031"), ("password", "geheim")])
}

fn faults(text: &str) -> Faults {
    load(text, &given()).unwrap_err()
}

fn entry(reader: &str, writer: &str) -> String {
    format!(r#"{{"job": {{"content": [{{"reader": {reader}, "writer": {writer}}}]}}}}"#)
}

const FAKE: &str = r#"{"name": "fake", "parameter": {"url": "fake://x"}}"#;

#[test]
fn a_datax_job_is_read_whole() {
    let job: Job = load(DATAX, &given()).unwrap();
    assert_eq!(job.name, "job");
    assert_eq!((job.setting.channels, job.setting.error_limit.record), (Some(3), Some(0)));
    assert_eq!(job.setting.bytes_per_second, Some(3 * 1_048_576));
    let entry = &job.entries[0];
    assert_eq!((entry.reader.plugin.as_str(), entry.reader.form), ("fake", Form::DataX));
    assert_eq!(entry.reader.pointer, "/job/content/0/reader/parameter");
    assert_eq!(
        entry.reader.parameter,
        json!({"username": "u", "password": "p", "column": ["id", "name"],
            "connection": [{"table": ["t_[00-03]"], "jdbcUrl": ["jdbc:fake://h/d"]}]})
    );
    assert_eq!(
        entry.writer.parameter,
        json!({"url": "fake://x", "table": "t_20251031", "batchSize": 1024, "createTable": true})
    );
    assert_eq!(entry.on_type_loss, OnTypeLoss::Cast);
    assert_eq!(entry.mapping.len(), 2);
    assert_eq!(serde_json::to_value(&entry.mapping[1]).unwrap()["value"], "20251031");
    assert_eq!(entry.transformers[0].pointer, "/job/content/0/transformer/0");
    assert_eq!(entry.transformers[0].parameter["paras"], json!(["0", "5"]));
    assert_eq!(job.warnings.len(), 3, "{:?}", job.warnings);
    assert_eq!(job.time_zone_from, "--at");
    assert_eq!(job.parameters["password"], "***");
    assert_eq!(entry.reader.redacted()["password"], "***");
}

#[test]
fn a_script_is_read_whole() {
    let job = load(SCRIPT, &given()).unwrap();
    assert_eq!(job.entries.len(), 1);
    assert_eq!(job.entries[0].reader.form, Form::DataX);
    assert_eq!(job.entries[0].writer.pointer, "/steps/1/parameter");
    assert_eq!(job.setting.bytes_per_second, Some(1 << 20));
    assert_eq!(job.warnings.len(), 1, "{:?}", job.warnings);
    let strict = LoadOptions { strict: true, ..given() };
    assert!(load(SCRIPT, &strict).unwrap_err().to_string().contains("/steps/0/parameter/envType"));
}

#[test]
fn a_script_of_version_one_is_read_whole() {
    let text = |version: &str| {
        format!(
            r#"{{"type": "job", "version": "{version}", "traceId": "x", "configuration": {{
            "reader": {{"plugin": "fake", "parameter": {{"url": "fake://a", "table": "t"}}}},
            "writer": {{"plugin": "sink", "parameter": {{"url": "fake://b", "table": "t"}}}},
            "setting": {{"errorLimit": {{"record": "3"}}, "speed": {{"concurrent": 2}}, "timeZone": "Asia/Tokyo"}}}}}}"#
        )
    };
    let job = load(&text("1.0"), &LoadOptions { at: None, ..given() }).unwrap();
    let entry = &job.entries[0];
    assert_eq!((entry.reader.plugin.as_str(), entry.reader.form), ("fake", Form::DataX));
    assert_eq!(entry.writer.pointer, "/configuration/writer/parameter");
    assert_eq!((job.setting.error_limit.record, job.setting.channels), (Some(3), Some(2)));
    assert_eq!((job.at.timezone().name(), job.warnings.len()), ("Asia/Tokyo", 1));
    assert!(faults(&text("3.0")).to_string().contains("/version: scripts of version `3.0` are not known"));
    let shown = faults(r#"{"version": 1, "configuration": {"reader": {"parameter": {}}}}"#).to_string();
    assert!(shown.contains("/configuration/reader: `plugin` is missing"), "{shown}");
    assert!(shown.contains("/configuration: `writer` is missing"), "{shown}");
}

#[test]
fn several_tables_of_a_writer_are_filled_from_as_many_of_the_reader() {
    let job = |reader: Value, writer: Value| {
        let end = |name: &str, parameter: Value| json!({"name": name, "parameter": parameter}).to_string();
        load(&entry(&end("fakereader", reader), &end("fakewriter", writer)), &given())
    };
    let places = |reader: Value, writer: Value| {
        let of = |end: &super::Endpoint| {
            let at = end.parameter.pointer("/connection/0").unwrap_or(&end.parameter).clone();
            (at["jdbcUrl"].as_str().or(at["url"].as_str()).unwrap().to_owned(), at["table"].clone())
        };
        let job = job(reader, writer).unwrap_or_else(|faults| panic!("{faults}"));
        job.entries.iter().map(|e| (of(&e.reader), of(&e.writer))).collect::<Vec<_>>()
    };
    let at = |url: &str, table: &str| (url.to_owned(), json!([table]));
    // One connection each, ranges and all.
    assert_eq!(
        places(
            json!({"url": "a", "table": ["t_[0-1]", "u"]}),
            json!({"url": "b", "table": "x, y_[8-9]", "session": "s"})
        ),
        [(at("a", "t_0"), at("b", "x")), (at("a", "t_1"), at("b", "y_8")), (at("a", "u"), at("b", "y_9"))]
    );
    // Several databases on both sides; one names no table and takes those beside it.
    assert_eq!(
        places(
            json!({"table": "t", "connection": [{"jdbcUrl": "a1"}, {"jdbcUrl": "a2", "table": ["u"]}]}),
            json!({"connection": [{"jdbcUrl": "b1", "table": ["x"]}, {"jdbcUrl": "b2", "table": ["y"]}]})
        ),
        [(at("a1", "t"), at("b1", "x")), (at("a2", "u"), at("b2", "y"))]
    );
    // One table takes all of them.
    assert_eq!(
        job(json!({"url": "a", "table": "t_[0-2]"}), json!({"url": "b", "table": "x"})).unwrap().entries.len(),
        1
    );
    for (reader, says) in [
        (json!({"url": "a", "table": ["t", "u", "v"]}), "2 tables to write and 3 to read"),
        (json!({"url": "a", "table": ["t"]}), "2 tables to write and 1 to read"),
        (json!({"url": "a"}), "the reader has no list of tables"),
    ] {
        let faults = job(reader, json!({"url": "b", "table": ["x", "y"]})).unwrap_err();
        assert_eq!((faults.0.len(), faults.0[0].pointer.as_str()), (1, "/job/content/0/writer/parameter/table"));
        assert!(faults.0[0].message.contains(says), "{faults}");
    }
}

#[test]
fn hops_pair_the_steps() {
    let two = |hops: &str| {
        format!(
            r#"{{"type": "job", "steps": [
            {{"stepType": "fake", "parameter": {{"url": "1"}}, "name": "a", "category": "reader"}},
            {{"stepType": "fake", "parameter": {{"url": "2"}}, "name": "b", "category": "reader"}},
            {{"stepType": "fake", "parameter": {{"url": "3"}}, "name": "c", "category": "writer"}},
            {{"stepType": "sink", "parameter": {{"url": "4"}}, "name": "d", "category": "writer"}}], "order": {{"hops": {hops}}}}}"#
        )
    };
    let job = load(&two(r#"[{"from": "b", "to": "c"}, {"from": "a", "to": "d"}]"#), &given()).unwrap();
    let urls = |e: &super::Entry| (e.reader.parameter["url"].clone(), e.writer.parameter["url"].clone());
    assert_eq!(urls(&job.entries[0]), ("2".into(), "3".into()));
    assert_eq!(job.entries[1].writer.plugin, "sink");
    assert!(faults(&two("[]")).to_string().contains("/order/hops"));
    assert!(
        faults(&two(r#"[{"from": "x", "to": "c"}]"#))
            .to_string()
            .contains("/order/hops/0/from: no reader is named `x`")
    );
    assert_eq!(load(&two(r#"[{"from": "a", "to": "c"}]"#), &given()).unwrap().warnings.len(), 2);
}

#[test]
fn every_fault_of_a_file_is_told_at_once_with_place_and_line() {
    let text = r#"{"job": {
  "setting": {"speed": {"channel": "many"}, "errorLimit": {"record": -1}, "timeZone": "Mars/Base"},
  "content": [
    {"reader": {"name": "fakereder", "parameter": {}}, "writer": {"parameter": {}}},
    {"reader": {"name": "fake", "parameter": {"ulr": "x", "batchSize": 0, "colour": 1, "splitMode": 1}},
     "writer": {"name": "fake", "parameter": {"table": {"a": 1}, "mapping": [{"to": "x"}], "url": "${undefined}"}}},
    {"reader": {"name": "sinkwriter", "parameter": []}}
  ]}}"#;
    let faults = faults(text);
    let shown = faults.to_string();
    for line in [
        "/job/setting/timeZone: `Mars/Base` is no time zone",
        "/: `${undefined}` has no value: pass it with `-p undefined=…` (line 6",
        "/job/setting/speed/channel: expected a whole number, 1 or more, found `many` (line 2)",
        "/job/setting/errorLimit/record: ",
        "/job/content/0/reader/name: there is no reader `fakereder`: did you mean `fakereader`? (line 4)",
        "/job/content/0/writer: `name` is missing",
        "/job/content/1/reader/parameter/ulr: unknown key `ulr`: did you mean `url`? (line 5)",
        "/job/content/1/reader/parameter/batchSize: expected a whole number, 1 or more, found `0` (line 5)",
        "/job/content/1/reader/parameter/colour: the fake reader knows no `colour`",
        "/job/content/1/reader/parameter/splitMode: `splitMode` is not supported",
        "/job/content/1/writer/parameter/table: expected a text or a list of texts, found an object (line 6)",
        "/job/content/1/writer/parameter/mapping/0: either `from`",
        "/job/content/2: `writer` is missing (line 7)",
    ] {
        assert!(shown.contains(line), "{line}\nin\n{shown}");
    }
}

#[test]
fn files_that_are_no_jobs() {
    for (text, part) in [
        ("", "empty"),
        ("{", "line 1"),
        ("[]", "expected an object, found a list"),
        ("{}", "neither `job` nor `steps`"),
        (r#"{"jbo": {}}"#, "did you mean `job`"),
        (r#"{"content": []}"#, "`content` belongs inside `job`"),
        (r#"{"job": {}, "steps": []}"#, "either `job` (DataX) or `steps`"),
        (r#"{"job": {}}"#, "`content` is missing"),
        (r#"{"job": null}"#, "`content` is missing"),
        (r#"{"job": 3}"#, "/job: expected an object"),
        (r#"{"job": {"content": [null]}}"#, "/job/content/0"),
        (r#"{"job": {"content": "x"}}"#, "/job/content: expected an object"),
        (r#"{"job": {"content": [{"reader": 1, "writer": "x"}]}}"#, "/job/content/0/reader: expected an object"),
        (r#"{"steps": []}"#, "/steps"),
        (r#"{"steps": [{"stepType": "fake", "category": "reader"}]}"#, "no step has the category `writer`"),
        (r#"{"steps": [{"stepType": "fake", "category": "both"}]}"#, "expected `reader` or `writer`, found `both`"),
        (r#"{"job": {"content": [], "preHandler": {"a": 1}}}"#, "preHandler"),
    ] {
        let shown = faults(text).to_string();
        assert!(shown.contains(part), "{text}: {shown}");
    }
}

#[test]
fn unknown_keys_pass_in_datax_words_only() {
    let with = |name: &str| {
        let one = format!(r#"{{"name": "{name}", "parameter": {{"url": "fake://x", "visible": 1}}, "color": 1}}"#);
        entry(&one, &one.replace("reader", "writer"))
    };
    assert_eq!(load(&with("fakereader"), &given()).unwrap().warnings.len(), 4);
    let native = faults(&with("fake"));
    assert_eq!(native.0.len(), 4, "{native}");
    let twice = r#"{"name": "fakereader", "parameter": {"url": "a", "url": "b"}}"#;
    let job = load(&entry(twice, &twice.replace("reader", "writer")), &given()).unwrap();
    assert_eq!((job.warnings.len(), &job.entries[0].reader.parameter["url"]), (2, &"b".into()));
    assert!(load(&entry(&twice.replace("fakereader", "fake"), FAKE), &given()).is_err());
}

#[test]
fn data_sources_fill_in_what_the_job_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("weir.datasources.json"),
        r#"{"shop": {"type": "fake", "dev": {"jdbcUrl": "fake://dev", "username": "d", "password": "${file:pw}", "session": ["s"]},
            "prod": {"url": "fake://prod", "batchSize": 0}}, "other": {"type": "sink", "url": "x"}}"#,
    )
    .unwrap();
    std::fs::write(folder.path().join("pw"), "geheim\n").unwrap();
    let path = folder.path().join("job.json");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    let options = LoadOptions { environment: Some("dev".into()), ..LoadOptions::default() };

    write(&entry(
        r#"{"name": "fake", "parameter": {"datasource": "shop", "username": "me", "table": "t"}}"#,
        r#"{"name": "fakewriter", "parameter": {"connection": [{"datasource": "shop", "table": ["t"]}]}}"#,
    ));
    let job = load_file(&path, &options).unwrap();
    assert_eq!(job.name, path.display().to_string());
    let reference = format!("${{file:{}}}", folder.path().join("pw").display());
    assert_eq!(
        job.entries[0].reader.parameter,
        json!({"username": "me", "table": "t", "url": "fake://dev", "password": reference, "session": ["s"]})
    );
    assert_eq!(
        job.entries[0].writer.parameter,
        json!({"connection": [{"table": ["t"], "jdbcUrl": "fake://dev", "username": "d", "password": reference}], "session": ["s"]})
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let context = ConnectorContext {
        cancel: CancellationToken::new(),
        io: runtime.handle().clone(),
        form: Form::Native,
        time_zone: chrono_tz::UTC,
        shared: Default::default(),
    };
    let opened = job.entries[0].reader.open_reader(&context).err().unwrap().to_string();
    assert!(opened.contains("opened Native") && opened.contains("geheim"), "{opened}");
    let both = job.entries[0].open(&context).err().unwrap();
    assert_eq!(both.0.len(), 2);
    assert!(both.0[1].message.contains("opened DataX"));

    let prod = LoadOptions { environment: Some("prod".into()), ..LoadOptions::default() };
    let shown = load_file(&path, &prod).unwrap_err().to_string();
    assert!(shown.contains("/reader/parameter/batchSize") && shown.contains("(from data source `shop`)"), "{shown}");
    let shown = load_file(&path, &LoadOptions::default()).unwrap_err().to_string();
    assert!(
        shown.contains("/reader/parameter/datasource: data source `shop` has the environments `dev`, `prod`"),
        "{shown}"
    );

    write(&entry(
        r#"{"name": "fake", "parameter": {"datasource": "othr"}}"#,
        r#"{"name": "fake", "parameter": {"datasource": "other"}}"#,
    ));
    let shown = load_file(&path, &options).unwrap_err().to_string();
    assert!(
        shown.contains("did you mean `other`") && shown.contains("is of type sink, and this writer is fake"),
        "{shown}"
    );
}

#[test]
fn a_job_file_that_cannot_be_read_is_a_fault_of_the_call() {
    let error = load_file(Path::new("/nonexistent/job.json"), &LoadOptions::default()).unwrap_err();
    assert_eq!(error.kind(), weir_core::ErrorKind::Config);
    assert!(error.to_string().contains("/nonexistent/job.json"));
}

#[test]
fn the_time_zone_of_the_job_holds_for_its_dates() {
    let text = |zone: &str| {
        format!(
            r#"{{"job": {{"setting": {{"timeZone": "{zone}"}}, "content": [{{"reader": {{"name": "fake", "parameter": {{"url": "$[yyyymmddhh24]"}}}}, "writer": {FAKE}}}]}}}}"#
        )
    };
    let now = chrono::DateTime::from_timestamp(1_761_955_200, 0);
    let options = LoadOptions {
        now,
        time_zone: Some("UTC".into()),
        parameters: vec![("z".into(), "Asia/Tokyo".into())],
        ..LoadOptions::default()
    };
    let job = load(&text("${z}"), &options).unwrap();
    assert_eq!(job.entries[0].reader.parameter["url"], "2025110109");
    assert_eq!((job.at.timezone().name(), job.time_zone_from), ("Asia/Tokyo", "setting.timeZone"));
    let job = load(&text(""), &options).unwrap();
    assert_eq!(job.entries[0].reader.parameter["url"], "2025110100");
    assert_eq!(job.time_zone_from, "WEIR_TZ");
}

#[test]
fn transformers_are_checked_before_anything_is_connected_to() {
    let with = |transformer: &str| {
        let job = entry(FAKE, FAKE);
        let shown = faults(&job.replace("}]}}", &format!(", \"transformer\": [{transformer}]}}]}}}}")));
        shown.to_string()
    };
    let shown = with(
        r#"{"name": "dx_substring"}, {"name": "dx_pad", "parameter": {"paras": ["l"]}}, {"name": "dx_groovy"}, {}"#,
    );
    for pointer in ["transformer/0/name", "transformer/1/parameter", "transformer/2/name", "transformer/3"] {
        assert!(
            shown.contains(&format!("/job/content/0/{pointer}: ")) || shown.contains(pointer),
            "{pointer}\n{shown}"
        );
    }
    assert!(shown.contains("`dx_substr`") && shown.contains("dx_groovy"), "{shown}");
}

/// Whatever a file looks like: faults or a job, and no panic.
#[test]
fn no_text_makes_it_panic() {
    let seed: u64 =
        std::env::var("WEIR_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| rand::rng().random());
    println!("WEIR_TEST_SEED={seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let pieces = [
        "\"",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "null",
        "true",
        "-1",
        "1e999",
        "${",
        "}",
        "$[",
        "yyyymmdd-1/0",
        "${env:PATH}",
        "\\",
        "//",
        "/*",
        "\u{0}",
        "é",
        "\"name\"",
        "\"datasource\": \"x\",",
        "99999999999999999999",
        "$bizdate",
        "${ch}",
        "\n",
        "\"parameter\": 1,",
    ];
    let options = given();
    for round in 0..3000 {
        let original = if round % 2 == 0 { DATAX } else { SCRIPT };
        let mut text: Vec<char> = original.chars().collect();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..=text.len());
            match random.random_range(0..4) {
                0 => {
                    let end = (at + random.random_range(1..20)).min(text.len());
                    text.drain(at.min(end)..end);
                }
                1 => {
                    let piece = pieces[random.random_range(0..pieces.len())];
                    text.splice(at..at, piece.chars());
                }
                2 if at < text.len() => text[at] = char::from(random.random_range(32u8..127)),
                _ => {
                    let end = (at + random.random_range(1..60)).min(text.len());
                    let copy: Vec<char> = text[at..end].to_vec();
                    let to = random.random_range(0..=text.len());
                    text.splice(to..to, copy);
                }
            }
        }
        let text: String = text.into_iter().collect();
        match load(&text, &options) {
            Ok(job) => assert!(!job.entries.is_empty() || !job.warnings.is_empty(), "{text}"),
            Err(faults) => assert!(!faults.0.is_empty()),
        }
    }
}
