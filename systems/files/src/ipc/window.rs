//! Some rows of a block, made of those parts of its buffers that they need.
//!
//! | type | what is read for the rows a..b |
//! |-|-|
//! | all with NULLs | the bytes of the bitmap that hold the bits a..b |
//! | of a fixed width | the values a..b |
//! | texts, bytes | the offsets a..=b, then the values between the first and the last, from which the offsets then count |
//! | views | the views a..b, then the values that they point to, put together to one buffer |
//! | lists, maps | the offsets a..=b, then the rows of the child between the first and the last |
//! | views of lists | the offsets and sizes a..b, then the rows of the child between the least and the greatest |
//! | lists of a fixed size | the child's rows a × size..b × size |
//! | structs, sparse unions | the rows a..b of each child |
//! | dense unions | which child each of the rows a..b is in and where, then the rows of each child between the least and the greatest |
//! | runs | the ends of the runs that the rows a..b lie in, found by halving, then those runs' values |
//! | dictionaries | the indexes a..b; of values that are not in memory, those that they stand for |

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, ArrayData, ArrowNativeTypeOp, OffsetSizeTrait, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use arrow::datatypes::{DataType, SchemaRef, UnionMode};
use weir_core::MAX_BATCH_ROWS;

use super::body::Body;
use super::dictionary::{Away, Values};
use super::layout::{Column, Layout, Result, wrong};

/// Values of views that lie closer than this are read with what is between them.
const GAP: u64 = 4 << 10;

/// The longest value that stands in the view itself.
const INLINE: u32 = 12;

/// The rows of a block, window after window.
pub(super) struct Windows {
    layout: Layout,
    body: Body,
    schema: SchemaRef,
    /// The bytes of a window.
    most: u64,
    /// The rows that have so many bytes on average.
    usual: usize,
    next: usize,
}

impl Windows {
    pub(super) fn new(layout: Layout, body: Body, schema: SchemaRef, most: u64) -> Self {
        let bytes: u64 = layout.places().map(|place| place.length).sum();
        let usual = most as f64 * layout.rows as f64 / bytes.max(1) as f64;
        Self { layout, body, schema, most, usual: (usual as usize).clamp(1, MAX_BATCH_ROWS), next: 0 }
    }

    /// The next rows, and no more of them than fill a window unless a row alone is larger.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        let start = self.next;
        let mut rows = self.usual.min(self.layout.rows - start);
        if rows == 0 {
            return Ok(None);
        }
        while rows > 1 && self.weigh(start..start + rows)? > self.most {
            rows /= 2;
        }
        self.next += rows;
        let mut arrays = Vec::with_capacity(self.layout.columns.len());
        for column in &self.layout.columns {
            arrays.push(make_array(cut(column, start..start + rows, &mut self.body)?));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map(Some)
    }

    fn weigh(&mut self, rows: Range<usize>) -> Result<u64> {
        let mut bytes: u64 = 0;
        for column in &self.layout.columns {
            let left = self.most.saturating_sub(bytes);
            bytes = bytes.saturating_add(weigh(column, rows.clone(), left, &mut self.body)?);
        }
        Ok(bytes)
    }
}

/// About the bytes that some rows have in memory. When they are more than `most`, how many more is not looked at.
pub(super) fn weigh(column: &Column, rows: Range<usize>, most: u64, body: &mut Body) -> Result<u64> {
    use DataType as T;
    let count = rows.len() as u64;
    let fixed = |width: u64| count.saturating_mul(width);
    if count == 0 {
        return Ok(0);
    }
    let own = match &column.data_type {
        T::Null | T::Struct(_) | T::FixedSizeList(..) | T::RunEndEncoded(..) => 0,
        T::Boolean => count.div_ceil(8),
        T::Union(_, UnionMode::Sparse) => count,
        T::Union(_, UnionMode::Dense) => fixed(5),
        T::Utf8 | T::Binary | T::List(_) | T::Map(..) => fixed(4),
        T::LargeUtf8 | T::LargeBinary | T::LargeList(_) | T::ListView(_) => fixed(8),
        T::Utf8View | T::BinaryView | T::LargeListView(_) => fixed(16),
        other => fixed(width(other)? as u64),
    };
    if own > most {
        return Ok(own);
    }
    let under = match &column.data_type {
        T::Utf8 | T::Binary => span::<i32>(column, rows, body)?.len() as u64,
        T::LargeUtf8 | T::LargeBinary => span::<i64>(column, rows, body)?.len() as u64,
        T::Utf8View | T::BinaryView => {
            let views = views(column, rows, body)?;
            views.iter().map(|view| *view as u32).filter(|length| *length > INLINE).map(u64::from).sum()
        }
        T::Dictionary(..) => match &column.values {
            Some(Values::Away(away)) => {
                let wanted = distinct(&indexes(column, rows, body)?);
                locked(away).weigh(&wanted, most.saturating_sub(own))?
            }
            _ => 0,
        },
        _ => {
            let mut bytes: u64 = 0;
            for (child, rows) in column.children.iter().zip(nested(column, rows, body)?) {
                let left = most.saturating_sub(own).saturating_sub(bytes);
                bytes = bytes.saturating_add(weigh(child, rows, left, body)?);
            }
            bytes
        }
    };
    Ok(own.saturating_add(under))
}

/// The rows of a column.
pub(super) fn cut(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<ArrayData> {
    use DataType as T;
    if rows.start > rows.end || rows.end > column.rows {
        return wrong("a column has less rows than what it is nested in needs");
    }
    if rows.is_empty() {
        return empty(column);
    }
    let nulls = if column.nulls { Some(NullBuffer::new(bits(column, 0, rows.clone(), body)?)) } else { None };
    let mut buffers = match &column.data_type {
        T::Null | T::Struct(_) | T::FixedSizeList(..) | T::RunEndEncoded(..) => vec![],
        T::Union(_, UnionMode::Sparse) => vec![values(column, 1, rows.clone(), 1, body)?],
        T::Union(..) => members(column, rows.clone(), body)?.0,
        T::Boolean => vec![bits(column, 1, rows.clone(), body)?.sliced()],
        T::Utf8 | T::Binary => texts::<i32>(column, rows.clone(), body)?,
        T::LargeUtf8 | T::LargeBinary => texts::<i64>(column, rows.clone(), body)?,
        T::Utf8View | T::BinaryView => viewed(column, rows.clone(), nulls.as_ref(), body)?,
        T::List(_) | T::Map(..) => vec![offsets::<i32>(column, rows.clone(), body)?],
        T::LargeList(_) => vec![offsets::<i64>(column, rows.clone(), body)?],
        T::ListView(_) => slots::<i32>(column, rows.clone(), body)?,
        T::LargeListView(_) => slots::<i64>(column, rows.clone(), body)?,
        other => vec![values(column, 1, rows.clone(), width(other)?, body)?],
    };
    let mut children = Vec::new();
    match &column.values {
        Some(Values::Here(values)) => children.push(values.clone()),
        Some(Values::Away(away)) => {
            let (indexes, values) = looked_up(column, rows.clone(), &mut locked(away), body)?;
            (buffers, children) = (vec![indexes], vec![values]);
        }
        None => {}
    }
    for (child, rows) in column.children.iter().zip(nested(column, rows.clone(), body)?) {
        children.push(cut(child, rows, body)?);
    }
    if let (T::RunEndEncoded(..), Some(ends)) = (&column.data_type, children.first_mut()) {
        *ends = counted(ends, &rows)?;
    }
    let array = ArrayData::builder(column.data_type.clone()).len(rows.len()).nulls(nulls);
    array.buffers(buffers).child_data(children).build()
}

/// No rows of a column, whose buffers may be empty then. Dictionaries keep their values, so that all windows share them.
fn empty(column: &Column) -> Result<ArrayData> {
    let of_type = ArrayData::new_empty(&column.data_type);
    let children = match &column.values {
        Some(Values::Here(values)) => vec![values.clone()],
        Some(Values::Away(_)) => of_type.child_data().to_vec(),
        None => column.children.iter().map(empty).collect::<Result<_>>()?,
    };
    let array = ArrayData::builder(column.data_type.clone()).buffers(of_type.buffers().to_vec());
    array.child_data(children).build()
}

fn locked(away: &Mutex<Away>) -> MutexGuard<'_, Away> {
    away.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The indexes of some rows, `None` for NULL.
fn indexes(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Vec<Option<usize>>> {
    let DataType::Dictionary(index, _) = &column.data_type else { return wrong("a column has no dictionary") };
    let width = width(&column.data_type)?;
    let bytes = values(column, 1, rows.clone(), width, body)?;
    let nulls = if column.nulls { Some(bits(column, 0, rows, body)?) } else { None };
    let all = bytes.chunks_exact(width).enumerate().map(|(row, bytes)| {
        if nulls.as_ref().is_some_and(|nulls| !nulls.value(row)) {
            return Ok(None);
        }
        let mut number = [0; 8];
        number[..width].copy_from_slice(bytes);
        let negative = index.is_signed_integer() && bytes[width - 1] > i8::MAX as u8;
        let found = usize::try_from(u64::from_le_bytes(number)).ok().filter(|_| !negative);
        found.map_or_else(|| wrong("an index points nowhere"), |index| Ok(Some(index)))
    });
    all.collect()
}

fn distinct(indexes: &[Option<usize>]) -> Vec<usize> {
    let mut distinct: Vec<usize> = indexes.iter().flatten().copied().collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

/// The indexes of some rows in a dictionary of just their values, and that dictionary.
fn looked_up(column: &Column, rows: Range<usize>, away: &mut Away, body: &mut Body) -> Result<(Buffer, ArrayData)> {
    let (indexes, width) = (indexes(column, rows, body)?, width(&column.data_type)?);
    let wanted = distinct(&indexes);
    let mut own = MutableBuffer::with_capacity(indexes.len() * width);
    for index in &indexes {
        // No larger than it was, for it stands among as many or fewer.
        let at = index.and_then(|index| wanted.binary_search(&index).ok()).unwrap_or(0) as u64;
        own.extend_from_slice(&at.to_le_bytes()[..width]);
    }
    let values = match away.values(&wanted)? {
        Some(values) => values.to_data(),
        // Then all rows are NULL, and the first value none of theirs.
        None => ArrayData::new_empty(&column.data_type).child_data()[0].clone(),
    };
    Ok((own.into(), values))
}

/// The rows of each child that belong to some rows.
fn nested(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Vec<Range<usize>>> {
    use DataType as T;
    let of_all = match &column.data_type {
        T::Union(_, UnionMode::Dense) => return Ok(members(column, rows, body)?.1),
        T::RunEndEncoded(..) => runs(column, rows, body)?,
        T::Struct(_) | T::Union(..) => rows,
        T::List(_) | T::Map(..) => span::<i32>(column, rows, body)?,
        T::LargeList(_) => span::<i64>(column, rows, body)?,
        T::ListView(_) => reach::<i32>(column, rows, body)?,
        T::LargeListView(_) => reach::<i64>(column, rows, body)?,
        T::FixedSizeList(_, size) => {
            let size = *size as usize;
            match rows.start.checked_mul(size).zip(rows.end.checked_mul(size)) {
                Some((start, end)) => start..end,
                None => return wrong("a list has more items than can be"),
            }
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![of_all; column.children.len()])
}

/// Of some rows of a dense union: in which children they are and where, counted from the first row that is needed of each;
/// and which rows these are.
fn members(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<(Vec<Buffer>, Vec<Range<usize>>)> {
    let DataType::Union(fields, _) = &column.data_type else { return wrong("a column is no union") };
    let ids = values(column, 1, rows.clone(), 1, body)?;
    let offsets = values(column, 2, rows, size_of::<i32>(), body)?;
    let child = |id: i8| fields.iter().position(|(of, _)| of == id);
    let mut places = Vec::with_capacity(ids.len());
    let mut needed: Vec<Option<Range<usize>>> = vec![None; column.children.len()];
    for (id, offset) in ids.typed_data::<i8>().iter().zip(offsets.typed_data::<i32>()) {
        let Some((child, at)) = child(*id).zip(usize::try_from(*offset).ok()) else {
            return wrong("a row of a union is nowhere");
        };
        let of_child = needed[child].get_or_insert(at..at);
        *of_child = of_child.start.min(at)..of_child.end.max(at + 1);
        places.push((child, at));
    }
    let needed: Vec<_> = needed.into_iter().map(Option::unwrap_or_default).collect();
    // No larger than it was.
    let offsets: Vec<i32> = places.iter().map(|(child, at)| (at - needed[*child].start) as i32).collect();
    Ok((vec![ids, offsets.into()], needed))
}

/// The runs in which some rows lie.
fn runs(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Range<usize>> {
    let Some(ends) = column.children.first() else { return wrong("a column of runs lacks their ends") };
    let width = width(&ends.data_type)?;
    // The first run that ends behind a row.
    let mut run_of = |row: usize| -> Result<usize> {
        let (mut from, mut to) = (0, ends.rows);
        while from < to {
            let middle = from + (to - from) / 2;
            let end = values(ends, 1, middle..middle + 1, width, body)?;
            if number(&end, width, 0) <= row as i64 { from = middle + 1 } else { to = middle }
        }
        Ok(from)
    };
    match rows.is_empty() {
        true => Ok(0..0),
        false => Ok(run_of(rows.start)?..run_of(rows.end - 1)?.saturating_add(1)),
    }
}

/// The ends of runs, counted from the first of some rows, the last of them no later than these rows end.
fn counted(ends: &ArrayData, rows: &Range<usize>) -> Result<ArrayData> {
    let Some(buffer) = ends.buffers().first() else { return wrong("a column of runs lacks their ends") };
    let width = width(ends.data_type())?;
    let mut counted = MutableBuffer::with_capacity(buffer.len());
    for run in 0..ends.len() {
        // What does not ascend does not do so here either, and is refused.
        let end = number(buffer, width, run).saturating_sub(rows.start as i64).min(rows.len() as i64);
        counted.extend_from_slice(&end.to_le_bytes()[..width]);
    }
    ArrayData::builder(ends.data_type().clone()).len(ends.len()).add_buffer(counted.into()).build()
}

/// A whole number of two, four or eight bytes.
fn number(buffer: &Buffer, width: usize, at: usize) -> i64 {
    match width {
        2 => buffer.typed_data::<i16>()[at].into(),
        4 => buffer.typed_data::<i32>()[at].into(),
        _ => buffer.typed_data::<i64>()[at],
    }
}

/// The bytes of a value of a fixed width, or of the index of a dictionary.
fn width(data_type: &DataType) -> Result<usize> {
    let width = match data_type {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok(),
        DataType::Dictionary(index, _) => index.primitive_width(),
        other => other.primitive_width(),
    };
    width.map_or_else(|| wrong("a column is of a type without a width"), Ok)
}

/// Values of the buffer `buffer`, each of `width` bytes.
fn values(column: &Column, buffer: usize, rows: Range<usize>, width: usize, body: &mut Body) -> Result<Buffer> {
    let Some(place) = column.buffers.get(buffer) else { return wrong("a column lacks a buffer") };
    match (rows.start as u64).checked_mul(width as u64).zip((rows.end as u64).checked_mul(width as u64)) {
        Some((start, end)) => body.read(*place, start..end),
        None => wrong("a column has more rows than can be"),
    }
}

fn bits(column: &Column, buffer: usize, rows: Range<usize>, body: &mut Body) -> Result<BooleanBuffer> {
    let bytes = values(column, buffer, rows.start / 8..rows.end.div_ceil(8), 1, body)?;
    Ok(BooleanBuffer::new(bytes, rows.start % 8, rows.len()))
}

/// What lies between the offsets of the first and the last of some rows.
fn span<O: OffsetSizeTrait>(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Range<usize>> {
    let mut at = |row| -> Result<Option<usize>> {
        let bytes = values(column, 1, row..row + 1, size_of::<O>(), body)?;
        Ok(bytes.typed_data::<O>()[0].to_usize())
    };
    match at(rows.start)?.zip(at(rows.end)?) {
        Some((start, end)) if start <= end => Ok(start..end),
        _ => wrong("the offsets of a column do not ascend"),
    }
}

/// The offsets of some rows, counted from the first.
fn offsets<O>(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Buffer>
where
    O: OffsetSizeTrait + ArrowNativeTypeOp,
{
    let bytes = values(column, 1, rows.start..rows.end + 1, size_of::<O>(), body)?;
    let offsets = bytes.typed_data::<O>();
    Ok(offsets.iter().map(|offset| offset.sub_wrapping(offsets[0])).collect::<Vec<O>>().into())
}

fn texts<O>(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Vec<Buffer>>
where
    O: OffsetSizeTrait + ArrowNativeTypeOp,
{
    let within = span::<O>(column, rows.clone(), body)?;
    Ok(vec![offsets::<O>(column, rows, body)?, values(column, 2, within, 1, body)?])
}

/// The offsets and sizes of views of lists. Views of nothing may point anywhere.
fn pairs<O: OffsetSizeTrait>(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Vec<(usize, usize)>> {
    let offsets = values(column, 1, rows.clone(), size_of::<O>(), body)?;
    let sizes = values(column, 2, rows, size_of::<O>(), body)?;
    let both = offsets.typed_data::<O>().iter().zip(sizes.typed_data::<O>());
    let both = both.map(|(offset, size)| match size.to_usize() {
        Some(0) => Some((0, 0)),
        size => offset.to_usize().zip(size),
    });
    both.collect::<Option<_>>().map_or_else(|| wrong("a view of a list points nowhere"), Ok)
}

/// The child's rows to which views of lists point.
fn reach<O: OffsetSizeTrait>(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Range<usize>> {
    let pairs = pairs::<O>(column, rows, body)?;
    let used = || pairs.iter().filter(|(_, size)| *size > 0);
    let start = used().map(|(offset, _)| *offset).min().unwrap_or(0);
    Ok(start..used().map(|(offset, size)| offset.saturating_add(*size)).max().unwrap_or(0))
}

/// Offsets and sizes of views of lists, counted from the least offset.
fn slots<O: OffsetSizeTrait>(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Vec<Buffer>> {
    let start = reach::<O>(column, rows.clone(), body)?.start;
    let pairs = pairs::<O>(column, rows, body)?;
    let offsets = pairs.iter().map(|(offset, _)| O::usize_as(offset.saturating_sub(start)));
    let sizes = pairs.iter().map(|(_, size)| O::usize_as(*size));
    Ok(vec![offsets.collect::<Vec<O>>().into(), sizes.collect::<Vec<O>>().into()])
}

/// Views as numbers: from the lowest bits up a value's length, its first bytes, its buffer, its offset, 32 bits each.
fn views(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Vec<u128>> {
    let bytes = values(column, 1, rows, size_of::<u128>(), body)?;
    Ok(bytes.typed_data::<u128>().to_vec())
}

/// Views, and one buffer with all that they point to.
fn viewed(column: &Column, rows: Range<usize>, nulls: Option<&NullBuffer>, body: &mut Body) -> Result<Vec<Buffer>> {
    let mut views = views(column, rows, body)?;
    let mut long = Vec::new();
    for (row, view) in views.iter_mut().enumerate() {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            *view = 0;
        } else if *view as u32 > INLINE {
            let (length, buffer, offset) = (*view as u32, (*view >> 64) as u32 as usize, (*view >> 96) as u64);
            long.push((buffer, offset, offset + u64::from(length), row));
        }
    }
    // In the order in which they lie there; many rows may share a value.
    long.sort_unstable();
    let mut data = MutableBuffer::new(0);
    let mut left = long.as_slice();
    while let Some((buffer, start, mut end, _)) = left.first().copied() {
        let near = left.iter().take_while(|(other, from, to, _)| {
            let joins = *other == buffer && *from <= end.saturating_add(GAP);
            end = if joins { end.max(*to) } else { end };
            joins
        });
        let (near, others) = left.split_at(near.count());
        let base = data.len() as u64;
        data.extend_from_slice(&values(column, buffer + 2, start as usize..end as usize, 1, body)?);
        for (_, from, _, row) in near {
            let Ok(at) = u32::try_from(base + from - start) else { return wrong("a row of views is too large") };
            views[*row] = (views[*row] & u128::from(u64::MAX)) | (u128::from(at) << 96);
        }
        left = others;
    }
    Ok(vec![Buffer::from_vec(views), data.into()])
}
