"""JSON documents and tables: what is read, and one sentence for everything else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.case import text_files
from model.case.text_files import read_json, read_table, read_text, written_number
from model.errors import InputError, WeightsError

EXPECTED = "a table"


def stored(tmp_path: Path, content: bytes | str, name: str = "file.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    return [(row.line, row.cells) for row in read_table(path, EXPECTED)[1]]


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n",
        "a;b\n1;2\n",
        "a\tb\n1\t2\n",
        "sep=;\na;b\n1;2\n",
        "\ufeffa,b\r\n1,2\r\n,\r\n,,\r\n",
        "a,b\r1,2\r",
        ' a , b \n "1" , 2 \n\n  \n',
        "a,b,,\n1,2,,\n,,,\n",
        "\n\na,b\n1,2",
        '"a","b"\n"1","2"\n',
    ],
)
def test_spellings_of_a_table(tmp_path: Path, content: str) -> None:
    names, table = read_table(stored(tmp_path, content), EXPECTED)
    assert names == ["a", "b"]
    assert [row.cells for row in table] == [{"a": "1", "b": "2"}]


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = stored(tmp_path, 'a,b\n1,"x\ny"\n,\n2,"; , \t"\n3\n')
    assert rows(path) == [(3, {"a": "1", "b": "x\ny"}), (5, {"a": "2", "b": "; ,"}), (6, {"a": "3"})]


def test_semicolons_in_cells_of_a_table_with_commas(tmp_path: Path) -> None:
    assert rows(stored(tmp_path, "a,b\n1,3>5; 4>5\n")) == [(2, {"a": "1", "b": "3>5; 4>5"})]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('a,b\n1,2\n"3,4\n', "line 3 begins a quote that is never closed"),
        ('a,b\n1,2\n"3,' + "x" * 140_000, "line 3 begins a quote that is never closed"),
        ('"a,b\n1,2\n', "line 1 begins a quote that is never closed"),
        ("a,b\n1," + "x" * 200_000 + "\n", "line 2 has a cell of more than 131072 characters"),
        ('a,b\n"1","' + "x\n" * 100_000 + '"\n', "line 2 has a cell of more than 131072 characters"),
        ("a,b\n1,2,3\n", "row 2: has more cells than the header"),
        ("a,b\n1,2\n3", "is cut, its last row has 1 cells"),
        ("a,a\n1,2\n", "the column 'a' appears twice"),
        ("a,b\n1,\0\n", r"cannot be read \(line 2 holds a zero byte"),
        (b"a,b\n1,M\xfcller\n", r"cannot be read \(line 2 is not in UTF-8\)"),
        ("a,b\n1,2\n".encode("utf-16"), r"cannot be read \(it is text in UTF-16\)"),
        ("a,b\n1,2\n".encode("utf-16-le"), r"cannot be read \(line 1 holds a zero byte"),
    ],
)
def test_faults_of_a_table(tmp_path: Path, content: bytes | str, says: str) -> None:
    path = stored(tmp_path, content)
    with pytest.raises(InputError, match=f"^{path}: {says}.*; expected ") as error:
        rows(path)
    assert "\n" not in str(error.value)


def test_an_empty_table_has_no_columns(tmp_path: Path) -> None:
    assert read_table(stored(tmp_path, "\n \n"), EXPECTED)[0] == []


def test_a_file_of_gigabytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "_MOST_BYTES", 2_000_000)
    path = stored(tmp_path, b"")
    os.truncate(path, 10**12)  # holds nothing
    with pytest.raises(InputError, match="more than 2 MB"):
        read_text(path, EXPECTED)


@pytest.mark.parametrize(
    ("content", "document"),
    [
        ('{"a": [1, -2.5e3, null, true, "x"]}', {"a": [1, -2500.0, None, True, "x"]}),
        ('\ufeff{"ü": 1}\r\n', {"ü": 1}),
        ("[" * 100 + "]" * 100, None),
        ("1" + "0" * 300, 10**300),
    ],
)
def test_documents(tmp_path: Path, content: str, document: object) -> None:
    read = read_json(stored(tmp_path, content), "a document")
    assert document is None or read == document


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is not valid JSON"),
        ('{"a": 1', "is not valid JSON"),
        ('{"a": 1} x', "is not valid JSON"),
        ("[" * 100_000 + "]" * 100_000, r"is not valid JSON \(nested too deeply\)"),
        ('{"a":' * 100_000, r"is not valid JSON \(nested too deeply\)"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', r"is not valid JSON \(the key 'c' is there twice\)"),
        ("[1e999]", "the number 1e999 is too large"),
        ("[-1e999]", "the number -1e999 is too large"),
        ("[1" + "0" * 400 + "]", r"the number 10*\.\.\. is too large"),
        ("[1" + "0" * 10_000 + "]", r"the number 10*\.\.\. is too large"),
        ("[NaN]", "NaN is no number"),
        (r'["\ud800"]', "is not valid JSON"),
        ("[-Infinity]", "-Infinity is no number"),
        (b'["\xff"]', "line 1 is not in UTF-8"),
        ('["a"]'.encode("utf-16"), "UTF-16"),
        ('["\0"]', "zero byte"),
    ],
)
def test_faults_of_a_document(tmp_path: Path, content: bytes | str, says: str) -> None:
    path = stored(tmp_path, content, "file.json")
    with pytest.raises(InputError, match=f"{says}.*; expected a document"):
        read_json(path, "a document")
    with pytest.raises(WeightsError, match=says):
        read_json(path, "a document", fault=WeightsError)


def test_missing_numbers_where_they_are_allowed(tmp_path: Path) -> None:
    value, high = read_json(stored(tmp_path, "[NaN, Infinity]"), "a document", allow_nan=True)
    assert value != value and high == float("inf")


@pytest.mark.parametrize("text", ["", "1_0", "２", "1,5", "0x10", "1 2", "٣"])
def test_what_is_no_written_number(text: str) -> None:
    with pytest.raises(ValueError, match="number|float"):
        written_number(text)


def test_written_numbers() -> None:
    assert [written_number(text) for text in ("7", "-0.5", "1e3", " 2 ", "+.5", "inf")] == [
        *(7, -0.5, 1000, 2, 0.5, float("inf"))
    ]


def test_a_folder_and_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputError, match=r"cannot be read \(it is a pipe\)"):
        read_json(tmp_path / "pipe.json", "a document")
    with pytest.raises(InputError, match=r"cannot be read \(it is a folder\)"):
        read_json(tmp_path, "a document")
