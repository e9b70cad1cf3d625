//! What becomes of each Ingress among manifests, or of a cluster.

use std::fmt::Write;

use serde::Serialize;

use crate::admin::view::Place;
use crate::ir::{Problem, Severity};
use crate::provider::file::printable;
use crate::provider::kubernetes::{Finding, Key, Manifests, Report, Translation, Verdict};

/// An Ingress and what becomes of it.
#[derive(Debug, Serialize)]
pub struct IngressView {
    namespace: String,
    name: String,
    location: Option<Place>,
    /// `honoured`, `difference`, `left out`, `refused`: the worst of its findings; `ignored` where it is not
    /// for this controller.
    verdict: &'static str,
    /// Why it is ignored.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    findings: Vec<FindingView>,
}

/// One thing that an Ingress asks for, and what becomes of it.
#[derive(Debug, Serialize)]
struct FindingView {
    verdict: &'static str,
    /// An annotation or the path of a field.
    subject: String,
    location: Option<Place>,
    message: String,
    hint: Option<String>,
}

/// All Ingresses of the manifests, by namespace and name. `problems` is what was found when all was
/// compiled.
pub fn views(
    manifests: &Manifests,
    translation: &Translation,
    problems: &[Problem],
) -> Vec<IngressView> {
    let served = translation.reports.iter().map(|(key, report)| {
        let mut report = Report::clone(report);
        report.findings.extend(unusable(manifests, key, problems));
        view(manifests, key, &report)
    });
    let ignored = translation.ignored.iter().map(|(key, why)| IngressView {
        verdict: "ignored",
        reason: Some(why.clone()),
        ..view(manifests, key, &Report::default())
    });
    let mut views: Vec<_> = served.chain(ignored).collect();
    views.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    views
}

/// The certificates of an Ingress that are there and cannot be used, which nobody knows before they
/// are loaded.
fn unusable(manifests: &Manifests, key: &Key, problems: &[Problem]) -> Vec<Finding> {
    let spec = manifests.inputs.ingresses.get(key).and_then(|ingress| ingress.spec.as_ref());
    let entries = spec.and_then(|spec| spec.tls.as_deref()).unwrap_or_default();
    let about = |problem: &&Problem, name: &str| {
        problem.severity == Severity::Error
            && problem.origin.as_ref().is_some_and(|origin| {
                origin.kind.as_str() == "Secret"
                    && origin.namespace.as_str() == &*key.namespace
                    && origin.name.as_str() == name
            })
    };
    let found = entries.iter().enumerate().filter_map(|(number, entry)| {
        let name = entry.secret_name.as_deref()?;
        let problem = problems.iter().find(|problem| about(problem, name))?;
        let subject = format!("spec.tls[{number}].secretName");
        let finding = Finding::refused(subject, problem.message.clone());
        Some(finding.hint("the default certificate is used until it is mended"))
    });
    found.collect()
}

fn view(manifests: &Manifests, key: &Key, report: &Report) -> IngressView {
    let place = |subject: &str| manifests.place("Ingress", key, subject).as_ref().map(Place::from);
    let findings = report.findings.iter().map(|finding| FindingView {
        verdict: word(finding.verdict),
        subject: finding.subject.clone(),
        location: place(&finding.subject),
        message: finding.message.clone(),
        hint: finding.hint.clone(),
    });
    IngressView {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        location: place(""),
        verdict: word(report.verdict()),
        reason: None,
        findings: findings.collect(),
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Honoured => "honoured",
        Verdict::Differs => "difference",
        Verdict::Omitted => "left out",
        Verdict::Refused => "refused",
    }
}

/// The same for people: a paragraph for each.
pub fn text(views: &[IngressView]) -> String {
    // Writing to a `String` cannot fail.
    let mut out = String::new();
    for view in views {
        let _ = write!(out, "Ingress {}/{}", view.namespace, view.name);
        if let Some(Place { file, line, .. }) = &view.location {
            let _ = write!(out, " ({file}:{line})");
        }
        let _ = match (&view.reason, view.verdict) {
            (Some(why), _) => writeln!(out, ": not served, {}", printable(why)),
            (None, "difference") => writeln!(out, ": honoured with a difference"),
            (None, "left out" | "refused") => writeln!(out, ": not honoured in all"),
            (None, verdict) => writeln!(out, ": {verdict}"),
        };
        for finding in &view.findings {
            let line = finding.location.as_ref().map(|place| place.line.to_string());
            let line = line.unwrap_or_default();
            let said = match (&*finding.message, &finding.hint) {
                ("", _) => String::new(),
                (message, Some(hint)) => format!(": {message} ({hint})"),
                (message, None) => format!(": {message}"),
            };
            let told = printable(&format!("{}{said}", finding.subject));
            let _ = writeln!(out, "  {:10} {line:>4}  {told}", finding.verdict);
        }
    }
    out
}

/// How many there are of each verdict, in a line; nothing where there is no Ingress.
pub fn summary(views: &[IngressView]) -> String {
    let count = |verdict: &[&str], words: &str| {
        let count = views.iter().filter(|view| verdict.contains(&view.verdict)).count();
        (count > 0).then(|| format!("{count} {words}"))
    };
    let counts = [
        count(&["honoured"], "honoured"),
        count(&["difference"], "honoured with a difference"),
        count(&["left out", "refused"], "not honoured in all"),
        count(&["ignored"], "not served"),
    ];
    let counts: Vec<_> = counts.into_iter().flatten().collect();
    match views.len() {
        0 => String::new(),
        1 => format!("1 Ingress: {}\n", counts.join(", ")),
        all => format!("{all} Ingresses: {}\n", counts.join(", ")),
    }
}
