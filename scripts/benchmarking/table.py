"""Measured callables side by side, as a Markdown table that is readable in a terminal too."""

from collections.abc import Mapping, Sequence

from benchmarking.timing import Clock, Timing


def table_row(
    name: str,
    timing: Timing,
    *,
    clock: Clock = "wall",
    peer: Timing | None = None,
    images: int | None = None,
    flops: int | None = None,
    flops_ceiling: float | None = None,
    num_bytes: int | None = None,
    copy_ceiling: float | None = None,
    peak_bytes: int | None = None,
) -> dict[str, str]:
    """Return the cells of one callable; what is not given has no cell.

    Args:
        name: of the callable.
        timing: its seconds.
        clock: of what rates and ratios are; processor seconds are shown beside wall seconds in any case.
        peer: timing of the callable that it is compared with, in the same run.
        images: per call.
        flops: floating point operations of a call, of the work that must be done and not of this way to do it.
        flops_ceiling: operations a second that the machine reaches at best.
        num_bytes: that a call must at least read and write.
        copy_ceiling: bytes a second that the machine copies at best.
        peak_bytes: memory of a call, beyond its inputs.
    """
    spread = timing.seconds(clock)
    cells = {
        "what": name,
        f"{clock} ms (quartiles)": f"{_ms(spread.median)} ({_ms(spread.low)} – {_ms(spread.high)})",
        "min ms": _ms(spread.minimum),
    }
    if clock == "wall":
        cells["cpu ms"] = _ms(timing.seconds("cpu").median)
    cells["first call ms"] = _ms(timing.first)
    if peer is not None:
        cells["× peer's speed"] = f"{timing.speedup_over(peer, clock).median:.2f}"
    if images is not None:
        cells["images/s"] = f"{images / spread.median:.4g}"
    if flops is not None:
        cells["GFLOP/s"] = f"{flops / spread.median / 1e9:.4g}"
        if flops_ceiling is not None:
            cells["of ceiling"] = f"{flops / spread.median / flops_ceiling:.0%}"
    if num_bytes is not None:
        cells["GB/s"] = f"{num_bytes / spread.median / 1e9:.4g}"
        if copy_ceiling is not None:
            cells["of copy"] = f"{num_bytes / spread.median / copy_ceiling:.0%}"
    if peak_bytes is not None:
        cells["peak MiB"] = f"{peak_bytes / 2**20:.1f}"
    return cells


def print_table(rows: Sequence[Mapping[str, str]]) -> None:
    """Print rows under the union of their columns; a missing cell is empty."""
    print(format_table(rows), flush=True)


def format_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the rows as a Markdown table, columns in the order in which they first occur."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    widths = [max(len(column), *(len(row.get(column, "")) for row in rows)) for column in columns]
    lines = [
        [column.ljust(width) for column, width in zip(columns, widths, strict=True)],
        ["-" * width for width in widths],
        *([row.get(column, "").ljust(width) for column, width in zip(columns, widths, strict=True)] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.4g}"
