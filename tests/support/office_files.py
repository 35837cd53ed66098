"""A realistic file of every kind that can be read, written here so that no binary file lives in the repository.

Each holds a heading “Warranty” (or its like) with a sentence about 24 months, a table of parts and prices, and, where
the format has pages, a second page; texts that are not Latin stand in some.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping

import docx
import openpyxl
import pptx
from pptx.util import Inches

GREEK = "Η εγγύηση ισχύει για είκοσι τέσσερις μήνες από την αγορά."
JAPANESE = "保証期間は購入日から二十四か月です。"


def docx_file() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Aurora Kettle Handbook"
    document.add_heading("Aurora Kettle Handbook", 0)
    document.add_heading("Warranty", 1)
    document.add_paragraph("The warranty covers faults in material for 24 months.")
    document.add_paragraph("Keep the receipt", style="List Bullet")
    document.add_heading("Spare parts", 1)
    table = document.add_table(rows=3, cols=2)
    for row, (part, price) in zip(
        table.rows, [("Part", "Price"), ("Limescale filter", "3.20 EUR"), ("Lid", "4.50 EUR")], strict=True
    ):
        row.cells[0].text, row.cells[1].text = part, price
    document.add_heading("Εγγύηση", 1)
    document.add_paragraph(GREEK)
    return _saved(document.save)


def pptx_file() -> bytes:
    deck = pptx.Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Descaling"
    first.placeholders[1].text = "Once a month\nOne part vinegar, two parts water"
    second = deck.slides.add_slide(deck.slide_layouts[5])
    second.shapes.title.text = "Warranty"
    table = second.shapes.add_table(2, 2, Inches(1), Inches(2), Inches(5), Inches(1)).table
    for row, cells in enumerate([("Market", "Months"), ("Norway", "36")]):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    second.notes_slide.notes_text_frame.text = (
        "Say that the warranty covers faults in material for 24 months elsewhere."
    )
    return _saved(deck.save)


def xlsx_file() -> bytes:
    book = openpyxl.Workbook()
    book.active.title = "Prices"
    for row in [("Part", "Price", "In stock"), ("Limescale filter", 3.2, True), ("Lid", 4.5, False)]:
        book.active.append(row)
    warranty = book.create_sheet("Warranty")
    for row in [("Country", "Months", "Note"), ("Norway", 36, "by law"), ("Germany", 24, "faults in material")]:
        warranty.append(row)
    hidden = book.create_sheet("Margins")
    hidden.append(("Kettle", "margin 41 percent"))
    hidden.sheet_state = "hidden"
    return _saved(book.save)


def odt_file() -> bytes:
    office, text, table = (f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" for name in ("office", "text", "table"))
    content = (
        f'<office:document-content xmlns:office="{office}" xmlns:text="{text}" xmlns:table="{table}"><office:body>'
        '<office:text><text:h text:outline-level="1">Warranty</text:h>'
        "<text:p>The warranty covers<text:s/>faults in material for <text:span>24 months</text:span>.</text:p>"
        "<text:list><text:list-item><text:p>Keep the receipt</text:p></text:list-item></text:list>"
        '<text:h text:outline-level="1">Spare parts</text:h><table:table>'
        "<table:table-row><table:table-cell><text:p>Part</text:p></table:table-cell>"
        "<table:table-cell><text:p>Price</text:p></table:table-cell></table:table-row>"
        "<table:table-row><table:table-cell><text:p>Limescale filter</text:p></table:table-cell>"
        "<table:table-cell><text:p>3.20 EUR</text:p></table:table-cell></table:table-row></table:table>"
        f"<text:p>{GREEK}</text:p></office:text></office:body></office:document-content>"
    )
    return zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def epub_file() -> bytes:
    def chapter(title: str, body: str) -> str:
        return f'<html xmlns="http://www.w3.org/1999/xhtml"><head><title>{title}</title></head><body><h1>{title}</h1>{body}</body></html>'

    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
            '<metadata><dc:title>The Tea Book</dc:title></metadata><manifest><item id="b" href="two%20.xhtml"/>'
            '<item id="a" href="one.xhtml"/></manifest><spine><itemref idref="a"/><itemref idref="b"/></spine></package>',
            "OEBPS/one.xhtml": chapter("Descaling", "<p>Descale once a month with vinegar.</p>"),
            "OEBPS/two .xhtml": chapter("Warranty", "<p>The warranty covers faults in material for 24 months.</p>"),
        }
    )


RTF = (
    rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}\f0 WARRANTY\par The warranty covers faults in material for "
    rb"24 months in M\'fcnchen.\par Keep the receipt.\par}"
)
EML = (
    b"From: Ida <ida@shop.example>\r\nTo: help@shop.example\r\nSubject: =?utf-8?q?Warranty_of_the_kettle?=\r\n"
    b'Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nThe warranty covers faults in material for 24 months.\r\n\r\n"
    b'--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename="receipt.pdf"\r\n\r\nx\r\n--b--\r\n'
)
CSV = "Part;Price;Warranty\r\nLimescale filter;3.20 EUR;24 months\r\nLid;4.50 EUR;12 months\r\n".encode("cp1252")
TSV = b"Part\tPrice\tWarranty\nLimescale filter\t3.20 EUR\t24 months\n"
JSON = json.dumps(
    {
        "shop": "Alder & Loom",
        "products": [
            {"name": "Kettle", "price": 59, "warranty": {"text": "Faults in material are covered for 24 months."}},
            {"name": "Limescale filter", "price": "3.20 EUR"},
        ],
        "note": JAPANESE,
    },
    ensure_ascii=False,
).encode()
RST = f"""Handbook
========

Warranty
--------

The warranty covers faults in material for 24 months. See :ref:`parts`.

.. code-block:: sh

   kettle --descale

.. raw:: html

   <script>no()</script>

.. include:: /etc/passwd

Spare parts
-----------

================  ========
Part              Price
================  ========
Limescale filter  3.20 EUR
================  ========

* {JAPANESE}
""".encode()
VTT = (
    b"WEBVTT\n\nNOTE made for tests\n\n1\n00:00:05.000 --> 00:00:09.000\n<v Ida>Welcome to the shop.\n\n"
    b"00:01:12.000 --> 00:01:15.000\nThe warranty covers <b>faults in material</b>\n\n"
    b"00:01:15.000 --> 00:01:18.000\nfor 24 months.\n"
)
SRT = (
    b"1\r\n00:00:05,000 --> 00:00:09,000\r\nWelcome to the shop.\r\n\r\n2\r\n00:01:12,000 --> 00:01:18,000\r\n"
    b"The warranty covers faults in material for 24 months.\r\n"
)
CODE = b"""import shop

PRICE = 3.20

# How long faults in material are covered: the warranty.
def warranty_months(country):
    return 36 if country == "NO" else 24


class LimescaleFilter:
    price = "3.20 EUR"
"""


def archive_file() -> bytes:
    return zipped(
        {
            "handbook/warranty.md": "# Warranty\n\nThe warranty covers faults in material for 24 months.",
            "handbook/prices.csv": CSV.decode(),
            "handbook/slides.pptx": pptx_file(),
            "__MACOSX/._warranty.md": "junk",
            "tools/setup.exe": b"MZ\x90" + bytes(100),
        }
    )


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """A ZIP of these parts, in this order, the first one uncompressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, data) in enumerate(parts.items()):
            archive.writestr(name, data, zipfile.ZIP_STORED if number == 0 else zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def packed_otherwise(data: bytes, name: str) -> bytes:
    """The ZIP with a part that claims to be packed with Deflate64, which nobody here unpacks."""
    return _with(data, name, local=(8, 9), listed=(10, 9))


def damaged(data: bytes, name: str) -> bytes:
    """The ZIP with a part whose first byte begins nothing that could be unpacked."""
    return _with(data, name, local=(30 + len(name), 0xFF))


def _with(data: bytes, name: str, *, local: tuple[int, int], listed: tuple[int, int] | None = None) -> bytes:
    changed = bytearray(data)
    changed[data.index(name.encode()) - 30 + local[0]] = local[1]
    if listed is not None:
        changed[data.rindex(name.encode()) - 46 + listed[0]] = listed[1]
    return bytes(changed)


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()
