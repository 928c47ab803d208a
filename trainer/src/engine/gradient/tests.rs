use std::sync::Mutex;

use super::*;
use crate::engine::tests::{batch, on_cpu, small_models, weights};

/// Counts how often each tensor's gradient is handed on.
struct Counts {
    whole: Mutex<Vec<usize>>,
    rows: Mutex<Vec<usize>>,
}

impl Counts {
    fn new(tensors: usize) -> Self {
        Self {
            whole: Mutex::new(vec![0; tensors]),
            rows: Mutex::new(vec![0; tensors]),
        }
    }
}

impl Accumulate for Counts {
    fn add(&self, gradients: Vec<(usize, Tensor<2>)>) {
        let mut whole = self.whole.lock().unwrap();
        for (tensor, _) in gradients {
            whole[tensor] += 1;
        }
    }

    fn add_rows(&self, tensor: usize, rows: &Rows<'_>, values: Tensor<2>) {
        assert_eq!(rows.on_host.len(), values.dims()[0]);
        self.rows.lock().unwrap()[tensor] += 1;
    }
}

#[test]
fn block_by_block_a_gradient_is_handed_on_once_for_all_micro_batches() {
    for spec in small_models() {
        let (mut engine, batch) = (on_cpu(&spec), batch(&spec, 5));
        engine.load(&weights(&spec)).unwrap();
        let tensors = spec.layout().unwrap().tensors().len();
        for (by_block, times) in [(true, 1), (false, 5)] {
            let trade_off = TradeOff {
                sequences: 1,
                recompute: true,
                by_block,
                scores: 1,
            };
            let counts = Counts::new(tensors);
            let passes = engine.passes(batch.length(), trade_off);
            passes.gradients(&batch, 1.0, Some(&counts)).unwrap();
            let (whole, rows) = (counts.whole.into_inner(), counts.rows.into_inner());
            // The embedding gets the rows of its tokens, and the head's gradient if it is tied.
            let embedding = passes.model.index().embedding();
            assert_eq!(rows.unwrap()[embedding], 5);
            for (tensor, found) in whole.unwrap().into_iter().enumerate() {
                let is_tied = passes.model.index().head() == embedding;
                let expected = if tensor == embedding && !is_tied {
                    0
                } else {
                    times
                };
                assert_eq!(found, expected, "tensor {tensor}, by block: {by_block}");
            }
        }
    }
}

#[test]
fn without_memory_for_all_micro_batches_they_go_one_after_another() {
    let by_block = TradeOff {
        sequences: 1,
        recompute: true,
        by_block: true,
        ..TradeOff::default()
    };
    let reduced = by_block.reduced(8).unwrap();
    assert_eq!(
        reduced,
        TradeOff {
            by_block: false,
            ..by_block
        }
    );
    assert_eq!(reduced.reduced(8), None);
}
