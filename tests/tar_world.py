"""Tar archives of pictures, member by member."""

import io
import tarfile


def add(archive, name, content=b"", **header):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in header.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(content))


def archive_of(path, pictures, mode="w:gz", tar_format=tarfile.GNU_FORMAT):
    with tarfile.open(path, mode, format=tar_format) as archive:
        add(archive, "test", type=tarfile.DIRTYPE)
        for name, content in pictures.items():
            add(archive, f"test/{name}.jpg", content)
    return path
