"""Documents made for tests: PDFs written here, so that no binary file lives in the repository."""

from __future__ import annotations

import io

from pypdf import PdfReader, PdfWriter
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Table

MANUAL = [
    ("Safety", "Never immerse the base in water. Keep the cord away from hot plates."),
    ("Descaling", "Descale the kettle once a month with a mixture of one part vinegar and two parts water."),
    ("Guarantee", "The guarantee covers faults in material for 36 months from the date of purchase."),
]


def pdf(sections: list[tuple[str, str]] | None = None, *, title: str = "Aurora Kettle Manual") -> bytes:
    """A PDF with a page for each section: a heading, a paragraph repeated to some length, and a table on the last."""
    styles = getSampleStyleSheet()
    flow: list[object] = [Paragraph(title, styles["Title"])]
    for number, (heading, text) in enumerate(sections or MANUAL):
        if number:
            flow.append(PageBreak())
        flow += [Paragraph(heading, styles["Heading1"]), Paragraph(text, styles["BodyText"])]
        flow.append(Paragraph(f"More about {heading.lower()} can be found with your dealer. " * 12, styles["BodyText"]))
    flow.append(Table([["Spare part", "Price"], ["Lid", "4.50 EUR"], ["Filter", "3.20 EUR"]]))
    buffer = io.BytesIO()
    SimpleDocTemplate(buffer, pagesize=A4, title=title).build(flow)
    return buffer.getvalue()


def encrypted_pdf(*, password: str) -> bytes:
    """The manual under a user password; an empty one can be opened by anybody."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf())))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="AES-256")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def one_line_pdf(pages: list[str]) -> bytes:
    """A PDF with one line on each page."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    for line in pages:
        canvas.drawString(50, 800, line)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def scanned_pdf() -> bytes:
    """A page with lines drawn on it and no text."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer)
    canvas.line(100, 100, 300, 300)
    canvas.showPage()
    canvas.save()
    return buffer.getvalue()
