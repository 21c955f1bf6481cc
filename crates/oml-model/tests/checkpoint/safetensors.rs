//! Safetensors headers that lie.

use std::path::Path;

use oml_model::checkpoint::safetensors::read_header;

use crate::support::safetensors_file;

/// The error of a file's header.
fn fault(file: &[u8]) -> String {
    read_header(file, file.len() as u64, Path::new("x.safetensors"))
        .unwrap_err()
        .to_string()
}

fn entry(dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

#[test]
fn a_good_header_is_read() {
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},"b":{},"a":{},"none":{}}}   "#,
        entry("F32", "[2,1]", 4, 12),
        entry("BF16", "[2]", 0, 4),
        entry("F16", "[0]", 4, 4),
    );
    let file = safetensors_file(&header, &[0; 12]);
    let tensors = read_header(&file[..], file.len() as u64, Path::new("x")).unwrap();
    let start = 8 + header.len() as u64;
    let places: Vec<_> = tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.offset - start, tensor.length))
        .collect();
    assert_eq!(places, [("a", 0, 4), ("none", 4, 0), ("b", 4, 8)]);
    assert_eq!(tensors[2].shape, [2, 1]);
}

#[test]
fn every_lie_has_its_message() {
    let one = |entry: String| safetensors_file(&format!(r#"{{"w":{entry}}}"#), &[0; 16]);
    let two = |a: String, b: String| safetensors_file(&format!(r#"{{"a":{a},"b":{b}}}"#), &[0; 16]);
    let whole = || entry("F32", "[4]", 0, 16);
    let announced = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "header length: expected 8 more bytes, got 0"),
        (vec![1, 2, 3], "header length: expected 8 more bytes, got 3"),
        (announced(3), "header length: expected at most 2, got 3"),
        (
            announced(u64::MAX),
            "header length: expected at most 2, got 18446744073709551615",
        ),
        (announced(0), r#"magic: expected "{", got """#),
        (
            safetensors_file("[]", &[]),
            r#"magic: expected "{", got "[]""#,
        ),
        (
            safetensors_file("{\"w\"", &[]),
            "EOF while parsing an object at line 1 column 4",
        ),
        (
            safetensors_file(r#"{"w":{"dtype":"F32","shape":[1]}}"#, &[]),
            "missing field `data_offsets` at line 1 column 32",
        ),
        (
            one(r#"{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}"#.into()),
            "invalid value: integer `-4`, expected u64 at line 1 column 31",
        ),
        (
            one(entry("F64", "[2]", 0, 16)),
            "w: dtype: expected one of F32, F16, BF16, got F64",
        ),
        (
            one(entry("F32", "[4]", 16, 0)),
            "w: offset: expected an end of at least 16, got 0",
        ),
        (
            one(entry("F32", "[5]", 0, 16)),
            "w: length: expected 20 bytes by shape and dtype, got 16",
        ),
        (
            one(entry("F32", "[8]", 0, 32)),
            "w: end: expected at most 16, got 32",
        ),
        (
            one(entry("F32", "[4294967296,4294967296]", 0, 16)),
            "w: shape: expected a product within 64 bits, got [4294967296, 4294967296]",
        ),
        (
            one(entry("F32", "[4611686018427387904]", 0, 16)),
            "w: shape: expected a product within 64 bits, got [4611686018427387904]",
        ),
        (
            one(entry("F32", "[1,1,1,1,1,1,1,1,4]", 0, 16)),
            "w: dimensions: expected at most 8, got 9",
        ),
        (
            two(entry("F32", "[3]", 0, 12), entry("F32", "[2]", 8, 16)),
            "b: overlaps a",
        ),
        (two(whole(), whole()), "b: overlaps a"),
        (
            two(entry("F32", "[1]", 0, 4), entry("F32", "[2]", 8, 16)),
            "4 bytes before b belong to no tensor",
        ),
        (
            one(entry("F32", "[2]", 0, 8)),
            "8 bytes before the end belong to no tensor",
        ),
        (
            safetensors_file(&format!(r#"{{"w":{0},"w":{0}}}"#, whole()), &[0; 16]),
            "w: named twice",
        ),
    ];
    for (file, message) in cases {
        assert_eq!(fault(&file), format!("x.safetensors: {message}"));
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let file = safetensors_file(
        &format!(r#"{{"w":{}}}"#, entry("F32", "[4]", 0, 16)),
        &[0; 16],
    );
    for length in 0..file.len() {
        fault(&file[..length]);
    }
}
