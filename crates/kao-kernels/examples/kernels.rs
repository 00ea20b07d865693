//! Milliseconds and GFLOP/s of the kernels on the shapes of the 25.4M-parameter UNet at 64×64.
//!
//! `cargo run --release -p kao-kernels --example kernels [-- BATCH_SIZE [NAME_PART [SECONDS]]]`
//!
//! Each line: the best and the median of the runs of so many seconds (0.4), at least 9. A convolution's operations are those of the
//! direct algorithm. `KAO_SIMD` and `RAYON_NUM_THREADS` apply.

use kao_kernels::*;
use std::time::Instant;

/// Level of the network: side and the channels of its convolutions, with how many there are.
const CONVOLUTIONS: [(usize, usize, usize, usize); 16] = [
    (64, 3, 64, 1),
    (64, 64, 64, 7),
    (64, 128, 64, 2),
    (64, 192, 64, 1),
    (64, 64, 3, 1),
    (32, 64, 128, 1),
    (32, 128, 128, 6),
    (32, 192, 128, 1),
    (32, 256, 128, 1),
    (32, 384, 128, 1),
    (16, 128, 256, 1),
    (16, 256, 256, 6),
    (16, 384, 256, 1),
    (16, 512, 256, 2),
    (8, 256, 256, 11),
    (8, 512, 256, 3),
];

struct Bench {
    wanted: String,
    seconds: f64,
    /// Summed best times of the network's convolutions, by name.
    sums: Vec<(String, f64)>,
}

impl Bench {
    /// Prints a line and returns the best time in milliseconds.
    fn run(&mut self, name: &str, gflop: f64, count: usize, mut body: impl FnMut()) {
        if !name.contains(&self.wanted) {
            return;
        }
        let mut times = Vec::new();
        let started = Instant::now();
        body();
        while times.len() < 9
            || (times.len() < 100 && started.elapsed().as_secs_f64() < self.seconds)
        {
            let start = Instant::now();
            body();
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let (best, median) = (times[0], times[times.len() / 2]);
        println!("{name:44} {best:9.3} {median:9.3} ms {:9.0} GFLOP/s", gflop / best * 1e3);
        let kind = name.split(' ').next().unwrap_or_default().to_owned();
        match self.sums.iter_mut().find(|(name, _)| *name == kind) {
            Some((_, sum)) => *sum += best * count as f64,
            None => self.sums.push((kind, best * count as f64)),
        }
    }
}

/// Reproducible values in [−1, 1).
fn values(len: usize) -> Vec<f32> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0)
        .collect()
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let n: usize = arguments.next().map_or(8, |n| n.parse().expect("a batch size"));
    let wanted = arguments.next().unwrap_or_default();
    let seconds = arguments.next().map_or(0.4, |seconds| seconds.parse().expect("seconds"));
    let mut bench = Bench { wanted, seconds, sums: Vec::new() };
    let (level, threads) = (simd_level().name(), rayon::current_num_threads());
    println!("{level}, {threads} threads, batch size {n}, peak {:.0} GFLOP/s", peak_gflops());
    for (side, c_in, c_out, count) in CONVOLUTIONS {
        convolution(&mut bench, n, side, c_in, c_out, count);
    }
    for (side, c) in [(64, 128), (32, 256), (16, 256)] {
        upsampled(&mut bench, n, side, c);
    }
    for (side, c) in [(64, 64), (32, 128), (16, 256)] {
        stride2(&mut bench, n, side, c);
    }
    for (side, c_in, c_out, count) in
        [(16, 256, 256, 12), (16, 512, 256, 2), (64, 128, 64, 2), (32, 384, 128, 1)]
    {
        linear_like(&mut bench, n, side, c_in, c_out, count);
    }
    for (side, c, count) in [(64, 64, 12), (32, 128, 11), (16, 256, 18), (8, 256, 14)] {
        normalization(&mut bench, n, side, c, count);
    }
    for heads in [1, 4, 32] {
        attention_of(&mut bench, n, 256, (256, heads), 6);
    }
    let len = 25_368_963;
    let (mut p, g, mut m, mut v) = (values(len), values(len), vec![0.0; len], vec![0.0; len]);
    bench.run("adam", 0.3, 1, || adam_step(&AdamStep::default(), &mut p, &g, &mut m, &mut v));
    let mut average = p.clone();
    bench.run("ema", 0.1, 1, || ema_update(0.999, &mut average, &p));
    bench.run("adam-ema", 0.4, 1, || {
        adam_ema_step(&AdamStep::default(), &mut p, &g, &mut m, &mut v, 0.999, &mut average);
    });
    println!("\nmilliseconds per image of the network's kernels, by kind (best times):");
    for (kind, sum) in &bench.sums {
        println!("{kind:24} {:9.3}", sum / n as f64);
    }
}

fn convolution(bench: &mut Bench, n: usize, side: usize, c_in: usize, c_out: usize, count: usize) {
    let pixels = Pixels::new(n, side, side);
    let (x, dy) = (values(pixels.total() * c_in), values(pixels.total() * c_out));
    let (w, bias) = (values(9 * c_in * c_out), values(c_out));
    let mut out = vec![0.0; dy.len()];
    let mut dx = vec![0.0; x.len()];
    let mut dw = vec![0.0; w.len()];
    let epilogue = Epilogue { residual: Some(&dy), ..Epilogue::bias(&bias) };
    let prepared = PreparedConv3x3::new(&w, c_in, c_out);
    let gflop = 18e-9 * (pixels.total() * c_in * c_out) as f64;
    let shape = format!("{side:3} {c_in:4} {c_out:4}");
    let source = Source::new(&x, c_in);
    let (scale, shift) = (values(n * c_in), values(n * c_in));
    let normalized = source.with_prologue(Prologue {
        scale: &scale,
        shift: &shift,
        activation: Activation::Hardswish,
    });
    bench.run(&format!("conv3x3-prepared {shape}"), gflop, count, || {
        conv3x3(pixels, &source, Weights::Prepared(&prepared), c_out, &epilogue, &mut out);
    });
    bench.run(&format!("conv3x3-prologue {shape}"), gflop, count, || {
        conv3x3(pixels, &normalized, Weights::Prepared(&prepared), c_out, &epilogue, &mut out);
    });
    bench.run(&format!("conv3x3-plain {shape}"), gflop, count, || {
        conv3x3(pixels, &source, Weights::Plain(&w), c_out, &epilogue, &mut out);
    });
    bench.run(&format!("conv3x3-data-grad {shape}"), gflop, count, || {
        conv3x3_data_grad(pixels, &dy, c_out, &w, Sink::new(&mut dx, c_in));
    });
    bench.run(&format!("conv3x3-weight-grad {shape}"), gflop, count, || {
        conv3x3_weight_grad(pixels, &source, &dy, c_out, &mut dw);
    });
}

fn upsampled(bench: &mut Bench, n: usize, side: usize, c: usize) {
    let pixels = Pixels::new(n, side, side);
    let (dy, w, bias) = (values(pixels.total() * c), values(9 * c * c), values(c));
    let x = values(dy.len() / 4);
    let (mut out, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    let prepared = PreparedConv3x3::for_upsampled(&w, c, c);
    let gflop = 18e-9 * (pixels.total() * c * c) as f64;
    let (source, epilogue) = (Source::new(&x, c).upsampled(), Epilogue::bias(&bias));
    bench.run(&format!("upsampled-prepared {side:3} {c:4}"), gflop, 1, || {
        conv3x3(pixels, &source, Weights::Prepared(&prepared), c, &epilogue, &mut out);
    });
    bench.run(&format!("upsampled-plain {side:3} {c:4}"), gflop, 1, || {
        conv3x3(pixels, &source, Weights::Plain(&w), c, &epilogue, &mut out);
    });
    bench.run(&format!("upsampled-data-grad {side:3} {c:4}"), gflop, 1, || {
        conv3x3_data_grad(pixels, &dy, c, &w, Sink::new(&mut dx, c).upsampled());
    });
    bench.run(&format!("upsampled-weight-grad {side:3} {c:4}"), gflop, 1, || {
        conv3x3_weight_grad(pixels, &source, &dy, c, &mut dw);
    });
}

fn stride2(bench: &mut Bench, n: usize, side: usize, c: usize) {
    let pixels = Pixels::new(n, side, side);
    let (x, w, bias) = (values(pixels.total() * c), values(9 * c * c), values(c));
    let mut out = vec![0.0; pixels.halved().total() * c];
    let dy = values(out.len());
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let prepared = PreparedConv3x3Stride2::new(&w, c, c);
    let gflop = 18e-9 * (pixels.halved().total() * c * c) as f64;
    let (source, epilogue) = (Source::new(&x, c), Epilogue::bias(&bias));
    bench.run(&format!("stride2-prepared {side:3} {c:4}"), gflop, 1, || {
        conv3x3_stride2(
            pixels,
            Padding::Around,
            &source,
            Weights::Prepared(&prepared),
            c,
            &epilogue,
            &mut out,
        );
    });
    bench.run(&format!("stride2-data-grad {side:3} {c:4}"), gflop, 1, || {
        conv3x3_stride2_data_grad(pixels, Padding::Around, &dy, c, &w, Sink::new(&mut dx, c));
    });
    bench.run(&format!("stride2-weight-grad {side:3} {c:4}"), gflop, 1, || {
        conv3x3_stride2_weight_grad(pixels, Padding::Around, &source, &dy, c, &mut dw);
    });
}

fn linear_like(bench: &mut Bench, n: usize, side: usize, c_in: usize, c_out: usize, count: usize) {
    let pixels = Pixels::new(n, side, side);
    let (x, dy) = (values(pixels.total() * c_in), values(pixels.total() * c_out));
    let (w, bias) = (values(c_in * c_out), values(c_out));
    let mut out = vec![0.0; dy.len()];
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let prepared = PreparedConv1x1::new(&w, c_in, c_out);
    let gflop = 2e-9 * (pixels.total() * c_in * c_out) as f64;
    let (source, epilogue) = (Source::new(&x, c_in), Epilogue::bias(&bias));
    let shape = format!("{side:3} {c_in:4} {c_out:4}");
    bench.run(&format!("conv1x1-prepared {shape}"), gflop, count, || {
        conv1x1(pixels, &source, Weights::Prepared(&prepared), c_out, &epilogue, &mut out);
    });
    bench.run(&format!("conv1x1-plain {shape}"), gflop, count, || {
        conv1x1(pixels, &source, Weights::Plain(&w), c_out, &epilogue, &mut out);
    });
    bench.run(&format!("conv1x1-data-grad {shape}"), gflop, count, || {
        conv1x1_data_grad(pixels, &dy, c_out, &w, Sink::new(&mut dx, c_in));
    });
    bench.run(&format!("conv1x1-weight-grad {shape}"), gflop, count, || {
        conv1x1_weight_grad(pixels, &source, &dy, c_out, &mut dw);
    });
}

fn normalization(bench: &mut Bench, n: usize, side: usize, c: usize, count: usize) {
    let pixels = Pixels::new(n, side, side);
    let (x, dy, gamma, beta) =
        (values(pixels.total() * c), values(pixels.total() * c), values(c), values(c));
    let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let (mut dgamma, mut dbeta) = (vec![0.0; c], vec![0.0; c]);
    let gflop = 1e-9 * x.len() as f64;
    let source = Source::new(&x, c);
    let mut stats = group_norm_stats(pixels, &source, 32, 1e-5);
    let shape = format!("{side:3} {c:4}");
    bench.run(&format!("norm-stats {shape}"), gflop, count, || {
        stats = group_norm_stats(pixels, &source, 32, 1e-5);
    });
    let norm = GroupNorm {
        groups: 32,
        gamma: &gamma,
        beta: &beta,
        per_image: false,
        stats: &stats,
        activation: Activation::Hardswish,
        dropout: None,
    };
    bench.run(&format!("norm-apply {shape}"), gflop, count, || {
        group_norm(pixels, &source, &norm, &mut y);
    });
    let dropped = GroupNorm { dropout: Some(Dropout { rate: 0.1, seed: 1 }), ..norm };
    bench.run(&format!("norm-apply-dropout {shape}"), gflop, count, || {
        group_norm(pixels, &source, &dropped, &mut y);
    });
    bench.run(&format!("norm-backward {shape}"), gflop, count, || {
        let sink = Sink::new(&mut dx, c);
        let affine = AffineGradients { gamma: (&mut dgamma).into(), beta: (&mut dbeta).into() };
        group_norm_backward(pixels, &source, &norm, &dy, sink, affine);
    });
    bench.run(&format!("norm-backward-dropout {shape}"), gflop, count, || {
        let sink = Sink::new(&mut dx, c);
        let affine = AffineGradients { gamma: (&mut dgamma).into(), beta: (&mut dbeta).into() };
        group_norm_backward(pixels, &source, &dropped, &dy, sink, affine);
    });
    let mut sums = vec![0.0; n * c];
    bench.run(&format!("sum-pixels {shape}"), gflop, count, || {
        sum_pixels(pixels, &dy, c, &mut sums);
    });
}

fn attention_of(
    bench: &mut Bench,
    n: usize,
    pixels: usize,
    (c, heads): (usize, usize),
    count: usize,
) {
    let shape = AttentionShape::with_heads(n, pixels, c, heads);
    let len = n * pixels * c;
    let (q, k, v, dout) = (values(len), values(len), values(len), values(len));
    let (mut out, mut dq, mut dk, mut dv) =
        (vec![0.0; len], vec![0.0; len], vec![0.0; len], vec![0.0; len]);
    let input = AttentionInput { q: &q, k: &k, v: &v };
    let gflop = 4e-9 * (len * pixels) as f64;
    bench.run(&format!("attention {pixels} {c} {heads}"), gflop, count, || {
        attention(shape, &input, &mut out);
    });
    bench.run(&format!("attention-backward {pixels} {c} {heads}"), 2.5 * gflop, count, || {
        let to =
            AttentionGradients { q: (&mut dq).into(), k: (&mut dk).into(), v: (&mut dv).into() };
        attention_backward(shape, &input, &dout, to);
    });
}
