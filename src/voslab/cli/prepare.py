"""What of a data set is there, and what to do next: `python -m src.prepare data=NAME`; without `data=`, a table of all.

With `model=covos` the videos are encoded as well, which else happens when they are first looked at.

Exit codes: with `data=`, 0 when everything is there, 1 when something is missing or damaged; 2 for bad input.
"""

from __future__ import annotations

import io
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from voslab.cli.entry import CONFIGS, entry, plain
from voslab.cli.instantiate import instantiate
from voslab.cli.models import codec_cache, codec_options
from voslab.core import ConfigError, atomic_path
from voslab.data.datamodule import VOSDataModule
from voslab.data.preparation.catalogue import everything, needed
from voslab.data.preparation.completion import misplaced, next_step, unpack_found, unpack_given
from voslab.data.preparation.layout import DataSet, Found, State
from voslab.data.preparation.preview import contact_sheet
from voslab.data.preparation.tree import check
from voslab.data.preparation.verification import verify
from voslab.engine.codec_source import CodecSource

SHOWN = 20
"""Faults that are printed; the others are counted."""
_MARKS = {State.PRESENT: "✓", State.PARTIAL: "✗", State.MISSING: "✗", State.OPTIONAL: "·"}
_STYLES = {State.PRESENT: "green", State.PARTIAL: "yellow", State.MISSING: "red", State.OPTIONAL: "dim"}


@entry("prepare")
def main(config: DictConfig) -> None:
    """Unpack what can be unpacked, then print expected tree, counts, source and next step."""
    if config.verify not in {"auto", "full", True, False}:
        raise ConfigError(f"verify={config.verify}: choose true, false, full or auto")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False, markup=False, emoji=False)
    data, name = Path(config.paths.data), HydraConfig.get().runtime.choices.get("data")
    sets, say = _sets(config, data), partial(console.print, soft_wrap=True)
    if config.archive is not None:
        with _progress(console, Path(config.archive).name) as advance:
            written = unpack_given(Path(config.archive), tuple(sets), say, advance)
    else:
        written = sum(_unpack(console, one, data, say) for one in sets) if name else 0
    sets = _sets(config, data)
    if name is None:
        if config.preview is not None:
            raise ConfigError("preview=FILE.png shows training clips of one data set: say data=NAME")
        _print_table(console, config, data)
        return
    decode = config.verify == "full"
    inside = decode or config.verify is True or (config.verify == "auto" and written > 0)
    complete = [_report(console, one, data, inside, decode) for one in sets]
    if config.preview is not None:
        _preview(config, Path(config.preview))
        console.print(f"preview  {config.preview}", soft_wrap=True)
    if not all(complete):
        sys.exit(1)
    if config.get("model") is not None:
        _encode(console, config)
    console.print(f"next     {_command(name)}", soft_wrap=True)


def _preview(config: DictConfig, target: Path) -> None:
    """Draw training clips, as they are without what a recipe changes, on one sheet."""
    data: VOSDataModule = instantiate(config.data)
    with atomic_path(target) as temporary:
        Image.fromarray(contact_sheet(data.training_clips())).save(temporary, "PNG")


def _encode(console: Console, config: DictConfig) -> None:
    """Encode what a method that looks at codec data would encode when it first meets it."""
    codec_source = CodecSource.from_plain(codec_cache(config.paths.cache), codec_options(config))
    if codec_source is None:
        raise ConfigError(f"model={config.model.name}: looks at no codec data, so nothing is encoded for it")
    data: VOSDataModule = instantiate(config.data)
    videos = data.videos()
    with _progress(console, "encoding") as advance:
        for done, video in enumerate(videos):
            advance(done, len(videos))
            codec_source.file(video.source)
    console.print(
        f"encoded  {len(videos)} videos for model={config.model.name} in {codec_source.cache}", soft_wrap=True
    )


def _sets(config: DictConfig, data: Path) -> list[DataSet]:
    if config.get("data") is None:
        return list(everything(data, Path(config.paths.cache)).values())
    found = needed(plain(config.data))
    if not found:
        raise ConfigError(f"data={HydraConfig.get().runtime.choices['data']}: nothing is known of its sources")
    return list(found)


def _unpack(console: Console, data_set: DataSet, data: Path, say: Callable[[str], None]) -> int:
    with _progress(console, data_set.title) as advance:
        return unpack_found(data_set, data, say, advance)


def _report(console: Console, data_set: DataSet, data: Path, inside: bool, decode: bool) -> bool:
    """Print all about a data set. Gives whether it is complete."""
    found = check(data_set)
    if inside:
        with _progress(console, f"{data_set.title}: looking into the pictures") as advance:
            damage = verify(data_set, decode, lambda done: advance(done, 0))
        found = replace(found, faults=(*found.faults, *damage))
    moves = () if found.complete else misplaced(data_set, found, data)
    _print_tree(console, data_set, found)
    for fault in found.faults[:SHOWN]:
        _say(console, "wrong", fault, "yellow")
    if len(found.faults) > SHOWN:
        _say(console, "", f"… and {len(found.faults) - SHOWN:,} more", "yellow")
    for move in moves:
        _say(console, "hint", f"{move.found} belongs to {move.expected}", "yellow")
    if data_set.page:
        _say(console, "source", data_set.page)
        _say(console, "licence", data_set.licence)
    if not found.complete:
        _say(console, "next", next_step(data_set, found, moves, data), "bold")
    console.print()
    return found.complete


def _print_tree(console: Console, data_set: DataSet, found: Found) -> None:
    """The expected tree, with a mark and counts on every line."""
    state = "complete" if found.complete else "absent" if found.absent else "not complete"
    style = "bold green" if found.complete else "bold yellow"
    console.print(Text.assemble((data_set.title, "bold"), f" in {data_set.root}/: ", (state, style)), soft_wrap=True)
    width = max(len(line.path) for line in found.lines)
    for number, line in enumerate(found.lines, 1):
        branch = "└── " if number == len(found.lines) else "├── "
        mark = (f"{_MARKS[line.state]} ", _STYLES[line.state])
        console.print(
            Text.assemble(branch, mark, f"{line.path:{width}}  ", (line.text or line.state.value, "dim")),
            soft_wrap=True,
        )


def _say(console: Console, what: str, text: str, style: str = "") -> None:
    console.print(Text.assemble((f"{what:8} ", "dim"), (text, style)), soft_wrap=True)


def _print_table(console: Console, config: DictConfig, data: Path) -> None:
    """A line for each data set."""
    console.print(Text.assemble(("data sets", "bold"), f" in {data}/; python -m src.prepare data=NAME says more"))
    for name, data_set in everything(data, Path(config.paths.cache)).items():
        found = check(data_set)
        state = "complete" if found.complete else "absent" if found.absent else "partial"
        texts = [line.text for line in found.lines if line.state in {State.PRESENT, State.PARTIAL}]
        pictures = [line.text for line in found.lines if line.state is State.PRESENT and "*" in line.path]
        style = {"complete": "green", "partial": "yellow", "absent": "dim"}[state]
        text = next(iter([*pictures, *texts, *(line.text for line in found.lines if found.complete)]), "")
        console.print(Text.assemble(f"{name:18} ", (f"{state:9} ", style), (text, "dim")), soft_wrap=True)


def _command(name: str) -> str:
    """What to run with a data set that is complete."""
    paths = [shlex.quote(part) for part in HydraConfig.get().overrides.task if part.startswith("paths.")]
    found = recipes(name)
    if not found:
        return " ".join(["python -m src.evaluate model=copy_first", f"data={name}", *paths])
    others = f"   (or {', '.join(found[1:])})" if len(found) > 1 else ""
    return " ".join([f"python -m src.train experiment={found[0]}", *paths]) + others


def recipes(name: str) -> list[str]:
    """Experiments that train on a configuration of data."""
    line = re.compile(rf"override /data: {re.escape(name)}\s*$", re.M)
    return [path.stem for path in sorted((CONFIGS / "experiment").glob("*.yaml")) if line.search(path.read_text())]


@contextmanager
def _progress(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that shows once it is told what is done, of how much (0: not known), and goes away at the end."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, visible=False, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None, visible=True)


if __name__ == "__main__":
    main()
