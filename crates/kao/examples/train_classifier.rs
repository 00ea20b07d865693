//! Trains the classifier that evaluation uses, on a folder of drawn faces and their tags:
//!
//! ```text
//! kao draw --count 60000 --size 64 --seed 7 --out faces
//! cargo run --release -p kao --example train_classifier -- faces classifier.safetensors [STEPS [FROM]]
//! ```
//!
//! Pictures of the folder's test set are left out, and what the classifier makes of them is printed
//! at the end: for each group of tags, how often it names the right one.

use kao::control::Unattended;
use kao::dataset::{Folder, SplitConfig, Tags};
use kao::draw::tag_groups;
use kao::eval::{Classifier, ClassifierConfig, ClassifierTraining, TagGroup};
use kao::formats::StoreAs;
use kao::vocabulary::Vocabulary;
use std::path::{Path, PathBuf};

const SIDE: usize = 64;
const BATCH: usize = 32;
/// Tags of fewer pictures are not learned.
const MIN_COUNT: u64 = 100;
const LEARNING_RATE: f64 = 3e-3;

fn main() -> kao::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [faces, out, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: train_classifier FACES OUT.safetensors [STEPS [FROM]]");
        std::process::exit(2);
    };
    let steps = rest.first().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(24_000);
    run(faces, out, steps, rest.get(1).map(PathBuf::as_path))
}

/// Trains for so many steps, with the weights of `from` to begin with, and writes the classifier.
pub fn run(faces: &Path, out: &Path, steps: u64, from: Option<&Path>) -> kao::Result<()> {
    let folder = Folder::load(faces, [3, SIDE, SIDE], &Unattended)?;
    let names = folder.pictures().iter().map(|picture| picture.name.as_str());
    let tags = Tags::read(faces, names, None)?;
    let folder = folder.with_tags(tags);
    let split = folder.split(&SplitConfig::default())?;
    let of_training = split.train.iter().map(|&index| folder.tags_of(index));
    let (vocabulary, _) = Vocabulary::of_pictures(of_training, MIN_COUNT);
    let names: Vec<String> = vocabulary.tags().iter().map(|tag| tag.tag.clone()).collect();
    let groups = tag_groups().into_iter().filter_map(|group| {
        let known = |tags: &[&str]| -> Vec<String> {
            tags.iter().map(|tag| (*tag).to_owned()).filter(|tag| names.contains(tag)).collect()
        };
        let (tags, about) = (known(&group.tags), known(&group.about));
        let is_asked = !tags.is_empty() && about.is_empty() == group.about.is_empty();
        is_asked.then(|| TagGroup { name: group.name.to_owned(), tags, about })
    });
    let config = ClassifierConfig::new(names.clone(), groups.collect());
    let numbers = |index: usize| -> Vec<usize> {
        folder.tags_of(index).iter().filter_map(|tag| vocabulary.number(tag)).collect()
    };

    let mut training = ClassifierTraining::new(match from {
        None => Classifier::init(config, 1)?,
        Some(path) => Classifier::load(path)?,
    });
    let mut order = split.train.clone();
    let mut stream = kao::noise::Stream::new(1, kao::noise::Purpose::Training, 0, 0);
    let (mut position, mut mean) = (order.len(), 0.0);
    for step in 0..steps {
        if position + BATCH > order.len() {
            for k in (1..order.len()).rev() {
                order.swap(k, stream.below(k + 1));
            }
            position = 0;
        }
        let batch = &order[position..(position + BATCH).min(order.len())];
        position += BATCH;
        let mut images = folder.images(batch)?;
        for picture in 0..batch.len() {
            if stream.below(2) == 1 {
                // No tag tells left from right.
                images.image_mut(picture).chunks_exact_mut(SIDE).for_each(<[f32]>::reverse);
            }
        }
        let tags: Vec<Vec<usize>> = batch.iter().map(|&index| numbers(index)).collect();
        let fallen = step as f64 / steps as f64;
        let rate = LEARNING_RATE * 0.5 * (1.0 + (std::f64::consts::PI * fallen).cos());
        let loss = training.step(&images, &tags, rate as f32)?;
        mean += (loss - mean) * if step == 0 { 1.0 } else { 0.02 };
        if step % 200 == 199 {
            println!("step {}: loss {mean:.3}", step + 1);
            training.classifier().save(out, StoreAs::F16)?;
        }
    }
    training.classifier().save(out, StoreAs::F16)?;

    let classifier = Classifier::load(out)?;
    let test: Vec<usize> = split.test.iter().copied().take(2000).collect();
    let probabilities = classifier.judge(&folder.images(&test)?)?;
    let shown: Vec<Vec<&String>> =
        test.iter().map(|&index| folder.tags_of(index).iter().collect()).collect();
    for group in classifier.accuracies(&probabilities, &shown) {
        println!(
            "{:<16} {} of {} ({:.1} %); {} of {} others",
            group.group,
            group.n_right,
            group.n_asked,
            100.0 * group.accuracy().unwrap_or(0.0),
            group.n_wrong,
            group.n_others
        );
    }
    Ok(())
}
