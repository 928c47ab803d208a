//! Checks the bytes of a message before anything is allocated for them.
//!
//! The attack: to prost, an empty list entry costs two bytes on the wire and a hundred in memory,
//! so 4 MiB of bytes become hundreds of MiB. And prost merges a part that is sent twice, so limits
//! on each half do not limit the whole. [`Shape::check`] walks the bytes without allocating. It
//! refuses lists and parts above their limits, ids of another length, and fields that are unknown,
//! repeated or out of order. What passes costs a small multiple of its bytes to decode.

use crate::error::DecodeError;

/// Bytes of a hash or a key.
const ID_BYTES: usize = 32;

/// What the bytes of a message may hold.
pub(crate) struct Shape {
    /// Name of the message in errors.
    pub name: &'static str,
    /// Limit on its bytes.
    pub most_bytes: usize,
    /// The fields, sorted by number, as prost writes them.
    pub fields: &'static [Field],
}

/// One field of a message.
pub(crate) struct Field {
    pub number: u32,
    /// Name of the field in errors.
    pub name: &'static str,
    pub form: Form,
    /// Limit on the entries of a list.
    pub most: usize,
}

/// What the bytes of a field may hold.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// A number, or bytes whose length is checked later.
    Plain,
    /// This many bytes, always present.
    Exact(usize),
    /// A message, at most once.
    Message(&'static Shape),
    /// A list of messages.
    List(&'static Shape),
    /// A list of hashes or keys.
    Ids,
}

impl Form {
    /// A hash or a key.
    pub(crate) const ID: Self = Self::Exact(ID_BYTES);
}

/// A field that is no list.
const fn single(number: u32, name: &'static str, form: Form) -> Field {
    Field {
        number,
        name,
        form,
        most: 1,
    }
}

/// A number, or bytes whose length is checked later.
pub(crate) const fn plain(number: u32) -> Field {
    single(number, "", Form::Plain)
}

/// A hash or a key.
pub(crate) const fn id(number: u32, name: &'static str) -> Field {
    single(number, name, Form::ID)
}

/// A message within the message.
pub(crate) const fn one(number: u32, of: &'static Shape) -> Field {
    single(number, "", Form::Message(of))
}

/// A list of at most `most` messages.
pub(crate) const fn list(
    number: u32,
    name: &'static str,
    most: usize,
    of: &'static Shape,
) -> Field {
    Field {
        number,
        name,
        form: Form::List(of),
        most,
    }
}

/// A list of at most `most` hashes or keys.
pub(crate) const fn ids(number: u32, name: &'static str, most: usize) -> Field {
    Field {
        number,
        name,
        form: Form::Ids,
        most,
    }
}

impl Shape {
    /// Refuses bytes that cannot be this message. Allocates only for errors.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), DecodeError> {
        if bytes.len() > self.most_bytes {
            return Err(DecodeError::TooLong {
                message: self.name,
                bytes: bytes.len(),
                limit: self.most_bytes,
            });
        }
        let mut reader = Reader {
            message: self.name,
            rest: bytes,
        };
        let mut fields = self.fields.iter();
        let mut current: Option<&Field> = None;
        let mut count = 0;
        while !reader.rest.is_empty() {
            let (number, value) = reader.field()?;
            let field = match current.filter(|field| field.number == number) {
                Some(field) => field,
                None => {
                    count = 0;
                    self.skip_to(number, &mut fields)?
                }
            };
            count += 1;
            field.check(self.name, count, value)?;
            current = Some(field);
        }
        fields.try_for_each(Field::absent)
    }

    /// Finds the field of this number. Every field that is skipped must be optional.
    fn skip_to<'a>(
        &self,
        number: u32,
        fields: &mut impl Iterator<Item = &'a Field>,
    ) -> Result<&'a Field, DecodeError> {
        for field in fields {
            if field.number == number {
                return Ok(field);
            }
            field.absent()?;
        }
        Err(DecodeError::NotCanonical { message: self.name })
    }
}

impl Field {
    fn absent(&self) -> Result<(), DecodeError> {
        match self.form {
            Form::Exact(expected) => Err(DecodeError::WrongLength {
                field: self.name,
                bytes: 0,
                expected,
            }),
            _ => Ok(()),
        }
    }

    /// Checks the `count`th value of this field in `message`.
    fn check(
        &self,
        message: &'static str,
        count: usize,
        value: Value<'_>,
    ) -> Result<(), DecodeError> {
        match (self.form, value) {
            (Form::List(_) | Form::Ids, _) if count > self.most => Err(DecodeError::TooMany {
                field: self.name,
                count,
                limit: self.most,
            }),
            (Form::List(of), Value::Bytes(bytes)) => of.check(bytes),
            (Form::Ids, Value::Bytes(bytes)) => length(self.name, bytes, ID_BYTES),
            (Form::List(_) | Form::Ids, Value::Number) => Err(another_type(message)),
            _ if count > 1 => Err(DecodeError::NotCanonical { message }),
            (Form::Plain, _) => Ok(()),
            (Form::Exact(expected), Value::Bytes(bytes)) => length(self.name, bytes, expected),
            (Form::Message(of), Value::Bytes(bytes)) => of.check(bytes),
            (Form::Exact(_) | Form::Message(_), Value::Number) => Err(another_type(message)),
        }
    }
}

fn length(field: &'static str, bytes: &[u8], expected: usize) -> Result<(), DecodeError> {
    if bytes.len() == expected {
        Ok(())
    } else {
        Err(DecodeError::WrongLength {
            field,
            bytes: bytes.len(),
            expected,
        })
    }
}

fn malformed(message: &'static str, cause: &str) -> DecodeError {
    DecodeError::Malformed {
        message,
        cause: cause.to_owned(),
    }
}

fn another_type(message: &'static str) -> DecodeError {
    malformed(message, "a field of another type")
}

/// The value after a field's key.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number,
    Bytes(&'a [u8]),
}

/// Reads protobuf's field keys, numbers and lengths.
struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn field(&mut self) -> Result<(u32, Value<'a>), DecodeError> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3)
            .map_err(|_| malformed(self.message, "a field number beyond 32 bits"))?;
        match key & 7 {
            0 => self.varint().map(|_| (number, Value::Number)),
            2 => self.bytes().map(|bytes| (number, Value::Bytes(bytes))),
            _ => Err(another_type(self.message)),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| malformed(self.message, "shorter than it announces"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads a varint: seven bits per byte, the lowest first. The high bit means that another byte
    /// follows.
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self
                .rest
                .split_first()
                .ok_or_else(|| malformed(self.message, "ends within a number"))?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(malformed(self.message, "a number beyond 64 bits"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let padded = *byte == 0 && shift > 0;
                return if padded {
                    Err(DecodeError::NotCanonical {
                        message: self.message,
                    })
                } else {
                    Ok(value)
                };
            }
        }
        Err(malformed(self.message, "a number beyond 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: Shape = Shape {
        name: "leaf",
        most_bytes: 40,
        fields: &[id(1, "Leaf.id")],
    };
    const TREE: Shape = Shape {
        name: "tree",
        most_bytes: 1_000,
        fields: &[
            plain(1),
            list(2, "Tree.leaves", 3, &LEAF),
            one(3, &LEAF),
            ids(5, "Tree.ids", 2),
        ],
    };

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    fn leaf() -> Vec<u8> {
        field(1, &[7; 32])
    }

    fn refused(bytes: &[u8]) -> DecodeError {
        TREE.check(bytes).unwrap_err()
    }

    #[test]
    fn what_fits_is_let_through() {
        let tree = [
            &[8, 5][..],
            &field(2, &leaf()).repeat(3),
            &field(3, &leaf()),
            &field(5, &[1; 32]).repeat(2),
        ];
        assert_eq!(TREE.check(&tree.concat()), Ok(()));
        assert_eq!(TREE.check(&[]), Ok(()));
    }

    #[test]
    fn one_entry_too_many_is_refused_before_it_is_looked_at() {
        let too_many = [field(2, &leaf()).repeat(3), field(2, &[])].concat();
        assert_eq!(
            refused(&too_many),
            DecodeError::TooMany {
                field: "Tree.leaves",
                count: 4,
                limit: 3
            }
        );
    }

    #[test]
    fn an_empty_entry_lacks_its_id() {
        let error = DecodeError::WrongLength {
            field: "Leaf.id",
            bytes: 0,
            expected: 32,
        };
        assert_eq!(refused(&field(2, &[])), error);
    }

    #[test]
    fn a_part_longer_than_its_own_limit_is_refused() {
        let error = DecodeError::TooLong {
            message: "leaf",
            bytes: 68,
            limit: 40,
        };
        assert_eq!(refused(&field(2, &leaf().repeat(2))), error);
    }

    #[test]
    fn a_second_value_a_stranger_and_a_wrong_order_are_not_canonical() {
        let error = DecodeError::NotCanonical { message: "tree" };
        assert_eq!(refused(&[8, 5, 8, 5]), error);
        assert_eq!(refused(&[0x70, 1]), error);
        assert_eq!(refused(&[&field(2, &leaf())[..], &[8, 5]].concat()), error);
        assert_eq!(refused(&field(3, &leaf()).repeat(2)), error);
    }

    #[test]
    fn a_number_is_read_in_its_shortest_form_alone() {
        let mut reader = Reader {
            message: "number",
            rest: &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        };
        assert_eq!(reader.varint(), Ok(u64::MAX));
        assert_eq!(
            refused(&[8, 0x85, 0]),
            DecodeError::NotCanonical { message: "tree" }
        );
        let too_large = [&[8][..], &[0xff; 9], &[2]].concat();
        assert!(matches!(refused(&too_large), DecodeError::Malformed { .. }));
        assert!(matches!(refused(&[8, 0x85]), DecodeError::Malformed { .. }));
    }

    #[test]
    fn a_length_beyond_the_end_is_refused() {
        assert!(matches!(
            refused(&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            DecodeError::Malformed { .. }
        ));
    }
}
