//! Which column is which after ALTER TABLE.
//!
//! SQLite keeps no identity of a column, so the catalog numbers them. Which number a column of the
//! table has is told from the names and positions when the table was last looked at: RENAME COLUMN
//! keeps the position, ADD COLUMN appends, DROP COLUMN keeps the order of the others. Where names and
//! positions contradict each other, an error is better than the values of another column.

use std::collections::HashMap;

use serde_json::{Map, json};

use crate::error::{Error, Result};
use crate::schema::Column;
use crate::schema::generated::is_same;
use crate::sql::literal;

/// For each of the table's columns `now`, the number that it has among those `known` to the catalog;
/// `None` if it is new.
pub fn follow(table: &str, known: &[Column], now: &[Column]) -> Result<Vec<Option<u32>>> {
    let matched = match_columns(table, known, now)?.into_iter();
    let ids = matched.map(|position| Some(known.get(position?)?.id));
    let mut ids: Vec<_> = ids.collect();
    // ALTER TABLE makes no other column of a generated one.
    for (column, id) in now.iter().zip(&mut ids) {
        let is_generated = |known: &&Column| Some(known.id) == *id && known.generated.is_some();
        if column.generated.is_none() && known.iter().any(|known| is_generated(&known)) {
            *id = None;
        }
    }
    forget_others(known, now, &mut ids);
    Ok(ids)
}

/// Takes the numbers from generated columns that are computed in another way than those that had them: by
/// another expression, or from columns that are not the same any more.
fn forget_others(known: &[Column], now: &[Column], ids: &mut [Option<u32>]) {
    let mut changed = true;
    while changed {
        let numbered = |id: u32| {
            let position = ids.iter().position(|present| *present == Some(id));
            position.and_then(|position| now.get(position))
        };
        // The present name of what a column was called, if it still is what it was.
        let renamed = |name: &str| {
            let mut columns = known.iter();
            let old = columns.find(|column| column.name.eq_ignore_ascii_case(name))?;
            let same = numbered(old.id).filter(|new| old.has_type_of(new));
            Some(same.map(|new| new.name.clone()))
        };
        let is_other = |(column, id): (&Column, &Option<u32>)| {
            let Some(expression) = &column.generated else {
                return false;
            };
            let mut columns = known.iter();
            let old = columns.find(|known| Some(known.id) == *id);
            let then = old.and_then(|old| old.generated.as_ref());
            id.is_some() && !then.is_some_and(|then| is_same(then, expression, renamed))
        };
        let others: Vec<bool> = now.iter().zip(&*ids).map(is_other).collect();
        changed = others.contains(&true);
        for (id, _) in ids.iter_mut().zip(others).filter(|(_, other)| *other) {
            *id = None;
        }
    }
}

/// The columns `now` with their numbers; those that are new get numbers from `next` on.
pub fn number(now: &[Column], ids: &[Option<u32>], mut next: u32) -> Vec<Column> {
    let numbered = now.iter().zip(ids).map(|(column, id)| {
        let id = id.unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        Column {
            id,
            ..column.clone()
        }
    });
    numbered.collect()
}

/// [`follow`], with what the owner says of columns that are not there any more: the present name of
/// each, or `None` if it was dropped. The others go by their names. `call` is how the call begins that
/// tells.
pub fn follow_as_told(
    table: &str,
    known: &[Column],
    now: &[Column],
    told: &HashMap<String, Option<String>>,
    call: &str,
) -> Result<Vec<Option<u32>>> {
    let named = |columns: &[Column], name: &str| {
        let mut columns = columns.iter();
        columns.any(|column| column.name.eq_ignore_ascii_case(name))
    };
    for (old, new) in told {
        if !named(known, old) {
            return Err(Error::refused(format!("{table} had no column {old}")));
        }
        if let Some(new) = new
            && !named(now, new)
        {
            return Err(Error::refused(format!("{table} has no column {new}")));
        }
    }
    let mut ids: Vec<Option<u32>> = vec![None; now.len()];
    let mut unknown = Vec::new();
    for column in known {
        let said = told
            .iter()
            .find(|(old, _)| old.eq_ignore_ascii_case(&column.name));
        let name = match said {
            Some((_, None)) => continue,
            Some((_, Some(new))) => new,
            None => &column.name,
        };
        let mut names = now.iter().zip(&mut ids);
        match names.find(|(present, _)| present.name.eq_ignore_ascii_case(name)) {
            Some((_, id @ None)) => *id = Some(column.id),
            Some(_) => {
                return Err(Error::refused(format!(
                    "two columns of {table} cannot both be {name}"
                )));
            }
            None => unknown.push(column.name.as_str()),
        }
    }
    if !unknown.is_empty() {
        return Err(ask(table, &unknown, call));
    }
    forget_others(known, now, &mut ids);
    Ok(ids)
}

/// The error for columns of which nothing is known any more.
fn ask(table: &str, columns: &[&str], call: &str) -> Error {
    let answers = columns
        .iter()
        .map(|name| ((*name).to_owned(), json!("...")));
    let options = json!({"columns": answers.collect::<Map<_, _>>()}).to_string();
    Error::refused(format!(
        "it is not certain what became of the columns {} of {table}; say it with {call}, {}): the present \
         name of each, or null if it was dropped",
        columns.join(", "),
        literal(&options),
    ))
}

/// For each of the table's columns `now`, its position among the columns `then` that a file was
/// written with; `None` if it was added later.
fn match_columns(table: &str, then: &[Column], now: &[Column]) -> Result<Vec<Option<usize>>> {
    let position = |columns: &[Column], name: &str| {
        columns
            .iter()
            .position(|column| column.name.eq_ignore_ascii_case(name))
    };
    let alike = |old: &Column, new: &Column| old.has_type_of(new) && old.default == new.default;
    let last = then.len().saturating_sub(1);
    // The same names in the same places, and perhaps others added. ALTER TABLE changes neither a column's
    // type nor its collation. A last column that differs in anything else was dropped and added again.
    let unchanged = |(index, old): (usize, &Column)| {
        position(now, &old.name) == Some(index)
            && now.get(index).is_some_and(|new| match index < last {
                true => old.has_type_of(new),
                false => alike(old, new),
            })
    };
    // A column in the midst can only have been renamed; the last one could have been dropped, and
    // another added, so it must be there.
    let renamed = |(index, old): (usize, &Column)| match position(now, &old.name) {
        Some(_) => unchanged((index, old)),
        None => {
            index < last
                && now
                    .get(index)
                    .is_some_and(|new| position(then, &new.name).is_none() && alike(old, new))
        }
    };
    if then.iter().enumerate().all(renamed) {
        let known = |index| (index < then.len()).then_some(index);
        return Ok((0..now.len()).map(known).collect());
    }
    // Columns were dropped: the others keep their order.
    let is_left = |column: &&Column| position(now, &column.name).is_some();
    let left = then.iter().filter(is_left);
    let same = |(old, new): (&Column, &Column)| old.name == new.name && old.has_type_of(new);
    if now.len() < then.len() && left.clone().count() == now.len() && left.zip(now).all(same) {
        return Ok(now
            .iter()
            .map(|column| position(then, &column.name))
            .collect());
    }
    let names = |columns: &[Column]| {
        columns
            .iter()
            .map(|column| column.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    Err(Error::refused(format!(
        "the columns of {table} have changed since its cold rows were archived (then: {}; now: {}) \
         so that it is not certain which is which; rename them back, or say so with archive_adopt: see the README",
        names(then),
        names(now)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(names: &str) -> Vec<Column> {
        let column = |name: &str| Column {
            id: 0,
            name: name.to_owned(),
            declared_type: "TEXT".to_owned(),
            collation: "BINARY".to_owned(),
            default: None,
            generated: None,
        };
        names.split(' ').map(column).collect()
    }

    fn matched(then: &str, now: &str) -> Option<Vec<Option<usize>>> {
        match_columns("t", &columns(then), &columns(now)).ok()
    }

    #[test]
    fn added_columns_are_new() {
        assert_eq!(matched("a b", "a b"), Some(vec![Some(0), Some(1)]));
        assert_eq!(matched("a b", "a B c"), Some(vec![Some(0), Some(1), None]));
    }

    #[test]
    fn renamed_columns_keep_their_place() {
        assert_eq!(
            matched("a b c", "a x c"),
            Some(vec![Some(0), Some(1), Some(2)])
        );
        assert_eq!(
            matched("a b c", "x y c d"),
            Some(vec![Some(0), Some(1), Some(2), None])
        );
    }

    #[test]
    fn dropped_columns_leave_the_others() {
        assert_eq!(matched("a b c", "a c"), Some(vec![Some(0), Some(2)]));
        assert_eq!(matched("a b c", "a b"), Some(vec![Some(0), Some(1)]));
    }

    #[test]
    fn the_case_of_a_type_is_that_of_the_version_of_sqlite() {
        let mut now = columns("a b");
        for column in &mut now {
            column.declared_type = "text".to_owned();
            column.collation = "binary".to_owned();
        }
        let all = vec![Some(0), Some(1)];
        assert_eq!(match_columns("t", &columns("a b"), &now).ok(), Some(all));
    }

    #[test]
    fn contradictions_are_an_error() {
        // `b` was renamed to `x`, and a new `b` was added.
        assert_eq!(matched("a b", "a x b"), None);
        // `b` was dropped and `c` was renamed, or the other way round.
        assert_eq!(matched("a b c d", "a x d"), None);
        // `b` was renamed to `x`, or dropped and `x` added.
        assert_eq!(matched("a b", "a x"), None);
        // The names were swapped, or `a` dropped and added again.
        assert_eq!(matched("a b", "b a"), None);
        // `b` was dropped and added again with another type, `a` was dropped and `b` renamed to it, and so on.
        for (then, now, other) in [
            ("a b", "a b", 1),
            ("a b c", "a c", 0),
            ("a b c", "a b c", 1),
        ] {
            let mut now = columns(now);
            now[other].declared_type = "INTEGER".to_owned();
            assert!(match_columns("t", &columns(then), &now).is_err());
        }
    }
}
