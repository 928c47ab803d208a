//! Maps Rust types to the messages of the Protobuf schema in `schema/`.
//!
//! [`message!`] defines a struct with the field numbers of the schema. From them follow its
//! [`Shape`] (what the bytes may hold, checked before anything is allocated) and the conversion to
//! and from the struct that prost generates. [`numbered!`] defines an enum with the numbers of the
//! schema. Messages that are enums, or whose fields differ from the schema's, implement [`Wire`] by
//! hand.

use crate::error::DecodeError;
use crate::shape::{Form, Shape};

/// A message of the schema.
pub(crate) trait Wire: Sized {
    /// The struct that prost generates.
    type Wire: prost::Message + Default;
    /// Its name and its limits, checked before prost sees the bytes.
    const SHAPE: Shape;

    fn to_wire(&self) -> Self::Wire;
    fn from_wire(wire: Self::Wire) -> Result<Self, DecodeError>;
}

/// The value of a field in a message.
pub(crate) trait Value: Sized {
    /// The type of the field in the struct that prost generates.
    type Wire;
    /// What the bytes of the field may hold.
    const FORM: Form;

    fn to_field(&self) -> Self::Wire;
    /// `field` names the field in errors.
    fn from_field(field: &'static str, wire: Self::Wire) -> Result<Self, DecodeError>;
}

/// Defines a struct with the field numbers of the schema.
///
/// ```text
/// pub struct Name("name in errors", LIMIT_IN_BYTES, check) {
///     pub field: Type = NUMBER,
///     pub list: Vec<Type> = NUMBER[LIMIT],
/// }
/// ```
///
/// `check` is optional: a function that refuses values that no field refuses on its own.
macro_rules! message {
    (
        $(#[$meta:meta])*
        pub struct $name:ident($text:expr, $most_bytes:expr $(, $check:path)?) {
            $(
                $(#[$field_meta:meta])*
                pub $field:ident: $type:ty = $number:literal $([$most:expr])?,
            )+
        }
    ) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        impl $crate::schema::Wire for $name {
            type Wire = $crate::wire::$name;
            const SHAPE: $crate::shape::Shape = $crate::shape::Shape {
                name: $text,
                most_bytes: $most_bytes,
                fields: &[$(
                    $crate::shape::Field {
                        number: $number,
                        name: concat!(stringify!($name), ".", stringify!($field)),
                        form: <$type as $crate::schema::Value>::FORM,
                        most: $crate::schema::message!(@most $($most)?),
                    },
                )+],
            };

            fn to_wire(&self) -> Self::Wire {
                Self::Wire {
                    $($field: $crate::schema::Value::to_field(&self.$field),)+
                }
            }

            fn from_wire(wire: Self::Wire) -> Result<Self, $crate::error::DecodeError> {
                let message = Self {
                    $($field: $crate::schema::Value::from_field(
                        concat!(stringify!($name), ".", stringify!($field)),
                        wire.$field,
                    )?,)+
                };
                $($check(&message)?;)?
                Ok(message)
            }
        }
    };
    (@most) => { 1 };
    (@most $most:expr) => { $most };
}
pub(crate) use message;

/// Defines an enum with the numbers of the schema, which are of type `$wire` in prost's structs.
macro_rules! numbered {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $wire:ty {
            $($(#[$variant_meta:meta])* $variant:ident = $number:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $number,)+
        }

        impl $name {
            /// Every variant, in the order of the numbers.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$variant),+];
        }

        impl $crate::schema::Value for $name {
            type Wire = $wire;
            const FORM: $crate::shape::Form = $crate::shape::Form::Plain;

            fn to_field(&self) -> $wire {
                *self as $wire
            }

            fn from_field(
                field: &'static str,
                wire: $wire,
            ) -> Result<Self, $crate::error::DecodeError> {
                Self::ALL
                    .into_iter()
                    .find(|value| *value as $wire == wire)
                    .ok_or($crate::error::DecodeError::UnknownValue {
                        field,
                        value: i64::from(wire),
                    })
            }
        }
    };
}
pub(crate) use numbered;

/// Implements [`Value`] for types that prost uses itself.
macro_rules! plain_values {
    ($($type:ty),+) => {$(
        impl Value for $type {
            type Wire = Self;
            const FORM: Form = Form::Plain;

            fn to_field(&self) -> Self {
                self.clone()
            }

            fn from_field(_: &'static str, wire: Self) -> Result<Self, DecodeError> {
                Ok(wire)
            }
        }
    )+};
}

plain_values!(bool, i32, i64, u32, u64, String, Vec<u8>);

/// A message within a message, which must be present.
impl<T: Wire> Value for T {
    type Wire = Option<T::Wire>;
    const FORM: Form = Form::Message(&T::SHAPE);

    fn to_field(&self) -> Self::Wire {
        Some(self.to_wire())
    }

    fn from_field(field: &'static str, wire: Self::Wire) -> Result<Self, DecodeError> {
        T::from_wire(required(field, wire)?)
    }
}

/// A message within a message, which may be absent.
impl<T: Wire> Value for Option<T> {
    type Wire = Option<T::Wire>;
    const FORM: Form = Form::Message(&T::SHAPE);

    fn to_field(&self) -> Self::Wire {
        self.as_ref().map(T::to_wire)
    }

    fn from_field(_: &'static str, wire: Self::Wire) -> Result<Self, DecodeError> {
        wire.map(T::from_wire).transpose()
    }
}

/// A list of messages. The shape has checked its length.
impl<T: Wire> Value for Vec<T> {
    type Wire = Vec<T::Wire>;
    const FORM: Form = Form::List(&T::SHAPE);

    fn to_field(&self) -> Self::Wire {
        self.iter().map(T::to_wire).collect()
    }

    fn from_field(_: &'static str, wire: Self::Wire) -> Result<Self, DecodeError> {
        wire.into_iter().map(T::from_wire).collect()
    }
}

/// Refuses a missing field.
pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Missing { field })
}

/// Refuses a list whose keys do not strictly rise. This forbids duplicates, and a second order of
/// the same entries.
pub(crate) fn rising<T, K: Ord>(
    field: &'static str,
    list: &[T],
    key: impl Fn(&T) -> K,
) -> Result<(), DecodeError> {
    if list.is_sorted_by(|a, b| key(a) < key(b)) {
        Ok(())
    } else {
        Err(DecodeError::NotSorted { field })
    }
}
