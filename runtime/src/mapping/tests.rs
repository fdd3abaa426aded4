//! Tables of cases.

use super::*;
use arrow::datatypes::{DataType, Field};
use weir_core::SourceColumn;

/// `*a,b`: columns a and b, listed by the job.
fn source(text: &str) -> SourceSchema {
    let (listed, names) = text.strip_prefix('*').map_or((false, text), |rest| (true, rest));
    let columns = names.split(',').map(|name| SourceColumn {
        name: name.into(),
        native_type: "text".into(),
        nullable: true,
        key: None,
        representations: vec![Field::new(name, DataType::Utf8, true)],
        comment: None,
    });
    SourceSchema { columns: columns.collect(), listed, ..SourceSchema::default() }
}

/// `a,b!,c=,d^ | b,a`: b takes no NULL, c has a default, d is generated; the writer lists b and a. `-`: no columns.
fn target(text: &str) -> TargetSchema {
    let (names, listed) = text.split_once('|').map_or((text, None), |(a, b)| (a, Some(b)));
    let columns = names.trim().split(',').filter(|n| *n != "-").map(|name| TargetColumn {
        name: name.trim_end_matches(['!', '=', '^']).into(),
        native_type: "text".into(),
        nullable: !name.contains('!'),
        has_default: name.contains('=') || name.contains('^'),
        generated: name.contains('^'),
        key: None,
    });
    TargetSchema {
        table: "t".into(),
        exists: true,
        columns: columns.collect(),
        listed: listed.map(|l| l.trim().split(',').map(str::to_owned).collect()),
    }
}

fn shown(source_text: &str, mapping: Result<Mapping>) -> String {
    let source = source(source_text);
    match mapping {
        Ok(mapping) => {
            let of_one = |m: &Mapped| match &m.source {
                MappedSource::Column(i) => format!("{}>{}", source.columns[*i].name, m.target),
                MappedSource::Constant(text) => format!("'{text}'>{}", m.target),
                MappedSource::PerTable(texts) => format!("'{}'>{}", texts.join("|"), m.target),
                MappedSource::Null => format!("NULL>{}", m.target),
            };
            let columns: Vec<_> = mapping.columns.iter().map(of_one).collect();
            columns.join(" ") + &" ~".repeat(mapping.warnings.len())
        }
        Err(error) => {
            assert!(error.context().contains(&("table", "t".to_owned())), "{error}");
            format!("{}: {}", error.kind().name(), error.message())
        }
    }
}

#[test]
fn columns_map_by_position_or_by_name() {
    // Source, target, then what DataX's and what our own rules make of them; `~` for a warning, `!` and a part of
    // the message for an error.
    for (from, to, datax, native) in [
        ("a,b", "a,b", "a>a b>b", "a>a b>b"),
        ("b,a", "a,b", "b>b a>a", "b>b a>a"),
        ("B,a", "A,b", "B>b a>A", "B>b a>A"),
        ("x,y", "a,b", "x>a y>b ~", "x>a y>b ~"),
        ("a,a", "a,b", "a>a a>b ~", "a>a a>b ~"),
        ("a", "a,b", "! 1 columns (a) and the target 2 (a, b)", "a>a"),
        ("a", "a,b!", "! 1 columns", "! nothing fills `b` (text)"),
        ("a", "a,b!=", "! 1 columns", "a>a"),
        ("a,b,c", "a,b", "! 3 columns", "! the target has no `c`"),
        ("id,naem", "id,name,x", "! did you mean `name`", "! `naem` (did you mean `name`?)"),
        ("*b,a", "a,b", "b>a a>b", "b>b a>a"),
        ("*a,now()", "a,b", "a>a now()>b", "a>a now()>b ~"),
        ("*a", "a,b", "! list as many on both sides", "a>a"),
        ("a,b", "a,b | b,a", "a>b b>a", "a>a b>b"),
        ("a,b,c", "a,b,d | b,a", "! 3 columns", "a>a b>b ~"),
        ("a,b", "a,b,d! | b,a", "! nothing fills `d` (text)", "! nothing fills `d` (text)"),
        ("*b,a", "a,b | a,b", "b>a a>b", "b>a a>b"),
        ("*b,a,c", "a,b | a,b", "! 3 columns", "! 3 columns"),
        ("a,b", "a,b^", "a>a ~", "a>a ~"),
        ("a", "a,b^", "a>a", "a>a"),
        ("*a,b", "a,b^,c", "a>a b>c", "a>a ~"),
        ("a,b", "a,b^ | a,b", "! generates b itself", "! generates b itself"),
        ("a,b", "-", "a>a b>b", "a>a b>b"),
        ("*a,now()", "-", "a>a now()>now()", "a>a now()>now()"),
        ("a,b,a", "-", "! more than one column named `a`", "! more than one column named `a`"),
        ("a,b", "- | x,y", "a>x b>y", "a>x b>y ~"),
        ("a,a", "- | x,y", "a>x a>y", "a>x a>y ~"),
        ("a,b", "- | x,x", "! lists more than one column named `x`", "! lists more than one column named `x`"),
        ("a,b", "- | x", "! 2 columns (a, b) and the target 1 (x)", "! 2 columns (a, b) and the target 1 (x)"),
        ("a,b", "- | b", "! 2 columns", "b>b ~"),
    ] {
        for (form, expected) in [(Form::DataX, datax), (Form::Native, native)] {
            let result = shown(from, map(&source(from), &target(to), form, &[]));
            match expected.strip_prefix("! ") {
                Some(part) => {
                    assert!(
                        result.starts_with("schema: ") && result.contains(part),
                        "{from} | {to} {form:?}: {result}"
                    );
                }
                None => assert_eq!(result, expected, "{from} | {to} {form:?}"),
            }
        }
    }
}

#[test]
fn pairs_say_it_all() {
    for (from, to, pairs, expected) in [
        ("a,b", "x,y,z", r#"[{"from":"b","to":"x"},{"value":"20240131","to":"z"}]"#, "b>x '20240131'>z"),
        ("a,b", "x,y", r#"[{"from":"A","to":"X"},{"value":7,"to":"y"}]"#, "a>x '7'>y"),
        (
            "a,b",
            "-",
            r#"[{"from":"b","to":"new"},{"value":true,"to":"pt"},{"value":"","to":"e"}]"#,
            "b>new 'true'>pt ''>e",
        ),
        (
            "a",
            "x",
            r#"[{"from":"a","to":"x"},{"value":"1","to":"X"}]"#,
            "! config: mapping: column `x` is filled twice",
        ),
        ("a", "x,y", r#"[{"from":"a","to":"x"},{"from":"a","to":"y"}]"#, "a>x a>y"),
        (
            "amount",
            "x",
            r#"[{"from":"amuont","to":"x"}]"#,
            "! schema: mapping onto `x`: no such source column: `amuont`; did you mean `amount`?",
        ),
        (
            "a",
            "total",
            r#"[{"from":"a","to":"totl"}]"#,
            "! schema: mapping: no such target column: `totl`; did you mean `total`?",
        ),
        ("a", "x", r#"[{"from":"a","to":"qqqq"}]"#, "! schema: mapping: no such target column: `qqqq`; there are: x"),
        (
            "a",
            "- | x,y",
            r#"[{"from":"a","to":"other"}]"#,
            "! schema: mapping: no such target column: `other`; there are: x, y",
        ),
        ("a,A", "x", r#"[{"from":"a","to":"x"}]"#, "a>x"),
        ("ab,aB", "x", r#"[{"from":"AB","to":"x"}]"#, "! schema: mapping onto `x`: source column `AB` is ambiguous"),
        ("a", "x", r#"[{"to":"x"}]"#, "! config: mapping onto `x`: give either"),
        ("a", "x", r#"[{"from":"a","value":"b","to":"x"}]"#, "! config: mapping onto `x`: give either"),
        ("a", "x", r#"[{"value":[1],"to":"x"}]"#, "! config: mapping onto `x`: `value` is to be"),
        ("a", "x^,y", r#"[{"from":"a","to":"x"}]"#, "! schema: mapping: the target generates column `x`"),
        ("a", "x,y!", r#"[{"from":"a","to":"x"}]"#, "! schema: nothing fills `y`"),
        ("a", "x,y!=,z^", r#"[{"from":"a","to":"x"}]"#, "a>x"),
    ] {
        let pairs: Vec<MappingPair> = serde_json::from_str(pairs).unwrap();
        let result = shown(from, map(&source(from), &target(to), Form::DataX, &pairs));
        match expected.strip_prefix("! ") {
            Some(part) => assert!(result.starts_with(part), "{from} | {to}: {result}"),
            None => assert_eq!(result, expected, "{from} | {to}"),
        }
    }
    assert!(serde_json::from_str::<MappingPair>(r#"{"form":"a","to":"b"}"#).is_err());
}
