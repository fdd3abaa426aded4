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
//! | structs | the rows a..b of each child |
//! | dictionaries | the indexes a..b; the values are in memory already |

use std::ops::Range;

use arrow::array::{ArrayData, ArrowNativeTypeOp, OffsetSizeTrait, RecordBatch, RecordBatchOptions, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer};
use arrow::datatypes::{DataType, SchemaRef};
use weir_core::MAX_BATCH_ROWS;

use super::body::Body;
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
fn weigh(column: &Column, rows: Range<usize>, most: u64, body: &mut Body) -> Result<u64> {
    use DataType as T;
    let count = rows.len() as u64;
    let fixed = |width: u64| count.saturating_mul(width);
    if count == 0 {
        return Ok(0);
    }
    let own = match &column.data_type {
        T::Null | T::Struct(_) | T::FixedSizeList(..) => 0,
        T::Boolean => count.div_ceil(8),
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
        _ => {
            let mut bytes: u64 = 0;
            if let Some(rows) = nested(column, rows, body)? {
                for child in &column.children {
                    let left = most.saturating_sub(own).saturating_sub(bytes);
                    bytes = bytes.saturating_add(weigh(child, rows.clone(), left, body)?);
                }
            }
            bytes
        }
    };
    Ok(own.saturating_add(under))
}

/// The rows of a column.
fn cut(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<ArrayData> {
    use DataType as T;
    if rows.start > rows.end || rows.end > column.rows {
        return wrong("a column has less rows than what it is nested in needs");
    }
    if rows.is_empty() {
        return empty(column);
    }
    let nulls = if column.nulls { Some(NullBuffer::new(bits(column, 0, rows.clone(), body)?)) } else { None };
    let buffers = match &column.data_type {
        T::Null | T::Struct(_) | T::FixedSizeList(..) => vec![],
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
    let mut children: Vec<ArrayData> = column.values.iter().cloned().collect();
    if let Some(rows) = nested(column, rows.clone(), body)? {
        for child in &column.children {
            children.push(cut(child, rows.clone(), body)?);
        }
    }
    let array = ArrayData::builder(column.data_type.clone()).len(rows.len()).nulls(nulls);
    array.buffers(buffers).child_data(children).build()
}

/// No rows of a column, whose buffers may be empty then. Dictionaries keep their values, so that all windows share them.
fn empty(column: &Column) -> Result<ArrayData> {
    let of_type = ArrayData::new_empty(&column.data_type);
    let children = column.values.iter().cloned().map(Ok).chain(column.children.iter().map(empty));
    let array = ArrayData::builder(column.data_type.clone()).buffers(of_type.buffers().to_vec());
    array.child_data(children.collect::<Result<_>>()?).build()
}

/// The rows of the children that belong to some rows; `None` for what has none.
fn nested(column: &Column, rows: Range<usize>, body: &mut Body) -> Result<Option<Range<usize>>> {
    use DataType as T;
    Ok(Some(match &column.data_type {
        T::Struct(_) => rows,
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
        _ => return Ok(None),
    }))
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
