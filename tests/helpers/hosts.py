"""Hosts of files on 127.0.0.1: a bucket as S3 lists it, a data set as Hugging Face's hub does, a plain web server."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

COMMITS = ("1" * 40, "2" * 40)


class Host:
    """Files by path, a log of what was asked, and whether etags are told."""

    def __init__(self, files):
        self.files, self.asked, self.etags, self.commit = dict(files), [], True, COMMITS[0]
        self.url = ""

    def downloads(self):
        """The paths of the files that were fetched."""
        return [path for method, path in self.asked if method == "GET" and unquote(path).lstrip("/") in self.files]


@contextmanager
def served(handler, files):
    """A host of these files while the block runs."""
    host = Host(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {"host": host}))
    host.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Web(BaseHTTPRequestHandler):
    """Files at their paths, with etags and ranges; a folder is a page of links."""

    def do_GET(self):
        self.answer(with_body=True)

    def do_HEAD(self):
        self.answer(with_body=False)

    def answer(self, *, with_body):
        path = unquote(urlsplit(self.path).path)
        self.host.asked.append((self.command, path))
        content = self.host.files.get(path.lstrip("/"))
        if content is None and path.endswith("/"):
            names = [name for name in self.host.files if f"/{name}".startswith(path)]
            page = "".join(f'<a href="/{name}">x</a>' for name in names).encode()
            self.send(200, page, {"Content-Type": "text/html"}, with_body=with_body)
        elif content is None:
            self.send(404, b"", {}, with_body=with_body)
        else:
            self.send_file(content, with_body=with_body)

    def send_file(self, content, *, with_body, more=()):
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **dict(more)}
        if self.host.etags:
            headers["ETag"] = f'"{hashlib.md5(content).hexdigest()}"'
        wanted = self.headers.get("Range")
        if wanted and with_body:
            first, last = wanted.removeprefix("bytes=").split("-")
            end = min(int(last or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
            self.send(206, content[int(first) : end + 1], headers, with_body=True)
        else:
            self.send(200, content, headers, with_body=with_body)

    def send(self, status, body, headers, *, with_body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *words):
        pass


class Bucket(Web):
    """S3: /BUCKET?list-type=2&prefix=..., and objects at /BUCKET/KEY."""

    def answer(self, *, with_body):
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" not in query:
            return super().answer(with_body=with_body)
        bucket = unquote(urlsplit(self.path).path).strip("/")
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        keys = [name.removeprefix(f"{bucket}/") for name in sorted(self.host.files) if name.startswith(f"{bucket}/")]
        self.host.asked.append(("LIST", prefix))
        return self.send(
            200, self.listing(bucket, prefix, delimiter, keys), {"Content-Type": "application/xml"}, with_body=True
        )

    def listing(self, bucket, prefix, delimiter, keys):
        contents, folders = [], {}
        for key in (key for key in keys if key.startswith(prefix)):
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders[prefix + rest.partition(delimiter)[0] + delimiter] = True
                continue
            content = self.host.files[f"{bucket}/{key}"]
            etag = hashlib.md5(content).hexdigest()
            contents.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-02T03:04:05.000Z</LastModified>"
                f"<ETag>&quot;{etag}&quot;</ETag><Size>{len(content)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders)
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(contents) + len(folders)}</KeyCount>"
            f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{''.join(contents)}{prefixes}</ListBucketResult>"
        ).encode()


class Hub(Web):
    """Hugging Face's hub with one data set, whose files are `host.files`; large ones (Parquet) are in LFS."""

    name = "HuggingFaceFW/fineweb-2"

    def answer(self, *, with_body):
        path = unquote(urlsplit(self.path).path)
        api, resolve = f"/api/datasets/{self.name}", f"/datasets/{self.name}/resolve/"
        self.host.asked.append((self.command, path))
        if path in (api, f"{api}/revision/main", f"{api}/revision/{self.host.commit}"):
            about = {
                "id": self.name,
                "sha": self.host.commit,
                "siblings": [],
                "private": False,
                "tags": [],
                "downloads": 0,
            }
            return self.send_json({**about, "likes": 0})
        if path.startswith(f"{api}/tree/"):
            revision, _, folder = path.removeprefix(f"{api}/tree/").partition("/")
            return self.send_tree(revision, folder, "recursive=true" in self.path.lower())
        if path.startswith(resolve):
            revision, _, file = path.removeprefix(resolve).partition("/")
            if revision == self.host.commit and file in self.host.files:
                more = {"X-Repo-Commit": revision}
                return self.send_file(self.host.files[file], with_body=with_body, more=more)
        known = path.startswith((api, resolve))
        code = "EntryNotFound" if known else "RepoNotFound"
        return self.send(404, b"{}", {"X-Error-Code": code}, with_body=with_body)

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        asked = self.rfile.read(size).decode()
        self.host.asked.append(("POST", self.path))
        wanted = json.loads(asked)["paths"] if asked.startswith("{") else parse_qs(asked).get("paths", [])
        self.send_json([self.entry(path) for path in wanted if path in self.host.files])

    def send_tree(self, revision, folder, recursive):
        inside = [name for name in sorted(self.host.files) if name.startswith(f"{folder}/" if folder else "")]
        if revision not in ("main", self.host.commit) or not inside:
            return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"}, with_body=True)
        start = len(folder) + 1 if folder else 0
        files = [name for name in inside if recursive or "/" not in name[start:]]
        folders = {name[:at] for name in inside for at in range(start, len(name)) if name[at] == "/"}
        folders = [name for name in folders if recursive or "/" not in name[start:]]
        entries = [{"type": "directory", "path": name, "oid": "f" * 40, "size": 0} for name in sorted(folders)]
        return self.send_json(entries + [self.entry(name) for name in files])

    def entry(self, name):
        content = self.host.files[name]
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        found = {"type": "file", "path": name, "oid": blob, "size": len(content)}
        if name.endswith(".parquet"):
            sha256 = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
        return found

    def send_json(self, value):
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, with_body=True)
