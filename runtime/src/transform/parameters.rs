//! `{"columnIndex": 0, "paras": ["1", "3"]}`: where a transformer works and how.

use arrow::datatypes::Field;
use serde_json::Value;
use weir_core::Faults;

use super::TransformerSpec;

/// A transformer's parameters, read as far as all transformers share them.
pub(super) struct Parameters<'a> {
    spec: &'a TransformerSpec,
    pub(super) column: usize,
    /// Numbers stand here as the texts that DataX jobs mostly write.
    paras: Vec<String>,
}

impl<'a> Parameters<'a> {
    pub(super) fn read(spec: &'a TransformerSpec, columns: &[Field], faults: &mut Faults) -> Option<Self> {
        let before = faults.0.len();
        let at = |key: &str| format!("{}/parameter/{key}", spec.pointer);
        let column = index(&spec.parameter["columnIndex"]);
        match column {
            None => faults.add(at("columnIndex"), "expected the number of a reader's column, counted from 0"),
            Some(index) if index >= columns.len() => faults.add(
                at("columnIndex"),
                format!("column {index} is beyond the reader's {} columns, which are counted from 0", columns.len()),
            ),
            Some(_) => {}
        }
        let list = match &spec.parameter["paras"] {
            Value::Array(list) => list.as_slice(),
            Value::Null => &[],
            _ => {
                faults.add(at("paras"), "expected a list of texts");
                &[]
            }
        };
        let mut paras = Vec::with_capacity(list.len());
        for (i, para) in list.iter().enumerate() {
            match para {
                Value::String(text) => paras.push(text.clone()),
                Value::Number(_) | Value::Bool(_) => paras.push(para.to_string()),
                _ => faults.add(format!("{}/{i}", at("paras")), "expected a text"),
            }
        }
        (faults.0.len() == before).then(|| Self { spec, column: column.unwrap_or(0), paras })
    }

    /// The column of a specification that [`Parameters::read`] found right.
    pub(super) fn column(spec: &TransformerSpec) -> usize {
        index(&spec.parameter["columnIndex"]).unwrap_or(0)
    }

    /// Exactly as many paras as `names`.
    pub(super) fn exactly(&self, names: &[&str], faults: &mut Faults) -> Option<&[String]> {
        if self.paras.len() == names.len() {
            return Some(&self.paras);
        }
        let message =
            format!("{} takes {} paras ({}), not {}", self.spec.name, names.len(), names.join(", "), self.paras.len());
        faults.add(format!("{}/parameter/paras", self.spec.pointer), message);
        None
    }

    /// The para at `index` as a length or position.
    pub(super) fn number(&self, index: usize, name: &str, faults: &mut Faults) -> Option<usize> {
        let text = &self.paras[index];
        let number = text.trim().parse::<u32>().ok();
        if number.is_none() {
            self.fault(index, format!("{name} `{text}` is no whole number from 0"), faults);
        }
        number.map(|n| n as usize)
    }

    pub(super) fn fault(&self, index: usize, message: impl Into<String>, faults: &mut Faults) {
        faults.add(format!("{}/parameter/paras/{index}", self.spec.pointer), message);
    }
}

fn index(value: &Value) -> Option<usize> {
    match value {
        Value::Number(number) => number.as_u64().map(|n| n as usize),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
