//! Weights that are being fetched: a file of their full length, which fills up piece by piece.
//!
//! No list says what is there: whoever continues hashes the file and compares the tensors with
//! those wanted. So the file survives a crash at any moment, and its content may come from
//! anywhere: from a fetch that was interrupted, from weights that the swarm has left behind
//! meanwhile, or from a stored file that is damaged. What is equal stays; the rest is fetched.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use weal_coordinator_free::host::retention;
use weal_files::Access;
use weal_kernels::Layout;
use weal_kernels::state::{self, StateOutline};
use weal_proto::{BlobHash, Outline, RoundNumber, StateRoot};
use weal_trainer::ModelWeights;

use super::weights::{Durability, WeightFiles, Weights, WeightsId, to_bytes};
use crate::error::{Error, Result};

/// How the names of these files end.
const EXTENSION: &str = "part";
/// Values that are copied from other weights at once.
const COPIED_AT_ONCE: usize = 1 << 20;

/// The file of weights that are being fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartialWeights {
    pub id: WeightsId,
    path: PathBuf,
}

impl PartialWeights {
    /// The file for these weights, which may not exist yet.
    pub(crate) fn of(files: &WeightFiles, id: WeightsId) -> Self {
        let root = id.root.to_string();
        let name = format!("{:010}-{root}.{EXTENSION}", id.round.0);
        Self {
            id,
            path: files.folder().join(name),
        }
    }

    /// Every such file in the folder, the oldest round first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn all(files: &WeightFiles) -> Result<Vec<Self>> {
        let folder = files.folder();
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let listing = fs::read_dir(folder).map_err(Error::storage("cannot list", folder))?;
        let paths = listing.filter_map(|entry| Some(entry.ok()?.path()));
        let mut all: Vec<_> = paths.filter_map(Self::at).collect();
        all.sort_unstable_by_key(|partial| partial.id.round);
        Ok(all)
    }

    fn at(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?;
        let (round, root) = name.strip_suffix('.')?.split_once('-')?;
        let id = WeightsId {
            round: RoundNumber(round.parse().ok()?),
            root: root.parse::<StateRoot>().ok()?,
        };
        Some(Self { id, path })
    }

    /// Makes the file unless it is there, from what is likely to be equal.
    ///
    /// Older such files are given up, but one of a checkpoint only for a newer checkpoint: its
    /// fetch may go on. So there are hardly ever more than two.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub(crate) fn open(&self, files: &WeightFiles, layout: &Layout) -> Result<()> {
        let is_new = !self.path.exists();
        let is_checkpoint = |id: &WeightsId| retention::is_checkpoint(id.round);
        let mut others = Self::all(files)?;
        others.retain(|other| other != self && other.id.round <= self.id.round);
        others.retain(|other| is_checkpoint(&self.id) || !is_checkpoint(&other.id));
        // Those of a checkpoint have had more time to fill up.
        others.sort_by_key(|other| !is_checkpoint(&other.id));
        let mut others = others.into_iter();
        if is_new {
            let stored = files.path(self.id.round);
            if stored.exists() {
                fs::copy(&stored, &self.path)
                    .map_err(Error::storage("cannot copy weights to", &self.path))?;
            } else if let Some(other) = others.next() {
                fs::rename(&other.path, &self.path)
                    .map_err(Error::storage("cannot rename to", &self.path))?;
            } else {
                weal_files::create(&self.path, Access::Owner, &[])?;
            }
        }
        others.for_each(|other| other.delete());
        let bytes = layout.parameters() as u64 * 4;
        let file = self.file()?;
        file.set_len(bytes)
            .map_err(Error::storage("cannot write", &self.path))
    }

    fn file(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(&self.path);
        file.map_err(Error::storage("cannot open", &self.path))
    }

    /// Looks which tensors are in the file. Takes those that are not from `similar`, where they are
    /// equal.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub(crate) fn look(
        &self,
        layout: &Layout,
        tensors: &[BlobHash],
        similar: Option<&Weights>,
    ) -> Result<InPart> {
        let here = InPart::new(self.outline(layout)?.1, tensors);
        let Some(similar) = similar else {
            return Ok(here);
        };
        let equal = InPart::new(StateOutline::clone(&similar.outline), tensors);
        let missing = here.missing.iter().copied();
        let copied: Vec<_> = missing.filter(|place| equal.has(*place)).collect();
        if copied.is_empty() {
            return Ok(here);
        }
        self.copy(layout, &copied, similar)?;
        // They may be damaged on disk, where `similar` lies.
        Ok(InPart::new(self.outline(layout)?.1, tensors))
    }

    fn copy(&self, layout: &Layout, places: &[usize], from: &Weights) -> Result<()> {
        let mut file = self.file()?;
        for place in places {
            let range = layout.ranges().nth(*place).unwrap_or_default();
            let copied = file
                .seek(SeekFrom::Start(range.start as u64 * 4))
                .and_then(|_| {
                    let values = from.values.get(range).unwrap_or_default();
                    let mut pieces = values.chunks(COPIED_AT_ONCE);
                    pieces.try_for_each(|piece| file.write_all(&to_bytes(piece)))
                });
            copied.map_err(Error::storage("cannot write", &self.path))?;
        }
        from.values.release();
        Ok(())
    }

    /// The values, in the file and not in memory, and their outline.
    fn outline(&self, layout: &Layout) -> Result<(ModelWeights, StateOutline)> {
        let values = self.map(layout)?;
        let outline = state::outline(layout, &values)?;
        values.release();
        Ok((values, outline))
    }

    /// The file becomes that of the round's weights, if it is complete.
    ///
    /// # Errors
    /// When the weights are not those wanted, or the disk cannot be written.
    pub(crate) fn finish(&self, files: &WeightFiles, layout: &Layout) -> Result<Weights> {
        let WeightsId { round, root } = self.id;
        let (values, outline) = self.outline(layout)?;
        if StateRoot::from(outline.root(layout)?) != root {
            return Err(Error::network(format!(
                "the weights of round {round} that arrived are not the decided ones"
            )));
        }
        files.note_root(round, root, Durability::Synced)?;
        weal_files::publish(&self.path, &files.path(round))?;
        Weights::with_outline(layout, round, values, outline)
    }

    fn map(&self, layout: &Layout) -> Result<ModelWeights> {
        ModelWeights::in_file(&self.file()?, layout.parameters())
            .map_err(Error::storage("cannot read", &self.path))
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Deletes the files of weights up to this round, which nobody wants any longer.
    pub(crate) fn delete_until(files: &WeightFiles, round: RoundNumber) {
        match Self::all(files) {
            Ok(all) => {
                let old = all.iter().filter(|partial| partial.id.round <= round);
                old.for_each(Self::delete);
            }
            Err(error) => tracing::debug!("{error:#}"),
        }
    }

    /// Deletes the file: nobody wants these weights any longer.
    fn delete(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("cannot delete {}: {error}", self.path.display());
        }
    }
}

/// What is in such a file.
pub(crate) struct InPart {
    /// The outlines of what is there, in the layout's order.
    outline: StateOutline,
    /// Places of the tensors that are not those wanted.
    pub missing: Vec<usize>,
}

impl InPart {
    fn new(outline: StateOutline, wanted: &[BlobHash]) -> Self {
        let both = outline.tensors.iter().zip(wanted).enumerate();
        let missing = both.filter(|(_, (here, wanted))| here.hash() != **wanted);
        let missing = missing.map(|(place, _)| place).collect();
        Self { outline, missing }
    }

    fn has(&self, place: usize) -> bool {
        place < self.outline.tensors.len() && !self.missing.contains(&place)
    }

    /// The tensors that are there, with their places.
    pub(crate) fn whole(self) -> impl Iterator<Item = (usize, Outline)> {
        let Self { outline, missing } = self;
        let all = outline.tensors.into_iter().enumerate();
        all.filter(move |(place, _)| !missing.contains(place))
    }
}

#[cfg(test)]
mod tests {
    use weal_kernels::TensorSpec;

    use super::*;

    fn layout() -> Layout {
        Layout::new(vec![
            TensorSpec::new("a", [5]),
            TensorSpec::new("b", [300_000]),
            TensorSpec::new("c", [7]),
        ])
        .unwrap()
    }

    fn values(layout: &Layout, seed: usize) -> Vec<f32> {
        let values = (0..layout.parameters()).map(|place| ((place * 7 + seed) % 1001) as f32);
        values.collect()
    }

    /// The id and the tensors' hashes of weights.
    fn describe(layout: &Layout, round: u64, values: &[f32]) -> (WeightsId, Vec<BlobHash>) {
        let outline = state::outline(layout, values).unwrap();
        let id = WeightsId {
            round: RoundNumber(round),
            root: outline.root(layout).unwrap().into(),
        };
        (id, outline.tensors.iter().map(Outline::hash).collect())
    }

    fn missing(partial: &PartialWeights, layout: &Layout, tensors: &[BlobHash]) -> Vec<usize> {
        partial.look(layout, tensors, None).unwrap().missing
    }

    fn write_tensor(partial: &PartialWeights, layout: &Layout, place: usize, values: &[f32]) {
        let range = layout.ranges().nth(place).unwrap();
        let mut file = partial.file().unwrap();
        file.seek(SeekFrom::Start(range.start as u64 * 4)).unwrap();
        file.write_all(&to_bytes(&values[range])).unwrap();
    }

    #[test]
    fn weights_grow_over_restarts_and_are_stored_once_they_are_whole() {
        let (dir, layout) = (tempfile::tempdir().unwrap(), layout());
        let files = WeightFiles::new(dir.path().to_owned());
        let wanted = values(&layout, 3);
        let (id, tensors) = describe(&layout, 64, &wanted);
        let missing = |partial: &PartialWeights| missing(partial, &layout, &tensors);

        let partial = PartialWeights::of(&files, id);
        partial.open(&files, &layout).unwrap();
        assert_eq!(missing(&partial), [0, 1, 2]);
        write_tensor(&partial, &layout, 1, &wanted);
        drop(partial);

        let partial = PartialWeights::all(&files).unwrap().pop().unwrap();
        assert_eq!(partial, PartialWeights::of(&files, id));
        partial.open(&files, &layout).unwrap();
        assert_eq!(missing(&partial), [0, 2]);
        assert!(partial.finish(&files, &layout).is_err());
        write_tensor(&partial, &layout, 0, &wanted);
        write_tensor(&partial, &layout, 2, &wanted);
        let weights = partial.finish(&files, &layout).unwrap();
        assert_eq!((weights.round, weights.root), (id.round, id.root));
        assert!(**weights.values == *wanted);
        assert_eq!(files.load(&layout, id.round).unwrap().root, id.root);
        assert_eq!(files.written_root(id.round), Some(id.root));
        assert!(PartialWeights::all(&files).unwrap().is_empty());
    }

    #[test]
    fn only_what_differs_from_a_damaged_file_is_missing() {
        let (dir, layout) = (tempfile::tempdir().unwrap(), layout());
        let files = WeightFiles::new(dir.path().to_owned());
        let wanted = values(&layout, 3);
        let (id, tensors) = describe(&layout, 7, &wanted);
        files.store(&layout, id.round, &wanted).unwrap();
        let file = OpenOptions::new().write(true).open(files.path(id.round));
        let mut file = file.unwrap();
        file.seek(SeekFrom::Start(4 * 1000 + 2)).unwrap();
        file.write_all(&[255]).unwrap();

        let partial = PartialWeights::of(&files, id);
        partial.open(&files, &layout).unwrap();
        assert_eq!(missing(&partial, &layout, &tensors), [1]);
        write_tensor(&partial, &layout, 1, &wanted);
        partial.finish(&files, &layout).unwrap();
        assert_eq!(files.load(&layout, id.round).unwrap().root, id.root);
    }

    #[test]
    fn tensors_that_have_not_changed_are_taken_from_the_weights_that_are_here() {
        let (dir, layout) = (tempfile::tempdir().unwrap(), layout());
        let files = WeightFiles::new(dir.path().to_owned());
        let here = values(&layout, 3);
        let mut wanted = here.clone();
        wanted[2] += 1.0;
        let (id, tensors) = describe(&layout, 32, &wanted);
        let here = Weights::new(&layout, RoundNumber(0), here).unwrap();
        let partial = PartialWeights::of(&files, id);
        partial.open(&files, &layout).unwrap();
        let found = partial.look(&layout, &tensors, Some(&here)).unwrap();
        assert_eq!(found.missing, [0]);
        assert_eq!(missing(&partial, &layout, &tensors), [0]);
        let whole = found
            .whole()
            .map(|(place, outline)| (place, outline.hash()));
        assert!(whole.eq([(1, tensors[1]), (2, tensors[2])]));
    }

    #[test]
    fn a_tensor_that_is_damaged_in_the_weights_that_are_here_stays_missing() {
        let (dir, layout) = (tempfile::tempdir().unwrap(), layout());
        let files = WeightFiles::new(dir.path().to_owned());
        let wanted = values(&layout, 3);
        let (id, tensors) = describe(&layout, 32, &wanted);
        let outline = state::outline(&layout, &wanted).unwrap();
        let mut damaged = wanted;
        damaged[7] += 1.0;
        // The file changed under the mapping.
        let here = Weights::with_outline(&layout, RoundNumber(31), damaged.into(), outline);
        let partial = PartialWeights::of(&files, id);
        partial.open(&files, &layout).unwrap();
        let found = partial
            .look(&layout, &tensors, Some(&here.unwrap()))
            .unwrap();
        assert_eq!(found.missing, [1]);
    }

    #[test]
    fn a_newer_checkpoint_takes_over_what_has_arrived_and_other_weights_leave_it_alone() {
        let (dir, layout) = (tempfile::tempdir().unwrap(), layout());
        let files = WeightFiles::new(dir.path().to_owned());
        let old = values(&layout, 3);
        let at = |round, values: &[f32]| {
            let (id, tensors) = describe(&layout, round, values);
            (PartialWeights::of(&files, id), tensors)
        };
        let (first, _) = at(32, &old);
        first.open(&files, &layout).unwrap();
        write_tensor(&first, &layout, 1, &old);
        for round in [60, 61] {
            let (newest, _) = at(round, &values(&layout, round as usize));
            newest.open(&files, &layout).unwrap();
            assert_eq!(
                PartialWeights::all(&files).unwrap(),
                [first.clone(), newest]
            );
        }

        let mut wanted = old.clone();
        wanted[0] += 1.0;
        let (second, tensors) = at(64, &wanted);
        second.open(&files, &layout).unwrap();
        assert_eq!(missing(&second, &layout, &tensors), [0, 2]);
        assert_eq!(PartialWeights::all(&files).unwrap(), [second]);
    }
}
