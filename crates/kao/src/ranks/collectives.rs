//! What all ranks of a group do together. Every rank calls the same functions in the same order.

use super::Group;
use crate::error::{Error, ErrorKind, Result};

/// What every rank has, at every rank, in the order of their numbers.
///
/// # Errors
/// When a rank is gone.
pub fn gather(group: &dyn Group, own: &[u8]) -> Result<Vec<Vec<u8>>> {
    let (rank, size) = (group.rank(), group.size());
    let mut all = vec![Vec::new(); size];
    for distance in 1..size {
        let (to, from) = ((rank + distance) % size, (rank + size - distance) % size);
        let mut len = [0; 8];
        group.exchange(to, &(own.len() as u64).to_le_bytes(), from, &mut len)?;
        let mut theirs = vec![0; u64::from_le_bytes(len) as usize];
        group.exchange(to, own, from, &mut theirs)?;
        all[from] = theirs;
    }
    all[rank] = own.to_vec();
    Ok(all)
}

/// As [`gather`], of what may have failed: the failure of one rank is that of all.
///
/// # Errors
/// When a rank is gone, or has an error. That rank gets its own error back; so does every rank that
/// has one. The others get the error of the first rank that has one.
pub fn gather_results(group: &dyn Group, own: Result<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
    if group.size() == 1 {
        return own.map(|own| vec![own]);
    }
    let all = gather(group, &encoded(&own))?;
    own?;
    all.into_iter().enumerate().map(|(rank, bytes)| decoded(rank, bytes)).collect()
}

/// What rank 0 has, at every rank. What the others give is not looked at.
///
/// # Errors
/// When a rank is gone, or rank 0 has an error, which it gets back.
pub fn broadcast(group: &dyn Group, own: Result<Vec<u8>>) -> Result<Vec<u8>> {
    if group.size() == 1 {
        return own;
    }
    let mut bytes = if group.is_first() { encoded(&own) } else { Vec::new() };
    let mut len = (bytes.len() as u64).to_le_bytes();
    broadcast_into(group, &mut len)?;
    bytes.resize(u64::from_le_bytes(len) as usize, 0);
    broadcast_into(group, &mut bytes)?;
    match group.is_first() {
        true => own,
        false => decoded(0, bytes),
    }
}

/// Fills `bytes` at every rank with what rank 0 has there. All give the same length.
///
/// # Errors
/// When a rank is gone.
pub fn broadcast_into(group: &dyn Group, bytes: &mut [u8]) -> Result<()> {
    let (rank, size) = (group.rank(), group.size());
    // The ranks below `reach` have the bytes, and each hands them on to one more.
    let mut reach = 1;
    while reach < size {
        if rank < reach && rank + reach < size {
            group.exchange(rank + reach, bytes, 0, &mut [])?;
        } else if (reach..2 * reach).contains(&rank) {
            group.exchange(0, &[], rank - reach, bytes)?;
        }
        reach *= 2;
    }
    Ok(())
}

const FINE: u8 = 0;
const INTERRUPTED: u8 = 1;
const DIVERGED: u8 = 2;
const NOT_FINITE: u8 = 3;
const FAILED: u8 = 4;

/// A result as bytes. Of an error, what other ranks have to know.
fn encoded(result: &Result<Vec<u8>>) -> Vec<u8> {
    let (kind, content) = match result {
        Ok(bytes) => (FINE, bytes.clone()),
        Err(error) => match error.kind() {
            ErrorKind::Interrupted => (INTERRUPTED, Vec::new()),
            ErrorKind::Diverged { problem } => (DIVERGED, problem.clone().into_bytes()),
            ErrorKind::NotFinite { problem } => (NOT_FINITE, problem.clone().into_bytes()),
            _ => (FAILED, error.to_string().into_bytes()),
        },
    };
    [vec![kind], content].concat()
}

/// What [`encoded`] made of the result of `rank`.
fn decoded(rank: usize, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let kind = if bytes.is_empty() { FAILED } else { bytes.remove(0) };
    if kind == FINE {
        return Ok(bytes);
    }
    let problem = String::from_utf8_lossy(&bytes).into_owned();
    Err(match kind {
        INTERRUPTED => Error::interrupted(),
        DIVERGED => ErrorKind::Diverged { problem }.into(),
        NOT_FINITE => ErrorKind::NotFinite { problem }.into(),
        _ => ErrorKind::Rank { rank, problem: format!("failed: {problem}") }.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranks::threads::together;

    #[test]
    fn everyone_gets_what_everyone_has() {
        for size in 1..7 {
            let expected: Vec<Vec<u8>> = (0..size).map(|rank| vec![rank as u8; 2 * rank]).collect();
            let gathered =
                together(size, |group| gather(group, &vec![group.rank() as u8; 2 * group.rank()]));
            assert!(gathered.into_iter().all(|found| found.unwrap() == expected), "{size} ranks");
        }
    }

    #[test]
    fn everyone_gets_what_the_first_has() {
        for size in 1..10 {
            let found = together(size, |group| {
                let mut bytes = [group.rank() as u8 + 7; 3];
                broadcast_into(group, &mut bytes).unwrap();
                (bytes, broadcast(group, Ok(vec![group.rank() as u8 + 5])).unwrap())
            });
            assert!(found.iter().all(|found| *found == ([7; 3], vec![5])), "{size}: {found:?}");
        }
    }

    #[test]
    fn the_failure_of_one_is_that_of_all() {
        let failing = |which: usize, error: fn() -> Error| {
            let told = together(3, |group| {
                let own = if group.rank() == which { Err(error()) } else { Ok(vec![1]) };
                gather_results(group, own).unwrap_err().to_string()
            });
            (told[which].clone(), told[(which + 1) % 3].clone())
        };
        let (own, other) = failing(2, || Error::malformed("faces", "gone"));
        assert_eq!(
            (own.as_str(), other.as_str()),
            ("`faces`: gone", "rank 2 failed: `faces`: gone")
        );
        let diverged = || ErrorKind::Diverged { problem: "step 3".to_owned() }.into();
        assert_eq!(failing(1, diverged).1, "training diverged: step 3");
        assert_eq!(failing(0, Error::interrupted).1, "interrupted");
        let told = together(2, |group| {
            broadcast(group, Err(Error::malformed("run", "taken"))).unwrap_err().to_string()
        });
        assert_eq!(told, ["`run`: taken", "rank 0 failed: `run`: taken"]);
    }
}
