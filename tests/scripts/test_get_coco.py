"""scripts/get_coco.sh against a local server with small files in place of COCO's."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "get_coco.sh"
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="get_coco.sh needs curl")


def zip_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@dataclass
class Server:
    """Serves ``files`` by path; ``requests`` notes (path, first byte asked for)."""

    files: dict[str, bytes]
    ranges: bool = True
    cut_after: list[int] = field(default_factory=list)  # the next answers break off after so many bytes
    requests: list[tuple[str, int]] = field(default_factory=list)
    url: str = ""


def handler_for(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = int(asked[1]) if asked else 0
            server.requests.append((self.path, first))
            content = server.files[self.path]
            if asked and server.ranges:
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
                content = content[first:]
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: server.cut_after.pop(0)] if server.cut_after else content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    jpeg = os.urandom(20_000)
    served = Server(
        {
            "/annotations/annotations_trainval2017.zip": zip_bytes(
                {"annotations/instances_train2017.json": b"{}", "annotations/instances_val2017.json": b"{}"}
            ),
            "/zips/val2017.zip": zip_bytes({"val2017/1.jpg": jpeg, "val2017/2.jpg": jpeg}),
            "/zips/train2017.zip": zip_bytes({f"train2017/{i}.jpg": jpeg for i in range(3)}),
        }
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_for(served)) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{http.server_port}"
        yield served
        http.shutdown()
        thread.join()


@pytest.fixture
def manifest(server: Server, tmp_path: Path) -> Path:
    """The list of the server's files, in the columns of get_coco.sh."""
    expected = {"train2017": ("train2017/*.jpg", 3), "val2017": ("val2017/*.jpg", 2)}
    lines = []
    for path, content in server.files.items():
        pattern, count = expected.get(Path(path).stem, ("annotations/instances_*2017.json", 2))
        lines.append(f"{path[1:]} {len(content)} {hashlib.md5(content).hexdigest()} 100000 {pattern} {count}")
    file = tmp_path / "manifest.txt"
    file.write_text("\n".join(lines) + "\n")
    return file


def get_coco(server: Server, manifest: Path, target: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "COCO_URL": server.url,
        "COCO_MANIFEST": str(manifest),
        "COCO_RETRY_SECONDS": "0",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    return subprocess.run([SCRIPT, target], env=environment, capture_output=True, text=True, check=False)


def assert_complete(target: Path) -> None:
    assert len(list(target.glob("train2017/*.jpg"))) == 3
    assert len(list(target.glob("val2017/*.jpg"))) == 2
    assert (target / "annotations" / "instances_val2017.json").read_text() == "{}"
    assert not list(target.glob("*.part"))
    assert not list(target.glob("*.unpacking"))


def test_downloads_checks_and_unpacks_and_a_second_run_asks_for_nothing(
    server: Server, manifest: Path, tmp_path: Path
) -> None:
    first = get_coco(server, manifest, tmp_path / "a folder" / "coco")
    assert first.returncode == 0, first.stderr
    assert_complete(tmp_path / "a folder" / "coco")
    assert [start for _, start in server.requests] == [0, 0, 0]

    second = get_coco(server, manifest, tmp_path / "a folder" / "coco")
    assert second.returncode == 0
    assert second.stdout.count("finished") == 3
    assert len(server.requests) == 3


def test_an_interrupted_transfer_goes_on_in_the_same_run(server: Server, manifest: Path, tmp_path: Path) -> None:
    server.cut_after = [100, 50]  # of the first file: twice
    assert get_coco(server, manifest, tmp_path / "coco").returncode == 0
    assert_complete(tmp_path / "coco")
    assert [start for _, start in server.requests] == [0, 100, 150, 0, 0]


def test_an_interrupted_run_is_resumed_by_the_next_one(server: Server, manifest: Path, tmp_path: Path) -> None:
    target = tmp_path / "coco"
    server.cut_after = [10**9, 10**9, 1000, 0, 0, 0, 0, 0]  # train2017.zip: 1000 bytes, then nothing any more
    stopped = get_coco(server, manifest, target)
    assert stopped.returncode == 1
    assert "Run this again to go on behind the 1000 bytes" in stopped.stderr
    assert (target / "train2017.zip.part").stat().st_size == 1000
    assert not (target / "train2017.zip").exists()
    server.requests.clear()

    assert get_coco(server, manifest, target).returncode == 0
    assert_complete(target)
    assert server.requests == [("/zips/train2017.zip", 1000)]


def test_a_server_that_cannot_resume_is_asked_for_the_whole_file(
    server: Server, manifest: Path, tmp_path: Path
) -> None:
    server.ranges = False
    server.cut_after = [100]
    result = get_coco(server, manifest, tmp_path / "coco")
    assert result.returncode == 0, result.stderr
    assert "cannot resume; annotations_trainval2017.zip starts anew" in result.stdout
    assert_complete(tmp_path / "coco")


def test_a_wrong_checksum_names_the_file_and_leaves_nothing_of_it(
    server: Server, manifest: Path, tmp_path: Path
) -> None:
    target = tmp_path / "coco"
    path, original = "/zips/val2017.zip", server.files["/zips/val2017.zip"]
    server.files[path] = original[:-1] + bytes([original[-1] ^ 1])
    result = get_coco(server, manifest, target)
    assert result.returncode == 1
    assert "val2017.zip is not the file it should be" in result.stderr
    assert f"expected {len(original)} bytes, MD5 {hashlib.md5(original).hexdigest()}" in result.stderr
    assert f"found    {len(original)} bytes, MD5 {hashlib.md5(server.files[path]).hexdigest()}" in result.stderr
    assert sorted(p.name for p in target.iterdir()) == ["annotations", "annotations_trainval2017.zip"]

    server.files[path] = original
    assert get_coco(server, manifest, target).returncode == 0
    assert_complete(target)


def test_a_file_of_another_size_is_refused(server: Server, manifest: Path, tmp_path: Path) -> None:
    size = len(server.files["/zips/val2017.zip"])
    server.files["/zips/val2017.zip"] += b"more"
    result = get_coco(server, manifest, tmp_path / "coco")
    assert result.returncode == 1
    assert f"found    {size + 4} bytes" in result.stderr
    assert not list((tmp_path / "coco").glob("val2017*"))


def test_too_little_disk_is_said_before_anything_is_downloaded(server: Server, manifest: Path, tmp_path: Path) -> None:
    manifest.write_text(manifest.read_text().replace(" 100000 ", f" {10**17} "))
    result = get_coco(server, manifest, tmp_path / "coco")
    assert result.returncode == 2
    needed = 3 * 10**17 + sum(map(len, server.files.values()))
    assert re.search(rf"coco has \d+ bytes free; the zips and what is in them need {needed}\.", result.stderr)
    assert server.requests == []


def test_an_unpacking_that_was_cut_off_is_done_again_without_a_download(
    server: Server, manifest: Path, tmp_path: Path
) -> None:
    target = tmp_path / "coco"
    assert get_coco(server, manifest, target).returncode == 0
    (target / "train2017.zip.unpacking").touch()
    (target / "train2017" / "2.jpg").write_bytes(b"half")
    server.requests.clear()

    assert get_coco(server, manifest, target).returncode == 0
    assert_complete(target)
    assert (target / "train2017" / "2.jpg").stat().st_size == 20_000
    assert server.requests == []


def test_the_list_of_coco_itself_is_the_published_one() -> None:
    listed = re.findall(r"^\S+/(\S+\.zip) +(\d+) (\w{32}) ", SCRIPT.read_text(), flags=re.MULTILINE)
    assert listed == [
        ("annotations_trainval2017.zip", "252907541", "f4bbac642086de4f52a3fdda2de5fa2c"),
        ("val2017.zip", "815585330", "442b8da7639aecaf257c1dceb8ba8c80"),
        ("train2017.zip", "19336861798", "cced6f7f71b7629ddf16f17bbcfab6b2"),
    ]
