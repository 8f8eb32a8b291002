"""Runs a program as a service manager does that has bound its sockets: pass-sockets.py NAME=PATH... -- PROGRAM ARGUMENT..."""
import os
import socket
import sys

split = sys.argv.index("--")
names, sockets = [], []
for word in sys.argv[1:split]:
    name, path = word.split("=", 1)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    names.append(name)
    sockets.append(listener)
# Away from the places they are to have, which they could overwrite one another in.
copies = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(sockets)]
for i, copy in enumerate(copies):
    os.dup2(copy, 3 + i, inheritable=True)
    os.close(copy)
os.environ.update(LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names), LISTEN_PID=str(os.getpid()))
os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])
