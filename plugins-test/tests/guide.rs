//! The guide's code is that of a test which runs.

#[test]
fn the_guide_shows_a_test_of_the_example() {
    let test = include_str!("../../examples/connector-kv/tests/guide.rs");
    let (_, code) = test.split_once("\n\n").unwrap();
    let guide = include_str!("../../docs/connectors.md");
    let shown = guide.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    assert_eq!(shown, code, "put the file's code into the guide, or the guide's into the file");
}
