//! What a caller's SQL names, by DuckDB's own parser; and that it is one SELECT that only reads tables.

use std::collections::{HashMap, HashSet};

use duckdb::Connection;

use super::dialect::duckdb_error;
use crate::error::{Error, Result};
use crate::sql::quote;

/// The table functions that a query may use: they read nothing but their arguments, or DuckDB's own
/// lists. What reads files, changes settings or takes SQL as text is not among them.
const TABLE_FUNCTIONS: [&str; 20] = [
    "duckdb_columns",
    "duckdb_constraints",
    "duckdb_functions",
    "duckdb_keywords",
    "duckdb_memory",
    "duckdb_optimizers",
    "duckdb_schemas",
    "duckdb_settings",
    "duckdb_tables",
    "duckdb_temporary_files",
    "duckdb_types",
    "duckdb_views",
    "generate_series",
    "json_each",
    "json_tree",
    "query_table",
    "range",
    "repeat",
    "repeat_row",
    "unnest",
];

/// The table function whose arguments are names of tables.
const QUERY_TABLE: &str = "query_table";

/// The most brackets that may be open at once. DuckDB goes down into what they enclose on the stack.
const MAX_DEPTH: usize = 500;
/// The longest text, in bytes.
const MAX_BYTES: usize = 1_000_000;

/// The names in a query.
#[derive(Debug, Default)]
pub struct Mentioned {
    /// What it reads from: tables, views and its own CTEs.
    pub tables: HashSet<String>,
    /// Names that it gives to queries of its own (WITH), in lower case.
    pub own: HashSet<String>,
    /// Every other name that it could mean a column by, in lower case.
    names: HashSet<String>,
    /// It may mean any column of a table without naming it.
    all: bool,
    /// Names of its own do not reach all that it reads: it says in which schema a table is, or hands the
    /// name of one to a function.
    pub needs_views: bool,
}

impl Mentioned {
    /// Whether the query may need the values of a column.
    pub fn column(&self, name: &str) -> bool {
        self.all || self.names.contains(&name.to_ascii_lowercase())
    }

    /// Reads the SQL of a query, which is checked.
    pub fn parse(connection: &Connection, sql: &str) -> Result<Self> {
        check_size(sql)?;
        let nodes = parse(connection, sql)?;
        let tree = Tree::new(&nodes);
        if let Some(message) = tree.text(0, "error_message") {
            return Err(match message {
                // DuckDB's words are on its function, not on ours.
                "Only SELECT statements can be serialized to json!" => only_select(),
                message => Error::refused(message),
            });
        }
        if tree.children(0, "statements") != 1 {
            return Err(only_select());
        }
        tree.mentioned()
    }
}

/// A query without the semicolons and comments at its end.
pub fn trimmed(sql: &str) -> &str {
    let mut rest = sql;
    let mut end = 0;
    while let Some(c) = rest.chars().next() {
        let (length, counts) = match c {
            '\'' | '"' => (1 + past(&rest[1..], &c.to_string()), true),
            '$' => match dollar_quote(rest) {
                Some(tag) => (tag.len() + past(&rest[tag.len()..], tag), true),
                None => (1, true),
            },
            '-' if rest.starts_with("--") => (past(rest, "\n"), false),
            '/' if rest.starts_with("/*") => (block_comment(rest), false),
            ';' => (1, false),
            c => (c.len_utf8(), !c.is_whitespace()),
        };
        rest = &rest[length..];
        if counts {
            end = sql.len() - rest.len();
        }
    }
    &sql[..end]
}

/// Where the first `mark` ends; the end of the text if there is none.
fn past(text: &str, mark: &str) -> usize {
    text.find(mark)
        .map_or(text.len(), |start| start + mark.len())
}

/// `$$` or `$tag$`, which begins a text that the same ends.
fn dollar_quote(text: &str) -> Option<&str> {
    let length = text[1..].find('$')? + 2;
    let tag = &text[1..length - 1];
    let name = tag.chars().all(|c| c.is_alphanumeric() || c == '_');
    (name && !tag.starts_with(|c: char| c.is_ascii_digit())).then(|| &text[..length])
}

/// The length of a comment that text begins with, and of those within it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut place = 0;
    while let Some(rest) = text.get(place..).filter(|rest| !rest.is_empty()) {
        let ends = rest.starts_with("*/");
        match rest.starts_with("/*") {
            true => depth += 1,
            false if ends => depth -= 1,
            false => {
                place += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            }
        }
        place += 2;
        if depth == 0 {
            break;
        }
    }
    place
}

fn only_select() -> Error {
    Error::refused("only one SELECT is run, and nothing else")
}

fn check_size(sql: &str) -> Result<()> {
    if sql.len() > MAX_BYTES {
        return Err(Error::refused(format!(
            "the query is longer than {MAX_BYTES} bytes"
        )));
    }
    if sql.contains('\0') {
        return Err(Error::refused("the query contains a NUL character"));
    }
    let mut depth = 0_usize;
    for byte in sql.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(Error::refused(format!(
                "more than {MAX_DEPTH} brackets of the query are open at once"
            )));
        }
    }
    Ok(())
}

/// A value in the query's syntax tree, which is JSON.
struct Node {
    id: u64,
    parent: Option<u64>,
    /// `None` for an element of an array.
    key: Option<String>,
    /// The text, if it is one; `true` or `false`.
    text: Option<String>,
}

/// The syntax tree, node by node: a tree in JSON could be deeper than a parser of ours wants to go.
fn parse(connection: &Connection, sql: &str) -> Result<Vec<Node>> {
    let tree =
        "SELECT id, parent, key, CASE WHEN type IN ('VARCHAR', 'BOOLEAN') THEN atom->>'$' END
                FROM json_tree(json_serialize_sql(?))";
    let mut statement = connection.prepare(tree).map_err(duckdb_error)?;
    let rows = statement.query_map([sql], |row| {
        Ok(Node {
            id: row.get(0)?,
            parent: row.get(1)?,
            key: row.get(2)?,
            text: row.get(3)?,
        })
    });
    let nodes = rows.map_err(duckdb_error)?.collect::<Result<_, _>>();
    nodes.map_err(duckdb_error)
}

/// The tree with a way down.
struct Tree<'a> {
    nodes: &'a [Node],
    children: HashMap<u64, Vec<&'a Node>>,
}

impl<'a> Tree<'a> {
    fn new(nodes: &'a [Node]) -> Self {
        let mut children: HashMap<u64, Vec<&Node>> = HashMap::new();
        for node in nodes {
            if let Some(parent) = node.parent {
                children.entry(parent).or_default().push(node);
            }
        }
        Self { nodes, children }
    }

    fn below(&self, parent: u64) -> &[&'a Node] {
        self.children.get(&parent).map_or(&[], Vec::as_slice)
    }

    fn child(&self, parent: u64, key: &str) -> Option<&'a Node> {
        let has = |node: &&&Node| node.key.as_deref() == Some(key);
        self.below(parent).iter().find(has).copied()
    }

    fn text(&self, parent: u64, key: &str) -> Option<&'a str> {
        self.child(parent, key)?.text.as_deref()
    }

    fn children(&self, parent: u64, key: &str) -> usize {
        self.child(parent, key)
            .map_or(0, |node| self.below(node.id).len())
    }

    /// The names in a map of the tree, in lower case.
    fn keys(&self, node: u64) -> Vec<String> {
        let entries = self
            .child(node, "map")
            .map_or(&[][..], |map| self.below(map.id));
        let names = entries
            .iter()
            .filter_map(|entry| self.text(entry.id, "key"));
        names.map(str::to_ascii_lowercase).collect()
    }

    /// All texts below a node.
    fn texts(&self, node: u64) -> Vec<&'a str> {
        let (mut open, mut found) = (vec![node], Vec::new());
        while let Some(node) = open.pop() {
            for child in self.below(node) {
                found.extend(child.text.as_deref());
                open.push(child.id);
            }
        }
        found
    }

    fn mentioned(&self) -> Result<Mentioned> {
        let mut mentioned = Mentioned::default();
        // A name that stands alone can be a whole row, if a table is called that.
        let mut alone: HashSet<String> = HashSet::new();
        let mut rows: HashSet<String> = HashSet::new();
        for node in self.nodes {
            if let Some(text) = &node.text {
                mentioned.names.insert(text.to_ascii_lowercase());
            }
            let (kind, class) = (self.text(node.id, "type"), self.text(node.id, "class"));
            if let Some(table) = self.text(node.id, "table_name") {
                rows.insert(table.to_ascii_lowercase());
                if kind == Some("BASE_TABLE") {
                    mentioned.tables.insert(table.to_owned());
                    let schema = self.text(node.id, "schema_name");
                    mentioned.needs_views |= schema.is_some_and(|schema| !schema.is_empty());
                }
            }
            // An expression has an alias, too, and a class.
            if let (Some(alias), None) = (self.text(node.id, "alias"), class) {
                rows.insert(alias.to_ascii_lowercase());
            }
            if node.key.as_deref() == Some("cte_map") {
                mentioned.own.extend(self.keys(node.id));
            }
            match class {
                Some("STAR" | "POSITIONAL_REFERENCE") => mentioned.all = true,
                Some("COLUMN_REF") => {
                    let names = self.child(node.id, "column_names");
                    if let [name] = names.map_or(&[][..], |names| self.below(names.id)) {
                        alone.extend(name.text.as_deref().map(str::to_ascii_lowercase));
                    }
                }
                Some("FUNCTION") => self.check_function(node.id)?,
                _ => {}
            }
            mentioned.needs_views |= kind == Some("SHOW_REF");
            mentioned.all |= kind == Some("PIVOT")
                || self.text(node.id, "ref_type") == Some("NATURAL")
                || self.children(node.id, "column_name_alias") > 0;
            if kind == Some("TABLE_FUNCTION") {
                let tables = self.table_function(node.id)?;
                mentioned.needs_views |= !tables.is_empty();
                mentioned.tables.extend(tables);
            }
        }
        mentioned.all |= !alone.is_disjoint(&rows);
        Ok(mentioned)
    }

    /// Refuses the call of an operator as if it were a function: DuckDB does not check the arguments of
    /// all of them then, and crashes.
    fn check_function(&self, node: u64) -> Result<()> {
        let name = self.text(node, "function_name").unwrap_or_default();
        let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        match plain || self.text(node, "is_operator") == Some("true") {
            true => Ok(()),
            false => Err(Error::refused(format!(
                "there is no function {}",
                quote(name)
            ))),
        }
    }

    /// Refuses a table function that could read or change what it should not. Returns the tables that
    /// it may mean.
    fn table_function(&self, node: u64) -> Result<Vec<String>> {
        let function = self.child(node, "function").map_or(node, |node| node.id);
        let name = self.text(function, "function_name").unwrap_or_default();
        if !TABLE_FUNCTIONS.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(Error::refused(format!(
                "the table function {name} is not available: a query reads the tables of this \
                 database, and nothing else"
            )));
        }
        let tables = match name.eq_ignore_ascii_case(QUERY_TABLE) {
            true => self.texts(function),
            false => Vec::new(),
        };
        Ok(tables.into_iter().map(str::to_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_query_is_not_a_part_of_it() {
        for (sql, query) in [
            ("SELECT 1", "SELECT 1"),
            (" SELECT 1 ; ;\n", " SELECT 1"),
            ("SELECT 1; -- done; 'x", "SELECT 1"),
            ("SELECT 1 /* a /* b */ ; */ ;", "SELECT 1"),
            ("SELECT 1 /* open", "SELECT 1"),
            ("SELECT ';--' ;", "SELECT ';--'"),
            ("SELECT 'it''s; ' -- x\n, 2;", "SELECT 'it''s; ' -- x\n, 2"),
            ("SELECT \"a;--\"; ", "SELECT \"a;--\""),
            ("SELECT $$;--$$ ;", "SELECT $$;--$$"),
            ("SELECT $é$;--$é$ ; --", "SELECT $é$;--$é$"),
            ("SELECT $1, $2;", "SELECT $1, $2"),
            ("SELECT 1; SELECT 2;", "SELECT 1; SELECT 2"),
            ("SELECT 'ü", "SELECT 'ü"),
            (";--", ""),
            ("", ""),
        ] {
            assert_eq!(trimmed(sql), query, "{sql}");
        }
    }
}
