//! Pictures that come with the program, for trying it out anywhere.
//!
//! Where they are from and whose they are, `testdata/SOURCES.md` says.

/// A picture with its file name.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The name of the file.
    pub name: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
}

/// All of them.
pub const SAMPLES: [Sample; 4] = [
    Sample { name: "chelsea.png", bytes: include_bytes!("../testdata/chelsea.png") },
    Sample {
        name: "hubble_deep_field.jpg",
        bytes: include_bytes!("../testdata/hubble_deep_field.jpg"),
    },
    Sample { name: "moon.png", bytes: include_bytes!("../testdata/moon.png") },
    Sample { name: "rocket.jpg", bytes: include_bytes!("../testdata/rocket.jpg") },
];
