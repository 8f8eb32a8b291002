#!/usr/bin/env python3
"""Reads files at many offsets, each in a thread of its own, all started at once. Prints the sha256 of what was read.

usage: read-at.py FILE[,FILE...] LENGTH OFFSET...   (bytes)   or: read-at.py FILE[,FILE...] LENGTH --spread COUNT
Prints `ready` on stderr before the first read, so that a test knows that the reads are on their way.
"""
import hashlib
import os
import sys
import threading

paths, length, rest = sys.argv[1].split(","), int(sys.argv[2]), sys.argv[3:]
places = []
for path in paths:
    fd = os.open(path, os.O_RDONLY)
    if rest[0] == "--spread":
        step = os.fstat(fd).st_size // int(rest[1])
        places += [(fd, i * step // 4096 * 4096) for i in range(int(rest[1]))]
    else:
        places += [(fd, int(text)) for text in rest]
results = [b""] * len(places)
start = threading.Barrier(len(places) + 1)


def read(i):
    start.wait()
    results[i] = os.pread(places[i][0], length, places[i][1])


threading.stack_size(65536)
threads = [threading.Thread(target=read, args=(i,), daemon=True) for i in range(len(places))]
for thread in threads:
    thread.start()
start.wait()
print("ready", file=sys.stderr, flush=True)
for thread in threads:
    thread.join()
print(hashlib.sha256(b"".join(results)).hexdigest())
