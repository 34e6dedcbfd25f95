# SPDX-License-Identifier: Apache-2.0
"""Real data: Debian images, and files cut from them without holes. Made once, kept."""
import os

from .machine import MIB, ROOT, run

CHUNK = 65536


class Data:
    def __init__(self, folder, quick):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        images = os.environ.get("VSTORE_IMAGES", "/var/tmp/vstore-images")
        # quick: images that the tests need anyway
        kinds = ("small", "near") if quick else ("large", "sibling")
        make = os.path.join(ROOT, "tests/image/make")
        self.image, self.sibling = (run(make, images, kind).strip() for kind in kinds)

    def dense(self, megabytes):
        """So many MiB of the sibling's data, every chunk different: when the image is used up, its chunks come again with other first
        bytes, so that they cannot be deduplicated away."""
        name = os.path.join(self.folder, f"data-{os.path.basename(self.sibling)}-{megabytes}.raw")
        if os.path.exists(name):
            return name
        turn, seen = 0, set()
        with open(self.sibling, "rb") as source, open(name + ".part", "wb") as out:
            while out.tell() < megabytes * MIB:
                chunk = source.read(CHUNK)
                if len(chunk) < CHUNK:
                    source.seek(0)
                    turn += 1
                    continue
                if chunk.count(0) > CHUNK // 4:  # holes, and what is nearly one
                    continue
                if turn:
                    chunk = turn.to_bytes(8, "little") + chunk[8:]
                key = hash(chunk)
                if key not in seen:
                    seen.add(key)
                    out.write(chunk)
            os.fsync(out.fileno())
        os.rename(name + ".part", name)
        return name

    def allocated(self):
        """The image's chunks that are not zero, one after another."""
        name = os.path.join(self.folder, os.path.basename(self.image) + ".allocated")
        if not os.path.exists(name):
            zero = bytes(CHUNK)
            with open(self.image, "rb") as source, open(name + ".part", "wb") as out:
                while chunk := source.read(CHUNK):
                    if chunk != zero[:len(chunk)]:
                        out.write(chunk)
            os.rename(name + ".part", name)
        return name
