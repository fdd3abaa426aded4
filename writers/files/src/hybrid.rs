//! Parquet's hybrid of run lengths and packed bits, in which pages keep indexes of a dictionary and definition levels.
//!
//! The source of the format is the Parquet specification, "Run Length Encoding / Bit-Packing Hybrid (RLE = 3)".

/// Bits that hold every number up to `largest`.
pub(crate) fn width(largest: u32) -> u8 {
    (32 - largest.leading_zeros()) as u8
}

/// Appends `values`, each of at most `width` bits.
pub(crate) fn encode(values: &[u32], width: u8, out: &mut Vec<u8>) {
    let mut rest = values;
    // Groups of eight that wait to be packed stand before `rest`.
    let mut waiting = rest;
    loop {
        let group = rest.get(..8).unwrap_or_default();
        let run = match group.first() {
            Some(first) if group.iter().all(|value| value == first) => {
                8 + rest[8..].iter().take_while(|value| *value == first).count()
            }
            Some(_) => 0,
            None => {
                pack(waiting, width, out);
                return;
            }
        };
        if run == 0 {
            rest = &rest[8..];
            continue;
        }
        pack(&waiting[..waiting.len() - rest.len()], width, out);
        varint((run as u64) << 1, out);
        out.extend_from_slice(&rest[0].to_le_bytes()[..usize::from(width.div_ceil(8))]);
        rest = &rest[run..];
        waiting = rest;
    }
}

/// Values of `width` bits each; the last group is filled up with zeros.
fn pack(values: &[u32], width: u8, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    varint((groups as u64) << 1 | 1, out);
    let end = out.len() + groups * usize::from(width);
    out.reserve(groups * usize::from(width) + 8);
    let (mut word, mut bits) = (0u64, 0u32);
    for value in values {
        // At most 31 bits wait, and a value has 32 at most.
        word |= u64::from(*value) << bits;
        bits += u32::from(width);
        if bits >= 32 {
            out.extend_from_slice(&(word as u32).to_le_bytes());
            word >>= 32;
            bits -= 32;
        }
    }
    out.extend_from_slice(&word.to_le_bytes());
    out.resize(end, 0);
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's decoder, as slow as it is plain.
    fn decode(mut bytes: &[u8], width: u8, count: usize) -> Vec<u32> {
        let mut values = Vec::new();
        while values.len() < count {
            let (mut header, mut shift) = (0u64, 0);
            loop {
                let byte = bytes[0];
                bytes = &bytes[1..];
                header |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            let n = (header >> 1) as usize;
            if header & 1 == 0 {
                let mut value = [0; 4];
                let length = usize::from(width.div_ceil(8));
                value[..length].copy_from_slice(&bytes[..length]);
                bytes = &bytes[length..];
                values.extend(std::iter::repeat_n(u32::from_le_bytes(value), n));
            } else {
                for i in 0..n * 8 {
                    let bit = |j: usize| u32::from(bytes[j / 8] >> (j % 8) & 1);
                    values.push((0..usize::from(width)).map(|b| bit(i * usize::from(width) + b) << b).sum());
                }
                bytes = &bytes[n * usize::from(width)..];
            }
        }
        assert!(bytes.is_empty());
        values.truncate(count);
        values
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let mut state = 1u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for round in 0..600 {
            let width = (round % 33) as u8;
            let most = if width == 0 { 1 } else { 1u64 << width };
            let mut values = Vec::new();
            for _ in 0..next(20) {
                let value = next(most) as u32;
                if next(2) == 0 {
                    values.extend(std::iter::repeat_n(value, next(40) as usize));
                } else {
                    values.extend((0..next(20)).map(|_| next(most) as u32));
                }
            }
            let mut out = Vec::new();
            encode(&values, width, &mut out);
            assert_eq!(decode(&out, width, values.len()), values, "{width}");
        }
        assert_eq!([width(0), width(1), width(2), width(255), width(256), width(u32::MAX)], [0, 1, 2, 8, 9, 32]);
    }
}
