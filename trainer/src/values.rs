//! Values as little-endian bytes, written and read a few at a time.

use std::io::{self, Read, Write};

use weal_kernels::{Bf16, Stored};

/// Bytes that are converted at once.
const PIECE: usize = 1 << 20;

/// A value with a fixed number of little-endian bytes.
pub(crate) trait Bytes<const N: usize>: Stored {
    fn to_bytes(self) -> [u8; N];
    fn of_bytes(bytes: [u8; N]) -> Self;
}

impl Bytes<4> for f32 {
    fn to_bytes(self) -> [u8; 4] {
        self.to_le_bytes()
    }

    fn of_bytes(bytes: [u8; 4]) -> Self {
        Self::from_le_bytes(bytes)
    }
}

impl Bytes<2> for Bf16 {
    fn to_bytes(self) -> [u8; 2] {
        self.to_bits().to_le_bytes()
    }

    fn of_bytes(bytes: [u8; 2]) -> Self {
        Self::from_bits(u16::from_le_bytes(bytes))
    }
}

/// Writes values.
pub(crate) fn write_values<T: Bytes<N>, const N: usize>(
    values: &[T],
    to: &mut dyn Write,
) -> io::Result<()> {
    let mut bytes = vec![0; (values.len() * N).min(PIECE)];
    for piece in values.chunks(PIECE / N) {
        let bytes = &mut bytes[..piece.len() * N];
        let slots = bytes.as_chunks_mut::<N>().0.iter_mut();
        slots
            .zip(piece)
            .for_each(|(slot, value)| *slot = value.to_bytes());
        to.write_all(bytes)?;
    }
    Ok(())
}

/// Reads `count` values.
pub(crate) fn read_values<T: Bytes<N>, const N: usize>(
    from: &mut dyn Read,
    count: usize,
) -> io::Result<Vec<T>> {
    let mut bytes = vec![0; (count * N).min(PIECE)];
    let mut values = Vec::with_capacity(count);
    while values.len() < count {
        let left = (count - values.len()) * N;
        let bytes = &mut bytes[..left.min(PIECE)];
        from.read_exact(bytes)?;
        let read = bytes.as_chunks::<N>().0.iter();
        values.extend(read.map(|bytes| T::of_bytes(*bytes)));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_piece_by_piece() {
        let values: Vec<f32> = (0..PIECE / 4 + 3).map(|value| value as f32 / 8.0).collect();
        let mut bytes = Vec::new();
        write_values(&values, &mut bytes).unwrap();
        assert_eq!(bytes.len(), values.len() * 4);
        assert_eq!(bytes[4..8], 0.125f32.to_le_bytes());
        let read: Vec<f32> = read_values(&mut &bytes[..], values.len()).unwrap();
        assert!(read == values);
        assert!(read_values::<f32, 4>(&mut &bytes[..7], 2).is_err());
        let short: Vec<Bf16> = values.iter().map(|value| Bf16::narrow(*value)).collect();
        bytes.clear();
        write_values(&short, &mut bytes).unwrap();
        let read: Vec<Bf16> = read_values(&mut &bytes[..], short.len()).unwrap();
        assert!(read == short);
    }
}
