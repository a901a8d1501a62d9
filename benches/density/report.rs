//! Figures by name, their medians over runs, and what the goals say about them.

use serde_json::{Value, json};

/// One figure of one run.
#[derive(Clone, Debug)]
pub struct Figure {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub goal: Option<Goal>,
}

/// What is promised.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Goal::AtMost(limit) => value <= limit,
            Goal::AtLeast(limit) => value >= limit,
        }
    }
}

/// All figures of a run, in the order of the table.
#[derive(Clone, Debug, Default)]
pub struct Figures(pub Vec<Figure>);

impl Figures {
    pub fn add(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.goal(name, value, unit, None);
    }

    pub fn goal(&mut self, name: &'static str, value: f64, unit: &'static str, goal: Option<Goal>) {
        self.0.push(Figure {
            name,
            value,
            unit,
            goal,
        });
    }
}

/// Several runs of one case.
#[derive(Debug)]
pub struct Report {
    pub title: String,
    pub runs: Vec<Figures>,
}

impl Report {
    fn rows(&self) -> impl Iterator<Item = (&Figure, Vec<f64>)> {
        let first = self.runs.first().map_or(&[][..], |run| &run.0);
        first.iter().map(|figure| {
            let of_run = |run: &Figures| {
                let same = run.0.iter().find(|other| other.name == figure.name);
                same.map(|other| other.value)
            };
            let mut values: Vec<f64> = self.runs.iter().filter_map(of_run).collect();
            values.sort_by(f64::total_cmp);
            (figure, values)
        })
    }

    pub fn print(&self) {
        println!("\n{}", self.title);
        for (figure, values) in self.rows() {
            let mut line = format!(
                "  {:<52} {:>9} {:<9}",
                figure.name,
                number(median(&values)),
                figure.unit
            );
            if let (Some(goal), true) = (figure.goal, median(&values).is_finite()) {
                let (sign, limit) = match goal {
                    Goal::AtMost(limit) => ("≤", limit),
                    Goal::AtLeast(limit) => ("≥", limit),
                };
                let word = if goal.met(median(&values)) {
                    "PASS"
                } else {
                    "over"
                };
                line += &format!(" {word} ({sign} {})", number(limit));
            }
            if let [low, .., high] = values[..]
                && number(low) != number(high)
            {
                line += &format!("  [{} … {}]", number(low), number(high));
            }
            println!("{}", line.trim_end());
        }
    }

    pub fn json(&self) -> Value {
        let figures: Vec<Value> = self
            .rows()
            .map(|(figure, values)| {
                let median = median(&values);
                let mut all = json!({
                    "name": figure.name, "unit": figure.unit, "median": median, "runs": values,
                });
                if let Some(goal) = figure.goal {
                    let (kind, limit) = match goal {
                        Goal::AtMost(limit) => ("at_most", limit),
                        Goal::AtLeast(limit) => ("at_least", limit),
                    };
                    all["goal"] = json!({kind: limit, "met": goal.met(median)});
                }
                all
            })
            .collect();
        json!({"case": self.title, "runs": self.runs.len(), "figures": figures})
    }
}

/// Of sorted values; of an even number the mean of the middle two. NaN of none.
pub fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle)) {
        (_, None) => f64::NAN,
        (1, Some(value)) => *value,
        (_, Some(value)) => (sorted[middle - 1] + value) / 2.0,
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".into(),
        size if size > 100.0 => format!("{value:.0}"),
        // A per cent short of 100 by a hair is not 100.
        size if size > 99.0 && value.fract() != 0.0 => format!("{value:.3}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if value.fract() == 0.0 && size < 10.0 => format!("{value:.0}"),
        _ => format!("{value:.3}"),
    }
}
