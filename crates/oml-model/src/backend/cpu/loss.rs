//! Head, softmax and loss in one pass over blocks of rows, so that no matrix of all tokens × vocabulary ever exists.
//!
//! ```text
//! z = h·Eᵀ              [block, V]
//! token:    L = logsumexp(z) − z[id]          dz = softmax(z) − onehot(id)
//! teacher:  L = Σ p·(log p − log q)           dz = q − p        with p = softmax(h₀·E₀ᵀ), q = softmax(z)
//! dh = dz·E             dE += dzᵀ·h
//! ```
//! With a soft cap z is capped first, the teacher's too, and dz gets the cap's factor.

use oml_kernels::{
    Floats, Isa, Pool, divergence, exp_scaled, for_each_chunk, for_each_chunk2, log_sum_exp,
    matmul, max, pack, pack_with, soft_cap, soft_cap_backward, sum_exp,
};

use super::super::{Objective, RowLoss, Target, Teacher};
use super::{Cpu, Weight};

/// Rows of one block: 256 × 49,152 logits are 48 MiB.
const BLOCK: usize = 256;

#[allow(clippy::too_many_arguments)]
pub(super) fn head_loss(
    cpu: &mut Cpu,
    hidden: &[f32],
    objectives: &[Objective],
    head: &Weight,
    parameters: &[f32],
    softcap: Option<f32>,
    teacher: Option<Teacher<'_, Cpu>>,
    mut d_hidden: Option<&mut Floats>,
    d_head: Option<Target<'_, Floats>>,
) -> Vec<RowLoss> {
    let Cpu {
        isa,
        pool,
        forward_weight,
        backward_weight,
        left,
        left_transposed,
        right,
        logits,
        teacher_logits,
    } = cpu;
    let isa = *isa;
    let (vocabulary, width) = head.shape();
    let mut losses = vec![RowLoss::default(); objectives.len()];
    let block_rows = BLOCK.min(objectives.len());
    grow(logits, block_rows * vocabulary);
    let w = head.forward(pool, parameters, forward_weight);
    let backward = d_hidden
        .is_some()
        .then(|| head.backward(pool, parameters, backward_weight));
    let mut d_head = d_head;

    for (block, objectives) in objectives.chunks(BLOCK).enumerate() {
        let (start, rows) = (block * BLOCK, objectives.len());
        let h = &hidden[start * width..][..rows * width];
        pack(pool, h, rows, width, width, &mut [&mut *left]);
        matmul(pool, left, w, logits, vocabulary, false);
        cap_rows(isa, pool, softcap, logits, rows * vocabulary);

        let followed: Vec<usize> = objectives
            .iter()
            .filter_map(|o| match o {
                Objective::Teacher { row, .. } => Some(*row),
                Objective::Token { .. } => None,
            })
            .collect();
        if let (Some(teacher), false) = (&teacher, followed.is_empty()) {
            grow(teacher_logits, followed.len() * vocabulary);
            pack_with(
                pool,
                followed.len(),
                width,
                &|r, row| row.copy_from_slice(&teacher.hidden[followed[r] * width..][..width]),
                &mut [&mut *left],
            );
            matmul(
                pool,
                left,
                teacher.head.frozen(),
                teacher_logits,
                vocabulary,
                false,
            );
            cap_rows(
                isa,
                pool,
                softcap,
                teacher_logits,
                followed.len() * vocabulary,
            );
        }
        // Which row of the teacher's logits belongs to a row of the block.
        let mut next = 0;
        let places: Vec<Option<usize>> = objectives
            .iter()
            .map(|o| {
                matches!(o, Objective::Teacher { .. }).then(|| {
                    next += 1;
                    next - 1
                })
            })
            .collect();

        // Per row: log-normalisers of the model and of its teacher; dz is formed from them while it is packed.
        let mut normalisers = vec![[0f32; 2]; rows];
        {
            let logits = &logits[..];
            let teacher_logits = &teacher_logits[..];
            let places = &places;
            for_each_chunk2(
                pool,
                (&mut losses[start..start + rows], 1),
                (&mut normalisers, 1),
                |r, loss, normaliser| {
                    let z = &logits[r * vocabulary..][..vocabulary];
                    let top = max(isa, z);
                    let own_normaliser = top + sum_exp(isa, z, top).ln();
                    normaliser[0][0] = own_normaliser;
                    loss[0] = match (objectives[r], places[r]) {
                        (Objective::Teacher { .. }, Some(place)) => {
                            let t = &teacher_logits[place * vocabulary..][..vocabulary];
                            normaliser[0][1] = log_sum_exp(isa, t);
                            RowLoss {
                                loss: divergence(isa, t, normaliser[0][1], z, own_normaliser),
                                hit: false,
                            }
                        }
                        (Objective::Token { id, .. }, _) => {
                            let own = z[id as usize];
                            RowLoss {
                                loss: own_normaliser - own,
                                hit: own >= top,
                            }
                        }
                        (Objective::Teacher { .. }, None) => RowLoss::default(),
                    };
                },
            );
        }
        let Some(d_hidden) = d_hidden.as_deref_mut() else {
            continue;
        };
        let fill = |r: usize, row: &mut [f32]| {
            let z = &logits[r * vocabulary..][..vocabulary];
            let [normaliser, teacher_normaliser] = normalisers[r];
            match (objectives[r], places[r]) {
                (Objective::Token { id, weight }, _) => {
                    exp_scaled(isa, z, normaliser, weight, row);
                    row[id as usize] -= weight;
                }
                (Objective::Teacher { weight, .. }, Some(place)) => {
                    let t = &teacher_logits[place * vocabulary..][..vocabulary];
                    exp_scaled(isa, t, teacher_normaliser, -weight, row);
                    let mut part = [0f32; 1024];
                    for (row, z) in row.chunks_mut(1024).zip(z.chunks(1024)) {
                        exp_scaled(isa, z, normaliser, weight, &mut part[..row.len()]);
                        for (d, q) in row.iter_mut().zip(&part) {
                            *d += q;
                        }
                    }
                }
                (Objective::Teacher { .. }, None) => row.fill(0.0),
            }
            if let Some(cap) = softcap {
                soft_cap_backward(isa, z, cap, row);
            }
        };
        if d_head.is_some() {
            pack_with(
                pool,
                rows,
                vocabulary,
                &fill,
                &mut [&mut *left, &mut *left_transposed],
            );
        } else {
            pack_with(pool, rows, vocabulary, &fill, &mut [&mut *left]);
        }
        if let Some(backward) = backward {
            matmul(
                pool,
                left,
                backward,
                &mut d_hidden[start * width..][..rows * width],
                width,
                false,
            );
        }
        if let Some(target) = &mut d_head {
            pack(pool, h, rows, width, width, &mut [&mut *right]);
            let place = &mut target.buffer[target.offset..][..vocabulary * width];
            matmul(
                pool,
                left_transposed,
                right,
                place,
                width,
                target.accumulate,
            );
            target.accumulate = true;
        }
    }
    losses
}

/// Caps the first `length` logits, where there is a cap.
fn cap_rows(isa: Isa, pool: &Pool, softcap: Option<f32>, logits: &mut [f32], length: usize) {
    const CHUNK: usize = 1 << 14;
    if let Some(cap) = softcap {
        for_each_chunk(pool, &mut logits[..length], CHUNK, |_, logits| {
            soft_cap(isa, logits, cap);
        });
    }
}

/// Makes room; what was there is lost when it grows.
fn grow(buffer: &mut Floats, length: usize) {
    if buffer.len() < length {
        *buffer = Floats::zeroed(length);
    }
}

pub(super) fn head_rows(
    cpu: &mut Cpu,
    hidden: &[f32],
    rows: usize,
    head: &Weight,
    parameters: &[f32],
    softcap: Option<f32>,
    visit: &(dyn Fn(usize, &[f32]) + Sync),
) {
    let Cpu {
        isa,
        pool,
        forward_weight,
        left,
        logits,
        ..
    } = cpu;
    let (vocabulary, width) = head.shape();
    grow(logits, BLOCK.min(rows) * vocabulary);
    let w = head.forward(pool, parameters, forward_weight);
    for start in (0..rows).step_by(BLOCK) {
        let count = BLOCK.min(rows - start);
        pack(
            pool,
            &hidden[start * width..][..count * width],
            count,
            width,
            width,
            &mut [&mut *left],
        );
        matmul(pool, left, w, logits, vocabulary, false);
        cap_rows(*isa, pool, softcap, logits, count * vocabulary);
        for_each_chunk(
            pool,
            &mut logits[..count * vocabulary],
            vocabulary,
            |r, row| visit(start + r, row),
        );
    }
}
