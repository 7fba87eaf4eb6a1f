"""Pages for people: one HTML file each, pictures inside, in one style."""

from __future__ import annotations

from base64 import b64encode
from mimetypes import guess_type
from pathlib import Path


def render(template: Path, **content: object) -> str:
    """The page of a Jinja template, which may include `page.css`, the style of all pages; what it names has to be in `content`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders = [template.parent, Path(__file__).parent]
    templates = Environment(loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined)
    return templates.get_template(template.name).render(**content)


def data_uri(file: Path) -> str:
    """A picture or video as a page holds it inside."""
    return f"data:{guess_type(file.name)[0]};base64,{b64encode(file.read_bytes()).decode()}"
