"""The dataset's page on this machine: a server for this machine's browser and nobody else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from distractor_data.errors import DmaskError
from distractor_data.viewer.library import Library, Split
from distractor_data.viewer.page import render

HOST = "127.0.0.1"
_OURS = {HOST, "localhost"}  # names of this machine in a browser's request; another is a page that would read along
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
Answer = tuple[str, bytes]  # content type, content


class Server(ThreadingHTTPServer):
    """Serves `/`, `/frames` and `/series` of a library. No address is a path: episodes are found by number."""

    daemon_threads = True

    def __init__(self, library: Library, opened: list[int], port: int = 0) -> None:
        """`port` 0 is any that is free; `opened` are the episodes to begin with. Raises `DmaskError` where the port
        is taken."""
        data = library.overview(opened)
        self.page = "".join(render("dataset.html", ["dataset.js"], library.name, data)).encode(errors="replace")
        self.library = library
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise DmaskError(f"port {port} can't be used ({error}); choose another --port, or 0 for any") from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def run(self) -> None:
        """Serve until somebody presses Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            self.serve_forever()

    def find(self, query: str) -> tuple[Split, int, int]:
        """The split, the episode and the chunk that a query names. Raises `LookupError` or `ValueError`."""
        asked = {key: values[0] for key, values in parse_qs(query).items()}
        split = self.library.splits[asked["config"], asked["split"]]
        return split, int(asked["episode"]), int(asked.get("chunk", 0))


def _frames(server: Server, query: str) -> Answer:
    split, episode, chunk = server.find(query)
    return "application/octet-stream", split.frames(episode, chunk)


def _series(server: Server, query: str) -> Answer:
    split, episode, _ = server.find(query)
    return "application/json", json.dumps(split.series(episode), allow_nan=False).encode()


def _page(server: Server, query: str) -> Answer:
    return "text/html; charset=utf-8", server.page


_ROUTES: dict[str, Callable[[Server, str], Answer]] = {"/": _page, "/frames": _frames, "/series": _series}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer the page's own browser; others are refused, whatever name they gave this machine."""
        host = self.headers.get("Host", "").partition(":")[0].lower()
        if host not in _OURS or self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            self._send(HTTPStatus.FORBIDDEN, ("text/plain", b"for a browser on this machine only"))
            return
        path, _, query = self.path.partition("?")
        if path not in _ROUTES:
            self._send(HTTPStatus.NOT_FOUND, ("text/plain", b"there is no such page"))
            return
        try:
            self._send(HTTPStatus.OK, _ROUTES[path](self.server, query))
        except (LookupError, ValueError):
            self._send(HTTPStatus.NOT_FOUND, ("text/plain", b"there is no such episode"))
        except DmaskError as error:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, ("text/plain; charset=utf-8", str(error).encode()))

    def _send(self, status: HTTPStatus, answer: Answer) -> None:
        kind, content = answer
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the page went on to another frame, or away
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: whoever looks on sees the page."""
