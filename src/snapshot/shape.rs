//! What `cold_t` of an archived table looks like.

use rusqlite::Connection;

use super::columns::{Mode, Shape};
use crate::catalog::identity::Present;
use crate::catalog::places::Places;
use crate::catalog::tables::ArchivedTable;
use crate::error::Result;
use crate::schema::Column;
use crate::sql;
use crate::value::Encoding;

/// The columns that `cold_t` and `all_t` have: the hot table's or, if that is gone, those that it had
/// when it was last looked at.
pub fn visible_columns(archived: &ArchivedTable, hot: Option<&Present>) -> Vec<Column> {
    let columns = hot.map_or(&archived.columns, |hot| &hot.columns);
    columns.clone()
}

/// What `cold_t` of an archived table looks like.
pub fn shape(connection: &Connection, archived: &ArchivedTable, mode: Mode) -> Result<Shape> {
    let hot = match mode {
        Mode::Joined => Places::read(connection)?.present(connection, archived)?,
        Mode::Alone | Mode::Detached => None,
    };
    Ok(shape_with(
        archived,
        hot.as_ref(),
        mode,
        sql::encoding(connection)?,
    ))
}

/// [`shape`], with what is known of the hot table.
pub fn shape_with(
    archived: &ArchivedTable,
    hot: Option<&Present>,
    mode: Mode,
    encoding: Encoding,
) -> Shape {
    let name = hot.map_or(&archived.name, |hot| &hot.name).clone();
    let key = hot.map(|hot| hot.key.clone());
    let columns = visible_columns(archived, hot);
    Shape::new(archived.id, name, mode, columns, key, encoding)
}
