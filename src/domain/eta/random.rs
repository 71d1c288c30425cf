//! Pseudo-random numbers that are the same on every replica: the generator `SplitMix64`, seeded from texts.
//!
//! Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. Not for secrets.

use std::f64::consts::TAU;

/// A source of pseudo-random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The source for these texts; other texts, or another order, give other numbers.
    #[must_use]
    pub(super) fn of(texts: &[&str]) -> Self {
        // A byte that no UTF-8 text has separates the texts.
        let bytes = texts.iter().flat_map(|text| text.bytes().chain([u8::MAX]));
        Self(fnv_1a(bytes))
    }

    /// The next 32 bits.
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        u32::try_from(mixed >> 32).unwrap_or_default()
    }

    /// A number between 0 and 1, and neither of them.
    pub(super) fn uniform(&mut self) -> f64 {
        (f64::from(self.bits()) + 0.5) / 4_294_967_296.0
    }

    /// As many numbers between 0 and 1, in random order, one in each of that many equal parts. Their mean is less random
    /// than that of independent numbers.
    pub(super) fn strata(&mut self, count: u32) -> Vec<f64> {
        let mut strata: Vec<f64> = (0..count)
            .map(|part| (f64::from(part) + self.uniform()) / f64::from(count))
            .collect();
        // Durstenfeld's shuffle.
        for last in (1..strata.len()).rev() {
            let bound = u32::try_from(last + 1).unwrap_or(u32::MAX);
            let other = usize::try_from(self.bits() % bound).unwrap_or_default();
            strata.swap(last, other);
        }
        strata
    }

    /// An exponentially distributed number with mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// A normally distributed number with mean 0 and variance 1: Box, Muller 1958.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }

    /// A number from the gamma distribution with this shape and scale 1: Marsaglia, Tsang, "A simple method for
    /// generating gamma variables", 2000.
    pub(super) fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let root = self.uniform().powf(1.0 / shape);
            return self.gamma(shape + 1.0) * root;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let normal = self.normal();
            let v = (1.0 + c * normal).powi(3);
            if v <= 0.0 {
                continue;
            }
            let uniform = self.uniform();
            // The first test is implied by the second, and cheaper.
            if uniform < 1.0 - 0.0331 * normal.powi(4)
                || uniform.ln() < 0.5 * normal * normal + d * (1.0 - v + v.ln())
            {
                return d * v;
            }
        }
    }
}

/// The 64-bit FNV-1a hash.
pub(super) fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut draw: impl FnMut() -> f64) -> f64 {
        (0..20_000).map(|_| draw()).sum::<f64>() / 20_000.0
    }

    #[test]
    fn the_same_texts_give_the_same_numbers_and_others_give_others() {
        let first = |texts: &[&str]| Random::of(texts).uniform().to_bits();
        assert_eq!(first(&["a", "b"]), first(&["a", "b"]));
        assert_ne!(first(&["a", "b"]), first(&["ab"]));
        assert_ne!(first(&["a", "b"]), first(&["b", "a"]));
    }

    #[test]
    fn strata_are_in_random_order_and_each_part_has_one() {
        let strata = Random::of(&["strata"]).strata(50);
        assert!(!strata.is_sorted());
        let mut sorted = strata;
        sorted.sort_by(f64::total_cmp);
        for (part, number) in (0_u32..).zip(sorted) {
            let part = f64::from(part) / 50.0;
            assert!((part..part + 0.02).contains(&number), "{part} {number}");
        }
    }

    #[test]
    fn distributions_have_their_means() {
        let mut random = Random::of(&["means"]);
        assert!((mean(|| random.uniform()) - 0.5).abs() < 0.01);
        assert!((mean(|| random.exponential()) - 1.0).abs() < 0.03);
        assert!(mean(|| random.normal()).abs() < 0.03);
        for shape in [0.05, 0.5, 1.0, 3.0, 40.0] {
            let gamma = mean(|| random.gamma(shape));
            assert!((gamma / shape - 1.0).abs() < 0.1, "{shape}: {gamma}");
        }
    }
}
