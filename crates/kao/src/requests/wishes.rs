//! What images are asked to show: tags, guidance, and a grid over two lists of tags.

use super::{Estimate, Provenance};
use crate::denoiser::{Conditions, Denoiser};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::read_to_string_regular;
use crate::guidance::{GuidanceConfig, Guided, Negative};
use crate::model::{Model, ModelConfig};
use crate::noise::ImageNumbers;
use crate::quantities::counted;
use crate::sampler::DefaultGuide;
use crate::unet::UNetConfig;
use crate::vocabulary::Vocabulary;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Guidance where tags are asked for or avoided and nobody says how strong.
const TAG_GUIDANCE: f64 = 2.0;
/// The same where a weaker model guides.
const AUTOGUIDANCE: f64 = 1.5;

/// The longest file of tags.
const MAX_TAGS_BYTES: u64 = 16 << 20;
/// The most images that a file or two lists can ask for.
const MAX_IMAGES: usize = 1 << 20;

/// What images are asked to show. Tags are those of the model, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Tags of every image.
    pub tags: Option<String>,
    /// Tags that guidance leads away from.
    pub avoid: Option<String>,
    /// A text file with the tags of each image, one line for each; an empty line asks for nothing.
    pub tags_from: Option<PathBuf>,
    /// A tag for each row of a grid; several tags of one row are joined by `+`.
    pub rows: Option<String>,
    /// A tag for each column of the grid.
    pub columns_of: Option<String>,
    /// How strongly images are led to what is asked for; 1 is no guidance. By default as the model
    /// says; otherwise 2 with tags, 1.5 with `guide`. It takes a second evaluation of a network in
    /// each.
    pub guidance: Option<f64>,
    /// How far guided predictions are scaled back to the spread of those without, 0 to 1.
    pub guidance_rescale: f64,
    /// The noise levels, from σ to σ, between which guidance acts; by default all.
    pub guidance_interval: Option<[f64; 2]>,
    /// A weaker model to lead away from (autoguidance); it needs no tags.
    pub guide: Option<PathBuf>,
    /// The guide that the model has by default, where it guides; see [`of_model`](Self::of_model).
    #[serde(skip)]
    pub own_guide: Option<DefaultGuide>,
    /// Whether images are asked for tags that are not among these fields, such as those of pictures.
    #[serde(skip)]
    pub asks_for_others: bool,
}

impl Wishes {
    /// Nothing is asked for, and nothing guides, whatever the model says.
    pub fn unguided() -> Self {
        Wishes { guidance: Some(1.0), ..Wishes::default() }
    }

    /// Checks what can be told without a model.
    ///
    /// # Errors
    /// Names the field.
    pub fn validate(&self) -> Result<()> {
        self.config().validate()?;
        let is_grid = self.rows.is_some() || self.columns_of.is_some();
        if is_grid && self.tags_from.is_some() {
            let problem = "only applies without `rows` and `columns_of`, which also say what each \
                           image is to show";
            return Err(Error::invalid("tags_from", problem));
        }
        for (field, list) in [
            ("tags", &self.tags),
            ("avoid", &self.avoid),
            ("rows", &self.rows),
            ("columns_of", &self.columns_of),
        ] {
            if list.as_ref().is_some_and(|list| cells(list).next().is_none()) {
                return Err(Error::invalid(field, "names no tag; expected one or more"));
            }
        }
        if self.avoid.is_none() {
            return Ok(());
        }
        if self.guide.is_some() {
            let problem = "has no effect with `guide`, a model that images are led away from in the \
                           place of tags";
            return Err(Error::invalid("avoid", problem));
        }
        match self.config().is_none() {
            true => Err(Error::invalid("avoid", "has no effect at a guidance of 1")),
            false => Ok(()),
        }
    }

    /// The same for a model that has this guide by `default`: guided by it where its noise levels are,
    /// and by what tags ask for, unless another guide is asked for or no guidance.
    ///
    /// # Errors
    /// When settings of guidance are given and nothing guides.
    pub fn of_model(&self, default: Option<DefaultGuide>) -> Result<Self> {
        let is_left_open = self.guide.is_none() && self.guidance != Some(1.0);
        let wishes = Wishes { own_guide: default.filter(|_| is_left_open), ..self.clone() };
        if wishes.own_guide.is_some() {
            return Ok(wishes);
        }
        if wishes.config().is_none() {
            let only = "only applies with guidance, which tags or a weaker model bring";
            if self.guidance_rescale != 0.0 {
                return Err(Error::invalid("guidance_rescale", only));
            }
            if self.guidance_interval.is_some() {
                return Err(Error::invalid("guidance_interval", only));
            }
        } else if !wishes.asks_for_tags() && wishes.guide.is_none() {
            let problem = "only applies with tags that are asked for or avoided, or with `guide`";
            return Err(Error::invalid("guidance", problem));
        }
        Ok(wishes)
    }

    /// Whether tags are asked for or avoided.
    fn asks_for_tags(&self) -> bool {
        let texts = [&self.tags, &self.avoid, &self.rows, &self.columns_of];
        let is_any = texts.into_iter().any(Option::is_some);
        self.tags_from.is_some() || self.asks_for_others || is_any
    }

    /// The guidance that was asked for: by tags, or by the guide that was named. Without tags, the
    /// settings are those of a model's own guide where it has one.
    pub(super) fn config(&self) -> GuidanceConfig {
        let (asks, own) = (self.asks_for_tags(), self.own_guide);
        let scale = match (&self.guide, asks, own) {
            (None, false, Some(_)) => 1.0,
            (Some(_), _, _) => self.guidance.unwrap_or(AUTOGUIDANCE),
            (None, true, _) => self.guidance.unwrap_or(TAG_GUIDANCE),
            (None, false, None) => self.guidance.unwrap_or(1.0),
        };
        let interval = self.guidance_interval;
        GuidanceConfig { scale, rescale: self.guidance_rescale, interval }
    }

    /// The guidance by the model's own guide, where it guides.
    fn own_config(&self) -> Option<GuidanceConfig> {
        let DefaultGuide { guidance, below, .. } = self.own_guide?;
        let by_default =
            GuidanceConfig { scale: guidance, interval: Some([0.0, below]), rescale: 0.0 };
        Some(match self.asks_for_tags() {
            true => by_default,
            false => GuidanceConfig {
                scale: self.guidance.unwrap_or(guidance),
                interval: self.guidance_interval.or(by_default.interval),
                rescale: self.guidance_rescale,
            },
        })
    }

    /// The weaker model that is read.
    fn guide_path(&self) -> Option<PathBuf> {
        match self.own_guide {
            Some(guide) => Some(PathBuf::from(guide.model.name())),
            None => self.guide.clone().filter(|_| !self.config().is_none()),
        }
    }

    /// Evaluations of the network in the place of one; those of a guide of its own are not counted.
    pub fn evaluations(&self) -> usize {
        if self.config().is_none() { 1 } else { 2 }
    }

    /// `estimate`, which is that of a network alone, with what guidance adds at most.
    pub(super) fn added_to(&self, estimate: Estimate, unet: &UNetConfig) -> Estimate {
        // What cannot be read is told when it is needed.
        let of_guide = self.guide_path().map(|path| {
            ModelConfig::of(&path).map_or(1.0, |guide| {
                guide.unet.cpu_forward_flop() as f64 / unet.cpu_forward_flop() as f64
            })
        });
        let is_by_tags = self.guide.is_none() && !self.config().is_none();
        let of_tags = if is_by_tags { 1.0 } else { 0.0 };
        Estimate {
            n_evaluations: estimate.n_evaluations.saturating_mul(self.evaluations() as u64),
            operations: estimate.operations * (1.0 + of_guide.unwrap_or(0.0)) * (1.0 + of_tags),
            ..estimate
        }
    }

    /// How many columns the grid of two lists has; none where there are no two lists.
    pub fn grid_columns(&self) -> Option<usize> {
        self.columns_of.as_deref().map(|list| cells(list).count())
    }

    /// How many images the lists or the file ask for, where there are any.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn n_images(&self) -> Result<Option<usize>> {
        if let Some(path) = &self.tags_from {
            return lines_of(path).map(|lines| Some(lines.len()));
        }
        let n = |list: &Option<String>| list.as_deref().map_or(1, |list| cells(list).count());
        let is_grid = self.rows.is_some() || self.columns_of.is_some();
        let n_images = n(&self.rows).saturating_mul(n(&self.columns_of));
        if n_images > MAX_IMAGES {
            let problem = format!("a grid of {n_images} images; expected at most {MAX_IMAGES}");
            return Err(Error::invalid("rows", problem));
        }
        Ok(is_grid.then_some(n_images))
    }

    /// The conditions of `count` images of a model that knows `vocabulary`.
    ///
    /// # Errors
    /// When the model does not know a tag, the nearest of which are named; or the number of images is
    /// not that of the lists or of the file.
    pub fn conditions(&self, vocabulary: &Vocabulary, count: usize) -> Result<Conditions> {
        if !self.asks_for_tags() {
            return Ok(Conditions::none());
        }
        if let Some(n_images) = self.n_images()?.filter(|&n| n != count) {
            let images = counted(n_images as u64, "image");
            let allowed = format!("{n_images}, since tags are given for {images}");
            return Err(Error::out_of_range("count", count, allowed));
        }
        let find = |field: &str, text: &Option<String>| {
            text.as_deref().map_or(Ok(Vec::new()), |text| vocabulary.find(field, text))
        };
        let list = |field: &str, text: &Option<String>| -> Result<Vec<Vec<usize>>> {
            match text.as_deref() {
                None => Ok(vec![Vec::new()]),
                Some(text) => cells(text)
                    .map(|cell| vocabulary.find(field, &cell.replace('+', ",")))
                    .collect(),
            }
        };
        let own: Vec<Vec<usize>> = match &self.tags_from {
            Some(path) => {
                let lines = lines_of(path)?;
                let numbered = lines.iter().enumerate();
                numbered
                    .map(|(k, line)| {
                        vocabulary.find(&format!("line {}", k + 1), line).map_err(|error| {
                            let hint = error.hint().unwrap_or_default().to_owned();
                            Error::malformed(path, error).with_hint(hint)
                        })
                    })
                    .collect::<Result<_>>()?
            }
            None if self.rows.is_some() || self.columns_of.is_some() => {
                let columns = list("columns_of", &self.columns_of)?;
                let rows = list("rows", &self.rows)?;
                rows.iter()
                    .flat_map(|row| columns.iter().map(|column| [&row[..], column].concat()))
                    .collect()
            }
            None => vec![Vec::new(); count],
        };
        let common = find("tags", &self.tags)?;
        let tags = own.into_iter().map(|own| {
            let mut tags = [own, common.clone()].concat();
            tags.sort_unstable();
            tags.dedup();
            tags
        });
        let avoid = find("avoid", &self.avoid)?;
        Ok(Conditions::new(tags.collect()).avoiding(vec![avoid; count]))
    }

    /// The conditions of the images of these numbers: where lists or a file say what each image is
    /// to show, image k is the k-th of them.
    ///
    /// # Errors
    /// As [`conditions`](Self::conditions).
    pub fn conditions_of(
        &self,
        vocabulary: &Vocabulary,
        numbers: &ImageNumbers,
    ) -> Result<Conditions> {
        match (self.n_images()?, numbers) {
            (None, _) | (_, ImageNumbers::From { first: 0, .. }) => {
                self.conditions(vocabulary, numbers.len())
            }
            (Some(n_images), _) => {
                let all = self.conditions(vocabulary, n_images)?;
                // Numbers were chosen among them.
                let indices: Vec<usize> = numbers.iter().map(|number| number as usize).collect();
                Ok(all.chosen(indices.into_iter()))
            }
        }
    }

    /// What each image is asked to show, in words, where lists or a file say so of each and labels
    /// are `wanted`; otherwise empty.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn labels(&self, wanted: bool) -> Result<Vec<String>> {
        if !wanted {
            return Ok(Vec::new());
        }
        if let Some(path) = &self.tags_from {
            return lines_of(path);
        }
        if self.rows.is_none() && self.columns_of.is_none() {
            return Ok(Vec::new());
        }
        let list = |list: &Option<String>| -> Vec<String> {
            list.as_deref().map_or(vec![String::new()], |list| {
                cells(list).map(|cell| cell.replace('+', ", ")).collect()
            })
        };
        let (rows, columns) = (list(&self.rows), list(&self.columns_of));
        let of = |row: &String| {
            let joined = |column: &String| match row.is_empty() || column.is_empty() {
                true => format!("{row}{column}"),
                false => format!("{row}, {column}"),
            };
            columns.iter().map(joined).collect::<Vec<_>>()
        };
        Ok(rows.iter().flat_map(of).collect())
    }

    /// Loads the weaker model, which must fit `model`.
    ///
    /// # Errors
    /// When it cannot be read; when its images or its noise schedule are others.
    pub fn load_guide(&self, model: &ModelConfig, device: &Device) -> Result<Option<Model>> {
        let Some(path) = self.guide_path() else { return Ok(None) };
        let guide = Model::load(&path, device)?;
        let (found, expected) = (&guide.config, model);
        let problem = if found.unet.image_size != expected.unet.image_size {
            let (found, expected) = (found.unet.image_size, expected.unet.image_size);
            format!("its images are {found:?}; those of the model it is to guide {expected:?}")
        } else if !found.schedule.agrees_with(&expected.schedule) {
            format!(
                "its noise schedule is {}; that of the model it is to guide {}",
                found.schedule, expected.schedule
            )
        } else {
            return Ok(Some(guide));
        };
        Err(Error::malformed(path, problem))
    }

    /// `model`, guided as asked for; itself where no guidance is.
    ///
    /// # Errors
    /// When the guide predicts something else.
    pub fn guided<'a>(
        &self,
        model: &'a Model,
        guide: Option<&'a Model>,
    ) -> Result<Box<dyn Denoiser + 'a>> {
        let config = self.config();
        let Some(guide) = guide else {
            let guided = Guided::new(&model.network, Negative::Same, &model.schedule, config)?;
            return Ok(Box::new(guided));
        };
        let tags = model.config.tags.tags().iter();
        let tags = tags.map(|tag| guide.config.tags.number(&tag.tag)).collect();
        let weaker = Negative::Weaker { denoiser: &guide.network, tags };
        let own = self.own_config();
        let by_guide = own.unwrap_or(config);
        let guided = Guided::new(&model.network, weaker, &model.schedule, by_guide)?;
        Ok(Box::new(match own {
            Some(_) if !config.is_none() => guided.and_by_tags(config)?,
            _ => guided,
        }))
    }

    /// What was asked for, in a few words; none where nothing was.
    pub fn summary(&self) -> Option<String> {
        let tags = match (&self.tags, &self.tags_from) {
            (_, Some(path)) => Some(format!("tags of {}", path.display())),
            (Some(tags), None) => Some(tags.clone()),
            (None, None) => None,
        };
        let lists = [&self.rows, &self.columns_of].into_iter().flatten().cloned();
        let words: Vec<String> = tags.into_iter().chain(lists).collect();
        let guidance = (!self.config().is_none()).then(|| match &self.guide {
            Some(guide) => format!("guided by {}, {}", guide.display(), self.config().scale),
            None => format!("guidance {}, twice the evaluations", self.config().scale),
        });
        let own = self.own_guide.zip(self.own_config());
        let own = own
            .map(|(guide, config)| format!("guided by {}, {}", guide.model.name(), config.scale));
        let guidance = guidance.into_iter().chain(own);
        let words: Vec<String> =
            (!words.is_empty()).then(|| words.join(" × ")).into_iter().chain(guidance).collect();
        (!words.is_empty()).then(|| words.join(" · "))
    }

    /// What was asked for, for the texts of pictures.
    pub(super) fn describe(&self, mut provenance: Provenance) -> Provenance {
        let texts = [
            ("tags", &self.tags),
            ("avoid", &self.avoid),
            ("rows", &self.rows),
            ("columns_of", &self.columns_of),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                provenance = provenance.with(key, text);
            }
        }
        for (key, path) in [("tags_from", &self.tags_from), ("guide", &self.guide)] {
            if let Some(path) = path {
                provenance = provenance.with_path(key, path);
            }
        }
        if let Some((guide, config)) = self.own_guide.zip(self.own_config()) {
            provenance = provenance.with("own_guide", guide.model.name());
            provenance = provenance.with("own_guidance", config.scale);
            if let Some([low, high]) = config.interval {
                provenance = provenance.with("own_guidance_interval", format!("{low} {high}"));
            }
            if config.rescale > 0.0 {
                provenance = provenance.with("guidance_rescale", config.rescale);
            }
        }
        let config = self.config();
        if !config.is_none() {
            provenance = provenance.with("guidance", config.scale);
            if config.rescale > 0.0 {
                provenance = provenance.with("guidance_rescale", config.rescale);
            }
            if let Some([low, high]) = config.interval {
                provenance = provenance.with("guidance_interval", format!("{low} {high}"));
            }
        }
        provenance
    }

    /// The models that are read besides the one that samples.
    pub(super) fn inputs(&self) -> [(&'static str, Option<&Path>); 2] {
        [("tags_from", self.tags_from.as_deref()), ("guide", self.guide.as_deref())]
    }
}

/// The entries of a list.
fn cells(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|cell| !cell.is_empty())
}

fn lines_of(path: &Path) -> Result<Vec<String>> {
    let text = read_to_string_regular(path, MAX_TAGS_BYTES)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match lines.len() {
        0 => Err(Error::malformed(path, "holds no line; expected one for each image")),
        n if n > MAX_IMAGES => {
            Err(Error::malformed(path, format!("{n} lines; expected at most {MAX_IMAGES}")))
        }
        _ => Ok(lines),
    }
}

/// What stands under an image: what it was asked to show where images are asked for different things,
/// otherwise its number.
pub(super) fn label(number: u64, wishes: &[String]) -> String {
    wish(number, wishes).map_or_else(|| number.to_string(), str::to_owned)
}

/// What the image of this number is asked to show, where images are asked for different things.
pub(super) fn wish(number: u64, wishes: &[String]) -> Option<&str> {
    wishes.get(usize::try_from(number).ok()?).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BUILT_IN_GUIDE;
    use crate::sampler::GuideModel;
    use crate::train::Preset;
    use crate::vocabulary::TagCount;

    fn vocabulary() -> Vocabulary {
        let tags = ["blue hair", "red hair", "smile", "sad", "hat"];
        let tags = tags.map(|tag| TagCount { tag: tag.to_owned(), count: 9 });
        Vocabulary::new(tags.into()).unwrap()
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_grid_has_every_pair_of_its_lists() {
        let wishes = Wishes {
            rows: text("blue hair, red hair + hat"),
            columns_of: text("smile,sad,"),
            tags: text("hat"),
            ..Wishes::default()
        };
        assert_eq!((wishes.n_images().unwrap(), wishes.grid_columns()), (Some(4), Some(2)));
        let conditions = wishes.conditions(&vocabulary(), 4).unwrap();
        let expected: [&[usize]; 4] = [&[0, 2, 4], &[0, 3, 4], &[1, 2, 4], &[1, 3, 4]];
        for (k, expected) in expected.into_iter().enumerate() {
            assert_eq!(conditions.of(k), expected);
        }
        let error = wishes.conditions(&vocabulary(), 5).unwrap_err().to_string();
        assert!(error.contains("count 5: must be 4"), "{error}");
    }

    #[test]
    fn each_line_of_a_file_is_an_image() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "smile\n\nred hair, sad\n").unwrap();
        let wishes = Wishes {
            tags_from: Some(file.path().to_path_buf()),
            avoid: text("hat"),
            ..Wishes::default()
        };
        let conditions = wishes.conditions(&vocabulary(), 3).unwrap();
        assert_eq!(
            (conditions.of(0), conditions.of(1), conditions.of(2)),
            (&[2][..], &[][..], &[1, 3][..])
        );
        assert_eq!(conditions.avoided_of(1), [4]);
        std::fs::write(file.path(), "smile\nsmle\n").unwrap();
        let error = wishes.conditions(&vocabulary(), 2).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert_eq!(error.hint(), Some("did you mean `smile`?"));
    }

    #[test]
    fn wishes_that_do_nothing_are_refused() {
        let cases = [
            (Wishes { guidance: Some(3.0), ..Wishes::default() }, "guidance"),
            (Wishes { guidance: Some(1.0), avoid: text("hat"), ..Wishes::default() }, "avoid"),
            (
                Wishes { guide: Some("weak".into()), avoid: text("hat"), ..Wishes::default() },
                "avoid",
            ),
            (Wishes { rows: text(" , "), ..Wishes::default() }, "rows"),
            (Wishes { tags: text(""), ..Wishes::default() }, "tags"),
            (Wishes { avoid: text(","), ..Wishes::default() }, "avoid"),
            (Wishes { guidance_rescale: 0.5, ..Wishes::default() }, "guidance_rescale"),
            (
                Wishes { guidance_interval: Some([0.0, 1.0]), ..Wishes::default() },
                "guidance_interval",
            ),
            (
                Wishes { rows: text("hat"), tags_from: Some("x".into()), ..Wishes::default() },
                "tags_from",
            ),
            (
                Wishes { tags: text("hat"), guidance: Some(f64::NAN), ..Wishes::default() },
                "guidance",
            ),
        ];
        for (wishes, field) in cases {
            let error = wishes.validate().and_then(|()| wishes.of_model(None)).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
        }
        for (wishes, evaluations) in [
            (Wishes::default(), 1),
            (Wishes { tags: text("hat"), ..Wishes::default() }, 2),
            (Wishes { tags: text("hat"), guidance: Some(1.0), ..Wishes::default() }, 1),
            (Wishes { guide: Some("weak".into()), ..Wishes::default() }, 2),
        ] {
            wishes.validate().unwrap();
            assert_eq!(wishes.of_model(None).unwrap(), wishes);
            assert_eq!(wishes.evaluations(), evaluations);
        }
    }

    #[test]
    fn the_guide_of_a_model_is_used_unless_something_else_is_asked_for() {
        let model = GuideModel::BuiltInGuide;
        let default = Some(DefaultGuide { model, guidance: 1.75, below: 0.5 });
        // What acts by its guide, and what by tags or another guide: scale and noise levels.
        let of = |wishes: Wishes| {
            let wishes = wishes.of_model(default).unwrap();
            // Asking again changes nothing.
            assert_eq!(wishes.of_model(default).unwrap(), wishes);
            let config = Some(wishes.config()).filter(|config| !config.is_none());
            let part = |config: GuidanceConfig| (config.scale, config.interval);
            (wishes.own_config().map(part), config.map(part), wishes.evaluations())
        };
        let own = Some((1.75, Some([0.0, 0.5])));
        assert_eq!(of(Wishes::default()), (own, None, 1));
        let tags = Wishes { tags: text("hat"), ..Wishes::default() };
        assert_eq!(of(tags.clone()), (own, Some((TAG_GUIDANCE, None)), 2));
        assert_eq!(of(Wishes { guidance: Some(4.0), ..tags.clone() }), (own, Some((4.0, None)), 2));
        let avoid = Wishes { avoid: text("hat"), ..Wishes::default() };
        assert_eq!(of(avoid), (own, Some((TAG_GUIDANCE, None)), 2));
        // Settings of guidance are those of what was asked for, or of the guide where nothing was.
        let everywhere = Some([0.0, 9.0]);
        let wishes = Wishes { guidance_interval: everywhere, ..tags.clone() };
        assert_eq!(of(wishes), (own, Some((TAG_GUIDANCE, everywhere)), 2));
        let wishes =
            Wishes { guidance: Some(3.0), guidance_interval: everywhere, ..Wishes::default() };
        assert_eq!(of(wishes), (Some((3.0, everywhere)), None, 1));
        assert_eq!(of(Wishes::unguided()), (None, None, 1));
        assert_eq!(of(Wishes { guidance: Some(1.0), ..tags }), (None, None, 1));
        let other = Wishes { guide: Some("weak".into()), ..Wishes::default() };
        assert_eq!(of(other), (None, Some((AUTOGUIDANCE, None)), 2));
    }

    #[test]
    fn guidance_adds_to_an_estimate_what_the_other_network_takes() {
        let unet = Preset::Tiny.config().model;
        let alone = Estimate { memory_bytes: 5, n_evaluations: 10, operations: 1e9 };
        let tags = Wishes { tags: text("hat"), ..Wishes::default() };
        let twice = Estimate { n_evaluations: 20, operations: 2e9, ..alone };
        assert_eq!(tags.added_to(alone, &unet), twice);
        assert_eq!(Wishes::default().added_to(alone, &unet), alone);
        // A small guide adds little to a large network.
        let guided = Wishes { guide: Some(BUILT_IN_GUIDE.into()), ..Wishes::default() };
        let large = Preset::Anime64.config().model;
        let found = guided.added_to(alone, &large);
        assert!((1.0..1.1).contains(&(found.operations / 1e9)), "{found:?}");
        assert_eq!(found.n_evaluations, 20);
    }
}
