//! `[[camera.view]]`: names, sizes and formats, each checked.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use serde_spanned::Spanned;

use super::super::error::Problem;
use super::super::raw::{Field, RawStream, RawView};
use super::super::view::{Fit, View, ViewFormat};
use super::Resolver;

impl Resolver<'_> {
    /// The views of one stream; of those with a problem, none.
    pub(super) fn views(&mut self, raw: &RawStream, camera: Option<&str>) -> Vec<View> {
        if let Some(extra) = raw.view.get(View::MAX_VIEWS) {
            self.problems.push(
                Problem::new("too many views", extra.span.clone())
                    .camera(camera)
                    .label(format!("a stream has at most {}", View::MAX_VIEWS)),
            );
        }
        let mut names = HashMap::new();
        raw.view
            .iter()
            .take(View::MAX_VIEWS)
            .filter_map(|view| {
                let name = self.name_of(
                    (&view.name, &view.span),
                    ("[[camera.view]]", "detect", "view"),
                    camera,
                    &mut names,
                );
                self.view(name, view, camera)
            })
            .collect()
    }

    /// A camera with streams has its views in them: which stream would they be made from?
    pub(super) fn no_views(&mut self, raw: &RawStream, first: Option<&RawStream>) {
        let Some(view) = raw.view.first() else {
            return;
        };
        let camera = raw.name.set().map(|name| name.get_ref().as_str());
        let mut problem = Problem::new("both `view` and `stream` are written", view.span.clone())
            .camera(camera)
            .label("a camera with streams has its views in them: [[camera.stream.view]]");
        if let Some(first) = first {
            problem = problem.related(first.span.clone(), "the first stream");
        }
        self.problems.push(problem);
    }

    fn view(&mut self, name: Option<String>, raw: &RawView, camera: Option<&str>) -> Option<View> {
        let sides = View::MIN_SIDE..=View::MAX_SIDE;
        let missing = |key: &str, like: &str| {
            Problem::new(format!("`{key}` is missing"), raw.span.clone())
                .camera(camera)
                .label(format!("needs `{key} = {like}`"))
        };
        for (absent, key, like) in [
            (raw.width.is_absent(), "width", "640"),
            (raw.height.is_absent(), "height", "360"),
            (raw.format.is_absent(), "format", "\"rgb24\""),
        ] {
            if absent {
                self.problems.push(missing(key, like));
            }
        }
        let formats = ViewFormat::ALL.map(|format| (format.name(), format));
        let fits = [Fit::Stretch, Fit::Letterbox].map(|fit| (fit.name(), fit));
        let format = self.word("format", &raw.format, &formats, camera);
        let fit = self.word("fit", &raw.fit, &fits, camera);
        let fps = self.view_fps(&raw.fps, camera);
        let width = self.side("width", &raw.width, &sides, format, camera);
        let height = self.side("height", &raw.height, &sides, format, camera);
        Some(View {
            name: name?,
            width: width?,
            height: height?,
            format: format?,
            fps,
            fit: fit.unwrap_or(Fit::Stretch),
        })
    }

    fn side(
        &mut self,
        key: &str,
        written: &Field<i64>,
        allowed: &RangeInclusive<u32>,
        format: Option<ViewFormat>,
        camera: Option<&str>,
    ) -> Option<u32> {
        let side = self.number(key, written, allowed.clone(), camera)?;
        if let Some(format) = format.filter(|format| format.halves_chroma())
            && !side.is_multiple_of(2)
            && let Some(span) = written.set().map(Spanned::span)
        {
            self.problems.push(
                Problem::new(format!("`{key}` is odd"), span)
                    .camera(camera)
                    .label(format!(
                        "must be even for {}, which has one colour sample for two pixels",
                        format.name()
                    )),
            );
            return None;
        }
        Some(side)
    }

    fn view_fps(&mut self, written: &Field<f64>, camera: Option<&str>) -> Option<f32> {
        let written = written.set()?;
        let fps = *written.get_ref();
        if fps == 0.0 {
            return None;
        }
        if (View::MIN_FPS..=View::MAX_FPS).contains(&fps) {
            return Some(fps as f32);
        }
        self.problems.push(
            Problem::new("`fps` is out of range", written.span())
                .camera(camera)
                .label(format!(
                    "must be 0 for all frames, or from {} to {}",
                    View::MIN_FPS,
                    View::MAX_FPS
                )),
        );
        None
    }
}
