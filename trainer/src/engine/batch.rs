//! A batch of token windows.

/// Windows of text as rows of tokens, `[sequences, length + 1]`: each row holds its inputs and,
/// shifted by one, its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    tokens: Vec<u32>,
    sequences: usize,
    length: usize,
}

impl Batch {
    /// A batch of rows that all have `length` + 1 tokens.
    pub(crate) fn new(rows: impl IntoIterator<Item = Vec<u32>>, length: usize) -> Self {
        let mut batch = Self {
            tokens: Vec::new(),
            sequences: 0,
            length,
        };
        for row in rows {
            debug_assert_eq!(row.len(), length + 1);
            batch.tokens.extend(row);
            batch.sequences += 1;
        }
        batch
    }

    /// Predicted tokens of a row.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Predicted tokens of all rows.
    pub(crate) fn predictions(&self) -> usize {
        self.sequences * self.length
    }

    /// All rows, concatenated.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of rows.
    pub(crate) fn sequences(&self) -> usize {
        self.sequences
    }

    /// Splits the batch into micro-batches of at most `sequences` rows.
    pub(crate) fn micro_batches(&self, sequences: usize) -> impl Iterator<Item = Self> + '_ {
        let length = self.length;
        self.tokens
            .chunks(sequences.clamp(1, self.sequences.max(1)) * (length + 1))
            .map(move |tokens| Self {
                tokens: tokens.to_vec(),
                sequences: tokens.len() / (length + 1),
                length,
            })
    }

    /// Inputs of all rows, `[sequences, length]`.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = u32> + '_ {
        self.tokens
            .chunks_exact(self.length + 1)
            .flat_map(|row| row[..self.length].iter().copied())
    }

    /// Targets of all rows, `[sequences, length]`.
    pub(crate) fn targets(&self) -> impl Iterator<Item = u32> + '_ {
        self.tokens
            .chunks_exact(self.length + 1)
            .flat_map(|row| row[1..].iter().copied())
    }
}
