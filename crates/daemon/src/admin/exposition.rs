//! Writes metrics as text, in the format the caller asks for: OpenMetrics 1.0 if the caller names
//! it, else the classic format of Prometheus, which every collector reads. The roles decide what is
//! measured.

use std::fmt::{self, Write};

use axum::http::header::{self, HeaderMap};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::ApiError;

/// Answers with all metrics of the registry.
pub(super) fn show(registry: &Registry, headers: &HeaderMap) -> Response {
    let format = Format::asked_for(headers);
    match format.write(registry) {
        Ok(text) => {
            let headers = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
            (headers, text).into_response()
        }
        Err(fmt::Error) => ApiError::internal("metrics could not be written").into_response(),
    }
}

/// A format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// The text format 0.0.4 of Prometheus.
    Classic,
    OpenMetrics,
}

impl Format {
    /// Reads `Accept`. OpenMetrics must be named, with at least the weight of the classic format:
    /// curl, telegraf and old collectors accept any type but only read the classic format.
    fn asked_for(headers: &HeaderMap) -> Self {
        let (mut open, mut classic) = (0, 0);
        for given in headers.get_all(header::ACCEPT) {
            for range in given.to_str().unwrap_or_default().split(',') {
                let (kind, weight) = read_range(range);
                match kind.to_ascii_lowercase().as_str() {
                    "application/openmetrics-text" => open = open.max(weight),
                    "text/plain" | "text/*" => classic = classic.max(weight),
                    _ => {}
                }
            }
        }
        if open > 0 && open >= classic { Self::OpenMetrics } else { Self::Classic }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    fn write(self, registry: &Registry) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, registry)?;
        match self {
            Self::Classic => to_classic(&text),
            Self::OpenMetrics => Ok(text),
        }
    }
}

/// A media range and its weight in thousandths.
fn read_range(range: &str) -> (&str, u32) {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    // A range with an unreadable weight counts as not wanted; the other ranges still count.
    let weight = weight.map_or(Some(1.0), |text| text.parse().ok()).unwrap_or(0.0_f64);
    (kind, (weight.clamp(0.0, 1.0) * 1000.0) as u32)
}

/// Converts the OpenMetrics text of prometheus-client into the classic format. There, the family of
/// a counter has the same name as its samples, with `_total`; there are no units, no end mark and
/// no exemplars. The names of samples do not change, so a collector that changes its format
/// continues the same series.
fn to_classic(text: &str) -> Result<String, fmt::Error> {
    let mut classic = String::with_capacity(text.len());
    // The help line comes before the type line, and only the type decides the name of the family.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, kind) = rest.split_once(' ').ok_or(fmt::Error)?;
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "gauge" | "histogram" | "summary" => ("", kind),
                _ => ("", "untyped"),
            };
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == family) {
                writeln!(classic, "# HELP {family}{suffix} {words}")?;
            }
            writeln!(classic, "# TYPE {family}{suffix} {kind}")?;
        } else if !line.starts_with('#') {
            writeln!(classic, "{}", without_exemplar(line))?;
        }
    }
    Ok(classic)
}

/// Removes an exemplar from a sample. Label values may contain any text, ` # ` too.
fn without_exemplar(sample: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in sample.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return sample[..at].trim_end(),
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::exemplar::CounterWithExemplar;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::metrics::info::Info;
    use prometheus_client::registry::Unit;

    use super::*;

    /// One metric of each kind, and labels with every character that has a meaning in the format.
    fn registry() -> Registry {
        let mut registry = Registry::default();
        let shares: Family<Vec<(&str, &str)>, Counter<u64>> = Family::default();
        registry.register("tieline_shares", "Shares", shares.clone());
        shares.get_or_create(&vec![("target", "a \"b\" \\ # {} \n")]).inc_by(3);
        let sessions: Gauge = Gauge::default();
        registry.register("tieline_sessions", "Sessions", sessions.clone());
        sessions.set(-2);
        let submit = Histogram::new([0.5, 1.0]);
        registry.register_with_unit("tieline_submit", "Submits", Unit::Seconds, submit.clone());
        submit.observe(0.75);
        registry.register("tieline_build", "Build", Info::new(vec![("version", "1.2")]));
        let traced: CounterWithExemplar<Vec<(&str, &str)>, u64> = CounterWithExemplar::default();
        registry.register("tieline_traced", "Traced", traced.clone());
        traced.inc_by(5, Some(vec![("trace", "\"# x")]), None);
        registry
    }

    #[test]
    fn the_classic_format_is_exact() {
        let want = r##"# HELP tieline_shares_total Shares.
# TYPE tieline_shares_total counter
tieline_shares_total{target="a \"b\" \\ # {} \n"} 3
# HELP tieline_sessions Sessions.
# TYPE tieline_sessions gauge
tieline_sessions -2
# HELP tieline_submit_seconds Submits.
# TYPE tieline_submit_seconds histogram
tieline_submit_seconds_sum 0.75
tieline_submit_seconds_count 1
tieline_submit_seconds_bucket{le="0.5"} 0
tieline_submit_seconds_bucket{le="1.0"} 1
tieline_submit_seconds_bucket{le="+Inf"} 1
# HELP tieline_build_info Build.
# TYPE tieline_build_info gauge
tieline_build_info{version="1.2"} 1
# HELP tieline_traced_total Traced.
# TYPE tieline_traced_total counter
tieline_traced_total 5
"##;
        assert_eq!(Format::Classic.write(&registry()).unwrap(), want);
        assert_eq!(Format::Classic.write(&Registry::default()).unwrap(), "");
    }

    #[test]
    fn both_formats_have_the_same_samples_and_only_one_an_end() {
        let registry = registry();
        let classic = Format::Classic.write(&registry).unwrap();
        let open = Format::OpenMetrics.write(&registry).unwrap();
        assert!(open.contains("# TYPE tieline_shares counter\n"), "{open}");
        assert!(open.contains("# UNIT tieline_submit_seconds seconds\n"), "{open}");
        assert!(open.ends_with("# EOF\n") && !classic.contains("EOF"), "{open}");
        let samples = |text: &str| {
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            samples.map(|line| without_exemplar(line).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(samples(&classic), samples(&open));
        assert!(open.contains("tieline_traced_total 5 # {trace="), "{open}");
    }

    #[test]
    fn open_metrics_must_be_asked_for_by_name() {
        let asked = |accept: &[&str]| {
            let mut headers = HeaderMap::new();
            for given in accept {
                headers.append(header::ACCEPT, given.parse().unwrap());
            }
            Format::asked_for(&headers)
        };
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,\
            text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
            */*;q=0.2";
        let prometheus_2 = "application/openmetrics-text; version=0.0.1,\
            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for accept in [
            &[prometheus_3][..],
            &[prometheus_2],
            &["application/openmetrics-text"],
            &["Application/OpenMetrics-Text; version=1.0.0; charset=utf-8"],
            &["application/openmetrics-text, text/plain"],
            &["*/*", "application/openmetrics-text;q=0.1"],
        ] {
            assert_eq!(asked(accept), Format::OpenMetrics, "{accept:?}");
        }
        for accept in [
            &[][..],
            &["*/*"],
            &[""],
            &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
            // The `Accept` header that VictoriaMetrics sends.
            &["text/plain;version=0.0.4;q=1,*/*;q=0.1"],
            &["application/json"],
            &["application/*"],
            &["application/openmetrics-text;q=0, */*"],
            &["application/openmetrics-text;q=0.3, text/*;q=0.4"],
            &["application/openmetrics-text;q=x"],
            &["application/openmetrics-text-2"],
        ] {
            assert_eq!(asked(accept), Format::Classic, "{accept:?}");
        }
    }
}
