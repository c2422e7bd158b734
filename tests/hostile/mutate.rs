//! Changes to a cold file that an attacker could make.

use super::parts::{Chunk, Page, Parts};
use super::thrift::{Node, put_varint};

/// Pseudo-random numbers, the same for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next()).expect("53 bits") % end.max(1)
    }

    /// Whether one in so many comes up.
    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn number(&mut self) -> i64 {
        const EDGES: [i64; 20] = [
            0,
            1,
            -1,
            2,
            7,
            255,
            8192,
            65_535,
            65_536,
            65_537,
            1 << 20,
            1 << 28,
            (1 << 31) - 1,
            1 << 31,
            -(1 << 31),
            (1 << 32) + 2,
            1 << 45,
            i64::MAX,
            i64::MIN,
            i64::MAX / 24,
        ];
        match self.below(3) {
            0 => self.next().cast_signed() >> self.below(53),
            _ => EDGES[self.below(EDGES.len())],
        }
    }
}

/// Makes one to four changes; returns the file.
pub fn mutate(honest: &Parts, random: &mut Random) -> Vec<u8> {
    let mut parts = honest.clone();
    parts.right = !random.one_in(12);
    let raw = random.one_in(6);
    if !raw || random.one_in(3) {
        for _ in 0..=random.below(4) {
            change(&mut parts, random);
        }
    }
    let mut bytes = parts.bytes();
    if raw {
        for _ in 0..=random.below(4) {
            scribble(&mut bytes, random);
        }
    }
    bytes
}

fn change(parts: &mut Parts, random: &mut Random) {
    let chunk = random.below(parts.chunks.len());
    let chunk = &mut parts.chunks[chunk];
    match random.below(20) {
        0 | 1 => twist(&mut parts.footer, random),
        3 => twist(&mut chunk.offsets, random),
        2 | 4 => twist(&mut chunk.values, random),
        5 => match &mut chunk.filter {
            Some(filter) => scribble(filter, random),
            None => chunk.filter = Some(vec![0; random.below(100)]),
        },
        6 => rearrange(chunk, random),
        _ => {
            let dictionary = chunk.dictionary.as_mut().filter(|_| random.one_in(2));
            let count = chunk.pages.len();
            let page = match dictionary {
                Some(page) => page,
                None => match chunk.pages.get_mut(random.below(count)) {
                    Some(page) => page,
                    None => return,
                },
            };
            change_page(page, random);
        }
    }
}

fn rearrange(chunk: &mut Chunk, random: &mut Random) {
    let count = chunk.pages.len();
    if count == 0 {
        return;
    }
    let (one, other) = (random.below(count), random.below(count));
    match random.below(5) {
        0 => chunk.pages.swap(one, other),
        1 => drop(chunk.pages.remove(one)),
        2 => chunk.pages.push(chunk.pages[one].clone()),
        3 => chunk.dictionary = Some(chunk.pages[one].clone()),
        _ => chunk.dictionary = None,
    }
}

fn change_page(page: &mut Page, random: &mut Random) {
    match random.below(8) {
        0 | 1 => {
            page.lies = random.one_in(2);
            twist(&mut page.header, random);
        }
        // The kind of the page and how it is encoded.
        2 => {
            let id = [5, 7][random.below(2)];
            let number = random.below(11);
            if let Some(header) = page.header.field(id) {
                header.set(2 + i64::from(random.one_in(3)), number);
            }
        }
        // The header of delta numbers, after the levels or without them.
        3 => {
            let levels = page.body.first_chunk::<4>().map(|l| u32::from_le_bytes(*l));
            let levels = levels.map_or(0, |length| length as usize + 4);
            let start = [0, levels, 4, 5][random.below(4)].min(page.body.len());
            let mut header = Vec::new();
            for honest in [128, 4, 100, 0] {
                match random.one_in(2) {
                    true => put_varint(&mut header, random.number().cast_unsigned()),
                    false => put_varint(&mut header, honest),
                }
            }
            let end = (start + header.len()).min(page.body.len());
            page.body.splice(start..end, header);
        }
        // A few bytes that become many.
        4 if random.one_in(50) => {
            let length = (1 << 20) << random.below(8);
            page.body = u32::try_from(length).expect("short").to_le_bytes().to_vec();
            page.body.resize(length + 4, b'a');
        }
        // Runs of keys or levels.
        5 => {
            let start = [0, 1, 4, 5, 6][random.below(5)].min(page.body.len());
            let mut run = vec![];
            put_varint(&mut run, random.number().cast_unsigned());
            run.push([0, 1, 2, 255][random.below(4)]);
            page.body.splice(start..start, run);
        }
        6 => {
            let length = random.below(page.body.len() * 2 + 2);
            page.body.resize(length, 0);
        }
        _ => scribble(&mut page.body, random),
    }
}

/// The id of a field, perhaps.
fn small(random: &mut Random) -> i64 {
    i64::try_from(random.below(20)).expect("a small number")
}

/// Changes one value of a tree, or what is around it.
fn twist(tree: &mut Node, random: &mut Random) {
    let place = random.below(tree.count());
    match tree.at(place) {
        Node::Bool(value) => *value = !*value,
        Node::Byte(value) => *value = random.next().to_le_bytes()[0],
        Node::Number(value) => {
            *value = match random.below(3) {
                0 => value.wrapping_add([1, -1, 2, 8, -8][random.below(5)]),
                _ => random.number(),
            }
        }
        Node::Double(value) => *value = random.next().to_le_bytes(),
        Node::Binary(value) => scribble(value, random),
        Node::List { kind, claim, items } => match random.below(6) {
            0 => *claim = Some(random.number().cast_unsigned()),
            1 => *claim = Some(items.len() as u64 + 1),
            2 => *kind = [1, 3, 5, 6, 8, 9, 12][random.below(7)],
            3 => drop(items.pop()),
            _ => {
                if let Some(item) = items.first().cloned() {
                    // A file of some megabytes is enough.
                    let more = (1 << random.below(17)) / item.count();
                    items.resize(items.len() + more, item);
                }
            }
        },
        Node::Struct(fields) => {
            let count = fields.len();
            let place = random.below(count);
            let number = Node::Number(random.number());
            match (fields.get_mut(place), random.below(5)) {
                (Some(field), 0) => field.1 = [1, 2, 3, 5, 6, 8, 9, 10, 11, 12][random.below(10)],
                (Some(field), 1) => field.0 = [small(random), 65_538][random.below(2)],
                (Some(field), 2) => {
                    let twice = field.clone();
                    fields.push(twice);
                }
                (Some(_), 3) => drop(fields.remove(place)),
                _ => fields.push((small(random), 6, number)),
            }
        }
    }
}

/// Changes some bytes.
fn scribble(bytes: &mut Vec<u8>, random: &mut Random) {
    let length = bytes.len();
    if length == 0 {
        return bytes.push(random.next().to_le_bytes()[0]);
    }
    // Most of what counts is at the beginning or the end.
    let place = match random.below(3) {
        0 => random.below(length.min(40)),
        1 => length - 1 - random.below(length.min(2000)),
        _ => random.below(length),
    };
    match random.below(5) {
        0 => bytes[place] ^= 1 << random.below(8),
        1 => bytes[place] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)],
        2 => bytes.truncate(place),
        3 => {
            let number = random.number().to_le_bytes();
            let end = (place + 8).min(length);
            bytes[place..end].copy_from_slice(&number[..end - place]);
        }
        _ => bytes.insert(place, random.next().to_le_bytes()[0]),
    }
}
