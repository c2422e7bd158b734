//! Where the table's columns are in a cold file that is being published, which may have been written
//! before an ALTER TABLE.

use std::collections::BTreeMap;

use crate::catalog::tables::ArchivedTable;
use crate::schema::{Column, Key, ROWID_COLUMN, Table};

/// The place of what publishing needs.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The columns that identify a row; empty if they are not all there.
    pub key: Vec<usize>,
    pub time: Option<usize>,
    /// Whether the table still has the columns that the file was written with, and no others.
    pub comparable: bool,
}

impl Layout {
    /// Of files with the columns `stored`. `archived` has the numbers of the table's columns.
    fn new(table: &Table, archived: &ArchivedTable, time_column: usize, stored: &[Column]) -> Self {
        let find = |column: &usize| {
            let id = archived.columns.get(*column)?.id;
            stored.iter().position(|stored| stored.id == id)
        };
        let rowid = stored.iter().position(|column| column.name == ROWID_COLUMN);
        let key: Option<Vec<usize>> = match &table.key {
            Key::Rowid { alias: None, .. } => rowid.map(|rowid| vec![rowid]),
            Key::Rowid {
                alias: Some(column),
                ..
            } => find(column).map(|column| vec![column]),
            Key::Primary(columns) => columns.iter().map(|(column, _)| find(column)).collect(),
        };
        let numbers = archived.columns.iter().map(|column| column.id);
        let stored_numbers = stored.iter().filter(|column| column.name != ROWID_COLUMN);
        Self {
            comparable: key.is_some() && numbers.eq(stored_numbers.map(|column| column.id)),
            time: find(&time_column),
            key: key.unwrap_or_default(),
        }
    }
}

/// The layout for each list of columns in the catalog, by its id.
pub struct Layouts(BTreeMap<i64, Layout>);

impl Layouts {
    pub fn new(
        table: &Table,
        archived: &ArchivedTable,
        time_column: usize,
        schemas: &BTreeMap<i64, Vec<Column>>,
    ) -> Self {
        let layout = |(id, stored): (&i64, &Vec<Column>)| {
            (*id, Layout::new(table, archived, time_column, stored))
        };
        Self(schemas.iter().map(layout).collect())
    }

    /// The layout of files with this list of columns.
    pub fn get(&self, schema: i64) -> Option<&Layout> {
        self.0.get(&schema)
    }
}
