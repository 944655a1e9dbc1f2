"""WebDataset shards: tar files whose members of one name, up to the first dot, are one sample."""

import io
import json
import tarfile
from pathlib import Path

from manifests import schema
from manifests.durable import replacing
from manifests.exporters.exported_set import ExportedSet, Record
from manifests.exporters.placing import checked_contents

SHARD_IMAGES = 1_000
"""Of Open Images' pictures some 290 MB: WebDataset's documentation advises shards from 100 MB to 1 GB."""


def write_webdataset(export: ExportedSet, folder: Path) -> dict[str, str]:
    """Write ``<split>/<name>-<split>-<number>.tar`` with ``.jpg``, ``.cls`` (-1) and ``.json`` an image."""
    for split, records in export.by_split().items():
        for number, begin in enumerate(range(0, len(records), SHARD_IMAGES)):
            path = folder / split / f"{export.name}-{split}-{number:06d}.tar"
            with replacing(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as shard:
                for record, content in checked_contents(export, records[begin : begin + SHARD_IMAGES]):
                    _add_sample(shard, record, content)
    return {}


def _add_sample(shard: tarfile.TarFile, record: Record, content: bytes) -> None:
    described = json.dumps({**record, "label": schema.OOD_LABEL}, sort_keys=True, ensure_ascii=False)
    members = {"jpg": content, "cls": str(schema.OOD_LABEL).encode(), "json": described.encode()}
    for ending, data in members.items():
        # A new member has no owner and the time 0: nothing of this machine goes into the shard.
        member = tarfile.TarInfo(f"{record['image_id']}.{ending}")
        member.size = len(data)
        shard.addfile(member, io.BytesIO(data))
