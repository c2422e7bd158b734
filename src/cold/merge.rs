//! Rows in the order of an ORDER BY, from files whose ranges overlap: each file is opened when the
//! first of its rows could be next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::group::{Context, Group, ScanFile};
use crate::error::Result;
use crate::format::range::Range;
use crate::snapshot::order::{Order, high, low};
use crate::time::canonical::MAX_LENGTH;
use crate::value::{OwnedKey, Value};

/// A file of an ordered scan.
#[derive(Clone)]
pub struct OrderedFile {
    pub file: Arc<ScanFile>,
    /// What is known of its values in each column of the order.
    pub ranges: Vec<Arc<Range>>,
}

impl OrderedFile {
    /// Whether its rows are in the order, or in its reverse, as they stand in the file.
    pub fn is_sorted(&self) -> bool {
        self.ranges.iter().all(|range| range.ascending)
    }

    /// The value that the first of its rows may have in an order.
    fn first(&self, descending: bool) -> Option<Value<'_>> {
        let range = self.ranges.first()?;
        if descending { high(range) } else { low(range) }
    }
}

fn order_of(a: &OwnedKey, b: &OwnedKey) -> Ordering {
    Value::from(a).order(Value::from(b))
}

/// A merge of files.
pub struct Merge {
    context: Arc<Context>,
    order: Order,
    waiting: BinaryHeap<Source>,
    current: Option<Source>,
}

/// A file in a merge.
struct Source {
    /// Its next row's values of the order's columns; as long as it is not open, the first value that
    /// is possible, or nothing.
    key: Vec<OwnedKey>,
    descending: bool,
    state: State,
}

enum State {
    Closed(OrderedFile),
    Open(Cursor),
}

/// A file's rows in order.
enum Cursor {
    Sorted {
        file: Arc<ScanFile>,
        group: Group,
        number: usize,
        position: usize,
    },
    /// The file is sorted otherwise: all of its rows, in order.
    Shuffled {
        groups: Vec<Group>,
        rows: Vec<(u32, u32)>,
        position: usize,
    },
}

impl Source {
    /// Which source comes first. On equal terms a closed file does: its first row may be less.
    fn compare(&self, other: &Self) -> Ordering {
        let pairs = self.key.iter().zip(&other.key);
        let order = pairs
            .map(|(a, b)| order_of(a, b))
            .find(|order| order.is_ne());
        let order = order.map(|order| {
            if self.descending {
                order.reverse()
            } else {
                order
            }
        });
        let is_open = |source: &Self| matches!(source.state, State::Open(_));
        let unknown = || other.key.is_empty().cmp(&self.key.is_empty());
        order.unwrap_or_else(|| unknown().then(is_open(self).cmp(&is_open(other))))
    }
}

impl Ord for Source {
    /// The heap gives out the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.compare(self)
    }
}

impl PartialOrd for Source {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Source {}

impl Merge {
    /// Merges files, and goes to the first row.
    pub fn new(context: Arc<Context>, order: Order, files: Vec<OrderedFile>) -> Result<Self> {
        let descending = order.descending;
        let source = |file: OrderedFile| Source {
            key: file
                .first(descending)
                .map(OwnedKey::from)
                .into_iter()
                .collect(),
            descending,
            state: State::Closed(file),
        };
        let mut merge = Self {
            waiting: files.into_iter().map(source).collect(),
            current: None,
            context,
            order,
        };
        merge.settle()?;
        Ok(merge)
    }

    /// Takes the source whose row is next, opening files as far as that is needed to know.
    fn settle(&mut self) -> Result<()> {
        while let Some(mut source) = self.waiting.pop() {
            let cursor = match source.state {
                State::Open(_) => {
                    self.current = Some(source);
                    return Ok(());
                }
                State::Closed(file) => Cursor::open(&self.context, file, &self.order)?,
            };
            if let Some(mut cursor) = cursor {
                source.key = cursor.key(&self.order)?;
                source.state = State::Open(cursor);
                self.waiting.push(source);
            }
        }
        Ok(())
    }

    /// Whether there is a current row.
    pub fn has_row(&self) -> bool {
        self.current.is_some()
    }

    /// The current row, if there is one.
    pub fn row(&mut self) -> Option<(&mut Group, usize)> {
        match &mut self.current.as_mut()?.state {
            State::Open(cursor) => cursor.row(),
            State::Closed(_) => None,
        }
    }

    /// Moves to the next row.
    pub fn advance(&mut self) -> Result<()> {
        let Some(mut source) = self.current.take() else {
            return Ok(());
        };
        if let State::Open(cursor) = &mut source.state
            && cursor.advance(&self.context)?
        {
            source.key = cursor.key(&self.order)?;
            if self
                .waiting
                .peek()
                .is_none_or(|next| source.compare(next).is_lt())
            {
                self.current = Some(source);
                return Ok(());
            }
            self.waiting.push(source);
        }
        self.settle()
    }
}

impl Cursor {
    /// Opens a file and goes to its first row; `None` if it has none.
    fn open(context: &Arc<Context>, ordered: OrderedFile, order: &Order) -> Result<Option<Self>> {
        let sorted = ordered.is_sorted();
        let file = ordered.file;
        let count = file.open(context)?.row_groups();
        if sorted {
            let number = if order.descending { count - 1 } else { 0 };
            let group = Group::prepare(context, &file, number, order.descending)?;
            let mut cursor = Self::Sorted {
                file,
                group,
                number,
                position: 0,
            };
            return Ok(cursor.settle(context)?.then_some(cursor));
        }
        let mut groups = Vec::new();
        let mut keyed = Vec::new();
        for number in 0..count {
            let mut group = Group::prepare(context, &file, number, false)?;
            for position in 0..group.selection.len() {
                let key = key(&mut group, position, order)?;
                let (number, row) = (u32::try_from(number), u32::try_from(position));
                keyed.push((key, (number.unwrap_or(u32::MAX), row.unwrap_or(u32::MAX))));
            }
            groups.push(group);
        }
        keyed.sort_by(|(a, _), (b, _)| {
            let pairs = a.iter().zip(b);
            let order = pairs
                .map(|(a, b)| order_of(a, b))
                .find(|order| order.is_ne());
            order.unwrap_or(Ordering::Equal)
        });
        let mut rows: Vec<(u32, u32)> = keyed.into_iter().map(|(_, row)| row).collect();
        if order.descending {
            rows.reverse();
        }
        Ok((!rows.is_empty()).then_some(Self::Shuffled {
            groups,
            rows,
            position: 0,
        }))
    }

    /// Goes on to the next row group with rows, if the present one has no more; `false` at the end.
    fn settle(&mut self, context: &Arc<Context>) -> Result<bool> {
        if let Self::Sorted {
            file,
            group,
            number,
            position,
        } = self
        {
            while *position >= group.selection.len() {
                let next = match group.descending {
                    true => number.checked_sub(1),
                    false => Some(*number + 1),
                };
                let count = file.open(context)?.row_groups();
                let Some(next) = next.filter(|next| *next < count) else {
                    return Ok(false);
                };
                *number = next;
                *group = Group::prepare(context, file, next, group.descending)?;
                *position = 0;
            }
        }
        Ok(true)
    }

    /// Moves to the next row; `false` at the end.
    fn advance(&mut self, context: &Arc<Context>) -> Result<bool> {
        match self {
            Self::Sorted { position, .. } => {
                *position += 1;
                self.settle(context)
            }
            Self::Shuffled { rows, position, .. } => {
                *position += 1;
                Ok(*position < rows.len())
            }
        }
    }

    fn row(&mut self) -> Option<(&mut Group, usize)> {
        match self {
            Self::Sorted {
                group, position, ..
            } => {
                let row = group.row_at(*position)?;
                Some((group, row))
            }
            Self::Shuffled {
                groups,
                rows,
                position,
            } => {
                let (number, at) = *rows.get(*position)?;
                let group = groups.get_mut(number as usize)?;
                let row = group.row_at(at as usize)?;
                Some((group, row))
            }
        }
    }

    fn key(&mut self, order: &Order) -> Result<Vec<OwnedKey>> {
        match self {
            Self::Sorted {
                group, position, ..
            } => key(group, *position, order),
            Self::Shuffled {
                groups,
                rows,
                position,
            } => {
                let (number, at) = rows.get(*position).copied().unwrap_or_default();
                match groups.get_mut(number as usize) {
                    Some(group) => key(group, at as usize, order),
                    None => Ok(Vec::new()),
                }
            }
        }
    }
}

/// The values of the order's columns in the row at `position` of a row group.
fn key(group: &mut Group, position: usize, order: &Order) -> Result<Vec<OwnedKey>> {
    let row = group.row_at(position).unwrap_or_default();
    let mut scratch = [0; MAX_LENGTH];
    let mut key = Vec::with_capacity(order.columns.len());
    for column in &order.columns {
        key.push(OwnedKey::from(group.value(*column, row, &mut scratch)?));
    }
    Ok(key)
}
