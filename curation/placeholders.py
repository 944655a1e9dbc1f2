"""Pictures that stand in for pictures: Flickr's "photo unavailable", and whatever else comes for many ids alike.

Two rules, both over bytes:

- A digest of `KNOWN_DIGESTS` is a placeholder as soon as it arrives, and is not stored.
- Bytes that came for `MIN_ORIGINALS` or more images with different originals are one, whoever served them. Images
  whose metadata name the same original (MD5) count once: that one photograph was uploaded several times is no
  placeholder. The rule is applied to the whole table each time that it is written, so that neither the order of
  arrival nor interruptions change what it says; the files stay where they are, as the evidence.
"""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from curation.download_log import DownloadLog
from curation.download_state import OK, DownloadState, candidate_batches
from manifests.workspace import Workspace

KNOWN_DIGESTS: Mapping[str, str] = {}
"""SHA-256 of known stand-ins, each with its source; none is published for Flickr's, which the other rule finds."""

MIN_ORIGINALS = 5
"""Different photographs are not equal to the byte; four leave room for equal uploads whose MD5s are not known."""


def repeated_pictures(workspace: Workspace, state: DownloadState, log: DownloadLog) -> dict[int, str]:
    """Return the position of each image whose bytes came for too many others, with the reason."""
    members = _members(state, log)
    originals = _original_md5s(workspace, [position for group in members.values() for position in group])
    found = {}
    for group in members.values():
        n_originals = len({originals.get(position) or position for position in group})
        if n_originals >= MIN_ORIGINALS:
            found.update(dict.fromkeys(group, f"the same bytes came for {len(group)} images"))
    return found


def _members(state: DownloadState, log: DownloadLog) -> dict[str, list[int]]:
    """Return the positions of each SHA-256 of which there may be enough."""
    digests, counts = np.unique(state.digests[state.codes == OK], return_counts=True)
    repeated = digests[counts >= MIN_ORIGINALS]
    members: dict[str, list[int]] = defaultdict(list)
    for position in np.flatnonzero(np.isin(state.digests, repeated) & (state.codes == OK)).tolist():
        # The state holds 64 bits of the digest, the log the whole.
        members[log.row_at(int(state.starts[position]))["sha256"]].append(position)
    return members


def _original_md5s(workspace: Workspace, positions: list[int]) -> dict[int, str | None]:
    """Return what the metadata say is the MD5 of the original, for a few images."""
    if not positions:
        return {}
    wanted = np.sort(np.array(positions))
    found = {}
    for first, batch in candidate_batches(workspace, ["original_md5"]):
        low, high = np.searchsorted(wanted, [first, first + batch.num_rows])
        for position in wanted[low:high].tolist():
            found[position] = batch.column(0)[position - first].as_py()
    return found
