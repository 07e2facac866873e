"""A stand-in for testcontainers' reaper (ryuk): what carries the labels that clients name goes when the last client has left.

Runs in a container with Debian's python3-minimal, the engine's socket mounted at /var/run/docker.sock. Clients connect to port
8080 and send lines of filters, ``label=NAME=VALUE&…``; each is answered by ``ACK``.
"""

import os
import re
import socket
import threading
import time
from urllib.parse import quote

ENGINE = "/var/run/docker.sock"
KINDS = (
    ("containers", "/containers/json?all=1&", r'"Id":"([0-9a-f]{64})"', "/containers/%s?force=1&v=1"),
    ("networks", "/networks?", r'"Id":"([0-9a-f]{64})"', "/networks/%s"),
    ("volumes", "/volumes?", r'"Name":"([^"]+)"', "/volumes/%s?force=1"),
    ("images", "/images/json?", r'"Id":"(sha256:[0-9a-f]{64})"', "/images/%s?force=1"),
)


def seconds(text):
    """Of a Go duration of one unit, ``10s`` or ``300ms``."""
    number, unit = re.fullmatch(r"([0-9.]+)(ms|s|m)", text).groups()
    return float(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def ask(method, path):
    with socket.socket(socket.AF_UNIX) as engine:
        engine.connect(ENGINE)
        engine.sendall(f"{method} /v1.43{path} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
        answer = b""
        while piece := engine.recv(65536):
            answer += piece
    return answer.decode("utf-8", "replace")


def reap(filters):
    for name, listing, pattern, removal in KINDS:
        for labels in sorted(filters):
            wanted = '","'.join(label.replace('"', r"\"") for label in labels)
            found = ask("GET", listing + "filters=" + quote('{"label":["' + wanted + '"]}'))
            for thing in re.findall(pattern, found):
                print(f"removing {name} {thing}: {ask('DELETE', removal % quote(thing)).split(' ')[1]}", flush=True)


class Reaper:
    def __init__(self, patience):
        self.patience = patience
        self.filters = set()
        self.clients = 0
        self.left = threading.Condition()

    def serve(self, client):
        try:
            with client, client.makefile("rwb") as lines:
                for line in lines:
                    self.filters.add(tuple(part.partition("=")[2] for part in line.decode().strip().split("&")))
                    lines.write(b"ACK\n")
                    lines.flush()
        except OSError:
            pass  # it was killed
        with self.left:
            self.clients -= 1
            self.left.notify_all()

    def accept(self, server):
        while True:
            client, address = server.accept()
            print(f"client {address[0]} connected", flush=True)
            with self.left:
                self.clients += 1
                self.left.notify_all()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def until_left_alone(self):
        """Until a client came, and for some time there has been none."""
        with self.left:
            self.left.wait_for(lambda: self.clients)
            while True:
                self.left.wait_for(lambda: not self.clients)
                if not self.left.wait_for(lambda: self.clients, self.patience):
                    return


def main():
    reaper = Reaper(seconds(os.environ.get("RYUK_RECONNECTION_TIMEOUT", "10s")))
    server = socket.create_server(("0.0.0.0", 8080))
    threading.Thread(target=reaper.accept, args=(server,), daemon=True).start()
    print(time.strftime("%Y/%m/%d %H:%M:%S"), "Started!", flush=True)
    reaper.until_left_alone()
    reap(reaper.filters)


main()
