"""A small Hub on loopback: repositories on disk behind the HTTP interface that `huggingface_hub` speaks.

It serves the LFS way of storing (`HF_HUB_DISABLE_XET=1`), checks every SHA-256 it is told, and can fail on
purpose.

    with HubServer(tmp_path) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.fail(7, "drop")          # the seventh request from now on breaks in the middle
        hub.fail(9, 429, retry_after=0)
        hub.refuse("/commit/", 429)  # every request for a commit is answered so, until hub.up()
        hub.down_from(12)            # every request from the twelfth on breaks, until hub.up()
        hub.meet("/commit/", 2)      # the next two requests for a commit wait for each other
        hub.when("/preupload/", act) # before the next one is answered, `act()` is called
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hub_routes import Handler
from hub_store import Store

TOKEN = "hf_loopback_write"
READ_TOKEN = "hf_loopback_read"


class HubServer(Store, ThreadingHTTPServer):
    """See the module. `log` holds `METHOD path` of every request, `stored` the size of every upload."""

    daemon_threads = True

    def __init__(self, directory: str | Path, page: int = 7, chunk_size: int = 20_000) -> None:
        Store.__init__(self, directory)
        ThreadingHTTPServer.__init__(self, ("127.0.0.1", 0), Handler)
        self.page, self.chunk_size = page, chunk_size  # small, so that both are exercised
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock = threading.RLock()
        self.users = {
            TOKEN: {"name": "alice", "orgs": ["alice", "org"], "role": "write"},
            READ_TOKEN: {"name": "bob", "orgs": ["bob"], "role": "read"},
        }
        self.reset(directory)

    def reset(self, directory: str | Path) -> None:
        """Serve another folder and forget what was asked."""
        self.directory = Path(directory)
        self.log: list[str] = []
        self.authorizations: set[str] = set()
        self.stored: list[int] = []
        self.faults: dict[int, tuple[Any, dict[str, Any]]] = {}
        self.dead_from: int | None = None
        self.refused: dict[str, tuple[int, dict[str, Any]]] = {}
        self.pauses: dict[str, Callable[[], object]] = {}

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    @property
    def requests(self) -> int:
        return len(self.log)

    def fail(self, request: int, kind: str | int, **options: Any) -> None:
        """Let the `request`-th request from now fail once: "drop", "corrupt" or a status."""
        self.faults[self.requests + request] = (kind, options)

    def refuse(self, path: str, status: int, **options: Any) -> None:
        """Answer every request for `path` (a part of it) with a status, until `up`."""
        self.refused[path] = (status, options)

    def down_from(self, request: int, kind: str | int = "drop") -> None:
        """From the `request`-th request from now on, break every connection in the middle, or answer a status."""
        self.dead_from, self.dead_kind = self.requests + request, kind

    def when(self, path: str, act: Callable[[], object]) -> None:
        """Call `act` before the next request for `path` (a part of it) is answered."""

        def once() -> None:
            with self.lock:
                self.pauses.pop(path, None)
            act()

        self.pauses[path] = once

    def meet(self, path: str, clients: int) -> None:
        """Let the next `clients` requests for `path` (a part of it) wait for each other."""
        barrier = threading.Barrier(clients, action=lambda: self.pauses.pop(path), timeout=60)
        self.pauses[path] = barrier.wait

    def pause(self, line: str) -> None:
        for path, act in list(self.pauses.items()):
            if path in line:
                act()

    def up(self) -> None:
        self.dead_from = None
        self.faults.clear()
        self.refused.clear()

    def fault(self, line: str) -> tuple[Any, dict[str, Any]] | None:
        with self.lock:
            self.log.append(line)
            number = len(self.log)
            if self.dead_from is not None and number >= self.dead_from:
                return self.dead_kind, {}
            for path, (status, options) in self.refused.items():
                if path in line:
                    return status, dict(options)
            return self.faults.pop(number, None)


def main() -> None:
    """Serve a folder until interrupted: `python tests/hub_server.py DIR`."""
    import sys

    with HubServer(sys.argv[1]) as hub:
        print(f"HF_ENDPOINT={hub.url} HF_HUB_DISABLE_XET=1 HF_TOKEN={TOKEN}", flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
