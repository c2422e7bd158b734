//! Values of Thrift's compact protocol as a tree that can be changed and written again, well-formed or not.

#[derive(Debug, Clone)]
pub enum Node {
    Bool(bool),
    Byte(u8),
    /// Of 16, 32 or 64 bits.
    Number(i64),
    Double([u8; 8]),
    Binary(Vec<u8>),
    List {
        kind: u8,
        /// How many elements it says it has, if that is not how many it has.
        claim: Option<u64>,
        items: Vec<Node>,
    },
    /// The id, the type and the value of each field.
    Struct(Vec<(i64, u8, Node)>),
}

const STRUCT: u8 = 12;

/// Reads a structure from the front of `bytes`.
pub fn read(bytes: &mut &[u8]) -> Node {
    value(bytes, STRUCT)
}

fn byte(bytes: &mut &[u8]) -> u8 {
    let (first, rest) = bytes.split_first().expect("a whole value");
    *bytes = rest;
    *first
}

fn take(bytes: &mut &[u8], count: usize) -> Vec<u8> {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken.to_vec()
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let next = byte(bytes);
        value |= u64::from(next & 0x7F) << shift;
        if next < 0x80 {
            break;
        }
    }
    value
}

fn zigzag(bytes: &mut &[u8]) -> i64 {
    let value = varint(bytes);
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn value(bytes: &mut &[u8], kind: u8) -> Node {
    match kind {
        1 => Node::Bool(true),
        2 => Node::Bool(false),
        3 => Node::Byte(byte(bytes)),
        4..=6 => Node::Number(zigzag(bytes)),
        7 => Node::Double(take(bytes, 8).try_into().expect("eight bytes")),
        8 => {
            let length = usize::try_from(varint(bytes)).expect("a length");
            Node::Binary(take(bytes, length))
        }
        9 | 10 => {
            let header = byte(bytes);
            let count = match header >> 4 {
                15 => varint(bytes),
                count => u64::from(count),
            };
            let kind = header & 15;
            let item = |_| match kind {
                1 | 2 => Node::Bool(byte(bytes) == 1),
                kind => value(bytes, kind),
            };
            Node::List {
                kind,
                claim: None,
                items: (0..count).map(item).collect(),
            }
        }
        12 => {
            let (mut fields, mut id) = (Vec::new(), 0);
            loop {
                let header = byte(bytes);
                if header & 15 == 0 {
                    return Node::Struct(fields);
                }
                id = match header >> 4 {
                    0 => zigzag(bytes),
                    delta => id + i64::from(delta),
                };
                fields.push((id, header & 15, value(bytes, header & 15)));
            }
        }
        kind => panic!("an honest file has no type {kind}"),
    }
}

pub fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7F).expect("seven bits") | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).expect("seven bits"));
}

fn put_zigzag(bytes: &mut Vec<u8>, value: i64) {
    put_varint(bytes, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

impl Node {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.put(&mut bytes, false);
        bytes
    }

    fn put(&self, bytes: &mut Vec<u8>, listed: bool) {
        match self {
            Self::Bool(value) if listed => bytes.push(2 - u8::from(*value)),
            Self::Bool(_) => {}
            Self::Byte(value) => bytes.push(*value),
            Self::Number(value) => put_zigzag(bytes, *value),
            Self::Double(value) => bytes.extend(value),
            Self::Binary(value) => {
                put_varint(bytes, value.len() as u64);
                bytes.extend(value);
            }
            Self::List { kind, claim, items } => {
                let count = claim.unwrap_or(items.len() as u64);
                match u8::try_from(count) {
                    Ok(count) if count < 15 => bytes.push(count << 4 | kind),
                    _ => {
                        bytes.push(0xF0 | kind);
                        put_varint(bytes, count);
                    }
                }
                items.iter().for_each(|item| item.put(bytes, true));
            }
            Self::Struct(fields) => {
                let mut last = 0;
                for (id, kind, value) in fields {
                    match u8::try_from(id - last) {
                        Ok(delta) if (1..16).contains(&delta) => bytes.push(delta << 4 | kind),
                        _ => {
                            bytes.push(*kind);
                            put_zigzag(bytes, *id);
                        }
                    }
                    value.put(bytes, false);
                    last = *id;
                }
                bytes.push(0);
            }
        }
    }

    /// The field with this id.
    pub fn field(&mut self, id: i64) -> Option<&mut Node> {
        let Self::Struct(fields) = self else {
            return None;
        };
        let mut found = fields.iter_mut().filter(|(known, ..)| *known == id);
        found.next().map(|(_, _, value)| value)
    }

    pub fn number(&mut self, id: i64) -> Option<i64> {
        match self.field(id)? {
            Self::Number(value) => Some(*value),
            _ => None,
        }
    }

    pub fn set(&mut self, id: i64, number: usize) {
        if let Some(Self::Number(value)) = self.field(id) {
            *value = i64::try_from(number).expect("a small number");
        }
    }

    pub fn items(&mut self, id: i64) -> &mut [Node] {
        match self.field(id) {
            Some(Self::List { items, .. }) => items,
            _ => &mut [],
        }
    }

    /// All values in it, itself the first.
    pub fn count(&self) -> usize {
        1 + match self {
            Self::List { items, .. } => items.iter().map(Self::count).sum(),
            Self::Struct(fields) => fields.iter().map(|(_, _, value)| value.count()).sum(),
            _ => 0,
        }
    }

    /// The value at `place` of these.
    pub fn at(&mut self, mut place: usize) -> &mut Node {
        if place == 0 {
            return self;
        }
        place -= 1;
        let children: Vec<&mut Node> = match self {
            Self::List { items, .. } => items.iter_mut().collect(),
            Self::Struct(fields) => fields.iter_mut().map(|(_, _, value)| value).collect(),
            _ => Vec::new(),
        };
        for child in children {
            let count = child.count();
            if place < count {
                return child.at(place);
            }
            place -= count;
        }
        unreachable!("there are fewer values")
    }
}
