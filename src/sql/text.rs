//! Names and values in SQL.

/// `name` as an SQL identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as an SQL string literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Reads a table name as SQL would: it may be quoted with `""`, `[]` or ` `` `; anything else is
/// the name itself, so a name with spaces needs no quotes.
pub fn unquote(name: &str) -> String {
    let inner = |open: char, close: char| {
        let inner = name.strip_prefix(open)?.strip_suffix(close)?;
        let doubled = format!("{close}{close}");
        Some(match open {
            '[' => inner.to_owned(),
            _ => inner.replace(&doubled, &close.to_string()),
        })
    };
    inner('"', '"')
        .or_else(|| inner('`', '`'))
        .or_else(|| inner('[', ']'))
        .unwrap_or_else(|| name.to_owned())
}

/// SQL of this library without its comments, which a host may have switched off
/// (`SQLITE_DBCONFIG_ENABLE_COMMENTS`). None of its strings and names has `--` in it.
pub fn without_comments(sql: &str) -> String {
    let mut plain = String::with_capacity(sql.len());
    for line in sql.lines() {
        let code = line.split("--").next().unwrap_or_default().trim_end();
        if !code.is_empty() {
            plain += code;
            plain.push('\n');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_is_the_same_without_its_comments() {
        let sql = "-- first\nSELECT 1, -- a number\n\n       2 - -3;\n-- last";
        assert_eq!(without_comments(sql), "SELECT 1,\n       2 - -3;\n");
        let schema = without_comments(include_str!("../../sql/schema.sql"));
        assert!(!schema.contains("--") && !schema.contains("/*"));
    }

    #[test]
    fn names_are_quoted_and_unquoted() {
        for name in ["t", "with space", "quo\"te", "[x", "`", "ключ"] {
            assert_eq!(unquote(&quote(name)), name);
        }
        assert_eq!(unquote("[a b]"), "a b");
        assert_eq!(unquote("`a``b`"), "a`b");
        assert_eq!(unquote("plain name"), "plain name");
        assert_eq!(unquote("\""), "\"");
    }
}
