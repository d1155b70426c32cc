//! Turns a seed and an index into chance that is the same every time.

/// A name for one use of chance, so that two uses with the same index differ.
pub(super) const fn topic(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

/// Spreads `value` over all 64 bits; the finalizer of SplitMix64.
pub(super) fn mix(key: u64, value: u64) -> u64 {
    let mut z = (key ^ value.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// One object's private run of random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Chance {
    state: u64,
}

impl Chance {
    pub fn of(seed: u64, topic: u64, index: u64) -> Self {
        Self { state: mix(mix(seed, topic), index) }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(0, self.state)
    }

    /// A number in `0..bound`, 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True `share` times in a thousand.
    pub fn permille(&mut self, share: u64) -> bool {
        self.below(1000) < share
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// The index of one of `weights`, drawn in proportion to them.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if left < *weight {
                return index;
            }
            left -= weight;
        }
        0
    }

    /// `len` random letters and digits.
    pub fn letters(&mut self, len: usize) -> String {
        self.symbols(len, super::id::BASE62)
    }

    /// `len` random decimal digits.
    pub fn digits(&mut self, len: usize) -> String {
        self.symbols(len, b"0123456789")
    }

    /// `len` random lower-case hexadecimal digits.
    pub fn hex(&mut self, len: usize) -> String {
        self.symbols(len, b"0123456789abcdef")
    }

    fn symbols(&mut self, len: usize, alphabet: &[u8]) -> String {
        let base = alphabet.len() as u64;
        let mut text = String::with_capacity(len);
        let mut bits = 0;
        for at in 0..len {
            // Ten base-62 digits fit into one draw.
            if at % 10 == 0 {
                bits = self.next();
            }
            text.push(alphabet[(bits % base) as usize] as char);
            bits /= base;
        }
        text
    }
}

/// A keyed permutation of `0..2^bits` with an inverse (a four-round Feistel network).
#[derive(Debug, Clone, Copy)]
pub(super) struct Scramble {
    pub key: u64,
    pub half_bits: u32,
}

impl Scramble {
    /// The smallest permutation that covers `0..n`.
    pub fn covering(key: u64, n: u64) -> Self {
        let bits = 64 - n.saturating_sub(1).leading_zeros();
        Self { key, half_bits: bits.div_ceil(2).max(1) }
    }

    pub fn forward(self, value: u64) -> u64 {
        let (mut left, mut right) = self.halves(value);
        for round in 0..4 {
            (left, right) = (right, left ^ self.round(round, right));
        }
        left << self.half_bits | right
    }

    pub fn backward(self, value: u64) -> u64 {
        let (mut left, mut right) = self.halves(value);
        for round in (0..4).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        left << self.half_bits | right
    }

    /// A permutation of `0..n`: walk the cycle until it is back inside.
    pub fn forward_within(self, n: u64, value: u64) -> u64 {
        let mut at = self.forward(value);
        while at >= n {
            at = self.forward(at);
        }
        at
    }

    pub fn backward_within(self, n: u64, value: u64) -> u64 {
        let mut at = self.backward(value);
        while at >= n {
            at = self.backward(at);
        }
        at
    }

    fn halves(self, value: u64) -> (u64, u64) {
        (value >> self.half_bits, value & self.mask())
    }

    fn round(self, round: u64, half: u64) -> u64 {
        mix(self.key.wrapping_add(round), half) & self.mask()
    }

    fn mask(self) -> u64 {
        (1 << self.half_bits) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scramble_is_a_permutation_with_an_inverse() {
        for n in [1, 2, 3, 7, 64, 65, 1000] {
            let scramble = Scramble::covering(42, n);
            let mut seen = vec![false; n as usize];
            for value in 0..n {
                let there = scramble.forward_within(n, value);
                assert!(!std::mem::replace(&mut seen[there as usize], true), "{n}: {there} twice");
                assert_eq!(scramble.backward_within(n, there), value);
            }
        }
    }

    #[test]
    fn chance_stays_inside_its_bounds_and_reaches_them() {
        let mut chance = Chance::of(1, topic("test"), 0);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            seen[chance.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|n| *n > 150), "{seen:?}");
        assert_eq!(chance.weighted(&[0, 0, 3]), 2);
        assert_eq!(chance.below(0), 0);
    }
}
