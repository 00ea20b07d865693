//! The convolutions against their reference implementations: forward, data gradient, weight gradient, in any
//! shape, at every level; and that neither batch nor threads show in a result.

mod support;

use kao_kernels::*;
use proptest::prelude::*;
use support::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Conv3x3,
    Stride2(Padding),
    Conv1x1,
}

const AROUND: Kind = Kind::Stride2(Padding::Around);
const BEHIND: Kind = Kind::Stride2(Padding::Behind);
const KINDS: [Kind; 4] = [Kind::Conv3x3, AROUND, BEHIND, Kind::Conv1x1];

impl Kind {
    fn taps(self) -> usize {
        if self == Self::Conv1x1 { 1 } else { 9 }
    }

    fn output(self, pixels: Pixels) -> Pixels {
        match self {
            Self::Stride2(padding) => padding.output(pixels),
            Self::Conv3x3 | Self::Conv1x1 => pixels,
        }
    }

    /// Of the magnitude that [`sum_of`] random terms has.
    fn tolerance(self) -> f32 {
        if self == Self::Conv3x3 { 2e-6 } else { 1e-6 }
    }
}

/// The magnitude up to which a sum of so many random terms of magnitude 1 is likely to come.
fn sum_of(terms: f32) -> f32 {
    terms.min(5.0 * terms.sqrt())
}

/// One convolution with everything it takes.
#[derive(Debug)]
struct Case {
    kind: Kind,
    pixels: Pixels,
    c_first: usize,
    c_second: usize,
    c_out: usize,
    upsampled: bool,
    prologue: Option<Activation>,
    first: Vec<f32>,
    second: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    image_bias: Option<Vec<f32>>,
    residual: Option<Vec<f32>>,
    dy: Vec<f32>,
    accumulate: bool,
}

const CHANNELS: [usize; 14] = [1, 2, 3, 5, 8, 15, 16, 17, 24, 31, 32, 33, 48, 70];

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let kind = KINDS[random.below(KINDS.len())];
        let upsampled = random.below(4) == 0;
        let sides = [1, 1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 18];
        let mut pixels = Pixels::new(
            1 + random.below(3),
            sides[random.below(sides.len())],
            sides[random.below(sides.len())],
        );
        if upsampled {
            pixels = Pixels::new(pixels.n, pixels.h.div_ceil(2) * 2, pixels.w.div_ceil(2) * 2);
        }
        let c_first = CHANNELS[random.below(CHANNELS.len())];
        let c_second =
            if random.below(3) == 0 { CHANNELS[random.below(CHANNELS.len())] } else { 0 };
        let c_out = CHANNELS[random.below(CHANNELS.len())];
        let prologue = [
            None,
            None,
            Some(Activation::Identity),
            Some(Activation::Silu),
            Some(Activation::Hardswish),
        ][random.below(5)];
        Self::with(random, kind, pixels, (c_first, c_second), c_out, upsampled, prologue)
    }

    fn with(
        mut random: Random,
        kind: Kind,
        pixels: Pixels,
        (c_first, c_second): (usize, usize),
        c_out: usize,
        upsampled: bool,
        prologue: Option<Activation>,
    ) -> Self {
        let c_in = c_first + c_second;
        let output = kind.output(pixels);
        let stored = if upsampled { pixels.total() / 4 } else { pixels.total() };
        let magnitude = [1.0, 1.0, 1.0, 1e-4, 1e4][random.below(5)];
        let mut maybe = |len| (random.below(2) == 0).then(|| random.values(len, 1.0));
        let bias = maybe(c_out);
        let image_bias = maybe(pixels.n * c_out);
        let residual = maybe(output.total() * c_out);
        Self {
            kind,
            pixels,
            c_first,
            c_second,
            c_out,
            upsampled,
            prologue,
            first: random.values(stored * c_first, magnitude),
            second: random.values(stored * c_second, magnitude),
            scale: random.values(pixels.n * c_in, 2.0),
            shift: random.values(pixels.n * c_in, 2.0),
            weights: random.values(kind.taps() * c_in * c_out, 1.0),
            bias,
            image_bias,
            residual,
            dy: random.values(output.total() * c_out, 1.0),
            accumulate: random.below(2) == 0,
        }
    }

    fn c_in(&self) -> usize {
        self.c_first + self.c_second
    }

    fn source(&self) -> Source<'_> {
        let mut source = Source::pair(&self.first, self.c_first, &self.second, self.c_second);
        if self.c_second == 0 {
            source = Source::new(&self.first, self.c_first);
        }
        if let Some(activation) = self.prologue {
            let (scale, shift) = (&self.scale, &self.shift);
            source = source.with_prologue(Prologue { scale, shift, activation });
        }
        if self.upsampled { source.upsampled() } else { source }
    }

    fn epilogue(&self) -> Epilogue<'_> {
        Epilogue {
            bias: self.bias.as_deref(),
            image_bias: self.image_bias.as_deref(),
            residual: self.residual.as_deref(),
            accumulate: self.accumulate,
        }
    }

    /// What the output holds before: values to be added to, or nothing to be relied on.
    fn held(&self) -> Vec<f32> {
        if self.accumulate { self.dy.clone() } else { vec![f32::NAN; self.dy.len()] }
    }

    fn forward(&self, prepared: bool) -> Vec<f32> {
        let (c_in, c_out, source, epilogue) =
            (self.c_in(), self.c_out, self.source(), self.epilogue());
        let mut out = self.held();
        macro_rules! call {
            ($kernel:ident, $prepare:expr $(, $padding:expr)?) => {{
                let (pixels, to) = (self.pixels, &mut out);
                if prepared {
                    let prepared = $prepare(&self.weights, c_in, c_out);
                    let weights = Weights::Prepared(&prepared);
                    $kernel(pixels, $($padding,)? &source, weights, c_out, &epilogue, to);
                } else {
                    let plain = Weights::Plain(&self.weights);
                    $kernel(pixels, $($padding,)? &source, plain, c_out, &epilogue, to);
                }
            }};
        }
        match self.kind {
            Kind::Conv3x3 if self.upsampled => call!(conv3x3, PreparedConv3x3::for_upsampled),
            Kind::Conv3x3 => call!(conv3x3, PreparedConv3x3::new),
            Kind::Stride2(padding) => {
                call!(conv3x3_stride2, PreparedConv3x3Stride2::new, padding)
            }
            Kind::Conv1x1 => call!(conv1x1, PreparedConv1x1::new),
        }
        out
    }

    fn data_grad(&self, by_reference: bool) -> (Vec<f32>, Vec<f32>) {
        let before = if self.accumulate { 0.5 } else { f32::NAN };
        let mut first = vec![before; self.first.len()];
        let mut second = vec![before; self.second.len()];
        let mut sink = Sink::pair(&mut first, self.c_first, &mut second, self.c_second);
        if self.upsampled {
            sink = sink.upsampled();
        }
        if self.accumulate {
            sink = sink.accumulating();
        }
        macro_rules! call {
            ($kernel:path $(, $padding:expr)?) => {
                $kernel(self.pixels, $($padding,)? &self.dy, self.c_out, &self.weights, sink)
            };
        }
        match (self.kind, by_reference) {
            (Kind::Conv3x3, false) => call!(conv3x3_data_grad),
            (Kind::Stride2(padding), false) => call!(conv3x3_stride2_data_grad, padding),
            (Kind::Conv1x1, false) => call!(conv1x1_data_grad),
            (Kind::Conv3x3, true) => call!(reference::conv3x3_data_grad),
            (Kind::Stride2(padding), true) => {
                call!(reference::conv3x3_stride2_data_grad, padding);
            }
            (Kind::Conv1x1, true) => call!(reference::conv1x1_data_grad),
        }
        (first, second)
    }

    fn weight_grad(&self, by_reference: bool) -> Vec<f32> {
        let mut dw = vec![f32::NAN; self.weights.len()];
        macro_rules! call {
            ($kernel:path $(, $padding:expr)?) => {
                $kernel(self.pixels, $($padding,)? &self.source(), &self.dy, self.c_out, &mut dw)
            };
        }
        match (self.kind, by_reference) {
            (Kind::Conv3x3, false) => call!(conv3x3_weight_grad),
            (Kind::Stride2(padding), false) => call!(conv3x3_stride2_weight_grad, padding),
            (Kind::Conv1x1, false) => call!(conv1x1_weight_grad),
            (Kind::Conv3x3, true) => call!(reference::conv3x3_weight_grad),
            (Kind::Stride2(padding), true) => {
                call!(reference::conv3x3_stride2_weight_grad, padding);
            }
            (Kind::Conv1x1, true) => call!(reference::conv1x1_weight_grad),
        }
        dw
    }

    fn by_reference(&self) -> Vec<f32> {
        let mut out = self.held();
        let (source, epilogue) = (self.source(), self.epilogue());
        macro_rules! call {
            ($kernel:path $(, $padding:expr)?) => {{
                let (weights, c_out) = (&self.weights, self.c_out);
                $kernel(self.pixels, $($padding,)? &source, weights, c_out, &epilogue, &mut out)
            }};
        }
        match self.kind {
            Kind::Conv3x3 => call!(reference::conv3x3),
            Kind::Stride2(padding) => call!(reference::conv3x3_stride2, padding),
            Kind::Conv1x1 => call!(reference::conv1x1),
        }
        out
    }

    /// The greatest magnitude that an input has on entering the products.
    fn input_scale(&self) -> f32 {
        let x = reference::materialize(self.pixels, &self.source());
        x.iter().fold(0.0, |greatest, x| x.abs().max(greatest)) as f32
    }

    fn check(&self) {
        let (x, w, dy) = (self.input_scale(), greatest(&self.weights), greatest(&self.dy));
        let added = [&self.bias, &self.image_bias, &self.residual];
        let added: f32 = added.iter().map(|x| x.as_ref().map_or(0.0, |x| greatest(x))).sum();
        let added = added + if self.accumulate { dy } else { 0.0 };
        let tolerance = self.kind.tolerance();
        let taps = self.kind.taps() as f32;
        let expected = self.by_reference();
        let expected_dx = self.data_grad(true);
        let expected_dw = self.weight_grad(true);
        for level in levels() {
            let name = level.name();
            let (out, prepared) =
                with_simd_level(level, || (self.forward(false), self.forward(true)));
            let scale = sum_of(taps * self.c_in() as f32) * x * w + added + f32::MIN_POSITIVE;
            assert_close(&format!("{name}: output"), &out, &expected, tolerance, scale);
            assert!(out == prepared, "{name}: prepared weights change the output");
            let dx = with_simd_level(level, || self.data_grad(false));
            let repeat = if self.upsampled { 4.0 } else { 1.0 };
            let scale = sum_of(taps * repeat * self.c_out as f32) * dy * w + 1.0;
            assert_close(&format!("{name}: dx"), &dx.0, &expected_dx.0, tolerance, scale);
            assert_close(&format!("{name}: dx 2"), &dx.1, &expected_dx.1, tolerance, scale);
            let dw = with_simd_level(level, || self.weight_grad(false));
            let scale =
                sum_of(self.kind.output(self.pixels).total() as f32) * x * dy + f32::MIN_POSITIVE;
            assert_close(&format!("{name}: dw"), &dw, &expected_dw, 2.0 * tolerance, scale);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 12 } else { 300 }, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_reference(seed: u64) {
        Case::new(seed).check();
    }
}

/// Shapes like those of the UNet, with every schedule.
#[cfg(not(miri))] // too large
#[test]
fn network_shapes_agree_with_the_reference() {
    let shapes = [
        (Kind::Conv3x3, Pixels::new(1, 16, 64), (64, 0), 64),
        (Kind::Conv3x3, Pixels::new(2, 12, 8), (64, 64), 128),
        (Kind::Conv3x3, Pixels::new(1, 8, 8), (128, 0), 96),
        (Kind::Conv3x3, Pixels::new(2, 33, 17), (3, 0), 64),
        // Several panels at once, and weights transformed some rows at a time.
        (Kind::Conv3x3, Pixels::new(2, 8, 8), (192, 0), 256),
        // The local schedule of the weight gradient.
        (Kind::Conv3x3, Pixels::new(5, 45, 45), (40, 30), 10),
        (Kind::Conv3x3, Pixels::new(9, 32, 32), (3, 0), 70),
        (Kind::Conv3x3, Pixels::new(1, 2, 2100), (70, 0), 5),
        (Kind::Conv3x3, Pixels::new(2, 33, 17), (64, 0), 3),
        // Several groups of the shared one.
        (Kind::Conv3x3, Pixels::new(3, 32, 32), (96, 100), 128),
        (AROUND, Pixels::new(2, 32, 32), (64, 0), 64),
        (BEHIND, Pixels::new(2, 32, 32), (64, 0), 64),
        (Kind::Conv1x1, Pixels::new(2, 24, 24), (96, 64), 128),
        (Kind::Conv1x1, Pixels::rows(2), (64, 0), 256),
        // The local schedule of the weight gradient.
        (Kind::Conv1x1, Pixels::new(3, 40, 33), (70, 0), 20),
        (AROUND, Pixels::new(2, 47, 46), (20, 30), 33),
        (BEHIND, Pixels::new(2, 47, 46), (20, 30), 33),
    ];
    for (i, (kind, pixels, c_in, c_out)) in shapes.into_iter().enumerate() {
        for prologue in [None, Some(Activation::Silu)] {
            Case::with(Random(i as u64), kind, pixels, c_in, c_out, false, prologue).check();
        }
    }
    let upsampled = [
        (Pixels::new(1, 16, 64), (64, 0), 64),
        (Pixels::new(3, 16, 16), (100, 28), 192),
        // Inputs of all phases fill no block.
        (Pixels::new(2, 66, 34), (33, 0), 7),
        // Several groups of the weight gradient.
        (Pixels::new(4, 64, 64), (128, 0), 64),
    ];
    for (i, (pixels, c_in, c_out)) in upsampled.into_iter().enumerate() {
        let random = Random(100 + i as u64);
        Case::with(random, Kind::Conv3x3, pixels, c_in, c_out, true, None).check();
    }
}

/// An image's bytes are those it has alone; and one thread gives what four give.
#[cfg(not(miri))] // too large
#[test]
fn batch_and_threads_leave_no_trace() {
    // Without a prologue, many rows of a 1×1 convolution are read where they lie, few are gathered.
    let prologues = [Some(Activation::Silu), None];
    let kinds = KINDS.into_iter().cycle().take(12).enumerate();
    for ((i, kind), prologue) in kinds.flat_map(|kind| prologues.map(|prologue| (kind, prologue))) {
        let pixels = [
            Pixels::new(5, 16, 16),
            Pixels::new(3, 7, 9),
            Pixels::new(9, 4, 4),
            Pixels::new(3, 64, 64),
        ][i / 3];
        let channels = [(64, 0), (24, 9), (128, 128), (40, 30)][i / 3];
        let c_out = [64, 33, 128, 20][i / 3];
        let mut case = Case::with(Random(7), kind, pixels, channels, c_out, false, prologue);
        case.bias = Some(Random(1).values(c_out, 1.0));
        case.image_bias = Some(Random(2).values(pixels.n * c_out, 1.0));
        case.residual = Some(Random(3).values(case.dy.len(), 1.0));
        for level in levels() {
            let run = |threads| {
                with_threads(threads, || {
                    with_simd_level(level, || {
                        (case.forward(false), case.data_grad(false), case.weight_grad(false))
                    })
                })
            };
            let one = run(1);
            for threads in [2, 3, 4, 7] {
                assert!(one == run(threads), "{kind:?} on {threads} threads");
            }
            for n in 0..pixels.n {
                let part = |x: &[f32]| {
                    let each = x.len() / pixels.n;
                    x[n * each..(n + 1) * each].to_vec()
                };
                let alone = Case {
                    pixels: Pixels { n: 1, ..pixels },
                    first: part(&case.first),
                    second: part(&case.second),
                    scale: part(&case.scale),
                    shift: part(&case.shift),
                    weights: case.weights.clone(),
                    bias: case.bias.clone(),
                    image_bias: case.image_bias.as_deref().map(part),
                    residual: case.residual.as_deref().map(part),
                    dy: part(&case.dy),
                    ..case
                };
                let (out, dx) =
                    with_simd_level(level, || (alone.forward(false), alone.data_grad(false)));
                assert!(out == part(&one.0), "{kind:?}: image {n} of the output");
                assert!(dx.0 == part(&one.1.0), "{kind:?}: image {n} of dx");
            }
        }
    }
}

/// Large weights on many tiles, and on few: one schedule for the batch, another for an image alone.
#[cfg(not(miri))] // too large
#[test]
fn schedules_give_the_same_bytes() {
    for (pixels, c_in, c_out, upsampled) in [
        (Pixels::new(3, 48, 48), 192, 160, false),
        (Pixels::new(3, 16, 16), 128, 256, false),
        (Pixels::new(3, 96, 96), 80, 72, true),
        (Pixels::new(3, 32, 32), 70, 130, true),
    ] {
        let shrunk = if upsampled { 4 } else { 1 };
        let x = Random(1).values(pixels.total() / shrunk * c_in, 1.0);
        let weights = Random(2).values(9 * c_in * c_out, 1.0);
        let prepared = match upsampled {
            true => PreparedConv3x3::for_upsampled(&weights, c_in, c_out),
            false => PreparedConv3x3::new(&weights, c_in, c_out),
        };
        let run = |pixels: Pixels, x: &[f32], weights| {
            let mut out = vec![f32::NAN; pixels.total() * c_out];
            let source = Source::new(x, c_in);
            let source = if upsampled { source.upsampled() } else { source };
            conv3x3(pixels, &source, weights, c_out, &Epilogue::default(), &mut out);
            out
        };
        let alone = Pixels { n: 1, ..pixels };
        let one_by_one: Vec<f32> = x
            .chunks_exact(alone.total() / shrunk * c_in)
            .flat_map(|x| run(alone, x, Weights::Plain(&weights)))
            .collect();
        for threads in [1, 2, 5] {
            let (plain, prepared) = with_threads(threads, || {
                let plain = run(pixels, &x, Weights::Plain(&weights));
                (plain, run(pixels, &x, Weights::Prepared(&prepared)))
            });
            assert!(plain == one_by_one, "{pixels:?} on {threads} threads");
            assert!(prepared == one_by_one, "{pixels:?} prepared, on {threads} threads");
        }
    }
}

/// With several threads, and few tiles, they once were whatever had been left in working memory.
#[test]
fn without_input_channels_the_outputs_are_the_bias() {
    let (pixels, x, weights) = (Pixels::new(1, 3, 4), [1.0; 12], [1.0; 18]);
    let bias = [2.0, 3.0];
    with_threads(2, || {
        let mut out = [f32::NAN; 24];
        for (x, weights, c_in) in [(&x[..], &weights[..], 1), (&[], &[], 0)] {
            let (source, weights) = (Source::new(x, c_in), Weights::Plain(weights));
            conv3x3(pixels, &source, weights, 2, &Epilogue::bias(&bias), &mut out);
        }
        assert_eq!(out.as_chunks().0, [bias; 12]);
    });
}

#[test]
#[should_panic(expected = "length of the input")]
fn a_wrong_length_is_named() {
    let (x, w, mut out) = ([0.0; 5], [0.0; 36], [0.0; 8]);
    let source = Source::new(&x, 1);
    let weights = Weights::Plain(&w);
    conv3x3(Pixels::new(1, 2, 1), &source, weights, 4, &Epilogue::default(), &mut out);
}
