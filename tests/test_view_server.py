"""Who may ask the viewer's server, and for what; what its command line refuses."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer

from distractor_data import publish
from distractor_data.errors import DmaskError
from distractor_data.viewer import page as pages
from distractor_data.viewer.library import Library
from distractor_data.viewer.server import Server


@pytest.fixture(scope="module")
def server(made_once: Path) -> Iterator[Server]:
    with Server(Library(made_once), []) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


EPISODE = "config=walker-run&split=train&episode=0"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.1", "", "[::1"])
@pytest.mark.parametrize("path", ["/", f"/frames?{EPISODE}", f"/series?{EPISODE}"])
def test_a_page_that_took_this_machines_name_reads_nothing(server, host, path):
    status, content = ask(server, path, Host=host)
    assert status == 403
    assert len(content) < 100


def test_a_foreign_page_reads_nothing(server):
    assert ask(server, f"/frames?{EPISODE}", Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(server, f"/frames?{EPISODE}", Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST:1234"])
def test_this_machine_may(server, name):
    assert ask(server, "/", Host=name)[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/../../../../etc/passwd",
        "//etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/meta/info.json",
        "/frames",
        "/frames?config=..&split=..&episode=0",
        "/frames?config=walker-run&split=train&episode=99",
        "/frames?config=walker-run&split=train&episode=-1",
        "/frames?config=walker-run&split=train&episode=../0",
        f"/frames?{EPISODE}&chunk=99",
        f"/frames?{EPISODE}&chunk=-1",
        "/series?config=walker-run%2Ftrain&split=.&episode=0",
    ],
)
def test_nothing_else_is_served(server, path):
    status, content = ask(server, path)
    assert status == 404
    assert content.startswith(b"there is no such")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_is_for_reading(server, method):
    assert ask(server, "/", method)[0] == 501


def test_other_machines_cannot_reach_it(server):
    assert server.server_address[0] == "127.0.0.1"
    with socket.socket() as other:
        other.settimeout(2)
        assert other.connect_ex(("127.0.0.2", server.server_port)) != 0


def test_a_damaged_frame_is_said_and_ends_nothing(folder):
    shard = folder / "walker-run" / "train" / "data" / "chunk-000" / "file-000.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 255
    shard.write_bytes(content)
    with Server(Library(folder), []) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        status, said = ask(server, f"/frames?{EPISODE}")
        assert status == 500
        assert b"dmask verify" in said
        assert ask(server, "/frames?config=walker-run&split=train&episode=2")[0] == 200
        server.shutdown()


def test_of_the_hub_only_what_is_looked_at_is_fetched(hub: HubServer, folder: Path):
    publish.push(folder, "org/data")
    hub.log.clear()
    library = Library("org/data")
    assert set(library.splits) == set(Library(folder).splits)
    assert not [line for line in hub.log if "/data/chunk" in line and line.startswith("GET")]
    library.splits["cheetah-run", "train"].frames(2, 0)
    got = {line.partition("/resolve/")[2] for line in hub.log if "/data/chunk" in line and line.startswith("GET")}
    assert {path.partition("/")[2] for path in got} == {"cheetah-run/train/data/chunk-000/file-001.parquet"}
    assert set(Library("org/data", "cheetah", "test").splits) == {("cheetah-run", "test")}


def test_a_file_of_the_hub_holds_what_one_shard_of_each_split_has(hub: HubServer, folder: Path):
    publish.push(folder, "org/data")
    hub.log.clear()
    held = Library("org/data").chosen([])
    assert all(held.values())
    shards = [line for line in hub.log if line.startswith("GET") and re.search(r"/data/chunk-000/file-\d+", line)]
    assert shards
    assert all("file-000.parquet" in line for line in shards)


def test_a_taken_port_is_named(server, made_once):
    with pytest.raises(DmaskError, match=f"port {server.server_port}"):
        Server(Library(made_once), [], server.server_port)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--env", "walkr"], "walker"),
        (["--split", "test", "--episode", "7"], "--episode 7"),
        (["--out", "page.html", "--serve"], "--serve"),
        (["--serve", "--port", "70000"], "70000"),
        (["--out", "/dev/null/x.html"], "x.html"),
    ],
)
def test_the_command_line_refuses(refusal, folder, options, words):
    assert words in refusal("view", str(folder), *options)


def test_a_name_that_is_no_text_has_a_page_too(made_once, tmp_path):
    data = Library(made_once).overview([])
    pages.write(tmp_path / "page.html", "dataset.html", ["dataset.js"], "d\udcffta", data)  # a byte that is no UTF-8
    assert "<title>d?ta</title>" in (tmp_path / "page.html").read_text()


def test_an_empty_folder_is_no_dataset(refusal, tmp_path):
    assert "no dataset" in refusal("view", str(tmp_path))
