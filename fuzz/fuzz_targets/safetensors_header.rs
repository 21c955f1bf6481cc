//! A safetensors header of any bytes is read, or refused with an error; what is read lies within the file.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use oml_model::checkpoint::safetensors::read_header;

fuzz_target!(|bytes: &[u8]| {
    let length = bytes.len() as u64;
    if let Ok(tensors) = read_header(bytes, length, Path::new("fuzz.safetensors")) {
        for tensor in tensors {
            assert!(tensor.offset + tensor.length <= length);
        }
    }
});
