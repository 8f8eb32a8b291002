#!/usr/bin/env python3
"""Prints every name under a directory, one line each, so that two trees can be compared as text.

Runs as a child process: the process that serves a mount must never touch it. Columns, separated by tabs:
path, type, mode, uid, gid, mtime ns, size, nlink, inode group, rdev, symlink target, xattrs, sha256.
Names are bytes: everything but printable ASCII, and the backslash, is written \\xNN. The inode group is the first of an
inode's names in byte order. Left out: st_blocks (EROFS computes it from the size), sizes of directories (a property
of the file system that holds them) and trusted.* (the file system's own bookkeeping).
"""
import argparse
import hashlib
import os
import stat
import sys

TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink", stat.S_IFCHR: "char",
         stat.S_IFBLK: "block", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket"}
# Shapes the byte 0x09 and newline out of names too, so that a line is always one name.
ESCAPES = [chr(b) if 0x20 <= b < 0x7F and b != 0x5C else f"\\x{b:02x}" for b in range(256)]


def escape(name):
    return "".join([ESCAPES[b] for b in name])


def walk(root, check_inodes):
    """Yields (path relative to root, lstat) for the root and everything below it; paths are bytes."""
    yield b".", os.lstat(root)
    pending = [b""]
    while pending:
        directory = pending.pop()
        with os.scandir(os.path.join(root, directory) if directory else root) as entries:
            for entry in entries:
                path = os.path.join(directory, entry.name)
                info = os.lstat(os.path.join(root, path))
                kind = stat.S_IFMT(info.st_mode)
                # d_type is part of what a directory listing promises.
                if entry.is_dir(follow_symlinks=False) != (kind == stat.S_IFDIR):
                    raise SystemExit(f"d_type of {path!r} contradicts its mode")
                if check_inodes and entry.inode() != info.st_ino and not os.path.ismount(os.path.join(root, path)):
                    raise SystemExit(f"d_ino of {path!r} is {entry.inode()}, stat says {info.st_ino}")
                yield path, info
                if kind == stat.S_IFDIR:
                    pending.append(path)


def xattrs(path):
    names = sorted(n for n in os.listxattr(path, follow_symlinks=False) if not n.startswith("trusted."))
    return ",".join(f"{escape(os.fsencode(n))}={os.getxattr(path, n, follow_symlinks=False).hex()}" for n in names)


def sha256(path, size):
    digest = hashlib.sha256()
    seen = 0
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            seen += len(chunk)
    if seen != size:
        raise SystemExit(f"{path!r}: stat says {size} bytes, read {seen}")
    return digest.hexdigest()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("--max-hash", type=int, default=1 << 30, help="bytes; larger files are listed without sha256")
    parser.add_argument("--no-xattrs", action="store_true")
    parser.add_argument("--no-hash", action="store_true")
    parser.add_argument("--overlay", action="store_true", help="d_ino is not st_ino there when the layers' devices differ")
    options = parser.parse_args()
    root = os.fsencode(options.root)
    found = sorted(walk(root, not options.overlay))
    group = {}
    hashes = {}
    out = []
    for path, info in found:
        inode = (info.st_dev, info.st_ino)
        first = group.setdefault(inode, path)
        kind = stat.S_IFMT(info.st_mode)
        full = root if path == b"." else os.path.join(root, path)
        digest = "-"
        if kind == stat.S_IFREG and not options.no_hash and info.st_size <= options.max_hash:
            if inode not in hashes:
                hashes[inode] = sha256(full, info.st_size)
            digest = hashes[inode]
        device = kind in (stat.S_IFCHR, stat.S_IFBLK)
        out.append("\t".join([
            escape(path), TYPES[kind], f"{stat.S_IMODE(info.st_mode):04o}", str(info.st_uid), str(info.st_gid),
            str(info.st_mtime_ns), "-" if kind == stat.S_IFDIR else str(info.st_size), str(info.st_nlink),
            escape(first), f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" if device else "-",
            escape(os.readlink(full)) if kind == stat.S_IFLNK else "-",
            "-" if options.no_xattrs else xattrs(full), digest,
        ]))
    sys.stdout.write("\n".join(out) + "\n")


main()
