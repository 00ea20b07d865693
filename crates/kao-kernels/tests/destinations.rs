//! That kernels overwrite their outputs whole, whatever lies there before, nothing at all included;
//! and that what no kernel has written is refused.

mod support;

use kao_kernels::*;
use proptest::prelude::*;
use support::*;

/// Calls a kernel with outputs of these lengths into vectors of values that would show, and into
/// unwritten memory, at every level; the bytes have to be the same.
fn check<const N: usize>(what: &str, lens: [usize; N], kernel: impl Fn([Destination<'_>; N])) {
    let bits = |outputs: [Vec<f32>; N]| {
        outputs.map(|output| output.into_iter().map(f32::to_bits).collect::<Vec<_>>())
    };
    for level in levels() {
        with_simd_level(level, || {
            let into_values = |before: f32| {
                let mut outputs = lens.map(|len| vec![before; len]);
                kernel(outputs.each_mut().map(Destination::from));
                outputs
            };
            let expected = into_values(0.0);
            let finite = expected.iter().flatten().all(|value| value.is_finite());
            assert!(finite, "{what} at {}: finite", level.name());
            let expected = bits(expected);
            let over_nan = bits(into_values(f32::NAN));
            assert!(over_nan == expected, "{what} at {}: over NaN", level.name());
            let mut outputs = lens.map(Unwritten::new);
            kernel(outputs.each_mut().map(Destination::from));
            let outputs = bits(outputs.map(Unwritten::into_vec));
            assert!(outputs == expected, "{what} at {}: unwritten", level.name());
        });
    }
}

/// A convolution's lengths and operands, all of them odd now and then, or 0.
struct Convolution {
    pixels: Pixels,
    c_first: usize,
    c_second: usize,
    c_out: usize,
    upsampled: bool,
    random: Random,
}

impl Convolution {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let sides = [1, 2, 3, 5, 8, 13, 17, 40];
        let channels = [0, 1, 3, 16, 31, 32, 33, 70];
        let mut some = |of: &[usize; 8]| of[random.below(8)];
        let (mut h, mut w) = (some(&sides), some(&sides));
        let (c_first, mut c_second, c_out) = (some(&channels), some(&channels), some(&channels));
        let upsampled = random.below(3) == 0;
        if upsampled {
            (h, w) = (h.next_multiple_of(2), w.next_multiple_of(2));
        }
        if random.below(2) == 0 {
            c_second = 0;
        }
        let pixels = Pixels::new(random.below(4), h, w);
        Self { pixels, c_first, c_second, c_out, upsampled, random }
    }

    fn check(self) {
        let Self { pixels, c_first, c_second, c_out, upsampled, mut random } = self;
        let (c_in, halved) = (c_first + c_second, pixels.halved());
        let stored = if upsampled { pixels.total() / 4 } else { pixels.total() };
        let mut values = |len| random.values(len, 1.0);
        let (first, second) = (values(stored * c_first), values(stored * c_second));
        let source = Source::pair(&first, c_first, &second, c_second);
        let source = if upsampled { source.upsampled() } else { source };
        let (weights, bias) = (values(9 * c_in * c_out), values(c_out));
        let (dy, epilogue) = (values(pixels.total() * c_out), Epilogue::bias(&bias));
        let dy_halved = values(halved.total() * c_out);
        let one = &weights[..c_in * c_out];

        check("conv3x3", [dy.len()], |[out]| {
            conv3x3(pixels, &source, Weights::Plain(&weights), c_out, &epilogue, out);
        });
        check("conv3x3 prepared", [dy.len()], |[out]| {
            let prepared = match upsampled {
                true => PreparedConv3x3::for_upsampled(&weights, c_in, c_out),
                false => PreparedConv3x3::new(&weights, c_in, c_out),
            };
            conv3x3(pixels, &source, Weights::Prepared(&prepared), c_out, &epilogue, out);
        });
        check("conv3x3_stride2", [dy_halved.len()], |[out]| {
            conv3x3_stride2(
                pixels,
                Padding::Around,
                &source,
                Weights::Plain(&weights),
                c_out,
                &epilogue,
                out,
            );
        });
        check("conv1x1", [dy.len()], |[out]| {
            conv1x1(pixels, &source, Weights::Plain(one), c_out, &epilogue, out);
        });
        check("conv3x3_weight_grad", [weights.len()], |[dw]| {
            conv3x3_weight_grad(pixels, &source, &dy, c_out, dw);
        });
        check("conv3x3_stride2_weight_grad", [weights.len()], |[dw]| {
            conv3x3_stride2_weight_grad(pixels, Padding::Around, &source, &dy_halved, c_out, dw);
        });
        check("conv1x1_weight_grad", [one.len()], |[dw]| {
            conv1x1_weight_grad(pixels, &source, &dy, c_out, dw);
        });
        let sink = |[a, b]: [Destination<'_>; 2], gradient: &dyn Fn(Sink<'_>)| {
            let sink = Sink::pair(a, c_first, b, c_second);
            gradient(if upsampled { sink.upsampled() } else { sink });
        };
        let lens = [first.len(), second.len()];
        check("conv3x3_data_grad", lens, |parts| {
            sink(parts, &|sink| conv3x3_data_grad(pixels, &dy, c_out, &weights, sink));
        });
        check("conv3x3_stride2_data_grad", lens, |parts| {
            sink(parts, &|sink| {
                conv3x3_stride2_data_grad(
                    pixels,
                    Padding::Around,
                    &dy_halved,
                    c_out,
                    &weights,
                    sink,
                );
            });
        });
        check("conv1x1_data_grad", lens, |parts| {
            sink(parts, &|sink| conv1x1_data_grad(pixels, &dy, c_out, one, sink));
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 100 }, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_overwrite_their_outputs(seed: u64) {
        Convolution::new(seed).check();
    }

    #[test]
    fn linear_layers_overwrite_their_outputs(seed: u64) {
        let mut random = Random(seed);
        let (rows, c_in, c_out) = (random.below(20), random.below(50), random.below(50));
        let (x, dy) = (random.values(rows * c_in, 1.0), random.values(rows * c_out, 1.0));
        let weights = random.values(c_in * c_out, 1.0);
        let shape = LinearShape { rows, c_in, c_out };
        check("linear", [dy.len()], |[y]| linear(shape, &x, &weights, None, y));
        check("linear_data_grad", [x.len()], |[dx]| {
            linear_data_grad(shape, &dy, &weights, dx);
        });
        check("linear_weight_grad", [weights.len()], |[dw]| {
            linear_weight_grad(shape, &x, &dy, dw);
        });
        check("activation", [x.len()], |[y]| activation(Activation::Silu, &x, y));
        check("activation_backward", [x.len()], |[dx]| {
            activation_backward(Activation::Hardswish, &x, &x, dx);
        });
    }

    #[test]
    fn attention_overwrites_its_outputs(seed: u64) {
        let mut random = Random(seed);
        let counts = [0, 1, 7, 16, 33, 60];
        let [pixels, channels] = [(); 2].map(|()| counts[random.below(6)]);
        let shape = AttentionShape { scale: 0.3, ..AttentionShape::new(random.below(4), pixels, channels) };
        let len = shape.n * pixels * channels;
        let [q, k, v, dout] = [(); 4].map(|()| random.values(len, 1.0));
        let input = AttentionInput { q: &q, k: &k, v: &v };
        check("attention", [len], |[out]| attention(shape, &input, out));
        check("attention_backward", [len; 3], |[dq, dk, dv]| {
            let to = AttentionGradients { q: dq, k: dk, v: dv };
            attention_backward(shape, &input, &dout, to);
        });
    }

    #[test]
    fn what_goes_by_pixels_overwrites_its_outputs(seed: u64) {
        let mut random = Random(seed);
        let pixels = Pixels::new(random.below(4), 1 + random.below(20), 1 + random.below(20));
        let groups = 1 + random.below(4);
        let c = groups * (1 + random.below(12));
        let c_a = random.below(c + 1);
        let c_b = c - c_a;
        let (a, b) = (random.values(pixels.total() * c_a, 1.0), random.values(pixels.total() * c_b, 1.0));
        let (x, source) = (random.values(pixels.total() * c, 1.0), Source::pair(&a, c_a, &b, c_b));
        let stats = group_norm_stats(pixels, &source, groups, 1e-5);
        let per_image = random.below(2) == 0;
        let n_affine = if per_image { pixels.n * c } else { c };
        let (gamma, beta) = (random.values(n_affine, 1.0), random.values(n_affine, 1.0));
        let dropout = (random.below(2) == 0).then_some(Dropout { rate: 0.3, seed });
        let (gamma, beta, stats) = (&gamma, &beta, &stats);
        let activation = Activation::Silu;
        let norm = GroupNorm { groups, gamma, beta, per_image, stats, activation, dropout };
        check("group_norm", [x.len()], |[y]| group_norm(pixels, &source, &norm, y));
        check("group_norm_backward", [a.len(), b.len(), n_affine, n_affine], |[a, b, dgamma, dbeta]| {
            let sink = Sink::pair(a, c_a, b, c_b);
            let affine = AffineGradients { gamma: dgamma, beta: dbeta };
            group_norm_backward(pixels, &source, &norm, &x, sink, affine);
        });
        check("sum_pixels", [pixels.n * c], |[sums]| sum_pixels(pixels, &x, c, sums));
        check("concat_channels", [x.len()], |[out]| {
            concat_channels(pixels.total(), &a, c_a, &b, c_b, out);
        });
        check("split_channels", [a.len(), b.len()], |[a, b]| {
            split_channels(pixels.total(), &x, a, c_a, b, c_b);
        });
        let dy = random.values(4 * x.len(), 1.0);
        check("upsample_nearest", [dy.len()], |[y]| upsample_nearest(pixels, c, &x, y));
        check("upsample_nearest_backward", [x.len()], |[dx]| {
            upsample_nearest_backward(pixels, c, &dy, dx);
        });
    }
}

/// Shapes that the schedules of the convolutions differ for, and numbers of threads.
#[cfg(not(miri))] // too large
#[test]
fn every_schedule_overwrites_its_outputs() {
    for (pixels, c_first, c_second, c_out) in [
        (Pixels::new(2, 8, 8), 192, 0, 256),
        (Pixels::new(5, 45, 45), 40, 30, 10),
        (Pixels::new(3, 17, 33), 64, 0, 64),
    ] {
        for threads in [1, 2, 5] {
            let (random, upsampled) = (Random(1), false);
            let convolution = Convolution { pixels, c_first, c_second, c_out, upsampled, random };
            with_threads(threads, || convolution.check());
        }
    }
}

#[test]
fn nothing_is_written_from_the_start() {
    assert_eq!(Unwritten::new(0).into_vec(), []);
}

#[test]
#[should_panic(expected = "no kernel has written this output")]
fn what_no_kernel_has_written_is_no_vector() {
    Unwritten::new(3).into_vec();
}

#[test]
#[should_panic(expected = "no kernel has written this output")]
fn what_a_kernel_refused_to_write_is_no_vector() {
    let mut y = Unwritten::new(3);
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        activation(Activation::Silu, &[1.0; 4], &mut y);
    }));
    assert!(refused.is_err());
    y.into_vec();
}

#[test]
#[should_panic(expected = "the gradient is added to before it is written")]
fn nothing_is_added_to_what_is_unwritten() {
    let _ = Sink::new(&mut Unwritten::new(6), 2).accumulating();
}

#[test]
#[should_panic(expected = "the gradient's second part is added to before it is written")]
fn nothing_is_added_to_a_second_part_that_is_unwritten() {
    let _ = Sink::pair(&mut [0.0; 3], 1, &mut Unwritten::new(6), 2).accumulating();
}

#[test]
fn what_was_written_is_added_to() {
    let (dy, weights, mut dx) = ([1.0, 2.0], [3.0], Unwritten::new(2));
    let pixels = Pixels::rows(2);
    conv1x1_data_grad(pixels, &dy, 1, &weights, Sink::new(&mut dx, 1));
    conv1x1_data_grad(pixels, &dy, 1, &weights, Sink::new(&mut dx, 1).accumulating());
    assert_eq!(dx.into_vec(), [6.0, 12.0]);
}
