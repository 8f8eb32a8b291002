# Reads files of a tree again and again, from the disk each time, until its input ends, and says how that went.
# Input: a line of JSON {root, files: [[path, sha256]], once}; then an empty line for each report that is wanted meanwhile.
# Output: a line of JSON for each, about what was read since the one before, and one at the end.
import hashlib
import json
import os
import random
import select
import sys
import time

# Without a buffer, in which a line would be that nobody sees coming.
orders = open(0, "rb", buffering=0)
setting = json.loads(orders.readline())
files = setting["files"]
once = setting.get("once", False)
seen = {}


def begin():
    seen.update(reads=0, bytes=0, failed=[], wrong=[], longest=0.0)


def report():
    print(json.dumps(seen), flush=True)


def ended():
    while select.select([orders], [], [], 0)[0]:
        if not orders.readline():
            return True
        report()
        begin()
    return False


def check(path, expected):
    digest = hashlib.sha256()
    began = time.monotonic()
    try:
        fd = os.open(setting["root"] + "/" + path, os.O_RDONLY)
        seen["longest"] = max(seen["longest"], time.monotonic() - began)
        try:
            # What the page cache has would be read without anybody's help.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            while True:
                start = time.monotonic()
                data = os.read(fd, 65536)
                seen["longest"] = max(seen["longest"], time.monotonic() - start)
                if not data:
                    break
                digest.update(data)
                seen["bytes"] += len(data)
        finally:
            os.close(fd)
    except OSError as error:
        seen["failed"].append(f"{path}: {error.strerror} after {time.monotonic() - began:.2f} s")
        return
    seen["reads"] += 1
    if digest.hexdigest() != expected:
        seen["wrong"].append(path)


begin()
if once:
    for path, expected in files:
        check(path, expected)
        # However soon it is to end, it has read something.
        if ended():
            break
else:
    while not ended():
        check(*random.choice(files))
        # Often enough to meet every moment, and the processors are for others as well.
        time.sleep(0.02)
report()
