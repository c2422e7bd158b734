//! The views that a query sees: SQL for DuckDB that brings cold files and hot rows together.

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::cold::{ColdFile, FileColumn};
use super::feed::{Event, Relation};
use super::names::{Part, Subject};
use super::rows::{FUNCTION, column_name};
use super::sources::{Origin, Registered, Source, Sources};
use super::survey::Survey;
use super::types::{ColumnType, constant, convert, handed_over};
use crate::error::{Error, Result};
use crate::sql::{literal, quote};
use crate::value::Value;

/// What DuckDB is given for a query: the tables that it sees, and what they refer to.
#[derive(Default)]
pub struct Views {
    /// Names and their SELECTs.
    named: Vec<(String, String)>,
    /// What SQLite has, by the numbers that sources have for them.
    pub relations: Vec<Relation>,
    /// As long as they are here, DuckDB finds them.
    pub sources: Vec<Registered>,
}

/// The columns of Parquet files that DuckDB adds by itself, unless a file has one of that name.
const ROW: &str = "file_row_number";
const FILE: &str = "file_index";

impl Views {
    /// Adds the views for all names of a table.
    pub fn add(
        &mut self,
        subject: &Subject,
        mut survey: Survey,
        sources: &Sources,
        events: &SyncSender<Event>,
    ) -> Result<()> {
        let kept = survey.kept.take();
        let table = ViewOf {
            subject,
            survey: &survey,
        };
        // Without rows it would only be in the way of DuckDB's planner.
        let from = subject.hot.as_ref().filter(|_| survey.hot_rows > 0);
        let hot = from.map(|from| {
            let names = subject.columns.iter().map(|(name, _)| name.clone());
            self.relations.push(Relation {
                from: from.clone(),
                columns: names.zip(survey.types.iter().cloned()).collect(),
            });
            let origin = Origin::SQLite {
                relation: self.relations.len() - 1,
                events: events.clone(),
                kept,
            };
            let rows = Some(survey.hot_rows);
            table.hot(self.register(sources, survey.types.clone(), rows, origin))
        });
        let mut cold = Vec::new();
        for group in table.groups() {
            let mut hand_over = |types, array: Vec<ArrayRef>| {
                let batch = batch(array)?;
                let rows = Some(batch.num_rows() as u64);
                Ok(self.register(sources, types, rows, Origin::Batch(batch)))
            };
            let gone = match group.partial {
                true => table.only_counting(&group, &mut hand_over)?,
                false => String::new(),
            };
            cold.push(table.cold(&group) + &gone);
        }
        for (name, part) in &subject.names {
            let mut arms = Vec::new();
            if *part != Part::Hot {
                arms.extend(cold.iter().cloned());
            }
            if *part != Part::Cold {
                arms.extend(hot.clone());
            }
            if arms.is_empty() {
                arms.push(table.nothing());
            }
            self.named.push((quote(name), arms.join(" UNION ALL ")));
        }
        Ok(())
    }

    /// What makes them views of the connection.
    pub fn create(&self) -> String {
        let create =
            |(name, select): &(String, String)| format!("CREATE TEMP VIEW {name} AS {select};\n");
        self.named.iter().map(create).collect()
    }

    /// The beginning of a query that sees them. DuckDB looks at what they read only once then, not when they
    /// are made as well.
    pub fn with(&self) -> String {
        let named = self.named.iter();
        let named = named.map(|(name, select)| format!("{name} AS NOT MATERIALIZED ({select})"));
        match self.named.is_empty() {
            true => String::new(),
            false => format!("WITH {}\n", named.collect::<Vec<_>>().join(", ")),
        }
    }

    fn register(
        &mut self,
        sources: &Sources,
        types: Vec<ColumnType>,
        rows: Option<u64>,
        origin: Origin,
    ) -> u64 {
        let registered = sources.add(Source {
            types,
            rows,
            origin,
        });
        let number = registered.number;
        self.sources.push(registered);
        number
    }
}

/// The files whose rows are read by one SELECT.
struct Group<'a> {
    columns: &'a [FileColumn],
    /// Whether some rows of its files do not count.
    partial: bool,
    files: Vec<&'a ColdFile>,
}

struct ViewOf<'a> {
    subject: &'a Subject,
    survey: &'a Survey,
}

impl ViewOf<'_> {
    /// SELECT and the columns, each as `expression` makes it.
    fn select(&self, expression: impl Fn(usize, &ColumnType) -> String) -> String {
        let columns = self.survey.types.iter().enumerate();
        let columns = columns.map(|(index, column_type)| {
            let name = self.subject.columns.get(index).map_or("", |(name, _)| name);
            let name = match name {
                // DuckDB has no columns without a name.
                "" => format!("column{}", index + 1),
                name => name.to_owned(),
            };
            format!("{} AS {}", expression(index, column_type), quote(&name))
        });
        format!("SELECT {}", columns.collect::<Vec<_>>().join(", "))
    }

    /// The rows that SQLite has.
    fn hot(&self, source: u64) -> String {
        let select = self.select(|index, column_type| {
            let column = column_name(index);
            match column_type {
                ColumnType::Mixed(fields) => handed_over(&column, fields, column_type),
                _ => column,
            }
        });
        format!("{select} FROM {FUNCTION}({source})")
    }

    /// A view without rows.
    fn nothing(&self) -> String {
        let select = self.select(|_, column_type| constant(Value::Null, column_type));
        format!("{select} WHERE false")
    }

    /// The rows of cold files that are alike.
    fn cold(&self, group: &Group<'_>) -> String {
        let select = self.select(|index, column_type| match group.columns.get(index) {
            Some(FileColumn::Stored(position, storage)) => convert(
                &format!("f.{}", column_name(*position)),
                storage,
                column_type,
            ),
            Some(FileColumn::Default) => constant(self.default(index), column_type),
            Some(FileColumn::Null) | None => constant(Value::Null, column_type),
        });
        let paths = paths(&group.files);
        // Any name can be one of a column, also those that DuckDB's own columns have.
        let names = group.files.first().map_or(0, |file| file.names.len());
        let names: Vec<String> = (0..names).map(column_name).collect();
        let names = names.join(", ");
        format!("{select} FROM read_parquet({paths}, hive_partitioning = false) AS f({names})")
    }

    fn default(&self, column: usize) -> Value<'_> {
        let shape = self.subject.cold().map(|cold| &cold.shape);
        let default = shape.and_then(|shape| shape.default(column));
        default.map_or(Value::Null, Value::from)
    }

    /// The files, oldest first, grouped by how they store the columns.
    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for file in self.subject.cold().map_or(&[][..], |cold| &cold.files) {
            let partial = file.entry.live_rows() < file.entry.record.rows;
            let alike = |group: &&mut Group<'_>| {
                group.partial == partial
                    && group.columns == file.columns
                    && group
                        .files
                        .first()
                        .is_some_and(|first| first.names == file.names)
            };
            match groups.iter_mut().find(alike) {
                Some(group) => group.files.push(file),
                None => groups.push(Group {
                    columns: &file.columns,
                    partial,
                    files: vec![file],
                }),
            }
        }
        groups
    }

    /// What keeps rows away that are not published yet, or are tombstones.
    fn only_counting(
        &self,
        group: &Group<'_>,
        hand_over: &mut impl FnMut(Vec<ColumnType>, Vec<ArrayRef>) -> Result<u64>,
    ) -> Result<String> {
        let reserved = |name: &&String| [ROW, FILE].iter().any(|n| n.eq_ignore_ascii_case(name));
        if let Some(name) = group
            .files
            .iter()
            .flat_map(|file| &file.names)
            .find(reserved)
        {
            return Err(Error::refused(format!(
                "DuckDB cannot tell the rows of a file with a column {name} apart, and some of them do \
                 not count; query the table without archive_query"
            )));
        }
        let published: Vec<String> = group
            .files
            .iter()
            .map(|f| f.entry.published.to_string())
            .collect();
        let published = published.join(", ");
        let mut gone: (Vec<i64>, Vec<i64>) = Default::default();
        for (index, file) in group.files.iter().enumerate() {
            for row in file.dead.within(0..file.entry.published) {
                gone.0.push(i64::try_from(index).unwrap_or(i64::MAX));
                gone.1.push(i64::try_from(row).unwrap_or(i64::MAX));
            }
        }
        let mut sql = String::new();
        if !gone.0.is_empty() {
            let numbers = |numbers| Arc::new(Int64Array::from(numbers)) as ArrayRef;
            let pairs = vec![numbers(gone.0), numbers(gone.1)];
            let source = hand_over(vec![ColumnType::Integer; 2], pairs)?;
            let (file, row) = (column_name(0), column_name(1));
            sql += &format!(
                " ANTI JOIN {FUNCTION}({source}) AS gone
                     ON gone.{file} = f.{FILE} AND gone.{row} = f.{ROW}"
            );
        }
        sql += &format!(" WHERE f.{ROW} < ([{published}])[CAST(f.{FILE} AS BIGINT) + 1]");
        Ok(sql)
    }
}

/// A list of paths. DuckDB's parser is slow with many words, and fast with a long one.
fn paths(files: &[&ColdFile]) -> String {
    const SEPARATOR: char = '\u{1F}';
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    if paths.iter().any(|path| path.contains(SEPARATOR)) {
        let paths: Vec<String> = paths.into_iter().map(literal).collect();
        return format!("[{}]", paths.join(", "));
    }
    let paths = paths.join(&SEPARATOR.to_string());
    format!(
        "string_split({}, chr({}))",
        literal(&paths),
        u32::from(SEPARATOR)
    )
}

fn batch(columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let named = columns.into_iter().enumerate();
    let named = named.map(|(index, array)| (column_name(index), array));
    RecordBatch::try_from_iter(named)
        .map_err(|error| Error::Internal(format!("a batch cannot be made: {error}")))
}
