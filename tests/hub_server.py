"""A stand-in for the hub on this machine: its API, redirects for large files, and faults."""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin", ".pth", ".model")


@dataclass
class Hub:
    """repositories: {repo: {file: content}}; plain: {path: content} beside the hub.

    faults: {file: [fault, ...]}, each taken by one request: an int (status), ("drop", n) after n
    bytes, "ignore-range", "page" (HTML, 200), ("content", bytes). gated: repositories that ask for
    the token `granted`. slow: seconds between pieces of 64 KiB. served: [(name, first byte,
    bytes)]; sent: bytes of all files so far; asked: [(name, first byte)]; tokens: [(path, what
    was sent as Authorization)].
    """

    repositories: dict = field(default_factory=dict)
    plain: dict = field(default_factory=dict)
    faults: dict = field(default_factory=dict)
    gated: set = field(default_factory=set)
    slow: float = 0
    sent: int = 0
    served: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    tokens: list = field(default_factory=list)
    url: str = ""

    def bytes_of(self, name):
        return sum(n for path, _, n in self.served if path.endswith(name))


def _listing(repo, files):
    siblings = []
    for name, content in files.items():
        entry = {
            "rfilename": name,
            "size": len(content),
            "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
        }
        if name.endswith(LARGE):
            digest = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 135}
        siblings.append(entry)
    return {"_id": "1", "id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings}


@contextmanager
def serving(hub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def do_HEAD(self):  # noqa: N802 - the name that http.server calls
            self.do_GET(body=False)

        def do_GET(self, body=True):  # noqa: N802
            path = unquote(urlsplit(self.path).path)
            token = self.headers.get("Authorization", "")
            hub.tokens.append((path, token))
            for repo, files in hub.repositories.items():
                listing = path.startswith(f"/api/models/{repo}/revision/")
                prefix = f"/{repo}/resolve/{COMMIT}/"
                if not listing and not path.startswith(prefix):
                    continue
                if repo in hub.gated and token != "Bearer granted":
                    return self._say(403, b"gated", {"X-Error-Code": "GatedRepo"}, body)
                if listing:
                    if path.rpartition("/")[2] not in (COMMIT, "main"):
                        return self._say(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
                    return self._say(200, json.dumps(_listing(repo, files)).encode(), {}, body)
                name = path.removeprefix(prefix)
                if name.endswith(LARGE):
                    return self._say(302, b"", {"Location": f"{hub.url}/cdn/{repo}/{name}"}, body)
                return self._content(name, files[name], body)
            for repo, files in hub.repositories.items():
                if path.startswith(f"/cdn/{repo}/"):
                    name = path.removeprefix(f"/cdn/{repo}/")
                    return self._content(name, files[name], body)
            if path in hub.plain:
                return self._content(path, hub.plain[path], body)
            return self._say(404, b"", {"X-Error-Code": "RepoNotFound"}, body)

        def _say(self, status, content, headers, body):
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def _content(self, name, content, body):
            waiting = hub.faults.get(name, []) if body else []
            fault = waiting.pop(0) if waiting else None
            if isinstance(fault, int):
                return self._say(fault, b"", {"Retry-After": "1"}, body)
            if fault == "page":
                return self._say(200, b"<!DOCTYPE html><p>Try later</p>", {}, body)
            if isinstance(fault, tuple) and fault[0] == "content":
                content = fault[1]
            wanted = self.headers.get("Range", "")
            first = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            if fault == "ignore-range":
                first = 0
            if first >= len(content) > 0:
                return self._say(416, b"", {"Content-Range": f"bytes */{len(content)}"}, body)
            if body:
                hub.asked.append((name, first))
            part = content[first:]
            self.send_response(206 if first else 200)
            if first:
                span = f"bytes {first}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", span)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if not body:
                return None
            if isinstance(fault, tuple) and fault[0] == "drop":
                part = part[: fault[1]]
                self.close_connection = True
            sent = 0
            try:
                for start in range(0, len(part), 1 << 16):
                    self.wfile.write(part[start : start + (1 << 16)])
                    hub.sent += min(1 << 16, len(part) - start)
                    sent = min(start + (1 << 16), len(part))
                    time.sleep(hub.slow)
            except OSError:
                pass  # whoever asked is gone
            hub.served.append((name, first, sent))
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
