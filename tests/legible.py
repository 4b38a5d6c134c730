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
    boxes = []
    for text in figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible()):
        words = text.get_text().strip()
        shown = words and not _hidden(text)
        if shown:
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


def _hidden(text) -> bool:
    """Whether it is a label of a tick that isn't drawn."""
    for axes in text.figure.axes if text.figure else ():
        for axis in (axes.xaxis, axes.yaxis):
            drawn = set()
            if not axes.axison:
                mine = {label for tick in axis.majorTicks + axis.minorTicks for label in (tick.label1, tick.label2)}
            else:
                low, high = sorted(axis.get_view_interval())
                pad = 1e-9 * (high - low)
                ticks = axis.majorTicks + axis.minorTicks
                mine = {label for tick in ticks for label in (tick.label1, tick.label2)}
                drawn = {
                    label
                    for tick in ticks
                    for label in (tick.label1, tick.label2)
                    if low - pad <= tick.get_loc() <= high + pad
                }
            if text in mine:
                return text not in drawn
    return False
