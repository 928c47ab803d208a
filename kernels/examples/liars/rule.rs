//! Outer steps to compare: from clipped contributions to the step.

use weal_kernels::{Contribution, Error, Layout, clip_factors};

use crate::attack::norm;
use crate::model::WEIGHTS;

/// How contributions become a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The sum over the root of the number of senders, norms clipped to the median.
    Root,
    /// The same without clipping.
    Unclipped,
    /// The mean over the senders.
    Senders,
    /// The root rule; where several sent, only values of the sign that most have.
    Agreement,
    /// The root rule; where only one sent, divided by the root of two.
    Lone,
    /// The root rule; what one alone changes of a tensor is clipped to the median of that.
    Cap,
    /// Centred clipping: the last step plus the mean of the differences to it, clipped to their
    /// median norm (arXiv 2012.10333).
    Centred,
}

impl Rule {
    pub(crate) const ALL: [(&str, Self); 7] = [
        ("root", Self::Root),
        ("unclipped", Self::Unclipped),
        ("senders", Self::Senders),
        ("agreement", Self::Agreement),
        ("lone", Self::Lone),
        ("cap", Self::Cap),
        ("centred", Self::Centred),
    ];

    /// The step of a round, before it is multiplied by the outer rate.
    pub(crate) fn step(
        self,
        layout: &Layout,
        set: &[Contribution],
        last: &[f32],
    ) -> Result<Vec<f32>, Error> {
        let mut clips = clip_factors(set, &vec![1_000_000; set.len()]);
        if self == Self::Unclipped {
            clips.iter_mut().for_each(|clips| clips.fill(1.0));
        }
        let dense = set.iter().zip(&clips).map(|(one, clips)| {
            let mut dense = vec![0.0; WEIGHTS];
            one.add_clipped_to(layout, &mut dense, 1.0, clips)
                .map(|()| dense)
        });
        let mut dense = dense.collect::<Result<Vec<_>, _>>()?;
        if self == Self::Centred {
            return Ok(centred(&mut dense, last));
        }
        if self == Self::Cap {
            cap_lone(layout, &mut dense);
        }
        let step = (0..WEIGHTS).map(|place| {
            let sent = dense.iter().map(|one| one[place]).filter(|one| *one != 0.0);
            self.combine(sent)
        });
        Ok(step.collect())
    }

    fn combine(self, sent: impl Iterator<Item = f32> + Clone) -> f32 {
        let count = sent.clone().count() as f32;
        let sum: f32 = sent.clone().sum();
        match self {
            _ if count == 0.0 => 0.0,
            Self::Senders => sum / count,
            Self::Agreement => {
                let up = sent.clone().filter(|value| *value > 0.0).count() as f32;
                let sign = up * 2.0 - count;
                let with_most: f32 = sent.filter(|value| value * sign > 0.0).sum();
                with_most / count.sqrt()
            }
            Self::Lone => sum / count.max(2.0).sqrt(),
            Self::Root | Self::Unclipped | Self::Cap | Self::Centred => sum / count.sqrt(),
        }
    }
}

/// Scales down what each peer alone changes of each tensor to the median over the peers.
fn cap_lone(layout: &Layout, dense: &mut [Vec<f32>]) {
    for range in layout.ranges() {
        let senders: Vec<usize> = range
            .clone()
            .map(|place| dense.iter().filter(|one| one[place] != 0.0).count())
            .collect();
        let lone = |one: &Vec<f32>| {
            let values = one[range.clone()].iter().zip(&senders);
            let squares = values.filter(|(_, senders)| **senders == 1);
            squares.map(|(value, _)| value * value).sum::<f32>().sqrt()
        };
        let norms: Vec<f32> = dense.iter().map(lone).collect();
        let usual = median(norms.clone());
        for (one, norm) in dense
            .iter_mut()
            .zip(norms)
            .filter(|(_, norm)| *norm > usual)
        {
            let values = one[range.clone()].iter_mut().zip(&senders);
            values
                .filter(|(_, senders)| **senders == 1)
                .for_each(|(value, _)| *value *= usual / norm);
        }
    }
}

fn centred(dense: &mut [Vec<f32>], centre: &[f32]) -> Vec<f32> {
    for one in dense.iter_mut() {
        one.iter_mut()
            .zip(centre)
            .for_each(|(value, centre)| *value -= centre);
    }
    let norms: Vec<f32> = dense.iter().map(|one| norm(one)).collect();
    let usual = median(norms.clone());
    let mut step = centre.to_vec();
    for (one, norm) in dense.iter().zip(norms) {
        let factor = (usual / norm.max(1e-30)).min(1.0) / dense.len() as f32;
        step.iter_mut()
            .zip(one)
            .for_each(|(step, value)| *step += factor * value);
    }
    step
}

fn median(mut values: Vec<f32>) -> f32 {
    values.sort_unstable_by(f32::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
