"""Reading the voxels that a header promises, with proof that they are whole.

A compressed stream is inflated once, to its very end and with its checksum, straight into the array; raw
files have exactly the promised length; every part of an image in several files is read and counted.
"""

from __future__ import annotations

import bz2
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from zlib_ng import zlib_ng

from ..errors import InputError, one_line
from .geometry import Array
from .input_files import open_input
from .machine_limits import memory_bytes
from .stored_image import EXPECTED_IMAGE, Encoding, StoredImage, VoxelPart

InflateError: type[Exception] = zlib_ng.error  # type: ignore[assignment]  # its stub has an instance

_READ_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 18
_LARGEST_RATIO = 1032  # of deflate
_MANY_BYTES = 1 << 28
# Blank bytes after a compressed stream, as some programs and transfers add.
_PADDING_BYTES = 512
_BLANK = b"\0 \r\n\t"
_MAGIC = {Encoding.GZIP: b"\x1f\x8b", Encoding.BZIP2: b"BZ"}
_BLANKS = bytes.maketrans(b"\t\n\v\f\r", b"     ")
_TEXT_BYTES = 48  # per number, with blanks: more than any type needs


def decode_voxels(path: Path, stored: StoredImage) -> Array:
    """Read all numbers of an image.

    Args:
        path: the file with the header, for messages.
        stored: its header.

    Returns:
        The numbers as they are stored, flat, shape (``stored.count``,), in native byte order.

    Raises:
        InputError: a part is missing, truncated or corrupt, or holds more than the header promises.
    """
    check_promise(path, stored)
    values = np.empty(stored.count, stored.dtype)
    share = stored.byte_count // len(stored.parts)
    target = values.view(np.uint8).data
    for number, part in enumerate(stored.parts):
        view = target[number * share : (number + 1) * share]
        with open_input(part.path, _expected(path, part)) as file:
            _fill(file, part, stored, view)
    if not stored.dtype.isnative:
        values = values.byteswap(inplace=True).view(stored.dtype.newbyteorder("="))
    return values


def check_promise(path: Path, stored: StoredImage) -> None:
    """Check before memory is touched that the files can hold what the header promises.

    Raises:
        InputError: they cannot, or there is not enough memory for it here.
    """
    memory = memory_bytes()
    for part in stored.parts:
        with open_input(part.path, _expected(path, part)) as file:
            size = os.fstat(file.fileno()).st_size
            promised = stored.byte_count // len(stored.parts) + stored.lead
            _check_room(part, stored, size, promised, file)
    if stored.byte_count > memory:
        raise InputError(
            f"{path}: promises {stored.byte_count} bytes of voxels, more than the memory of {memory} bytes; "
            f"expected {EXPECTED_IMAGE}"
        )


def _expected(path: Path, part: VoxelPart) -> str:
    return EXPECTED_IMAGE if part.path == path else f"the voxels that {path.name} names"


def _check_room(part: VoxelPart, stored: StoredImage, size: int, promised: int, file: BinaryIO) -> None:
    if stored.encoding is Encoding.RAW:
        found = size - (part.start or 0) - part.skip
        if found < promised:
            raise _truncated(part.path, max(0, found), promised)
        return
    most = {Encoding.TEXT: size * stored.dtype.itemsize, Encoding.HEX: size // 2}.get(
        stored.encoding, size * _LARGEST_RATIO
    )
    if stored.encoding is Encoding.BZIP2 and promised > max(most, _MANY_BYTES):
        # Its blocks can hold anything: count before an array is made.
        _seek(file, part, 0)
        most = sum(len(block) for block in _inflated(file, part, Encoding.BZIP2, promised))
    if promised > most:
        raise InputError(
            f"{part.path}: is truncated, or its header is wrong: its {size} bytes cannot hold the promised "
            f"{promised} bytes of voxels; expected {EXPECTED_IMAGE}"
        )


def _truncated(path: Path, found: int, promised: int) -> InputError:
    return InputError(f"{path}: is truncated, {found} bytes of voxels; expected at least {promised} bytes")


def _seek(file: BinaryIO, part: VoxelPart, length: int) -> None:
    """Go to the first byte of a part that has at least this number of bytes."""
    if part.start is None:
        file.seek(-length, os.SEEK_END)
    else:
        file.seek(part.start)
    for _ in range(part.lines):
        file.readline()
    file.seek(part.skip, os.SEEK_CUR)


def _fill(file: BinaryIO, part: VoxelPart, stored: StoredImage, view: memoryview) -> None:
    """Decode a part into the bytes of its numbers."""
    _seek(file, part, len(view))
    if stored.encoding is Encoding.RAW:
        _fill_raw(file, part, view)
    elif stored.encoding in (Encoding.TEXT, Encoding.HEX):
        _fill_text(file, part, stored, view)
    else:
        _fill_inflated(file, part, stored, view)


def _fill_raw(file: BinaryIO, part: VoxelPart, view: memoryview) -> None:
    done = 0
    while done < len(view) and (count := file.readinto(view[done:])):  # type: ignore[attr-defined]
        done += count
    if done < len(view):
        raise _truncated(part.path, done, len(view))
    if file.read(1):  # even a blank one: the voxels may begin elsewhere than the header states
        raise _surplus(part.path, len(view))


def _surplus(path: Path, promised: int) -> InputError:
    return InputError(
        f"{path}: holds more than the {promised} bytes of voxels that its header promises; expected "
        "exactly these"
    )


def _fill_inflated(file: BinaryIO, part: VoxelPart, stored: StoredImage, view: memoryview) -> None:
    done = -stored.lead
    for block in _inflated(file, part, stored.encoding, stored.lead + len(view)):
        start = max(0, -done)  # of the block, whose first bytes may belong to the lead
        done += len(block)
        if start < len(block):
            view[done - len(block) + start : done] = block[start:] if start else block
    if done < len(view):
        raise _truncated(part.path, max(0, done), len(view))


def _inflated(file: BinaryIO, part: VoxelPart, encoding: Encoding, most: int) -> Iterator[bytes]:
    """Yield the blocks of a compressed stream up to a number of bytes, and check it up to the file's end.

    Raises:
        InputError: it is truncated or corrupt, unpacks to more, or is followed by other bytes.
    """
    total = 0
    try:
        for block in _decompressed(file, part, encoding):
            total += len(block)
            if total > most:
                raise _surplus(part.path, most)
            yield block
    except (InflateError, OSError, EOFError) as error:
        raise InputError(
            f"{part.path}: is truncated or corrupt ({error}); expected {EXPECTED_IMAGE}"
        ) from error


def _decompressed(file: BinaryIO, part: VoxelPart, encoding: Encoding) -> Iterator[bytes]:
    """Yield the blocks of all members of a stream; EOFError if its end is missing."""
    begin, data, members = file.tell(), b"", 0
    while True:
        data = data or file.read(_READ_BYTES)
        if members:
            while data and not data.strip(b"\0"):  # gzip itself passes over zeros
                data = file.read(_READ_BYTES)
            if len(data) < 2:
                data += file.read(2)
            if not data.startswith(_MAGIC[encoding]):
                break
        data = yield from _member(_inflater(encoding), data, file)
        members += 1
        if encoding is Encoding.ZLIB:
            break
    packed = file.tell() - begin - len(data)
    if part.length is not None and packed != part.length:
        raise EOFError(f"its stream has {packed} bytes, not the {part.length} of the header")
    rest = data + file.read(_PADDING_BYTES + 1)
    if rest.strip(_BLANK) or len(rest) > _PADDING_BYTES:
        raise EOFError("other bytes follow its stream")


def _inflater(encoding: Encoding) -> Any:
    if encoding is Encoding.BZIP2:
        return bz2.BZ2Decompressor()
    # MetaIO takes a gzip stream, too.
    return zlib_ng.decompressobj(31 if encoding is Encoding.GZIP else 47)


def _member(inflater: Any, data: bytes, file: BinaryIO) -> Generator[bytes, None, bytes]:
    """Yield the blocks of one stream with its checksum; the bytes read beyond its end are returned."""
    keeps_input = isinstance(inflater, bz2.BZ2Decompressor)
    while not inflater.eof:
        wants_input = inflater.needs_input if keeps_input else True
        if wants_input and not data:
            data = file.read(_READ_BYTES)
        block = inflater.decompress(data, _BLOCK_BYTES)
        if not (data or block or inflater.eof) and wants_input:
            raise EOFError("its end is missing")
        data = b"" if keeps_input else inflater.unconsumed_tail
        if block:
            yield block
    rest: bytes = inflater.unused_data
    return rest


def _fill_text(file: BinaryIO, part: VoxelPart, stored: StoredImage, view: memoryview) -> None:
    """Parse numbers that are written as text, or bytes that are written as hexadecimal digits."""
    count, done = len(view) // stored.dtype.itemsize, 0
    end = file.tell() + count * _TEXT_BYTES + _PADDING_BYTES
    pieces = _hex_pieces if stored.encoding is Encoding.HEX else _text_pieces
    try:
        for piece in pieces(file):
            if stored.encoding is Encoding.HEX:
                decoded = bytes.fromhex(piece.decode("ascii"))
            else:
                decoded = _numbers(piece.split(), stored.dtype).tobytes()
            if done + len(decoded) > len(view) or file.tell() > end + _READ_BYTES:
                raise InputError(
                    f"{part.path}: holds more than its header promises; expected {count} numbers"
                )
            view[done : done + len(decoded)] = decoded
            done += len(decoded)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{part.path}: holds text that is no {stored.dtype.name} ({one_line(error)[:80]}); expected "
            f"{count} numbers"
        ) from error
    if done < len(view):
        found = done // stored.dtype.itemsize
        raise InputError(f"{part.path}: is truncated, {found} numbers; expected {count} numbers")


def _text_pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield text with blanks for commas, a part at a time, as parsed words take much memory."""
    rest = b""
    while block := file.read(_READ_BYTES):
        words = (rest + block.replace(b",", b" ")).translate(_BLANKS)
        end = words.rfind(b" ") + 1
        yield words[:end]
        rest = words[end:]
        if len(rest) > _READ_BYTES:
            raise ValueError(f"a word of more than {_READ_BYTES} letters")
    yield rest


def _hex_pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield hexadecimal digits without blanks, a part at a time and two for each byte."""
    rest = b""
    while block := file.read(_READ_BYTES):
        digits = rest + b"".join(block.split())
        end = len(digits) // 2 * 2
        yield digits[:end]
        rest = digits[end:]
    yield rest


def _numbers(words: list[bytes], dtype: np.dtype[np.generic]) -> Array:
    if dtype.kind == "f":
        return np.array([float(word) for word in words], dtype)
    values = [int(word) if word.lstrip(b"+-").isdigit() else float(word) for word in words]
    if not all(isinstance(value, int) or value.is_integer() for value in values):
        raise ValueError("a number is not whole")
    return np.array([int(value) for value in values], dtype)
