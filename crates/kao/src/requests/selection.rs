//! Which images of all that there could be.

use crate::error::{Error, Result};
use crate::noise::ImageNumbers;

/// The fields of a request that choose images by their numbers.
#[derive(Clone, Copy)]
pub(super) struct Selection<'a> {
    /// The number of the first image.
    pub first: u64,
    /// How many from there on.
    pub count: Option<usize>,
    /// These, in the place of the other two.
    pub pick: &'a [u64],
}

impl Selection<'_> {
    /// Checks what can be told without knowing how many images there could be.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<()> {
        let Selection { first, count, pick } = *self;
        if count == Some(0) {
            return Err(Error::out_of_range("count", 0, "at least 1"));
        }
        if !pick.is_empty() {
            let only = "only applies without `pick`, which names each image";
            if count.is_some() {
                return Err(Error::invalid("count", only));
            }
            if first != 0 {
                return Err(Error::invalid("first", only));
            }
        }
        let mut sorted = pick.to_vec();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            let problem = format!("names image {} twice; expected each once", twice[0]);
            return Err(Error::invalid("pick", problem));
        }
        Ok(())
    }

    /// The numbers that are asked for: `default` where no count is given, all below `end` where
    /// there is one, which are `of`.
    ///
    /// # Errors
    /// When a number is not below `end`.
    pub fn numbers(
        &self,
        default: usize,
        end: Option<(usize, &dyn Fn() -> String)>,
    ) -> Result<ImageNumbers> {
        let Selection { first, count, pick } = *self;
        let Some((end, of)) = end else {
            let count = count.unwrap_or(default);
            if first.checked_add(count as u64).is_none() {
                let allowed = "small enough that image numbers stay below 2^64";
                return Err(Error::out_of_range("first", first, allowed));
            }
            return Ok(self.chosen(count));
        };
        if let Some(number) = pick.iter().find(|number| **number >= end as u64) {
            let allowed = format!("below {end}, to be one of {}", of());
            return Err(Error::out_of_range("pick", number, allowed));
        }
        if pick.is_empty() && first >= end as u64 {
            let allowed = format!("below {end}, to be one of {}", of());
            return Err(Error::out_of_range("first", first, allowed));
        }
        // Below `end`, so it fits.
        let n_left = end - if pick.is_empty() { first as usize } else { 0 };
        match count {
            Some(count) if count > n_left => {
                let allowed = match first {
                    0 => format!("at most {}", of()),
                    first => format!("at most {n_left} from {first} on, of {}", of()),
                };
                Err(Error::out_of_range("count", count, allowed))
            }
            count => Ok(self.chosen(count.unwrap_or(n_left))),
        }
    }

    fn chosen(&self, count: usize) -> ImageNumbers {
        match self.pick.is_empty() {
            true => ImageNumbers::From { first: self.first, count },
            false => ImageNumbers::These(self.pick.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(first: u64, count: Option<usize>, pick: &[u64]) -> Selection<'_> {
        Selection { first, count, pick }
    }

    #[test]
    fn numbers_are_those_that_are_asked_for() {
        let of = || "the 5 images".to_owned();
        let numbers = |selection: Selection<'_>, end: Option<usize>| {
            let end = end.map(|end| (end, &of as &dyn Fn() -> String));
            selection.numbers(4, end).map(|numbers| numbers.iter().collect::<Vec<u64>>())
        };
        assert_eq!(numbers(selection(0, None, &[]), None).unwrap(), [0, 1, 2, 3]);
        assert_eq!(numbers(selection(7, Some(2), &[]), None).unwrap(), [7, 8]);
        assert_eq!(numbers(selection(0, None, &[40, 17]), None).unwrap(), [40, 17]);
        assert_eq!(numbers(selection(2, None, &[]), Some(5)).unwrap(), [2, 3, 4]);
        assert_eq!(numbers(selection(0, None, &[4, 0]), Some(5)).unwrap(), [4, 0]);
        for (selection, end, words) in [
            (selection(0, None, &[5]), Some(5), "pick 5: must be below 5, to be one of the 5"),
            (selection(5, None, &[]), Some(5), "first 5: must be below 5, to be one of the 5"),
            (selection(3, Some(3), &[]), Some(5), "count 3: must be at most 2 from 3 on, of the 5"),
            (selection(0, Some(6), &[]), Some(5), "count 6: must be at most the 5 images"),
            (selection(u64::MAX, Some(2), &[]), None, "first 18446744073709551615: must be small"),
        ] {
            let error = numbers(selection, end).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn selections_that_contradict_themselves_are_refused() {
        for (selection, words) in [
            (selection(0, Some(0), &[]), "count 0: must be at least 1"),
            (selection(0, Some(1), &[3]), "count: only applies without `pick`"),
            (selection(1, None, &[3]), "first: only applies without `pick`"),
            (selection(0, None, &[3, 1, 3]), "pick: names image 3 twice"),
        ] {
            let error = selection.validate().unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
