"""Files of reports: pictures and videos inside of pages, and texts that are there whole or not at all."""

from __future__ import annotations

import os
from base64 import b64encode
from mimetypes import guess_type
from pathlib import Path


def data_uri(file: Path) -> str:
    """A picture or video as a page holds it inside."""
    return f"data:{guess_type(file.name)[0]};base64,{b64encode(file.read_bytes()).decode()}"


def write_text(path: Path, content: str) -> None:
    """Replace a file in one step, so that a reader never sees half of it."""
    part = path.with_name(path.name + ".part")
    part.write_text(content, encoding="utf-8")
    os.replace(part, path)
