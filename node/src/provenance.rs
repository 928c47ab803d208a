//! Where exported weights come from, as texts in a model file's metadata.
//!
//! | key | text |
//! |---|---|
//! | `commonweal.run` | the run's id: the hash of its manifest |
//! | `commonweal.round` | the round that starts from the weights |
//! | `commonweal.state_root` | the hash of the weights in f32 |
//! | `commonweal.type` | the file's number format, as `weal export --type` names it |
//! | `commonweal.certificate` | the voters' signatures under that round, in hexadecimal; missing if the round was not decided yet, or a node was running in the folder |

use std::str::FromStr;

use weal_proto::round::Certificate;
use weal_proto::{Message, RoundNumber, RunId, StateRoot};
use weal_trainer::Labels;

use crate::error::{Error, Result};

/// How the keys begin.
pub(crate) const PREFIX: &str = "commonweal.";

/// Where weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// The run that trained them.
    pub run: RunId,
    /// The round that starts from them.
    pub round: RoundNumber,
    /// Their state root.
    pub root: StateRoot,
    /// The certificate of that round, if it was decided.
    pub certificate: Option<Certificate>,
}

impl Provenance {
    /// The texts for a file in that number format.
    pub(crate) fn labels(&self, format: impl ToString) -> Labels {
        let mut texts = vec![
            ("run", self.run.to_string()),
            ("round", self.round.to_string()),
            ("state_root", self.root.to_string()),
            ("type", format.to_string()),
        ];
        if let Some(certificate) = &self.certificate {
            texts.push(("certificate", hex::encode(certificate.encode())));
        }
        let label = |(key, text)| (format!("{PREFIX}{key}"), text);
        texts.into_iter().map(label).collect()
    }

    /// What the texts of a file say, and the file's number format. `None` if they say nothing.
    ///
    /// # Errors
    /// When a text is missing or means nothing.
    pub(crate) fn read(labels: &Labels) -> Result<Option<(Self, String)>> {
        if labels.is_empty() {
            return Ok(None);
        }
        let certificate = labels.get(&format!("{PREFIX}certificate"));
        let certificate = certificate.map(|text| {
            let bytes = hex::decode(text).map_err(|error| unclear("certificate", error))?;
            Certificate::decode(&bytes).map_err(|error| unclear("certificate", error))
        });
        let provenance = Self {
            run: parsed(labels, "run")?,
            round: RoundNumber(parsed(labels, "round")?),
            root: parsed(labels, "state_root")?,
            certificate: certificate.transpose()?,
        };
        Ok(Some((provenance, parsed(labels, "type")?)))
    }
}

fn parsed<T: FromStr>(labels: &Labels, key: &str) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = labels.get(&format!("{PREFIX}{key}"));
    let text = text.ok_or_else(|| unclear(key, "it is missing"))?;
    text.parse().map_err(|error: T::Err| unclear(key, error))
}

fn unclear(key: &str, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::data(format!("the file's {PREFIX}{key} cannot be used")).caused_by(why)
}

#[cfg(test)]
mod tests {
    use weal_proto::View;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let plain = Provenance {
            run: [1; 32].into(),
            round: RoundNumber(7),
            root: [2; 32].into(),
            certificate: None,
        };
        let certificate = Certificate {
            round: RoundNumber(7),
            view: View(1),
            value: [3; 32].into(),
            signatures: Vec::new(),
        };
        let proven = Provenance {
            certificate: Some(certificate),
            ..plain.clone()
        };
        for provenance in [plain, proven] {
            let labels = provenance.labels("q8_0");
            let read = Provenance::read(&labels).unwrap();
            assert_eq!(read, Some((provenance, "q8_0".to_owned())));
        }
    }

    #[test]
    fn texts_that_mean_nothing_are_named() {
        assert_eq!(Provenance::read(&Labels::new()).unwrap(), None);
        let some = Labels::from([("commonweal.run".to_owned(), "12".to_owned())]);
        let error = Provenance::read(&some).unwrap_err().to_string();
        assert!(error.contains("commonweal.run"), "{error}");
    }
}
