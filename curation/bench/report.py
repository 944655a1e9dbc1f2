"""What `bench download` found, as a value that is kept as JSON and as text."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curation.bench.clients import ClientRun
from curation.bench.limits import Limits
from curation.bench.machine import Machine
from curation.bench.server import FAULT_EVERY, RETRY_AFTER_S, STALL_S
from manifests.text_table import aligned

OURS = "ours"
PEER = "img2dataset, as served"
RAW, STORING = "raw,", "raw + sha256 + write,"
"""How the names of the raw clients begin, that throw pictures away and that keep them."""

_GOAL_OF_STORING, _GOAL_IMAGES_PER_S, _GOAL_UNDER_FAULTS = 0.85, 800, 1.3


@dataclass(frozen=True)
class Section:
    """The runs of several clients on one kind of picture.

    Attributes
    ----------
    body : str
        ``light`` or ``photo``.
    runs : mapping of client to its runs
        As many as there were rounds.
    """

    body: str
    runs: Mapping[str, tuple[ClientRun, ...]]

    def rate(self, client: str) -> float:
        """Return a client's median of images a second."""
        return statistics.median(run.images_per_s for run in self.runs[client])

    def seconds(self, client: str) -> float:
        """Return a client's median of seconds from the first request to its end."""
        return statistics.median(run.busy_s for run in self.runs[client])

    def fastest(self, beginning: str) -> float:
        """Return the highest rate of the clients whose names begin so."""
        return max(self.rate(client) for client in self.runs if client.startswith(beginning))


@dataclass(frozen=True)
class DownloadBench:
    """What `bench_download` found.

    Attributes
    ----------
    machine : Machine
        Where.
    n_images, n_workers, n_rounds : int
        Pictures a run, connections at a time, runs of each client.
    body_bytes : mapping of body to int
        Size of a picture.
    img2dataset : str, optional
        Its version; None where it was not timed.
    limits : mapping of body to Limits
        What the machine can do at most.
    light, photo : Section
        Pictures that cost next to nothing to decode, and photographs.
    clean, faulty : Section
        More of the former, without and with faults.
    long_run : ClientRun
        Ours on many more light pictures.
    notes : tuple of str
        What was left out, one sentence each.
    """

    machine: Machine
    n_images: int
    n_workers: int
    n_rounds: int
    body_bytes: Mapping[str, int]
    img2dataset: str | None
    limits: Mapping[str, Limits]
    light: Section
    photo: Section
    clean: Section
    faulty: Section
    long_run: ClientRun
    notes: tuple[str, ...]

    @property
    def share_of_raw(self) -> float:
        """Our rate as a share of the fastest raw client's, which keeps nothing."""
        return self.light.rate(OURS) / self.light.fastest(RAW)

    @property
    def share_of_storing(self) -> float:
        """Our rate as a share of the fastest raw client's that computes digests and writes files."""
        return self.light.rate(OURS) / self.light.fastest(STORING)

    @property
    def times_under_faults(self) -> float:
        """Our time with faults as a multiple of that without."""
        return self.faulty.seconds(OURS) / self.clean.seconds(OURS)

    @property
    def peak_growth_mb(self) -> float | None:
        """How much more memory the long run took than the short ones."""
        short = _peak_mb(self.light.runs[OURS])
        return None if short is None or self.long_run.peak_mb is None else self.long_run.peak_mb - short

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values, with what follows from it; rates are medians of a client's runs."""
        sections = {"light": self.light, "photo": self.photo, "clean": self.clean, "faulty": self.faulty}
        return asdict(self) | {
            "images_per_s": {
                name: {client: section.rate(client) for client in section.runs}
                for name, section in sections.items()
            },
            "our_images_per_s": self.light.rate(OURS),
            "share_of_raw": self.share_of_raw,
            "share_of_storing": self.share_of_storing,
            "times_under_faults": self.times_under_faults,
            "peak_growth_mb": self.peak_growth_mb,
            "goals": {
                "at_least": {"share_of_storing": _GOAL_OF_STORING, "our_images_per_s": _GOAL_IMAGES_PER_S},
                "at_most": {"times_under_faults": _GOAL_UNDER_FAULTS},
            },
        }


def bench_table(result: DownloadBench) -> str:
    """Return the result as text: rates on light pictures and on photographs, faults, memory."""
    blocks = [_heading(result), _light(result), _photo(result), _faults(result), _memory(result), [*result.notes]]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _heading(result: DownloadBench) -> list[str]:
    machine = result.machine
    peer = "" if result.img2dataset is None else f", img2dataset {result.img2dataset}"
    rounds = "one run" if result.n_rounds == 1 else f"median of {result.n_rounds} runs, taken in turn"
    return [
        f"{machine.processor}, {machine.n_cores} cores, {machine.memory_gib:.1f} GiB; Python "
        f"{machine.python_version}{peer}",
        f"{result.n_images:,} pictures a run from a server on the loopback, which has a share in the cores; "
        f"{result.n_workers} connections; {rounds}",
        "Seconds and rates: from the first request that the server sees to the end of the client's process; "
        "whole s: from its start",
    ]


def _light(result: DownloadBench) -> list[str]:
    section, limits = result.light, result.limits[result.light.body]
    fastest = section.fastest(RAW)
    a_picture_s = statistics.median(run.server_cpu_s / run.n_requests for run in section.runs[OURS])
    return [
        f"Light pictures: {result.body_bytes[section.body]:,} bytes, PNG of stored pixels: fetching counts",
        *_rates(section, {client: f"{section.rate(client) / fastest:.0%}" for client in section.runs}, "of raw"),
        "raw: http.client, throws bodies away; ours: python cli.py download: digest, full decode, file and log",
        f"Ours is {result.share_of_raw:.0%} of raw and {result.share_of_storing:.0%} of raw + sha256 + write "
        f"(goal: {_GOAL_OF_STORING:.0%}), {section.rate(OURS):,.0f} images/s (goal: {_GOAL_IMAGES_PER_S})",
        f"Limits, images/s on all cores: decode {limits.decode:,.0f}, sha256 {limits.sha256:,.0f}, write "
        f"{limits.write:,.0f}; all of it with the server's {1000 * a_picture_s:.2f} ms: "
        f"{limits.together(a_picture_s):,.0f}",
    ]


def _photo(result: DownloadBench) -> list[str]:
    section, limits = result.photo, result.limits[result.photo.body]
    n_cores = result.machine.n_cores
    shares = {client: f"{section.rate(client) / limits.decode:.0%}" for client in section.runs}
    return [
        f"Photographs: {result.body_bytes[section.body]:,} bytes, JPEG of 1024 x 768 px: decoding counts",
        *_rates(section, shares, "of decoding"),
        f"Limit: full decodes, {limits.decode / n_cores:,.0f} images/s a core x {n_cores} cores = "
        f"{limits.decode:,.0f}; img2dataset as served decodes nothing",
    ]


def _rates(section: Section, shares: Mapping[str, str], share_of: str) -> list[str]:
    rows = [("client", "images/s", "lowest", "highest", share_of, "arrived", "whole s", "peak MB")]
    for client, runs in section.runs.items():
        rates = [run.images_per_s for run in runs]
        rows.append(
            (
                client,
                f"{section.rate(client):,.0f}",
                f"{min(rates):,.0f}",
                f"{max(rates):,.0f}",
                shares[client],
                _arrived(runs),
                f"{statistics.median(run.whole_s for run in runs):.1f}",
                _told_mb(_peak_mb(runs)),
            )
        )
    return aligned(rows)


def _faults(result: DownloadBench) -> list[str]:
    section, clean = result.faulty, result.clean
    rows = [("client", "clean s", "with faults s", "times", "arrived", "requests", "faults met")]
    for client, runs in section.runs.items():
        # Retries change nothing where nothing fails: the clean run is that of the same client without them.
        before = client if client in clean.runs else PEER
        seconds = section.seconds(client)
        rows.append(
            (
                client,
                f"{clean.seconds(before):.2f}",
                f"{seconds:.2f}",
                f"{seconds / clean.seconds(before):.2f} x",
                _arrived(runs),
                f"{statistics.median(run.n_requests for run in runs):,.0f}",
                f"{statistics.median(run.n_faults for run in runs):,.0f}",
            )
        )
    return [
        f"Faults: of {result.faulty.runs[OURS][0].n_images:,} light pictures one in {FAULT_EVERY} faults once, a "
        f"fifth each: 429 with Retry-After: {RETRY_AFTER_S}, 503, reset, {STALL_S:g} s of silence, short body",
        *aligned(rows),
        f"Ours takes {result.times_under_faults:.2f} x the clean time (goal: {_GOAL_UNDER_FAULTS:g}, all arrived)",
    ]


def _memory(result: DownloadBench) -> list[str]:
    short, growth = _peak_mb(result.light.runs[OURS]), result.peak_growth_mb
    told = "unknown here" if growth is None else f"{growth:+.0f} MB"
    return [
        "Memory of ours: the most of all its processes",
        *aligned(
            [
                ("light pictures", "peak MB", "images/s"),
                (f"{result.n_images:,}", _told_mb(short), f"{result.light.rate(OURS):,.0f}"),
                (
                    f"{result.long_run.n_images:,}",
                    _told_mb(result.long_run.peak_mb),
                    f"{result.long_run.images_per_s:,.0f}",
                ),
            ]
        ),
        f"Difference: {told}",
    ]


def _peak_mb(runs: Sequence[ClientRun]) -> float | None:
    peaks = [run.peak_mb for run in runs if run.peak_mb]
    return max(peaks) if peaks else None


def _told_mb(peak_mb: float | None) -> str:
    return f"{peak_mb:,.0f}" if peak_mb else "-"


def _arrived(runs: Sequence[ClientRun]) -> str:
    share = sum(run.n_arrived for run in runs) / sum(run.n_images for run in runs)
    # Never rounded up to all: 99.99 % is not what was asked for.
    return "all" if share == 1 else f"{min(share, 0.9999):.2%}"
