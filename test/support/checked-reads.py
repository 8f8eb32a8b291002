#!/usr/bin/env python3
"""Reads random parts of the files below a directory and compares them with the same files elsewhere, until stdin ends.

usage: checked-reads.py DIR EXPECTED LENGTH SEED     (LENGTH: bytes of one read, at most)
Prints `ready` on stderr before the first read, and in the end one line of JSON: reads, wrong, errors (by name; `short` for less than there is), and longestMs.
"""
import errno
import json
import os
import random
import sys
import threading
import time

directory, expected, length, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
files = []
for name in sorted(os.listdir(expected)):
    fd = os.open(os.path.join(directory, name), os.O_RDONLY)
    with open(os.path.join(expected, name), "rb") as file:
        files.append((fd, file.read()))
told = {"reads": 0, "wrong": 0, "errors": {}, "longestMs": 0}
over = threading.Event()


def wait_for_end():
    sys.stdin.buffer.read()
    over.set()


threading.Thread(target=wait_for_end, daemon=True).start()
print("ready", file=sys.stderr, flush=True)
while not over.is_set():
    fd, right = chance.choice(files)
    offset = chance.randrange(0, len(right))
    # What the kernel has is no test of what is behind it.
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    began = time.monotonic()
    try:
        found = os.pread(fd, length, offset)
        wanted = right[offset : offset + length]
        if found != wanted[: len(found)]:
            told["wrong"] += 1
        elif len(found) < len(wanted):
            # Of a read whose first pages came, that is all that is told of an error.
            told["errors"]["short"] = told["errors"].get("short", 0) + 1
    except OSError as error:
        name = errno.errorcode.get(error.errno, str(error.errno))
        told["errors"][name] = told["errors"].get(name, 0) + 1
    told["reads"] += 1
    told["longestMs"] = max(told["longestMs"], round((time.monotonic() - began) * 1000))
    # As a program that does something with what it reads.
    time.sleep(0.02)
print(json.dumps(told), flush=True)
