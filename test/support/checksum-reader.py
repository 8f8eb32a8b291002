# Reads files of a tree again and again, from the disk each time, until its input ends, and says how that went.
# Input: a line of JSON {root, files: [[path, sha256]], once}, then nothing. Output: a line of JSON at the end.
import hashlib
import json
import os
import random
import select
import sys
import time

setting = json.loads(sys.stdin.readline())
files = setting["files"]
once = setting.get("once", False)
seen = {"reads": 0, "bytes": 0, "failed": [], "wrong": [], "longest": 0.0}


def ended():
    return bool(select.select([sys.stdin], [], [], 0)[0])


def check(path, expected):
    digest = hashlib.sha256()
    began = time.monotonic()
    try:
        fd = os.open(setting["root"] + "/" + path, os.O_RDONLY)
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


if once:
    for path, expected in files:
        if ended():
            break
        check(path, expected)
else:
    while not ended():
        check(*random.choice(files))
        # Often enough to meet every moment, and the processors are for others as well.
        time.sleep(0.02)
print(json.dumps(seen), flush=True)
