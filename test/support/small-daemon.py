"""Plays a daemon under the keeper: writes what happens to it to stderr, a word a line. argv: what it does, in order."""
import os
import signal
import socket
import sys
import threading
import time


def say(*words):
    print("small", *words, file=sys.stderr, flush=True)


def notify(text):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.connect(os.environ["NOTIFY_SOCKET"])
    client.send(text.encode())


def beat():
    while True:
        notify("WATCHDOG=1")
        time.sleep(0.05)


def on_signal(number, _):
    say("got", signal.Signals(number).name)
    if number == signal.SIGTERM:
        notify("STOPPING=1\nSTATUS=stopping")
        sys.exit(0)


for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, on_signal)
for word in sys.argv[1:]:
    if word == "ready":
        notify("READY=1\nSTATUS=well\nWATCHDOG=1\nMAINPID=1")
    elif word == "child-ready":
        if os.fork() == 0:
            notify("READY=1")
            os._exit(0)
        os.wait()
    elif word == "files":
        # Without the one by which they are looked for.
        found = {fd: os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
        say("files", *(os.path.basename(path).split(":")[0] for fd, path in sorted(found.items()) if os.path.exists(f"/proc/self/fd/{fd}")))
    elif word == "environment":
        say("environment", *sorted(name for name in os.environ if name in ("NOTIFY_SOCKET", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")), "WATCHDOG_USEC=" + os.environ["WATCHDOG_USEC"])
    elif word == "rights":
        say("rights", next(line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")))
    elif word == "beating":
        threading.Thread(target=beat, daemon=True).start()
    elif word == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif word.startswith("exit="):
        sys.exit(int(word[5:]))
    elif word.startswith("sleep="):
        time.sleep(float(word[6:]))
    else:
        say(word)
while True:
    signal.pause()
