//! Bit strings in bytes: the first bit is the lowest of the first byte.
//!
//! A string that does not fill its last byte is padded with zeros, and a reader insists on them, so
//! that a string has one encoding only.

/// Appends bits to bytes.
#[derive(Debug)]
pub(crate) struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// Bits not yet in `bytes`, the first one lowest.
    pending: u64,
    /// How many those are: always below 32 between calls.
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// A writer that begins at the end of `bytes`.
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, pending: 0, count: 0 }
    }

    /// Appends the `count` (at most 32) low bits of `value`, the lowest first. Its other bits are 0.
    pub fn put(&mut self, value: u32, count: u32) {
        debug_assert!(count <= 32 && u64::from(value) < 1 << count);
        self.pending |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.bytes.extend_from_slice(&(self.pending as u32).to_le_bytes());
            self.pending >>= 32;
            self.count -= 32;
        }
    }

    /// Pads with zeros to a whole byte.
    pub fn finish(self) {
        let left = self.count.div_ceil(8) as usize;
        let pending = self.pending.to_le_bytes();
        self.bytes.extend(pending.iter().take(left));
    }
}

/// Takes bits from bytes. Never panics, never reads past the end.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next bit: never past the end.
    position: usize,
}

/// Bits that [`BitReader::window`] always holds, as far as the string goes.
pub(crate) const WINDOW_BITS: u32 = 57;

impl<'a> BitReader<'a> {
    /// A reader that begins at the first bit.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next [`WINDOW_BITS`] bits, the first one lowest; zeros past the end. Moves nothing.
    pub fn window(&self) -> u64 {
        let rest = self.bytes.get(self.position / 8..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(&word) => word,
            None => {
                let mut word = [0; 8];
                word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                word
            }
        };
        u64::from_le_bytes(word) >> (self.position % 8)
    }

    /// Moves on by `count` bits, or returns `None` where the string ends before.
    pub fn skip(&mut self, count: u32) -> Option<()> {
        let position = self.position.checked_add(count as usize)?;
        if position > self.bytes.len().checked_mul(8)? {
            return None;
        }
        self.position = position;
        Some(())
    }

    /// Takes `count` (at most 32) bits, the first one lowest.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        let value = self.window() & ((1 << count) - 1);
        self.skip(count)?;
        Some(value as u32)
    }

    /// Ends the string: the bytes after it, and whether its padding was zero.
    pub fn finish(self) -> (&'a [u8], bool) {
        let used = self.position.div_ceil(8);
        let padding = match (self.position % 8, self.bytes.get(self.position / 8)) {
            (0, _) | (_, None) => 0,
            (taken, Some(last)) => last >> taken,
        };
        (self.bytes.get(used..).unwrap_or_default(), padding == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_can_be_taken(pieces in prop::collection::vec((any::<u32>(), 0u32..=32), 0..50)) {
            let cut = |value: u32, count: u32| (u64::from(value) & ((1 << count) - 1)) as u32;
            let mut bytes = vec![7];
            let mut writer = BitWriter::new(&mut bytes);
            for &(value, count) in &pieces {
                writer.put(cut(value, count), count);
            }
            writer.finish();
            let bits: u32 = pieces.iter().map(|&(_, count)| count).sum();
            prop_assert_eq!(bytes.len(), 1 + bits.div_ceil(8) as usize);
            bytes.push(9);
            let mut reader = BitReader::new(&bytes[1..]);
            for &(value, count) in &pieces {
                prop_assert_eq!(reader.take(count), Some(cut(value, count)));
            }
            prop_assert_eq!(reader.finish(), (&[9u8][..], true));
        }
    }

    #[test]
    fn a_reader_stops_at_the_end() {
        let mut reader = BitReader::new(&[0xff, 0x01]);
        assert_eq!(reader.take(10), Some(0x1ff));
        assert_eq!(reader.take(7), None);
        assert_eq!(reader.take(6), Some(0));
        assert_eq!(reader.take(1), None);
        assert_eq!(reader.take(0), Some(0));
        assert_eq!(reader.finish(), (&[][..], true));
    }

    #[test]
    fn padding_that_is_not_zero_is_seen() {
        let mut reader = BitReader::new(&[0b1000_0111, 1]);
        reader.take(3);
        assert_eq!(reader.finish(), (&[1u8][..], false));
    }
}
