"""What a recipe writes below `hydra` is checked before Hydra builds anything from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from tests.conftest import Run
from voslab.cli.arguments import CONFIGS
from voslab.cli.hydra_config import check_hydra
from voslab.core import ConfigError

WRITER = {"_target_": "voslab.core.files.atomic_write", "target": "RAN", "content": "ran"}
FACTORY = {"()": "voslab.core.files.atomic_write", "target": "RAN", "content": "ran"}


def recipe(folder: Path, hydra: object, **others: object) -> tuple[str, ...]:
    """A recipe with a `hydra` block, as arguments; RAN in it becomes the file that shows that code ran."""
    text = yaml.safe_dump({"hydra": hydra, **others}).replace("RAN", str(folder / "ran"))
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "foreign.yaml").write_text(f"# @package _global_\n{text}")
    folders = (f"hydra.run.dir={folder}/run", f"hydra.sweep.dir={folder}/sweep", f"paths.outputs={folder}/out")
    # Without the check the program would end there.
    return ("--config-dir", str(folder / "conf"), "experiment=foreign", *folders, f"resume={folder}/none")


@pytest.mark.parametrize("flags", [(), ("-m",)], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("hydra", "message"),
    [
        ({"callbacks": {"x": WRITER}}, "hydra.callbacks.x: _target_ 'voslab.core.files.atomic_write' is not allowed"),
        ({"callbacks": {"x": {"_target_": "numpy.load", "file": "RAN"}}}, "_target_ 'numpy.load' is not allowed"),
        (
            {"callbacks": {"x": {"_target_": "torch.load", "f": "RAN", "weights_only": False}}},
            "_target_ 'torch.load' is not allowed",
        ),
        ({"callbacks": {"x": {"y": [WRITER]}}}, "hydra.callbacks.x.y[0]: _target_"),
        ({"callbacks": {"x": "${foreign}"}}, "hydra.callbacks.x: _target_ 'voslab.core.files.atomic_write'"),
        ({"callbacks": "${all}"}, "hydra.callbacks=${all}: must be written out"),
        ({"launcher": {"_target_": "my.Launcher"}}, "hydra.launcher: _target_ 'my.Launcher' is not allowed"),
        (
            {"launcher": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}},
            "BasicSweeper is not installed, or is no launcher",
        ),
        ({"sweeper": {"_target_": "numpy.load"}}, "hydra.sweeper: _target_ 'numpy.load' is not allowed"),
        (
            {"job_logging": {"handlers": {"x": FACTORY}}},
            "hydra.job_logging.handlers.x: () 'voslab.core.files.atomic_write' is not allowed",
        ),
        ({"hydra_logging": {"formatters": {"x": FACTORY}}}, "hydra.hydra_logging.formatters.x: ()"),
        ({"hydra_logging": {"filters": {"x": FACTORY}}}, "hydra.hydra_logging.filters.x: ()"),
        (
            {"job_logging": {"handlers": {"x": {"class": "logging.handlers.SocketHandler", "host": "a", "port": 9}}}},
            "class 'logging.handlers.SocketHandler' is not allowed",
        ),
        (
            {"job_logging": {"handlers": {"x": {"class": "logging.FileHandler", "filename": "RAN"}}}},
            "ran: a log file must be named *.log",
        ),
        (
            {"hydra_logging": {"handlers": {"x": {"class": "logging.StreamHandler", "stream": "ext://os.environ"}}}},
            "stream 'ext://os.environ' is not allowed",
        ),
        ({"hydra_logging": {"handlers": {"x": "${foreign}"}}}, "handlers.x=${foreign}: must be written out"),
        ({"job": {"env_set": {"PATH": "RAN"}}}, "hydra.job.env_set.PATH: not allowed; set environment variables in"),
    ],
)
def test_a_recipe_cannot_run_code_through_hydra(
    run: Run, tmp_path: Path, hydra: dict[str, object], message: str, flags: tuple[str, ...]
) -> None:
    line = run("train", *flags, *recipe(tmp_path, hydra, foreign=WRITER, all={"x": WRITER}))
    assert message in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["conf"]


def test_the_command_line_is_checked_too(run: Run, tmp_path: Path) -> None:
    folders = (f"hydra.run.dir={tmp_path}/run", f"hydra.sweep.dir={tmp_path}/sweep", f"resume={tmp_path}")
    line = run("train", "-m", "seed=1,2", "hydra.launcher._target_=hydra_plugins.none.Launcher", *folders)
    assert line == "hydra.launcher: _target_ 'hydra_plugins.none.Launcher' is not allowed in a configuration"
    line = run("train", "+hydra.callbacks.x._target_=voslab.core.files.atomic_write", *folders)
    assert line.startswith("hydra.callbacks.x: _target_ 'voslab.core.files.atomic_write' is not allowed")
    assert not list(tmp_path.iterdir())


def test_a_function_for_optuna_is_refused() -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", ["+hydra.callbacks.x.custom_search_space=os.getcwd"], return_hydra_config=True)
    with pytest.raises(ConfigError, match=r"custom_search_space .os\.getcwd. is not allowed"):
        check_hydra(config)


def test_the_choices_of_hydra_and_of_this_project_are_allowed() -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for program in sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "wandb_sweep"):
            chosen = ["data=generated"] if program in ("evaluate", "adaptation_figures") else []
            check_hydra(compose(program, chosen, return_hydra_config=True))
        for job, own in (("default", "default"), ("stdout", "hydra_debug"), ("disabled", "disabled"), ("none", "none")):
            choices = [f"hydra/job_logging={job}", f"hydra/hydra_logging={own}", "hydra.job.env_copy=[PATH]"]
            check_hydra(compose("train", choices, return_hydra_config=True))
