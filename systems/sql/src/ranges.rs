//! Key ranges that cover every row exactly once.
//!
//! A range is open at the outer ends and half-open between neighbours, compared by the server itself: whatever its
//! collation holds equal falls on one side of a boundary. Rows that appear below the first or above the last boundary
//! while splits are planned are covered too. NULL keys are a range of their own.

use serde::{Deserialize, Serialize};

/// One range of a key, as a condition for a WHERE clause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyRange {
    /// An SQL condition; `None` for all rows.
    pub condition: Option<String>,
    /// For people: `id >= 10 and id < 20`.
    pub description: String,
}

/// The ranges between `boundaries`, SQL literals that the server itself sorts ascending and holds different.
/// `column` is the quoted key, `name` its plain name. Without boundaries there is one range of all rows.
pub fn key_ranges(column: &str, name: &str, boundaries: &[String], nullable: bool) -> Vec<KeyRange> {
    let (Some(first), Some(last)) = (boundaries.first(), boundaries.last()) else {
        return vec![KeyRange { condition: None, description: "all rows".into() }];
    };
    let range = |condition: &dyn Fn(&str) -> String| KeyRange {
        condition: Some(condition(column)),
        description: condition(name),
    };
    let mut ranges = vec![range(&|c| format!("{c} < {first}"))];
    ranges.extend(boundaries.windows(2).map(|pair| range(&|c| format!("{c} >= {} AND {c} < {}", pair[0], pair[1]))));
    ranges.push(range(&|c| format!("{c} >= {last}")));
    if nullable {
        ranges.push(range(&|c| format!("{c} IS NULL")));
    }
    ranges
}

/// The inner boundaries that cut `[min, max]` into `pieces` ranges of about equal width, without overflow at the ends
/// of any 64-bit type. None when the interval is too narrow to cut.
pub fn integer_boundaries(min: i128, max: i128, pieces: usize) -> Vec<String> {
    let width = max - min + 1;
    let pieces = (pieces as i128).min(width);
    (1..pieces).map(|i| (min + width * i / pieces).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_touch_without_overlap() {
        let ranges = key_ranges("\"id\"", "id", &["10".into(), "20".into()], true);
        let conditions: Vec<_> = ranges.iter().map(|r| r.condition.as_deref().unwrap()).collect();
        assert_eq!(conditions, ["\"id\" < 10", "\"id\" >= 10 AND \"id\" < 20", "\"id\" >= 20", "\"id\" IS NULL"]);
        assert_eq!(key_ranges("\"id\"", "id", &[], true).len(), 1);
    }

    #[test]
    fn boundaries_lie_inside_and_differ() {
        assert_eq!(integer_boundaries(1, 10, 3), ["4", "7"]);
        assert!(integer_boundaries(5, 5, 4).is_empty());
        assert_eq!(integer_boundaries(1, 2, 8), ["2"]);
        let (min, max) = (i64::MIN as i128, u64::MAX as i128);
        assert_eq!(integer_boundaries(min, max, 16).len(), 15);
    }
}
