//! The samples of an evaluation, made in parts: distances need all of them, sampling does not.
//!
//! Each shard writes its samples to a file of its own in one folder, with their values as they are
//! and with how they came to be. Whoever evaluates them reads all parts, and gets the numbers that
//! one process would have got.

use super::Evaluate;
use crate::control::Control;
use crate::dataset::Folder;
use crate::error::{Error, Result};
use crate::files::{check_folder, prepare_path};
use crate::formats::{self, StoreAs, TensorView};
use crate::images::Images;
use crate::model::{Model, ModelConfig};
use crate::quantities::counted;
use crate::requests::Request;
use crate::shard::{Shard, range_of};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tensor of the samples, `[N, C, H, W]`, not clamped to [-1, 1].
const TENSOR: &str = "x_0";

const OTHER_EVALUATION: &str = "give the options of that evaluation, or another folder of `parts`";

/// What comes of [`Evaluate::sample_part`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampledPart {
    /// The file.
    pub path: PathBuf,
    /// How many samples are in it.
    pub n_samples: usize,
    /// Whether it was there already, of the same samples.
    pub is_kept: bool,
}

impl Evaluate {
    /// Makes the samples of one part alone and writes them to a file in the folder of parts. One that
    /// is there already, made the same way, is kept.
    ///
    /// # Errors
    /// As [`run`](Request::run); when no part is asked for.
    pub fn sample_part(&self, control: &dyn Control) -> Result<SampledPart> {
        self.model.check(control)?;
        self.validate()?;
        let shard = self.shard.ok_or_else(|| Error::invalid("shard", "none given"))?;
        self.compute.run(|device| {
            let model = self.model.load(device, control)?;
            let count = self.check_sampling(&model)?;
            // Only descriptions are taken from pictures.
            let data = match self.descriptions {
                true => Some(self.data_of(&model, control)?),
                false => None,
            };
            let described = data.as_ref().map(|data| self.described(data, count)).transpose()?;
            let described = described.flatten();
            let guide = self.guided(&model.config)?.load_guide(&model.config, device)?;
            let parts = self.parts(&model, guide.as_ref(), data.as_ref(), count)?;
            let parts = parts.ok_or_else(|| Error::invalid("parts", "none given"))?;
            parts.prepare(shard)?;
            if let Some(kept) = parts.kept(shard) {
                return Ok(kept);
            }
            let conditions = self.conditions(&model, described.as_ref(), count)?;
            let range = shard.range(count);
            let samples = self.sample(&model, guide.as_ref(), &conditions, range, control)?;
            parts.write(shard, &samples)
        })
    }

    /// The parts of the samples, where they are made in parts. What samples are asked for may come
    /// from the pictures.
    pub(super) fn parts(
        &self,
        model: &Model,
        guide: Option<&Model>,
        data: Option<&Folder>,
        count: usize,
    ) -> Result<Option<Parts<'_>>> {
        if self.parts.is_none() {
            return Ok(None);
        }
        let mut provenance = self.provenance_of(model, count)?;
        provenance = provenance.with("model_fingerprint", model.fingerprint());
        if let Some(guide) = guide {
            provenance = provenance.with("guide_fingerprint", guide.fingerprint());
        }
        if let Some(data) = data.filter(|_| self.descriptions) {
            provenance = provenance.with("data_fingerprint", data.fingerprint());
        }
        // The folder of pictures may be elsewhere on another machine.
        let texts = provenance.texts.into_iter().filter(|(key, _)| key != "data");
        Ok(Parts::of(self, texts, count, &model.config))
    }
}

/// The parts of one evaluation.
pub(super) struct Parts<'a> {
    folder: &'a Path,
    /// How samples come to be: what files say of themselves.
    pub description: BTreeMap<String, String>,
    pub n_samples: usize,
    pub image_shape: [usize; 3],
}

impl<'a> Parts<'a> {
    /// Those of `request`, in its folder; none where it names no folder.
    pub fn of(
        request: &'a Evaluate,
        description: impl IntoIterator<Item = (String, String)>,
        n_samples: usize,
        model: &ModelConfig,
    ) -> Option<Self> {
        let folder = request.parts.as_deref()?;
        let description = description.into_iter().collect();
        Some(Parts { folder, description, n_samples, image_shape: model.unet.image_size })
    }

    pub fn path(&self, shard: Shard) -> PathBuf {
        self.folder.join(format!("part-{}-of-{}.safetensors", shard.index(), shard.count()))
    }

    /// Makes sure, before the work, that parts can be written.
    pub fn prepare(&self, shard: Shard) -> Result<()> {
        check_folder(self.folder)?;
        prepare_path(self.path(shard))
    }

    /// The part of a shard where it was made before, from the same model and in the same way.
    pub fn kept(&self, shard: Shard) -> Option<SampledPart> {
        let samples = self.read(shard).ok()?;
        Some(SampledPart { path: self.path(shard), n_samples: samples.len(), is_kept: true })
    }

    /// Writes the part of a shard.
    pub fn write(&self, shard: Shard, samples: &Images) -> Result<SampledPart> {
        let (path, shape) = (self.path(shard), samples.shape());
        let view = TensorView { shape: &shape, data: samples.data() };
        formats::write_safetensors(&path, [(TENSOR, view)], &self.description, StoreAs::F32)?;
        Ok(SampledPart { path, n_samples: samples.len(), is_kept: false })
    }

    fn read(&self, shard: Shard) -> Result<Images> {
        let path = self.path(shard);
        let file = formats::read(&path)?;
        let found = |key: &str| file.metadata.get(key).and_then(Value::as_str);
        let mut description = self.description.iter();
        if let Some((key, expected)) =
            description.find(|(key, value)| found(key) != Some(value.as_str()))
        {
            let problem = match found(key) {
                Some(found) => format!("samples of {key} {found}; expected {expected}"),
                None => format!("no samples of an evaluation: it does not say its {key}"),
            };
            return Err(Error::malformed(&path, problem).with_hint(OTHER_EVALUATION));
        }
        // Whatever else samples were asked for.
        let unknown = |(key, _): &(&String, &Value)| !self.description.contains_key(*key);
        if let Some((key, value)) = file.metadata.iter().find(unknown) {
            let value = value.as_str().unwrap_or_default();
            let problem = format!("samples with {key} {value}; this evaluation has none");
            return Err(Error::malformed(&path, problem).with_hint(OTHER_EVALUATION));
        }
        let [c, h, w] = self.image_shape;
        let shape = [range_of(Some(shard), self.n_samples).len(), c, h, w];
        match file.tensors.get(TENSOR) {
            Some(tensor) if tensor.shape() == shape => {
                Images::from_vec(shape, tensor.data().to_vec())
            }
            Some(tensor) => {
                let problem = format!("`{TENSOR}` is {:?}; expected {shape:?}", tensor.shape());
                Err(Error::malformed(&path, problem))
            }
            None => Err(Error::malformed(&path, format!("no tensor `{TENSOR}`"))),
        }
    }

    /// All samples.
    ///
    /// # Errors
    /// When a part is missing, or was made otherwise.
    pub fn together(&self) -> Result<Images> {
        let count = self.count()?;
        let missing: Vec<Shard> =
            Shard::all(count).filter(|shard| !self.path(*shard).exists()).collect();
        if let Some(first) = missing.first() {
            let parts = counted(missing.len() as u64, "part");
            let name = self.path(*first);
            let name = name.file_name().unwrap_or_default().to_string_lossy();
            let problem = format!("{parts} of {count} missing, `{name}` first");
            return Err(Error::malformed(self.folder, problem)
                .with_hint(format!("run this command with `shard` {first}, then again without")));
        }
        let [c, h, w] = self.image_shape;
        let mut samples = Images::zeros([0, c, h, w]);
        for shard in Shard::all(count) {
            samples.append(&self.read(shard)?)?;
        }
        Ok(samples)
    }

    /// Of how many parts there are any in the folder.
    fn count(&self) -> Result<u32> {
        let refused = |source| Error::io("read", self.folder, source);
        let mut counts = Vec::new();
        for entry in std::fs::read_dir(self.folder).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name();
            let shard = name.to_str().and_then(|name| {
                let name = name.strip_prefix("part-")?.strip_suffix(".safetensors")?;
                name.replacen("-of-", "/", 1).parse::<Shard>().ok()
            });
            counts.extend(shard.map(Shard::count));
        }
        counts.sort_unstable();
        counts.dedup();
        match counts[..] {
            [count] => Ok(count),
            [] => Err(Error::malformed(self.folder, "holds no part of an evaluation")
                .with_hint("run this command with `shard` 0/N, 1/N, …, then again without")),
            [one, other, ..] => {
                let problem =
                    format!("holds parts of {one} and of {other}; expected of one number");
                Err(Error::malformed(self.folder, problem).with_hint("remove those of one of them"))
            }
        }
    }
}
