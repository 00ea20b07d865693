//! What a job leaves: sets of images, and facts.

use kao::render::{self, Layout, Sheet};
use kao::{Images, Result};
use serde_json::{Value, json};
use std::sync::Arc;

/// What a job leaves.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// The images by the name of their set; the first set is the result, the others show more.
    pub sets: Vec<Arc<Set>>,
    /// What else there is to know, for programs and pages.
    pub facts: Value,
    /// In a few words.
    pub summary: String,
}

/// Images that belong together.
#[derive(Debug)]
pub struct Set {
    /// Lowercase words: `images`, `snapshot-3`.
    pub name: String,
    /// `[N, C, H, W]`.
    pub images: Images,
    /// Columns of their grid.
    pub n_columns: usize,
    /// What stands where on the grid, where it is more than the images one after the other.
    pub sheet: Option<SheetPlaces>,
    /// The texts of the grid's picture.
    pub texts: Vec<(String, String)>,
    /// The command lines that make the images one by one; none where there is no such.
    pub commands: Vec<String>,
}

/// A grid with other images among those of the set, or some of them twice.
#[derive(Debug)]
pub struct SheetPlaces {
    /// Images that are counted before those of the set.
    pub others: Images,
    /// Row by row, the position of each image; places without one stay empty.
    pub places: Vec<Option<usize>>,
    /// Columns.
    pub n_columns: usize,
}

impl Output {
    /// Bytes of all images.
    pub fn n_bytes(&self) -> usize {
        self.sets.iter().map(|set| size_of_val(set.images.data())).sum()
    }

    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().map(Arc::as_ref).find(|set| set.name == name)
    }

    pub fn to_json(&self) -> Value {
        self.to_json_from(0)
    }

    /// The same, of the sets from this one on.
    pub fn to_json_from(&self, first: usize) -> Value {
        let sets = self.sets.iter().skip(first).map(|set| {
            let [n, channels, height, width] = set.images.shape();
            json!({
                "name": set.name,
                "count": n,
                "channels": channels,
                "height": height,
                "width": width,
                "columns": set.n_columns.min(n),
                "commands": set.commands,
            })
        });
        json!({
            "sets": sets.collect::<Vec<_>>(),
            "facts": self.facts,
            "summary": self.summary,
        })
    }
}

impl Set {
    /// A set without command lines.
    pub fn new(
        name: impl Into<String>,
        images: Images,
        n_columns: usize,
        texts: Vec<(String, String)>,
    ) -> Self {
        Set { name: name.into(), images, n_columns, texts, sheet: None, commands: Vec::new() }
    }

    /// The grid, as the terminal writes it.
    pub fn grid_png(&self) -> Result<Vec<u8>> {
        let grid = match &self.sheet {
            None => render::grid(&self.images, self.n_columns, &Layout::default())?,
            Some(SheetPlaces { others, places, n_columns }) => {
                let mut all = others.clone();
                all.append(&self.images)?;
                let sheet = Sheet::grid(1, *n_columns, Layout::default());
                Sheet { places: places.clone(), ..sheet }.draw(&all)?
            }
        };
        render::png_bytes(&grid, &self.texts)
    }

    /// Image `index` alone; none where there are fewer.
    pub fn image_png(&self, index: usize) -> Option<Result<Vec<u8>>> {
        if index >= self.images.len() {
            return None;
        }
        let one = self.images.slice(index..index + 1);
        let mut texts = self.texts.clone();
        if self.images.len() > 1 {
            texts.push(("position".to_owned(), index.to_string()));
        }
        let picture = render::grid(&one, 1, &Layout::default());
        Some(picture.and_then(|picture| render::png_bytes(&picture, &texts)))
    }
}
