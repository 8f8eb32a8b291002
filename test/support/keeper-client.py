"""Says to the keeper on argv[1] what no client of ours would, and prints each answer as a line of JSON. argv[2]: what."""
import json
import os
import socket
import sys


def connect():
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    client.connect(sys.argv[1])
    client.settimeout(20)
    return client


def say(client, message, fds=()):
    socket.send_fds(client, [message], list(fds))
    answer, got, _, _ = socket.recv_fds(client, 65536, 10)
    for fd in got:
        os.close(fd)
    print(json.dumps(answer.decode()), flush=True)


def hostile():
    client = connect()
    null = os.open("/dev/null", os.O_RDWR)
    say(client, b"FDSTORE=1\nFDNAME=none")
    say(client, b"FDSTORE=1\nFDNAME=two", [null, null])
    say(client, b"FDSTORE=1\nFDNAME=many", [null] * 253)
    say(client, b"FDSTORE=1\nFDNAME=a:b", [null])
    say(client, b"FDSTORE=1\nFDNAME=", [null])
    say(client, b"FDSTORE=1\nFDNAME=" + b"x" * 256, [null])
    say(client, b"FDSTORE=1\nFDNAME=tab\t", [null])
    say(client, b"FDSTORE=1\nFDNAME=\xc3\xa4", [null])
    say(client, b"FDSTORE=1\nFDNAME=nul\0", [null])
    say(client, b"FDSTORE=1\nFDSTOREREMOVE=1\nFDNAME=both", [null])
    say(client, b"FDSTOREREMOVE=1\nFDNAME=other", [null])
    say(client, b"FDSTOREREMOVE=1")
    say(client, b"READY=1")
    say(client, b"\n\n==\n")
    say(client, b"PEEL=status", [null])
    say(client, b"PEEL=everything")
    say(client, b"PEEL=upgrade\nTIMEOUT_MSEC=-1")
    say(client, b"PEEL=upgrade\nARG=x")
    say(client, b"PEEL=reexec\nPATH=relative")
    say(client, b"x" * 65537, [null])
    # The words that systemd would take, among others, and a name as it gives one.
    say(client, b"STATUS=x\nFDSTORE=1\nFDPOLL=0\nUNKNOWN", [null])
    say(client, b"FDSTORE=1\nFDNAME=" + b"x" * 255, [null])


def idle():
    """Asks for everything again and again, reads nothing, and says when no more can be said."""
    client = connect()
    client.setblocking(False)
    asked = 0
    try:
        while asked < 100000:
            client.send(b"PEEL=fds")
            asked += 1
    except BlockingIOError:
        pass
    print(json.dumps("full"), flush=True)
    sys.stdin.read()


def other():
    """Of another user."""
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    try:
        client = connect()
        client.send(b"PEEL=status")
        print(json.dumps(client.recv(1000).decode()))
    except OSError as error:
        print(json.dumps(type(error).__name__))


def crowd():
    """Many connections at once; each that is served answers."""
    clients = [connect() for _ in range(100)]
    served = 0
    for client in clients:
        try:
            client.send(b"PEEL=status")
            served += client.recv(1000).startswith(b"OK=1")
        except OSError:
            pass
    print(json.dumps(served))


{"hostile": hostile, "idle": idle, "other": other, "crowd": crowd}[sys.argv[2]]()
