//! Inputs made of others: a few small damages, chosen by a seed, of the kinds that decoders are broken by.

use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Damages to one input at most: one is what a decoder sees best, a few reach what stands behind a first check.
const DAMAGES_MAX: u32 = 4;

/// A range that is taken out, repeated or put in is no longer.
const RANGE_BYTES_MAX: usize = 64;

/// Lengths and counts that something is made of, or not.
const EXTREMES: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x8000_0000_0000_0000];

/// An input damaged in a way that the seed tells; `other` is one of the same corpus to take from.
pub(crate) fn mutated(input: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut bytes = input.to_vec();
    for _ in 0..dice.random_range(1..=DAMAGES_MAX) {
        damage(&mut bytes, other, &mut dice);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, other: &[u8], dice: &mut SmallRng) {
    let at = dice.random_range(0..=bytes.len());
    let until = dice.random_range(at..=bytes.len().min(at + RANGE_BYTES_MAX));
    match dice.random_range(0..9) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << dice.random_range(0..8),
        2 if at < bytes.len() => bytes[at] = dice.random(),
        3 | 4 => extreme(bytes, at, dice),
        5 => {
            bytes.drain(at..until);
        }
        6 => {
            let again = bytes[at..until].to_vec();
            bytes.splice(at..at, again);
        }
        7 => {
            let from = dice.random_range(0..=other.len());
            let to = dice.random_range(from..=other.len().min(from + RANGE_BYTES_MAX));
            bytes.splice(at..until, other[from..to].iter().copied());
        }
        8 => bytes.truncate(at),
        _ => {}
    }
}

/// A number of 1 to 8 bytes becomes an extreme one, or nearly that.
fn extreme(bytes: &mut [u8], at: usize, dice: &mut SmallRng) {
    let width = 1 << dice.random_range(0..4);
    let number = EXTREMES[dice.random_range(0..EXTREMES.len())].wrapping_add(dice.random_range(0..3)).wrapping_sub(1);
    let little = number.to_le_bytes();
    let Some(slot) = bytes.get_mut(at..at + width) else { return };
    slot.copy_from_slice(&little[..width]);
    if dice.random() {
        slot.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_input() {
        let (input, other) = ([7; 100], [9; 100]);
        let made: Vec<_> = (0..100).map(|seed| mutated(&input, &other, seed)).collect();
        assert_eq!(made, (0..100).map(|seed| mutated(&input, &other, seed)).collect::<Vec<_>>());
        assert!(made.iter().filter(|made| made[..] != input).count() > 80);
        assert!(made.iter().any(|made| made.len() > input.len()) && made.iter().any(|made| made.len() < input.len()));
        let _ = mutated(&[], &[], 1);
    }
}
