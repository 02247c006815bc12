"""A server on loopback with the quirks of real ones, which counts what it sends."""

import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PIECE = 1 << 14


@dataclass
class Served:
    """What one path answers.

    drops: the next answers break off after so many bytes each; statuses: the next answers have
    these statuses instead, with `headers`; length: what Content-Length says in place of the truth;
    redirect: where the path leads; rate: bytes a second.
    """

    content: bytes = b""
    kind: str = "application/octet-stream"
    etag: str | None = None
    modified: str | None = None
    ranges: bool = True
    says_length: bool = True
    length: int | None = None
    drops: list = field(default_factory=list)
    statuses: list = field(default_factory=list)
    headers: dict = field(default_factory=dict)
    redirect: str | None = None
    rate: float | None = None


class DownloadServer:
    """`files` by path, `requests` as (path, Range, status), `sent` bytes of bodies by path."""

    def __init__(self):
        self.files, self.requests, self.sent = {}, [], {}
        self.lock = threading.Lock()
        self.answer_other = None  # a function (handler) -> bool for paths that are not in `files`
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                try:
                    owner.answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            do_HEAD = do_GET

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self):
                connection, address = super().get_request()
                # Small buffers, so that bytes "sent" have nearly arrived.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 15)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection, address

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def serve(self, path, content=b"", **quirks):
        """Serve bytes at a path; returns the address."""
        self.files[path] = Served(content, **quirks)
        return self.url + path

    def asked(self, path):
        """(Range, status) of the requests for a path."""
        return [(ranged, status) for other, ranged, status in self.requests if other == path]

    def answer(self, handler):
        path = urlsplit(handler.path).path
        served = self.files.get(path)
        ranged = handler.headers.get("Range")
        if served is None:
            if self.answer_other is not None and self.answer_other(handler):
                return
            self.say(handler, path, ranged, 404, b"nothing here", {"Content-Type": "text/plain"})
            return
        if served.redirect:
            self.say(handler, path, ranged, 302, b"", {"Location": served.redirect})
            return
        with self.lock:
            status = served.statuses.pop(0) if served.statuses else None
            drop = served.drops.pop(0) if served.drops and status is None else None
        if status is not None:
            self.say(handler, path, ranged, status, b"not now", served.headers)
            return
        self.body(handler, path, served, drop)

    def body(self, handler, path, served, drop):
        ranged = handler.headers.get("Range")
        headers = {"Content-Type": served.kind}
        if served.etag:
            headers["ETag"] = served.etag
        if served.modified:
            headers["Last-Modified"] = served.modified
        if served.ranges:
            headers["Accept-Ranges"] = "bytes"
        content, status = served.content, 200
        condition = handler.headers.get("If-Range")
        changed = condition is not None and condition not in (served.etag, served.modified)
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", ranged or "") if served.ranges else None
        if match and not changed:
            whole = len(content)
            start = int(match[1]) if match[1] else max(0, whole - int(match[2]))
            end = min(int(match[2]) + 1, whole) if match[1] and match[2] else whole
            if start >= whole:
                self.say(handler, path, ranged, 416, b"", {"Content-Range": f"bytes */{whole}"})
                return
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{whole}"
            content, status = content[start:end], 206
        if served.says_length:
            headers["Content-Length"] = str(
                len(content) if served.length is None else served.length
            )
        else:
            headers["Connection"] = "close"
        self.say(handler, path, ranged, status, content, headers, drop, served)

    def say(self, handler, path, ranged, status, content, headers, drop=None, served=None):
        with self.lock:
            self.requests.append((path, ranged, status))
        handler.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            if not (name == "Content-Length" and served and not served.says_length):
                handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        broken = drop is not None or (
            served and (served.length is not None or not served.says_length)
        )
        if drop is not None:
            content = content[:drop]
        for start in range(0, len(content), PIECE):
            piece = content[start : start + PIECE]
            handler.wfile.write(piece)
            with self.lock:
                self.sent[path] = self.sent.get(path, 0) + len(piece)
            if served and served.rate:
                time.sleep(len(piece) / served.rate)
        if broken:
            handler.close_connection = True
