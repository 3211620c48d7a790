//! Writes pictures as a model will see them: cropped and resized, as PPM files.
//!
//! `cargo run --release --example prepare -- MODEL FOLDER PICTURE…`; for judging models with other
//! runtimes on exactly the same samples (tests/golden/import/judge.py).

use std::error::Error;
use std::path::Path;

use kinglet_engine::preprocess::{InputKind, Preprocessor};
use kinglet_engine::{OnnxFile, Picture};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, folder, pictures @ ..] = arguments.as_slice() else {
        return Err("usage: prepare MODEL FOLDER PICTURE…".into());
    };
    let preprocess = OnnxFile::read(Path::new(model))?.metadata()?.preprocess;
    let preprocess = preprocess.ok_or("the model does not say how pictures are prepared")?;
    let mut preprocessor = Preprocessor::new(&preprocess, InputKind::F32Nchw)?;
    let [height, width] = preprocess.size;
    std::fs::create_dir_all(folder)?;
    for picture in pictures {
        let path = Path::new(picture);
        let mut file = format!("P6\n{width} {height}\n255\n").into_bytes();
        file.extend_from_slice(preprocessor.resized(&Picture::read(path)?));
        let name = path.with_extension("ppm");
        let name = name.file_name().ok_or("a picture without a name")?;
        std::fs::write(Path::new(folder).join(name), file)?;
    }
    Ok(())
}
