//! A batch of token windows.

/// Windows of text as rows of tokens, `[sequences, length + 1]`: each row holds its inputs and,
/// shifted by one, its targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    tokens: Vec<u32>,
    /// Whether each token counts in the loss as a target; empty if all do.
    learnt: Vec<bool>,
    sequences: usize,
    length: usize,
}

impl Batch {
    /// A batch of rows that all have `length` + 1 tokens, of which each counts in the loss.
    #[cfg(test)]
    pub(crate) fn new(rows: impl IntoIterator<Item = Vec<u32>>, length: usize) -> Self {
        Self::partly_learnt(rows.into_iter().map(|row| (row, Vec::new())), length)
    }

    /// A batch of rows that all have `length` + 1 tokens. Beside each stands which of its tokens
    /// count in the loss; nothing if all do.
    pub(crate) fn partly_learnt(
        rows: impl IntoIterator<Item = (Vec<u32>, Vec<bool>)>,
        length: usize,
    ) -> Self {
        let mut batch = Self {
            tokens: Vec::new(),
            learnt: Vec::new(),
            sequences: 0,
            length,
        };
        for (row, learnt) in rows {
            debug_assert_eq!(row.len(), length + 1);
            if !learnt.is_empty() {
                debug_assert_eq!(learnt.len(), length + 1);
                batch.learnt.resize(batch.tokens.len(), true);
                batch.learnt.extend(learnt);
            } else if !batch.learnt.is_empty() {
                batch.learnt.resize(batch.tokens.len() + row.len(), true);
            }
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

    /// Predicted tokens of all rows that count in the loss.
    pub(crate) fn learnt(&self) -> usize {
        let counting = |row: &[bool]| row[1..].iter().filter(|learnt| **learnt).count();
        match self.learnt.is_empty() {
            true => self.predictions(),
            false => self
                .learnt
                .chunks_exact(self.length + 1)
                .map(counting)
                .sum(),
        }
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
        let size = sequences.clamp(1, self.sequences.max(1)) * (length + 1);
        let chunks = self.tokens.chunks(size).enumerate();
        chunks.map(move |(number, tokens)| Self {
            tokens: tokens.to_vec(),
            learnt: self
                .learnt
                .get(number * size..number * size + tokens.len())
                .unwrap_or_default()
                .to_vec(),
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

    /// The weight of each target in the loss, 0 or 1, `[sequences, length]`; `None` if all count.
    pub(crate) fn target_weights(&self) -> Option<Vec<f32>> {
        let rows = self.learnt.chunks_exact(self.length + 1);
        let weights =
            rows.flat_map(|row| row[1..].iter().map(|learnt| f32::from(u8::from(*learnt))));
        (!self.learnt.is_empty()).then(|| weights.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_stays_with_its_rows() {
        let batch = Batch::partly_learnt(
            [
                (vec![1, 2, 3], Vec::new()),
                (vec![4, 5, 6], vec![true, false, true]),
                (vec![7, 8, 9], Vec::new()),
            ],
            2,
        );
        assert_eq!((batch.predictions(), batch.learnt()), (6, 5));
        assert_eq!(
            batch.target_weights().unwrap(),
            [1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
        );
        let parts: Vec<Batch> = batch.micro_batches(2).collect();
        assert_eq!(parts[0].target_weights().unwrap(), [1.0, 1.0, 0.0, 1.0]);
        assert_eq!((parts[1].learnt(), parts[1].rows()), (2, &[7, 8, 9][..]));
        assert_eq!(Batch::new([vec![1, 2]], 1).target_weights(), None);
    }
}
