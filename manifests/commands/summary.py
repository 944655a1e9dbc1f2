"""What commands say: notices while they work, and counts when they are done."""

from manifests.run_report import current_report


def announce(line: str) -> None:
    """Print a notice, on standard error."""
    # Not above: the help of a command needs no bars.
    from manifests.stage_progress import say

    say(line)


def counted(stage: str, counts: dict[str, int]) -> None:
    """Print the counts of a stage in one line, and put them into the report of this run."""
    current_report().counts |= counts
    print(f"{stage}: " + ", ".join(f"{word} {n:,}" for word, n in sorted(counts.items())))
