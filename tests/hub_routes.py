"""What the loopback Hub answers: one method a route of the Hub's HTTP interface."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from hub_store import LFS_SUFFIXES, Refused, Repo

if TYPE_CHECKING:
    from hub_server import HubServer

DATE = "2024-01-01T00:00:00.000Z"
REPO = r"(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)"
ROUTES: list[tuple[str, re.Pattern[str], str]] = [
    ("GET", re.compile(r"/api/whoami-v2"), "whoami"),
    ("POST", re.compile(r"/api/validate-yaml"), "validate_yaml"),
    ("POST", re.compile(r"/api/repos/create"), "create"),
    ("GET", re.compile(r"/api/(?P<kind>models|datasets)"), "listing"),
    ("GET", re.compile(rf"/api/{REPO}(/revision/(?P<revision>[^/]+))?"), "info"),
    ("GET", re.compile(rf"/api/{REPO}/refs"), "refs"),
    ("GET", re.compile(rf"/api/{REPO}/commits/(?P<revision>[^/]+)"), "commits"),
    ("GET", re.compile(rf"/api/{REPO}/tree/(?P<revision>[^/]+)(/(?P<path>.*))?"), "tree"),
    ("POST", re.compile(rf"/api/{REPO}/paths-info/(?P<revision>[^/]+)"), "paths_info"),
    ("POST", re.compile(rf"/api/{REPO}/preupload/(?P<revision>[^/]+)"), "preupload"),
    ("POST", re.compile(rf"/api/{REPO}/commit/(?P<revision>[^/]+)"), "commit"),
    ("POST", re.compile(rf"/api/{REPO}/branch/(?P<branch>[^/]+)"), "branch"),
    ("POST", re.compile(rf"/api/{REPO}/tag/(?P<revision>[^/]+)"), "tag"),
    ("DELETE", re.compile(rf"/api/{REPO}/tag/(?P<tag>[^/]+)"), "untag"),
    (
        "POST",
        re.compile(r"/(?P<prefix>datasets/)?(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
        "batch",
    ),
    ("PUT", re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})"), "put"),
    ("PUT", re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})/(?P<part>\d+)"), "put_part"),
    ("POST", re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})/complete"), "complete"),
    ("POST", re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})/verify"), "verify"),
    (
        "GET",
        re.compile(r"/(?P<prefix>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"),
        "resolve",
    ),
]


class Handler(BaseHTTPRequestHandler):
    """One method a route; each either answers with `send` or raises `Refused`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes
    server: HubServer

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.dispatch()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def dispatch(self) -> None:
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query).items()}
        line = f"{self.command} {url.path}"
        kind, options = self.server.fault(line) or (None, {})
        self.server.pause(line)
        self.server.authorizations.add(self.headers.get("Authorization", ""))
        if kind == "drop":
            self.rfile.read(min(1000, int(self.headers.get("Content-Length", 0))))
            self.close_connection = True
            self.connection.close()
            return
        self.body = self.read_body()
        if kind == "corrupt":
            self.body = bytes([self.body[0] ^ 1]) + self.body[1:]
        try:
            if isinstance(kind, int):
                raise Refused(kind, "", options.pop("message", "on purpose"))
            self.route(url.path)
        except Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": str(refused)}
            headers |= {name.replace("_", "-").title(): str(value) for name, value in options.items()}
            self.send({"error": str(refused)}, refused.status, headers)

    def route(self, path: str) -> None:
        method = "GET" if self.command == "HEAD" else self.command
        for verb, pattern, name in ROUTES:
            if verb == method and (match := pattern.fullmatch(path)):
                values = {key: unquote(value) for key, value in match.groupdict().items() if value}
                if "prefix" in pattern.groupindex:
                    values["kind"] = "datasets" if values.pop("prefix", "") else "models"
                self.user(write="repo" in values and method != "GET" and name != "paths_info", **values)
                getattr(self, f"answer_{name}")(**values)
                return
        raise Refused(404, "", f"no route {self.command} {path}")

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def user(self, write: bool = False, repo: str = "", kind: str = "", **_: str) -> dict[str, Any] | None:
        """The token's owner. Refuses an unknown token, and writing or private reading without the right."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        user = self.server.users.get(token)
        if token and user is None:
            raise Refused(401, "", "Invalid credentials in Authorization header")
        member = user is not None and repo.split("/")[0] in user["orgs"]
        if write and not (user is not None and member and user["role"] == "write"):
            raise Refused(403 if user else 401, "", "You don't have the rights to write here")
        file = self.server.repo_file(kind, repo) if repo else None
        if file is not None and file.exists() and Repo.load(file).private and not member:
            raise Refused(401, "RepoNotFound", "Repository not found")
        return user

    def repo(self, kind: str, repo: str) -> Repo:
        return Repo.load(self.server.repo_file(kind, repo))

    def json(self) -> Any:
        return json.loads(self.body)

    # Who, what, where

    def answer_whoami(self) -> None:
        user = self.user()
        if user is None:
            raise Refused(401, "", "Invalid username or password.")
        orgs = [{"name": org, "roleInOrg": user["role"]} for org in user["orgs"] if org != user["name"]]
        token = {"accessToken": {"role": user["role"], "displayName": "loopback"}}
        self.send({"type": "user", "name": user["name"], "orgs": orgs, "auth": token})

    def answer_validate_yaml(self) -> None:
        content = self.json()["content"]
        match = re.match(r"\s*---\n(.*?)\n---", content, re.DOTALL)
        errors = []
        try:
            data = yaml.safe_load(match[1]) if match else {}
            if not isinstance(data, dict):
                errors.append({"message": "the metadata is no mapping"})
        except yaml.YAMLError as error:
            errors.append({"message": str(error)})
        self.send({"errors": errors, "warnings": []}, 400 if errors else 200)

    def answer_create(self) -> None:
        request = self.json()
        user = self.user()
        if user is None:
            raise Refused(401, "", "Invalid username or password.")
        repo_id = f"{request['organization'] or user['name']}/{request['name']}"
        kind = f"{request.get('type', 'model')}s"
        url = f"{self.server.url}/{'datasets/' if kind == 'datasets' else ''}{repo_id}"
        file = self.server.repo_file(kind, repo_id)
        with self.server.lock:
            if file.exists():
                self.send({"url": url, "error": "You already created this repo"}, 409)
                return
            self.user(write=True, repo=repo_id, kind=kind)
            repo = Repo(file, private=request.get("visibility") == "private")
            repo.commit("main", "initial commit", {})
        self.send({"url": url, "name": repo_id})

    def answer_listing(self, kind: str) -> None:
        author, asked = self.query["author"], self.query.get("filter")
        found = [Repo.load(file) for file in sorted((self.server.directory / kind / author).glob("*.json"))]
        cards = {f"{author}/{repo.file.stem}": self.server.card(repo) for repo in found if not repo.private}
        shown = {name: card for name, card in cards.items() if not asked or asked in card.get("tags", [])}
        self.send([{"id": name, "lastModified": DATE, "cardData": card} for name, card in shown.items()])

    def answer_info(self, kind: str, repo: str, revision: str = "main") -> None:
        found = self.repo(kind, repo)
        oid = found.resolve(revision)
        self.send(
            {
                "id": repo,
                "sha": oid,
                "lastModified": DATE,
                "private": found.private,
                "tags": [],
                "downloads": 0,
                "siblings": [{"rfilename": path} for path in found.commits[oid]["files"]],
            }
        )

    def answer_refs(self, kind: str, repo: str) -> None:
        found = self.repo(kind, repo)
        refs = {
            name: [{"name": key, "ref": f"refs/{ref}/{key}", "targetCommit": oid} for key, oid in named.items()]
            for name, ref, named in (("branches", "heads", found.branches), ("tags", "tags", found.tags))
        }
        self.send({**refs, "converts": [], "pullRequests": []})

    def answer_commits(self, kind: str, repo: str, revision: str) -> None:
        found = self.repo(kind, repo)
        oid: str | None = found.resolve(revision)
        commits = []
        while oid is not None:
            commit = found.commits[oid]
            commits.append({"id": oid, "title": commit["title"], "message": "", "authors": [], "date": DATE})
            oid = commit["parent"]
        self.send(commits)

    def entries(self, files: dict[str, Any], oid: str) -> dict[str, dict[str, Any]]:
        """Every file and folder of a commit as the tree shows it."""
        commit = {"lastCommit": {"id": oid, "title": "", "date": DATE}}
        made: dict[str, dict[str, Any]] = {}
        for path, entry in sorted(files.items()):
            for parent in reversed(Path(path).parents[:-1]):
                tree = hashlib.sha1(str(parent).encode()).hexdigest()
                folder = {"type": "directory", "path": str(parent), "oid": tree, "size": 0, **commit}
                made.setdefault(str(parent), folder)
            made[path] = {"type": "file", "path": path, **entry["shown"], **commit}
        return made

    def answer_tree(self, kind: str, repo: str, revision: str, path: str = "") -> None:
        found = self.repo(kind, repo)
        oid = found.resolve(revision)
        made = self.entries(found.commits[oid]["files"], oid)
        inside = [made[p] for p in made if p.startswith(f"{path}/") or not path]
        if path and not inside:
            raise Refused(404, "EntryNotFound", f"{path} does not exist")
        if self.query.get("recursive", "false").lower() != "true":
            inside = [entry for entry in inside if str(Path(entry["path"]).parent) == (path or ".")]
        start = int(self.query.get("cursor", 0))
        end = start + self.server.page
        rest = {**self.query, "cursor": str(end)}
        link = f"{self.server.url}{urlsplit(self.path).path}?" + "&".join(f"{k}={v}" for k, v in rest.items())
        self.send(inside[start:end], headers={"Link": f'<{link}>; rel="next"'} if len(inside) > end else {})

    def answer_paths_info(self, kind: str, repo: str, revision: str) -> None:
        found = self.repo(kind, repo)
        oid = found.resolve(revision)
        made = self.entries(found.commits[oid]["files"], oid)
        wanted = parse_qs(self.body.decode()).get("paths", [])
        self.send([made[path] for path in wanted if path in made])

    # Writing

    def answer_preupload(self, kind: str, repo: str, revision: str) -> None:
        found = self.repo(kind, repo)
        files = found.commits[found.resolve(revision)]["files"]
        answer = []
        for file in self.json()["files"]:
            large = file["path"].endswith(LFS_SUFFIXES) or file["size"] > 10_000_000
            mode = "lfs" if large else "regular"
            entry = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
            if file["path"] in files:
                entry["oid"] = files[file["path"]]["blob"]
            answer.append(entry)
        self.send({"files": answer})

    def answer_batch(self, kind: str, repo: str) -> None:
        self.repo(kind, repo)
        objects = []
        for wanted in self.json()["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            if self.server.blob(oid).exists():
                objects.append({"oid": oid, "size": size})
                continue
            upload: dict[str, Any] = {"href": f"{self.server.url}/lfs/{oid}"}
            if size > self.server.chunk_size:
                parts = range(1, -(-size // self.server.chunk_size) + 1)
                urls = {f"{part:05d}": f"{self.server.url}/lfs/{oid}/{part}" for part in parts}
                header = {"chunk_size": str(self.server.chunk_size), **urls}
                upload = {"href": f"{self.server.url}/lfs/{oid}/complete", "header": header}
            verify = {"href": f"{self.server.url}/lfs/{oid}/verify"}
            objects.append({"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}})
        self.send({"transfer": "basic", "objects": objects})

    def keep(self, oid: str, content: bytes) -> None:
        """Store content under the SHA-256 it claims to have, or refuse it."""
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(422, "", f"checksum mismatch: the content is not {oid}")
        self.server.store(oid, content)
        self.server.stored.append(len(content))

    def answer_put(self, oid: str) -> None:
        self.keep(oid, self.body)
        self.send(b"", headers={"ETag": f'"{oid}"'})

    def answer_put_part(self, oid: str, part: str) -> None:
        self.server.store(f"{oid}-{part}", self.body)
        self.send(b"", headers={"ETag": f'"{hashlib.md5(self.body).hexdigest()}"'})

    def answer_complete(self, oid: str) -> None:
        parts = [self.server.blob(f"{oid}-{part['partNumber']}") for part in self.json()["parts"]]
        content = b"".join(part.read_bytes() for part in parts)
        for part in parts:
            part.unlink()
        self.keep(oid, content)
        self.send({})

    def answer_verify(self, oid: str) -> None:
        file = self.server.blob(oid)
        if not file.exists() or file.stat().st_size != self.json()["size"]:
            raise Refused(422, "", f"{oid} is not stored")
        self.send({})

    def answer_commit(self, kind: str, repo: str, revision: str) -> None:
        lines = [json.loads(line) for line in self.body.splitlines()]
        with self.server.lock:
            found = self.repo(kind, repo)
            files = dict(found.commits[found.resolve(revision)]["files"])
            parent = lines[0]["value"].get("parentCommit", "")  # the Hub takes the first digits, too
            if not found.resolve(revision).startswith(parent):
                raise Refused(412, "", "A commit has happened since. Please refresh and try again.")
            for line in lines[1:]:
                self.apply(files, line["key"], line["value"])
            oid = found.commit(revision, lines[0]["value"]["summary"], files)
        self.send({"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{repo}/commit/{oid}"})

    def apply(self, files: dict[str, Any], key: str, value: dict[str, Any]) -> None:
        """One operation of a commit on its listing."""
        path = value["path"]
        if key == "file":
            files[path] = self.server.entry(base64.b64decode(value["content"]), lfs=False)
        elif key == "lfsFile":
            oid = value["oid"]
            if not self.server.blob(oid).exists():
                raise Refused(400, "", f"{path}: LFS object {oid} is not stored")
            files[path] = self.server.pointer(oid, self.server.blob(oid).stat().st_size)
        elif key in ("deletedFile", "deletedFolder"):
            gone = [name for name in files if name == path or name.startswith(f"{path.rstrip('/')}/")]
            if not gone:
                raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
            for name in gone:
                del files[name]

    def answer_branch(self, kind: str, repo: str, branch: str) -> None:
        with self.server.lock:
            found = self.repo(kind, repo)
            if branch in found.branches:
                raise Refused(409, "", "Reference already exists")
            found.branches[branch] = found.resolve(self.json().get("startingPoint", "main"))
            found.save()
        self.send({})

    def answer_tag(self, kind: str, repo: str, revision: str) -> None:
        with self.server.lock:
            found = self.repo(kind, repo)
            tag = self.json()["tag"]
            if tag in found.tags:
                raise Refused(409, "", "Tag reference exists already")
            found.tags[tag] = found.resolve(revision)
            found.save()
        self.send({})

    def answer_untag(self, kind: str, repo: str, tag: str) -> None:
        with self.server.lock:
            found = self.repo(kind, repo)
            if found.tags.pop(tag, None) is None:
                raise Refused(404, "RevisionNotFound", f"Invalid rev id: {tag}")
            found.save()
        self.send({})

    # Reading

    def answer_resolve(self, kind: str, repo: str, revision: str, path: str) -> None:
        found = self.repo(kind, repo)
        oid = found.resolve(revision)
        entry = found.commits[oid]["files"].get(path)
        if entry is None:
            raise Refused(404, "EntryNotFound", "Entry not found")
        content = self.server.blob(entry["blob"]).read_bytes()
        headers = {"X-Repo-Commit": oid, "ETag": f'"{entry["blob"]}"', "Accept-Ranges": "bytes"}
        if "lfs" in entry["shown"]:
            headers |= {"X-Linked-Etag": f'"{entry["blob"]}"', "X-Linked-Size": str(len(content))}
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            self.send(content, headers=headers)
            return
        start = int(match[1]) if match[1] else max(0, len(content) - int(match[2]))
        end = min(int(match[2]) + 1, len(content)) if match[1] and match[2] else len(content)
        if start >= len(content):
            raise Refused(416, "", "Range not satisfiable")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self.send(content[start:end], 206, headers)
