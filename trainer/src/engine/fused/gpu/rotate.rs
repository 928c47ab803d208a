//! Rotary positions.

use burn::backend::Cube;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::tensor::Tensor;
use weal_kernels::gpu::training::{self, Heads};

use super::tracked::{parts, register, track};
use super::{flat, tensor, values};
use crate::gpu_client::CubeTensor;

/// Rotates rows, `[sequences · tokens, heads · width]`, to heads,
/// `[sequences, heads, tokens, width]`. Cosines and sines are `[1, 1, tokens, width]`; `half` of a
/// head's components turn with as many others.
pub(in crate::engine) fn rotate(x: Tensor<2>, tables: [Tensor<4>; 2], half: usize) -> Tensor<4> {
    let ([rows, columns], [_, _, tokens, width]) = (x.dims(), tables[0].dims());
    let heads = Heads {
        sequences: rows / tokens,
        heads: columns / width,
        tokens,
        width,
        half,
    };
    let shape = [heads.sequences, heads.heads, tokens, width];
    let tables = tables.map(flat);
    let rotated = |x: &CubeTensor| {
        let [cosines, sines] = [&tables[0], &tables[1]].map(values);
        let rotated = training::rotate(&x.client, &values(x), [&cosines, &sines], &heads);
        tensor(x, rotated, shape)
    };
    if !x.is_autodiff() {
        return rotated(&flat(x));
    }
    let (x, node) = parts(x);
    let output = rotated(&flat(x));
    track(Rotate, [node], (tables, heads), output)
}

#[derive(Debug)]
struct Rotate;

impl Backward<Cube, 1> for Rotate {
    /// Cosines and sines, and the shape of the heads.
    type State = ([CubeTensor; 2], Heads);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let above = Tensor::<4>::from_primitive::<Cube>(gradients.consume::<Cube>(&ops.node));
        let (tables, heads) = ops.state;
        let above = flat(above);
        let [cosines, sines] = [&tables[0], &tables[1]].map(values);
        let of_rows =
            training::rotate_backward(&above.client, &values(&above), [&cosines, &sines], &heads);
        let shape = [heads.sequences * heads.tokens, heads.heads * heads.width];
        let [parent] = ops.parents.map(|parent| parent.map(|parent| parent.id));
        register(gradients, parent, || tensor(&above, of_rows, shape));
    }
}
