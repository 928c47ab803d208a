//! The layout: the order and shapes of a model's tensors in one flat vector of parameters.
//!
//! Weights, pseudo-gradients and error feedback are each one `Vec<f32>`. In it the tensors follow
//! one another in the layout's order, row major and without gaps. Peers identify the layout by its
//! hash.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::Error;

const CONTEXT: &str = "commonweal layout v1";

/// A tensor's name and shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorSpec {
    /// The name, unique in its layout, such as `layers.0.attention.query`.
    pub name: String,
    /// The dimensions, outermost first. An empty shape is a single value.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A tensor with this name and shape.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
        }
    }

    /// The number of values, or `None` if it does not fit a `usize`.
    fn values(&self) -> Option<usize> {
        self.shape
            .iter()
            .try_fold(1usize, |product, &dimension| product.checked_mul(dimension))
    }
}

/// A model's tensors in order, and the position of each in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    /// Tensor `i` is `starts[i]..starts[i + 1]`; the last entry is the total.
    starts: Vec<usize>,
    hash: [u8; 32],
}

impl Layout {
    /// Lays the tensors out one after another.
    ///
    /// # Errors
    /// [`Error::NoTensors`], [`Error::DuplicateTensor`], [`Error::EmptyTensor`], or
    /// [`Error::TooManyParameters`] if the values do not fit this machine's address space.
    pub fn new(tensors: Vec<TensorSpec>) -> Result<Self, Error> {
        if tensors.is_empty() {
            return Err(Error::NoTensors);
        }
        let mut names = BTreeSet::new();
        let mut starts = Vec::with_capacity(tensors.len() + 1);
        let mut total = 0usize;
        for tensor in &tensors {
            let name = || tensor.name.clone();
            if !names.insert(tensor.name.as_str()) {
                return Err(Error::DuplicateTensor { name: name() });
            }
            if tensor.shape.contains(&0) {
                return Err(Error::EmptyTensor { name: name() });
            }
            starts.push(total);
            total = tensor
                .values()
                .and_then(|values| total.checked_add(values))
                .filter(|&total| total <= isize::MAX as usize / size_of::<f32>())
                .ok_or_else(|| Error::TooManyParameters { name: name() })?;
        }
        starts.push(total);
        let hash = hash(&tensors);
        Ok(Self {
            tensors,
            starts,
            hash,
        })
    }

    /// The tensors, in order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// The total number of values.
    pub fn parameters(&self) -> usize {
        self.starts[self.tensors.len()]
    }

    /// The range of tensor `index` in the flat vector.
    ///
    /// # Panics
    /// If the layout has no such tensor, as slice indexing does. Never pass a number from a peer.
    pub fn range(&self, index: usize) -> Range<usize> {
        self.starts[index]..self.starts[index + 1]
    }

    /// The range of each tensor in the flat vector, in order.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.starts.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// BLAKE3 over names and shapes with the context `commonweal layout v1`: the number of tensors,
    /// then for each tensor the length of its name, the name, the number of dimensions and the
    /// dimensions. Numbers are 64-bit little-endian, names are UTF-8.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Checks that a buffer has one value for every parameter.
    pub(crate) fn check_length(&self, what: &'static str, values: &[f32]) -> Result<(), Error> {
        let expected = self.parameters();
        if values.len() == expected {
            Ok(())
        } else {
            Err(Error::Length {
                what,
                expected,
                got: values.len(),
            })
        }
    }
}

fn hash(tensors: &[TensorSpec]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    let number = |hasher: &mut blake3::Hasher, value: usize| {
        hasher.update(&(value as u64).to_le_bytes());
    };
    number(&mut hasher, tensors.len());
    for tensor in tensors {
        number(&mut hasher, tensor.name.len());
        hasher.update(tensor.name.as_bytes());
        number(&mut hasher, tensor.shape.len());
        for &dimension in &tensor.shape {
            number(&mut hasher, dimension);
        }
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(tensors: &[(&str, &[usize])]) -> Result<Layout, Error> {
        Layout::new(
            tensors
                .iter()
                .map(|&(name, shape)| TensorSpec::new(name, shape))
                .collect(),
        )
    }

    #[test]
    fn tensors_follow_one_another() {
        let layout = layout(&[("a", &[2, 3]), ("b", &[]), ("c", &[4])]).unwrap();
        assert_eq!(layout.parameters(), 11);
        assert_eq!(layout.range(0), 0..6);
        assert_eq!(layout.range(1), 6..7);
        assert_eq!(layout.range(2), 7..11);
        assert_eq!(layout.ranges().collect::<Vec<_>>(), [0..6, 6..7, 7..11]);
    }

    #[test]
    fn an_impossible_layout_is_refused_with_the_tensors_name() {
        assert_eq!(layout(&[]), Err(Error::NoTensors));
        assert_eq!(
            layout(&[("a", &[1]), ("a", &[2])]),
            Err(Error::DuplicateTensor { name: "a".into() })
        );
        assert_eq!(
            layout(&[("a", &[3, 0])]),
            Err(Error::EmptyTensor { name: "a".into() })
        );
        let huge: &[usize] = &[usize::MAX, 2];
        assert_eq!(
            layout(&[("a", huge)]),
            Err(Error::TooManyParameters { name: "a".into() })
        );
        let half: &[usize] = &[usize::MAX / 8];
        assert_eq!(
            layout(&[("a", half), ("b", half)]),
            Err(Error::TooManyParameters { name: "b".into() })
        );
    }

    #[test]
    fn the_hash_depends_on_names_shapes_and_order() {
        let variants: [&[(&str, &[usize])]; 6] = [
            &[("a", &[2, 3]), ("b", &[6])],
            &[("b", &[6]), ("a", &[2, 3])],
            &[("a", &[3, 2]), ("b", &[6])],
            &[("a", &[6]), ("b", &[6])],
            &[("a", &[2, 3]), ("c", &[6])],
            &[("a", &[2, 3])],
        ];
        let hashes: BTreeSet<_> = variants
            .iter()
            .map(|&tensors| layout(tensors).unwrap().hash())
            .collect();
        assert_eq!(hashes.len(), variants.len());
    }
}
