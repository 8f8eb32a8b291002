#!/usr/bin/env python3
"""mount(2) of an EROFS image in a plain file: mount(8) would put a loop device under it, which cannot have device= files."""
import ctypes
import os
import sys

MS_RDONLY = 1
image, target, options = (argument.encode() for argument in sys.argv[1:4])
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(image, target, b"erofs", MS_RDONLY, options) != 0:
    sys.exit(f"mount of {sys.argv[1]}: {os.strerror(ctypes.get_errno())}")
