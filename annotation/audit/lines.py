"""Plans and reports of audits as lines for the terminal."""

from typing import Any

from annotation.audit.plan import AuditPlan
from annotation.audit.report import AuditReport
from manifests.text_table import aligned

_SHARES_OF_BOUND = (0.0, 0.2, 0.5, 1.0, 2.0)


def plan_lines(plan: AuditPlan) -> list[str]:
    """Return what an audit asks for, and what to expect of it at several true shares of defects."""
    design, looks = plan.design, plan.looks
    lines = [f"audit {plan.audit}: {looks[0].n_images:,} of {plan.n_images:,} images of {plan.manifest} drawn"]
    for look in looks:
        is_whole = " (the whole set)" if look.n_images == plan.n_images else ""
        lines.append(
            f"  after {look.n_images:,} images{is_whole}: up to {look.max_defects} defects certify at most "
            f"{design.bound:.2%} at {100 * design.confidence:.4g}%"
        )
    rows: list[tuple[str, ...]] = [("  true share of defects", "images to expect", "certified in")]
    for share in _SHARES_OF_BOUND:
        n_expected, certified = design.outlook(min(share * design.bound, 1.0))
        rows.append((f"  {share * design.bound:.2%}", f"{n_expected:,.0f}", f"{certified:.1%} of audits"))
    if plan.earlier:
        lines.append(
            f"  earlier audits of these images: {', '.join(plan.earlier)}; each halves the error left to the next"
        )
    return [*lines, *aligned(rows), "  answer it with: python cli.py annotate --queue audit"]


def report_lines(report: AuditReport) -> list[str]:
    """Return what an audit found and what that means, or what is still to do."""
    n_drawn = len(report.words) + len(report.waiting)
    n_in = sum(word == "in" for word in report.words.values())
    who = ", ".join(f"{name} {n:,}" for name, n in report.answers.n_answers.items()) or "nobody"
    lines = [f"audit {report.plan.audit}: {len(report.words):,} of {n_drawn:,} images answered ({who})"]
    if report.answers.n_not_fresh:
        lines.append(
            f"  {report.answers.n_not_fresh:,} answers do not count: who gave them had answered the image before"
        )
    if report.answers.gold_in:
        lines.append(
            f"  on gold, these auditors saw {report.answers.gold_in_found:,} of {report.answers.gold_in:,} "
            "in-class images"
        )
    if report.answers.masks_opened:
        lines.append(
            "  images answered with evidence masks opened, which audits do not offer: "
            f"{len(report.answers.masks_opened):,}"
        )
    lines += [f"  {name}: {estimate}" for name, estimate in report.agreement.items() if estimate.n_images]
    if report.certificate is not None:
        return lines + _certificate_lines(report.certificate)
    if report.waiting:
        lines.append(f"  interim: {n_in} defects so far; no certificate while {len(report.waiting):,} images wait")
        if report.n_without_fresh_eyes:
            lines.append(
                f"  {report.n_without_fresh_eyes:,} of them everybody here has seen: they need somebody new"
            )
    else:
        lines.append(
            f"  look {report.place + 1} of {len(report.plan.looks)} leaves it open with {n_in} defects: "
            f"{report.n_drawn_on:,} more images drawn"
        )
    return [*lines, "  answer it with: python cli.py annotate --queue audit"]


def _certificate_lines(certificate: dict[str, Any]) -> list[str]:
    confidence = f"{100 * certificate['confidence']:.4g}%"
    goal = f"at most {certificate['bound']:.2%} at {confidence}"
    lines = [
        f"  {certificate['n_defects']} defects in {certificate['n_sample']:,} images: at most "
        f"{certificate['upper_bound']:.4%} of the {certificate['n_images']:,} images at {confidence} "
        f"(exact for a set of this size: {certificate['n_defects_possible']:,} images)",
        f"  with {certificate['n_difficult']} difficult ones as defects: at most "
        f"{certificate['upper_bound_with_difficult']:.4%}",
        f"  {'certified' if certificate['is_certified'] else 'not certified'}: {goal}",
    ]
    lines += [f"  defect: {image_id}" for image_id in certificate["defects"]]
    lines += [
        f"  not certified while this known defect is in the set: {image_id} (an audit called it in; retire it)"
        for image_id in certificate["known_defects"]
    ]
    rows: list[tuple[str, ...]] = [("  stratum (for exploring)", "audited", "defects", "difficult", "at most")]
    for stratum, found in certificate["strata"].items():
        counts = (f"{found[word]:,}" for word in ("n_sample", "n_defects", "n_difficult"))
        rows.append((f"  {stratum}", *counts, f"{found['upper_bound']:.2%}"))
    return [*lines, *aligned(rows), *_other_lines(certificate)]


def _other_lines(certificate: dict[str, Any]) -> list[str]:
    """Return what a reader has to know beside the bound: answers taken back, and other audits."""
    lines = [f"  taken back by its auditor, and stated: {image_id}" for image_id in certificate["undone"]]
    for other in certificate["other_audits"]:
        lines.append(
            f"  another audit of these images: {other['audit']} of {other['manifest']}, "
            f"{len(other['defects'])} defects in {other['n_drawn']:,} images drawn"
        )
    if certificate["other_audits"]:
        lines.append(f"  all of them hold together at {100 * certificate['confidence_of_all']:.4g}% confidence")
    return lines
