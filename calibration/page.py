"""A board as a page to print: PDF to scale, with a ruler to check the printer with."""

from __future__ import annotations

from pathlib import Path

from calibration.board import Board
from robosteer_core.errors import UserError

#: Landscape, millimetres.
PAGES = {"A4": (297.0, 210.0), "A3": (420.0, 297.0), "A2": (594.0, 420.0), "A1": (841.0, 594.0), "A0": (1189.0, 841.0)}
_MARGIN_MM = 8.0
#: Room below the board for the ruler and the words.
_FOOT_MM = 18.0
_MM_PER_INCH = 25.4


def page_of(board: Board) -> str:
    """Name of the smallest page that holds the board. Raises UserError where none does."""
    width, height = (1e3 * side for side in board.size_m)
    for name, (page_width, page_height) in PAGES.items():
        if width + 2 * _MARGIN_MM <= page_width and height + _MARGIN_MM + _FOOT_MM <= page_height:
            return name
    raise UserError(f"a board of {width:.0f} x {height:.0f} mm fits on no page up to A0; choose fewer or smaller squares")


def write_page(board: Board, path: Path) -> str:
    """Write the PDF; returns the page's name. In the file every length is in points of 1/72 inch, at full scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    name = page_of(board)
    page_width, page_height = PAGES[name]
    board_width, board_height = (1e3 * side for side in board.size_m)
    left, top = (page_width - board_width) / 2, (page_height - _FOOT_MM + _MARGIN_MM - board_height) / 2
    figure = Figure(figsize=(page_width / _MM_PER_INCH, page_height / _MM_PER_INCH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, page_width)
    axes.set_ylim(page_height, 0)
    axes.axis("off")
    vertices, codes = [], []
    for x, y, w, h in board.black():
        x, y, w, h = left + 1e3 * x, top + 1e3 * y, 1e3 * w, 1e3 * h
        vertices += [(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]
        codes += [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
    axes.add_patch(PathPatch(Outline(vertices, codes), facecolor="black", edgecolor="none", linewidth=0, snap=False))
    _ruler(axes, left, page_height - _FOOT_MM + 3, 10 * int(board_width // 10), PathPatch, Outline)
    axes.text(
        left,
        page_height - 5.0,
        f"robosteer: {board.words()}. Print at 100 %; the ruler is in millimetres.",
        size=8,
        va="bottom",
    )
    with matplotlib.rc_context({"pdf.compression": 0, "pdf.fonttype": 42}):
        figure.savefig(path, format="pdf", metadata={"Title": f"robosteer board, {board.words()}", "CreationDate": None})
    return name


def _ruler(axes: object, left: float, top: float, length_mm: int, patch: type, outline: type) -> None:
    vertices, codes = [(left, top), (left + length_mm, top)], [outline.MOVETO, outline.LINETO]
    for millimetre in range(length_mm + 1):
        tick = 3.0 if millimetre % 10 == 0 else 2.0 if millimetre % 5 == 0 else 1.2
        vertices += [(left + millimetre, top), (left + millimetre, top + tick)]
        codes += [outline.MOVETO, outline.LINETO]
        if millimetre % 10 == 0:
            axes.text(left + millimetre, top + 3.3, str(millimetre), size=5, ha="center", va="top")
    axes.add_patch(patch(outline(vertices, codes), fill=False, linewidth=0.4, snap=False))
