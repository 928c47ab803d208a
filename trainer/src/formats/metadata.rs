//! GGUF metadata: keys and typed values, encoded.

/// GGUF's value types.
pub(super) mod value_type {
    pub(crate) const U32: u32 = 4;
    pub(crate) const I32: u32 = 5;
    pub(crate) const F32: u32 = 6;
    pub(crate) const BOOL: u32 = 7;
    pub(crate) const STRING: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
}

/// Encoded keys and values.
#[derive(Default)]
pub(super) struct Metadata {
    pub count: u64,
    pub bytes: Vec<u8>,
}

impl Metadata {
    fn entry(&mut self, key: &str, kind: u32, value: &[u8]) {
        put_string(&mut self.bytes, key);
        self.bytes.extend_from_slice(&kind.to_le_bytes());
        self.bytes.extend_from_slice(value);
        self.count += 1;
    }

    pub(super) fn u32(&mut self, key: &str, value: u32) {
        self.entry(key, value_type::U32, &value.to_le_bytes());
    }

    pub(super) fn f32(&mut self, key: &str, value: f32) {
        self.entry(key, value_type::F32, &value.to_le_bytes());
    }

    pub(super) fn bool(&mut self, key: &str, value: bool) {
        self.entry(key, value_type::BOOL, &[value.into()]);
    }

    pub(super) fn string(&mut self, key: &str, value: &str) {
        let mut bytes = Vec::new();
        put_string(&mut bytes, value);
        self.entry(key, value_type::STRING, &bytes);
    }

    pub(super) fn strings(&mut self, key: &str, values: &[String]) {
        let mut bytes = array_head(value_type::STRING, values.len());
        values
            .iter()
            .for_each(|value| put_string(&mut bytes, value));
        self.entry(key, value_type::ARRAY, &bytes);
    }

    /// An array of four-byte values of the type `kind`.
    pub(super) fn numbers<T: Copy>(
        &mut self,
        key: &str,
        kind: u32,
        values: &[T],
        bytes_of: fn(T) -> [u8; 4],
    ) {
        let mut bytes = array_head(kind, values.len());
        values
            .iter()
            .for_each(|value| bytes.extend_from_slice(&bytes_of(*value)));
        self.entry(key, value_type::ARRAY, &bytes);
    }
}

fn array_head(kind: u32, length: usize) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(length as u64).to_le_bytes()].concat()
}

/// Appends a string with its length.
pub(super) fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}
