"""The section of README.md on the page of `bigr serve`, for `tables.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

PAGE = (Path(__file__).parent / "results" / "web.json").is_file()


def web_section(read: Callable, table: Callable, made_by: Callable) -> str:
    """Tables of web.json: what one waits for, and the memory of the server."""
    result = read("web")
    browser = result.get("browser", {})
    waits = {
        "query by a picture of the gallery": result["query_by_id_seconds"],
        "query by a picture that is sent": result["query_by_picture_seconds"],
        "positions of all points": result["points_seconds"],
        "in Chromium: click to the next results": browser.get("click_to_results_seconds"),
        "in Chromium: scatter first drawn": browser.get("scatter_first_drawn_seconds"),
    }
    rows = [[name, *(f"{spread[key]:.3f}" for key in ("median", "p95", "max"))] for name, spread in waits.items() if spread]
    memory = result["memory_mb_by_requests"]
    load = result["load_average_before"]
    parts = [
        f"A gallery of {result['pictures']:,} small pictures behind `bigr serve`, one thread. The load average was {load:g} when it "
        f"began on {result['environment']['cores']} cores; CPU seconds do not depend on it.",
        table(["seconds", "median", "95 %", "longest"], rows),
        f"A query takes {1000 * result['query_by_id_cpu_seconds']:.0f} ms of the server's CPU. The page is "
        f"{result['page_bytes'] / 1000:.0f} kB without pictures.",
    ]
    if browser:
        parts[-1] += (
            f" Dragging the plot of all points gave {browser['panning_frames_per_second']:g} frames a second, of "
            f"{1000 * browser['panning_cpu_seconds_per_frame']:.0f} ms CPU each in all processes of the browser, without a graphics card."
        )
    numbers = [f"{count} MB" for count in map(str, memory.values())]
    parts += ["Memory of the server over requests in turn:", table(list(memory), [numbers]), made_by("web")]
    return "\n\n".join(parts)
