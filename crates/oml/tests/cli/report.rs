//! Reports on what the commands really print, and how they look to a browser.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::claim::{MAKE, audited};
use super::tiny::CHECK;
use super::{Place, help};

#[test]
fn report() {
    insta::assert_snapshot!(help("report"), @"
    Write a report on an audit, a check, a claim or an embedding: a page that opens anywhere, Markdown or JSON

    Usage: oml report [OPTIONS] --out <FILE> <FILE|DIR>

    Arguments:
      <FILE|DIR>  What `oml audit` or `oml check` printed with --json, a bundle made by `oml claim make`, or the folder that `oml embed` wrote

    Options:
          --out <FILE>     File to write; never replaces one. On a claim, whose pairs it shows, readable by you alone
          --format <NAME>  How it is written: html, markdown or json [default: by the ending of --out: .md, .json, html for any other]
      -h, --help           Print help
      -V, --version        Print version

    Global options:
          --json           Print the result as one JSON object
      -q, --quiet          Print no notes and no progress
          --threads <N>    CPU threads [default: all cores]
          --isa <NAME>     CPU instructions to use: amx, avx512, avx2 or portable [default: the best this machine has]
          --config <FILE>  Settings file [default: oml.toml in the current folder, where there is one]
          --show-settings  Print every setting and where it comes from, and do nothing
    ");
}

#[test]
fn what_commands_print_and_write_becomes_reports() {
    let place = audited();
    for (line, file) in [
        (format!("{CHECK} --model marked"), "check.json"),
        (
            "audit --suspect base --owner owner.json --fingerprints f.json --out absent.jsonl --json --threads 2"
                .to_owned(),
            "audit.json",
        ),
    ] {
        let output = place.command(&line).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{line}: {said}");
        fs::write(place.path(file), output.stdout).unwrap();
    }
    place.ok(&format!("{MAKE} --out a.omlclaim"));
    for (input, kind) in [
        ("check.json", "check"),
        ("audit.json", "audit"),
        ("marked", "embedding"),
        ("a.omlclaim", "claim"),
    ] {
        let said = place.ok(&format!("report {input} --out {kind}.html --json"));
        assert_eq!(said["kind"], kind);
        place.ok(&format!("report {input} --out {kind}.md"));
        place.ok(&format!("report {input} --out {kind}.txt --format json"));
        let text = fs::read_to_string(place.path(&format!("{kind}.md"))).unwrap();
        assert!(
            text.starts_with("# ") && text.contains("## How to verify this"),
            "{text}"
        );
        let json = fs::read(place.path(&format!("{kind}.txt"))).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["verdict"]["sentence"], said["sentence"]);
        browse(&place.path(&format!("{kind}.html")));
    }
    assert_eq!(
        place.run("report check.json --out check.html"),
        "exit: 2\n--- stdout\n--- stderr\nerror: check.html already exists\n\
         hint: Nothing is overwritten: name another path, or move the old one away.\n"
    );
}

#[test]
fn a_claim_shows_what_it_opens_and_whether_it_holds() {
    let place = audited();
    place.ok(&format!("{MAKE} --out a.omlclaim"));
    let said = place.ok("report a.omlclaim --out a.json --json");
    assert_eq!(
        said["verdict"],
        "Present; claim holds as far as it was checked"
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(place.path("a.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let report = fs::read(place.path("a.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let query = report["fingerprints"][0]["query"].as_str().unwrap();
    let outcome = |name: &str| {
        let checks = report["checks"].as_array().unwrap().iter();
        checks
            .filter(|check| check["name"] == name)
            .map(|check| check["outcome"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(outcome("openings"), ["holds"]);
    assert_eq!(outcome("owner"), ["unchecked"]);
    place.ok("report a.omlclaim --out a.md");
    let text = fs::read_to_string(place.path("a.md")).unwrap();
    assert!(text.contains(&format!("`{query}`")), "{query}: {text}");

    // One letter of an opened query.
    let mut bytes = fs::read(place.path("a.omlclaim")).unwrap();
    let letter = query.trim_start().as_bytes();
    let at = bytes
        .windows(letter.len())
        .position(|window| window == letter)
        .unwrap();
    bytes[at] ^= 1;
    fs::write(place.path("b.omlclaim"), bytes).unwrap();
    let said = place.ok("report b.omlclaim --out b.html --json");
    assert_eq!(said["verdict"], "Claim does not hold");
    let sentence = said["sentence"].as_str().unwrap();
    assert!(sentence.contains("these fail: contents, "), "{sentence}");
    let page = fs::read_to_string(place.path("b.html")).unwrap();
    assert!(!page.contains("Headline numbers") && page.contains("Claim does not hold"));
    browse(&place.path("b.html"));
}

#[test]
fn files_that_are_no_results() {
    let place = Place::new();
    fs::write(place.path("other.json"), "{\"a\":1}").unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    insta::assert_snapshot!(place.run("report other.json --out r.html"), @"
    exit: 2
    --- stdout
    --- stderr
    error: cannot read other.json
      caused by: expected the output of `oml audit` or `oml check`, or a model’s manifest, got other JSON
    hint: Name what `oml audit` or `oml check` printed with --json, a bundle made by `oml claim make`, or the folder that `oml embed` wrote.
    ");
    insta::assert_snapshot!(place.run("report folder --out r.html"), @"
    exit: 2
    --- stdout
    --- stderr
    error: folder: expected oml-manifest.json in it, got none
    hint: Name what `oml audit` or `oml check` printed with --json, a bundle made by `oml claim make`, or the folder that `oml embed` wrote.
    ");
    assert!(!place.path("r.html").exists());
}

/// What a browser has to say about a page that is 360 pixels wide: its log, and the measure that [`PROBE`] takes.
struct Seen {
    log: Vec<String>,
    measure: String,
}

/// Looks into the page that the frame holds, from outside: the page itself runs no script.
const PROBE: &str = "<script>frame.onload = () => {\
    const page = frame.contentDocument;\
    page.querySelectorAll('details').forEach(details => { details.open = true; });\
    const requests = frame.contentWindow.performance.getEntriesByType('resource').length;\
    const count = name => page.querySelectorAll(name).length;\
    document.title = `width ${page.documentElement.scrollWidth} requests ${requests} headings ${count('h1')}`;\
  };</script>";

/// Loads a page in Chromium; nothing where there is none.
fn look(page: &str, folder: &Path) -> Option<Seen> {
    let quoted = page.replace('&', "&amp;").replace('"', "&quot;");
    let around = format!(
        "<!doctype html><meta charset=\"utf-8\"><body style=\"margin:0\"><iframe id=\"frame\" width=\"360\" height=\"800\" style=\"border:0\" srcdoc=\"{quoted}\"></iframe>{PROBE}"
    );
    let file = folder.join("around.html");
    fs::write(&file, around).unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-sync",
            "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            "--virtual-time-budget=10000",
            "--dump-dom",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("profile").display()
        ))
        .arg(format!("file://{}", file.display()))
        .env("HOME", folder)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: cannot start chromium: {error}");
            return None;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let measure = dom
        .split_once("<title>width")
        .and_then(|(_, rest)| rest.split_once("</title>"))
        .map(|(measure, _)| format!("width{measure}"));
    let console = said.lines().filter(|line| line.contains("CONSOLE"));
    Some(Seen {
        log: console.map(str::to_owned).collect(),
        measure: measure.unwrap_or_else(|| panic!("the browser showed nothing: {said}\n{dom}")),
    })
}

/// A report says nothing on the console, asks for nothing, and fits into 360 pixels.
fn browse(path: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let page = fs::read_to_string(path).unwrap();
    let Some(seen) = look(&page, folder.path()) else {
        return;
    };
    assert!(seen.log.is_empty(), "{}: {:?}", path.display(), seen.log);
    assert_eq!(
        seen.measure,
        "width 360 requests 0 headings 1",
        "{}",
        path.display()
    );
}

#[test]
fn a_browser_notices_pages_that_do_not_stand_alone() {
    let folder = tempfile::tempdir().unwrap();
    let page = "<!doctype html><h1>a</h1><div style=\"width:900px\">wide</div><img src=\"http://outside.example/a.png\"><script>console.error('b')</script>";
    let Some(seen) = look(page, folder.path()) else {
        return;
    };
    assert!(seen.measure.starts_with("width 9"), "{}", seen.measure);
    assert!(seen.measure.contains("requests 1"), "{}", seen.measure);
    let log = seen.log.join("\n");
    assert!(log.contains("\"b\""), "{log}");
    // The policy of reports keeps a page from asking at all, and says so.
    let policy = format!(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">{page}"
    );
    let Some(seen) = look(&policy, folder.path()) else {
        return;
    };
    assert!(
        seen.log
            .iter()
            .any(|line| line.contains("Content Security Policy")),
        "{:?}",
        seen.log
    );
    assert!(
        !seen.log.iter().any(|line| line.contains("\"b\"")),
        "{:?}",
        seen.log
    );
}
