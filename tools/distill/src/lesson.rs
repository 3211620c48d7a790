//! What the student shall learn of each view: the teachers' soft labels and features.

use kinglet_compress::dataset::normalized;

use crate::config::Config;
use crate::data::Data;
use crate::error::DistillError;
use crate::teacher::Teacher;

/// The teachers' answers, put together.
#[derive(Debug, Clone)]
pub struct Lesson {
    /// Number of classes.
    pub classes: usize,
    /// How the features of all teachers were scaled; empty where none has any.
    pub scales: Vec<Scale>,
    /// Of each picture: views * classes probabilities at the temperature, the mean of the teachers
    /// that know the classes; empty where none does.
    pub soft: Vec<Vec<f32>>,
    /// Of each picture: views * features values, scaled.
    pub hints: Vec<Vec<f32>>,
    /// What each teacher does, in words.
    pub notes: Vec<String>,
}

impl Lesson {
    /// Puts the answers together.
    ///
    /// # Errors
    /// [`DistillError::Teacher`] for one of other classes without features.
    pub fn new(data: &Data, teachers: &[Teacher], config: &Config) -> Result<Self, DistillError> {
        let (classes, views) = (data.classes.len(), data.views);
        let count = data.pictures.len();
        let mut lesson = Self {
            classes,
            scales: Vec::new(),
            soft: Vec::new(),
            hints: vec![Vec::new(); count],
            notes: Vec::new(),
        };
        let known: Vec<Option<Vec<usize>>> =
            teachers.iter().map(|teacher| known(&data.classes, teacher)).collect();
        let speakers = known.iter().flatten().count();
        if speakers > 0 {
            lesson.soft = vec![vec![0.0; views * classes]; count];
        }
        let mut featured = Vec::new();
        for (at, (teacher, known)) in teachers.iter().zip(&known).enumerate() {
            let note = match known {
                Some(known) => lesson.speak(data, at, teacher, known, config.temperature, speakers),
                None if teacher.classifier.is_some() => "knows other classes and teaches its \
                     features alone; `kinglet-tools retrain` gives it these classes"
                    .into(),
                None => {
                    let why = format!(
                        "its classes are not {:?}, and no features are recognised in it; \
                         `kinglet-tools retrain` gives a model other classes",
                        data.classes
                    );
                    return Err(DistillError::Teacher { path: teacher.path.clone(), why });
                }
            };
            lesson.notes.push(format!("{} {note}", teacher.path.display()));
            if teacher.classifier.is_some() {
                let all =
                    data.pictures.iter().flat_map(|p| p.said[at].chunks_exact(teacher.outputs));
                featured.push(at);
                lesson.scales.push(Scale::of(all));
            }
        }
        for (picture, hints) in lesson.hints.iter_mut().enumerate() {
            for view in 0..views {
                for (&at, scale) in featured.iter().zip(&lesson.scales) {
                    let said = data.said(at, teachers[at].outputs, picture, view);
                    let centred = said.iter().zip(&scale.mean).map(|(v, m)| (v - m) * scale.factor);
                    hints.extend(centred);
                }
            }
        }
        Ok(lesson)
    }

    /// Features of all teachers.
    #[must_use]
    pub fn features(&self) -> usize {
        self.scales.iter().map(|s| s.mean.len()).sum()
    }

    /// Adds one teacher's soft labels; says how often it agrees with the folders.
    fn speak(
        &mut self,
        data: &Data,
        at: usize,
        teacher: &Teacher,
        known: &[usize],
        temperature: f32,
        speakers: usize,
    ) -> String {
        let (classes, views) = (self.classes, data.views);
        // Of pictures as they are, and of their other views: right ones and all.
        let mut right = [[0; 2]; 2];
        for (picture, looked) in data.pictures.iter().enumerate() {
            for view in 0..views {
                let all = teacher.logits(data.said(at, teacher.outputs, picture, view));
                let logits: Vec<f32> = known.iter().map(|&i| all[i]).collect();
                if let Some(class) = looked.class {
                    let right = &mut right[usize::from(view > 0)];
                    right[0] += usize::from(best(&logits) == class);
                    right[1] += 1;
                }
                let soft = softmax(&logits, temperature);
                let to = &mut self.soft[picture][view * classes..][..classes];
                to.iter_mut().zip(soft).for_each(|(t, s)| *t += s / speakers as f32);
            }
        }
        let [[whole, pictures], [parts, others]] = right;
        if pictures == 0 {
            return "names the classes".into();
        }
        format!(
            "agrees with the labels of {whole} of {pictures} pictures, and in {parts} of {others} \
             other views of them"
        )
    }
}

/// Which of a teacher's outputs the classes are: those of the same names; or all in order, where it
/// has no names and as many.
fn known(classes: &[String], teacher: &Teacher) -> Option<Vec<usize>> {
    let Some(labels) = &teacher.labels else {
        return (teacher.classes == classes.len()).then(|| (0..classes.len()).collect());
    };
    let labels: Vec<String> = labels.iter().take(teacher.classes).map(|l| normalized(l)).collect();
    let find = |class: &String| labels.iter().position(|l| *l == normalized(class));
    classes.iter().map(find).collect()
}

/// How a teacher's features are scaled: to a mean of 0 and, on average, a variance of 1. One factor
/// for all: a feature that hardly ever fires must not become large.
#[derive(Debug, Clone, PartialEq)]
pub struct Scale {
    /// Mean of each feature.
    pub mean: Vec<f32>,
    /// What the difference to it is multiplied by.
    pub factor: f32,
}

impl Scale {
    /// Of samples of one length.
    #[must_use]
    pub fn of<'a>(samples: impl Iterator<Item = &'a [f32]> + Clone) -> Self {
        let size = samples.clone().next().map_or(0, <[f32]>::len);
        let count = samples.clone().count().max(1) as f64;
        let mut mean = vec![0.0_f64; size];
        for sample in samples.clone() {
            mean.iter_mut().zip(sample).for_each(|(m, v)| *m += f64::from(*v) / count);
        }
        let distance = |sample: &[f32]| -> f64 {
            sample.iter().zip(&mean).map(|(v, m)| (f64::from(*v) - m).powi(2)).sum()
        };
        let variance = samples.map(distance).sum::<f64>() / (count * size.max(1) as f64);
        let factor = if variance > 0.0 { variance.sqrt().recip() as f32 } else { 1.0 };
        Self { mean: mean.into_iter().map(|m| m as f32).collect(), factor }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_scaled_by_one_factor() {
        let samples: [&[f32]; 2] = [&[1.0, 5.0], &[5.0, 5.0]];
        let scale = Scale::of(samples.into_iter());
        assert_eq!(scale.mean, [3.0, 5.0]);
        assert!((scale.factor - 0.5_f32.sqrt()).abs() < 1e-6, "{}", scale.factor);
    }

    #[test]
    fn temperature_softens() {
        let [sharp, soft] = [1.0, 4.0].map(|t| softmax(&[4.0, 0.0], t));
        assert!((sharp[0] - 0.982).abs() < 1e-3 && (soft[0] - 0.731).abs() < 1e-3);
    }
}
