//! Properties of the distances, values that another implementation computed, and neighbours.

use super::sliced_wasserstein::{DIRECTIONS_TOGETHER, directions, key, sorted, value};
use super::*;
use crate::control::{Report, Unattended};
use crate::images::Images;
use crate::noise::{Purpose, SeededNoise, Stream};
use proptest::prelude::*;
use std::ops::ControlFlow;

/// The distance of two sets at each level.
fn distance(a: &Images, b: &Images, seed: u64) -> Vec<f64> {
    let levels = distances(&[a, b], &[[0, 1]], seed, &Unattended).unwrap();
    levels.into_iter().map(|level| level.distances[0]).collect()
}

fn average(a: &Images, b: &Images) -> f64 {
    let levels = distance(a, b, 999);
    levels.iter().sum::<f64>() / levels.len() as f64
}

fn noise(n: usize, shape: [usize; 3], first_image: u64) -> Images {
    SeededNoise { seed: 5, first_image }.x_t(n, shape)
}

/// Discs of random places, sizes and colours on a plain ground: pictures with edges.
fn discs(n: usize, side: usize, first: u64) -> Images {
    let mut images = Images::zeros([n, 3, side, side]);
    for k in 0..n {
        let mut stream = Stream::new(17, Purpose::Noising, first + k as u64, 0);
        let image = images.image_mut(k);
        for plane in image.chunks_exact_mut(side * side) {
            plane.fill(2.0 * stream.uniform() as f32 - 1.0);
        }
        for _ in 0..6 {
            let [x, y, r] = [1.0, 1.0, 0.3].map(|scale| scale * stream.uniform() * side as f64);
            let colour = [0; 3].map(|_| 2.0 * stream.uniform() as f32 - 1.0);
            for (channel, plane) in image.chunks_exact_mut(side * side).enumerate() {
                for (at, value) in plane.iter_mut().enumerate() {
                    let (dx, dy) = ((at % side) as f64 - x, (at / side) as f64 - y);
                    if dx * dx + dy * dy < r * r {
                        *value = colour[channel];
                    }
                }
            }
        }
    }
    images
}

/// Each pixel replaced by the mean of a neighbourhood of `radius` in each axis.
fn blurred(images: &Images, radius: usize) -> Images {
    let [_, _, height, width] = images.shape();
    let mut out = images.clone();
    let planes = images.data().chunks_exact(height * width);
    for (plane, out) in planes.zip(out.data_mut().chunks_exact_mut(height * width)) {
        for (at, value) in out.iter_mut().enumerate() {
            let range = |at: usize, n: usize| at.saturating_sub(radius)..(at + radius + 1).min(n);
            let (mut sum, mut n) = (0.0, 0.0);
            for y in range(at / width, height) {
                for x in range(at % width, width) {
                    sum += plane[y * width + x];
                    n += 1.0;
                }
            }
            *value = sum / n;
        }
    }
    out
}

fn with_noise(images: &Images, sigma: f32) -> Images {
    let mut out = images.clone();
    let epsilon = noise(images.len(), images.image_shape(), 900);
    for (value, epsilon) in out.data_mut().iter_mut().zip(epsilon.data()) {
        *value += sigma * epsilon;
    }
    out
}

/// Squares of `side` pixels become one colour.
fn in_blocks(images: &Images, side: usize) -> Images {
    let [_, _, height, width] = images.shape();
    let mut out = images.clone();
    let planes = images.data().chunks_exact(height * width);
    for (plane, out) in planes.zip(out.data_mut().chunks_exact_mut(height * width)) {
        for (at, value) in out.iter_mut().enumerate() {
            *value = plane[(at / width / side * side) * width + at % width / side * side];
        }
    }
    out
}

#[test]
fn equal_sets_are_not_apart_and_distance_is_symmetric() {
    let (a, b) = (discs(12, 33, 0), noise(12, [3, 33, 33], 0));
    assert_eq!(distance(&a, &a, 1), [0.0, 0.0]);
    assert_eq!(distance(&a, &b, 1), distance(&b, &a, 1));
    assert_ne!(distance(&a, &b, 1), distance(&a, &b, 2), "another seed");
}

#[test]
fn the_more_a_set_is_spoilt_the_farther_it_is() {
    let (real, other) = (discs(48, 32, 0), discs(48, 32, 100));
    let floor = average(&real, &other);
    let rising = |what: &str, spoilt: Vec<Images>| {
        let found: Vec<f64> = spoilt.iter().map(|spoilt| average(&real, spoilt)).collect();
        assert!(found[0] > floor, "{what}: {found:?}, floor {floor}");
        assert!(found.is_sorted(), "{what}: {found:?}");
    };
    rising("blurred", [1, 2, 4].map(|radius| blurred(&other, radius)).to_vec());
    rising("noisy", [0.1, 0.2, 0.4].map(|sigma| with_noise(&other, sigma)).to_vec());
    rising("in blocks", [2, 3, 5].map(|side| in_blocks(&other, side)).to_vec());
    assert!(average(&real, &noise(48, [3, 32, 32], 0)) > 3.0 * floor, "another kind");
}

#[test]
fn brightness_is_not_seen() {
    // As published: the normalization takes mean and spread away.
    let (a, b) = (discs(20, 32, 0), discs(20, 32, 50));
    let mut brighter = b.clone();
    brighter.data_mut().iter_mut().for_each(|v| *v = 0.5 * *v + 0.3);
    let pairs = distance(&a, &b, 3).into_iter().zip(distance(&a, &brighter, 3));
    for (before, after) in pairs {
        assert!((before - after).abs() < 1e-3 * before, "{before} {after}");
    }
}

#[test]
fn constant_images_divide_by_no_zero() {
    let mut flat = Images::zeros([3, 3, 32, 32]);
    flat.data_mut().fill(0.3);
    assert_eq!(distance(&flat, &Images::zeros([3, 3, 32, 32]), 1), [0.0, 0.0]);
    let found = distance(&flat, &discs(3, 32, 0), 1);
    assert!(found.iter().all(|d| d.is_finite() && *d > 0.0), "{found:?}");
}

#[test]
fn the_larger_set_is_cut_to_the_smaller() {
    let (a, b) = (discs(9, 16, 0), discs(20, 16, 100));
    assert_eq!(distance(&a, &b, 1), distance(&a, &b.slice(0..9), 1));
}

#[test]
fn threads_change_nothing() {
    let (a, b) = (discs(10, 32, 0), discs(10, 32, 100));
    let with = |n_threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| distance(&a, &b, 1))
    };
    assert_eq!(with(1), with(5));
}

#[test]
fn another_order_changes_the_choice_of_patches_alone() {
    let (a, b) = (discs(64, 16, 0), discs(64, 16, 100));
    let mut turned = b.slice(32..64);
    turned.append(&b.slice(0..32)).unwrap();
    let (before, after) = (average(&a, &b), average(&a, &turned));
    assert_ne!(before, after);
    assert!((before - after).abs() < 0.2 * before, "{before} {after}");
}

#[test]
fn gaussians_have_the_distance_of_the_closed_form() {
    // White noise and noise that is one value per image and channel: normalized, patches of the
    // first have variance 1 in every direction; those of the second are constant over their 49
    // pixels, and the variance along d is the sum over channels of (Σ d)². The Wasserstein distance
    // of N(0, 1) and N(0, s²) is |1 − s| · √(2/π).
    let n = 400;
    let white = noise(n, [3, 16, 16], 0);
    let mut flat = Images::zeros([n, 3, 16, 16]);
    let values = noise(n, [3, 1, 1], 5000);
    for (plane, &value) in flat.data_mut().chunks_exact_mut(256).zip(values.data()) {
        plane.fill(value);
    }
    let mut expected = 0.0;
    for first in (0..N_DIRECTIONS).step_by(DIRECTIONS_TOGETHER) {
        for group in directions(first, 147, 4, 0).chunks_exact(147) {
            for lane in 0..group[0].len() {
                let channels = group.chunks_exact(49).map(|channel| {
                    channel.iter().map(|lanes| f64::from(lanes[lane])).sum::<f64>().powi(2)
                });
                let deviation = channels.sum::<f64>().sqrt();
                expected += (1.0 - deviation).abs() * (2.0 / std::f64::consts::PI).sqrt();
            }
        }
    }
    expected *= 1e3 / N_DIRECTIONS as f64;
    let found = distance(&white, &flat, 4)[0];
    // 400 independent values are behind the second.
    assert!((found - expected).abs() < 0.08 * expected, "{found}, not {expected}");
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let refused = |a: &Images, b: &Images| {
        distances(&[a, b], &[[0, 1]], 0, &Unattended).unwrap_err().to_string()
    };
    let good = Images::zeros([2, 3, 16, 16]);
    assert_eq!(
        refused(&good, &Images::zeros([0, 3, 16, 16])),
        "images: a set of none found; expected at least 1"
    );
    assert_eq!(
        refused(&good, &Images::zeros([2, 1, 16, 16])),
        "images: sets of shapes [3, 16, 16] and [1, 16, 16] found; expected one shape"
    );
    let small = Images::zeros([2, 3, 16, 15]);
    assert_eq!(refused(&small, &small), "images: 16 × 15 pixels found; expected at least 16 × 16");
    let mut broken = good.clone();
    broken.data_mut()[7] = f32::NAN;
    assert_eq!(refused(&good, &broken), "images: NaN found; expected finite numbers");
    assert!(distances(&[&good], &[[0, 1]], 0, &Unattended).is_err());
    let stop = |_: &Report<'_>| ControlFlow::Break(());
    assert!(distances(&[&good, &good], &[[0, 1]], 0, &stop).is_err());
}

mod golden {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        shape: [usize; 4],
        seed: u64,
        resolutions: Vec<[usize; 2]>,
        levels: Vec<[f64; 3]>,
        rough_smooth: Vec<f64>,
        rough_other: Vec<f64>,
    }

    /// Images of `bench/golden_eval.py`.
    fn images(name: &str, shape: [usize; 4], smooth: bool) -> Images {
        let mut digest = 0xCBF2_9CE4_8422_2325u64;
        for byte in name.bytes() {
            digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        }
        let uniform = |i: usize| {
            let mut z = digest.wrapping_add(i as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            (z >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        let n: usize = shape.iter().product();
        let value = |i: usize| match smooth {
            false => uniform(i),
            true => (uniform((i + n - 1) % n) + 2.0 * uniform(i) + uniform((i + 1) % n)) / 4.0,
        };
        Images::from_vec(shape, (0..n).map(|i| value(i) as f32).collect()).unwrap()
    }

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-5 + 1e-5 * expected.abs(), "{found}, not {expected}");
    }

    #[test]
    fn another_implementation_finds_the_same() {
        let golden: Golden = serde_json::from_str(include_str!("testdata/golden.json")).unwrap();
        assert_eq!(golden.cases.len(), 3);
        for case in golden.cases {
            let Case { shape, seed, resolutions, levels, rough_smooth, rough_other } = case;
            let [rough, smooth, other] = [("rough", false), ("smooth", true), ("other", false)]
                .map(|(name, is_smooth)| images(name, shape, is_smooth));
            let [_, _, height, width] = shape;
            assert_eq!(super::super::resolutions([height, width]), resolutions);
            let found = pyramid(rough.image(0), rough.image_shape());
            assert_eq!(found.len(), levels.len());
            for (found, [rms, first, last]) in found.iter().zip(levels) {
                let squares = found.values.iter().map(|&v| f64::from(v).powi(2));
                assert_close((squares.sum::<f64>() / found.values.len() as f64).sqrt(), rms);
                assert_close(found.values[0].into(), first);
                assert_close(found.values[found.values.len() - 1].into(), last);
            }
            for (set, expected) in [(smooth, rough_smooth), (other, rough_other)] {
                let found = distance(&rough, &set, seed);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.into_iter().zip(expected) {
                    assert_close(found, expected);
                }
            }
        }
    }
}

#[test]
fn levels_end_at_sixteen_pixels() {
    assert_eq!(resolutions([64, 64]), [[64, 64], [32, 32], [16, 16]]);
    assert_eq!(resolutions([31, 100]), [[31, 100], [16, 50]]);
    assert_eq!(resolutions([15, 64]), [[0; 2]; 0]);
    assert!(pyramid(&[0.0; 15 * 16], [1, 15, 16]).is_empty());
}

#[test]
fn a_smooth_image_has_no_details() {
    let flat = vec![0.7; 3 * 40 * 33];
    let (detail, coarse) = split(&flat, [3, 40, 33]);
    assert_eq!(coarse.shape, [3, 20, 17]);
    assert!(coarse.values.iter().all(|v| (v - 0.7).abs() < 1e-6));
    assert!(detail.values.iter().all(|v| v.abs() < 1e-6));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_pyramid_holds_the_image(
        channels in 1_usize..4, height in 16_usize..70, width in 16_usize..70, seed in any::<u64>(),
    ) {
        let shape = [channels, height, width];
        let image = SeededNoise { seed, first_image: 0 }.x_t(1, shape);
        let mut levels = pyramid(image.data(), shape);
        let mut whole = levels.pop().unwrap();
        while let Some(detail) = levels.pop() {
            whole = join(&detail, &whole);
        }
        prop_assert_eq!(whole.shape, shape);
        for (found, expected) in whole.values.iter().zip(image.data()) {
            prop_assert!((found - expected).abs() < 1e-5, "{} {}", found, expected);
        }
    }

    #[test]
    fn sorting_keys_sorts_values(mut values in prop::collection::vec(-1e3_f32..1e3, 0..300)) {
        values.extend([0.0, -0.0, f32::MAX, f32::MIN, 1e-40]);
        let found = sorted(values.iter().copied().map(key).collect());
        values.sort_by(f32::total_cmp);
        let bits = |value: &f32| value.to_bits();
        prop_assert_eq!(
            found.into_iter().map(value).map(f32::to_bits).collect::<Vec<_>>(),
            values.iter().map(bits).collect::<Vec<_>>()
        );
    }

    #[test]
    fn neighbours_are_those_of_a_plain_search(
        n in 1_usize..40, n_bytes in 1_usize..3000, n_nearest in 1_usize..7, seed in any::<u64>(),
    ) {
        let mut stream = Stream::new(seed, Purpose::Noising, 0, 0);
        let mut picture = || -> Vec<u8> { (0..n_bytes).map(|_| stream.below(4) as u8 * 80).collect() };
        let pictures: Vec<Vec<u8>> = (0..n).map(|_| picture()).collect();
        let candidates: Vec<&[u8]> = pictures.iter().map(Vec::as_slice).collect();
        let query = picture();
        let found = nearest(&[&query, candidates[0]], &candidates, n_nearest, &Unattended).unwrap();
        let mut plain: Vec<(u64, usize)> = candidates.iter().enumerate().map(|(index, other)| {
            let squares = query.iter().zip(*other).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2));
            (squares.sum(), index)
        }).collect();
        plain.sort();
        plain.truncate(n_nearest);
        let indices: Vec<usize> = found[0].iter().map(|neighbour| neighbour.index).collect();
        prop_assert_eq!(indices, plain.iter().map(|&(_, index)| index).collect::<Vec<_>>());
        for (neighbour, (sum, _)) in found[0].iter().zip(plain) {
            let rms = (sum as f64 / n_bytes as f64).sqrt();
            prop_assert!((neighbour.rms - rms).abs() < 1e-9);
        }
        prop_assert_eq!(found[1][0], Neighbour { index: 0, rms: 0.0 });
    }
}

#[test]
fn neighbours_of_different_sizes_are_refused() {
    let error = nearest(&[&[1, 2]], &[&[1, 2], &[1]], 1, &Unattended).unwrap_err();
    assert_eq!(error.to_string(), "pictures: pictures of 2 and 1 bytes found; expected one size");
    assert!(nearest(&[], &[&[1]], 1, &Unattended).unwrap().is_empty());
    assert_eq!(nearest(&[&[1]], &[], 1, &Unattended).unwrap(), [vec![]]);
}
