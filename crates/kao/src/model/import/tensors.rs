//! Which of a file's tensors are a network's, under whatever names, and what is missing.

use super::weight_sets::{self, CheckpointWeights, Selection};
use super::{diffusers, pytorch_ddpm};
use crate::formats::{LoadReport, NamedTensors};
use crate::model::ModelConfig;

/// How a file's tensors compare with what its configuration asks for, and what was taken off their
/// names or chosen for it.
pub fn compare(config: &ModelConfig, tensors: &[(&str, &[usize])]) -> (LoadReport, Vec<String>) {
    let is_of_diffusers = diffusers::is_of_diffusers(tensors.iter().map(|(name, _)| *name));
    let current = current_names(tensors.iter().map(|(name, _)| *name));
    let names: Vec<&str> = current.iter().map(String::as_str).collect();
    let selection = select(config, &names, CheckpointWeights::Average);
    let listed: Vec<_> = names
        .iter()
        .zip(tensors)
        .filter_map(|(name, &(_, shape))| Some((selection.listed_name(name)?, shape)))
        .collect();
    let report = match is_of_diffusers {
        true => compare_with(&diffusers::tensors(&config.unet), &listed),
        false => compare_named(config, &listed),
    };
    (report, selection.choice.into_iter().chain(selection.notes).collect())
}

/// What the names of a file become before a network's are looked for among them: those of earlier
/// versions, and of pytorch-ddpm, are the current ones, and the original's.
fn current_name<'a>(names: impl Iterator<Item = &'a str> + Clone) -> fn(&str) -> String {
    if diffusers::is_of_diffusers(names.clone()) {
        diffusers::current_name
    } else if pytorch_ddpm::is_one(names) {
        pytorch_ddpm::original_name
    } else {
        str::to_owned
    }
}

/// The names of a file as they are called now.
pub fn current_names<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let rename = current_name(names.clone());
    names.map(rename).collect()
}

/// Tensors under their current names.
pub fn with_current_names(tensors: NamedTensors) -> NamedTensors {
    let names: Vec<String> = tensors.names().map(str::to_owned).collect();
    let rename = current_name(names.iter().map(String::as_str));
    tensors.renamed(|name| Some(rename(name)))
}

/// Which of a file's tensors are those of the network.
pub fn select(config: &ModelConfig, names: &[&str], which: CheckpointWeights) -> Selection {
    if diffusers::is_of_diffusers(names.iter().copied()) {
        let expected = diffusers::tensors(&config.unet);
        let expected: Vec<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        return weight_sets::select(&expected, &[], names, which);
    }
    let expected = config.unet.tensors();
    let expected: Vec<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    // The last one is the time table, which is computed where the file has none.
    let (optional, needed) = expected
        .split_last()
        .map_or((&[][..], &[][..]), |(last, rest)| (std::slice::from_ref(last), rest));
    weight_sets::select(needed, optional, names, which)
}

/// How a file's tensors, named as the network names them, compare with what `config` asks for.
pub fn compare_named(config: &ModelConfig, tensors: &[(&str, &[usize])]) -> LoadReport {
    let expected = expected_tensors(config, |name| tensors.iter().any(|(found, _)| *found == name));
    compare_with(&expected, tensors)
}

/// How tensors, named as diffusers names them, compare with what `config` asks for.
pub fn compare_there(config: &ModelConfig, tensors: &NamedTensors) -> LoadReport {
    let shapes: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor.shape())).collect();
    compare_with(&diffusers::tensors(&config.unet), &shapes)
}

fn compare_with(expected: &[(String, Vec<usize>)], tensors: &[(&str, &[usize])]) -> LoadReport {
    let expected = expected.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
    LoadReport::compare_shapes(expected, tensors.iter().copied())
}

fn expected_tensors(
    config: &ModelConfig,
    is_there: impl Fn(&str) -> bool,
) -> Vec<(String, Vec<usize>)> {
    let mut expected = config.unet.tensors();
    // The last one is the time table, which is computed where the file has none.
    if !expected.last().is_some_and(|(name, _)| is_there(name)) {
        expected.pop();
    }
    expected
}
