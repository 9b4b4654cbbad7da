"""Certificates for tests: what stands on them, and how to read it back from the PDF."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pypdfium2
import zxingcpp

from lms.certificates.pdf import CertificateText

NUMBER = "01J2JV-4Z1XF-S7RMT-RC3MQ-3YJJVT"
URL = f"https://learn.school.example/verify/{NUMBER}"
FRAME = 9 / 25.4 * 72
"""How far the outer frame is from the edge of the page, in points."""


def a_text(name: str = "Sam Okafor", course_title: str = "Plants of the tidal zone", **fields: Any) -> CertificateText:
    values: dict[str, Any] = {
        "issued_on": datetime(2026, 3, 9, 12, tzinfo=UTC),
        "number": NUMBER,
        "verify_url": URL,
        "issuer": "Tidewater School",
        "instructor": "Ivy Okafor",
    }
    return CertificateText(name=name, course_title=course_title, **(values | fields))


@dataclass(frozen=True, slots=True)
class Paper:
    """What a reader gets from the file. `boxes` are left, bottom, right and top of every piece of text."""

    pages: int
    size: tuple[int, int]
    lines: list[str]
    boxes: list[tuple[float, float, float, float]]
    codes: list[str]
    metadata: dict[str, str]


def read(pdf: bytes) -> Paper:
    with pypdfium2.PdfDocument(pdf) as document:
        page = document[0]
        text = page.get_textpage()
        width, height = page.get_size()
        return Paper(
            pages=len(document),
            size=(round(width), round(height)),
            lines=text.get_text_range().replace("\u200b", "").splitlines(),
            boxes=[text.get_rect(place) for place in range(text.count_rects())],
            codes=[code.text for code in zxingcpp.read_barcodes(page.render(scale=3).to_pil())],
            metadata=document.get_metadata_dict(),
        )


def lines_of(pdf: bytes) -> list[str]:
    """The text alone, for tests that read many."""
    with pypdfium2.PdfDocument(pdf) as document:
        return document[0].get_textpage().get_text_range().replace("\u200b", "").splitlines()


def is_inside_the_frame(paper: Paper) -> bool:
    width, height = paper.size
    return all(
        FRAME < left <= right < width - FRAME and FRAME < bottom <= top < height - FRAME
        for left, bottom, right, top in paper.boxes
    )


def overlapping(paper: Paper) -> list[tuple[int, int]]:
    """Pairs of pieces of text that cover each other by more than neighbours and the lines of a paragraph do."""
    boxes = [
        (left + 1, bottom + (top - bottom) / 5, right - 1, top - (top - bottom) / 5)
        for left, bottom, right, top in paper.boxes
    ]
    return [
        (first, second)
        for first, (left, bottom, right, top) in enumerate(boxes)
        for second, (other_left, other_bottom, other_right, other_top) in enumerate(boxes[:first])
        if left < other_right and other_left < right and bottom < other_top and other_bottom < top
    ]
