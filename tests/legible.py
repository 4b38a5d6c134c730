"""Whether the words of a figure can be read: all of them inside of it, none over another."""

from __future__ import annotations

from itertools import combinations

SLACK = 1.5  # points by which boxes of words may touch, being larger than the words


def troubles(figure) -> list[str]:
    """What is wrong with a figure's words, a sentence each; names of points and cells may touch each other."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    dots = figure.dpi / 72
    free = {text for axes in figure.axes for text in axes.texts}
    hidden = _hidden(figure)
    boxes = []
    for text in figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible()):
        words = text.get_text().strip()
        if words and text not in hidden:
            boxes.append((words, text.get_window_extent(), text in free))
    wide, high = figure.bbox.width, figure.bbox.height
    slack = SLACK * dots
    said = [
        f"{words!r} leaves the figure"
        for words, box, _ in boxes
        if min(box.x0, box.y0) < -slack or box.x1 > wide + slack or box.y1 > high + slack
    ]
    for (one, a, free_a), (other, b, free_b) in combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        up = min(a.y1, b.y1) - max(a.y0, b.y0)
        if min(across, up) > slack and not (free_a and free_b):
            said.append(f"{one!r} lies over {other!r}")
    return said


def _hidden(figure) -> set:
    """Labels of ticks that aren't drawn: beyond the ends of their axis, or of an axis that is off."""
    out = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            pad = 1e-9 * (high - low)
            for tick in (*axis.majorTicks, *axis.minorTicks):
                if not axes.axison or not low - pad <= tick.get_loc() <= high + pad:
                    out |= {tick.label1, tick.label2}
    return out
