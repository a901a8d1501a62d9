//! The types that keys have, and how each is read from TOML's syntax tree.
//!
//! Says whether a value has the right type, never whether it makes sense.

use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::DeValue;

/// A TOML value as one of the types that keys have here.
pub trait Value: Sized {
    /// Completes "must be …".
    const EXPECTED: &'static str;
    fn read(value: &DeValue<'_>) -> Option<Self>;
}

impl Value for i64 {
    const EXPECTED: &'static str = "a whole number";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        let integer = value.as_integer()?;
        // Too large for 64 bits: so far out of any range that it may be cut to the largest.
        let (text, radix) = (integer.as_str(), integer.radix());
        Some(
            i64::from_str_radix(text, radix).unwrap_or(if text.starts_with('-') {
                i64::MIN
            } else {
                i64::MAX
            }),
        )
    }
}

impl Value for f64 {
    const EXPECTED: &'static str = "a number";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(_) => i64::read(value).map(|integer| integer as f64),
            _ => None,
        }
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }
}

impl Value for String {
    const EXPECTED: &'static str = "text in quotes";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

/// `"500ms"`
#[derive(Clone, Debug)]
pub struct DurationText(pub String);

impl Value for DurationText {
    const EXPECTED: &'static str = "a duration in quotes, such as \"500ms\", \"10s\" or \"5m\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        String::read(value).map(DurationText)
    }
}

/// `"8MiB"`
#[derive(Clone, Debug)]
pub struct SizeText(pub String);

impl Value for SizeText {
    const EXPECTED: &'static str = "a size in quotes, such as \"8MiB\" or \"2GiB\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        String::read(value).map(SizeText)
    }
}

/// `"auto"` or `[0, 1]`
#[derive(Clone, Debug)]
pub enum RawCpu {
    Word(String),
    Cores(Vec<Spanned<i64>>),
}

impl Value for RawCpu {
    const EXPECTED: &'static str = "\"auto\", \"any\" or a list of cores such as [0, 1]";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        if let Some(word) = value.as_str() {
            return Some(RawCpu::Word(word.to_owned()));
        }
        let cores = value
            .as_array()?
            .iter()
            .map(|core| i64::read(core.get_ref()).map(|number| Spanned::new(core.span(), number)));
        Some(RawCpu::Cores(cores.collect::<Option<_>>()?))
    }
}

/// `2` or a word such as `"auto"`
#[derive(Clone, Debug)]
pub enum RawCount {
    Word(String),
    Number(i64),
}

impl Value for RawCount {
    const EXPECTED: &'static str = "a whole number or \"auto\"";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        match value.as_str() {
            Some(word) => Some(RawCount::Word(word.to_owned())),
            None => i64::read(value).map(RawCount::Number),
        }
    }
}

/// `["a", "b"]`
#[derive(Clone, Debug)]
pub struct TextList(pub Vec<Spanned<String>>);

impl Value for TextList {
    const EXPECTED: &'static str = "a list of texts, such as [\"https://cameras.example\"]";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        let texts = value
            .as_array()?
            .iter()
            .map(|text| String::read(text.get_ref()).map(|read| Spanned::new(text.span(), read)));
        Some(TextList(texts.collect::<Option<_>>()?))
    }
}

/// `[{ height = 720, bitrate = "2M" }]`
#[derive(Clone, Debug)]
pub struct RawRenditions(pub Vec<RawRendition>);

/// One of a list of renditions.
#[derive(Clone, Debug, Default)]
pub struct RawRendition {
    /// From brace to brace.
    pub span: Range<usize>,
    pub height: Option<Spanned<i64>>,
    pub bitrate: Option<Spanned<String>>,
    /// What is in it, but should not be: where, and what is the matter.
    pub faults: Vec<(Range<usize>, String)>,
}

impl Value for RawRenditions {
    const EXPECTED: &'static str = "a list such as [{ height = 720, bitrate = \"2M\" }]";
    fn read(value: &DeValue<'_>) -> Option<Self> {
        let mut all = Vec::new();
        for element in value.as_array()?.iter() {
            let table = element.get_ref().as_table()?;
            let mut rendition = RawRendition {
                span: element.span(),
                ..RawRendition::default()
            };
            for (key, value) in table {
                let span = value.span();
                let fault = match key.get_ref().as_ref() {
                    "height" => match i64::read(value.get_ref()) {
                        Some(height) => {
                            rendition.height = Some(Spanned::new(span, height));
                            continue;
                        }
                        None => (span, format!("`height` must be {}", i64::EXPECTED)),
                    },
                    "bitrate" => match String::read(value.get_ref()) {
                        Some(bitrate) => {
                            rendition.bitrate = Some(Spanned::new(span, bitrate));
                            continue;
                        }
                        None => (
                            span,
                            "`bitrate` must be text in quotes, such as \"2M\"".into(),
                        ),
                    },
                    _ => (
                        key.span(),
                        "a rendition has only `height` and `bitrate`".into(),
                    ),
                };
                rendition.faults.push(fault);
            }
            all.push(rendition);
        }
        Some(RawRenditions(all))
    }
}
