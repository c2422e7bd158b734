//! Thrift's compact protocol, as far as it takes to look at what a file claims before anything is made
//! of it.
//!
//! The parquet crate goes by the numbers of fields and takes their types for granted, so that a field of an
//! unexpected type would make it and us read different things in the same bytes. So bytes are first held
//! against the [`Shape`] that they must have, in which every field has one type, and fields come in order.
//!
//! Format: <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>

/// The types of the compact protocol.
mod kind {
    pub const STOP: u8 = 0;
    pub const TRUE: u8 = 1;
    pub const FALSE: u8 = 2;
    pub const I16: u8 = 4;
    pub const I32: u8 = 5;
    pub const I64: u8 = 6;
    pub const BINARY: u8 = 8;
    pub const LIST: u8 = 9;
    pub const STRUCT: u8 = 12;
}

/// What a value must look like.
pub enum Shape {
    Bool,
    I16,
    I32,
    I64,
    Binary,
    /// A list of at most so many elements.
    List(u64, &'static Shape),
    /// A structure of some of these fields, each with its id, in ascending order.
    Struct(&'static [(i64, Shape)]),
}

impl Shape {
    /// Whether a value of this type can have this shape.
    fn allows(&self, kind: u8) -> bool {
        match self {
            Self::Bool => matches!(kind, kind::TRUE | kind::FALSE),
            Self::I16 => kind == kind::I16,
            Self::I32 => kind == kind::I32,
            Self::I64 => kind == kind::I64,
            Self::Binary => kind == kind::BINARY,
            Self::List(..) => kind == kind::LIST,
            Self::Struct(_) => kind == kind::STRUCT,
        }
    }
}

/// Reads values one after the other; `None` means that the bytes are not what they should be.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes that were not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Passes over a value of this shape.
    pub fn pass(&mut self, shape: &Shape) -> Option<()> {
        match shape {
            // A boolean field has its value in its header.
            Shape::Bool => Some(()),
            Shape::I16 => self.number(i16::MIN.into(), i16::MAX.into()).map(|_| ()),
            Shape::I32 => self.i32().map(|_| ()),
            Shape::I64 => self.zigzag().map(|_| ()),
            Shape::Binary => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.take(length).map(|_| ())
            }
            Shape::List(most, element) => self.list(*most, element, |reader| match element {
                Shape::Bool => reader.take(1).map(|_| ()),
                element => reader.pass(element),
            }),
            Shape::Struct(fields) => self.fields(fields, |reader, _, shape| reader.pass(shape)),
        }
    }

    /// Reads a structure: `read` reads or passes over the value of each field that it has, which is told by
    /// its id, and has the shape.
    pub fn fields(
        &mut self,
        fields: &'static [(i64, Shape)],
        mut read: impl FnMut(&mut Self, i64, &'static Shape) -> Option<()>,
    ) -> Option<()> {
        let mut last = 0;
        loop {
            let header = self.byte()?;
            let (delta, kind) = (header >> 4, header & 0xF);
            if kind == kind::STOP {
                return Some(());
            }
            let id = match delta {
                0 => self.zigzag()?,
                delta => last + i64::from(delta),
            };
            let (_, shape) = fields.iter().find(|(known, _)| *known == id)?;
            if id <= last || !shape.allows(kind) {
                return None;
            }
            read(self, id, shape)?;
            last = id;
        }
    }

    /// Reads a list of at most `most` elements of a shape, each by `read`.
    pub fn list(
        &mut self,
        most: u64,
        element: &Shape,
        mut read: impl FnMut(&mut Self) -> Option<()>,
    ) -> Option<()> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        if count > most || count > 0 && !element.allows(header & 0xF) {
            return None;
        }
        (0..count).try_for_each(|_| read(self))
    }

    /// Reads a number of 32 bits.
    pub fn i32(&mut self) -> Option<i32> {
        let number = self.number(i32::MIN.into(), i32::MAX.into())?;
        i32::try_from(number).ok()
    }

    fn number(&mut self, least: i64, most: i64) -> Option<i64> {
        self.zigzag()
            .filter(|number| (least..=most).contains(number))
    }

    /// Reads so many bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// Reads a number of 7 bits a byte, the least significant first.
    pub fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Reads a number whose sign is its last bit.
    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Shape = Shape::Struct(&[(1, Shape::I32), (3, Shape::List(2, &Shape::Bool))]);

    fn passes(bytes: &[u8]) -> bool {
        Reader::new(bytes).pass(&PAIR).is_some()
    }

    #[test]
    fn only_the_shape_passes() {
        assert!(passes(&[0]) && passes(&[0x15, 2, 0]) && passes(&[0x15, 2, 0x29, 0x21, 1, 2, 0]));
        // Cut, of another type, unknown, twice, out of order, too many, more than there are.
        assert!(!passes(&[0x15, 2]) && !passes(&[0x16, 2, 0]) && !passes(&[0x25, 2, 0]));
        assert!(!passes(&[0x15, 2, 0x05, 2, 2, 0]) && !passes(&[0x39, 0x01, 0x05, 2, 2, 0]));
        assert!(!passes(&[0x39, 0x31, 1, 1, 1, 0]) && !passes(&[0x39, 0x21, 1]));
        // A number and an id of more bits than they have.
        assert!(!passes(&[0x15, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0]));
        assert!(!passes(&[0x05, 0x82, 0x80, 0x08, 2, 0]));
    }
}
