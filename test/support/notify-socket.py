"""Plays the service manager: prints every datagram that arrives on the socket argv[1] as a line of JSON."""
import json
import socket
import sys

listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
print(json.dumps("ready"), flush=True)
while True:
    print(json.dumps(listener.recv(65536).decode()), flush=True)
