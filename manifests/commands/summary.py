"""What commands say: notices while they work, and counts when they are done."""

import sys

from manifests.run_report import current_report


def announce(line: str) -> None:
    """Print a notice, on standard error."""
    print(line, file=sys.stderr)


def counted(stage: str, counts: dict[str, int]) -> None:
    """Print the counts of a stage in one line, and put them into the report of this run."""
    current_report().counts |= counts
    print(f"{stage}: " + ", ".join(f"{word} {n:,}" for word, n in sorted(counts.items())))
