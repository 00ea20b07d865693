//! The other way: a model as a folder of diffusers.
