//! Values that tests and the scripts of golden values make alike: see `bench/golden.py`.

/// u of `bench/golden.py`.
pub fn uniform(name: &str, count: usize) -> Vec<f64> {
    let mut digest = 0xCBF2_9CE4_8422_2325u64;
    for byte in name.bytes() {
        digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    }
    let splitmix = |i: u64| {
        let mut z = digest.wrapping_add(i).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (0..count as u64).map(splitmix).collect()
}

/// The value of the parameter of that name and shape.
pub fn parameter(name: &str, shape: &[usize]) -> Vec<f32> {
    let count: usize = shape.iter().product();
    let scale = |u: f64| {
        if name.ends_with("class_embedding.weight") {
            1.5 * u
        } else if name.ends_with(".bias") {
            u / 10.0
        } else if shape.len() == 1 {
            1.0 + u / 4.0
        } else {
            u * (3.0 / (count / shape[0]) as f64).sqrt()
        }
    };
    uniform(name, count).into_iter().map(|u| scale(u) as f32).collect()
}
