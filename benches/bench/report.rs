//! What was measured, as a table to read or as a document to keep.

use std::{fmt::Write, time::Duration};

use serde_json::json;

use crate::measure::Run;

/// One workload, done by a peer and by pontoon in turn.
pub(crate) struct Contest {
    pub(crate) workload: String,
    pub(crate) rows: u64,
    pub(crate) peer: &'static str,
    pub(crate) theirs: Vec<Run>,
    pub(crate) ours: Vec<Run>,
}

/// Minimum, median and maximum.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { at(middle) } else { (at(middle.saturating_sub(1)) + at(middle)) / 2.0 };
        Spread { least: at(0), median, most: at(values.len().saturating_sub(1)) }
    }

    fn json(&self) -> serde_json::Value {
        json!({ "min": self.least, "median": self.median, "max": self.most })
    }
}

impl Contest {
    /// How many times as fast pontoon was as the peer just before it.
    fn ratio(&self) -> Spread {
        Spread::of(self.theirs.iter().zip(&self.ours).map(|(theirs, ours)| theirs.seconds / ours.seconds))
    }

    fn rate(&self, runs: &[Run]) -> Spread {
        Spread::of(runs.iter().map(|run| self.rows as f64 / run.seconds))
    }
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    Spread::of(runs.iter().map(of)).median
}

/// How long single rows took.
pub(crate) struct Times(pub(crate) Vec<Duration>);

impl Times {
    /// Milliseconds that this part of them took at most.
    fn within(&self, part: f64) -> f64 {
        let mut times = self.0.clone();
        times.sort();
        let at = (times.len() as f64 * part).ceil() as usize;
        times.get(at.saturating_sub(1)).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// What was found of one who does a workload at the rate that it comes.
pub(crate) struct Figures {
    workload: String,
    who: &'static str,
    times: Times,
    beside: String,
}

impl Figures {
    pub(crate) fn new(workload: &str, who: &'static str, times: Times) -> Figures {
        Figures { workload: workload.to_owned(), who, times, beside: String::new() }
    }

    /// What else there is to say.
    pub(crate) fn with(self, beside: &str) -> Figures {
        Figures { beside: beside.to_owned(), ..self }
    }
}

/// Tables in Markdown, as far as there is anything in them.
pub(crate) fn tables(contests: &[Contest], figures: &[Figures]) -> String {
    let mut text = if contests.is_empty() { String::new() } else { table(contests) };
    if figures.is_empty() {
        return text;
    }
    let rows = "| workload | who | rows | median, ms | p99, ms | most, ms | beside |\n| --- | --- | ---: | ---: | ---: | ---: | --- |\n";
    text.push_str(rows);
    for Figures { workload, who, times, beside } in figures {
        let [median, p99, most] = [0.5, 0.99, 1.0].map(|part| match times.within(part) {
            time if time.is_nan() => String::new(),
            time => format!("{time:.1}"),
        });
        let _ = writeln!(text, "| {workload} | {who} | {} | {median} | {p99} | {most} | {beside} |", times.0.len());
    }
    text
}

/// One line a contest.
fn table(contests: &[Contest]) -> String {
    let mut text = String::from(
        "| workload | peer | peer, rows/s | pontoon, rows/s | ratio (min to max) | processor seconds: pontoon, source, target \
         (peer: itself, source, target) | peak memory, MiB (peer) |\n| --- | --- | ---: | ---: | ---: | --- | ---: |\n",
    );
    for contest in contests {
        let (theirs, ours, ratio) = (contest.rate(&contest.theirs), contest.rate(&contest.ours), contest.ratio());
        let seconds = |runs: &[Run]| {
            let of = [
                median(runs, |run| run.carrier),
                median(runs, |run| run.servers[0]),
                median(runs, |run| run.servers[1]),
            ];
            of.map(|seconds| format!("{seconds:.1}")).join(", ")
        };
        let peak = |runs: &[Run]| format!("{:.0}", median(runs, |run| run.peak as f64) / f64::from(1 << 20));
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} | {:.2} ({:.2} to {:.2}) | {} ({}) | {} ({}) |",
            contest.workload,
            contest.peer,
            theirs.median,
            ours.median,
            ratio.median,
            ratio.least,
            ratio.most,
            seconds(&contest.ours),
            seconds(&contest.theirs),
            peak(&contest.ours),
            peak(&contest.theirs),
        );
    }
    text
}

/// The same as a document.
pub(crate) fn json(contests: &[Contest], figures: &[Figures]) -> String {
    let side = |contest: &Contest, runs: &[Run]| {
        json!({
            "rows_per_second": contest.rate(runs).json(),
            "processor_seconds": {
                "carrier": median(runs, |run| run.carrier),
                "source": median(runs, |run| run.servers[0]),
                "target": median(runs, |run| run.servers[1]),
            },
            "peak_memory_bytes": median(runs, |run| run.peak as f64),
        })
    };
    let contests = contests.iter().map(|contest| {
        json!({
            "workload": contest.workload,
            "rows": contest.rows,
            "runs": contest.ours.len(),
            "peer": { "name": contest.peer, "result": side(contest, &contest.theirs) },
            "pontoon": side(contest, &contest.ours),
            "ratio": contest.ratio().json(),
        })
    });
    let figures = figures.iter().map(|Figures { workload, who, times, beside }| {
        json!({
            "workload": workload,
            "who": who,
            "rows": times.0.len(),
            "milliseconds": { "p50": times.within(0.5), "p99": times.within(0.99), "max": times.within(1.0) },
            "beside": beside,
        })
    });
    let figures: Vec<_> = figures.collect();
    format!("{:#}\n", json!({ "contests": contests.collect::<Vec<_>>(), "figures": figures }))
}
