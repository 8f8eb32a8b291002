#!/usr/bin/env python3
"""Reads pieces of one file at random places, past the page cache, and compares them with the same file elsewhere.

usage: checking-reader.py FILE RIGHT-FILE SEED   until stdin closes; then prints JSON: {"reads", "wrong", "failed", "longestMs", "error"}
A line on stdin prints the counts so far and begins anew. The process is never the one that serves the file.
"""
import json
import os
import random
import select
import sys
import time

path, right_path, seed = sys.argv[1:]
dice = random.Random(int(seed))
with open(right_path, "rb") as file:
    right = file.read()


def fresh():
    return {"reads": 0, "wrong": 0, "failed": 0, "longestMs": 0, "error": None}


counts = fresh()
while True:
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    if ready:
        line = sys.stdin.readline()
        print(json.dumps(counts), flush=True)
        if line == "":
            break
        counts = fresh()
    length = dice.choice((4096, 65536, 300000))
    offset = dice.randrange(len(right)) // 512 * 512
    started = time.monotonic()
    counts["reads"] += 1
    try:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            got = os.pread(fd, length, offset)
        finally:
            os.close(fd)
        if got != right[offset : offset + len(got)] or (len(got) == 0 and offset < len(right)):
            counts["wrong"] += 1
    except OSError as error:
        counts["failed"] += 1
        counts["error"] = str(error)
    counts["longestMs"] = max(counts["longestMs"], round((time.monotonic() - started) * 1000))
