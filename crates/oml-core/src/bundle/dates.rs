//! When root and owner were there, by the time proofs of a bundle and what the judge knows of them.

use super::check::{Check, Outcome};
use super::{Bundle, Judge};
use crate::manifest::hex;
use crate::time_proof::{git, ledger, line, rfc3161, rfc3339};

impl Judge<'_> {
    pub(super) fn time_proofs(&self, bundle: &Bundle<'_>, checks: &mut Vec<Check>) {
        let message = line(&bundle.statement.root, &bundle.statement.owner);
        let mut dates = Dates::default();
        if let Some(bytes) = bundle.rfc3161 {
            let outcome = self.time_stamp(bytes, &message, &mut dates);
            checks.push(Check::new(
                "time stamp",
                "an authority that the judge trusts saw root and owner's address at the time stamped",
                outcome,
            ));
        }
        if let Some(bytes) = bundle.git {
            let outcome = self.commit(bytes, &message, &mut dates);
            checks.push(Check::new(
                "commit",
                "a git commit holds root and owner's address; its time is its author's word unless its id was known to others then",
                outcome,
            ));
        }
        if let Some(bytes) = bundle.ledger {
            let outcome = self.block(bytes, bundle, &mut dates);
            checks.push(Check::new(
                "ledger",
                "a transaction of a chain holds root and owner's address; its block's time counts once the judge found the block in the chain",
                outcome,
            ));
        }
        let began = bundle.transcript.terms.time / 1000;
        checks.push(Check::new(
            "root before audit",
            "the set existed before the first query left, so no pair was made from an answer",
            dates.before(began, "the audit began"),
        ));
        checks.push(Check::new(
            "root before release",
            "the set existed before the suspect did, so no pair was made to fit it",
            match self.released {
                None => Outcome::Unchecked("nobody said when the suspect was released".into()),
                Some(released) => dates.before(released, "the suspect was released"),
            },
        ));
    }

    fn time_stamp(&self, bytes: &[u8], message: &str, dates: &mut Dates) -> Outcome {
        let stamp = match rfc3161::verify(bytes, message.as_bytes()) {
            Ok(stamp) => stamp,
            Err(fault) => return Outcome::Fails(fault.to_string()),
        };
        let said = format!(
            "{} by {} (policy {}, serial {})",
            rfc3339(stamp.time),
            stamp.authority,
            stamp.policy,
            stamp.serial
        );
        let Some(authorities) = self.authorities else {
            return Outcome::Unchecked(format!(
                "{said}: name the root certificate of an authority that you trust"
            ));
        };
        match stamp.trusted(authorities) {
            Ok(root) => {
                dates.prove(stamp.time.saturating_add(stamp.accuracy));
                Outcome::Holds(format!("{said}, trusted through {root}"))
            }
            Err(fault) => Outcome::Fails(format!("{said}: {fault}")),
        }
    }

    fn commit(&self, bytes: &[u8], message: &str, dates: &mut Dates) -> Outcome {
        let commit = match git::verify(bytes, message) {
            Ok(commit) => commit,
            Err(fault) => return Outcome::Fails(fault.to_string()),
        };
        let said = format!(
            "commit {} holds it in {}, dated {} by {}",
            commit.id,
            commit.path,
            rfc3339(commit.time),
            commit.committer
        );
        match self.commit {
            None => {
                dates.say(commit.time, "by the commit's word alone");
                Outcome::Unchecked(format!(
                    "{said}: that is its author's word; name the commit id if it was known to others at that time"
                ))
            }
            Some(id) if id == commit.id => {
                dates.prove(commit.time);
                Outcome::Holds(format!("{said}, whose id was known"))
            }
            Some(id) => Outcome::Fails(format!("{said}, expected commit {id}")),
        }
    }

    fn block(&self, bytes: &[u8], bundle: &Bundle<'_>, dates: &mut Dates) -> Outcome {
        let statement = &bundle.statement;
        let found = match ledger::verify(bytes, &statement.root, &statement.owner) {
            Ok(found) => found,
            Err(fault) => return Outcome::Fails(fault.to_string()),
        };
        let said = format!(
            "transaction 0x{} holds it in block {} of chain {}, 0x{}, dated {}",
            hex(&found.transaction),
            found.number,
            found.chain_id,
            hex(&found.block),
            rfc3339(found.time)
        );
        match self.block {
            None => {
                dates.say(found.time, "by a block that nobody looked up");
                Outcome::Unchecked(format!(
                    "{said}: ask a node or an explorer of that chain for the block, and name its hash if it is there"
                ))
            }
            Some(hash) if hash == found.block => {
                dates.prove(found.time);
                Outcome::Holds(format!("{said}, whose hash was found in the chain"))
            }
            Some(hash) => Outcome::Fails(format!("{said}, expected block 0x{}", hex(&hash))),
        }
    }
}

/// The earliest second by which root and owner were there.
#[derive(Default)]
struct Dates {
    /// By a proof that counts.
    proved: Option<u64>,
    /// By one that does not count by itself, and why.
    word: Option<(u64, &'static str)>,
}

impl Dates {
    fn prove(&mut self, time: u64) {
        self.proved = Some(self.proved.map_or(time, |other| other.min(time)));
    }

    fn say(&mut self, time: u64, why: &'static str) {
        if self.word.is_none_or(|(other, _)| time < other) {
            self.word = Some((time, why));
        }
    }

    fn before(&self, limit: u64, what: &str) -> Outcome {
        let (time, word) = match (self.proved, self.word) {
            (Some(time), _) => (time, None),
            (None, Some((time, why))) => (time, Some(why)),
            (None, None) => {
                return Outcome::Unchecked(
                    "the bundle holds no time proof that counts here".into(),
                );
            }
        };
        let both = format!("{} against {}, when {what}", rfc3339(time), rfc3339(limit));
        match (time < limit, word) {
            (true, None) => Outcome::Holds(both),
            (true, Some(why)) => Outcome::Unchecked(format!("{both}, {why}")),
            (false, _) => Outcome::Fails(format!("expected an earlier time, got {both}")),
        }
    }
}
