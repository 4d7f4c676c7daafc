"""What can be wrong with a file: bytes of any, parts of a package, tags of XML, cells of a table as text."""

import io
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping

Bytes = bytes
_ODD_VALUES = [
    b"", b"0", b"-1", b"1", b"65536", b"2147483648", b"99999999999999999999", b"1e999", b"NaN", b"-0.0", b"XFD1048576", b"A0", b"ZZZZ9",
    b"A1:XFD1048576", b"$A$1", b"true", b"e", b"s", b"inlineStr", b"d", b"../../etc/passwd", b"/", b"xl/worksheets/sheet1.xml", b"\xff\xfe",
    b"&#0;", b"&#xD800;", b"&amp;", b"&a;", b"rId1", b"UTF-16", b"string", b"float", b"PT99999999H", b"9999-99-99", b"2958466", b"1048576",
    "質".encode(), b" " * 300, b"x" * 40_000,
]  # fmt: skip
_ODD_TEXT = [
    b'"',
    b'""',
    b",",
    b"\t",
    b"\n",
    b"\r",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x1b$B",
    b"{",
    b"}",
    b"[",
    b"\\ud800",
    b"sep=;\n",
    b"\x1f",
]
_ATTRIBUTE = re.compile(rb"""(\s[\w:.-]+=")([^"]*)(")""")
_TAG = re.compile(rb"<[^<>]*>")
_TEXT = re.compile(rb">([^<>]+)<")


def mutate(rng: random.Random, name: str, corpus: Mapping[str, Bytes]) -> Bytes:
    """Return a file of the corpus with something wrong."""
    content = corpus[name]
    if content.startswith(b"PK") and rng.random() < 0.85:
        return _package(rng, content, corpus)
    for _ in range(rng.choice([1, 1, 2, 5])):
        content = rng.choice(_TEXT_CHANGES if name.endswith(("csv", "tsv", "jsonl")) else _BYTE_CHANGES)(rng, content)
    return content


# -- bytes


def _flip(rng: random.Random, content: Bytes) -> Bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 20])):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _cut(rng: random.Random, content: Bytes) -> Bytes:
    return content[: rng.randrange(len(content) + 1)]


def _without(rng: random.Random, content: Bytes) -> Bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.choice([1, 4, 100, 5000]) :]


def _twice(rng: random.Random, content: Bytes) -> Bytes:
    start = rng.randrange(len(content) + 1)
    piece = content[start : start + rng.choice([1, 8, 200])]
    return content[:start] + piece * rng.choice([2, 2, 100]) + content[start:]


def _number(rng: random.Random, content: Bytes) -> Bytes:
    if len(content) < 8:
        return content
    start, form = rng.randrange(len(content) - 7), rng.choice(["<H", "<I", "<i", "<Q"])
    top = 2 ** (8 * struct.calcsize(form) - (form == "<i")) - 1
    value = struct.pack(form, rng.choice([0, 1, 2, 255, top, top // 2, top - 1, rng.randrange(top)]))
    return content[:start] + value + content[start + len(value) :]


def _odd_text(rng: random.Random, content: Bytes) -> Bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.choice(_ODD_TEXT) * rng.choice([1, 1, 2, 50]) + content[start:]


_BYTE_CHANGES: list[Callable[[random.Random, Bytes], Bytes]] = [_flip, _flip, _cut, _without, _twice, _number, _number]
_TEXT_CHANGES = [*_BYTE_CHANGES[:5], _odd_text, _odd_text, _odd_text]


# -- XML


def _one(rng: random.Random, pattern: re.Pattern[Bytes], content: Bytes) -> re.Match[Bytes] | None:
    found = list(pattern.finditer(content))
    return rng.choice(found) if found else None


def _attribute(rng: random.Random, content: Bytes) -> Bytes:
    found = _one(rng, _ATTRIBUTE, content)
    if found is None:
        return content
    return content[: found.start(2)] + rng.choice(_ODD_VALUES) + content[found.end(2) :]


def _attribute_gone(rng: random.Random, content: Bytes) -> Bytes:
    found = _one(rng, _ATTRIBUTE, content)
    return content if found is None else content[: found.start()] + content[found.end() :]


def _text(rng: random.Random, content: Bytes) -> Bytes:
    found = _one(rng, _TEXT, content)
    return content if found is None else content[: found.start(1)] + rng.choice(_ODD_VALUES) + content[found.end(1) :]


def _tag_gone(rng: random.Random, content: Bytes) -> Bytes:
    found = _one(rng, _TAG, content)
    return content if found is None else content[: found.start()] + content[found.end() :]


def _tag_twice(rng: random.Random, content: Bytes) -> Bytes:
    found = _one(rng, _TAG, content)
    return content if found is None else content[: found.end()] + found[0] * rng.choice([1, 1, 1000]) + content[found.end() :]


def _tag_elsewhere(rng: random.Random, content: Bytes) -> Bytes:
    found, other = _one(rng, _TAG, content), _one(rng, _TAG, content)
    return content if found is None or other is None else content[: other.start()] + found[0] + content[other.start() :]


def _element_repeated(rng: random.Random, content: Bytes) -> Bytes:
    """Repeat all from one tag to the next of its name."""
    found = _one(rng, re.compile(rb"<([\w:-]+)[^<>]*>.*?</\1>", re.DOTALL), content)
    return content if found is None else content[: found.end()] + found[0] * rng.choice([1, 3, 100]) + content[found.end() :]


def _odd_declaration(rng: random.Random, content: Bytes) -> Bytes:
    entity = b'<!DOCTYPE x [<!ENTITY a "b"><!ENTITY c SYSTEM "file:///etc/passwd">]>'
    start = content.find(b"?>") + 2
    comment = b"<!-- <c r='A1'/> -->"
    return content[:start] + rng.choice([entity, comment, b"<![CDATA[<row>]]>", b"\x00", b"<?pi?>"]) + content[start:]


def _recoded(rng: random.Random, content: Bytes) -> Bytes:
    encoding = rng.choice(["utf-16", "cp932", "utf-8-sig", "latin-1", "utf-32"])
    text = content.decode("utf-8", "replace")
    return (text.replace("UTF-8", encoding) if rng.random() < 0.5 else text).encode(encoding, "replace")


def _prefixed(_: random.Random, content: Bytes) -> Bytes:
    content = re.sub(rb"<(/?)(?=[a-z]\w*[\s/>])", rb"<\1x:", content)
    return content.replace(b"xmlns=", b"xmlns:x=", 1)


_XML_CHANGES: list[Callable[[random.Random, Bytes], Bytes]] = [
    _attribute, _attribute, _attribute, _attribute_gone, _text, _text, _tag_gone, _tag_twice, _tag_elsewhere, _element_repeated,
    _odd_declaration, _recoded, _prefixed, _flip, _cut,
]  # fmt: skip


# -- packages


def _package(rng: random.Random, content: Bytes, corpus: Mapping[str, Bytes]) -> Bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        parts = [(info.filename, package.read(info)) for info in package.infolist()]
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        _change_part(rng, parts, corpus)
    target = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(target, "w", rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])) as package:
        warnings.simplefilter("ignore")  # of parts of one name, which are meant
        for name, part in parts:
            package.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), part)
    packed = target.getvalue()
    return rng.choice(_BYTE_CHANGES)(rng, packed) if rng.random() < 0.1 else packed


def _change_part(rng: random.Random, parts: list[tuple[str, Bytes]], corpus: Mapping[str, Bytes]) -> None:
    # The parts that decide what is read, twice as often
    likely = [n for n, (name, _) in enumerate(parts) if re.search(r"sheet|workbook|sharedStrings|styles|content\.xml|table", name)]
    place = rng.choice(likely if likely and rng.random() < 0.8 else range(len(parts))) if parts else 0
    if not parts:
        return
    name, part = parts[place]
    match rng.choice(["xml"] * 12 + ["gone", "twice", "renamed", "swapped", "nested"]):
        case "xml":
            parts[place] = (name, rng.choice(_XML_CHANGES)(rng, part))
        case "gone":
            del parts[place]
        case "twice":
            parts.append((rng.choice([name.upper(), name.replace("/", "\\"), f"/{name}"]), part))
        case "renamed":
            parts[place] = (rng.choice([name.upper(), f"{name}x", name.replace("/", "\\"), "../" + name, ""]) or "x", part)
        case "swapped":
            other = rng.randrange(len(parts))
            parts[place], parts[other] = (name, parts[other][1]), (parts[other][0], part)
        case "nested":
            parts[place] = (name, corpus[rng.choice(sorted(corpus))])
