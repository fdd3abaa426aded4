//! Character encodings.

use encoding_rs::{Decoder, DecoderResult, Encoder, EncoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// Understands the name of an encoding as job files write it: `UTF-8`, `gbk`, `ISO8859_1`, `latin1` …
///
/// # Errors
/// A text that names it.
pub fn encoding(name: &str) -> Result<&'static Encoding, String> {
    Encoding::for_label(name.as_bytes()).or_else(|| Encoding::for_label(name.replace('_', "-").as_bytes())).ok_or_else(
        || format!("`{name}` is no known encoding: use UTF-8, GBK, GB18030, ISO-8859-1, UTF-16LE or the like"),
    )
}

/// Bytes of an encoding to UTF-8.
pub enum Decode {
    /// UTF-8 passes as it is, less a byte order mark.
    Utf8 {
        /// Whether the first bytes are still to come.
        start: bool,
    },
    /// Anything else.
    Other(Box<Decoder>),
}

impl Decode {
    /// A decoder from the start of a file; a byte order mark is not part of the text.
    pub fn new(encoding: &'static Encoding) -> Self {
        if encoding == UTF_8 { Self::Utf8 { start: true } } else { Self::Other(Box::new(encoding.new_decoder())) }
    }

    /// A decoder from the middle of a file, where nothing is a byte order mark.
    pub fn inside(encoding: &'static Encoding) -> Self {
        match encoding == UTF_8 {
            true => Self::Utf8 { start: false },
            false => Self::Other(Box::new(encoding.new_decoder_without_bom_handling())),
        }
    }

    /// Decodes a piece onto the end of `text`; `last` with the last one. A sequence that is no valid text becomes the
    /// byte 0xFF, which no valid UTF-8 holds.
    pub fn decode(&mut self, mut input: &[u8], last: bool, text: &mut Vec<u8>) {
        match self {
            Self::Utf8 { start } => {
                // The first piece is a whole block, or the whole of a short file: the mark does not straddle it.
                let first = *start && !input.is_empty();
                *start &= !first;
                text.extend_from_slice(input.strip_prefix(b"\xef\xbb\xbf").filter(|_| first).unwrap_or(input));
            }
            Self::Other(decoder) => loop {
                let from = text.len();
                let room = decoder.max_utf8_buffer_length_without_replacement(input.len()).unwrap_or(1 << 16);
                text.resize(from + room.max(16), 0);
                let (result, read, written) =
                    decoder.decode_to_utf8_without_replacement(input, &mut text[from..], last);
                text.truncate(from + written);
                input = &input[read..];
                match result {
                    DecoderResult::InputEmpty => break,
                    DecoderResult::OutputFull => {}
                    DecoderResult::Malformed(..) => text.push(0xff),
                }
            },
        }
    }
}

/// UTF-8 to bytes of an encoding.
pub enum Encode {
    /// As it is.
    Utf8,
    /// UTF-16, which browsers (and so the library) never write.
    Utf16 {
        /// Whether the high byte comes first.
        big: bool,
    },
    /// Anything else.
    Other(Box<Encoder>),
}

impl Encode {
    /// An encoder; no byte order mark is written.
    pub fn new(encoding: &'static Encoding) -> Self {
        match encoding {
            e if e == UTF_8 => Self::Utf8,
            e if e == UTF_16LE => Self::Utf16 { big: false },
            e if e == UTF_16BE => Self::Utf16 { big: true },
            e => Self::Other(Box::new(e.new_encoder())),
        }
    }

    /// Encodes a text onto the end of `output`.
    ///
    /// # Errors
    /// The first character that the encoding has no code for; `output` is as it was.
    pub fn encode(&mut self, text: &str, output: &mut Vec<u8>) -> Result<(), char> {
        match self {
            Self::Utf8 => output.extend_from_slice(text.as_bytes()),
            Self::Utf16 { big } => {
                let big = *big;
                output.extend(text.encode_utf16().flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() }));
            }
            Self::Other(encoder) => {
                let before = output.len();
                let mut rest = text;
                loop {
                    let from = output.len();
                    let room = encoder.max_buffer_length_from_utf8_without_replacement(rest.len()).unwrap_or(1 << 16);
                    output.resize(from + room.max(16), 0);
                    let (result, read, written) =
                        encoder.encode_from_utf8_without_replacement(rest, &mut output[from..], true);
                    output.truncate(from + written);
                    rest = &rest[read..];
                    match result {
                        EncoderResult::InputEmpty => break,
                        EncoderResult::OutputFull => {}
                        EncoderResult::Unmappable(c) => {
                            output.truncate(before);
                            **encoder = encoder.encoding().new_encoder();
                            return Err(c);
                        }
                    }
                }
                // `last` was said, after which an encoder may not be used again.
                **encoder = encoder.encoding().new_encoder();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(name: &str, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut decode = Decode::new(encoding(name).unwrap());
        let mut text = Vec::new();
        for part in bytes.chunks(piece) {
            decode.decode(part, false, &mut text);
        }
        decode.decode(&[], true, &mut text);
        text
    }

    #[test]
    fn text_survives_each_encoding() {
        let text = "id,名前\n1,日本語\n";
        for name in ["utf8", "GBK", "GB18030", "utf-16le", "UTF-16BE", "shift_jis"] {
            let mut bytes = Vec::new();
            Encode::new(encoding(name).unwrap()).encode(text, &mut bytes).unwrap();
            assert_eq!(decoded(name, &bytes, 3), text.as_bytes(), "{name}");
        }
        assert_eq!(decoded("utf-8", b"\xef\xbb\xbfa", 100), b"a");
        assert_eq!(decoded("utf-16", b"\xfe\xff\0a\0b", 100), b"ab");
        assert_eq!(decoded("iso8859_1", b"caf\xe9", 2), "café".as_bytes());
        assert!(std::str::from_utf8(&decoded("gbk", b"a\xff\nb", 100)).is_err());
        let mut out = Vec::new();
        assert_eq!(Encode::new(encoding("gbk").unwrap()).encode("a\u{1F600}", &mut out), Err('\u{1F600}'));
        assert!(out.is_empty());
        assert!(encoding("klingon").is_err());
    }
}
