"""Results as one page, its pictures inside, that runs no script and asks no network.   Q queries, k hits"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from ..functional.printing import one_line
from .cards import LEGEND, Card, Result, decoded, is_marked

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 24px; color: #1e1e1e; background: #fff }
h1 { font-size: 20px; margin: 0 0 4px } p.note { color: #555; margin: 0 0 20px }
section { display: flex; gap: 14px; padding: 14px 0; border-top: 1px solid #ddd }
.hits { display: flex; flex-wrap: wrap; gap: 14px }
figure { margin: 0; width: SIDEpx } figure.query { flex: none; padding-right: 14px; border-right: 3px solid #999 }
figure > a, figure > span { display: flex; width: SIDEpx; height: SIDEpx; align-items: center; justify-content: center;
  background: #ebebeb; box-sizing: border-box; border: 3px solid transparent; color: #777; text-decoration: none }
figure.same > :first-child { border-color: #0072b2 } figure.other > :first-child { border-color: #d55e00 }
img { max-width: 100%; max-height: 100%; object-fit: contain } img.tiny { width: 100%; height: 100%; image-rendering: pixelated }
figcaption { font-size: 13px; overflow-wrap: anywhere; margin-top: 4px } figcaption b { font-weight: 600 }
""".strip()


def page(results: Sequence[Result], title: str, note: str, side: int, folder: Path) -> str:
    """One HTML page with its pictures inside, no script, and links to the sources, relative to `folder` where they are files."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<title>{html.escape(title or 'Search results')}</title><style>{STYLE.replace('SIDE', str(side))}</style></head><body>",
        f"<h1>{html.escape(title or 'Search results')}</h1>",
        f'<p class="note">{html.escape(note)}</p>' if note else "",
        f'<p class="note">{LEGEND}</p>' if is_marked(results) else "",
    ]
    for result in results:
        cards = [_figure(result.query, "query", side, folder), *(_figure(card, "hit", side, folder) for card in result.hits)]
        parts.append(f'<section>{cards[0]}<div class="hits">' + "\n".join(cards[1:]) + "</div></section>")
    return "\n".join([*parts, "</body></html>", ""])


def _figure(card: Card, kind: str, side: int, folder: Path) -> str:
    picture = decoded(card.picture)
    marks = {None: kind, True: f"{kind} same", False: f"{kind} other"}[card.same]
    if picture is None or card.picture is None:
        inner = "no picture"
    else:
        mime = Image.MIME[str(Image.open(io.BytesIO(card.picture)).format)]
        uri = f"data:{mime};base64,{base64.b64encode(card.picture).decode('ascii')}"
        tiny = ' class="tiny"' if 2 * max(picture.size) <= side else ""
        inner = f'<img src="{uri}"{tiny} alt="{html.escape(card.lines[-1] if card.lines else "", quote=True)}">'
    target = link_to(card.link, folder)
    framed = f"<span>{inner}</span>"
    if target is not None:
        framed = f'<a href="{html.escape(target, quote=True)}" title="{html.escape(one_line(card.link), quote=True)}">{inner}</a>'
    lines = [html.escape(text) for text in card.lines]
    verdict = {None: "", True: " &#10003;", False: " &#10007;"}[card.same]
    caption = "<br>".join([f"<b>{lines[0]}</b>{verdict}", *lines[1:]]) if lines else ""
    return f'<figure class="{marks}">{framed}<figcaption>{caption}</figcaption></figure>'


def link_to(source: str | None, folder: Path) -> str | None:
    """Address of a source as a page in `folder` names it: an http address, a relative path to a file that is there, or None."""
    if not source:
        return None
    if source.startswith(("http://", "https://")):
        return source
    try:
        if not Path(source).is_file():
            return None
        return quote(os.fsencode(Path(os.path.relpath(Path(source).resolve(), folder)).as_posix()))
    except (OSError, ValueError):  # too long a name, or another drive
        return None
