//! The views that a query sees: SQL for DuckDB that brings cold files and hot rows together.

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use rusqlite::types::Value as Owned;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::engine::{Registered, Sources};
use super::feed::{Event, Relation};
use super::rows::{FUNCTION, Origin, Source, column_name};
use super::subject::{Part, Subject};
use super::survey::{ColdFile, FileColumn, Survey};
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
        survey: &Survey,
        sources: &Sources,
        events: &SyncSender<Event>,
    ) -> Result<()> {
        let table = ViewOf { subject, survey };
        let hot = subject.hot.as_ref().map(|from| {
            let names = subject.columns.iter().map(|(name, _)| name.clone());
            self.relations.push(Relation {
                from: from.clone(),
                columns: names.zip(survey.types.iter().cloned()).collect(),
            });
            let origin = Origin::SQLite(self.relations.len() - 1, events.clone());
            let rows = Some(survey.hot_rows);
            table.hot(self.register(sources, survey.types.clone(), rows, origin))
        });
        let cold = table.cold(|types, batch| {
            let rows = Some(batch.num_rows() as u64);
            self.register(sources, types, rows, Origin::Batch(batch))
        })?;
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
        let named = self.named.iter();
        let create =
            |(name, select): &(String, String)| format!("CREATE TEMP VIEW {name} AS {select};\n");
        named.map(create).collect()
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

    /// The rows of the cold files, one SELECT for all that are alike. `register` makes a batch known to
    /// DuckDB.
    fn cold(
        &self,
        mut register: impl FnMut(Vec<ColumnType>, RecordBatch) -> u64,
    ) -> Result<Vec<String>> {
        let mut arms = Vec::new();
        for group in self.groups() {
            let select = self.select(|index, column_type| match group.columns.get(index) {
                Some(FileColumn::Stored(name, storage)) => {
                    convert(&format!("f.{}", quote(name)), storage, column_type)
                }
                Some(FileColumn::Default) => constant(self.default(index), column_type),
                Some(FileColumn::Null) | None => constant(Value::Null, column_type),
            });
            let paths: Vec<String> = group.files.iter().map(|file| literal(&file.path)).collect();
            let files = format!(
                "read_parquet([{}], hive_partitioning = false) AS f",
                paths.join(", ")
            );
            let mut arm = format!("{select} FROM {files}");
            if group.partial {
                arm += &self.only_counting(&group, &mut register)?;
            }
            arms.push(arm);
        }
        Ok(arms)
    }

    fn default(&self, column: usize) -> Value<'_> {
        let shape = self.subject.cold.as_ref().map(|cold| &cold.shape);
        let column = shape.and_then(|shape| shape.columns.get(column));
        column.map_or(Value::Null, |column| match &column.default {
            Owned::Null => Value::Null,
            other => Value::from(other),
        })
    }

    /// The files, oldest first, grouped by how they store the columns.
    fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for file in &self.survey.files {
            let partial = file.rows < file.entry.record.rows || !self.tombstones(file).is_empty();
            let alike =
                |group: &&mut Group<'_>| group.partial == partial && group.columns == file.columns;
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

    fn tombstones(&self, file: &ColdFile) -> Arc<Vec<usize>> {
        let cold = self.subject.cold.as_ref();
        cold.map_or_else(Arc::default, |cold| cold.state.tombstones(file.entry.id))
    }

    /// What keeps rows away that are not published yet, or are tombstones.
    fn only_counting(
        &self,
        group: &Group<'_>,
        register: &mut impl FnMut(Vec<ColumnType>, RecordBatch) -> u64,
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
        let published: Vec<String> = group.files.iter().map(|f| f.rows.to_string()).collect();
        let published = published.join(", ");
        let mut gone: (Vec<i64>, Vec<i64>) = Default::default();
        for (index, file) in group.files.iter().enumerate() {
            for row in self.tombstones(file).iter().filter(|row| **row < file.rows) {
                gone.0.push(i64::try_from(index).unwrap_or(i64::MAX));
                gone.1.push(i64::try_from(*row).unwrap_or(i64::MAX));
            }
        }
        let mut sql = String::new();
        if !gone.0.is_empty() {
            let source = register(vec![ColumnType::Integer; 2], pairs(gone.0, gone.1)?);
            let (file, row) = (column_name(0), column_name(1));
            sql += &format!(
                " ANTI JOIN {FUNCTION}({source}) AS gone
                     ON gone.{file} = f.{FILE} AND gone.{row} = f.{ROW}"
            );
        }
        sql += &format!(" WHERE f.{ROW} < ([{published}])[f.{FILE} + 1]");
        Ok(sql)
    }
}

/// Two columns of numbers.
fn pairs(first: Vec<i64>, second: Vec<i64>) -> Result<RecordBatch> {
    let field = |name| Field::new(name, DataType::Int64, false);
    let schema = Schema::new(vec![field("file"), field("row")]);
    let arrays = [first, second].map(|numbers| Arc::new(Int64Array::from(numbers)) as ArrayRef);
    RecordBatch::try_new(Arc::new(schema), arrays.to_vec())
        .map_err(|error| Error::Internal(format!("tombstones: {error}")))
}
