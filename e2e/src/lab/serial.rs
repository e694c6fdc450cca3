//! What comes out of a guest's serial line: the output of jobs, and after each a mark with its exit status.

/// Begins a mark; the random text of this boot follows, so that no job's output is taken for one.
const SEPARATOR: u8 = 0x1e;
/// The longest number of an exit status with its line feed.
const STATUS: usize = 4;

/// A piece of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Output of the running job.
    Output(Vec<u8>),
    /// The job ended with this exit status.
    Ended(u8),
}

/// Splits the line into pieces, however the bytes arrive.
pub(super) struct Line {
    mark: Vec<u8>,
    held: Vec<u8>,
}

impl Line {
    /// `mark` is the random text that the guest was given.
    pub(super) fn new(mark: &str) -> Self {
        let mut bytes = vec![SEPARATOR];
        bytes.extend_from_slice(mark.as_bytes());
        bytes.push(b' ');
        Self { mark: bytes, held: Vec::new() }
    }

    /// Takes what was read; returns what is complete. The start of what may become a mark is held back.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.held.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        loop {
            let Some(at) = self.held.iter().position(|&byte| byte == SEPARATOR) else {
                output(&mut pieces, self.held.split_off(0));
                return pieces;
            };
            let rest = self.held.split_off(at);
            output(&mut pieces, std::mem::replace(&mut self.held, rest));
            match self.status() {
                Reading::Whole(status, length) => {
                    pieces.push(Piece::Ended(status));
                    self.held.drain(..length);
                }
                Reading::Partial => return pieces,
                Reading::NoMark => output(&mut pieces, self.held.drain(..1).collect()),
            }
        }
    }

    /// Reads the held bytes, which begin with a separator.
    fn status(&self) -> Reading {
        let Some(number) = self.held.strip_prefix(self.mark.as_slice()) else {
            let partial = self.held.len() < self.mark.len() && self.mark.starts_with(&self.held);
            return if partial { Reading::Partial } else { Reading::NoMark };
        };
        match number.iter().take(STATUS).position(|&byte| byte == b'\n') {
            Some(end) => std::str::from_utf8(&number[..end])
                .ok()
                .and_then(|text| text.parse().ok())
                .map_or(Reading::NoMark, |status| Reading::Whole(status, self.mark.len() + end + 1)),
            None if number.len() < STATUS => Reading::Partial,
            None => Reading::NoMark,
        }
    }
}

enum Reading {
    Whole(u8, usize),
    Partial,
    NoMark,
}

fn output(pieces: &mut Vec<Piece>, bytes: Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    match pieces.last_mut() {
        Some(Piece::Output(last)) => last.extend(bytes),
        _ => pieces.push(Piece::Output(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(stream: &[u8], size: usize) -> Vec<Piece> {
        let mut line = Line::new("abc");
        let mut all: Vec<Piece> = Vec::new();
        for chunk in stream.chunks(size) {
            for piece in line.feed(chunk) {
                match piece {
                    Piece::Output(bytes) => output(&mut all, bytes),
                    ended @ Piece::Ended(_) => all.push(ended),
                }
            }
        }
        all
    }

    #[test]
    fn marks_are_found_however_the_bytes_arrive() {
        let stream = b"one\n\x1eabc 0\ntwo\x1eabc 137\n";
        let pieces = [
            Piece::Output(b"one\n".into()),
            Piece::Ended(0),
            Piece::Output(b"two".into()),
            Piece::Ended(137),
        ];
        for size in 1..=stream.len() {
            assert_eq!(split(stream, size), pieces, "in chunks of {size}");
        }
    }

    #[test]
    fn output_that_looks_like_a_mark_is_output() {
        for bad in ["\x1exyz 0\n", "\x1eabc 999\n", "\x1eabc x\n", "\x1e\x1eab\n", "\x1eabc 00000\n"] {
            for size in 1..=bad.len() {
                assert_eq!(split(bad.as_bytes(), size), [Piece::Output(bad.into())], "{bad:?}");
            }
        }
    }
}
