#!/usr/bin/env python3
"""Waits for a line on stdin, looks up names and reads files, and prints when that was done, in ns of the monotonic clock.

usage: touch-tree.py DIRECTORY COUNT FILE...   looks up the first COUNT of the names that `file-%05d` gives in DIRECTORY
"""
import os
import sys
import time

directory, count, files = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
print("ready", flush=True)
sys.stdin.readline()
for i in range(count):
    os.stat(f"{directory}/file-{i:05d}")
looked = time.monotonic_ns()
total = 0
for path in files:
    fd = os.open(path, os.O_RDONLY)
    # What the kernel cached of the mount goes, so that every byte comes through the server.
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    while chunk := os.read(fd, 1 << 20):
        total += len(chunk)
    os.close(fd)
print(f"looked-up {looked}\nread {total} {time.monotonic_ns()}", flush=True)
