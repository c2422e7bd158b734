//! What generated columns are computed by: SQLite tells that a column is one, but its expression stands in
//! the CREATE TABLE statement only.
//!
//! A column that was dropped and added again, or whose table was built anew, can have the same name and
//! type and another expression. Cold rows have the values of the earlier one.

use std::collections::HashMap;

/// A part of a statement: a name or keyword, or anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Without its quotes.
    Name(String),
    /// A string as it is written, a number, or one character.
    Other(String),
}

/// The expressions of the generated columns that a CREATE TABLE statement declares, by the columns' names
/// in lower case.
pub fn expressions(create_table: &str) -> HashMap<String, String> {
    let tokens = tokens(create_table);
    let mut found = HashMap::new();
    // Of the present column: its name, the last word outside of parentheses, where its expression begins.
    let (mut name, mut word, mut begins): (Option<String>, _, _) = (None, String::new(), None);
    let mut depth = 0;
    for (token, start, end) in &tokens {
        match token {
            Token::Other(text) if text == "(" => {
                depth += 1;
                if depth == 2 && word.eq_ignore_ascii_case("AS") && begins.is_none() {
                    begins = Some(*end);
                }
            }
            Token::Other(text) if text == ")" => {
                depth -= 1;
                if let (1, Some(from), Some(column)) = (depth, begins, &name)
                    && let Some(expression) = create_table.get(from..*start)
                {
                    found
                        .entry(column.to_ascii_lowercase())
                        .or_insert_with(|| expression.trim().to_owned());
                }
            }
            Token::Other(text) if text == "," && depth == 1 => (name, begins) = (None, None),
            _ if depth == 1 && name.is_none() => name = Some(column_name(token)),
            _ => {}
        }
        if depth == 1 {
            // Only a keyword can be AS, and that has no quotes.
            word = create_table
                .get(*start..*end)
                .unwrap_or_default()
                .to_owned();
        }
    }
    found
}

/// The name that a column is declared by, which may be written as a string.
fn column_name(token: &Token) -> String {
    match token {
        Token::Name(name) => name.clone(),
        Token::Other(text) => match text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) {
            Some(name) => name.replace("''", "'"),
            None => text.clone(),
        },
    }
}

/// Whether two expressions are the same but for white space, comments, quotes of names, and names of columns
/// that `renamed` says have changed: the present name of what was called so, `Some(None)` if that is gone.
pub fn is_same(then: &str, now: &str, renamed: impl Fn(&str) -> Option<Option<String>>) -> bool {
    let (then, now) = (tokens(then), tokens(now));
    then.len() == now.len()
        && then
            .iter()
            .zip(&now)
            .all(|((then, ..), (now, ..))| match (then, now) {
                (Token::Name(then), Token::Name(now)) => match renamed(then) {
                    Some(Some(name)) => name.eq_ignore_ascii_case(now),
                    Some(None) => false,
                    None => then.eq_ignore_ascii_case(now),
                },
                (then, now) => then == now,
            })
}

/// A statement without the semicolons before it, which SQLite takes for a part of its text.
pub fn without_semicolons(sql: &str) -> &str {
    let mut rest = sql;
    while !rest.is_empty() {
        let (token, length) = next(rest);
        if token.is_some_and(|token| token != Token::Other(";".to_owned())) {
            break;
        }
        rest = rest.get(length.max(1)..).unwrap_or_default();
    }
    rest
}

/// The tokens of a statement, each with where it begins and ends.
fn tokens(sql: &str) -> Vec<(Token, usize, usize)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = sql.get(at..).filter(|rest| !rest.is_empty()) {
        let (token, length) = next(rest);
        let length = length.clamp(1, rest.len());
        tokens.extend(token.map(|token| (token, at, at + length)));
        at += length;
    }
    tokens
}

/// The token that `sql` begins with, if it is not white space or a comment, and its length in bytes.
fn next(sql: &str) -> (Option<Token>, usize) {
    let until = |end: &str, skip: usize| {
        let found = sql.get(skip..).and_then(|rest| rest.find(end));
        found.map_or(sql.len(), |found| skip + found + end.len())
    };
    let part = |from: usize, to: usize| sql.get(from..to).unwrap_or_default().to_owned();
    if sql.starts_with("--") {
        return (None, until("\n", 2));
    }
    if sql.starts_with("/*") {
        return (None, until("*/", 2));
    }
    let Some(first) = sql.chars().next() else {
        return (None, 0);
    };
    match first {
        '"' | '`' => {
            let (text, length) = quoted(sql, first);
            (Some(Token::Name(text)), length)
        }
        '\'' => {
            let (_, length) = quoted(sql, first);
            (Some(Token::Other(part(0, length))), length)
        }
        '[' => {
            let length = until("]", 1);
            let name = part(1, length).trim_end_matches(']').to_owned();
            (Some(Token::Name(name)), length)
        }
        _ if first.is_ascii_whitespace() => (None, 1),
        _ if is_word(first) => {
            let length = sql.find(|c| !is_word(c)).unwrap_or(sql.len());
            let word = part(0, length);
            match first.is_ascii_digit() {
                true => (Some(Token::Other(word)), length),
                false => (Some(Token::Name(word)), length),
            }
        }
        _ => (Some(Token::Other(first.to_string())), first.len_utf8()),
    }
}

/// Whether SQLite takes a character for a part of a name, a keyword or a number.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// What stands in quotes at the beginning of `sql`, and how long it is with them.
fn quoted(sql: &str, quote: char) -> (String, usize) {
    let mut text = String::new();
    let mut chars = sql.char_indices().skip(1).peekable();
    while let Some((index, c)) = chars.next() {
        if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return (text, index + 1);
        }
        text.push(c);
    }
    (text, sql.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_found() {
        let sql = "CREATE TABLE \"t (x)\" (id INTEGER PRIMARY KEY, -- AS (no)
            a TEXT DEFAULT (CAST('5' AS INT)) CHECK (a <> ') AS ('), \"b \"\"c\"\"\" AS (a || 'it''s, (') STORED,
            [d] INT GENERATED ALWAYS AS /* ( */ ( (a + 1) * 2 ), 'e' AS(\"as\"), CHECK (CAST(a AS INT) > 0))";
        let found = expressions(sql);
        let expected = [
            ("b \"c\"", "a || 'it''s, ('"),
            ("d", "(a + 1) * 2"),
            ("e", "\"as\""),
        ];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (name, expression) in expected {
            assert_eq!(found.get(name).map(String::as_str), Some(expression));
        }
        for odd in [
            "",
            "CREATE TABLE t (a AS (",
            "CREATE TABLE t(a AS (1)) STRICT",
            "(\"",
            "'",
            "[",
            "/*",
            ")))(",
        ] {
            expressions(odd);
        }
    }

    #[test]
    fn an_expression_is_the_same_with_other_names_of_columns() {
        let renamed = |name: &str| match name {
            "a" => Some(Some("z".to_owned())),
            "gone" => Some(None),
            _ => None,
        };
        for (then, now, same) in [
            ("a + 1", "\"z\"+1 -- one", true),
            ("upper(b)", "UPPER( [b] )", true),
            ("a + 1", "a + 1", false),
            ("b + 1", "b + 100", false),
            ("b || 'x'", "b || 'X'", false),
            ("gone", "gone", false),
            ("b", "b + 1", false),
        ] {
            assert_eq!(is_same(then, now, renamed), same, "{then} {now}");
        }
    }
}
