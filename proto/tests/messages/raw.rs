//! Writes Protobuf by hand, to make bytes that prost would never write.

/// Bytes built field by field.
#[derive(Clone, Default)]
pub(crate) struct Raw(Vec<u8>);

impl Raw {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Appends a number.
    pub(crate) fn number(self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3).varint(value)
    }

    /// Appends a field of bytes.
    pub(crate) fn bytes(self, field: u32, bytes: &[u8]) -> Self {
        let mut led = self
            .varint(u64::from(field) << 3 | 2)
            .varint(bytes.len() as u64);
        led.0.extend_from_slice(bytes);
        led
    }

    /// Appends a message.
    pub(crate) fn part(self, field: u32, part: &Self) -> Self {
        self.bytes(field, &part.0)
    }

    /// Appends the same message `times` times.
    pub(crate) fn parts(self, field: u32, part: &Self, times: usize) -> Self {
        (0..times).fold(self, |raw, _| raw.part(field, part))
    }

    /// Appends raw bytes.
    pub(crate) fn then(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }

    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }
}
