use super::*;
use crate::formats::{StoreAs, TensorView, write_safetensors};

fn config() -> ClassifierConfig {
    let layer = |(width, stride)| ClassifierLayer { width, stride };
    let tags = ["dark", "light", "red"].map(str::to_owned).to_vec();
    let group = TagGroup { name: "brightness".into(), tags: tags[..2].to_vec(), about: vec![] };
    ClassifierConfig {
        layers: [(8, 1), (16, 2), (16, 1)].map(layer).to_vec(),
        norm_groups: 4,
        ..ClassifierConfig::new(tags, vec![group])
    }
}

fn noise(n: usize, shape: [usize; 3]) -> Images {
    let [c, h, w] = shape;
    let mut images = Images::zeros([n, c, h, w]);
    Stream::new(5, Purpose::Sampling, 0, 0).fill_normal(images.data_mut());
    images
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let classifier = Classifier::init(config(), 1).unwrap();
    // Odd sides too.
    let images = noise(3, [3, 10, 7]);
    let tags = vec![vec![0], vec![], vec![1, 2]];
    let (_, gradients) = classifier.gradients(&images, &tags).unwrap();
    let loss = |classifier: &Classifier| classifier.gradients(&images, &tags).unwrap().0;
    for (k, gradient) in gradients.iter().enumerate() {
        // Along the gradient itself the loss changes most, and by its squared length.
        let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(length > 1e-4, "{k}");
        let moved = |by: f64| {
            let mut moved = classifier.clone();
            let values = moved.values[k].iter_mut().zip(gradient);
            values.for_each(|(value, g)| *value += (by * f64::from(*g) / length) as f32);
            loss(&moved)
        };
        let step = 1e-2;
        let slope = (moved(step) - moved(-step)) / (2.0 * step);
        assert!((slope / length - 1.0).abs() < 2e-2, "{k}: {slope} {length}");
    }
}

#[test]
fn what_is_plain_to_see_is_learned() {
    let mut training = ClassifierTraining::new(Classifier::init(config(), 1).unwrap());
    let batch = |first: u64| {
        let mut images = Images::zeros([16, 3, 8, 8]);
        let mut tags = Vec::new();
        for k in 0..16 {
            let mut stream = Stream::new(9, Purpose::Sampling, first + k as u64, 0);
            let (light, red) = (stream.bits() % 2, stream.bits() % 2);
            let image = images.image_mut(k);
            stream.fill_normal(image);
            let level = if light == 1 { 0.5 } else { -0.5 };
            image.iter_mut().for_each(|value| *value = 0.2 * *value + level);
            image[..64].iter_mut().for_each(|value| *value += red as f32);
            let mut of_image = vec![light as usize];
            of_image.extend((red == 1).then_some(2));
            tags.push(of_image);
        }
        (images, tags)
    };
    for step in 0..60 {
        let (images, tags) = batch(16 * step);
        training.step(&images, &tags, 1e-2).unwrap();
    }
    let (images, tags) = batch(1 << 20);
    let seen = training.classifier().see(&images).unwrap();
    for (probabilities, tags) in seen.probabilities.chunks_exact(3).zip(&tags) {
        let shown: Vec<usize> = (0..3).filter(|&tag| probabilities[tag] > 0.5).collect();
        assert_eq!(&shown, tags);
    }
    assert_eq!(seen.features.len(), 16 * training.classifier().n_features());
}

#[test]
fn what_was_asked_for_is_judged_by_group() {
    let only = TagGroup { name: "redness".into(), tags: vec!["red".into()], about: vec![] };
    let mut config = config();
    config.groups.push(only);
    // Both are possible, and images count that are asked for one of them.
    let light =
        TagGroup { name: "light".into(), about: vec!["light".into()], ..config.groups[0].clone() };
    config.groups.push(light);
    let classifier = Classifier::init(config, 1).unwrap();
    let probabilities =
        [[0.9, 0.2, 0.6], [0.3, 0.4, 0.7], [0.6, 0.1, 0.2], [0.1, 0.1, 0.9]].concat();
    let asked = [vec!["dark"], vec!["dark", "red"], vec!["red", "green"], vec!["dark", "light"]];
    let found = classifier.accuracies(&probabilities, &asked);
    let of_light =
        classifier.accuracies(&[0.9, 0.2, 0.6, 0.3, 0.4, 0.7], &[vec!["light"], vec!["light"]]);
    let of = |group: &str, numbers: [usize; 4]| {
        let [n_asked, n_right, n_others, n_wrong] = numbers;
        GroupAccuracy { group: group.into(), n_asked, n_right, n_others, n_wrong }
    };
    let light = of("light", [0; 4]);
    assert_eq!(found, [of("brightness", [2, 1, 0, 0]), of("redness", [2, 1, 2, 2]), light]);
    assert_eq!(of_light[2], of("light", [2, 1, 0, 0]));
    assert_eq!(found[0].accuracy(), Some(0.5));
    assert_eq!(of("x", [0; 4]).accuracy(), None);
    assert_eq!(classifier.shows(&[0.1, 0.1, 0.1], "green"), None);
}

#[test]
fn an_image_is_seen_alike_in_any_batch_and_size() {
    let classifier = Classifier::init(config(), 1).unwrap();
    let images = noise(BATCH + 3, [3, 9, 12]);
    let all = classifier.see(&images).unwrap();
    let last = classifier.see(&images.slice(BATCH + 2..BATCH + 3)).unwrap();
    assert!(all.features.ends_with(&last.features));
    assert!(all.probabilities.ends_with(&last.probabilities));
    assert!(classifier.see(&noise(1, [1, 9, 12])).is_err());
}

#[test]
fn files_hold_classifiers_and_what_is_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let classifier = Classifier::init(config(), 1).unwrap();
    classifier.save(&path, StoreAs::F32).unwrap();
    assert_eq!(Classifier::load(&path).unwrap(), classifier);
    let other = folder.path().join("x.safetensors");
    let view = TensorView { shape: &[1], data: &[0.5] };
    write_safetensors(&other, [("x_0", view)], &Default::default(), StoreAs::F32).unwrap();
    let message = Classifier::load(&other).unwrap_err().to_string();
    assert!(message.contains("is no classifier"), "{message}");
    for wrong in [
        ClassifierConfig { norm_groups: 0, ..config() },
        ClassifierConfig { norm_groups: 3, ..config() },
        ClassifierConfig { layers: vec![], ..config() },
        ClassifierConfig { channels: 2, ..config() },
        ClassifierConfig { tags: vec![], ..config() },
        ClassifierConfig { tags: vec!["light".into()], ..config() },
        ClassifierConfig {
            groups: vec![TagGroup { about: vec!["green".into()], ..config().groups[0].clone() }],
            ..config()
        },
    ] {
        assert!(Classifier::init(wrong.clone(), 1).is_err(), "{wrong:?}");
    }
}

#[test]
fn an_image_is_judged_from_ten_looks() {
    let mut images = Images::zeros([1, 1, 2, 3]);
    images.data_mut().copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let seen = |offset, is_mirrored| view(&images, offset, is_mirrored).into_vec();
    assert_eq!(seen((0, 0), false), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(seen((0, 1), false), [1.0, 1.0, 2.0, 4.0, 4.0, 5.0]);
    assert_eq!(seen((0, -1), true), [3.0, 3.0, 2.0, 6.0, 6.0, 5.0]);
    assert_eq!(seen((1, 0), false), [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    assert_eq!(seen((-1, 0), true), [6.0, 5.0, 4.0, 6.0, 5.0, 4.0]);

    let classifier = Classifier::init(config(), 1).unwrap();
    let images = noise(BATCH + 3, [3, 9, 12]);
    let judged = classifier.judge(&images).unwrap();
    let logit = |p: f32| (p / (1.0 - p)).ln();
    let mut expected = vec![0.0; judged.len()];
    for offset in LOOKS {
        for is_mirrored in [false, true] {
            let seen = classifier.see(&view(&images, offset, is_mirrored)).unwrap();
            let logits = seen.probabilities.into_iter().map(logit);
            expected.iter_mut().zip(logits).for_each(|(sum, logit)| *sum += logit / 10.0);
        }
    }
    for (found, expected) in judged.iter().zip(expected) {
        assert!((logit(*found) - expected).abs() < 1e-4, "{found} {expected}");
    }
    // A mirrored image is judged the same.
    let mirrored = classifier.judge(&view(&images, (0, 0), true)).unwrap();
    for (a, b) in judged.iter().zip(mirrored) {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
    assert!(classifier.judge(&noise(1, [1, 9, 12])).is_err());
}
