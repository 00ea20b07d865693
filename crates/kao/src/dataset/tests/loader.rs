use std::sync::Arc;

use proptest::prelude::*;

use super::sample;
use crate::dataset::{Folder, Loader, LoaderConfig};

/// A folder of `n` distinct pictures, `rotation` giving them other names and positions.
fn folder(n: usize, rotation: usize) -> Arc<Folder> {
    let names = (0..n).map(|k| format!("{k}.png")).collect();
    let bytes = (0..n).flat_map(|k| sample(4, 4, ((k + rotation) % n) as u32).into_raw()).collect();
    Arc::new(Folder::from_bytes([3, 4, 4], names, bytes).unwrap())
}

fn loader(n: usize, seed: u64, horizontal_flip: bool) -> Loader {
    let config = LoaderConfig { seed, horizontal_flip };
    Loader::new(folder(n, 0), (0..n).collect(), config).unwrap()
}

#[test]
fn the_order_is_that_of_the_documented_formula() {
    // From testdata/make_order.py: `n seed epoch: places`, a place being a position in the order of
    // contents, with an f where the picture is mirrored.
    for line in include_str!("../testdata/order.txt").lines() {
        let (head, places) = line.split_once(": ").unwrap();
        let head: Vec<u64> = head.split(' ').map(|number| number.parse().unwrap()).collect();
        let [n, seed, epoch] = head[..] else { panic!("{line}") };
        let loader = loader(n as usize, seed, true);
        let folder = loader.folder();
        let mut by_content: Vec<usize> = (0..folder.len()).collect();
        by_content.sort_by_key(|&k| folder.pictures()[k].content_hash);

        let batch = loader.batch(epoch * n, n as usize).unwrap();
        for (k, place) in places.split(' ').enumerate() {
            let index = by_content[place.trim_end_matches('f').parse::<usize>().unwrap()];
            assert_eq!(batch.indices[k], index, "{head:?}, place {k}");
            let picture = folder.picture_bytes(index).unwrap();
            let expected = if place.ends_with('f') { mirrored(&picture) } else { picture.to_vec() };
            assert_eq!(batch.images.to_bytes_hwc(k), expected, "{head:?}, place {k}");
        }
    }
}

/// A 4×4 RGB picture with its columns reversed.
fn mirrored(picture: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; picture.len()];
    for (y, x, c) in (0..4).flat_map(|y| (0..4).flat_map(move |x| (0..3).map(move |c| (y, x, c)))) {
        bytes[(y * 4 + x) * 3 + c] = picture[(y * 4 + 3 - x) * 3 + c];
    }
    bytes
}

#[test]
fn only_the_given_pictures_are_dealt_out() {
    let config = LoaderConfig { seed: 1, horizontal_flip: false };
    let loader = Loader::new(folder(20, 0), vec![3, 14, 7], config).unwrap();
    assert_eq!(loader.epoch_len(), 3);
    let mut indices = loader.batch(0, 3).unwrap().indices;
    indices.sort_unstable();
    assert_eq!(indices, [3, 7, 14]);
}

#[test]
fn names_and_given_order_play_no_part() {
    let config = LoaderConfig { seed: 5, horizontal_flip: true };
    let expected = loader(15, 5, true).batch(0, 40).unwrap().images;
    let renamed = Loader::new(folder(15, 4), (0..15).rev().collect(), config).unwrap();
    assert_eq!(renamed.batch(0, 40).unwrap().images, expected);
}

#[test]
fn seeds_and_epochs_have_orders_of_their_own() {
    let order =
        |seed: u64, epoch: u64| loader(30, seed, false).batch(30 * epoch, 30).unwrap().indices;
    assert_eq!(order(1, 0), order(1, 0));
    assert_ne!(order(1, 0), order(2, 0));
    assert_ne!(order(1, 0), order(1, 1));
}

#[test]
fn about_half_of_the_pictures_are_mirrored_and_not_the_same_ones_each_time() {
    let loader = loader(100, 9, true);
    let flips = |epoch: u64| {
        let batch = loader.batch(100 * epoch, 100).unwrap();
        let mut flips = [false; 100];
        for (k, &index) in batch.indices.iter().enumerate() {
            flips[index] =
                loader.folder().picture_bytes(index).unwrap() != batch.images.to_bytes_hwc(k);
        }
        flips
    };
    for epoch in 0..5 {
        // Four standard deviations of a fair coin: 4·√(100/4) = 20.
        let n_flipped = flips(epoch).iter().filter(|&&flip| flip).count();
        assert!((30..=70).contains(&n_flipped), "{n_flipped} in epoch {epoch}");
    }
    assert_ne!(flips(0), flips(1));
}

#[test]
fn the_shuffle_favours_no_order() {
    // 6,000 epochs of three pictures: each of the six orders has 1,000 ± 4·√(6000·5/36).
    let loader = loader(3, 77, false);
    let mut counts = std::collections::BTreeMap::new();
    for epoch in 0..6000 {
        *counts.entry(loader.batch(3 * epoch, 3).unwrap().indices).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|count| (885..=1115).contains(count)), "{counts:?}");
}

#[test]
fn impossible_requests_are_refused() {
    let config = LoaderConfig { seed: 1, horizontal_flip: false };
    assert!(Loader::new(folder(5, 0), vec![], config).is_err());
    assert!(Loader::new(folder(5, 0), vec![0, 5], config).is_err());
    let loader = loader(5, 1, false);
    assert!(loader.batch(0, 0).is_err());
    assert!(loader.batch(u64::MAX, 2).is_err());
    assert_eq!(loader.batch(u64::MAX - 3, 2).unwrap().indices.len(), 2);
}

proptest! {
    /// Whatever the sizes of the batches, the stream is the same, and each epoch holds each
    /// picture once.
    #[test]
    fn batches_are_windows_of_one_stream_of_permutations(
        n in 1_usize..25,
        n_epochs in 1_usize..4,
        sizes in prop::collection::vec(1_usize..30, 1..30),
        seed in any::<u64>(),
    ) {
        let loader = loader(n, seed, true);
        let stream = loader.batch(0, n * n_epochs).unwrap();
        for epoch in stream.indices.chunks(n) {
            let mut epoch = epoch.to_vec();
            epoch.sort_unstable();
            prop_assert_eq!(epoch, (0..n).collect::<Vec<_>>());
        }

        let mut n_seen = 0;
        for size in sizes {
            let batch = loader.batch(n_seen as u64, size).unwrap();
            prop_assert_eq!(batch.images.shape(), [size, 3, 4, 4]);
            for k in 0..size.min((n * n_epochs).saturating_sub(n_seen)) {
                prop_assert_eq!(batch.indices[k], stream.indices[n_seen + k]);
                prop_assert_eq!(batch.images.image(k), stream.images.image(n_seen + k));
            }
            n_seen += size;
        }
    }
}
