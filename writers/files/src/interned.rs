//! Values of a column, each kept once and known by its number from then on.
//!
//! The hash tables are made for what dictionaries hold: few values, looked up a million times. A number is its own key, a
//! text of up to 16 bytes is two words, so that hardly anything is compared byte by byte.

/// No entry.
const NONE: u32 = u32::MAX;
/// 2^64 over the golden ratio: spreads keys that are close together.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Whole numbers.
#[derive(Default)]
pub(crate) struct Numbers {
    /// The numbers in the order of their indexes.
    pub(crate) values: Vec<i64>,
    /// Indexes, each at its number's place or after it.
    slots: Vec<u32>,
}

/// Texts or bytes.
#[derive(Default)]
pub(crate) struct Texts {
    /// All texts, end to end, in the order of their indexes.
    pub(crate) data: Vec<u8>,
    /// What is known of each without looking at it.
    texts: Vec<Known>,
    slots: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Known {
    words: (u64, u64),
    length: u32,
    /// Where it ends: a row group holds far less than 4 GB.
    end: u32,
}

impl Known {
    fn place(&self, slots: usize) -> usize {
        place(self.words.0 ^ self.words.1.rotate_left(32) ^ u64::from(self.length), slots)
    }
}

fn place(hash: u64, slots: usize) -> usize {
    // The number of slots is a power of two; the upper bits of a product are the good ones.
    (hash.wrapping_mul(SPREAD) >> 32) as usize & (slots - 1)
}

/// Twice as many slots as before, with all indexes in them.
#[cold]
fn grown<T>(slots: &[u32], values: &[T], place: impl Fn(&T, usize) -> usize) -> Vec<u32> {
    let size = (slots.len() * 2).max(256);
    let mut slots = vec![NONE; size];
    for (index, value) in values.iter().enumerate() {
        let mut at = place(value, size);
        while slots[at] != NONE {
            at = (at + 1) & (size - 1);
        }
        slots[at] = index as u32;
    }
    slots
}

impl Numbers {
    /// The number's index.
    #[inline]
    pub(crate) fn index(&mut self, value: i64) -> u32 {
        if self.values.len() * 2 >= self.slots.len() {
            self.slots = grown(&self.slots, &self.values, |value, size| place(*value as u64, size));
        }
        let mut at = place(value as u64, self.slots.len());
        loop {
            match self.slots[at] {
                NONE => break,
                index if self.values[index as usize] == value => return index,
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
        let index = self.values.len() as u32;
        self.values.push(value);
        self.slots[at] = index;
        index
    }

    /// Bytes in memory.
    pub(crate) fn size(&self) -> usize {
        self.values.capacity() * 8 + self.slots.capacity() * 4
    }
}

impl Texts {
    /// The text's index.
    #[inline]
    pub(crate) fn index(&mut self, text: &[u8]) -> u32 {
        if self.texts.len() * 2 >= self.slots.len() {
            self.slots = grown(&self.slots, &self.texts, Known::place);
        }
        let mut known = Known { words: words(text), length: text.len() as u32, end: 0 };
        let mut at = known.place(self.slots.len());
        loop {
            let index = self.slots[at];
            if index == NONE {
                break;
            }
            let there = &self.texts[index as usize];
            // The words of short texts are the texts.
            if there.words == known.words
                && there.length == known.length
                && (known.length <= 16 || self.get(index) == text)
            {
                return index;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        let index = self.texts.len() as u32;
        self.data.extend_from_slice(text);
        known.end = self.data.len() as u32;
        self.texts.push(known);
        self.slots[at] = index;
        index
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// A text by its index.
    pub(crate) fn get(&self, index: u32) -> &[u8] {
        let known = &self.texts[index as usize];
        &self.data[(known.end - known.length) as usize..known.end as usize]
    }

    /// Bytes in memory.
    pub(crate) fn size(&self) -> usize {
        self.data.capacity() + self.texts.capacity() * size_of::<Known>() + self.slots.capacity() * 4
    }
}

/// Two words that stand for a text: all of it up to 16 bytes, beyond that a hash and its last bytes.
#[inline]
fn words(text: &[u8]) -> (u64, u64) {
    let word = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| text[at + i]));
    let half = |at: usize| u64::from(u32::from_le_bytes([0, 1, 2, 3].map(|i| text[at + i])));
    match text.len() {
        0 => (0, 0),
        1..=3 => {
            let n = text.len();
            (u64::from(text[0]) | u64::from(text[n / 2]) << 8 | u64::from(text[n - 1]) << 16, 0)
        }
        n @ 4..=7 => (half(0) | half(n - 4) << 32, 0),
        n @ 8..=16 => (word(0), word(n - 8)),
        n => {
            let mut hash = 0u64;
            for at in (0..n - 8).step_by(8) {
                hash = (hash ^ word(at)).wrapping_mul(SPREAD).rotate_left(29);
            }
            (hash, word(n - 8))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_one_index_and_others_have_others() {
        let (mut numbers, mut texts) = (Numbers::default(), Texts::default());
        let mut seen = std::collections::HashMap::new();
        let mut spelled = std::collections::HashMap::new();
        for i in 0..40_000i64 {
            let number = [i % 5000, -i * 100 % 7000, i << 40, i64::MIN + i % 3][i as usize % 4];
            let next = seen.len() as u32;
            assert_eq!(numbers.index(number), *seen.entry(number).or_insert(next));
            // All lengths, and texts that differ in one byte only.
            let mut text = vec![b'a'; i as usize % 40];
            if let Some(byte) = text.len().checked_sub(1).and_then(|last| text.get_mut((i / 40) as usize % (last + 1)))
            {
                *byte = (i / 400) as u8;
            }
            let next = spelled.len() as u32;
            assert_eq!(texts.index(&text), *spelled.entry(text).or_insert(next));
        }
        assert_eq!((numbers.values.len(), texts.len()), (seen.len(), spelled.len()));
        for (text, index) in spelled {
            assert_eq!(texts.get(index), text);
        }
    }
}
