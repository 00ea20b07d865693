//! Normalization, attention, activations, sums and the optimizer against their reference implementations.

mod support;

use kao_kernels::*;
use proptest::prelude::*;
use support::*;

/// A normalization with everything it takes.
struct Norm {
    pixels: Pixels,
    c_first: usize,
    c_second: usize,
    groups: usize,
    first: Vec<f32>,
    second: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    per_image: bool,
    dy: Vec<f32>,
    activation: Activation,
    dropout: Option<Dropout>,
    accumulate: bool,
    stats: GroupNormStats,
}

const ACTIVATIONS: [Activation; 3] =
    [Activation::Identity, Activation::Silu, Activation::Hardswish];

impl Norm {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let sides = [1, 2, 3, 5, 8, 17, 33];
        let pixels = Pixels::new(
            1 + random.below(3),
            sides[random.below(sides.len())],
            sides[random.below(sides.len())],
        );
        let groups = 1 + random.below(8);
        let channels = groups * (1 + random.below(12));
        let c_second = if random.below(3) == 0 { random.below(channels) } else { 0 };
        Self::with(random, pixels, channels - c_second, c_second, groups)
    }

    fn with(
        mut random: Random,
        pixels: Pixels,
        c_first: usize,
        c_second: usize,
        groups: usize,
    ) -> Self {
        let magnitude = [1.0, 1.0, 1e-3, 1e4][random.below(4)];
        // Sometimes far from zero compared with the spread.
        let offset = [0.0, 0.0, 3.0][random.below(3)] * magnitude;
        let mut x = |len| -> Vec<f32> {
            random.values(len, magnitude).iter().map(|x| x + offset).collect()
        };
        let first = x(pixels.total() * c_first);
        let second = x(pixels.total() * c_second);
        let c = c_first + c_second;
        let dropout = (random.below(2) == 0).then(|| Dropout { rate: 0.3, seed: random.next() });
        let per_image = random.below(2) == 0;
        let n_affine = if per_image { pixels.n * c } else { c };
        let mut norm = Self {
            pixels,
            c_first,
            c_second,
            groups,
            first,
            second,
            gamma: random.values(n_affine, 2.0),
            beta: random.values(n_affine, 2.0),
            per_image,
            dy: random.values(pixels.total() * c, 1.0),
            activation: ACTIVATIONS[random.below(3)],
            dropout,
            accumulate: random.below(2) == 0,
            stats: GroupNormStats::default(),
        };
        norm.stats = reference::group_norm_stats(pixels, &norm.source(), groups, 1e-5);
        norm
    }

    fn source(&self) -> Source<'_> {
        Source::pair(&self.first, self.c_first, &self.second, self.c_second)
    }

    fn parameters(&self) -> GroupNorm<'_> {
        GroupNorm {
            groups: self.groups,
            gamma: &self.gamma,
            beta: &self.beta,
            per_image: self.per_image,
            stats: &self.stats,
            activation: self.activation,
            dropout: self.dropout,
        }
    }

    fn forward(&self, by_reference: bool) -> Vec<f32> {
        let mut y = vec![f32::NAN; self.dy.len()];
        let (source, norm) = (self.source(), self.parameters());
        if by_reference {
            reference::group_norm(self.pixels, &source, &norm, &mut y);
        } else {
            group_norm(self.pixels, &source, &norm, &mut y);
        }
        y
    }

    /// dx of both parts, dgamma, dbeta.
    fn backward(&self, by_reference: bool) -> [Vec<f32>; 4] {
        let before = if self.accumulate { 0.5 } else { f32::NAN };
        let (mut first, mut second) =
            (vec![before; self.first.len()], vec![before; self.second.len()]);
        let mut dgamma = vec![f32::NAN; self.gamma.len()];
        let mut dbeta = vec![f32::NAN; self.gamma.len()];
        let mut sink = Sink::pair(&mut first, self.c_first, &mut second, self.c_second);
        if self.accumulate {
            sink = sink.accumulating();
        }
        let (source, norm, dy) = (self.source(), self.parameters(), &self.dy);
        let (pixels, dgamma_to, dbeta_to) = (self.pixels, &mut dgamma, &mut dbeta);
        if by_reference {
            reference::group_norm_backward(pixels, &source, &norm, dy, sink, dgamma_to, dbeta_to);
        } else {
            let affine = AffineGradients { gamma: dgamma_to.into(), beta: dbeta_to.into() };
            group_norm_backward(pixels, &source, &norm, dy, sink, affine);
        }
        [first, second, dgamma, dbeta]
    }

    fn check(&self) {
        let x = greatest(&self.first).max(greatest(&self.second));
        let rstd = greatest(&self.stats.rstd);
        // What x − mean loses by rounding, after division by the deviation.
        let lost = 1.0 + x * rstd;
        for level in levels() {
            let name = level.name();
            let stats = with_simd_level(level, || {
                group_norm_stats(self.pixels, &self.source(), self.groups, 1e-5)
            });
            assert_close(&format!("{name}: mean"), &stats.mean, &self.stats.mean, 1e-6, x + 1e-9);
            for (actual, expected) in stats.rstd.iter().zip(&self.stats.rstd) {
                let difference = (actual / expected - 1.0).abs();
                assert!(difference < 2e-5, "{name}: rstd {actual}, expected {expected}");
            }
            let y = with_simd_level(level, || self.forward(false));
            let scale = lost * (greatest(&self.gamma) + greatest(&self.beta)) + 1e-9;
            assert_close(&format!("{name}: y"), &y, &self.forward(true), 1e-6, scale);
            let actual = with_simd_level(level, || self.backward(false));
            let expected = self.backward(true);
            let gamma = greatest(&self.gamma);
            let steep = 2.0 * lost * lost;
            let dx = steep * gamma * (rstd + 1.0) + 1.0;
            assert_close(&format!("{name}: dx"), &actual[0], &expected[0], 2e-6, dx);
            assert_close(&format!("{name}: dx 2"), &actual[1], &expected[1], 2e-6, dx);
            let sums = self.pixels.total() as f32 * steep;
            assert_close(&format!("{name}: dgamma"), &actual[2], &expected[2], 1e-6, sums);
            assert_close(&format!("{name}: dbeta"), &actual[3], &expected[3], 1e-6, sums);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 150 }, ..ProptestConfig::default() })]

    #[test]
    fn normalization_agrees_with_its_reference(seed: u64) {
        Norm::new(seed).check();
    }

    #[test]
    fn attention_agrees_with_its_reference(seed: u64) {
        let mut random = Random(seed);
        let counts = [1, 2, 7, 16, 20, 33, 64, 70];
        let heads = [1, 1, 2, 3, 5][random.below(5)];
        let shape = AttentionShape::with_heads(
            1 + random.below(3),
            counts[random.below(counts.len())],
            heads * counts[random.below(counts.len())],
            heads,
        );
        let magnitude = [1.0, 1.0, 30.0, 1e-4][random.below(4)];
        check_attention(shape, random, magnitude);
    }

    #[test]
    fn elementwise_kernels_agree_with_their_references(seed: u64) {
        let mut random = Random(seed);
        let len = 1 + random.below(100);
        let magnitude = [1.0, 5.0, 100.0, 1e-5][random.below(4)];
        let (x, dy) = (random.values(len, magnitude), random.values(len, 1.0));
        for level in levels() {
            for function in ACTIVATIONS {
                let (mut actual, mut expected) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                with_simd_level(level, || activation(function, &x, &mut actual));
                reference::activation(function, &x, &mut expected);
                assert_close("activation", &actual, &expected, 4e-7, greatest(&x) + 1e-30);
                with_simd_level(level, || activation_backward(function, &x, &dy, &mut actual));
                reference::activation_backward(function, &x, &dy, &mut expected);
                assert_close("its derivative", &actual, &expected, 2e-6, greatest(&dy) + 1e-30);
            }
            let adam = AdamStep {
                lr: 1e-2,
                weight_decay: [0.0, 0.1][random.below(2)],
                step: 1 + random.below(1000) as u64,
                gradient_scale: [1.0, 0.25][random.below(2)],
                ..AdamStep::default()
            };
            let squares: Vec<f32> = dy.iter().map(|x| x * x).collect();
            let state = [x.clone(), dy.clone(), squares];
            let [mut p, mut m, mut v] = state.clone();
            with_simd_level(level, || adam_step(&adam, &mut p, &x, &mut m, &mut v));
            let [mut p2, mut m2, mut v2] = state.clone();
            reference::adam_step(&adam, &mut p2, &x, &mut m2, &mut v2);
            let scale = greatest(&x) + 1.0;
            assert_close("parameters", &p, &p2, 4e-7, scale);
            assert_close("first moments", &m, &m2, 4e-7, scale);
            assert_close("second moments", &v, &v2, 4e-7, scale * scale);
            with_simd_level(level, || ema_update(0.99, &mut m, &x));
            reference::ema_update(0.99, &mut m2, &x);
            assert_close("average", &m, &m2, 4e-7, scale);

            let [mut p2, mut m2, mut v2] = state;
            let (mut one_by_one, mut at_once) = (dy.clone(), dy.clone());
            with_simd_level(level, || {
                ema_update(0.99, &mut one_by_one, &p);
                adam_ema_step(&adam, &mut p2, &x, &mut m2, &mut v2, 0.99, &mut at_once);
            });
            assert!(p == p2 && v == v2, "parameters and moments with the average");
            assert!(one_by_one == at_once, "the average with the step");
        }
    }

    #[test]
    fn muon_agrees_with_its_reference(seed: u64) {
        let mut random = Random(seed);
        let shape = [1 + random.below(70), 1 + random.below(40)];
        let len = shape[0] * shape[1];
        let (p, g, m) = (random.values(len, 1.0), random.values(len, 3.0), random.values(len, 1.0));
        let muon = MuonStep {
            lr: 1e-2,
            weight_decay: [0.0, 0.1][random.below(2)],
            gradient_scale: [1.0, 0.25][random.below(2)],
        };
        let (mut expected, mut expected_m) = (p.clone(), m.clone());
        reference::muon_step(&muon, shape, &mut expected, &g, &mut expected_m);
        for level in levels() {
            let (mut actual, mut actual_m) = (p.clone(), m.clone());
            with_simd_level(level, || muon_step(&muon, shape, &mut actual, &g, &mut actual_m));
            assert_close("momentum", &actual_m, &expected_m, 4e-7, 4.0);
            // The iteration takes the error of the smallest direction times 3.4⁵ at most, and that
            // is 10⁻⁶ of the norm.
            let scale = 1e-2 * 0.2 * (shape[0].max(shape[1]) as f32).sqrt();
            assert_close("parameters", &actual, &expected, 1e-3, scale);
        }
    }

    #[test]
    fn sums_and_copies_agree_with_their_references(seed: u64) {
        let mut random = Random(seed);
        let pixels = Pixels::new(1 + random.below(3), 1 + random.below(30), 1 + random.below(30));
        let (c_a, c_b) = (1 + random.below(70), 1 + random.below(20));
        let a = random.values(pixels.total() * c_a, 1.0);
        let b = random.values(pixels.total() * c_b, 1.0);
        let mut expected = vec![f32::NAN; pixels.n * c_a];
        reference::sum_pixels(pixels, &a, c_a, &mut expected);
        for level in levels() {
            let mut actual = vec![f32::NAN; expected.len()];
            with_simd_level(level, || sum_pixels(pixels, &a, c_a, &mut actual));
            assert_close("sums", &actual, &expected, 1e-6, pixels.per_image() as f32);
        }
        let mut both = vec![f32::NAN; a.len() + b.len()];
        concat_channels(pixels.total(), &a, c_a, &b, c_b, &mut both);
        for (i, value) in both.iter().enumerate() {
            let (row, channel) = (i / (c_a + c_b), i % (c_a + c_b));
            let expected =
                if channel < c_a { a[row * c_a + channel] } else { b[row * c_b + channel - c_a] };
            assert_eq!(*value, expected);
        }
        let (mut a2, mut b2) = (vec![f32::NAN; a.len()], vec![f32::NAN; b.len()]);
        split_channels(pixels.total(), &both, &mut a2, c_a, &mut b2, c_b);
        assert!(a == a2 && b == b2);
        let (mut up, mut up2) = (vec![f32::NAN; 4 * b.len()], vec![f32::NAN; 4 * b.len()]);
        upsample_nearest(pixels, c_b, &b, &mut up);
        reference::upsample_nearest(pixels, c_b, &b, &mut up2);
        assert!(up == up2);
        let dy = random.values(up.len(), 1.0);
        upsample_nearest_backward(pixels, c_b, &dy, &mut b2);
        let mut expected = vec![f32::NAN; b.len()];
        reference::upsample_nearest_backward(pixels, c_b, &dy, &mut expected);
        assert_close("sums of four", &b2, &expected, 2e-7, 4.0);
    }
}

fn check_attention(shape: AttentionShape, mut random: Random, magnitude: f32) {
    let len = shape.n * shape.pixels * shape.channels;
    let (q, k) = (random.values(len, magnitude), random.values(len, magnitude));
    let (v, dout) = (random.values(len, 1.0), random.values(len, 1.0));
    let mut expected = vec![f32::NAN; len];
    reference::attention(shape, &q, &k, &v, &mut expected);
    let mut gradients = [vec![f32::NAN; len], vec![f32::NAN; len], vec![f32::NAN; len]];
    let [dq, dk, dv] = &mut gradients;
    reference::attention_backward(shape, &q, &k, &v, &dout, dq, dk, dv);
    // Scores are rounded before the exponential magnifies what was lost.
    let c = (shape.channels / shape.heads) as f32;
    let scores = 1.0 + shape.scale * c * greatest(&q) * greatest(&k);
    for level in levels() {
        let name = level.name();
        let mut out = vec![f32::NAN; len];
        let input = AttentionInput { q: &q, k: &k, v: &v };
        with_simd_level(level, || attention(shape, &input, &mut out));
        assert_close(&format!("{name}: out"), &out, &expected, 1e-6, scores);
        let mut actual = [vec![f32::NAN; len], vec![f32::NAN; len], vec![f32::NAN; len]];
        let [dq, dk, dv] = &mut actual;
        let to = AttentionGradients { q: dq.into(), k: dk.into(), v: dv.into() };
        with_simd_level(level, || attention_backward(shape, &input, &dout, to));
        let through = scores * shape.scale * c * 2.0;
        let n = shape.pixels as f32;
        let scales = [through * greatest(&k) + 1e-9, through * greatest(&q) * n + 1e-9, scores * n];
        for (i, scale) in scales.into_iter().enumerate() {
            let what = ["dq", "dk", "dv"][i];
            let what = format!("{name}: {what}");
            assert_close(&what, &actual[i], &gradients[i], 1e-6, scale);
        }
    }
}

#[cfg(not(miri))] // too large
#[test]
fn attention_of_the_network() {
    check_attention(AttentionShape::new(2, 256, 256), Random(1), 1.0);
    check_attention(AttentionShape::with_heads(2, 256, 256, 4), Random(2), 1.0);
    // Heads of 8 channels, as many models have.
    check_attention(AttentionShape::with_heads(2, 64, 128, 16), Random(3), 1.0);
}

#[cfg(not(miri))] // too large
#[test]
fn normalization_of_the_network() {
    Norm::with(Random(1), Pixels::new(2, 32, 32), 64, 32, 32).check();
}

#[cfg(not(miri))] // too large
#[test]
fn batch_and_threads_leave_no_trace() {
    let norm = Norm::with(Random(3), Pixels::new(5, 20, 30), 40, 24, 8);
    let shape = AttentionShape::with_heads(5, 70, 48, 3);
    let mut random = Random(5);
    let each = shape.pixels * shape.channels;
    let [q, k, v, dout] =
        [(); 4].map(|()| (0..shape.n * each).map(|_| random.value()).collect::<Vec<_>>());
    let attend = |shape: AttentionShape, images: std::ops::Range<usize>| {
        let range = images.start * each..images.end * each;
        let mut outputs = [(); 4].map(|()| vec![f32::NAN; range.len()]);
        let [out, dq, dk, dv] = &mut outputs;
        let [q, k, v] = [&q, &k, &v].map(|values| &values[range.clone()]);
        let input = AttentionInput { q, k, v };
        attention(shape, &input, out);
        let to = AttentionGradients { q: dq.into(), k: dk.into(), v: dv.into() };
        attention_backward(shape, &input, &dout[range], to);
        outputs
    };
    for level in levels() {
        let run = |threads| {
            with_threads(threads, || {
                with_simd_level(level, || {
                    let stats = group_norm_stats(norm.pixels, &norm.source(), norm.groups, 1e-5);
                    let mut sums = vec![0.0; norm.pixels.n * norm.c_first];
                    sum_pixels(norm.pixels, &norm.first, norm.c_first, &mut sums);
                    let norms = (norm.forward(false), norm.backward(false));
                    (stats, sums, norms, attend(shape, 0..shape.n))
                })
            })
        };
        let one = run(1);
        for threads in [2, 3, 5] {
            assert!(one == run(threads), "{} on {threads} threads", level.name());
        }
        let (stats, sums, _, attended) = one;
        for image in 0..shape.n {
            let alone = AttentionShape { n: 1, ..shape };
            let outputs = with_simd_level(level, || attend(alone, image..image + 1));
            for (alone, all) in outputs.iter().zip(&attended) {
                assert!(alone[..] == all[image * each..(image + 1) * each]);
            }
            let one_image = Pixels { n: 1, ..norm.pixels };
            let part = |x: &[f32]| {
                let each = x.len() / norm.pixels.n;
                x[image * each..(image + 1) * each].to_vec()
            };
            let (first, second) = (part(&norm.first), part(&norm.second));
            let source = Source::pair(&first, norm.c_first, &second, norm.c_second);
            let (alone, alone_sums) = with_simd_level(level, || {
                let mut sums = vec![0.0; norm.c_first];
                sum_pixels(one_image, &first, norm.c_first, &mut sums);
                (group_norm_stats(one_image, &source, norm.groups, 1e-5), sums)
            });
            assert!(alone.mean == part(&stats.mean) && alone.rstd == part(&stats.rstd));
            assert!(alone_sums == part(&sums));
        }
    }
}

/// Dropout keeps about what it should, and another seed keeps something else.
#[cfg(not(miri))] // too large
#[test]
fn dropout_masks_are_as_rare_as_asked_and_differ_by_seed() {
    let n = 100_000;
    let kept = |seed| -> Vec<bool> {
        let dropout = Dropout { rate: 0.1, seed };
        (0..n).map(|i| reference::dropout_factor(dropout, i) > 0.0).collect()
    };
    let (a, b) = (kept(1), kept(2));
    for mask in [&a, &b] {
        let dropped = mask.iter().filter(|&&kept| !kept).count() as f64 / n as f64;
        assert!((dropped - 0.1).abs() < 0.004, "{dropped}");
    }
    let both = a.iter().zip(&b).filter(|(a, b)| !**a && !**b).count() as f64 / n as f64;
    assert!((both - 0.01).abs() < 0.002, "{both}");
}

#[test]
#[should_panic(expected = "operands of more values than memory has")]
fn lengths_that_wrap_around_are_refused() {
    let shape = kao_kernels::LinearShape { rows: 2, c_in: 1 << 63, c_out: 2 };
    kao_kernels::linear(shape, &[], &[], None, &mut [0.0; 4]);
}
