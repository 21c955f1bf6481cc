//! Copies and tracing: subsets, their independence, and that innocents are accused as rarely as stated.

use oml_core::claim;
use oml_core::copies::{
    Assignment, Bias, Copies, CopiesError, MAX_COPIES, Observation, TraceReport, trace,
};
use oml_core::derive::Scope;
use oml_core::secret::OwnerSeed;
use proptest::prelude::*;

const SCOPE: Scope<'static> = Scope {
    model_digest: &[3; 32],
    copy_id: "",
};

fn owner(number: u64) -> OwnerSeed {
    let mut seed = [9; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    OwnerSeed::new(seed)
}

fn assignment(owner: &OwnerSeed, bias: Bias, copies: u32, count: usize) -> Assignment<'_> {
    let copies = Copies {
        count: copies,
        bias,
    };
    Assignment::new(owner, SCOPE, [5; 32], copies, count).unwrap()
}

/// Hits where more than half of the coalition's copies hold the fingerprint.
fn majority(assignment: &Assignment<'_>, coalition: &[u32], count: usize) -> Vec<Observation> {
    let members: Vec<_> = coalition
        .iter()
        .map(|copy| assignment.members(*copy).unwrap())
        .collect();
    let observe = |index: usize| {
        let holders = members.iter().filter(|m| m.as_slice()[index]).count();
        if 2 * holders > coalition.len() {
            Observation::Hit
        } else {
            Observation::Miss
        }
    };
    (0..count).map(observe).collect()
}

fn accused(report: &TraceReport) -> Vec<u32> {
    report.accused().map(|suspicion| suspicion.copy).collect()
}

#[test]
fn subsets_are_these() {
    // Python's hmac, hashlib and a ChaCha20 of its own, after the layout in the module's documentation.
    let owner = OwnerSeed::new(std::array::from_fn(|i| i as u8));
    let row = |bias, copy| -> String {
        let assignment = assignment(&owner, bias, 3, 40);
        let members = assignment.members(copy).unwrap();
        members
            .as_slice()
            .iter()
            .map(|held| if *held { '1' } else { '0' })
            .collect()
    };
    assert_eq!(
        row(Bias::Balanced, 1),
        "1110101111010000011001100100101000110100"
    );
    assert_eq!(
        row(Bias::Mixed, 3),
        "0000000000001101110010011010000101010000"
    );
}

#[test]
fn subsets_have_the_stated_sizes() {
    const COUNT: usize = 1 << 16;
    for bias in [Bias::Balanced, Bias::Mixed] {
        let owner = owner(1);
        let assignment = assignment(&owner, bias, 2, COUNT);
        let expected: f64 = bias
            .shares()
            .iter()
            .map(|share| share.weight() * share.probability())
            .sum();
        for copy in [1, 2] {
            let share = assignment.members(copy).unwrap().count() as f64 / COUNT as f64;
            assert!((share - expected).abs() < 0.01, "{share} {expected}");
        }
    }
}

#[test]
fn copies_that_there_are_not_are_refused() {
    let owner = owner(1);
    let three = assignment(&owner, Bias::Mixed, 3, 8);
    for copy in [0, 4] {
        let error = three.members(copy).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("copy: expected 1 to 3, got {copy}")
        );
    }
    for count in [0, MAX_COPIES + 1] {
        let copies = Copies {
            count,
            bias: Bias::Mixed,
        };
        let error = Assignment::new(&owner, SCOPE, [5; 32], copies, 8).unwrap_err();
        assert_eq!(error, CopiesError::Count { got: count });
    }
    let error = trace(&three, &[Observation::Hit; 7], 1e-3).unwrap_err();
    assert_eq!(
        error.to_string(),
        "observations: expected 8, one per fingerprint of the set, got 7"
    );
    assert!(trace(&three, &[Observation::Hit; 8], 1.0).is_err());
}

#[test]
fn secrets_are_not_shown() {
    let owner = owner(1);
    let assignment = assignment(&owner, Bias::Mixed, 3, 8);
    let shown = format!("{assignment:?} {:?}", assignment.members(1).unwrap());
    assert_eq!(shown, "Assignment(secret) Members(secret)");
}

#[test]
fn one_copy_is_named_and_nobody_else() {
    for bias in [Bias::Balanced, Bias::Mixed] {
        let owner = owner(2);
        let assignment = assignment(&owner, bias, 50, 128);
        let report = trace(&assignment, &majority(&assignment, &[17], 128), 1e-3).unwrap();
        assert_eq!(accused(&report), [17]);
        assert_eq!(report.answered, 128);
        assert!(
            report.suspicions[0].p_any < 1e-6,
            "{:?}",
            report.suspicions[0]
        );
        assert_eq!(report.suspicions.len(), 50);
    }
}

#[test]
fn a_forgetful_copy_is_named() {
    let owner = owner(3);
    let assignment = assignment(&owner, Bias::Balanced, 200, 256);
    let mut seen = majority(&assignment, &[100], 256);
    // Every third fingerprint is forgotten, and every tenth query was not asked.
    for (index, observation) in seen.iter_mut().enumerate() {
        if index % 3 == 0 {
            *observation = Observation::Miss;
        }
        if index % 10 == 0 {
            *observation = Observation::Unknown;
        }
    }
    let report = trace(&assignment, &seen, 1e-3).unwrap();
    assert_eq!(accused(&report), [100]);
    assert_eq!(report.answered, 230);
}

#[test]
fn answers_that_say_nothing_accuse_nobody() {
    let owner = owner(4);
    let assignment = assignment(&owner, Bias::Balanced, 200, 256);
    for kind in [
        Observation::Hit,
        Observation::Miss,
        Observation::Refused,
        Observation::Unknown,
    ] {
        let report = trace(&assignment, &[kind; 256], 1e-3).unwrap();
        assert!(accused(&report).is_empty(), "{kind:?}");
    }
    let report = trace(&assignment, &[Observation::Unknown; 256], 1e-3).unwrap();
    assert!(report.suspicions.iter().all(|s| s.p_any == 1.0));
}

/// At α = 0.2 innocents are accused often enough to see whether the bound holds, and whether it is not far too wide.
#[test]
fn innocents_are_accused_as_rarely_as_stated() {
    const TRIALS: u64 = 600;
    const ALPHA: f64 = 0.2;
    let mut all_wrong = 0;
    for bias in [Bias::Balanced, Bias::Mixed] {
        for coalition in [&[][..], &[1], &[1, 2, 3]] {
            let mut wrong = 0;
            for trial in 0..TRIALS {
                let owner = owner(trial);
                let assignment = assignment(&owner, bias, 20, 96);
                let seen = majority(&assignment, coalition, 96);
                let report = trace(&assignment, &seen, ALPHA).unwrap();
                let innocent = |copy: &u32| !coalition.contains(copy);
                wrong += u64::from(accused(&report).iter().any(innocent));
            }
            all_wrong += wrong;
            let interval = claim::clopper_pearson(wrong, TRIALS, 0.999);
            assert!(
                interval.low <= ALPHA,
                "{bias:?} {coalition:?}: {wrong} of {TRIALS}"
            );
        }
    }
    let rate = all_wrong as f64 / (6 * TRIALS) as f64;
    assert!(rate > ALPHA / 8.0, "{rate}");
}

proptest! {
    #[test]
    fn later_copies_and_fingerprints_change_nothing(
        seed in any::<u64>(),
        fewer in 1_u32..20,
        more in 1_u32..20,
        count in 1_usize..200,
        further in 0_usize..100,
    ) {
        let owner = owner(seed);
        let small = assignment(&owner, Bias::Mixed, fewer, count);
        let large = assignment(&owner, Bias::Mixed, fewer + more, count + further);
        for copy in 1..=fewer {
            let (small, large) = (small.members(copy).unwrap(), large.members(copy).unwrap());
            prop_assert_eq!(small.as_slice(), &large.as_slice()[..count]);
        }
    }

    #[test]
    fn more_copies_make_no_copy_more_suspicious(
        seed in any::<u64>(),
        answers in prop::collection::vec(0_u8..4, 1..120),
    ) {
        let owner = owner(seed);
        let kinds = [Observation::Hit, Observation::Miss, Observation::Refused, Observation::Unknown];
        let seen: Vec<_> = answers.iter().map(|a| kinds[usize::from(*a)]).collect();
        for bias in [Bias::Balanced, Bias::Mixed] {
            let few = trace(&assignment(&owner, bias, 5, seen.len()), &seen, 1e-3).unwrap();
            let many = trace(&assignment(&owner, bias, 25, seen.len()), &seen, 1e-3).unwrap();
            for suspicion in &few.suspicions {
                prop_assert!(suspicion.p_value > 0.0 && suspicion.p_value <= 1.0);
                prop_assert!(suspicion.p_any >= suspicion.p_value);
                let same = many.suspicions.iter().find(|other| other.copy == suspicion.copy).unwrap();
                prop_assert_eq!(same.p_value, suspicion.p_value);
                prop_assert!(same.p_any >= suspicion.p_any);
            }
            for pair in many.suspicions.windows(2) {
                prop_assert!(pair[0].p_value <= pair[1].p_value);
            }
        }
    }
}
