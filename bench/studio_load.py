"""Load on `kao studio` over loopback: what it bears, and how quickly it answers meanwhile.

    python3 bench/studio_load.py target/release/kao [--clients 200] [--seconds 60] [--idle 10000]

Starts the program, asks it for pages and jobs from many clients at once, keeps slow clients and
connections that do nothing open, and sends half and broken requests. Prints answers by status,
latencies, the peak of memory, what previews cost, and the time from asking for one face to the
first preview. Exits with 1 where an answer was wrong or the server did not live through it.
"""

import argparse
import collections
import json
import os
import random
import re
import resource
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time


class Server:
    def __init__(self, program):
        self.process = subprocess.Popen(
            [program, "studio", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        self.port = int(re.search(rb":(\d+)/", self.process.stdout.readline()).group(1))

    def connect(self, timeout=60):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def ask(self, method, path, body=b"", timeout=60):
        """Status and body of an answer."""
        with self.connect(timeout) as connection:
            head = (f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
                    f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n")
            connection.sendall(head.encode() + body)
            answer = b""
            while part := connection.recv(1 << 16):
                answer += part
        if not answer:
            raise ConnectionError("an empty answer")
        return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]

    def job(self, **request):
        body = json.dumps({"kind": "sample", "request": request}).encode()
        return self.ask("POST", "/api/v1/jobs", body)

    def wait(self, job):
        while (state := json.loads(self.ask("GET", f"/api/v1/jobs/{job}")[1]))["state"] in ("waiting", "running"):
            time.sleep(0.01)
        return state

    def idle(self):
        while b"kao_jobs_running 0" not in (text := self.ask("GET", "/metrics")[1]) or b"kao_jobs_waiting 0" not in text:
            time.sleep(0.1)

    def peak_bytes(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read()).group(1))

    def processor_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as status:
            times = status.read().rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def first_preview(server):
    """Seconds from asking for one face to the first preview."""
    started = time.monotonic()
    job = json.loads(server.job(count=1, steps=20, seed=random.randrange(1 << 30))[1])["id"]
    with server.connect() as connection:
        connection.sendall(f"GET /api/v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        answer = b""
        while b"event: preview" not in answer:
            part = connection.recv(1 << 16)
            if not part:
                return None
            answer += part
    seconds = time.monotonic() - started
    server.wait(job)
    return seconds


def seconds_of_job(server, listens):
    """Seconds of processor time that a job takes, with somebody who takes its previews or without."""
    before = server.processor_seconds()
    job = json.loads(server.job(count=16, steps=20)[1])["id"]
    if listens:
        with server.connect() as connection:
            connection.sendall(f"GET /api/v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n".encode())
            while connection.recv(1 << 16):
                pass
    server.wait(job)
    return server.processor_seconds() - before


def client(server, until, counts, latencies, wrong, number):
    """Reads and jobs, mixed."""
    chance = random.Random(number)
    mine = []
    while time.monotonic() < until:
        what = chance.random()
        started = time.monotonic()
        try:
            if what < 0.55:
                path = chance.choice(["/", "/static/app.js", "/static/style.css", "/api/v1/models", "/api/v1/about"])
                status, _ = server.ask("GET", path)
                latencies.append(time.monotonic() - started)
                allowed = {200}
            elif what < 0.75:
                status, body = server.job(count=chance.randrange(1, 5), steps=chance.randrange(1, 6), seed=number)
                if status == 202:
                    mine.append(json.loads(body)["id"])
                allowed = {202, 429}
            elif what < 0.9 and mine:
                status, _ = server.ask("GET", f"/api/v1/jobs/{mine[-1]}")
                allowed = {200, 404}
            elif mine:
                status, _ = server.ask("DELETE", f"/api/v1/jobs/{mine.pop()}")
                allowed = {200, 404}
            else:
                status, _ = server.ask("POST", "/api/v1/jobs", chance.choice([b"{", b"[]", b'{"kind":"sample","request":{"steps":1e300}}', b'{"kind":"sample","request":{"count":"x"}}']))
                allowed = {400, 422}
            counts[status] += 1
            if status not in allowed:
                wrong.append((what, status))
        except OSError as error:
            wrong.append((what, repr(error)))
        time.sleep(chance.random() * 0.1)


def slow(server, until, held):
    """Heads and bodies of which only the half comes, and answers that nobody reads."""
    half = [
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: ",
        f"POST /api/v1/uploads HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 9000000\r\n\r\n".encode() + b"x" * 100_000,
        f"GET /static/app.js HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode() * 20,
        b"\x16\x03\x01\x02\x00garbage",
    ]
    while time.monotonic() < until:
        for start in half:
            try:
                connection = server.connect(5)
                connection.sendall(start)
                held.append(connection)
            except OSError:
                pass
        while len(held) > 200:
            held.pop(0).close()
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--idle", type=int, default=10_000)
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = Server(arguments.program)
    print(f"files that a process may open: {soft}, here {hard}; load of the machine {os.getloadavg()[0]:.1f}")

    server.wait(json.loads(server.job(count=1, steps=1)[1])["id"])
    seconds = sorted(filter(None, (first_preview(server) for _ in range(25))))
    print(f"first preview of one face: median {1000 * statistics.median(seconds):.0f} ms, of {len(seconds)}; "
          f"from {1000 * seconds[0]:.0f} to {1000 * seconds[-1]:.0f}")
    pairs = [(seconds_of_job(server, False), seconds_of_job(server, True)) for _ in range(12)]
    ratio = statistics.median(there / alone for alone, there in pairs)
    print(f"16 faces with previews take {ratio:.3f} times the processor time of those without (median of {len(pairs)} pairs)")
    print(f"peak memory before the load: {server.peak_bytes() / 2**20:.0f} MiB")

    idle = []
    for _ in range(arguments.idle):
        try:
            idle.append(server.connect(5))
        except OSError:
            break
    started = time.monotonic()
    status, _ = server.ask("GET", "/healthz")
    print(f"{len(idle)} connections that do nothing: /healthz answers {status} in {1000 * (time.monotonic() - started):.0f} ms; "
          f"peak {server.peak_bytes() / 2**20:.0f} MiB")

    until = time.monotonic() + arguments.seconds
    counts, latencies, wrong, held = collections.Counter(), [], [], []
    threads = [threading.Thread(target=client, args=(server, until, counts, latencies, wrong, n)) for n in range(arguments.clients)]
    threads.append(threading.Thread(target=slow, args=(server, until, held)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for connection in idle + held:
        connection.close()
    latencies.sort()
    at = lambda share: 1000 * latencies[int(share * (len(latencies) - 1))]
    print(f"{arguments.clients} clients for {arguments.seconds:.0f} s: {sum(counts.values())} answers, {dict(sorted(counts.items()))}")
    print(f"pages and lists while jobs compute: median {at(0.5):.0f} ms, 95 % within {at(0.95):.0f} ms, all within {at(1):.0f} ms")
    for problem, n in collections.Counter(map(repr, (what for _, what in wrong))).most_common(8):
        print(f"wrong: {n} × {problem}")
    server.idle()
    print(f"peak memory: {server.peak_bytes() / 2**20:.0f} MiB")
    code = server.end()
    print(f"the server ended with {code}")
    sys.exit(bool(wrong) or code != 0)


main()
