//! Damage to files: bytes and numbers changed, parts lost, repeated, or of another file.

/// Numbers that are the same in every run (Steele et al. 2014, splitmix64).
pub struct Random(u64);

impl Random {
    /// The numbers of one file of one run.
    pub fn new(seed: u64, file: u64) -> Self {
        Random(seed.wrapping_mul(1 << 40).wrapping_add(file))
    }

    /// A number below `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }

    fn one_of<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// A file of `corpus` with a few changes of its bytes, most of them near its start.
pub fn bytes(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut file = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        change_bytes(&mut file, corpus, random);
    }
    file
}

/// One change of bytes.
fn change_bytes(file: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    if file.is_empty() {
        return;
    }
    // Headers matter most.
    let reach = if random.below(2) == 0 { file.len().min(64) } else { file.len() };
    let at = random.below(reach);
    let until = |n: usize| file.len().min(at + n);
    match random.below(10) {
        0 => file[at] = random.below(256) as u8,
        1 => file[at] ^= 1 << random.below(8),
        2 => file[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)],
        3 => {
            let end = until(1 + random.below(8));
            file[at..end].fill([0, 0x7F, 0x80, 0xFF][random.below(4)]);
        }
        4 => file.truncate(at.max(4)),
        5 => {
            let end = until(random.below(64));
            file.drain(at..end);
        }
        6 => {
            let end = until(random.below(80));
            let part = file[at..end].to_vec();
            file.splice(at..at, part);
        }
        7 => {
            let end = until(random.below(64));
            let part = file[at..end].repeat(1 << random.below(8));
            let place = random.below(file.len());
            file.splice(place..place, part);
        }
        8 => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len());
            file.truncate(at);
            file.extend_from_slice(&other[from..]);
        }
        _ => {
            let word = random.one_of(&[
                &b"\0\0\0\0"[..],
                b"\xff\xff\xff\xff",
                b"\xff\xff\xff\x7f",
                b"\0\0\0\x80",
                b"\xff\xff\xff\xff\xff\xff\xff\xff",
            ]);
            let end = until(word.len());
            file.splice(at..end, word.iter().copied());
        }
    }
}

/// A file of `corpus`, which are texts, with a few changes: lines, values, or bytes.
pub fn text(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut file = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(3) {
        if file.is_empty() {
            break;
        }
        match random.below(10) {
            0..4 => replace_value(&mut file, random),
            4 => lines(&mut file, random),
            5 => {
                let value = value(random);
                let at = random.below(file.len());
                file.splice(at..at, value);
            }
            6 => {
                let open = random.one_of(&[&b"["[..], b"{\"a\":", b"[[", b"(", b"a.", b"{a="]);
                let part = open.repeat(1 << random.below(14));
                let at = random.below(file.len());
                file.splice(at..at, part);
            }
            _ => change_bytes(&mut file, corpus, random),
        }
    }
    file
}

/// Puts another value in the place of a number or a text.
fn replace_value(file: &mut Vec<u8>, random: &mut Random) {
    let is_of_value = |b: &u8| b.is_ascii_alphanumeric() || b"-+._".contains(b);
    let starts: Vec<usize> = (0..file.len())
        .filter(|&at| is_of_value(&file[at]) && (at == 0 || !is_of_value(&file[at - 1])))
        .collect();
    if starts.is_empty() {
        return;
    }
    let start = starts[random.below(starts.len())];
    let n = file[start..].iter().take_while(|b| is_of_value(b)).count();
    let value = value(random);
    file.splice(start..start + n, value);
}

/// A value at the end of what can be written, or of another kind.
fn value(random: &mut Random) -> Vec<u8> {
    const VALUES: [&str; 34] = [
        "0",
        "-0",
        "1",
        "-1",
        "2",
        "3",
        "7",
        "8",
        "0.5",
        "1e-30",
        "1e300",
        "1e309",
        "-1e309",
        "nan",
        "inf",
        "null",
        "true",
        "65536",
        "1000000",
        "4294967295",
        "4294967296",
        "2147483648",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "\"\"",
        "[]",
        "{}",
        "[0]",
        "[1, 2]",
        "\"linear\"",
        "1_000",
    ];
    match random.below(8) {
        0 => format!("\"{}\"", "x".repeat(1 << random.below(16))).into_bytes(),
        1 => format!("[{}1]", "1,".repeat(1 << random.below(14))).into_bytes(),
        2 => "9".repeat(1 << random.below(12)).into_bytes(),
        _ => VALUES[random.below(VALUES.len())].as_bytes().to_vec(),
    }
}

/// Loses, repeats or moves a line.
fn lines(file: &mut Vec<u8>, random: &mut Random) {
    let mut lines: Vec<Vec<u8>> =
        file.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let at = random.below(lines.len());
    match random.below(4) {
        0 => drop(lines.remove(at)),
        1 => {
            let line = lines[at].clone();
            lines.splice(at..at, std::iter::repeat_n(line, 1 << random.below(10)));
        }
        2 => {
            let other = random.below(lines.len());
            lines.swap(at, other);
        }
        _ => {
            let line = lines[at].clone();
            let place = random.below(lines.len());
            lines[place] = line;
        }
    }
    *file = lines.concat();
}
