//! Turns an index into an id that looks like Stripe's, and such an id back into its index.
//!
//! The last seven characters are the index, scrambled; so no id is stored and none is searched. A reader re-encodes
//! what it decoded and compares the whole text: a wrong id that happens to end well is rejected by that.

use super::chance::{Scramble, mix, topic};

pub(super) const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The tail holds an index below this.
const TAIL_BITS: u32 = 40;
const TAIL_CHARS: usize = 7;

/// A short text on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    bytes: [u8; 36],
    len: usize,
}

/// What an id names. Each kind has its own scramble, so that equal indexes do not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    ApplicationFee,
    BalanceTransaction,
    Card,
    Charge,
    ConnectedAccount,
    Customer,
    Discount,
    Dispute,
    Invoice,
    Mandate,
    Meter,
    PaymentIntent,
    PaymentMethod,
    Payout,
    Price,
    Product,
    Refund,
    Review,
    Schedule,
    Subscription,
    SubscriptionItem,
    Transfer,
}

/// The ids of one account.
#[derive(Debug, Clone)]
pub(super) struct Ids {
    seed: u64,
    /// Ten characters that all timed ids of an account share.
    middle: [u8; 10],
}

impl Ids {
    pub fn new(seed: u64) -> Self {
        let mut middle = [0; 10];
        digits(mix(seed, topic("account middle")) >> 5, &mut middle);
        Self { seed, middle }
    }

    /// `acct_1` and fifteen characters.
    pub fn account(&self, created: i64) -> Id {
        let mut id = Id::starting("acct_1");
        id.push_number(created.rem_euclid(916_132_832) as u64, 5);
        id.push(&self.middle);
        id
    }

    /// An id with the time, the account and the index in it: `ch_3` + 5 + 10 + 8 characters.
    pub fn timed(&self, prefix: &str, kind: Kind, index: u64, created: i64) -> Id {
        let mut id = Id::starting(prefix);
        // 62^5 seconds are 29 years.
        id.push_number(created.rem_euclid(916_132_832) as u64, 5);
        id.push(&self.middle);
        id.push(if mix(self.seed, created as u64) & 1 == 0 { b"0" } else { b"1" });
        id.push_number(self.scramble(kind).forward(index), TAIL_CHARS);
        id
    }

    /// An id with the index alone in it: a prefix and 14 characters.
    pub fn plain(&self, prefix: &str, kind: Kind, index: u64) -> Id {
        let scramble = self.scramble(kind);
        let mut id = Id::starting(prefix);
        id.push_number(mix(scramble.key, index) % 62_u64.pow(7), 7);
        id.push_number(scramble.forward(index), TAIL_CHARS);
        id
    }

    /// The only index that `text` can belong to. The caller compares the re-encoded id.
    pub fn index_of(&self, kind: Kind, text: &str) -> Option<u64> {
        let tail = text.as_bytes().get(text.len().checked_sub(TAIL_CHARS)?..)?;
        let mut value = 0;
        for byte in tail {
            let digit = BASE62.iter().position(|symbol| symbol == byte)?;
            value = value * 62 + digit as u64;
        }
        (value < 1 << TAIL_BITS).then(|| self.scramble(kind).backward(value))
    }

    fn scramble(&self, kind: Kind) -> Scramble {
        Scramble { key: mix(self.seed, topic("id") + kind as u64), half_bits: TAIL_BITS / 2 }
    }
}

impl Id {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).expect("only ASCII is pushed")
    }

    fn starting(prefix: &str) -> Self {
        let mut id = Self { bytes: [0; 36], len: 0 };
        id.push(prefix.as_bytes());
        id
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_number(&mut self, value: u64, width: usize) {
        digits(value, &mut self.bytes[self.len..self.len + width]);
        self.len += width;
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

fn digits(mut value: u64, into: &mut [u8]) {
    for place in into.iter_mut().rev() {
        *place = BASE62[(value % 62) as usize];
        value /= 62;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_from_its_id() {
        let ids = Ids::new(9);
        for index in [0, 1, 2, 61, 62, 1_000_000, (1 << TAIL_BITS) - 1] {
            let timed = ids.timed("ch_3", Kind::Charge, index, 1_780_000_000);
            assert_eq!(timed.as_str().len(), "ch_3MmlLrLkdIwHu7ix0snN0B15".len());
            assert_eq!(ids.index_of(Kind::Charge, timed.as_str()), Some(index));
            let plain = ids.plain("cus_", Kind::Customer, index);
            assert_eq!(plain.as_str().len(), "cus_NffrFeUfNV2Hib".len());
            assert_eq!(ids.index_of(Kind::Customer, plain.as_str()), Some(index));
        }
    }

    #[test]
    fn a_text_that_is_no_id_has_no_index() {
        let ids = Ids::new(9);
        for text in ["", "ch_", "ch_x", "ch_3-------", "ch_3äöüäöü", "zzzzzzz"] {
            assert_eq!(ids.index_of(Kind::Charge, text), None, "{text}");
        }
    }

    #[test]
    fn the_account_id_has_sixteen_characters_after_its_prefix() {
        assert_eq!(Ids::new(9).account(1_700_000_000).as_str().len(), "acct_1M2JTkLkdIwHu7ix".len());
    }
}
