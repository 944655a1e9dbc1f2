"""Of which pictures one annotator was sent evidence masks: on disk, as a killed server must not forget it."""

import os
import threading

from annotation.decision_log import DecisionLog, touch_durably
from manifests.durable import cut_torn_tail
from manifests.errors import InputError, TableError
from manifests.image_ids import is_image_id


class SentMasks:
    """The file ``decisions/<annotator_id>.masks-sent`` beside a log: one image id a line, each once.

    It is no part of the log: nobody has answered yet when masks are sent. Whoever holds the log may write it.

    Parameters
    ----------
    log : DecisionLog
        Beside which it lies; the file is made when the first masks are sent.

    Attributes
    ----------
    image_ids : set of str
        All that is on disk.

    Raises
    ------
    TableError
        A line is no image id.
    """

    def __init__(self, log: DecisionLog) -> None:
        self._path = log.path.with_suffix(".masks-sent")
        cut_torn_tail(self._path)
        # What is no ASCII is no image id either, and is named in its line like anything else.
        content = self._path.read_text("ascii", "backslashreplace") if self._path.exists() else ""
        lines = content.split("\n")[:-1]
        for number, line in enumerate(lines, start=1):
            if not is_image_id(line):
                raise TableError(f"{self._path}, line {number}: expected an image id, found {line[:40]!r}")
        self.image_ids = set(lines)
        # Not the session's: an answer must not wait for this disk write.
        self._lock = threading.Lock()

    def add(self, image_id: str) -> None:
        """Store that the masks of a picture are about to be sent; return when that is on disk.

        Raises
        ------
        InputError
            The file cannot be written.
        """
        with self._lock:
            if image_id in self.image_ids:
                return
            try:
                self._append(image_id)
            except OSError as error:
                raise InputError(f"{self._path}: cannot be written ({error.strerror or error})") from error
            self.image_ids.add(image_id)

    def _append(self, image_id: str) -> None:
        if not self._path.exists():
            touch_durably(self._path)
        with self._path.open("ab", buffering=0) as stream:
            size_bytes = stream.seek(0, os.SEEK_END)
            line = image_id.encode() + b"\n"
            try:
                if stream.write(line) != len(line):
                    raise OSError("only a part of a line could be written")
                os.fsync(stream.fileno())
            except OSError:
                # A full disk may have taken half a line, which would be glued to the next.
                stream.truncate(size_bytes)
                raise
