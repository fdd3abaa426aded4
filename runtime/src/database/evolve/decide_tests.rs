use arrow::datatypes::{DataType, Field};
use weir_core::{Fit, MappedColumn, PresentColumn, Relation, TargetColumn};

use super::*;

fn column(name: &str, native_type: &str, nullable: bool) -> MappedColumn {
    MappedColumn {
        name: name.into(),
        offers: vec![Field::new(name, DataType::Utf8, true)],
        source_type: native_type.into(),
        nullable,
        key: None,
        comment: None,
    }
}

fn fit(present: Option<(&str, Relation)>, wanted: &str) -> Fit {
    let present = present.map(|(text, relation)| PresentColumn { native_type: text.into(), relation });
    Fit { wanted: wanted.into(), present }
}

fn target(name: &str, native_type: &str, nullable: bool, key: Option<u32>) -> TargetColumn {
    TargetColumn {
        name: name.into(),
        native_type: native_type.into(),
        nullable,
        has_default: false,
        generated: false,
        key,
    }
}

fn known(columns: &[(&str, &str, bool)], key: &[&str]) -> KnownTable {
    KnownTable {
        columns: columns
            .iter()
            .map(|(name, native_type, nullable)| KnownColumn {
                name: (*name).into(),
                native_type: (*native_type).into(),
                nullable: *nullable,
                labels: None,
                family: None,
            })
            .collect(),
        gone: Vec::new(),
        held: Vec::new(),
        left_out: Vec::new(),
        key: key.iter().map(|k| (*k).to_owned()).collect(),
        unique: Vec::new(),
    }
}

/// One table with a key `id int` and a column `a`, of which everything else is given.
struct Case {
    known: Option<KnownTable>,
    a: Option<MappedColumn>,
    fit: Fit,
    target: Option<TargetColumn>,
    rules: RulesConfig,
}

impl Case {
    fn decide(&self) -> Decision {
        let mut columns = vec![column("id", "int", false)];
        let mut fits = vec![fit(Some(("int", Relation::Same)), "int")];
        if let Some(a) = &self.a {
            columns.push(a.clone());
            fits.push(self.fit.clone());
        }
        let mut there = vec![target("id", "int", false, Some(1))];
        there.extend(self.target.clone());
        let key = ["id".to_owned()];
        decide(&Seen {
            known: self.known.as_ref(),
            columns: &columns,
            fits: &fits,
            target: &there,
            key: &key,
            unique: &[],
            target_unique: &[],
            rules: &self.rules,
            described: None,
            keeps: false,
        })
    }

    fn kinds(&self) -> Vec<(ChangeKind, ChangeOutcome)> {
        self.decide().records.iter().map(|record| (record.kind, record.outcome)).collect()
    }
}

fn case(known_type: Option<&str>, now: &str, relation: Relation) -> Case {
    Case {
        known: known_type.map(|text| known(&[("id", "int", false), ("a", text, true)], &["id"])),
        a: Some(column("a", now, true)),
        fit: fit(Some(("present", relation)), "wanted"),
        target: Some(target("a", "present", true, None)),
        rules: RulesConfig::default(),
    }
}

#[test]
fn columns_are_added_left_out_or_refused() {
    let mut new = case(Some("int"), "int", Relation::Same);
    new.known = Some(known(&[("id", "int", false)], &["id"]));
    new.fit = fit(None, "integer");
    new.target = None;
    assert_eq!(new.kinds(), [(ChangeKind::ColumnAdded, ChangeOutcome::Done)]);
    assert!(matches!(new.decide().changes.as_slice(), [TableChange::AddColumn { .. }]));
    new.rules.column_added = ColumnAdded::Ignore;
    assert_eq!(new.kinds(), [(ChangeKind::ColumnAdded, ChangeOutcome::Ignored)]);
    assert_eq!(new.decide().left_out, ["a"]);
    // The next run knows it, leaves it out all the same, and says no more.
    new.known = Some(known(&[("id", "int", false), ("a", "int", true)], &["id"]));
    assert!(new.decide().records.is_empty() && new.decide().left_out == ["a"]);
    new.rules.column_added = ColumnAdded::Error;
    assert_eq!(new.kinds(), [(ChangeKind::ColumnAdded, ChangeOutcome::Refused)]);
    assert!(new.decide().refusal().unwrap().message().contains("`a` is new"));
}

#[test]
fn columns_that_are_gone_get_null_where_they_take_it() {
    let mut gone = case(Some("int"), "int", Relation::Same);
    gone.a = None;
    assert_eq!(gone.kinds(), [(ChangeKind::ColumnDeleted, ChangeOutcome::Done)]);
    assert_eq!(gone.decide().nulls, ["a"]);
    // Gone since an earlier run: NULL goes on, and is not said again.
    let mut earlier = known(&[("id", "int", false)], &["id"]);
    earlier.gone = vec!["a".into()];
    gone.known = Some(earlier);
    assert!(gone.decide().records.is_empty() && gone.decide().nulls == ["a"]);
    gone.target = Some(target("a", "present", false, None));
    assert!(gone.decide().refusal().unwrap().message().contains("takes no NULL"));
    gone.target = Some(target("a", "present", true, None));
    gone.rules.column_deleted = ColumnDeleted::Error;
    assert_eq!(gone.kinds(), [(ChangeKind::ColumnDeleted, ChangeOutcome::Refused)]);
    // The target's own column is left alone.
    gone.known = Some(known(&[("id", "int", false)], &["id"]));
    assert!(gone.decide().records.is_empty() && gone.decide().nulls.is_empty());
    // Nobody remembers anything: the strict rule holds, the other one leaves the column to its default.
    gone.known = None;
    assert_eq!(gone.kinds(), [(ChangeKind::ColumnDeleted, ChangeOutcome::Refused)]);
    gone.rules = RulesConfig::default();
    assert!(gone.decide().records.is_empty() && gone.decide().nulls.is_empty());
}

#[test]
fn types_are_widened_and_never_changed() {
    let mut widened = case(Some("int"), "bigint", Relation::Widens);
    assert_eq!(widened.kinds(), [(ChangeKind::TypeWidened, ChangeOutcome::Done)]);
    widened.rules.type_widened = TypeWidened::Error;
    assert!(widened.decide().refusal().unwrap().message().contains("typeWidened"));
    // Nobody remembers: the live target decides.
    assert_eq!(case(None, "bigint", Relation::Widens).kinds(), [(ChangeKind::TypeWidened, ChangeOutcome::Done)]);
    // The source is as it was: somebody has made the target narrower.
    assert_eq!(case(Some("bigint"), "bigint", Relation::Widens).kinds(), []);
    assert_eq!(case(Some("bigint"), "int", Relation::Holds).kinds(), [(ChangeKind::TypeNarrowed, ChangeOutcome::Kept)]);
    for relation in [Relation::Apart, Relation::Crosses] {
        let changed = case(Some("int"), "double", relation);
        assert_eq!(changed.kinds(), [(ChangeKind::TypeChanged, ChangeOutcome::Refused)]);
        assert!(changed.decide().changes.is_empty());
        assert_eq!(case(Some("double"), "double", relation).kinds(), []);
        assert_eq!(case(None, "double", relation).kinds(), []);
    }
}

#[test]
fn nulls_are_allowed_when_the_source_begins_to_have_them() {
    let mut allowed = case(Some("int"), "int", Relation::Same);
    allowed.known = Some(known(&[("id", "int", false), ("a", "int", false)], &["id"]));
    allowed.target = Some(target("a", "present", false, None));
    assert_eq!(allowed.kinds(), [(ChangeKind::NullAllowed, ChangeOutcome::Done)]);
    // It has always had them: the target's NOT NULL is somebody's wish.
    allowed.known = Some(known(&[("id", "int", false), ("a", "int", true)], &["id"]));
    assert_eq!(allowed.kinds(), []);
}

#[test]
fn keys_are_never_changed() {
    let mut other = case(Some("int"), "int", Relation::Same);
    other.known = Some(known(&[("id", "int", false), ("a", "int", true)], &["a"]));
    // Somebody has made the target so.
    assert_eq!(other.kinds(), []);
    other.target = Some(target("a", "present", false, Some(2)));
    assert_eq!(other.kinds(), [(ChangeKind::KeyChanged, ChangeOutcome::Refused)]);
    assert!(other.decide().refusal().unwrap().message().contains("the key was (a) and is (id)"));
    // Without a memory the target's own key speaks.
    other.known = None;
    assert_eq!(other.kinds(), [(ChangeKind::KeyChanged, ChangeOutcome::Refused)]);
    other.target = case(Some("int"), "int", Relation::Same).target;
    assert_eq!(other.kinds(), []);
}

#[test]
fn a_rename_is_one_column_less_and_one_more() {
    let mut renamed = case(Some("text"), "text", Relation::Same);
    renamed.known = Some(known(&[("id", "int", false), ("b", "text", true)], &["id"]));
    renamed.fit = fit(None, "text");
    renamed.target = Some(target("b", "text", true, None));
    let decision = renamed.decide();
    assert_eq!(decision.nulls, ["b"]);
    let added = decision.records.iter().find(|record| record.kind == ChangeKind::ColumnAdded).unwrap();
    assert!(added.detail.contains("`b` of the same type is gone"), "{}", added.detail);
    // A refusal says so as well.
    renamed.target = Some(target("b", "text", false, None));
    let refused = renamed.decide().refusal().unwrap();
    assert!(refused.message().contains("takes no NULL") && refused.message().contains("`a` of the same type is new"));
    renamed.rules.column_deleted = ColumnDeleted::Error;
    assert!(renamed.decide().refusal().unwrap().message().contains("`a` of the same type is new"));
    // Each type by itself; of two of one type nobody knows which.
    let both = |types: [&str; 2]| {
        let new = ["c", "d"].iter().zip(types).map(|(name, text)| column(name, text, true));
        let columns: Vec<_> = std::iter::once(column("id", "int", false)).chain(new).collect();
        let fits = [fit(Some(("int", Relation::Same)), "int"), fit(None, "w"), fit(None, "w")];
        let decision = decide(&Seen {
            known: Some(&known(&[("id", "int", false), ("a", types[0], true), ("b", types[1], true)], &["id"])),
            columns: &columns,
            fits: &fits,
            target: &[target("id", "int", false, Some(1)), target("a", "w", true, None), target("b", "w", true, None)],
            key: &["id".to_owned()],
            unique: &[],
            target_unique: &[],
            rules: &RulesConfig::default(),
            described: None,
            keeps: false,
        });
        let hints = decision.records.iter().filter_map(|record| record.detail.split_once(" of the same type"));
        hints.map(|(before, _)| before.rsplit(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(both(["text", "date"]), ["`a`", "`b`", "`c`", "`d`"]);
    assert!(both(["text", "text"]).is_empty());
}

#[test]
fn a_column_that_comes_back_must_be_what_it_was() {
    let mut back = case(None, "text", Relation::Same);
    back.known = Some(KnownTable { gone: vec!["a".into()], ..known(&[("id", "int", false)], &["id"]) });
    assert_eq!(back.kinds(), [(ChangeKind::ColumnReturned, ChangeOutcome::Done)]);
    back.fit = fit(Some(("present", Relation::Apart)), "wanted");
    assert_eq!(back.kinds(), [(ChangeKind::TypeChanged, ChangeOutcome::Refused)]);
    // One that a run has added which died before it published the table does not come back: it has never been away.
    back.known = Some(known(&[("id", "int", false)], &["id"]));
    assert_eq!(back.kinds(), [(ChangeKind::TypeChanged, ChangeOutcome::Refused)]);
    back.fit = fit(Some(("present", Relation::Same)), "wanted");
    assert!(back.kinds().is_empty());
}

#[test]
fn a_unique_key_that_is_gone_is_no_key_of_the_target_either() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let before =
        KnownTable { unique: vec![names(&["a"])], ..known(&[("id", "int", false), ("a", "text", true)], &["id"]) };
    let columns = [column("id", "int", false), column("a", "text", true)];
    let fits = [fit(Some(("int", Relation::Same)), "int"), fit(Some(("text", Relation::Same)), "text")];
    let there = [target("id", "int", false, Some(1)), target("a", "text", true, None)];
    let refused = |unique: &[&[&str]], target_unique: &[&[&str]]| {
        let lists = |all: &[&[&str]]| all.iter().map(|one| names(one)).collect::<Vec<_>>();
        let decision = decide(&Seen {
            known: Some(&before),
            columns: &columns,
            fits: &fits,
            target: &there,
            key: &names(&["id"]),
            unique: &lists(unique),
            target_unique: &lists(target_unique),
            rules: &RulesConfig::default(),
            described: None,
            keeps: false,
        });
        decision.refusal().map(|error| error.message().to_owned())
    };
    assert!(refused(&[], &[&["id"], &["a"]]).unwrap().contains("unique key (a) no more"));
    assert_eq!(refused(&[], &[&["id"]]), None, "the target has lost it too");
    assert_eq!(refused(&[&["a"]], &[&["a"]]), None);
    assert_eq!(refused(&[], &[&["id"], &["id", "a"]]), None, "nor was it ever the source's");
}

#[test]
fn a_key_that_the_target_has_by_now_is_no_reason_to_refuse() {
    let mut case = case(Some("text"), "text", Relation::Same);
    case.known = Some(known(&[("id", "int", false), ("a", "text", true)], &["a"]));
    assert!(case.kinds().is_empty(), "it was altered by hand");
    case.known = Some(known(&[("id", "int", false), ("a", "text", true)], &["id"]));
    assert!(case.kinds().is_empty());
}

#[test]
fn files_of_two_families_do_not_lie_side_by_side() {
    let now = |data_type: DataType, text: &str| MappedColumn {
        offers: vec![Field::new("a", data_type, true)],
        ..column("a", text, true)
    };
    let decide_by = |known: &KnownTable, now: MappedColumn, keeps: bool, column_added: ColumnAdded| {
        decide(&Seen {
            known: Some(known),
            columns: &[now],
            fits: &[],
            target: &[],
            key: &[],
            unique: &[],
            target_unique: &[],
            rules: &RulesConfig { column_added, ..RulesConfig::default() },
            described: None,
            keeps,
        })
    };
    let decide = |before: &MappedColumn, now: MappedColumn, keeps: bool| {
        let known = KnownTable::after(std::slice::from_ref(before), &[], None);
        decide_by(&known, now, keeps, ColumnAdded::Add)
    };
    let int = now(DataType::Int32, "int");
    for (before, after, goes) in [
        (&int, now(DataType::Int64, "bigint"), true),
        (&int, now(DataType::Utf8, "text"), false),
        (&int, now(DataType::Int16, "smallint"), false),
        (&int, now(DataType::Float64, "double"), false),
        (&now(DataType::Float32, "real"), now(DataType::Float64, "double"), true),
        (&now(DataType::Utf8, "varchar(20)"), now(DataType::Utf8, "varchar(10)"), true),
        (&now(DataType::Decimal128(8, 2), "numeric(8,2)"), now(DataType::Decimal128(12, 2), "numeric(12,2)"), true),
    ] {
        let text = after.source_type.clone();
        let side_by_side = decide(before, after.clone(), true);
        assert_eq!(side_by_side.refusal().is_none(), goes, "{} → {text}", before.source_type);
        let alone = decide(before, after, false);
        assert!(alone.refusal().is_none() && alone.records.len() == 1, "{text}");
    }
    let refused = decide(&int, now(DataType::Utf8, "text"), true).refusal().unwrap();
    assert!(refused.message().contains("`a` was int and is text"), "{refused}");
    // A column that was gone for a while is still in the files of before.
    let mut gone = KnownTable::default();
    gone.held = gone.held_of(&KnownTable::after(std::slice::from_ref(&int), &[], None));
    let mut back = now(DataType::Utf8, "text");
    let refused = decide_by(&gone, back.clone(), true, ColumnAdded::Add).refusal().unwrap();
    assert!(refused.message().contains("`a` was int and is text"), "{refused}");
    assert!(decide_by(&gone, back.clone(), true, ColumnAdded::Ignore).refusal().is_none());
    back = now(DataType::Int64, "bigint");
    assert_eq!(decide_by(&gone, back, true, ColumnAdded::Add).records[0].kind, ChangeKind::ColumnAdded);
    // An earlier version of the program has not noted what the column could hold.
    let mut old = KnownTable::after(std::slice::from_ref(&int), &[], None);
    old.columns[0].family = None;
    assert_eq!(serde_json::from_value::<KnownTable>(serde_json::to_value(&old).unwrap()).unwrap(), old);
}
