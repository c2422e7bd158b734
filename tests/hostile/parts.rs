//! A cold file taken apart, down to decompressed pages, and put together again.

use super::thrift::{self, Node};

#[derive(Clone)]
pub struct Page {
    pub header: Node,
    /// Decompressed.
    pub body: Vec<u8>,
    /// The sizes in the header are not to be put right.
    pub lies: bool,
}

/// A column chunk with what belongs to it.
#[derive(Clone)]
pub struct Chunk {
    pub dictionary: Option<Page>,
    pub pages: Vec<Page>,
    pub filter: Option<Vec<u8>>,
    pub values: Node,
    pub offsets: Node,
}

/// A cold file.
#[derive(Clone)]
pub struct Parts {
    pub chunks: Vec<Chunk>,
    pub footer: Node,
    /// Whether offsets and lengths are put right when it is put together.
    pub right: bool,
}

const GROUPS: i64 = 4;
const COLUMNS: i64 = 1;
const COLUMN: i64 = 3;

fn at(bytes: &[u8], start: i64, length: i64) -> &[u8] {
    let start = usize::try_from(start).expect("an offset");
    &bytes[start..start + usize::try_from(length).expect("a length")]
}

impl Page {
    fn read(mut bytes: &[u8]) -> Self {
        let header = thrift::read(&mut bytes);
        let size = usize::try_from(header.clone().number(2).expect("a size")).expect("a size");
        let body = match zstd::bulk::decompress(bytes, size) {
            Ok(body) => body,
            Err(_) => bytes.to_vec(),
        };
        Self {
            header,
            body,
            lies: false,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let body = zstd::bulk::compress(&self.body, 1).expect("compressed");
        let mut header = self.header.clone();
        if !self.lies {
            header.set(2, self.body.len());
            header.set(3, body.len());
        }
        [header.bytes(), body].concat()
    }
}

impl Parts {
    pub fn read(file: &[u8]) -> Self {
        let (rest, tail) = file.split_at(file.len() - 8);
        let length = u32::from_le_bytes(tail[..4].try_into().expect("four bytes"));
        let mut footer = &rest[rest.len() - length as usize..];
        let footer = thrift::read(&mut footer);
        let mut chunks = Vec::new();
        for group in footer.clone().items(GROUPS) {
            for chunk in group.items(COLUMNS) {
                let mut index = |start, length| {
                    let (start, length) = (chunk.number(start), chunk.number(length));
                    thrift::read(&mut at(
                        file,
                        start.expect("a start"),
                        length.expect("a length"),
                    ))
                };
                let (mut offsets, values) = (index(4, 5), index(6, 7));
                let locations = offsets.items(1).iter_mut();
                let pages = locations.map(|page| {
                    let (start, length) = (page.number(1), page.number(2));
                    Page::read(at(file, start.expect("a start"), length.expect("a length")))
                });
                let pages: Vec<Page> = pages.collect();
                let column = chunk.field(COLUMN).expect("a column");
                let first = column.number(9).expect("a page");
                let dictionary = column.number(11);
                let filter = column.number(14).zip(column.number(15));
                chunks.push(Chunk {
                    dictionary: dictionary.map(|start| Page::read(at(file, start, first - start))),
                    pages,
                    filter: filter.map(|(start, length)| at(file, start, length).to_vec()),
                    values,
                    offsets,
                });
            }
        }
        Self {
            chunks,
            footer,
            right: true,
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut file = b"PAR1".to_vec();
        let mut footer = self.footer.clone();
        let mut spots = Vec::new();
        for chunk in &self.chunks {
            let start = file.len();
            let dictionary = chunk.dictionary.as_ref().map(|page| {
                file.extend(page.bytes());
                start
            });
            let first = file.len();
            let mut offsets = chunk.offsets.clone();
            for (number, page) in chunk.pages.iter().enumerate() {
                let (start, bytes) = (file.len(), page.bytes());
                if let Some(location) = offsets.items(1).get_mut(number).filter(|_| self.right) {
                    location.set(1, start);
                    location.set(2, bytes.len());
                }
                file.extend(bytes);
            }
            spots.push((start, dictionary, first, file.len() - start, offsets));
        }
        let mut fixes = Vec::new();
        for (chunk, (start, dictionary, first, length, offsets)) in self.chunks.iter().zip(spots) {
            let filter = chunk.filter.as_ref().map(|filter| {
                file.extend(filter);
                (file.len() - filter.len(), filter.len())
            });
            let mut index = |node: &Node| {
                let bytes = node.bytes();
                file.extend(&bytes);
                (file.len() - bytes.len(), bytes.len())
            };
            let indexes = (index(&offsets), index(&chunk.values));
            fixes.push((start, dictionary, first, length, filter, indexes));
        }
        let mut fixes = fixes.into_iter();
        for group in footer.items(GROUPS) {
            for chunk in group.items(COLUMNS) {
                let Some((_, dictionary, first, length, filter, indexes)) =
                    fixes.next().filter(|_| self.right)
                else {
                    continue;
                };
                let ((offsets, offsets_length), (values, values_length)) = indexes;
                for (id, number) in [
                    (4, offsets),
                    (5, offsets_length),
                    (6, values),
                    (7, values_length),
                ] {
                    chunk.set(id, number);
                }
                if let Some(column) = chunk.field(COLUMN) {
                    column.set(7, length);
                    column.set(9, first);
                    column.set(11, dictionary.unwrap_or(first));
                    if let Some((start, length)) = filter {
                        column.set(14, start);
                        column.set(15, length);
                    }
                }
            }
        }
        let footer = footer.bytes();
        file.extend(&footer);
        file.extend(u32::try_from(footer.len()).expect("a length").to_le_bytes());
        file.extend(b"PAR1");
        file
    }
}
