use weal_kernels::TensorSpec;

use super::*;

fn blobs(dir: &Path) -> Blobs {
    let store = Store::open(&dir.join("store.redb"), [1; 32].into()).unwrap();
    Blobs::open(dir.join("blobs"), store).unwrap()
}

#[test]
fn a_hidden_blob_is_served_only_once_revealed() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(dir.path());
    let hash = blobs
        .put(b"learnt", Keep::Round(RoundNumber(3)), true)
        .unwrap();
    assert_eq!(blobs.chunk(&hash, 0), Err(Withheld::NotYet));
    assert_eq!(
        blobs.get(&hash).unwrap().as_deref(),
        Some(b"learnt".as_slice()),
        "its owner may read it"
    );
    blobs.reveal(&hash).unwrap();
    assert_eq!(blobs.chunk(&hash, 0).unwrap(), b"learnt");
    assert_eq!(blobs.chunk(&hash, 1), Err(Withheld::NotHere));
}

#[test]
fn a_damaged_blob_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(dir.path());
    let hash = blobs.put(b"learnt", Keep::Pinned, false).unwrap();
    fs::write(blobs.path(&hash), b"burned").unwrap();
    assert_eq!(blobs.get(&hash).unwrap(), None);
    assert!(!blobs.has(&hash));
}

#[test]
fn a_file_is_taken_in_without_a_copy_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(dir.path());
    let path = dir.path().join("shard");
    fs::write(&path, b"tokens").unwrap();
    let hash = Outline::of(b"tokens").hash();
    assert_eq!(
        blobs.put_file(&path, &[9; 32].into()).unwrap_err().code(),
        4
    );
    blobs.put_file(&path, &hash).unwrap();
    blobs.put_file(&path, &hash).unwrap();
    assert_eq!(
        blobs.get(&hash).unwrap().as_deref(),
        Some(b"tokens".as_slice())
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(blobs.chunk(&hash, 0).unwrap(), b"tokens");
}

#[test]
fn the_index_survives_a_restart_and_old_rounds_go() {
    let dir = tempfile::tempdir().unwrap();
    let old = blobs(dir.path())
        .put(b"old", Keep::Round(RoundNumber(1)), false)
        .unwrap();
    let reopened = blobs(dir.path());
    let data = reopened
        .put(&vec![5; CHUNK_BYTES + 1], Keep::Pinned, false)
        .unwrap();
    assert!(reopened.has(&old));
    reopened.prune(RoundNumber(2)).unwrap();
    assert!(!reopened.has(&old));
    assert_eq!(reopened.outline(&data).unwrap().chunks.len(), 2);
}

#[test]
fn a_restart_in_the_middle_of_a_round_hides_exactly_what_was_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let put = |blobs: &Blobs, bytes: &[u8], round| {
        let keep = Keep::Round(RoundNumber(round));
        blobs.put(bytes, keep, true).unwrap()
    };
    let before = blobs(dir.path());
    let (revealed, hidden) = (put(&before, b"mine", 0), put(&before, b"not yet", 0));
    before.reveal(&revealed).unwrap();
    drop(before);
    let after = blobs(dir.path());
    assert_eq!(after.chunk(&revealed, 0).unwrap(), b"mine");
    assert_eq!(after.chunk(&hidden, 0), Err(Withheld::NotYet));
    let next = put(&after, b"of the next round", 1);
    after.reveal_until(RoundNumber(0)).unwrap();
    assert_eq!(after.chunk(&hidden, 0).unwrap(), b"not yet");
    drop(after);
    let decided = blobs(dir.path());
    assert_eq!(decided.chunk(&hidden, 0).unwrap(), b"not yet");
    assert_eq!(decided.chunk(&next, 0), Err(Withheld::NotYet));
}

#[test]
fn what_a_commitment_names_is_told_from_the_index_alone() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(dir.path());
    let round = RoundNumber(3);
    let data = blobs.put(b"text of the run", Keep::Pinned, false).unwrap();
    let made = blobs.put(b"learnt", Keep::Round(round), false).unwrap();
    for hash in [data, made] {
        fs::remove_file(blobs.path(&hash)).unwrap();
    }
    assert_eq!(blobs.holding(&made, round, 6), Holding::Contribution);
    assert_eq!(blobs.holding(&made, round, 7), Holding::Else);
    assert_eq!(blobs.holding(&made, round.next(), 6), Holding::Else);
    assert_eq!(blobs.holding(&data, round, 15), Holding::Else);
    assert_eq!(blobs.holding(&[9; 32].into(), round, 6), Holding::Nothing);
}

#[test]
fn contributions_that_were_left_out_go_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(dir.path());
    let put = |bytes: &[u8], round| {
        let keep = Keep::Round(RoundNumber(round));
        blobs.put(bytes, keep, false).unwrap()
    };
    let (chosen, left_out, of_next) = (put(b"a", 1), put(b"b", 1), put(b"c", 2));
    let keep = BTreeSet::from([chosen]);
    blobs.prune_left_out(RoundNumber(1), &keep).unwrap();
    let here = [chosen, left_out, of_next].map(|hash| blobs.has(&hash));
    assert_eq!(here, [true, false, true]);
}

#[test]
fn a_pinned_blob_stays_pinned_whatever_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(dir.path());
    let data = blobs.put(b"text", Keep::Pinned, false).unwrap();
    blobs
        .put(b"text", Keep::Round(RoundNumber(1)), false)
        .unwrap();
    blobs.prune(RoundNumber(9)).unwrap();
    assert!(blobs.has(&data));
}

#[test]
fn tensors_are_served_from_every_file_that_has_them_and_damage_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(dir.path());
    let layout = Layout::new(vec![
        TensorSpec::new("same", [4]),
        TensorSpec::new("changes", [3]),
    ])
    .unwrap();
    let files = WeightFiles::new(dir.path().join("weights"));
    let store = |round: u64, changes: f32| {
        let values = [1.0, 2.0, 3.0, 4.0, changes, 0.0, 0.0];
        let stored = files.store(&layout, RoundNumber(round), &values);
        stored.unwrap().outline
    };
    let mut stored = BTreeMap::from([
        (RoundNumber(32), store(32, 5.0)),
        (RoundNumber(40), store(40, 6.0)),
    ]);
    blobs.show_weights(&layout, &files, &stored);
    let [same, changes] = &stored[&RoundNumber(32)].tensors[..] else {
        panic!("two tensors")
    };
    let (same, changes) = (same.hash(), changes.hash());
    assert_eq!(blobs.chunk(&same, 0).unwrap().len(), 16);

    // The newer file goes; the older one has the same tensor.
    stored.remove(&RoundNumber(40));
    files.remove(RoundNumber(40)).unwrap();
    blobs.show_weights(&layout, &files, &stored);
    assert_eq!(blobs.chunk(&same, 0).unwrap().len(), 16);
    assert!(blobs.take_damaged().is_empty());

    let file = files.path(RoundNumber(32));
    let mut bytes = fs::read(&file).unwrap();
    bytes[17] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(blobs.chunk(&changes, 0), Err(Withheld::NotHere));
    assert_eq!(blobs.chunk(&same, 0).unwrap().len(), 16);
    assert_eq!(blobs.take_damaged(), BTreeSet::from([file]));
    assert!(blobs.take_damaged().is_empty());
}

#[test]
fn a_damaged_chunk_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(dir.path());
    let hash = blobs.put(b"learnt", Keep::Pinned, false).unwrap();
    fs::write(blobs.path(&hash), b"burned").unwrap();
    assert_eq!(blobs.chunk(&hash, 0), Err(Withheld::NotHere));
}

#[test]
fn a_blob_that_was_fetched_into_a_file_is_moved_and_its_damage_is_found_piece_by_piece() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = blobs(dir.path());
    // More than is hashed at once.
    let bytes: Vec<u8> = (0..17 * CHUNK_BYTES + 5)
        .map(|at| (at / 1000) as u8)
        .collect();
    let outline = Outline::of(&bytes);
    let hash = outline.hash();
    let part = dir.path().join("part");
    // The manifest said that it is longer.
    fs::write(&part, [&bytes[..], &[0; 9]].concat()).unwrap();
    blobs.take_fetched(&part, &outline).unwrap();
    assert!(!part.exists());
    let file = blobs.sound_file(&hash).unwrap().unwrap();
    assert!(fs::read(&file).unwrap() == bytes);
    assert_eq!(blobs.chunk(&hash, 17).unwrap(), &bytes[17 * CHUNK_BYTES..]);

    let mut damaged = bytes;
    damaged[16 * CHUNK_BYTES + 3] ^= 1;
    fs::write(&file, &damaged).unwrap();
    assert_eq!(blobs.sound_file(&hash).unwrap(), None);
    assert!(!blobs.has(&hash) && !file.exists(), "it is fetched again");
}
