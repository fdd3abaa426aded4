//! What the indexes of dictionaries stand for: in memory, or if that is too much in a temporary file.
//!
//! Any row may need any value. Of a dictionary in a file, those that the rows of a window need are looked up, and become a
//! small dictionary of the window's own.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayData, ArrayRef, make_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::read_dictionary;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::layout::{Column, Layout, Message, Result, wrong};
use super::window::{cut, weigh};
use super::{check, fault, inside};
use crate::{arrow_error, spool};

/// The bytes that are copied between two looks at whether the run was stopped.
const BREATH: u64 = 1 << 20;

/// The dictionaries of a file.
pub(super) struct Dictionaries {
    schema: SchemaRef,
    /// Those in memory.
    pub here: HashMap<i64, ArrayRef>,
    away: HashMap<i64, Arc<Mutex<Away>>>,
    /// The bytes of each that are in memory.
    held: HashMap<i64, u64>,
    /// Those that are used within others.
    inner: HashSet<i64>,
}

/// What the indexes of a column stand for.
#[derive(Clone)]
pub(super) enum Values {
    Here(ArrayData),
    Away(Arc<Mutex<Away>>),
}

impl Dictionaries {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let inner = schema.flattened_fields().into_iter().filter_map(|field| match field.data_type() {
            DataType::Dictionary(_, values) => Some(within(values)),
            _ => None,
        });
        let inner = inner.flatten().collect();
        Self { schema, here: HashMap::new(), away: HashMap::new(), held: HashMap::new(), inner }
    }

    /// Whether all are in memory, where arrow's reader wants them.
    pub(super) fn all_here(&self) -> bool {
        self.away.is_empty()
    }

    pub(super) fn get(&self, id: i64) -> Option<Values> {
        let here = self.here.get(&id).map(|values| Values::Here(values.to_data()));
        here.or_else(|| self.away.get(&id).cloned().map(Values::Away))
    }

    /// Takes a dictionary, or more values for one, whose body is in memory; of all of them `most` bytes stay there.
    pub(super) async fn take(
        &mut self,
        message: &Message,
        body: Bytes,
        most: u64,
        (cancel, name): (&CancellationToken, &str),
    ) -> weir_core::Result<()> {
        let wrong = |e| fault(e, name);
        let values = message.dictionary().map_err(wrong)?;
        let Some(batch) = values.data() else { return Ok(()) };
        inside(batch, body.len()).map_err(wrong)?;
        let inner = within(self.value_type(values.id()).map_err(wrong)?);
        let bytes = (body.len() as u64).max(Message::unpacked(batch, &body).map_err(wrong)?);
        let grows = values.isDelta() && self.away.contains_key(&values.id());
        // To arrow's reader one that is away has no values.
        let lacks = inner.iter().any(|id| self.away.contains_key(id));
        if !values.isDelta() {
            self.let_go(values.id());
        }
        let held = self.held.values().fold(bytes, |all, bytes| all.saturating_add(*bytes));
        if grows || lacks || held > most {
            let layout = self.layout(message, body.len() as u64).map_err(wrong)?;
            return self.put_away(message, layout, Body::Memory(body), (cancel, name)).await;
        }
        *self.held.entry(values.id()).or_default() += bytes;
        read_dictionary(&body.into(), values, &self.schema, &mut self.here, &message.version()).map_err(wrong)
    }

    /// Takes a dictionary, or more values for one, to where it is out of the way.
    pub(super) async fn put_away(
        &mut self,
        message: &Message,
        mut layout: Layout,
        body: Body,
        (cancel, name): (&CancellationToken, &str),
    ) -> weir_core::Result<()> {
        let wrong = |e| fault(e, name);
        let mut body = body.unpacked(&mut layout, cancel, name).await?;
        let values = message.dictionary().map_err(wrong)?;
        let id = values.id();
        if !values.isDelta() {
            self.let_go(id);
        }
        // What was here before stays in memory, and counts.
        let before = self.here.remove(&id);
        if values.isDelta() && before.is_none() && !self.away.contains_key(&id) {
            return Err(arrow_error("there is no dictionary to add values to", name));
        }
        let away = match self.away.get(&id) {
            Some(away) => away.clone(),
            None => {
                let body = Body::File { file: spool::create()?, start: 0 };
                let before = before.map(|values| Part::Here(values.to_data()));
                Arc::new(Mutex::new(Away { body, end: 0, parts: before.into_iter().collect() }))
            }
        };
        let mut end = away.lock().unwrap_or_else(PoisonError::into_inner).end;
        for place in layout.places_mut().into_iter().filter(|place| place.length > 0) {
            let mut at = 0;
            while at < place.length {
                check(cancel)?;
                // Others have their turn.
                tokio::task::yield_now().await;
                let piece = body.read(*place, at..place.length.min(at + BREATH)).map_err(wrong)?;
                let mut away = away.lock().unwrap_or_else(PoisonError::into_inner);
                away.body.write(end + at, &piece).map_err(spool::spool_error)?;
                at += piece.len() as u64;
            }
            (place.start, end) = (end, end + place.length);
        }
        let mut open = away.lock().unwrap_or_else(PoisonError::into_inner);
        open.end = end;
        open.parts.extend(layout.columns.into_iter().map(Part::There));
        drop(open);
        self.away.insert(id, away);
        Ok(())
    }

    /// Forgets a dictionary, in whose place another comes.
    fn let_go(&mut self, id: i64) {
        self.here.remove(&id);
        self.away.remove(&id);
        // The values of others may still hold what is used within them.
        if !self.inner.contains(&id) {
            self.held.remove(&id);
        }
    }

    /// Where the values of a dictionary's message are.
    pub(super) fn layout(&self, message: &Message, body: u64) -> Result<Layout> {
        Layout::of_dictionary(message, self.value_type(message.dictionary()?.id())?, self, body)
    }

    /// The type of a dictionary's values.
    fn value_type(&self, id: i64) -> Result<&DataType> {
        #[expect(deprecated, reason = "arrow's reader finds dictionaries by it, and offers nothing else")]
        let fields = self.schema.fields_with_dict_id(id);
        match fields.first().map(|field| (field.name(), field.data_type())) {
            // Whoever looks its values up would wait for itself.
            Some((name, DataType::Dictionary(_, values))) if within(values).contains(&id) => {
                wrong(&format!("the dictionary of {name:?} is used within itself"))
            }
            Some((_, DataType::Dictionary(_, values))) => Ok(values),
            _ => wrong("no column has such a dictionary"),
        }
    }
}

/// The dictionaries within the values of one.
fn within(values: &DataType) -> Vec<i64> {
    let schema = Schema::new(vec![Field::new("values", values.clone(), true)]);
    #[expect(deprecated, reason = "arrow's reader finds dictionaries by it, and offers nothing else")]
    let ids = schema.flattened_fields().into_iter().filter_map(Field::dict_id).collect();
    ids
}

/// A dictionary in a file.
pub(super) struct Away {
    body: Body,
    end: u64,
    parts: Vec<Part>,
}

/// Values that came together.
enum Part {
    Here(ArrayData),
    There(Column),
}

impl Away {
    /// The values of these indexes, which ascend; `None` of none.
    pub(super) fn values(&mut self, indexes: &[usize]) -> Result<Option<ArrayRef>> {
        let mut found = Vec::new();
        self.runs(indexes, |part, rows, body| {
            found.push(make_array(match part {
                Part::Here(values) => values.slice(rows.start, rows.len()),
                Part::There(column) => cut(column, rows, body)?,
            }));
            Ok(true)
        })?;
        match found.as_slice() {
            [] => Ok(None),
            found => concat(&found.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map(Some),
        }
    }

    /// About the bytes of their values, as far as they are no more than `most`.
    pub(super) fn weigh(&mut self, indexes: &[usize], most: u64) -> Result<u64> {
        let mut bytes: u64 = 0;
        self.runs(indexes, |part, rows, body| {
            bytes = bytes.saturating_add(match part {
                // Few are so large that it matters.
                Part::Here(values) => (values.get_slice_memory_size()? / values.len().max(1) * rows.len()) as u64,
                Part::There(column) => weigh(column, rows, most.saturating_sub(bytes), body)?,
            });
            Ok(bytes <= most)
        })?;
        Ok(bytes)
    }

    /// Shows the neighbours among some indexes, with the part that they are in, until `each` has enough.
    fn runs(
        &mut self,
        mut indexes: &[usize],
        mut each: impl FnMut(&Part, std::ops::Range<usize>, &mut Body) -> Result<bool>,
    ) -> Result<()> {
        let mut first = 0;
        for part in &self.parts {
            let count = match part {
                Part::Here(values) => values.len(),
                Part::There(column) => column.rows,
            };
            let (own, others) = indexes.split_at(indexes.partition_point(|index| index - first < count));
            for run in own.chunk_by(|a, b| a + 1 == *b) {
                let start = run[0] - first;
                if !each(part, start..start + run.len(), &mut self.body)? {
                    return Ok(());
                }
            }
            (indexes, first) = (others, first.saturating_add(count));
        }
        if indexes.is_empty() { Ok(()) } else { wrong("an index points behind its dictionary") }
    }
}
