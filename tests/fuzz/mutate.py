"""Mutations: a valid input and a seeded generator give a spoiled one and a word for what was done.

Pure functions of (random.Random, content): nothing here knows which command reads the content, and
the same seed gives the same bytes.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

Spoiled = tuple[bytes, str]

INTERESTING_BYTES = (
    b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x80\x00\x00\x00",
    b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00" * 64, b"%s%n%x", b"\r\n", b"\n", b"\x1a",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", "한글".encode(),
    b"../../etc/passwd",
    b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x1f\x8b\x08", b"PAR1", b"<svg/>", b"%PDF-1.4",
)  # fmt: skip
INTERESTING_INTS = (
    0, 1, -1, 2, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**32, 2**53,
    2**63 - 1, -(2**63), 2**63, 2**64, 10**30, 10**4300,
)  # fmt: skip
INTERESTING_FLOATS = (
    0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
INTERESTING_TEXTS = (
    "", " ", "\t", "\n", "a\nb", "\x00", "a\x00b", "\x1b[31m", "\ud800", "null", "true",
    "NaN", "-1",
    "1e999", "0x10", "한국어 이름.png", "e\u0301", "\u202egnp.exe", "../../etc/passwd",
    "/etc/passwd",
    "/dev/zero", "/proc/self/mem", "..", ".", "/", "~", "~root", "~nobody-here/x", "C:\\x",
    "a/" * 3000,
    "x" * 300, "x" * 5000, "'", '"', "`id`", "$(id)", "${oc.env:HOME}", "${x}", "$", "{}",
    "[]", "[a,",
    "{a: b}", "a,b", "a=b", "--", "-", "--help", "http://127.0.0.1:9/x", "s3://bucket/x",
    "file:///etc/passwd", "x.tar", "x-{9..1}.tar", "*", "?", "[", "%s", "{0}", "<script>",
)  # fmt: skip


def interesting(rng: Random) -> Any:
    """A value of any JSON type that programs stumble over."""
    return rng.choice(
        (
            lambda: rng.choice(INTERESTING_INTS[:-1]),
            lambda: rng.choice(INTERESTING_FLOATS),
            lambda: rng.choice(INTERESTING_TEXTS),
            lambda: rng.choice((None, True, False)),
            lambda: rng.choice(([], {}, [[]], [None], {"": None}, [1, "a", {}], {"a": {"b": []}})),
        )
    )()


# -- bytes ----------------------------------------------------------------------------------------


def _flip(rng: Random, data: bytes) -> Spoiled:
    out = bytearray(data)
    count = rng.choice((1, 1, 2, 8, 64))
    for _ in range(count if out else 0):
        out[_near_start(rng, len(out))] ^= 1 << rng.randrange(8)
    return bytes(out), f"{count} bits flipped"


def _set(rng: Random, data: bytes) -> Spoiled:
    out, at = bytearray(data), _near_start(rng, len(data))
    said = rng.choice(INTERESTING_BYTES)
    out[at : at + len(said)] = said
    return bytes(out), f"{said[:8]!r} over byte {at}"


def _number(rng: Random, data: bytes) -> Spoiled:
    form = rng.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
    size, at = struct.calcsize(form), _near_start(rng, len(data))
    value = rng.choice(INTERESTING_INTS[:-1]) % 2 ** (8 * size)
    out = bytearray(data)
    out[at : at + size] = struct.pack(form, value)
    return bytes(out), f"{value} as {form} at byte {at}"


def _cut(rng: Random, data: bytes) -> Spoiled:
    keep = rng.choice((0, 1, 4, 8, rng.randrange(len(data) + 1), max(0, len(data) - 1)))
    return data[:keep], f"cut to {keep} of {len(data)} bytes"


def _headless(rng: Random, data: bytes) -> Spoiled:
    drop = rng.choice((1, 2, 8, rng.randrange(len(data) + 1)))
    return data[drop:], f"without its first {drop} bytes"


def _longer(rng: Random, data: bytes) -> Spoiled:
    more = rng.choice((1, 100, 70_000))
    return data + rng.choice((b"\x00", b"\xff", b"a", b"\n")) * more, f"{more} bytes longer"


def _doubled(rng: Random, data: bytes) -> Spoiled:
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((1, 16, 1000, len(data))))
    return data[:end] + data[start:end] + data[end:], f"bytes {start} to {end} doubled"


def _holed(rng: Random, data: bytes) -> Spoiled:
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((1, 4, 100)))
    return data[:start] + data[end:], f"bytes {start} to {end} left out"


def _inserted(rng: Random, data: bytes) -> Spoiled:
    at, said = _near_start(rng, len(data)), rng.choice(INTERESTING_BYTES)
    return data[:at] + said + data[at:], f"{said[:8]!r} put in at byte {at}"


def _noise(rng: Random, data: bytes) -> Spoiled:
    size = rng.choice((1, 10, 1000))
    return rng.randbytes(size), f"{size} bytes of noise"


BYTES: tuple[Callable[[Random, bytes], Spoiled], ...] = (
    _flip, _flip, _set, _number, _number, _cut, _headless, _longer, _doubled, _holed, _inserted,
    _noise,
)  # fmt: skip


def _near_start(rng: Random, length: int) -> int:
    """A place, headers more often than the rest."""
    return rng.randrange(min(length, 64) if rng.random() < 0.5 else length) if length else 0


def spoil_bytes(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> Spoiled:
    """One to three mutations of bytes; `others` are valid inputs of the kind to splice with."""
    said = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if others and rng.random() < 0.1:
            other = rng.choice(list(others))
            at, on = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
            data, what = data[:at] + other[on:], f"spliced at {at} with another from {on}"
        else:
            data, what = rng.choice(BYTES)(rng, data)
        said.append(what)
    return data, "; ".join(said)


# -- text -----------------------------------------------------------------------------------------


def spoil_encoding(rng: Random, text: str) -> Spoiled:
    """The text in bytes that are not what a reader of UTF-8 awaits, or only just."""
    how = rng.choice(
        ("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp949", "latin-1", "crlf", "cr", "nul",
         "long line", "two marks", "half a character", "blank lines", "utf-7")
    )  # fmt: skip
    if how == "crlf":
        return text.replace("\n", "\r\n").encode(errors="surrogatepass"), how
    if how == "cr":
        return text.replace("\n", "\r").encode(errors="surrogatepass"), how
    if how == "nul":
        at = rng.randrange(len(text) + 1)
        return (text[:at] + "\x00" + text[at:]).encode(errors="surrogatepass"), f"NUL at {at}"
    if how == "long line":
        at = rng.randrange(len(text) + 1)
        return (text[:at] + "long " * 60_000 + text[at:]).encode(errors="surrogatepass"), how
    if how == "two marks":
        return b"\xef\xbb\xbf\xef\xbb\xbf" + text.encode(errors="surrogatepass"), how
    if how == "half a character":
        return text.encode(errors="surrogatepass") + "한".encode()[:2], how
    if how == "blank lines":
        return ("\n\n \n" + text + "\n\n").encode(errors="surrogatepass"), how
    return text.encode(how, errors="replace"), f"as {how}"


def spoil_lines(rng: Random, text: str) -> tuple[str, str]:
    """A line dropped, doubled, moved, cut, or strange words in it."""
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.choice(("dropped", "doubled", "swapped", "cut", "word", "word", "word"))
    if how == "dropped":
        del lines[i]
    elif how == "doubled":
        lines.insert(i, lines[j])
    elif how == "swapped":
        lines[i], lines[j] = lines[j], lines[i]
    elif how == "cut":
        lines[i] = lines[i][: rng.randrange(len(lines[i]) + 1)]
    else:
        said, at = str(rng.choice(INTERESTING_TEXTS)), rng.randrange(len(lines[i]) + 1)
        lines[i] = lines[i][:at] + said + lines[i][at + rng.choice((0, len(said))) :]
        how = f"{said[:40]!r} in"
    return "\n".join(lines), f"line {i + 1} {how}"


def spoil_text(rng: Random, text: str) -> Spoiled:
    """Lines, then perhaps the encoding, or raw bytes."""
    if rng.random() < 0.2:
        return spoil_bytes(rng, text.encode("utf-8", "surrogatepass"))
    said = []
    for _ in range(rng.choice((0, 1, 1, 2))):
        text, what = spoil_lines(rng, text)
        said.append(what)
    if not said or rng.random() < 0.3:
        data, what = spoil_encoding(rng, text)
        return data, "; ".join([*said, what])
    return text.encode(errors="surrogatepass"), "; ".join(said)


# -- tables ---------------------------------------------------------------------------------------


def spoil_table(rng: Random, text: str) -> Spoiled:
    """A CSV with columns and cells amiss; a third of them only as text."""
    if rng.random() < 0.35:
        return spoil_text(rng, text)
    rows = list(csv.reader(io.StringIO(text)))
    said = []
    for _ in range(rng.choice((1, 1, 2))):
        row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
        how = rng.choice(
            ("drop", "double", "rename", "cell", "cell", "cell", "cell", "short", "wide")
        )
        if how == "drop":
            for one in rows:
                del one[column : column + 1]
        elif how == "double":
            for one in rows:
                one[column:column] = one[column : column + 1]
        elif how == "rename":
            rows[0][column : column + 1] = [
                rng.choice(("Caption", "", " image_path", "path", "x" * 999))
            ]
        elif how == "cell":
            said_there = str(interesting(rng))
            rows[row][column : column + 1] = [said_there]
            how = f"cell {row}, {column}: {said_there[:40]!r}"
        elif how == "short":
            rows[row] = rows[row][:column]
        else:
            rows[row] = rows[row] + ["more"] * rng.choice((1, 50))
        said.append(how)
        if not rows[0]:
            break
    out = io.StringIO()
    csv.writer(out, delimiter=rng.choice((",",) * 9 + (";", "\t")), escapechar="\\").writerows(rows)
    return out.getvalue().encode(errors="surrogatepass"), "; ".join(said)


# -- JSON -----------------------------------------------------------------------------------------


def spoil_value(rng: Random, record: Any) -> tuple[Any, str]:
    """A copy of plain nested values with one to three of them gone, of another type, or moved."""
    record = copy.deepcopy(record)
    said = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holders = _holders(record)
        if not holders:
            return interesting(rng), "all of it replaced"
        where, holder, key = rng.choice(holders)
        how = rng.choice(("gone", "other", "other", "other", "near", "key", "wrapped", "moved"))
        if how == "gone":
            del holder[key]
        elif how == "near":
            holder[key] = _near(rng, holder[key])
        elif how == "key" and isinstance(holder, dict):
            holder[str(rng.choice(INTERESTING_TEXTS))] = holder.pop(key)
        elif how == "wrapped":
            holder[key] = rng.choice(([holder[key]], {str(key): holder[key]}))
        elif how == "moved":
            holder[key] = copy.deepcopy(rng.choice(holders)[1])
        else:
            holder[key] = interesting(rng)
        now = (
            repr(holder[key])[:60]
            if key in (holder if isinstance(holder, dict) else range(len(holder)))
            else ""
        )
        said.append(f"{where} {how} {now}".strip())
    return record, "; ".join(said)


def spoil_json(rng: Random, text: str) -> Spoiled:
    """A JSON document with values amiss; some only as text, some nested without end."""
    how = rng.random()
    if how < 0.15:
        return spoil_text(rng, text)
    if how < 0.2:
        deep = rng.choice((50, 990, 100_000))
        opened = rng.choice(("[", '{"a":'))
        return (opened * deep).encode(), f"{deep} times {opened}"
    if how < 0.24:
        said = rng.choice(
            ("1" * 5000, "1e999", "-" + "9" * 400, "NaN", '"\\ud800"', "[]", "{}", "null", '""')
        )
        return said.encode(), f"all of it {said[:20]}"
    record, said = spoil_value(rng, json.loads(text))
    if rng.random() < 0.05:
        return _with_double_key(rng, json.dumps(record)), said + "; a key twice"
    return json.dumps(record, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass"), said


def _near(rng: Random, value: Any) -> Any:
    """A value of the same type that is wrong by little or by very much."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return rng.choice(
            (value + 1, value - 1, -value, value * 2, value // 2, value * 10**6, float(value))
        )
    if isinstance(value, float):
        return rng.choice((-value, value * 1e30, float("nan"), 0.0))
    if isinstance(value, str):
        return rng.choice((value + "x", value[:-1], value.upper(), value * 200, "../" + value))
    if isinstance(value, list):
        return rng.choice((value * 2, value[:-1], value[::-1], value * 500))
    return value


def _holders(value: Any, where: str = "") -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += [(f"{where}.{key}"[-60:], value, key), *_holders(inner, f"{where}.{key}")]
    elif isinstance(value, list):
        for i, inner in enumerate(value[:20]):
            found += [(f"{where}[{i}]"[-60:], value, i), *_holders(inner, f"{where}[{i}]")]
    return found


def _with_double_key(rng: Random, text: str) -> bytes:
    at = text.find("{") + 1
    return (text[:at] + '"model_type": 3, "messages": 3,' * bool(at) + text[at:]).encode(
        errors="replace"
    )


# -- safetensors ----------------------------------------------------------------------------------

TEN_TERABYTES = 10 * 2**40


def spoil_safetensors(rng: Random, data: bytes) -> Spoiled:
    """A file of weights whose header lies, or whose tensors are missing, extra or others."""
    if rng.random() < 0.3:
        return spoil_bytes(rng, data)
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.15:
        claimed = rng.choice((0, 1, length - 1, length + 8, 2**31, 2**40, 2**63, 2**64 - 1))
        return struct.pack("<Q", claimed) + data[8:], f"header of {claimed} bytes claimed"
    names = [name for name in header if name != "__metadata__"]
    name, other = rng.choice(names), rng.choice(names)
    entry = header[name]
    how = rng.choice(
        ("overlap", "outside", "backwards", "dtype", "huge", "shape", "gone", "extra", "renamed",
         "values", "deep", "metadata", "nan")
    )  # fmt: skip
    if how == "overlap":
        entry["data_offsets"] = header[other]["data_offsets"]
    elif how == "outside":
        entry["data_offsets"] = [len(body), len(body) + rng.choice((1, 10**9, 2**62))]
    elif how == "backwards":
        entry["data_offsets"] = entry["data_offsets"][::-1]
    elif how == "dtype":
        entry["dtype"] = rng.choice(
            ("F64", "I64", "U8", "BOOL", "F8_E4M3", "BF16", "F4", "", "f32", 3, None)
        )
    elif how == "huge":
        entry["shape"] = rng.choice(
            ([TEN_TERABYTES], [2**32, 2**32], [2**20, 2**20, 10], [-1], [2**64])
        )
    elif how == "shape":
        entry["shape"] = rng.choice(
            ([], [0], [1, *entry["shape"]], entry["shape"][::-1], entry["shape"] + [1])
        )
    elif how == "gone":
        return _without(header, body, name), f"{name} gone"
    elif how == "renamed":
        header[f"{name}.x"] = header.pop(name)
    elif how == "extra":
        header["another"] = {
            "dtype": "F32",
            "shape": [1],
            "data_offsets": [len(body), len(body) + 4],
        }
        body += b"\x00" * 4
    elif how == "metadata":
        header["__metadata__"] = interesting(rng)
    elif how == "deep":
        header[name] = json.loads("[" * 100 + "]" * 100)
    elif how == "nan":
        start, end = entry["data_offsets"]
        body = body[:start] + b"\xff" * (end - start) + body[end:]
    else:
        header, what = spoil_value(rng, header)
        how = f"header: {what}"
    return _packed(header, body), f"{name}: {how}"


def _without(header: dict[str, Any], body: bytes, name: str) -> bytes:
    kept, out = {}, b""
    for one, entry in header.items():
        if one == name or one == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        kept[one] = {**entry, "data_offsets": [len(out), len(out) + end - start]}
        out += body[start:end]
    return _packed(kept, out)


def _packed(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body
