//! A git commit that holds the line of a root: the commit, the trees and the file, as git itself prints them.
//!
//! ```sh
//! git rev-parse HEAD HEAD^{tree} HEAD:proofs HEAD:proofs/root.txt | git cat-file --batch > root.git
//! ```
//!
//! ```text
//! proof   object of the commit, of its root tree, of each folder on the way, of the file; in this order, nothing else
//! object  id in hexadecimal ‖ ' ' ‖ kind ‖ ' ' ‖ size in decimal ‖ LF ‖ size bytes ‖ LF
//! id      SHA-1 (40 digits) or SHA-256 (64 digits) of: kind ‖ ' ' ‖ size ‖ NUL ‖ the bytes; all of one proof alike
//! ```
//!
//! Every id is computed again, the commit names the first tree, and each tree the next object. SHA-1 is computed with detection of
//! the known collision attacks, and an object that shows one is refused. A commit's time is what its author's machine said:
//! it proves nothing unless the commit's id became known to others at that time, so the id is what a judge compares.
//!
//! Source: git's documentation, gitformat-signature and git-cat-file; "Git Internals - Git Objects".

use std::fmt;

use data_encoding::HEXLOWER;
use sha1_checked::{CollisionResult, Sha1};
use sha2::{Digest as _, Sha256};

use crate::manifest::hex;

/// Most bytes of a proof.
pub const MAX_BYTES: usize = 16 << 20;
/// Most folders between the commit and the file, the root among them.
const MAX_TREES: usize = 32;
/// Most bytes of the file that holds the line.
const MAX_FILE: usize = 1 << 20;
/// Most digits of an object's size.
const MAX_DIGITS: usize = 8;

/// A commit whose objects lead to a file with the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its id, in hexadecimal.
    pub id: String,
    /// When its committer says it was made, in seconds since 1970.
    pub time: u64,
    /// The committer as the commit names them.
    pub committer: String,
    /// The file in the repository.
    pub path: String,
}

/// Kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ObjectKind {
    Commit,
    Tree,
    Blob,
}

/// One object whose id was computed.
#[derive(Clone, Copy)]
struct Object<'a> {
    kind: ObjectKind,
    /// As in trees: 20 or 32 bytes.
    id: Id,
    bytes: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Sha1([u8; 20]),
    Sha256([u8; 32]),
}

/// One way a proof of a commit can be wrong; objects are counted from 0, the commit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// More bytes than a proof has.
    #[error("git proof: expected at most {MAX_BYTES} bytes, got {got}")]
    TooLarge {
        /// Bytes found.
        got: usize,
    },
    /// Not what `git cat-file --batch` prints.
    #[error("git object {object} {field}: expected {expected}, got other or cut bytes")]
    Form {
        /// Number of the object.
        object: usize,
        /// The part of it.
        field: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// The bytes are not those of the id.
    #[error("git object {object}: expected the bytes of {expected}, got those of {got}")]
    Id {
        /// Number of the object.
        object: usize,
        /// The id that is written.
        expected: String,
        /// The id that was computed.
        got: String,
    },
    /// The object was made to have the same SHA-1 as another.
    #[error("git object {object}: expected an honest object, got one made to collide under SHA-1")]
    Collision {
        /// Number of the object.
        object: usize,
    },
    /// An object does not lead to the next.
    #[error("git object {object}: expected one that names object {next}, got another", next = object + 1)]
    Link {
        /// Number of the object.
        object: usize,
    },
    /// Another kind or number of objects.
    #[error("git proof: expected a commit, 1 to {MAX_TREES} trees and a file, got {got}")]
    Order {
        /// What is there.
        got: String,
    },
    /// The file does not hold the line.
    #[error("git file {path}: expected the line of this root and owner, got none")]
    Line {
        /// The file in the repository.
        path: String,
    },
}

/// Follows a proof from the commit to a file that holds `line` (which ends with a line feed) as one of its lines.
///
/// # Errors
/// The first fault found.
pub fn verify(bytes: &[u8], line: &str) -> Result<Commit, GitError> {
    if bytes.len() > MAX_BYTES {
        return Err(GitError::TooLarge { got: bytes.len() });
    }
    let objects = objects(bytes)?;
    let (commit, trees, file) = match objects.as_slice() {
        [commit, trees @ .., file]
            if commit.kind == ObjectKind::Commit
                && !trees.is_empty()
                && trees.iter().all(|tree| tree.kind == ObjectKind::Tree)
                && file.kind == ObjectKind::Blob =>
        {
            (commit, trees, file)
        }
        other => {
            let kinds: Vec<_> = other.iter().map(|object| object.kind.to_string()).collect();
            return Err(GitError::Order {
                got: if kinds.is_empty() {
                    "nothing".into()
                } else {
                    kinds.join(", ")
                },
            });
        }
    };
    let parsed = CommitFields::parse(commit)?;
    if parsed.tree != trees[0].id.to_string() {
        return Err(GitError::Link { object: 0 });
    }
    let mut path = Vec::with_capacity(trees.len());
    for (position, tree) in trees.iter().enumerate() {
        let next = trees.get(position + 1).unwrap_or(file);
        path.push(entry(position + 1, tree, next)?);
    }
    let path = path.join("/");
    let held = file
        .bytes
        .split_inclusive(|byte| *byte == b'\n')
        .any(|own| own == line.as_bytes());
    if !held {
        return Err(GitError::Line { path });
    }
    Ok(Commit {
        id: commit.id.to_string(),
        time: parsed.time,
        committer: parsed.committer,
        path,
    })
}

fn objects(bytes: &[u8]) -> Result<Vec<Object<'_>>, GitError> {
    let (mut rest, mut objects) = (bytes, Vec::<Object<'_>>::new());
    while !rest.is_empty() {
        if objects.len() == MAX_TREES + 2 {
            return Err(GitError::Order {
                got: "more objects".into(),
            });
        }
        let (object, after) = object(objects.len(), rest)?;
        let same = |first: &Object<'_>| first.id.to_string().len() == object.id.to_string().len();
        if !objects.first().is_none_or(same) {
            return Err(form(objects.len(), "id", "the hash of the first object"));
        }
        objects.push(object);
        rest = after;
    }
    Ok(objects)
}

/// The object at the start of `bytes`, and what follows it.
fn object(number: usize, bytes: &[u8]) -> Result<(Object<'_>, &[u8]), GitError> {
    const LONGEST_HEAD: usize = 64 + 1 + 6 + 1 + MAX_DIGITS;
    let head = || form(number, "head", "an id, a kind and a size");
    let window = &bytes[..bytes.len().min(LONGEST_HEAD + 1)];
    let end = window
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or_else(head)?;
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| head())?;
    let mut words = text.split(' ');
    let (Some(id), Some(kind), Some(size), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(head());
    };
    let kind = match kind {
        "commit" => ObjectKind::Commit,
        "tree" => ObjectKind::Tree,
        "blob" => ObjectKind::Blob,
        _ => return Err(form(number, "kind", "commit, tree or blob")),
    };
    let digits = size.len() <= MAX_DIGITS && size.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (size == "0" || !size.starts_with('0'));
    let length: usize = Some(size)
        .filter(|_| plain)
        .and_then(|size| size.parse().ok())
        .ok_or_else(|| form(number, "size", "a decimal number"))?;
    if kind == ObjectKind::Blob && length > MAX_FILE {
        return Err(form(number, "size", "a file of at most a mebibyte"));
    }
    let rest = &bytes[end + 1..];
    let cut = || form(number, "bytes", "as many as its size, and a line feed");
    let (contents, after) = rest.split_at_checked(length).ok_or_else(cut)?;
    let after = after.strip_prefix(b"\n").ok_or_else(cut)?;

    let hashed = [format!("{kind} {length}\0").as_bytes(), contents].concat();
    let computed = match id.len() {
        40 => match Sha1::try_digest(&hashed) {
            CollisionResult::Ok(hash) => Id::Sha1(hash.into()),
            _ => return Err(GitError::Collision { object: number }),
        },
        64 => Id::Sha256(Sha256::digest(&hashed).into()),
        _ => return Err(form(number, "id", "40 or 64 hexadecimal digits")),
    };
    if HEXLOWER.decode(id.as_bytes()).is_err() {
        return Err(form(number, "id", "40 or 64 hexadecimal digits"));
    }
    if computed.to_string() != id {
        return Err(GitError::Id {
            object: number,
            expected: id.to_owned(),
            got: computed.to_string(),
        });
    }
    let object = Object {
        kind,
        id: computed,
        bytes: contents,
    };
    Ok((object, after))
}

/// The lines of a commit that are used.
struct CommitFields {
    tree: String,
    committer: String,
    time: u64,
}

impl CommitFields {
    /// `tree ‹id›`, `parent ‹id›` for each, `author …`, `committer ‹name› <‹mail›> ‹seconds› ‹zone›`, further lines, an empty one.
    fn parse(commit: &Object<'_>) -> Result<Self, GitError> {
        let form = |field, expected| move || form(0, field, expected);
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let mut lines = commit.bytes.split(|byte| *byte == b'\n').peekable();
        let tree = lines
            .next()
            .and_then(|line| line.strip_prefix(b"tree "))
            .ok_or_else(form("first line", "its tree"))?;
        while lines.next_if(|line| line.starts_with(b"parent ")).is_some() {}
        lines
            .next_if(|line| line.starts_with(b"author "))
            .ok_or_else(form("author", "one after the parents"))?;
        let line = lines
            .next()
            .and_then(|line| line.strip_prefix(b"committer "))
            .ok_or_else(form("committer", "one after the author"))?;
        let line = text(line);
        let fault = form("committer", "a name, a mail address, seconds and a zone");
        let (committer, time) = line.rsplit_once("> ").ok_or_else(&fault)?;
        let (seconds, _zone) = time.split_once(' ').ok_or_else(&fault)?;
        Ok(Self {
            tree: text(tree),
            committer: format!("{committer}>"),
            time: seconds.parse().map_err(|_| fault())?,
        })
    }
}

/// The name under which `tree` holds `next`.
fn entry(number: usize, tree: &Object<'_>, next: &Object<'_>) -> Result<String, GitError> {
    let wrong = || form(number, "entries", "modes, names and ids");
    let wanted: &[u8] = match &next.id {
        Id::Sha1(bytes) => bytes,
        Id::Sha256(bytes) => bytes,
    };
    let modes: &[&[u8]] = match next.kind {
        ObjectKind::Tree => &[b"40000"],
        _ => &[b"100644", b"100755"],
    };
    let mut rest = tree.bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).ok_or_else(wrong)?;
        let (head, after) = (&rest[..end], &rest[end + 1..]);
        let space = head
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(wrong)?;
        let (id, after) = after.split_at_checked(wanted.len()).ok_or_else(wrong)?;
        if id == wanted && modes.contains(&&head[..space]) {
            return Ok(String::from_utf8_lossy(&head[space + 1..]).into_owned());
        }
        rest = after;
    }
    Err(GitError::Link { object: number })
}

fn form(object: usize, field: &'static str, expected: &'static str) -> GitError {
    GitError::Form {
        object,
        field,
        expected,
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
        })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Sha1(bytes) => hex(bytes),
            Self::Sha256(bytes) => hex(bytes),
        })
    }
}
