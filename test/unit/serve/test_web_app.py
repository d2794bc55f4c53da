"""The server of sessions over real HTTP: the way of a case, limits, and what is refused."""

from __future__ import annotations

import base64
import http.client
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from model.case.geometry import Geometry
from model.case.tumor_clicks import read_tumor_clicks
from model.interactive.segment_pet_ct import segment_pet_ct
from model.serve.session_table import ServerLimits
from model.serve.web_app import PAGE_FILES
from test.helpers.session_server import RunningServer, running_server
from test.helpers.tiny_pet_ct import TINY_GEOMETRY, TINY_SHAPE, TINY_SPACING, tiny_pet_ct, tiny_pet_ct_model

CT, PET = tiny_pet_ct()
MODEL = tiny_pet_ct_model()
LIMITS = ServerLimits(sessions=2, upload_bytes=100_000, voxels=10_000, steps=5)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(MODEL, LIMITS) as running:
        yield running


@pytest.fixture
def token(server: RunningServer) -> Iterator[str]:
    _, answer = _call(server, "POST", "/api/sessions")
    yield answer["token"]
    _call(server, "DELETE", f"/api/sessions/{answer['token']}")


def _request(
    server: RunningServer, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def _call(server: RunningServer, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    status, answer, _ = _request(server, method, path, data)
    return status, json.loads(answer)


def _file(array: npt.NDArray[Any], folder: Path, suffix: str = ".nii.gz") -> bytes:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(TINY_SPACING[::-1])
    path = folder / f"image{suffix}"
    sitk.WriteImage(image, str(path))
    return path.read_bytes()


def _with_images(server: RunningServer, token: str, folder: Path) -> Any:
    for kind, array, suffix in (("ct", CT, ".nii.gz"), ("pet", PET, ".mha")):
        data = _file(array, folder, suffix)
        assert _call(server, "PUT", f"/api/sessions/{token}/uploads/{kind}", data) == (
            200,
            {"bytes": len(data)},
        )
    status, state = _call(server, "POST", f"/api/sessions/{token}/images")
    assert status == 200, state
    return state


def _patched(mask: npt.NDArray[np.uint8], changed: Any) -> None:
    x, y, z = changed["start"]
    nx, ny, nz = changed["size"]
    voxels = np.frombuffer(zlib.decompress(base64.b64decode(changed["voxels"])), np.uint8)
    mask[z : z + nz, y : y + ny, x : x + nx] = voxels.reshape(nz, ny, nx)


def test_the_way_of_a_case(server: RunningServer, token: str, tmp_path: Path) -> None:
    state, mask = _with_images(server, token, tmp_path), np.zeros(TINY_SHAPE, np.uint8)
    assert state["size"] == list(TINY_SHAPE[::-1]) and state["tiles"] == {"predicted": 12, "all": 12}
    _patched(mask, state["changed"])
    one = f"/api/sessions/{token}"
    for kind, points in (("tumor", [[4, 6, 5]]), ("background", [[1, 2, 3], [2, 2, 3]])):
        status, state = _call(server, "POST", f"{one}/points", {"kind": kind, "points": points})
        assert status == 200
        _patched(mask, state["changed"])
    assert (state["steps"], len(state["clicks"])) == (2, 3)
    status, state = _call(server, "POST", f"{one}/undo")
    _patched(mask, state["changed"])
    assert _call(server, "GET", one)[1]["steps"] == 1
    status, data, headers = _request(server, "GET", f"{one}/clicks.json")
    assert "lesion-clicks.json" in headers["content-disposition"]
    (tmp_path / "clicks.json").write_bytes(data)
    clicks = read_tumor_clicks(tmp_path / "clicks.json")
    assert [click.point_zyx for click in clicks] == [(5, 6, 4)]
    wanted = segment_pet_ct(MODEL, CT, PET, TINY_GEOMETRY, clicks).mask
    np.testing.assert_array_equal(mask, wanted)
    _, data, _ = _request(server, "GET", f"{one}/mask.nii.gz")
    (tmp_path / "mask.nii.gz").write_bytes(data)
    image = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), wanted)
    assert image.GetSpacing() == TINY_SPACING[::-1] and state["volume_ml"] == pytest.approx(
        wanted.sum() * 0.012
    )


def test_world_points_are_lps_mm(server: RunningServer, token: str, tmp_path: Path) -> None:
    _with_images(server, token, tmp_path)
    (x, y, z) = Geometry(TINY_SHAPE[::-1], TINY_SPACING[::-1], (0.0, 0.0, 0.0)).zyx_to_world((5, 6, 4))
    body = {"kind": "tumor", "points": [[x, y, z]], "units": "world"}
    _, state = _call(server, "POST", f"/api/sessions/{token}/points", body)
    assert state["clicks"][0]["point"] == pytest.approx([4, 6, 5])


def test_uploads_are_deleted_once_they_are_read(server: RunningServer, token: str, tmp_path: Path) -> None:
    _with_images(server, token, tmp_path)
    with server.table.using(token) as held:
        assert held.uploads == {} and list(held.folder.iterdir()) == []
        folder = held.folder
    _call(server, "PUT", f"/api/sessions/{token}/uploads/ct", b"something")
    assert [path.name for path in folder.iterdir()] == ["ct"]
    _call(server, "DELETE", f"/api/sessions/{token}")
    assert not folder.exists()
    assert _call(server, "GET", f"/api/sessions/{token}")[0] == 404


def test_the_number_of_sessions_is_limited(server: RunningServer, token: str) -> None:
    status, other = _call(server, "POST", "/api/sessions")
    assert status == 201 and other["token"] != token
    status, answer = _call(server, "POST", "/api/sessions")
    assert status == 503 and "2 sessions are open" in answer["error"]
    _call(server, "DELETE", f"/api/sessions/{other['token']}")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/points", {"kind": "tumor", "points": [[1, 2, 3]]}, 400, "no images yet"),
        ("POST", "/points", {"kind": "organ", "points": [[1, 2, 3]]}, 400, "kind"),
        ("POST", "/points", {"kind": "tumor", "points": [[1, 2]]}, 400, "points.0"),
        ("POST", "/points", {"kind": "tumor", "points": []}, 400, "points"),
        ("POST", "/points", {"kind": "tumor", "points": [[1, 2, 3]], "path": "/etc/passwd"}, 400, "path"),
        ("POST", "/points", b"no JSON", 400, "JSON"),
        ("POST", "/points", b" " * (1 << 20) + b"{}", 413, "larger than"),
        ("POST", "/images", None, 400, "ct and pet: not uploaded yet"),
        ("POST", "/images", {"activity": [70, 300, 60]}, 400, "activity"),
        ("PUT", "/uploads/ct", b"1" * 100_001, 413, "larger than 100000 bytes"),
        ("PUT", "/uploads/pet", b"", 400, "empty"),
        ("PUT", "/uploads/mr", b"1", 404, "'ct' or 'pet'"),
        ("PUT", "/uploads/..%2f..%2fct", b"1", 404, ""),
        ("GET", "/mask.nii.gz", None, 400, "no images yet"),
    ],
)
def test_what_is_refused_says_why(
    server: RunningServer, token: str, method: str, path: str, body: Any, status: int, words: str
) -> None:
    found, answer = _call(server, method, f"/api/sessions/{token}{path}", body)
    assert found == status and words in answer["error"] and "/tmp" not in answer["error"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "ObjectType = Image\nNDims = 3\nDimSize = 10 12 14\nElementSpacing = 2 2 3\n"
            "ElementType = MET_SHORT\nElementDataFile = /etc/passwd\n",
            "ct: names another file for its voxels",
        ),
        (
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 10 12 14\nendian: little\nencoding: raw\n"
            "data file: ../../secret.raw\n\n",
            "ct: names another file for its voxels",
        ),
        (
            "NRRD0004\ntype: short\ndimension: 3\nsizes: 100 100 100\nendian: little\nencoding: raw\n\n",
            "ct: has 1000000 voxels; expected at most 10000",
        ),
        ("GIF89a", "ct: "),
    ],
)
def test_images_that_name_other_files_or_are_too_large_are_refused(
    server: RunningServer, token: str, tmp_path: Path, header: str, words: str
) -> None:
    _call(server, "PUT", f"/api/sessions/{token}/uploads/ct", header.encode())
    _call(server, "PUT", f"/api/sessions/{token}/uploads/pet", _file(PET, tmp_path))
    status, answer = _call(server, "POST", f"/api/sessions/{token}/images")
    assert status == 400 and words in answer["error"] and "longilesion-" not in answer["error"]


def test_the_number_of_clicks_is_limited(server: RunningServer, token: str, tmp_path: Path) -> None:
    _with_images(server, token, tmp_path)
    body = {"kind": "tumor", "points": [[1, 1, 1]] * 6}
    status, answer = _call(server, "POST", f"/api/sessions/{token}/points", body)
    assert status == 400 and "more than 5" in answer["error"]


def test_other_sites_other_hosts_and_other_files_are_refused(server: RunningServer) -> None:
    assert _request(server, "POST", "/api/sessions", Origin="https://example.org")[0] == 403
    own = f"http://127.0.0.1:{server.port}"
    status, answer, _ = _request(server, "POST", "/api/sessions", Origin=own)
    assert status == 201
    _call(server, "DELETE", f"/api/sessions/{json.loads(answer)['token']}")
    assert _request(server, "GET", "/", Host="example.org")[0] == 400
    for path in ("/page/web_app.py", "/page/../web_app.py", "/page/%2e%2e%2fweb_app.py", "/elsewhere"):
        assert _request(server, "GET", path)[0] == 404


def test_the_page_and_its_parts_are_served(server: RunningServer) -> None:
    status, page, headers = _request(server, "GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in headers["content-security-policy"]
    for name in PAGE_FILES:
        status, data, _ = _request(server, "GET", f"/page/{name}")
        assert status == 200 and len(data) > 500
    assert b"/page/page.js" in page and b"/page/niivue.umd.js" in page
