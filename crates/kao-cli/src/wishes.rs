//! The arguments of commands that can be asked for something: tags and guidance.

use clap::Args;
use kao::requests::Wishes;
use std::path::PathBuf;

/// What all images are asked to show. `kao info` lists the tags of a model.
#[derive(Args)]
pub struct TagArguments {
    /// Tags that every image is to have, such as "blue hair, glasses"
    #[arg(long, value_name = "TAGS", help_heading = "Tags")]
    tags: Option<String>,
    /// Tags to lead away from
    #[arg(long, value_name = "TAGS", help_heading = "Tags")]
    avoid: Option<String>,
    /// How strongly images are led to what is asked for; 1 is no guidance. Another value doubles the
    /// evaluations of the network, unless a smaller model guides [default: as the model says; 2 with
    /// tags, 1.5 with --guide]
    #[arg(long, value_name = "SCALE", help_heading = "Tags", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// How far guided predictions are scaled back to the spread of those without, 0 to 1 (Lin et al.
    /// 2023)
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.0,
        help_heading = "Tags",
        allow_negative_numbers = true
    )]
    guidance_rescale: f64,
    /// Guide only between these noise levels (Kynkäänniemi et al. 2024)
    #[arg(long, value_names = ["SIGMA", "SIGMA"], num_args = 2, help_heading = "Tags", allow_negative_numbers = true)]
    guidance_interval: Option<Vec<f64>>,
    /// A weaker model to lead away from (autoguidance, Karras et al. 2024); it needs no tags. The
    /// built-in model has one of its own, `built-in-guide`
    #[arg(long, value_name = "MODEL", help_heading = "Tags")]
    guide: Option<PathBuf>,
}

/// What images are asked to show, each its own.
#[derive(Args)]
pub struct WishArguments {
    #[command(flatten)]
    tags: TagArguments,
    /// Text file with the tags of each image, one line for each
    #[arg(long, value_name = "FILE", help_heading = "Tags")]
    tags_from: Option<PathBuf>,
    /// A grid: a tag for each row, such as "blue hair, red hair"; `+` joins several
    #[arg(long, value_name = "TAGS", help_heading = "Tags")]
    rows: Option<String>,
    /// A grid: a tag for each column
    #[arg(long, value_name = "TAGS", help_heading = "Tags")]
    columns_of: Option<String>,
}

impl TagArguments {
    /// `wishes` with what the user typed.
    pub fn add_to(&self, wishes: Wishes) -> Wishes {
        Wishes {
            tags: self.tags.clone(),
            avoid: self.avoid.clone(),
            guidance: self.guidance,
            guidance_rescale: self.guidance_rescale,
            guidance_interval: self
                .guidance_interval
                .as_deref()
                .and_then(|ends| ends.try_into().ok()),
            guide: self.guide.clone(),
            ..wishes
        }
    }
}

impl WishArguments {
    /// What the user typed, as the library wants it.
    pub fn request(&self) -> Wishes {
        self.tags.add_to(Wishes {
            tags_from: self.tags_from.clone(),
            rows: self.rows.clone(),
            columns_of: self.columns_of.clone(),
            ..Wishes::default()
        })
    }
}
