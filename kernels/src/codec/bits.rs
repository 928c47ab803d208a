//! Bit strings in bytes: the first bit is the lowest bit of the first byte.
//!
//! The last byte is padded with zeros. Readers insist on them, so that a string has only one
//! encoding.

/// Appends bits to bytes.
#[derive(Debug)]
pub(crate) struct BitWriter<'a> {
    bytes: &'a mut Vec<u8>,
    /// Bits not yet written to `bytes`, the first one lowest.
    pending: u64,
    /// The number of pending bits, below 32 between calls.
    count: u32,
}

impl<'a> BitWriter<'a> {
    /// A writer that appends to `bytes`.
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self {
            bytes,
            pending: 0,
            count: 0,
        }
    }

    /// Appends the low `count` bits (at most 32) of `value`, lowest first. Its other bits must be
    /// 0.
    pub(crate) fn put(&mut self, value: u32, count: u32) {
        debug_assert!(count <= 32 && u64::from(value) < 1 << count);
        self.pending |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.bytes
                .extend_from_slice(&(self.pending as u32).to_le_bytes());
            self.pending >>= 32;
            self.count -= 32;
        }
    }

    /// Appends the first `count` bits of `words`, the lowest bit of each word first.
    pub(crate) fn append(&mut self, words: &[u32], count: usize) {
        let (whole, rest) = words.split_at(count / 32);
        whole.iter().for_each(|&word| self.put(word, 32));
        if let Some(&word) = rest.first() {
            let left = (count % 32) as u32;
            self.put(word & ((1 << left) - 1), left);
        }
    }

    /// Pads the string with zeros to a whole byte, and writes the rest.
    pub(crate) fn finish(self) {
        let left = self.count.div_ceil(8) as usize;
        let pending = self.pending.to_le_bytes();
        self.bytes.extend(pending.iter().take(left));
    }
}

/// Reads bits from bytes. Never panics, and never reads past the end.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Offset of the next bit, never past the end.
    position: usize,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next 57 or more bits, the first one lowest, zeros past the end. Does not advance.
    #[inline(always)]
    pub(crate) fn window(&self) -> u64 {
        window_at(self.bytes, self.position)
    }

    /// Advances by `count` bits, or returns `None` if the bytes end before.
    pub(crate) fn skip(&mut self, count: u32) -> Option<()> {
        let position = self.position.checked_add(count as usize)?;
        if position > self.bytes.len().checked_mul(8)? {
            return None;
        }
        self.position = position;
        Some(())
    }

    /// Reads `count` bits (at most 32), the first one lowest.
    pub(crate) fn take(&mut self, count: u32) -> Option<u32> {
        let value = self.window() & ((1 << count) - 1);
        self.skip(count)?;
        Some(value as u32)
    }

    /// Ends the string. Returns the bytes after it, and whether its padding was zero.
    pub(crate) fn finish(self) -> (&'a [u8], bool) {
        let used = self.position.div_ceil(8);
        let padding = match (self.position % 8, self.bytes.get(self.position / 8)) {
            (0, _) | (_, None) => 0,
            (taken, Some(last)) => last >> taken,
        };
        (self.bytes.get(used..).unwrap_or_default(), padding == 0)
    }
}

/// The number of bits that [`window_at`] shows at least.
pub(crate) const MOST_IN_WINDOW: usize = 57;

/// The 57 or more bits from bit `place` on, the first one lowest, zeros past the end.
#[inline(always)]
pub(crate) fn window_at(bytes: &[u8], place: usize) -> u64 {
    word_at(bytes, place / 8) >> (place % 8)
}

/// The eight bytes from `start` on, little-endian, zeros past the end.
#[inline(always)]
fn word_at(bytes: &[u8], start: usize) -> u64 {
    match bytes.len().checked_sub(8) {
        Some(last) if start <= last => {
            u64::from_le_bytes(*bytes[start..].first_chunk().unwrap_or(&[0; 8]))
        }
        _ => word_at_end(bytes, start),
    }
}

#[cold]
fn word_at_end(bytes: &[u8], start: usize) -> u64 {
    let mut word = [0; 8];
    word.iter_mut()
        .zip(bytes.get(start..).unwrap_or_default())
        .for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_written_is_read(
            pieces in prop::collection::vec((any::<u32>(), 0u32..=32), 0..50),
        ) {
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
    fn non_zero_padding_is_detected() {
        let mut reader = BitReader::new(&[0b1000_0111, 1]);
        reader.take(3);
        assert_eq!(reader.finish(), (&[1u8][..], false));
    }

    #[test]
    fn words_are_appended_bit_by_bit() {
        let mut bytes = Vec::new();
        let mut writer = BitWriter::new(&mut bytes);
        writer.append(&[0xffff_ffff, 0b101], 35);
        writer.append(&[], 0);
        writer.append(&[0b1111, 7], 2);
        writer.append(&[0x8000_0001], 32);
        writer.finish();
        let mut reader = BitReader::new(&bytes);
        let taken = [32, 3, 2, 32].map(|count| reader.take(count).unwrap());
        assert_eq!(taken, [0xffff_ffff, 0b101, 0b11, 0x8000_0001]);
        assert_eq!(reader.finish(), (&[][..], true));
    }

    #[test]
    fn a_window_shows_zeros_past_the_end() {
        assert_eq!(window_at(&[0xff, 0x0f], 4), 0xff);
        assert_eq!(window_at(&[0xff, 0x0f], 12), 0);
        assert_eq!(window_at(&[], 1000), 0);
    }
}
