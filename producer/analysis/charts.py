"""Charts as SVG: outcomes, distributions, shares with their intervals. Every text is escaped, every chart says over how many."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from workers.contract.messages import Outcome

from .intervals import Share, histogram

_WIDTH, _LABEL, _LINE = 720, 190, 30
_BINS = 25
_INK, _SOFT, _BAR = "#1f2933", "#7b8794", "#3e7cb1"
#: Blue for what was answered, warm for what was not; told apart without colours by their order too.
COLOURS = {
    Outcome.ANSWERED: "#3e7cb1",
    Outcome.MALFORMED: "#e0a030",
    Outcome.TRUNCATED: "#c46a2b",
    Outcome.SKIPPED: "#cbd2d9",
    Outcome.REJECTED: "#9b5094",
    Outcome.TIMED_OUT: "#b0406a",
    Outcome.FAILED: "#a61e2d",
    Outcome.CANCELLED: "#7b8794",
    None: "#eef1f4",
}


@dataclass(frozen=True)
class Part:
    """A part of a bar."""

    name: str
    count: int
    colour: str


def bars(title: str, rows: Sequence[tuple[str, Sequence[Part]]]) -> str:
    """Draw what each row consists of, as parts of a whole bar, with a legend below."""
    names = {part.name: part.colour for _, parts in rows for part in parts if part.count}
    svg = _drawing(title, 40 + _LINE * (len(rows) + 1))
    for number, (label, parts) in enumerate(rows):
        total = sum(part.count for part in parts)
        top, left = 40 + number * _LINE, float(_LABEL)
        _text(svg, _LABEL - 8, top + 15, f"{_short(label)} (n = {total:,})", "end")
        for part in parts:
            width = (_WIDTH - _LABEL - 10) * part.count / total if total else 0
            if width:
                bar = SubElement(svg, "rect", _numbers(x=left, y=top, width=width, height=20), fill=part.colour)
                SubElement(bar, "title").text = f"{part.name}: {part.count:,} of {total:,}"
            left += width
    left = float(_LABEL)
    for name, colour in names.items():
        top = 40 + len(rows) * _LINE
        SubElement(svg, "rect", _numbers(x=left, y=top + 4, width=11, height=11), fill=colour)
        _text(svg, left + 16, top + 14, name)
        left += 30 + 7.2 * len(name)
    return tostring(svg, encoding="unicode")


def distributions(title: str, rows: Sequence[tuple[str, Sequence[float]]], top: float | None = None, unit: str = "") -> str:
    """Draw how values lie, a histogram for each row, all on the same axis from 0 to ``top`` (by default the largest)."""
    rows = [(label, values) for label, values in rows if len(values)]
    high = top or max((max(values) for _, values in rows), default=1) or 1
    height = 84
    svg = _drawing(title, 60 + height * max(len(rows), 1))
    step = (_WIDTH - _LABEL - 10) / _BINS
    for number, (label, values) in enumerate(rows):
        base = 40 + height * (number + 1) - 14
        counts = histogram(values, 0, high, _BINS)
        _text(svg, _LABEL - 8, base - 34, _short(label), "end")
        _text(svg, _LABEL - 8, base - 18, f"n = {len(values):,}", "end", _SOFT)
        for place, count in enumerate(counts):
            tall = (height - 24) * count / max(counts)
            bar = SubElement(svg, "rect", _numbers(x=_LABEL + place * step, y=base - tall, width=step - 1, height=tall), fill=_BAR)
            SubElement(bar, "title").text = f"{_figure(high * place / _BINS)} to {_figure(high * (place + 1) / _BINS)}{unit}: {count:,}"
        SubElement(svg, "line", _numbers(x1=_LABEL, x2=_WIDTH - 10, y1=base, y2=base), stroke=_SOFT)
    for share in (0, 0.25, 0.5, 0.75, 1):
        anchor = "end" if share == 1 else "middle"
        _text(
            svg, _LABEL + share * (_WIDTH - _LABEL - 10), 46 + height * max(len(rows), 1), f"{_figure(high * share)}{unit}", anchor, _SOFT
        )
    if not rows:
        _text(svg, _LABEL, 80, "nothing to show: no values")
    return tostring(svg, encoding="unicode")


def shares(title: str, rows: Sequence[tuple[str, Share]]) -> str:
    """Draw shares as points, each with its 95 % interval."""
    svg = _drawing(title, 64 + _LINE * len(rows))
    wide = _WIDTH - _LABEL - 70
    for number, (label, share) in enumerate(rows):
        middle = 54 + number * _LINE
        _text(svg, _LABEL - 8, middle + 4, f"{_short(label)} (n = {share.of:,})", "end")
        SubElement(svg, "line", _numbers(x1=_LABEL, x2=_LABEL + wide, y1=middle, y2=middle), stroke="#eef1f4")
        if share.value is None or share.interval is None:
            continue
        low, high = (_LABEL + wide * bound for bound in share.interval)
        SubElement(svg, "line", _numbers(x1=low, x2=high, y1=middle, y2=middle) | {"stroke": _BAR, "stroke-width": "3"})
        SubElement(svg, "circle", _numbers(cx=_LABEL + wide * share.value, cy=middle, r=6), fill=_BAR)
        _text(svg, _WIDTH - 8, middle + 4, f"{share.value:.1%}", "end")
    for mark in (0, 0.25, 0.5, 0.75, 1):
        _text(svg, _LABEL + wide * mark, 58 + _LINE * len(rows), f"{mark:.0%}", "middle", _SOFT)
    return tostring(svg, encoding="unicode")


def _drawing(title: str, height: float) -> Element:
    attributes = {
        "viewBox": f"0 0 {_WIDTH} {height:g}",
        "width": str(_WIDTH),
        "height": f"{height:g}",
        "role": "img",
        "aria-label": _clean(title),
    }
    svg = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": "sans-serif", "font-size": "13"} | attributes)
    SubElement(svg, "rect", _numbers(width=_WIDTH, height=height), fill="#ffffff")
    _text(svg, 10, 22, title).set("font-weight", "bold")
    return svg


def _text(svg: Element, x: float, y: float, text: str, anchor: str = "start", colour: str = _INK) -> Element:
    element = SubElement(svg, "text", _numbers(x=x, y=y) | {"text-anchor": anchor, "fill": colour})
    element.text = _clean(text)
    return element


def _numbers(**numbers: float) -> dict[str, str]:
    return {name: f"{number:.5g}" for name, number in numbers.items()}


def _short(label: str) -> str:
    """Cut a label to its place; a full-width character takes that of two."""
    cut, width = "", 0
    for letter in " ".join(label.split()) or "(empty)":
        width += 2 if ord(letter) > 0x2E7F else 1
        if width > 15:
            return f"{cut}…"
        cut += letter
    return cut


def _clean(text: str) -> str:
    """Return a text without what XML cannot hold."""
    return "".join(c for c in text if c in "\t\n" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff"))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
