"""Mutations: a valid input and a seeded generator give a spoiled one.

Pure functions of (random.Random, content): nothing here knows which command reads the content, and
the same seed gives the same bytes.
"""

import copy
import csv
import io
import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

INTERESTING_BYTES = (
    b"\x00", b"\xff", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x80\x00\x00\x00",
    b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00" * 64, b"%s%n%x", b"\r\n", b"\n", b"\x1a",
    b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", "한글".encode(),
    b"../../etc/passwd", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"\x1f\x8b\x08", b"PAR1", b"<svg/>",
    b"%PDF-1.4",
)  # fmt: skip
INTERESTING_INTS = (
    0, 1, -1, 2, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**32, 2**53,
    2**63 - 1, -(2**63), 2**63, 2**64, 10**30, 10**4300,
)  # fmt: skip
INTERESTING_FLOATS = (
    0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
INTERESTING_TEXTS = (
    "", " ", "\t", "\n", "a\nb", "\x00", "a\x00b", "\x1b[31m", "\ud800", "null", "true", "NaN",
    "-1", "1e999", "0x10", "한국어 이름.png", "e\u0301", "\u202egnp.exe", "../../etc/passwd",
    "/etc/passwd", "/dev/zero", "/proc/self/mem", "..", ".", "/", "~", "~root", "~nobody-here/x",
    "C:\\x", "a/" * 3000, "x" * 300, "x" * 5000, "'", '"', "`id`", "$(id)", "${oc.env:HOME}",
    "${x}", "$", "{}", "[]", "[a,", "{a: b}", "a,b", "a=b", "--", "-", "--help",
    "http://127.0.0.1:9/x", "s3://bucket/x", "file:///etc/passwd", "x.tar", "x-{9..1}.tar", "*",
    "?", "[", "%s", "{0}", "<script>",
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

BYTES = ("flip", "flip", "set", "number", "number", "cut", "headless", "longer", "doubled", "holed",
         "insert", "noise")  # fmt: skip


def _near_start(rng: Random, length: int) -> int:
    """A place, headers more often than the rest."""
    return rng.randrange(min(length, 64) if rng.random() < 0.5 else length) if length else 0


def spoil_bytes(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """One to three mutations of bytes; `others` are valid inputs of the kind to splice with."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if others and rng.random() < 0.1:
            other = rng.choice(list(others))
            data = data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]
        else:
            data = _mutated(rng, data)
    return data


def _mutated(rng: Random, data: bytes) -> bytes:
    size = len(data)
    match rng.choice(BYTES):
        case "flip":
            out = bytearray(data)
            for _ in range(rng.choice((1, 1, 2, 8, 64)) if data else 0):
                out[_near_start(rng, size)] ^= 1 << rng.randrange(8)
            return bytes(out)
        case "set":
            at, piece = _near_start(rng, size), rng.choice(INTERESTING_BYTES)
            return data[:at] + piece + data[at + len(piece) :]
        case "number":
            form = rng.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
            width, at = struct.calcsize(form), _near_start(rng, size)
            value = rng.choice(INTERESTING_INTS[:-1]) % 2 ** (8 * width)
            return data[:at] + struct.pack(form, value) + data[at + width :]
        case "cut":
            return data[: rng.choice((0, 1, 4, 8, rng.randrange(size + 1), max(0, size - 1)))]
        case "headless":
            return data[rng.choice((1, 2, 8, rng.randrange(size + 1))) :]
        case "longer":
            more = rng.choice((1, 100, 70_000))
            return data + rng.choice((b"\x00", b"\xff", b"a", b"\n")) * more
        case "doubled":
            start = rng.randrange(size + 1)
            return data[: start + rng.choice((1, 16, 1000, size))] + data[start:]
        case "holed":
            start = rng.randrange(size + 1)
            return data[:start] + data[start + rng.choice((1, 4, 100)) :]
        case "insert":
            at = _near_start(rng, size)
            return data[:at] + rng.choice(INTERESTING_BYTES) + data[at:]
    return rng.randbytes(rng.choice((1, 10, 1000)))


# -- text -----------------------------------------------------------------------------------------

CODECS = ("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp949", "latin-1", "utf-7")
FORMS = ("crlf", "cr", "nul", "long line", "two marks", "half a character", "blank lines")


def spoil_encoding(rng: Random, text: str) -> bytes:
    """The text in bytes that are not what a reader of UTF-8 awaits, or only just."""
    how = rng.choice(CODECS + FORMS)
    if how in CODECS:
        return text.encode(how, errors="replace")
    if how in ("nul", "long line"):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + ("\x00" if how == "nul" else "long " * 60_000) + text[at:]
    text = text.replace("\n", {"crlf": "\r\n", "cr": "\r"}.get(how, "\n"))
    data = text.encode(errors="surrogatepass")
    return {
        "two marks": b"\xef\xbb\xbf\xef\xbb\xbf" + data,
        "half a character": data + "한".encode()[:2],
        "blank lines": b"\n\n \n" + data + b"\n\n",
    }.get(how, data)


def spoil_lines(rng: Random, text: str) -> str:
    """A line dropped, doubled, moved, cut, or strange words in it."""
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.choice(("dropped", "doubled", "swapped", "cut", "word", "word", "word")):
        case "dropped":
            del lines[i]
        case "doubled":
            lines.insert(i, lines[j])
        case "swapped":
            lines[i], lines[j] = lines[j], lines[i]
        case "cut":
            lines[i] = lines[i][: rng.randrange(len(lines[i]) + 1)]
        case _:
            word, at = str(rng.choice(INTERESTING_TEXTS)), rng.randrange(len(lines[i]) + 1)
            lines[i] = lines[i][:at] + word + lines[i][at + rng.choice((0, len(word))) :]
    return "\n".join(lines)


def spoil_text(rng: Random, text: str) -> bytes:
    """Lines, then perhaps the encoding, or raw bytes."""
    if rng.random() < 0.2:
        return spoil_bytes(rng, text.encode("utf-8", "surrogatepass"))
    times = rng.choice((0, 1, 1, 2))
    for _ in range(times):
        text = spoil_lines(rng, text)
    if not times or rng.random() < 0.3:
        return spoil_encoding(rng, text)
    return text.encode(errors="surrogatepass")


# -- tables ---------------------------------------------------------------------------------------


def spoil_table(rng: Random, text: str) -> bytes:
    """A CSV with columns and cells amiss; a third of them only as text."""
    if rng.random() < 0.35:
        return spoil_text(rng, text)
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(rng.choice((1, 1, 2))):
        row, column = rng.choice(rows), rng.randrange(len(rows[0]))
        match rng.choice(("drop", "double", "rename", "short", "wide", *["cell"] * 4)):
            case "drop":
                for cells in rows:
                    del cells[column : column + 1]
            case "double":
                for cells in rows:
                    cells[column:column] = cells[column : column + 1]
            case "rename":
                names = ("Caption", "", " image_path", "path", "x" * 999)
                rows[0][column : column + 1] = [rng.choice(names)]
            case "short":
                del row[column:]
            case "wide":
                row += ["more"] * rng.choice((1, 50))
            case _:
                row[column : column + 1] = [str(interesting(rng))]
        if not rows[0]:
            break
    out = io.StringIO()
    csv.writer(out, delimiter=rng.choice((",",) * 9 + (";", "\t")), escapechar="\\").writerows(rows)
    return out.getvalue().encode(errors="surrogatepass")


# -- JSON -----------------------------------------------------------------------------------------


def spoil_value(rng: Random, record: Any) -> Any:
    """A copy of plain nested values with one to three of them gone, of another type, or moved."""
    record = copy.deepcopy(record)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holders = _holders(record)
        if not holders:
            return interesting(rng)
        holder, key = rng.choice(holders)
        match rng.choice(("gone", "other", "other", "other", "near", "key", "wrapped", "moved")):
            case "gone":
                del holder[key]
            case "near":
                holder[key] = _near(rng, holder[key])
            case "key" if isinstance(holder, dict):
                holder[str(rng.choice(INTERESTING_TEXTS))] = holder.pop(key)
            case "wrapped":
                holder[key] = rng.choice(([holder[key]], {str(key): holder[key]}))
            case "moved":
                holder[key] = copy.deepcopy(rng.choice(holders)[0])
            case _:
                holder[key] = interesting(rng)
    return record


def spoil_json(rng: Random, document: str | bytes) -> bytes:
    """A JSON document with values amiss; some only as text, some nested without end."""
    text = document if isinstance(document, str) else document.decode()
    how = rng.random()
    if how < 0.15:
        return spoil_text(rng, text)
    if how < 0.2:
        deep = rng.choice((50, 990, 100_000))
        return (rng.choice(("[", '{"a":')) * deep).encode()
    if how < 0.24:
        return rng.choice(
            ("1" * 5000, "1e999", "-" + "9" * 400, "NaN", '"\\ud800"', "[]", "{}", "null", '""')
        ).encode()
    record = spoil_value(rng, json.loads(text))
    if rng.random() < 0.05:  # a key twice
        first, brace, rest = json.dumps(record).partition("{")
        twice = '"model_type": 3, "messages": 3,' * bool(brace)
        return (first + brace + twice + rest).encode(errors="replace")
    return json.dumps(record, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")


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


def _holders(value: Any) -> list[tuple[Any, Any]]:
    """Every place in nested values: what holds it, and its key."""
    if isinstance(value, dict):
        places = list(value.items())
    elif isinstance(value, list):
        places = list(enumerate(value[:20]))
    else:
        return []
    return [place for key, inner in places for place in [(value, key), *_holders(inner)]]


# -- safetensors ----------------------------------------------------------------------------------


def spoil_safetensors(rng: Random, data: bytes) -> bytes:
    """A file of weights whose header lies, or whose tensors are missing, extra or others."""
    if rng.random() < 0.3:
        return spoil_bytes(rng, data)
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    if rng.random() < 0.15:
        claimed = rng.choice((0, 1, length - 1, length + 8, 2**31, 2**40, 2**63, 2**64 - 1))
        return struct.pack("<Q", claimed) + data[8:]
    names = [name for name in header if name != "__metadata__"]
    name, other = rng.choice(names), rng.choice(names)
    entry = header[name]
    start, end = entry["data_offsets"]
    match rng.choice(
        ("overlap", "outside", "backwards", "dtype", "huge", "shape", "gone", "extra", "renamed",
         "values", "deep", "metadata", "nan")
    ):  # fmt: skip
        case "overlap":
            entry["data_offsets"] = header[other]["data_offsets"]
        case "outside":
            entry["data_offsets"] = [len(body), len(body) + rng.choice((1, 10**9, 2**62))]
        case "backwards":
            entry["data_offsets"] = [end, start]
        case "dtype":
            entry["dtype"] = rng.choice(
                ("F64", "I64", "U8", "BOOL", "F8_E4M3", "BF16", "F4", "", "f32", 3, None)
            )
        case "huge":
            entry["shape"] = rng.choice(
                ([10 * 2**40], [2**32, 2**32], [2**20, 2**20, 10], [-1], [2**64])
            )
        case "shape":
            entry["shape"] = rng.choice(
                ([], [0], [1, *entry["shape"]], entry["shape"][::-1], entry["shape"] + [1])
            )
        case "gone":
            del header[name]
            body = body[:start] + body[end:]
            for left in header.values():
                if left.get("data_offsets", [0])[0] >= end:
                    left["data_offsets"] = [at - (end - start) for at in left["data_offsets"]]
        case "renamed":
            header[f"{name}.x"] = header.pop(name)
        case "extra":
            place = [len(body), len(body) + 4]
            header["another"] = {"dtype": "F32", "shape": [1], "data_offsets": place}
            body += b"\x00" * 4
        case "metadata":
            header["__metadata__"] = interesting(rng)
        case "deep":
            header[name] = json.loads("[" * 100 + "]" * 100)
        case "nan":
            body = body[:start] + b"\xff" * (end - start) + body[end:]
        case _:
            header = spoil_value(rng, header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body
