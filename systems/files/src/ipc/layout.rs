//! Where the buffers of a block's columns are, as its message says.

use arrow::array::{Array, new_empty_array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, UnionMode};
use arrow::error::ArrowError;
use arrow::ipc::{self, CompressionType, MessageHeader, MetadataVersion, root_as_message};

use super::dictionary::{Dictionaries, Values};

pub(super) type Result<T> = std::result::Result<T, ArrowError>;

/// What a file says is not so.
pub(super) fn wrong<T>(message: &str) -> Result<T> {
    Err(ArrowError::IpcError(message.to_owned()))
}

/// A message, checked.
pub(super) struct Message {
    // Copied, for what came over the network may begin at an odd address, which flatbuffers refuse.
    bytes: Vec<u8>,
}

impl Message {
    /// Checks a message, which stands there without its length.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self> {
        let message = Self { bytes };
        message.message()?;
        Ok(message)
    }

    fn message(&self) -> Result<ipc::Message<'_>> {
        root_as_message(&self.bytes).map_err(|e| ArrowError::ParseError(e.to_string()))
    }

    pub(super) fn version(&self) -> MetadataVersion {
        self.message().map_or(MetadataVersion::V5, |message| message.version())
    }

    pub(super) fn kind(&self) -> MessageHeader {
        self.message().map_or(MessageHeader::NONE, |message| message.header_type())
    }

    /// The bytes of its body.
    pub(super) fn body(&self) -> Result<u64> {
        u64::try_from(self.message()?.bodyLength()).map_or_else(|_| wrong("a body has a negative length"), Ok)
    }

    pub(super) fn schema(&self, read: impl Fn(ipc::Schema<'_>) -> Schema) -> Result<Schema> {
        self.message()?.header_as_schema().map_or_else(|| wrong("the file holds no schema"), |schema| Ok(read(schema)))
    }

    pub(super) fn batch(&self) -> Result<ipc::RecordBatch<'_>> {
        self.message()?.header_as_record_batch().map_or_else(|| wrong("a block holds no batch"), Ok)
    }

    pub(super) fn dictionary(&self) -> Result<ipc::DictionaryBatch<'_>> {
        let found = self.message()?.header_as_dictionary_batch().filter(|batch| batch.data().is_some());
        found.map_or_else(|| wrong("a block holds no dictionary"), Ok)
    }

    /// The bytes that all buffers of a batch have once they are unpacked; what is not packed is not counted.
    pub(super) fn unpacked(batch: ipc::RecordBatch<'_>, body: &[u8]) -> Result<u64> {
        if batch.compression().is_none() {
            return Ok(0);
        }
        let mut bytes: u64 = 0;
        for buffer in batch.buffers().iter().flatten() {
            let place = Place::of(buffer, body.len() as u64)?;
            let prefix = body.get(place.start as usize..).and_then(|from| from.first_chunk::<8>());
            if let Some(prefix) = prefix.filter(|_| place.length > 8) {
                bytes = bytes.saturating_add(i64::from_le_bytes(*prefix).max(0) as u64);
            }
        }
        Ok(bytes)
    }
}

/// Where a buffer is within the body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub start: u64,
    pub length: u64,
}

impl Place {
    fn of(buffer: &ipc::Buffer, body: u64) -> Result<Self> {
        let place = u64::try_from(buffer.offset()).ok().zip(u64::try_from(buffer.length()).ok());
        match place.filter(|(start, length)| start.checked_add(*length).is_some_and(|end| end <= body)) {
            Some((start, length)) => Ok(Self { start, length }),
            None => wrong("a buffer lies outside its block"),
        }
    }
}

/// A column, or what is nested in one.
pub(super) struct Column {
    pub data_type: DataType,
    pub rows: usize,
    /// Whether there is a bitmap of its NULLs.
    pub nulls: bool,
    /// In the order of the format. The bitmap is the first, empty if there are no NULLs or the type has none.
    pub buffers: Vec<Place>,
    pub children: Vec<Column>,
    /// What the indexes of a dictionary stand for.
    pub values: Option<Values>,
}

impl Column {
    fn places(&self) -> Box<dyn Iterator<Item = Place> + '_> {
        Box::new(self.buffers.iter().copied().chain(self.children.iter().flat_map(Self::places)))
    }

    fn places_mut<'a>(&'a mut self, into: &mut Vec<&'a mut Place>) {
        into.extend(&mut self.buffers);
        self.children.iter_mut().for_each(|child| child.places_mut(into));
    }
}

/// The chosen columns of a block.
pub(super) struct Layout {
    pub rows: usize,
    pub packing: Option<CompressionType>,
    pub columns: Vec<Column>,
}

impl Layout {
    /// Reads a batch's message.
    pub(super) fn of(
        message: &Message,
        schema: &Schema,
        chosen: &[usize],
        dictionaries: &Dictionaries,
        body: u64,
    ) -> Result<Self> {
        Self::read(message.batch()?, message.version(), schema.fields(), chosen, dictionaries, body)
    }

    /// Reads a dictionary's message: its one column are the values, which are of this type.
    pub(super) fn of_dictionary(
        message: &Message,
        values: &DataType,
        dictionaries: &Dictionaries,
        body: u64,
    ) -> Result<Self> {
        let Some(batch) = message.dictionary()?.data() else { return wrong("a block holds no dictionary") };
        let fields = Fields::from(vec![Field::new("values", values.clone(), true)]);
        Self::read(batch, message.version(), &fields, &[0], dictionaries, body)
    }

    fn read(
        batch: ipc::RecordBatch<'_>,
        version: MetadataVersion,
        fields: &Fields,
        chosen: &[usize],
        dictionaries: &Dictionaries,
        body: u64,
    ) -> Result<Self> {
        let Ok(rows) = usize::try_from(batch.length()) else { return wrong("a block has less than no rows") };
        let mut walk = Walk {
            nodes: batch.nodes().into_iter().flatten(),
            buffers: batch.buffers().into_iter().flatten(),
            variadic: batch.variadicBufferCounts().into_iter().flatten(),
            dictionaries,
            version,
            body,
        };
        let mut columns = Vec::with_capacity(chosen.len());
        for (index, field) in fields.iter().enumerate() {
            let column = walk.column(field)?;
            if !chosen.contains(&index) {
                continue;
            }
            if column.rows != rows {
                return wrong("a column has other rows than its block");
            }
            columns.push(column);
        }
        Ok(Self { rows, packing: batch.compression().map(|packing| packing.codec()), columns })
    }

    /// The buffers of all columns.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.columns.iter().flat_map(Column::places).filter(|place| place.length > 0)
    }

    pub(super) fn places_mut(&mut self) -> Vec<&mut Place> {
        let mut places = Vec::new();
        self.columns.iter_mut().for_each(|column| column.places_mut(&mut places));
        places
    }
}

fn children(data_type: &DataType) -> Vec<FieldRef> {
    use DataType as T;
    match data_type {
        T::List(item) | T::LargeList(item) | T::ListView(item) | T::LargeListView(item) => vec![item.clone()],
        T::FixedSizeList(item, _) | T::Map(item, _) => vec![item.clone()],
        T::Struct(fields) => fields.to_vec(),
        T::RunEndEncoded(ends, values) => vec![ends.clone(), values.clone()],
        T::Union(fields, _) => fields.iter().map(|(_, field)| field.clone()).collect(),
        _ => Vec::new(),
    }
}

/// A walk through a message: nodes and buffers come in the order of the schema, depth first.
struct Walk<'a, N, B, V> {
    nodes: N,
    buffers: B,
    variadic: V,
    dictionaries: &'a Dictionaries,
    version: MetadataVersion,
    body: u64,
}

impl<'m, N, B, V> Walk<'_, N, B, V>
where
    N: Iterator<Item = &'m ipc::FieldNode>,
    B: Iterator<Item = &'m ipc::Buffer>,
    V: Iterator<Item = i64>,
{
    fn column(&mut self, field: &Field) -> Result<Column> {
        use DataType as T;
        let data_type = field.data_type().clone();
        if matches!(data_type, T::FixedSizeBinary(size) | T::FixedSizeList(_, size) if size < 0) {
            return wrong("a type has a negative size");
        }
        // Arrow takes it for granted, and does not look for dictionaries there.
        if matches!(&data_type, T::RunEndEncoded(ends, _) if !ends.data_type().is_run_ends_type()) {
            return wrong("the ends of runs are no whole numbers");
        }
        let Some(node) = self.nodes.next() else { return wrong("a block has less columns than its schema") };
        let Ok(rows) = usize::try_from(node.length()) else { return wrong("a column has less than no rows") };
        let count = match &data_type {
            T::Null | T::RunEndEncoded(..) => 0,
            T::Utf8 | T::Binary | T::LargeUtf8 | T::LargeBinary | T::ListView(_) | T::LargeListView(_) => 3,
            T::Utf8View | T::BinaryView => match self.variadic.next().map(usize::try_from) {
                Some(Ok(count)) => count.saturating_add(2),
                _ => return wrong("a block does not say how many buffers a column of views has"),
            },
            T::Struct(_) | T::FixedSizeList(..) => 1,
            // Until version 5 unions had a bitmap.
            T::Union(_, mode) => {
                1 + usize::from(self.version < MetadataVersion::V5) + usize::from(*mode == UnionMode::Dense)
            }
            _ => 2,
        };
        let mut buffers = Vec::new();
        for _ in 0..count {
            let Some(buffer) = self.buffers.next() else { return wrong("a block has less buffers than its schema") };
            buffers.push(Place::of(buffer, self.body)?);
        }
        if matches!(data_type, T::Union(..)) && self.version >= MetadataVersion::V5 {
            buffers.insert(0, Place::default());
        }
        // Where all is NULL there is nothing to say which are; the others leave it to their children.
        let nulls = node.null_count() > 0 && !matches!(data_type, T::Null | T::Union(..) | T::RunEndEncoded(..));
        if !nulls && let Some(bitmap) = buffers.first_mut() {
            *bitmap = Place::default();
        }
        let children = children(&data_type).iter().map(|child| self.column(child)).collect::<Result<_>>()?;
        let values = match &data_type {
            T::Dictionary(_, values) => {
                #[expect(deprecated, reason = "arrow's reader finds dictionaries by it, and offers nothing else")]
                let found = field.dict_id().and_then(|id| self.dictionaries.get(id));
                // A dictionary of which nothing is used may be left out.
                Some(found.unwrap_or_else(|| Values::Here(new_empty_array(values).to_data())))
            }
            _ => None,
        };
        Ok(Column { data_type, rows, nulls, buffers, children, values })
    }
}
