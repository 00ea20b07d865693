//! The bytes of a pickle, read from the first to the last.

/// What a step of reading comes to; what is wrong is said in words.
pub type Step<T = ()> = Result<T, String>;

/// A pickle's bytes, and how far they are read.
pub struct Program<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Program<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Program { bytes, position: 0 }
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.position
    }

    pub fn take(&mut self, n_bytes: u64) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        match usize::try_from(n_bytes).ok().and_then(|n| rest.get(..n)) {
            Some(taken) => {
                self.position += taken.len();
                Ok(taken)
            }
            None => Err(format!(
                "it ends at byte {}, in the middle of a value of {n_bytes} bytes",
                self.bytes.len()
            )),
        }
    }

    pub fn byte(&mut self) -> Step<u8> {
        self.take(1).map(|taken| taken[0])
    }

    /// A little-endian number of `n_bytes` ≤ 8.
    pub fn unsigned(&mut self, n_bytes: u64) -> Step<u64> {
        Ok(self.take(n_bytes)?.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b)))
    }

    /// The bytes after a length of `n_length_bytes`.
    pub fn counted(&mut self, n_length_bytes: u64) -> Step<&'a [u8]> {
        let n_bytes = self.unsigned(n_length_bytes)?;
        self.take(n_bytes)
    }

    pub fn line(&mut self) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        match rest.iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                self.position += end + 1;
                Ok(&rest[..end])
            }
            None => Err("it ends in the middle of a line".to_owned()),
        }
    }

    /// A line of text.
    pub fn text_line(&mut self) -> Step<String> {
        self.line().map(lossy)
    }
}

/// `bytes` as text; what is no UTF-8 is replaced.
pub fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
