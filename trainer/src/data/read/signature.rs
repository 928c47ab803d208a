//! What a file is that is no text, by its first bytes.

use std::borrow::Cow;

/// Bytes at the start of a file that show what it holds.
pub(super) const HEAD: usize = 64 << 10;

/// Why a file cannot be read as text, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotText {
    pub reason: Cow<'static, str>,
    pub hint: Cow<'static, str>,
}

const UNPACK: &str = "unpack it first";
const LEAVE_OUT: &str = "leave it out";

/// The first bytes of kinds of files, what each is, and what to do about it.
#[rustfmt::skip]
const SIGNATURES: [(&[u8], &str, &str); 32] = [
    (b"\xfd7zXZ\0", "it is packed with xz", "unpack it with unxz"),
    (b"\x04\x22\x4d\x18", "it is packed with lz4", "unpack it with unlz4"),
    (b"\x02\x21\x4c\x18", "it is packed with lz4", "unpack it with unlz4"),
    (b"\xff\x06\0\0sNaPpY", "it is packed with snappy", UNPACK),
    (b"\x1f\x9d", "it is packed with compress", "unpack it with uncompress"),
    (b"LZIP\x01", "it is packed with lzip", "unpack it with lzip -d"),
    (b"PK\x03\x04", "it is a zip archive, or an office document or e-book", "unpack it with unzip"),
    (b"PK\x05\x06", "it is an empty zip archive", LEAVE_OUT),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7z archive", "unpack it with 7z x"),
    (b"Rar!\x1a\x07", "it is a rar archive", "unpack it with unrar x"),
    (b"%PDF-", "it is a PDF", "extract its text with pdftotext"),
    (b"\x89PNG", "it is an image", LEAVE_OUT),
    (b"\xff\xd8\xff", "it is an image", LEAVE_OUT),
    (b"GIF8", "it is an image", LEAVE_OUT),
    (b"II*\0", "it is an image", LEAVE_OUT),
    (b"RIFF", "it is an image, sound or film", LEAVE_OUT),
    (b"OggS", "it is sound or film", LEAVE_OUT),
    (b"fLaC", "it is sound", LEAVE_OUT),
    (b"ID3", "it is sound", LEAVE_OUT),
    (b"\x7fELF", "it is a program", LEAVE_OUT),
    (b"\xca\xfe\xba\xbe", "it is a program", LEAVE_OUT),
    (b"\xcf\xfa\xed\xfe", "it is a program", LEAVE_OUT),
    (b"MZ", "it is a program", LEAVE_OUT),
    (b"\0asm", "it is a program", LEAVE_OUT),
    (b"SQLite format 3\0", "it is an SQLite database", "export its text as JSON lines"),
    (b"\x89HDF", "it is HDF5", "export its text as JSON lines"),
    (b"ARROW1", "it is an Arrow file", "write it as Parquet"),
    (b"\xff\xff\xff\xff", "it is an Arrow stream", "write it as Parquet"),
    (b"Obj\x01", "it is Avro", "write it as Parquet"),
    (b"ORC", "it is ORC", "write it as Parquet"),
    (b"\x93NUMPY", "it is a NumPy array", LEAVE_OUT),
    (b"GGUF", "it is a model", LEAVE_OUT),
];

/// What a file is that begins with `head`, if it is no text. Text is UTF-8 by now.
pub(super) fn not_text(head: &[u8]) -> Option<NotText> {
    let refused = |reason: &'static str, hint: &'static str| {
        Some(NotText {
            reason: reason.into(),
            hint: hint.into(),
        })
    };
    if head.starts_with(b"version https://git-lfs.github.com/spec/") {
        return refused(
            "it is a pointer of Git LFS, not the file itself",
            "fetch the file with git lfs pull",
        );
    }
    if head.starts_with(b"BZh") && head.get(4..10) == Some(b"1AY&SY") {
        return refused("it is packed with bzip2", "unpack it with bunzip2");
    }
    let nul = memchr::memchr(0, head);
    // A text may begin with the letters of a signature.
    if nul.is_some() || !is_utf8(head) {
        if head.get(257..262) == Some(b"ustar") {
            return refused("it is a tar archive", "unpack it with tar -xf");
        }
        let known = SIGNATURES
            .iter()
            .find(|(start, ..)| head.starts_with(start));
        if let Some((_, reason, hint)) = known {
            return refused(reason, hint);
        }
    }
    nul.map(|at| no_characters(head, at))
}

/// A file with NUL bytes: UTF-16 or UTF-32 without a byte order mark, or no text at all.
fn no_characters(head: &[u8], first: usize) -> NotText {
    let zeros = |place: usize| {
        head.iter()
            .skip(place)
            .step_by(4)
            .filter(|byte| **byte == 0)
            .count()
    };
    let each = (head.len() / 4).max(1);
    // Most characters of most texts are below U+0100.
    let mostly = [0, 1, 2, 3].map(|place| zeros(place) * 10 > each * 6);
    let encoding = match mostly {
        [false, true, false, true] => "UTF-16LE",
        [true, false, true, false] => "UTF-16BE",
        [false, true, true, true] => "UTF-32LE",
        [true, true, true, false] => "UTF-32BE",
        _ => {
            return NotText {
                reason: format!("it is not text: byte {first} is NUL").into(),
                hint: LEAVE_OUT.into(),
            };
        }
    };
    NotText {
        reason: format!("it looks like {encoding} without a byte order mark").into(),
        hint: format!("convert it with iconv -f {encoding} -t UTF-8").into(),
    }
}

/// Why a text in `head` cannot be read, if it is in an older encoding: more of it is not UTF-8 than
/// is beyond ASCII.
pub(super) fn other_encoding(head: &[u8]) -> Option<NotText> {
    let (mut valid, mut invalid) = (0, 0);
    for chunk in whole_characters(head).utf8_chunks() {
        valid += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        invalid += usize::from(!chunk.invalid().is_empty());
    }
    (invalid > valid).then(|| NotText {
        reason: "it is not UTF-8, but in an older encoding, perhaps Latin-1 or Windows-1252".into(),
        hint: "convert it with iconv -f WINDOWS-1252 -t UTF-8, or as `file -i` names its encoding"
            .into(),
    })
}

fn is_utf8(head: &[u8]) -> bool {
    std::str::from_utf8(whole_characters(head)).is_ok()
}

/// The text without a last character that may be cut off.
fn whole_characters(head: &[u8]) -> &[u8] {
    if head.len() < HEAD {
        return head;
    }
    let last = head
        .iter()
        .rev()
        .take(4)
        .position(|byte| byte & 0b1100_0000 != 0b1000_0000);
    &head[..head.len() - last.map_or(0, |behind| behind + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(head: &[u8]) -> String {
        not_text(head).map_or("text".into(), |not| format!("{}; {}", not.reason, not.hint))
    }

    #[test]
    fn what_is_no_text_is_told_by_name() {
        for (head, why) in [
            (&b"BZh91AY&SY\x12\x34"[..], "bunzip2"),
            (b"\xfd7zXZ\0\0\x04", "unxz"),
            (b"PK\x03\x04\x14\0\0\0", "zip archive"),
            (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image"),
            (b"\x7fELF\x02\x01\x01\0", "program"),
            (b"SQLite format 3\0\x10\0", "SQLite"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
                "git lfs pull",
            ),
            (b"some\0bytes", "byte 4 is NUL"),
            (b"a\0b\0c\0d\0e\0f\0", "UTF-16LE"),
            (b"\0a\0b\0c\0d\0e\0f", "UTF-16BE"),
            (b"a\0\0\0b\0\0\0c\0\0\0", "UTF-32LE"),
        ] {
            assert!(reason(head).contains(why), "{}", reason(head));
        }
        let mut tar = vec![0; 512];
        tar[..5].copy_from_slice(b"a.txt");
        tar[257..262].copy_from_slice(b"ustar");
        assert!(reason(&tar).contains("tar -xf"));
    }

    #[test]
    fn text_may_begin_like_another_file() {
        for text in [
            "ORCs live here",
            "MZ is two letters",
            "GGUF is a format",
            "PAR1",
            "ID3",
            "",
        ] {
            assert_eq!(reason(text.as_bytes()), "text");
        }
    }

    #[test]
    fn an_older_encoding_is_told_from_a_text_with_a_slip() {
        let latin = |text: &str| text.chars().map(|c| c as u8).collect::<Vec<u8>>();
        assert!(other_encoding(&latin("naïve café")).is_some());
        assert_eq!(other_encoding("naïve café".as_bytes()), None);
        assert_eq!(
            other_encoding(&[latin("é "), "déjà vu".into()].concat()),
            None
        );
        for extra in 0..4 {
            let long = [&b"x".repeat(extra), "世".repeat(HEAD).as_bytes()].concat();
            assert_eq!(other_encoding(&long[..HEAD]), None);
        }
    }
}
