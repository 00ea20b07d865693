"""Reads the event files of a run with TensorBoard itself, as a user would.

    python3 -m venv /tmp/venv-tb && /tmp/venv-tb/bin/pip install tensorboard 'setuptools<81'
    /tmp/venv-tb/bin/python bench/tensorboard_check.py RUN_DIR

It reads them three ways: TensorBoard's library, its server with the fast reader, and its server
without. All of them must tell the same steps of the same tags, and give back the pictures as PNG.
What they tell is printed as JSON; the exit code is 1 when they disagree or there is nothing.

Of a run that was resumed at an earlier step, the fast reader forgets what was undone curve by
curve, once the curve has been told again; the others forget all of it at once. So shortly after
such a resume they disagree about the steps that are still to be made again.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import tensorboard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def by_library(folder):
    """{tag: [(step, value)]} of scalars, {tag: [(step, width, height)]} of images."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    scalars = {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in tags["scalars"]
    }
    images = {
        tag: [(event.step, event.width, event.height) for event in accumulator.Images(tag)]
        for tag in tags["images"]
    }
    return scalars, images


class Server:
    """`tensorboard --logdir` on a port of its own."""

    def __init__(self, logdir, fast):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir)]
        command += ["--port", str(self.port), "--samples_per_plugin", "scalars=1000000,images=1000000"]
        command += ["--load_fast", "true" if fast else "false"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def get(self, path, **query):
        query = urllib.parse.urlencode(query)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}?{query}") as answer:
            return answer.read()

    def json(self, path, **query):
        return json.loads(self.get(path, **query))

    def tags(self, seconds=90):
        """{run: tags} of scalars and of images, once they have been read."""
        path = "/data/plugin/{}/tags"
        before = None
        for _ in range(seconds):
            time.sleep(1)
            try:
                found = [self.json(path.format(plugin)) for plugin in ("scalars", "images")]
            except urllib.error.URLError:
                continue
            # Twice the same: nothing is still being read.
            if any(found) and found == before:
                return found
            before = found
        raise SystemExit(f"the server says nothing within {seconds} s")

    def stop(self):
        self.process.terminate()
        return self.process.communicate()[1]


def by_server(logdir, fast):
    """As `by_library`, over HTTP; every picture is fetched."""
    server = Server(logdir, fast)
    try:
        scalar_tags, image_tags = server.tags()
        scalars, images = {}, {}
        for run, tags in scalar_tags.items():
            for tag in tags:
                points = server.json("/data/plugin/scalars/scalars", run=run, tag=tag)
                scalars[tag] = [(step, value) for _, step, value in points]
        for run, tags in image_tags.items():
            for tag in tags:
                images[tag] = []
                for shown in server.json("/data/plugin/images/images", run=run, tag=tag, sample=0):
                    query = dict(urllib.parse.parse_qsl(shown["query"]))
                    png = server.get("/data/plugin/images/individualImage", **query)
                    if not png.startswith(b"\x89PNG\r\n\x1a\n"):
                        raise SystemExit(f"{tag} at step {shown['step']} is no PNG")
                    size = [int.from_bytes(png[at : at + 4]) for at in (16, 20)]
                    images[tag].append((shown["step"], *size))
        return (scalars, images), (scalar_tags, image_tags)
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run directory of `kao train`")
    run = parser.parse_args().run
    logs = run / "logs"
    files = sorted(path.name for path in logs.glob("*tfevents*"))
    if not files:
        raise SystemExit(f"error: `{logs}`: no event files")
    told = {"library": by_library(logs)}
    tags = {}
    for name, fast in (("server, fast reader", True), ("server", False)):
        told[name], tags[name] = by_server(run, fast)
    scalars, images = told["library"]
    print(json.dumps({
        "tensorboard": tensorboard.__version__,
        "files": files,
        "/data/plugin/scalars/tags": {name: found[0] for name, found in tags.items()},
        "/data/plugin/images/tags": {name: found[1] for name, found in tags.items()},
        "scalars": {tag: {"points": len(p), "first": p[0], "last": p[-1]} for tag, p in scalars.items()},
        "images": images,
    }, indent=2))
    different = []
    for name, found in told.items():
        for kind, theirs, ours in zip(("scalar", "image"), found, told["library"]):
            for tag in sorted(theirs.keys() | ours.keys()):
                if theirs.get(tag) != ours.get(tag):
                    different.append(f"{kind} `{tag}`: {name} tells {theirs.get(tag)}, "
                                     f"the library {ours.get(tag)}")
    for words in different:
        print(f"error: {words}", file=sys.stderr)
    return 1 if different or not scalars else 0


if __name__ == "__main__":
    sys.exit(main())
