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

impl<'a> BitReader<'a> {
    /// A reader that begins at the first bit.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// The next 57 bits or more, the first one lowest; zeros past the end. Moves nothing.
    #[inline(always)]
    pub fn window(&self) -> u64 {
        word_at(self.bytes, self.position / 8) >> (self.position % 8)
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

    /// Moves on by `count` bits, though the string may have ended: only zeros come after it.
    #[inline(always)]
    pub fn advance(&mut self, count: u32) {
        self.position += count as usize;
    }

    /// Takes as many numbers of `bits` bits (at most 32) as there are places; zeros past the end.
    #[inline(always)]
    pub fn take_each(&mut self, bits: u32, numbers: &mut [u32]) {
        let mask = (1 << bits) - 1;
        // As many as a window is sure to hold.
        for numbers in numbers.chunks_mut(57 / bits.max(1) as usize) {
            let window = self.window();
            for (place, number) in numbers.iter_mut().enumerate() {
                *number = (window >> (place as u32 * bits) & mask) as u32;
            }
            self.advance(numbers.len() as u32 * bits);
        }
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

/// Counts the zeros before each one of a bit string, a word at a time. Never panics, never reads past the end.
#[derive(Debug)]
pub(crate) struct Ones<'a> {
    bytes: &'a [u8],
    /// The 64 bits in hand, without the ones that were told of.
    word: u64,
    /// The place of the first of those bits.
    start: u64,
    /// One past the last one that was told of.
    next: u64,
}

impl<'a> Ones<'a> {
    /// Before the first bit.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, word: word_at(bytes, 0), start: 0, next: 0 }
    }

    /// The zeros between the last one, or the beginning, and the next one; `None` where there is none left.
    #[inline(always)]
    pub fn zeros(&mut self) -> Option<u64> {
        while self.word == 0 {
            self.start += 64;
            if self.start >= self.bytes.len() as u64 * 8 {
                return None;
            }
            self.word = word_at(self.bytes, self.start as usize / 8);
        }
        let place = self.start + u64::from(self.word.trailing_zeros());
        self.word &= self.word - 1;
        let zeros = place - self.next;
        self.next = place + 1;
        Some(zeros)
    }

    /// Ends the string after the last one that was told of: the bytes after it, and whether its padding was zero.
    pub fn finish(self) -> (&'a [u8], bool) {
        BitReader { bytes: self.bytes, position: self.next as usize }.finish()
    }
}

/// Eight bytes from that one on, the first one lowest; zeros past the end.
#[inline(always)]
fn word_at(bytes: &[u8], start: usize) -> u64 {
    let rest = bytes.get(start..).unwrap_or_default();
    let word = rest.first_chunk::<8>().copied().unwrap_or_else(|| {
        let mut word = [0; 8];
        word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        word
    });
    u64::from_le_bytes(word)
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

    #[test]
    fn zeros_are_counted_across_words_and_what_follows_the_last_one_is_told() {
        let mut bytes = vec![0b101];
        bytes.extend([0; 20]);
        bytes.extend([0b1000_0000, 7]);
        let mut ones = Ones::new(&bytes);
        assert_eq!([ones.zeros(), ones.zeros(), ones.zeros()], [Some(0), Some(1), Some(5 + 20 * 8 + 7)]);
        assert_eq!(ones.finish(), (&[7u8][..], true));

        let mut ones = Ones::new(&[0b110]);
        ones.zeros();
        assert_eq!(ones.finish(), (&[][..], false));
        assert_eq!(Ones::new(&[0; 100]).zeros(), None);
        assert_eq!(Ones::new(&[]).zeros(), None);
    }
}
