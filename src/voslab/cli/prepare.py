"""Reports which files of a data set exist and what to do next: `python -m src.prepare data=NAME`.

Without `data=`, it prints a table of all data sets. With `model=covos` it also encodes the videos, which otherwise
happens on first use.

Exit codes: with `data=`, 0 if the data set is complete, 1 if something is missing or damaged; 2 for bad input.
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

from voslab.cli.arguments import CONFIGS
from voslab.cli.entry import plain, run
from voslab.cli.instantiate import instantiate
from voslab.cli.messages import command
from voslab.core import ConfigError, atomic_path
from voslab.data.datamodule import VOSDataModule
from voslab.data.preparation.catalogue import all_data_sets, configured_data_sets
from voslab.data.preparation.completion import find_misplaced, next_step, unpack_found, unpack_given
from voslab.data.preparation.layout import CheckResult, DataSet, State
from voslab.data.preparation.preview import contact_sheet
from voslab.data.preparation.tree import check
from voslab.data.preparation.verification import verify
from voslab.methods.builder import codec_options, codec_source

SHOWN = 20
"""Number of faults that are printed; the rest are only counted."""
_MARKS = {State.PRESENT: "✓", State.PARTIAL: "✗", State.MISSING: "✗", State.OPTIONAL: "·"}
_STYLES = {State.PRESENT: "green", State.PARTIAL: "yellow", State.MISSING: "red", State.OPTIONAL: "dim"}


def main(config: DictConfig) -> None:
    """Unpack available archives, then print the expected tree, file counts, source and next step."""
    if config.verify not in {"auto", "full", True, False}:
        raise ConfigError(f"verify={config.verify}: choose true, false, full or auto")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console(highlight=False, markup=False, emoji=False)
    data, name = Path(config.paths.data), HydraConfig.get().runtime.choices.get("data")
    sets, notify = _sets(config, data), partial(console.print, soft_wrap=True)
    if config.archive is not None:
        with _progress(console, Path(config.archive).name) as advance:
            written = unpack_given(Path(config.archive), tuple(sets), notify, advance)
    else:
        written = sum(_unpack(console, one, data, notify) for one in sets) if name else 0
    sets = _sets(config, data)
    if name is None:
        if config.preview is not None:
            raise ConfigError("preview=FILE.png shows training clips of one data set: add data=NAME")
        _print_table(console, config, data)
        return
    decode = config.verify == "full"
    check_images = decode or config.verify is True or (config.verify == "auto" and written > 0)
    complete = [_report(console, one, data, check_images, decode) for one in sets]
    if config.preview is not None:
        _preview(config, Path(config.preview))
        console.print(f"preview  {config.preview}", soft_wrap=True)
    if not all(complete):
        sys.exit(1)
    if config.get("model") is not None:
        _encode(console, config)
    console.print(f"next     {_command(name)}", soft_wrap=True)


def _preview(config: DictConfig, target: Path) -> None:
    """Write an image of training clips, with the default settings of the data set."""
    data: VOSDataModule = instantiate(config.data)
    with atomic_path(target) as temporary:
        Image.fromarray(contact_sheet(data.training_clips())).save(temporary, "PNG")


def _encode(console: Console, config: DictConfig) -> None:
    """Encode what a method that looks at codec data would encode when it first meets it."""
    source = codec_source(codec_options(plain(config.model)), config.paths.cache)
    if source is None:
        raise ConfigError(f"model={config.model.name}: looks at no codec data, so nothing is encoded for it")
    data: VOSDataModule = instantiate(config.data)
    videos = data.videos()
    with _progress(console, "encoding") as advance:
        for done, video in enumerate(videos):
            advance(done, len(videos))
            source.file(video.source)
    console.print(f"encoded  {len(videos)} videos for model={config.model.name} in {source.cache}", soft_wrap=True)


def _sets(config: DictConfig, data: Path) -> list[DataSet]:
    if config.get("data") is None:
        return list(all_data_sets(data, Path(config.paths.cache)).values())
    found = configured_data_sets(plain(config.data))
    if not found:
        raise ConfigError(f"data={HydraConfig.get().runtime.choices['data']}: prepare does not know its sources")
    return list(found)


def _unpack(console: Console, data_set: DataSet, data: Path, notify: Callable[[str], None]) -> int:
    with _progress(console, data_set.title) as advance:
        return unpack_found(data_set, data, notify, advance)


def _report(console: Console, data_set: DataSet, data: Path, check_images: bool, decode: bool) -> bool:
    """Print the report of a data set. Returns whether it is complete."""
    found = check(data_set)
    if check_images:
        with _progress(console, f"{data_set.title}: checking the images") as advance:
            damage = verify(data_set, decode, lambda done: advance(done, 0))
        found = replace(found, faults=(*found.faults, *damage))
    moves = () if found.complete else find_misplaced(data_set, found, data)
    _print_tree(console, data_set, found)
    for fault in found.faults[:SHOWN]:
        _print_row(console, "wrong", fault, "yellow")
    if len(found.faults) > SHOWN:
        _print_row(console, "", f"… and {len(found.faults) - SHOWN:,} more", "yellow")
    for move in moves:
        _print_row(console, "hint", f"{move.found} belongs to {move.expected}", "yellow")
    if data_set.page:
        _print_row(console, "source", data_set.page)
        _print_row(console, "licence", data_set.licence)
    if not found.complete:
        _print_row(console, "next", next_step(data_set, found, moves, data), "bold")
    console.print()
    return found.complete


def _print_tree(console: Console, data_set: DataSet, found: CheckResult) -> None:
    """Print the expected tree, with a mark and counts on every line."""
    state = "complete" if found.complete else "absent" if found.absent else "incomplete"
    style = "bold green" if found.complete else "bold yellow"
    console.print(Text.assemble((data_set.title, "bold"), f" in {data_set.root}/: ", (state, style)), soft_wrap=True)
    width = max(len(entry.path) for entry in found.entries)
    for number, entry in enumerate(found.entries, 1):
        branch = "└── " if number == len(found.entries) else "├── "
        mark = (f"{_MARKS[entry.state]} ", _STYLES[entry.state])
        console.print(
            Text.assemble(branch, mark, f"{entry.path:{width}}  ", (entry.text or entry.state.value, "dim")),
            soft_wrap=True,
        )


def _print_row(console: Console, label: str, text: str, style: str = "") -> None:
    console.print(Text.assemble((f"{label:8} ", "dim"), (text, style)), soft_wrap=True)


def _print_table(console: Console, config: DictConfig, data: Path) -> None:
    """Print one line per data set."""
    console.print(
        Text.assemble(("data sets", "bold"), f" in {data}/; {command('prepare')} data=NAME prints the details")
    )
    for name, data_set in all_data_sets(data, Path(config.paths.cache)).items():
        found = check(data_set)
        state = "complete" if found.complete else "absent" if found.absent else "partial"
        texts = [entry.text for entry in found.entries if entry.state in {State.PRESENT, State.PARTIAL}]
        image_counts = [entry.text for entry in found.entries if entry.state is State.PRESENT and "*" in entry.path]
        style = {"complete": "green", "partial": "yellow", "absent": "dim"}[state]
        text = next(iter([*image_counts, *texts, *(entry.text for entry in found.entries if found.complete)]), "")
        console.print(Text.assemble(f"{name:18} ", (f"{state:9} ", style), (text, "dim")), soft_wrap=True)


def _command(name: str) -> str:
    """Return the command to run next with a complete data set."""
    paths = [shlex.quote(part) for part in HydraConfig.get().overrides.task if part.startswith("paths.")]
    found = recipes(name)
    if not found:
        return " ".join([f"{command('evaluate')} model=copy_first", f"data={name}", *paths])
    others = f"   (or {', '.join(found[1:])})" if len(found) > 1 else ""
    return " ".join([f"{command('train')} experiment={found[0]}", *paths]) + others


def recipes(name: str) -> list[str]:
    """Return the experiments that train on a data configuration.

    Args:
        name: Name of the configuration in `conf/data`.
    """
    line = re.compile(rf"override /data: {re.escape(name)}\s*$", re.M)
    return [path.stem for path in sorted((CONFIGS / "experiment").glob("*.yaml")) if line.search(path.read_text())]


@contextmanager
def _progress(console: Console, description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function (done, total) that updates a progress bar; total 0 means unknown."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, visible=False, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None, visible=True)


if __name__ == "__main__":
    run("prepare")
