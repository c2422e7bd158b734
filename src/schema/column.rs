//! A column of a table: all that its values and comparisons depend on.

use std::borrow::Cow;

use serde_json::{Value as Json, json};

use crate::error::{Error, Result};
use crate::sql::quote;

/// The name of the column that carries the rowid of a table where no column does.
pub const ROWID_COLUMN: &str = "_archive_rowid";

/// How SQLite prefers to store and compare a column's values
/// (<https://www.sqlite.org/datatype3.html#determination_of_column_affinity>).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// INTEGER, REAL and NUMERIC, which compare alike.
    Numeric,
    Text,
    /// BLOB, and columns without a type.
    Blob,
}

impl Affinity {
    fn of(declared_type: &str) -> Self {
        let upper = declared_type.to_ascii_uppercase();
        let has = |part: &str| upper.contains(part);
        if has("INT") {
            Self::Numeric
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") || upper.is_empty() {
            Self::Blob
        } else {
            Self::Numeric
        }
    }
}

/// A column of a table, generated columns included.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// In the catalog it stays with the column through ALTER TABLE; 0 as SQLite describes it.
    pub id: u32,
    pub name: String,
    /// As declared; empty for none, and for ANY of a STRICT table, which has no affinity either.
    pub declared_type: String,
    pub collation: String,
    /// The SQL of its DEFAULT.
    pub default: Option<String>,
    /// The SQL of the expression that SQLite computes it by from others of the row, if it does.
    pub generated: Option<String>,
}

impl Column {
    /// The affinity that the declared type gives it.
    pub fn affinity(&self) -> Affinity {
        Affinity::of(&self.declared_type)
    }

    /// Whether its affinity is REAL, which turns an INTEGER into a REAL.
    pub fn stores_reals(&self) -> bool {
        let upper = self.declared_type.to_ascii_uppercase();
        self.affinity() == Affinity::Numeric
            && !upper.contains("INT")
            && ["REAL", "FLOA", "DOUB"]
                .iter()
                .any(|part| upper.contains(part))
    }

    /// Whether it is compared by a collation unless another is named.
    pub fn has_collation(&self, collation: &str) -> bool {
        self.collation.eq_ignore_ascii_case(collation)
    }

    /// Whether both have the same type and collation. Before SQLite 3.37 the type is as it was written, later
    /// ones show those they know in capitals, and leave GENERATED ALWAYS out.
    pub fn has_type_of(&self, other: &Self) -> bool {
        let declared =
            |column: &'_ Self| without_generated(&column.declared_type).to_ascii_lowercase();
        declared(self) == declared(other) && self.has_collation(&other.collation)
    }

    /// Its part of a CREATE TABLE statement: all that comparisons depend on. The type is in quotes, as in the
    /// table it may have been: without them it could be more than a type, such as NOT NULL.
    pub fn declaration(&self) -> String {
        let declared_type = match self.declared_type.as_str() {
            "" => String::new(),
            name => quote(&shown(name)),
        };
        let (name, collation) = (quote(&self.name), quote(&self.collation));
        format!("{name} {declared_type} COLLATE {collation}")
    }

    /// The column that files have beside those of a table whose rowid nobody chose.
    pub fn stored_rowid() -> Self {
        Self {
            id: 0,
            name: ROWID_COLUMN.to_owned(),
            declared_type: "INTEGER".to_owned(),
            collation: "BINARY".to_owned(),
            default: None,
            generated: None,
        }
    }

    fn to_json(&self) -> Json {
        json!({
            "id": self.id,
            "name": self.name,
            "type": self.declared_type,
            "collation": self.collation,
            "default": self.default,
            "generated": self.generated,
        })
    }

    fn from_json(json: &Json) -> Option<Self> {
        let text = |key: &str| json.get(key)?.as_str().map(str::to_owned);
        Some(Self {
            id: json.get("id")?.as_u64()?.try_into().ok()?,
            name: text("name")?,
            declared_type: text("type")?,
            collation: text("collation")?,
            default: text("default"),
            generated: text("generated"),
        })
    }
}

/// The columns as the catalog keeps them, so that cold rows stay readable without the hot table.
pub fn columns_to_json(columns: &[Column]) -> String {
    Json::Array(columns.iter().map(Column::to_json).collect()).to_string()
}

/// The reverse of [`columns_to_json`].
pub fn columns_from_json(text: &str) -> Result<Vec<Column>> {
    serde_json::from_str::<Json>(text)
        .ok()
        .and_then(|json| json.as_array()?.iter().map(Column::from_json).collect())
        .ok_or_else(|| Error::refused("the catalog's list of columns is damaged"))
}

/// A type with which no column of a virtual table is hidden: SQLite takes the word HIDDEN, between spaces, for
/// more than a part of the type.
fn shown(declared_type: &str) -> Cow<'_, str> {
    let hides = |word: &str| word.eq_ignore_ascii_case("hidden");
    match declared_type.split(' ').any(hides) {
        true => Cow::Owned(format!("\t{}", declared_type.replace(' ', "\t"))),
        false => Cow::Borrowed(declared_type),
    }
}

/// A type without the words that SQLite takes for a part of it in some versions, and in others not.
fn without_generated(declared_type: &str) -> &str {
    let suffix = "GENERATED ALWAYS";
    let cut = declared_type.len().saturating_sub(suffix.len());
    match declared_type.get(cut..) {
        Some(end) if end.eq_ignore_ascii_case(suffix) => declared_type[..cut].trim_end(),
        _ => declared_type,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_follows_the_documented_rules() {
        for (declared, affinity) in [
            ("INTEGER", Affinity::Numeric),
            ("CHARINT", Affinity::Numeric),
            ("VARCHAR(10)", Affinity::Text),
            ("NCLOB", Affinity::Text),
            ("BLOB", Affinity::Blob),
            ("", Affinity::Blob),
            ("DOUBLE", Affinity::Numeric),
            ("DECIMAL(10,5)", Affinity::Numeric),
            ("DATETIME", Affinity::Numeric),
        ] {
            assert_eq!(Affinity::of(declared), affinity, "{declared}");
        }
    }

    #[test]
    fn types_are_the_same_whatever_the_version_shows() {
        let column = |declared_type: &str| Column {
            declared_type: declared_type.to_owned(),
            ..Column::stored_rowid()
        };
        for (one, other, same) in [
            ("integer", "INTEGER", true),
            ("INT GENERATED ALWAYS", "INT", true),
            ("GENERATED ALWAYS", "", true),
            ("TEXT", "INT", false),
        ] {
            assert_eq!(
                column(one).has_type_of(&column(other)),
                same,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn columns_survive_the_catalog() {
        let columns = vec![Column {
            id: 3,
            name: "a \"b\"".into(),
            declared_type: "TEXT".into(),
            collation: "NOCASE".into(),
            default: Some("'x'".into()),
            generated: Some("b + 1".into()),
        }];
        assert_eq!(
            columns_from_json(&columns_to_json(&columns)).unwrap(),
            columns
        );
        assert!(columns_from_json("{}").is_err());
    }
}
