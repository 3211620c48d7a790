//! What the student shall learn of each view: the teachers' soft labels and features.

use kinglet_compress::dataset::normalized;

use crate::config::Config;
use crate::data::Data;
use crate::error::DistillError;
use crate::head::{Linear, Standard};
use crate::teacher::Teacher;

/// Every fifth picture is kept back when a new layer is judged.
const KEPT: usize = 5;
/// Probabilities are at least this, so that they have a logarithm.
const LEAST: f32 = 1e-7;

/// The teachers' answers, put together.
#[derive(Debug, Clone)]
pub struct Lesson {
    /// Number of classes.
    pub classes: usize,
    /// Features of all teachers; 0 where none has any.
    pub features: usize,
    /// Of each picture: views * classes probabilities at the temperature, the mean of all teachers.
    pub soft: Vec<Vec<f32>>,
    /// Of each picture: views * features values, standardised.
    pub hints: Vec<Vec<f32>>,
    /// What each teacher does, in words.
    pub notes: Vec<String>,
}

/// How a teacher's outputs become logits of the user's classes.
enum Answer {
    /// Its own outputs of these indices.
    Own(Vec<usize>),
    /// A new layer on its features.
    New(Linear, Standard),
}

impl Lesson {
    /// Puts the answers together; teachers of other classes learn the user's first.
    ///
    /// # Errors
    /// [`DistillError::Teacher`] for a teacher of other classes without features.
    pub fn new(data: &Data, teachers: &[Teacher], config: &Config) -> Result<Self, DistillError> {
        let (classes, views) = (data.classes.len(), data.views);
        let count = data.pictures.len();
        let mut lesson = Self {
            classes,
            features: 0,
            soft: vec![vec![0.0; views * classes]; count],
            hints: vec![Vec::new(); count],
            notes: Vec::new(),
        };
        let mut standards = Vec::new();
        for (at, teacher) in teachers.iter().enumerate() {
            let (answer, note) = lesson.answer(data, at, teacher)?;
            lesson.notes.push(format!("{}: {note}", teacher.path.display()));
            for picture in 0..count {
                for view in 0..views {
                    let said = data.said(at, teacher.outputs, picture, view);
                    let soft = softmax(&answer.logits(teacher, said), config.temperature);
                    let to = &mut lesson.soft[picture][view * classes..][..classes];
                    to.iter_mut().zip(soft).for_each(|(t, s)| *t += s / teachers.len() as f32);
                }
            }
            if teacher.last.is_some() {
                standards.push((at, teacher.outputs, standard(data, at, teacher.outputs)));
                lesson.features += teacher.outputs;
            }
        }
        for (picture, hints) in lesson.hints.iter_mut().enumerate() {
            for view in 0..views {
                for (at, outputs, standard) in &standards {
                    hints.extend(standard.apply(data.said(*at, *outputs, picture, view)));
                }
            }
        }
        Ok(lesson)
    }

    fn answer(
        &self,
        data: &Data,
        at: usize,
        teacher: &Teacher,
    ) -> Result<(Answer, String), DistillError> {
        let own: Option<Vec<usize>> = teacher.labels.as_ref().and_then(|labels| {
            let labels: Vec<String> = labels.iter().map(|l| normalized(l)).collect();
            let find = |class: &String| labels.iter().position(|l| *l == normalized(class));
            data.classes.iter().map(find).collect()
        });
        if let Some(own) = own {
            return Ok((Answer::Own(own), "teaches its own classes".into()));
        }
        if teacher.last.is_none() {
            let why = format!(
                "its classes are not {:?}, and it does not end in a linear layer that could be \
                 replaced",
                data.classes
            );
            return Err(DistillError::Teacher { path: teacher.path.clone(), why });
        }
        let standard = standard(data, at, teacher.outputs);
        let labelled: Vec<(usize, usize)> =
            data.pictures.iter().enumerate().filter_map(|(i, p)| Some((i, p.class?))).collect();
        let train = |pictures: &[(usize, usize)]| {
            let (mut features, mut labels) = (Vec::new(), Vec::new());
            for &(picture, class) in pictures {
                for view in 0..data.views {
                    let said = data.said(at, teacher.outputs, picture, view);
                    features.extend(standard.apply(said));
                    labels.push(class);
                }
            }
            Linear::trained(&features, teacher.outputs, &labels, self.classes)
        };
        let kept = |i: &usize| i % KEPT == KEPT - 1;
        let part = |keep: bool| -> Vec<(usize, usize)> {
            let places = (0..labelled.len()).filter(|i| kept(i) == keep);
            places.map(|i| labelled[i]).collect()
        };
        let (judged, trial) = (part(true), train(&part(false)));
        let right = judged.iter().filter(|(picture, class)| {
            let said = data.said(at, teacher.outputs, *picture, 0);
            best(&trial.apply(&standard.apply(said))) == *class
        });
        let note = format!(
            "a new last layer for {} classes; on {} pictures kept back while it was tried, {} right",
            self.classes,
            judged.len(),
            right.count()
        );
        Ok((Answer::New(train(&labelled), standard), note))
    }
}

impl Answer {
    fn logits(&self, teacher: &Teacher, said: &[f32]) -> Vec<f32> {
        match self {
            Self::New(head, standard) => head.apply(&standard.apply(said)),
            Self::Own(indices) => {
                let all = match &teacher.last {
                    Some(last) => last.apply(said),
                    None if teacher.probabilities => {
                        said.iter().map(|p| p.max(LEAST).ln()).collect()
                    }
                    None => said.to_vec(),
                };
                indices.iter().map(|&i| all[i]).collect()
            }
        }
    }
}

fn standard(data: &Data, teacher: usize, outputs: usize) -> Standard {
    let all = data.pictures.iter().flat_map(|p| p.said[teacher].chunks_exact(outputs));
    Standard::of(all, outputs)
}

fn best(outputs: &[f32]) -> usize {
    (0..outputs.len()).max_by(|&a, &b| outputs[a].total_cmp(&outputs[b])).unwrap_or(0)
}

/// Probabilities of logits at a temperature.
fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|l| ((l - largest) / temperature).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}
