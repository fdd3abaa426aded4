//! The files reader: which files, which columns, and the tasks that read them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::Field;
use async_trait::async_trait;
use tokio::sync::OnceCell;
use weir_core::{
    BatchSender, Check, ConnectorContext, Error, ErrorKind, Faults, Form, Parameters, ReadRequest, Reader, Result,
    SourceColumn, SourceSchema, SourceTable, Split, SplitRequest, config,
};
use weir_files::{ColumnarReader, Compression, Entry, Format, Location, is_pipe, split_extension};

use crate::canonical::canonical;
use crate::cells::{Assembler, From, Plan};
use crate::columnar;
use crate::config::Config;
use crate::csv::{CsvTask, Header, TextFile, Width, Window, header_names};
use crate::cut::{self, Cut};
use crate::infer::Guess;
use crate::jsonl::{self, JsonTask};
use crate::kinds::Kind;
use crate::rules::{Listed, Rules};
use crate::scan::Dialect;
use crate::split::{Part, runs};

/// How many files are opened to decide on types.
const SAMPLE_FILES: usize = 5;

pub(crate) fn open(parameters: &Parameters, context: &ConnectorContext) -> Result<Arc<dyn Reader>, Faults> {
    let config: Config = config::parse(parameters)?;
    let mut faults = Faults::default();
    let rules = Rules::new(&config, context.form, &mut faults);
    let mut locations = Vec::new();
    if config.path.is_empty() {
        faults.add("/path", "`path` is missing: give a file, a folder or a pattern");
    }
    for path in config.path.as_slice() {
        match Location::parse(path, &config.storage_options, context) {
            Ok(location) => locations.push(location),
            Err(message) => faults.add("/path", message),
        }
    }
    faults.or(())?;
    Ok(Arc::new(FilesReader { locations, rules, context: context.clone(), found: OnceCell::new() }))
}

struct FilesReader {
    locations: Vec<Location>,
    rules: Rules,
    context: ConnectorContext,
    /// The files and their columns, looked at once.
    found: OnceCell<Source>,
}

/// What the files are and hold.
struct Source {
    files: Vec<(Part, Entry)>,
    columns: Vec<SourceColumn>,
    /// The names of all columns of a file.
    names: Vec<String>,
}

impl FilesReader {
    async fn source(&self) -> Result<&Source> {
        self.found.get_or_try_init(|| self.context.until_cancelled(self.look())).await
    }

    async fn look(&self) -> Result<Source> {
        let files = self.files().await?;
        let format = files.first().map_or(Format::Csv, |f| f.0.format);
        let (names, fields) = match format {
            Format::Parquet | Format::Arrow => self.columnar_fields(&files[0].0).await?,
            _ if self.rules.listed.as_ref().is_some_and(|l| l.iter().all(Listed::is_complete)) => Default::default(),
            _ => self.sample(&files, format).await?,
        };
        let columns = self.columns(format, &names, &fields)?;
        Ok(Source { files, columns, names })
    }

    async fn files(&self) -> Result<Vec<(Part, Entry)>> {
        let (mut files, mut seen) = (Vec::<(Part, Entry)>::new(), HashSet::new());
        for (index, location) in self.locations.iter().enumerate() {
            for entry in location.store.find(&location.path).await? {
                let (by_name, packed, tabs) = split_extension(&entry.path, self.context.form);
                // Without a `format`, what a folder holds besides data is no data.
                let known = by_name.or((self.context.form == Form::DataX).then_some(Format::Text));
                let Some(format) = self.rules.format.or(known) else {
                    if entry.path == location.path {
                        let message = "the file's extension says no format: set `format`";
                        return Err(Error::config(message).with("file", location.display()));
                    }
                    continue;
                };
                let compression = match self.rules.compression {
                    Some(compression) => compression,
                    None if format.is_text() => packed,
                    None => Compression::None,
                };
                let part = Part {
                    location: index,
                    file: entry.path.clone(),
                    format,
                    compression,
                    tabs,
                    names: Vec::new(),
                    groups: None,
                    range: None,
                    line: None,
                    size: entry.size,
                    stamp: entry.stamp.clone(),
                };
                // Two patterns may mean the same file: its rows are read once.
                if seen.insert(location.store.display(&part.file)) {
                    files.push((part, entry));
                }
            }
        }
        let Some((first, _)) = files.first() else {
            let message =
                "no file with a known extension (csv, tsv, txt, jsonl, ndjson, parquet, arrow, feather): set `format`";
            return Err(Error::new(ErrorKind::NotFound, message).with("path", self.locations[0].display()));
        };
        let family = |f: Format| if f == Format::Text { Format::Csv } else { f };
        if let Some((other, _)) = files.iter().find(|(p, _)| family(p.format) != family(first.format)) {
            let message = "the files have different formats: read them with a job each, or set `format`";
            return Err(Error::config(message).with("file", &first.file).with("other", &other.file));
        }
        Ok(files)
    }

    fn text_file<'a>(&'a self, part: &'a Part) -> Result<TextFile<'a>> {
        Ok(TextFile {
            store: &self.location(part)?.store,
            path: &part.file,
            compression: part.compression,
            encoding: self.rules.encoding,
            skip_lines: self.rules.skip_lines,
            inside: part.range.filter(|(from, _)| *from > 0).map(|(from, to)| (from..to, part.line)),
            end: part.range.filter(|(from, _)| *from == 0).map(|(_, to)| to),
            cancel: &self.context.cancel,
        })
    }

    /// Whether the file is still the one that the split was planned for.
    async fn verify(&self, part: &Part) -> Result<()> {
        if part.stamp.is_empty() {
            return Ok(());
        }
        let store = &self.location(part)?.store;
        let planned = Entry { path: part.file.clone(), size: part.size, stamp: part.stamp.clone() };
        let now = self.context.until_cancelled(store.entry(&part.file)).await?;
        let what = match now {
            Some(now) if now.is_like(&planned) => return Ok(()),
            Some(_) => "the file was changed after the run was planned: run the job anew, with --fresh after a resume",
            None => "the file is gone since the run was planned: run the job anew, with --fresh after a resume",
        };
        Err(Error::new(ErrorKind::Conflict, what).with("file", store.display(&part.file)))
    }

    fn location(&self, part: &Part) -> Result<&Location> {
        self.locations.get(part.location).ok_or_else(|| Error::internal("the split is of another job"))
    }

    async fn open_columnar(&self, part: &Part) -> Result<ColumnarReader> {
        ColumnarReader::open(&self.location(part)?.store, &part.file, part.format, &self.context.cancel).await
    }

    async fn columnar_fields(&self, part: &Part) -> Result<(Vec<String>, Vec<Field>)> {
        let reader = self.open_columnar(part).await?;
        let fields: Vec<Field> = reader.schema().fields().iter().map(|f| canonical(f)).collect();
        Ok((fields.iter().map(|f| f.name().clone()).collect(), fields))
    }

    /// Names and types from the first rows.
    async fn sample(&self, files: &[(Part, Entry)], format: Format) -> Result<(Vec<String>, Vec<Field>)> {
        let (mut names, mut guesses, mut rows) = (Vec::new(), Vec::<Guess>::new(), 0);
        for (part, _) in files.iter().take(SAMPLE_FILES) {
            if rows >= self.rules.sample_rows {
                break;
            }
            if self.location(part)?.store.is_local() && is_pipe(&part.file) {
                let message = "a pipe is read only once, so its rows cannot be looked at beforehand: list all columns in \
                               `column` with `index` and `type`";
                return Err(Error::new(ErrorKind::Unsupported, message).with("file", &part.file));
            }
            let mut window = Window::open(&self.text_file(part)?).await?;
            if format == Format::Jsonl {
                while rows < self.rules.sample_rows {
                    let Some((_, place)) = jsonl::line(&mut window).await? else { break };
                    rows += 1;
                    let Ok(text) = std::str::from_utf8(&window.text[place]) else { continue };
                    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
                        continue;
                    }
                    for (key, value) in jsonl::members(text).unwrap_or_default() {
                        let key = jsonl::unescaped(key);
                        let at = names.iter().position(|n: &String| n == key.as_ref()).unwrap_or_else(|| {
                            names.push(key.into_owned());
                            guesses.push(Guess::default());
                            names.len() - 1
                        });
                        if &text[value.clone()] != "null" {
                            guesses[at].json_value(&text[value]);
                        }
                    }
                }
                continue;
            }
            let dialect = self.rules.dialect(part.tabs, names.len());
            if self.rules.header != Header::None {
                let Some(header) = window.record(&dialect).await? else { continue };
                if self.rules.header == Header::Names {
                    let here = header_names(header);
                    self.same_width(&names, here.len(), part)?;
                    if names.is_empty() {
                        names = here;
                    }
                }
            }
            guesses.resize(guesses.len().max(names.len()), Guess::default());
            while rows < self.rules.sample_rows {
                let dialect = self.rules.dialect(part.tabs, names.len());
                let Some(record) = window.record(&dialect).await? else { break };
                rows += 1;
                if names.is_empty() {
                    names = (0..record.len()).map(|i| format!("column_{i}")).collect();
                    guesses.resize(names.len(), Guess::default());
                }
                if record.len() == names.len() {
                    for (guess, (value, quoted)) in guesses.iter_mut().zip(record) {
                        let null = value.is_empty() && !quoted || self.rules.nulls.null_format.as_ref() == Some(&value);
                        if !null {
                            guess.value(if self.rules.trim { value.trim() } else { &value });
                        }
                    }
                }
            }
        }
        let all_text = self.rules.untyped_is_text;
        let kind = |guess: &Guess| if all_text { Kind::Text } else { guess.kind() };
        let fields = names.iter().zip(&guesses).map(|(name, guess)| kind(guess).field(name)).collect();
        Ok((names, fields))
    }

    fn same_width(&self, names: &[String], here: usize, part: &Part) -> Result<()> {
        if names.is_empty() || names.len() == here {
            return Ok(());
        }
        let message =
            format!("the header has {here} columns, and that of other files {}: read them apart", names.len());
        Err(Error::new(ErrorKind::Schema, message).with("file", &part.file))
    }

    fn columns(&self, format: Format, names: &[String], fields: &[Field]) -> Result<Vec<SourceColumn>> {
        let column = |name: &str, field: &Field| SourceColumn {
            name: name.to_owned(),
            native_type: weir_core::field::native_type(field).map_or_else(String::new, |(_, t)| t.to_owned()),
            nullable: field.is_nullable(),
            key: None,
            representations: vec![field.clone()],
            comment: None,
        };
        let Some(listed) = &self.rules.listed else {
            return Ok(fields.iter().map(|f| column(f.name(), f)).collect());
        };
        let columnar = matches!(format, Format::Parquet | Format::Arrow);
        listed
            .iter()
            .enumerate()
            .map(|(i, entry)| {
                let missing = |what: String| Err(Error::new(ErrorKind::NotFound, what));
                let file_names = !names.is_empty() && (self.rules.header == Header::Names || format != Format::Csv);
                let at = match (&entry.name, entry.index) {
                    _ if entry.value.is_some() => None,
                    (_, Some(index)) if format == Format::Jsonl && entry.name.is_none() => {
                        return Err(Error::config("JSON lines have no positions: give columns by `name`")
                            .with("pointer", format!("/column/{i}/index"))
                            .with("index", index));
                    }
                    (_, Some(index)) if index < fields.len() => Some(index),
                    (_, Some(index)) if fields.is_empty() => Some(index),
                    (_, Some(index)) => {
                        return missing(format!(
                            "column {index} does not exist: the files have {} columns",
                            fields.len()
                        ));
                    }
                    (Some(name), None) => match names.iter().position(|n| n == name) {
                        Some(at) => Some(at),
                        None if fields.is_empty() && entry.kind.is_some() => None,
                        None if format == Format::Jsonl && entry.kind.is_some() => None,
                        None => {
                            let near = config::nearest(name, names.iter().map(String::as_str));
                            let hint = near.map_or(String::new(), |n| format!(", did you mean `{n}`?"));
                            return missing(format!("the files have no column `{name}`{hint}"));
                        }
                    },
                    (None, None) => return Err(Error::config(format!("column {i} has neither `index` nor `name`"))),
                };
                let found = at.and_then(|at| fields.get(at));
                let in_file = at.and_then(|at| names.get(at)).filter(|_| file_names).cloned();
                let fallback = || format!("column_{}", entry.index.unwrap_or(i));
                let name = entry.name.clone().or(in_file).unwrap_or_else(fallback);
                if columnar && (entry.kind.is_some() || entry.value.is_some()) {
                    return Err(Error::config(
                        "files of this format have their own types: list columns by name or index only",
                    )
                    .with("column", &name));
                }
                let field = match (&entry.kind, found) {
                    (Some(kind), _) => kind.field(&name),
                    (None, Some(field)) => field.clone().with_name(&name),
                    (None, None) => Kind::Text.field(&name),
                };
                Ok(column(&name, &field))
            })
            .collect()
    }

    /// Where each requested column stands in a file with these columns, and how to read it.
    fn plans(&self, request: &ReadRequest, names: &[String], by_name: bool, file: &str) -> Result<Vec<Plan>> {
        let plan = |wanted: &weir_core::ReadColumn| {
            let entry = self.rules.listed.as_ref().and_then(|l| l.get(wanted.index));
            let pattern = entry.and_then(|e| e.pattern.clone());
            let hex = entry.map_or(self.context.form == Form::Native, |e| e.hex);
            if let Some(value) = entry.and_then(|e| e.value.clone()) {
                return Ok(Plan { from: From::Constant(value), pattern, hex });
            }
            let name = entry.map_or(Some(wanted.field.name()), |e| e.name.as_ref().filter(|_| e.index.is_none()));
            let at = match name.filter(|_| by_name) {
                Some(name) => names.iter().position(|n| n == name).ok_or_else(|| {
                    Error::new(ErrorKind::Schema, "the file's header lacks this column, which other files have")
                        .with("column", name)
                        .with("file", file)
                })?,
                None => entry.and_then(|e| e.index).unwrap_or(wanted.index),
            };
            Ok(Plan { from: From::Field(at), pattern, hex })
        };
        request.columns.iter().map(plan).collect()
    }

    async fn read_csv(&self, part: &Part, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let file = self.text_file(part)?;
        let mut window = Window::open(&file).await?;
        let mut dialect: Dialect = self.rules.dialect(part.tabs, part.names.len());
        let mut names = part.names.clone();
        let inside = file.inside.is_some();
        if self.rules.header == Header::Names || (self.rules.header == Header::Skip && !inside) {
            let header = match inside {
                // It stands at the file's start, wherever the part does.
                true => Window::open(&TextFile { inside: None, ..file }).await?.record(&dialect).await?,
                false => window.record(&dialect).await?,
            };
            let Some(header) = header else { return Ok(()) };
            if self.rules.header == Header::Names {
                names = header_names(header);
                if self.rules.listed.is_none() {
                    self.same_width(&part.names, names.len(), part)?;
                }
            }
        }
        // Where there is one column an empty line is a row, so the file's width has to be known.
        dialect = match names.len() {
            0 if self.location(part)?.store.is_local() && is_pipe(&part.file) => dialect,
            0 => {
                let mut head = Window::open(&TextFile { inside: None, ..self.text_file(part)? }).await?;
                let first = head.record(&dialect).await?;
                self.rules.dialect(part.tabs, first.map_or(0, |fields| fields.len()))
            }
            width => self.rules.dialect(part.tabs, width),
        };
        let plans = self.plans(request, &names, self.rules.header == Header::Names, &part.file)?;
        let needed = plans.iter().map(|p| match p.from {
            From::Field(at) => at + 1,
            From::Constant(_) => 0,
        });
        let needed = needed.max().unwrap_or(0);
        let lenient = self.rules.lenient_width && self.rules.listed.is_some();
        let width = if lenient || names.is_empty() { Width::AtLeast(needed) } else { Width::Exact(names.len()) };
        let misplaced = matches!(width, Width::Exact(n) if needed > n);
        if misplaced {
            let message = format!("the job asks for column {}, and the file has {}", needed - 1, names.len());
            return Err(Error::new(ErrorKind::Schema, message).with("file", &part.file));
        }
        let assembler = Assembler::new(request, plans, self.rules.nulls.clone())?;
        let origin = window.origin.clone();
        CsvTask { dialect: &dialect, width, names, request, assembler, origin }.run(window, output).await
    }

    async fn read_jsonl(&self, part: &Part, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let window = Window::open(&self.text_file(part)?).await?;
        let mut keys: Vec<String> = Vec::new();
        let mut plans = Vec::new();
        for wanted in &request.columns {
            let entry = self.rules.listed.as_ref().and_then(|l| l.get(wanted.index));
            let key = entry.and_then(|e| e.name.as_ref()).unwrap_or(wanted.field.name());
            let at = keys.iter().position(|k| k == key).unwrap_or(keys.len());
            if at == keys.len() {
                keys.push(key.clone());
            }
            let from = entry.and_then(|e| e.value.clone()).map_or(From::Field(at), From::Constant);
            let hex = entry.map_or(self.context.form == Form::Native, |e| e.hex);
            plans.push(Plan { from, pattern: entry.and_then(|e| e.pattern.clone()), hex });
        }
        let nulls = crate::cells::NullRule { empty_is_text: true, ..self.rules.nulls.clone() };
        let assembler = Assembler::new(request, plans, nulls)?;
        let known = self.rules.listed.is_none().then(|| part.names.clone());
        JsonTask { keys, known, request, assembler }.run(window, output).await
    }

    async fn read_columnar(&self, part: &Part, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let reader = self.open_columnar(part).await?;
        let mut names = Vec::new();
        for wanted in &request.columns {
            let entry = self.rules.listed.as_ref().and_then(|l| l.get(wanted.index));
            let by_index = entry.and_then(|e| e.index).and_then(|i| part.names.get(i));
            names.push(by_index.or(entry.and_then(|e| e.name.as_ref())).unwrap_or(wanted.field.name()).as_str());
        }
        columnar::read(reader, &part.file, part.groups, &names, request, output).await
    }
}

#[async_trait]
impl Reader for FilesReader {
    async fn schema(&self) -> Result<SourceSchema> {
        let source = self.source().await?;
        let mut tables = Vec::new();
        for location in &self.locations {
            tables.push(SourceTable { name: location.display(), rows: None, bytes: None });
        }
        for (part, entry) in &source.files {
            let bytes = &mut tables[part.location].bytes;
            *bytes = Some(bytes.unwrap_or(0) + entry.size);
        }
        Ok(SourceSchema {
            columns: source.columns.clone(),
            tables,
            listed: self.rules.listed.is_some(),
            warnings: self.rules.warnings.clone(),
        })
    }

    fn repeats(&self) -> bool {
        !self.locations.iter().any(|location| location.store.is_local() && is_pipe(&location.path))
    }

    async fn splits(&self, request: &SplitRequest) -> Result<Vec<Split>> {
        let source = self.source().await?;
        let mut splits = Vec::new();
        let total: u64 = source.files.iter().map(|(_, entry)| entry.size).sum();
        for (part, entry) in &source.files {
            let location = self.location(part)?;
            let mut part = Part { names: source.names.clone(), ..part.clone() };
            let name = location.store.display(&part.file);
            let mut add = |part: &Part, description: String, rows, bytes| {
                let part = serde_json::to_value(part).map_err(|e| Error::internal("no split").because(e))?;
                let table = location.display();
                splits.push(Split { id: splits.len() as u32, table, description, rows, bytes, stable: true, part });
                Ok::<_, Error>(())
            };
            if part.format == Format::Parquet {
                let reader = self.context.until_cancelled(self.open_columnar(&part)).await?;
                let groups = reader.groups().unwrap_or_default();
                let own: u64 = groups.iter().map(|g| g.1).sum();
                // A lone large file is cut so that every channel has something to do.
                let share = own / (request.channels.max(1) as u64 * 2) / source.files.len() as u64;
                let bytes = share.clamp(64 << 20, request.max_bytes.max(64 << 20));
                for (from, to, rows, bytes) in runs(&groups, bytes) {
                    part.groups = Some((from, to));
                    let description = match to - from == groups.len() {
                        true => name.clone(),
                        false => format!("{name}, row groups {from}–{}", to - 1),
                    };
                    add(&part, description, Some(rows), Some(bytes))?;
                }
            } else if part.format.is_text() && request.limit.is_none() {
                // Two pieces a channel, for balance; files together are pieces too.
                let share = total / (request.channels.max(1) as u64 * 2);
                let bytes = share.clamp(cut::LEAST, request.max_bytes.max(cut::LEAST));
                let (store, cancel) = (&location.store, &self.context.cancel);
                let cuts = cut::cuts(&self.rules, &part, store, entry.size, bytes, cancel);
                let cuts = self.context.until_cancelled(cuts).await?;
                if cuts.is_empty() {
                    add(&part, name, None, Some(entry.size))?;
                    continue;
                }
                let ends = cuts.iter().map(|c| c.at).chain([entry.size]);
                let starts = [Cut { at: 0, line: None }].into_iter().chain(cuts.iter().copied());
                for (start, to) in starts.zip(ends) {
                    (part.range, part.line) = (Some((start.at, to)), start.line);
                    let description = format!("{name}, bytes {}–{to}", start.at);
                    add(&part, description, None, Some(to - start.at))?;
                }
            } else {
                add(&part, name, None, Some(entry.size))?;
            }
        }
        Ok(splits)
    }

    async fn read(&self, split: &Split, request: &ReadRequest, output: &mut dyn BatchSender) -> Result<()> {
        let part = Part::of(split)?;
        self.verify(&part).await?;
        match part.format {
            Format::Parquet | Format::Arrow => self.read_columnar(&part, request, output).await?,
            Format::Jsonl => self.read_jsonl(&part, request, output).await?,
            _ => self.read_csv(&part, request, output).await?,
        }
        // Changed while it was read: what came was partly of the one, partly of the other. An object is never that.
        if self.location(&part)?.store.is_local() { self.verify(&part).await } else { Ok(()) }
    }

    async fn check(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for location in &self.locations {
            let what = location.display();
            checks.push(match self.context.until_cancelled(location.store.find(&location.path)).await {
                Ok(files) => {
                    match weir_files::ByteStream::open(&location.store, &files[0].path, &self.context.cancel).await {
                        Ok(_) => Check::ok(what, format!("{} files, readable", files.len())),
                        Err(e) => Check::fault(what, e.full()),
                    }
                }
                Err(e) => Check::fault(what, e.full()),
            });
        }
        checks
    }
}
