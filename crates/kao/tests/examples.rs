//! The examples run.

#[path = "../examples/train_in_memory.rs"]
#[allow(dead_code)]
mod train_in_memory;

#[test]
fn training_on_images_in_memory_leaves_a_model_and_a_grid() {
    let folder = tempfile::tempdir().unwrap();
    train_in_memory::run(folder.path()).unwrap();
    let model = kao::model::ModelConfig::of(&folder.path().join("faces16.safetensors")).unwrap();
    assert_eq!(model.unet.image_size, [3, 16, 16]);
    assert_eq!(model.training["steps"], 100);
    let grid = image::open(folder.path().join("faces16.png")).unwrap();
    assert!(grid.width() > 8 * 16 && grid.height() > 2 * 16);
}
