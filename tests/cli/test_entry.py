from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from voslab.cli.arguments import CONFIGS, explain, quote_path
from voslab.cli.entry import check_values, entry, fail
from voslab.cli.main import PROGRAMS, main
from voslab.cli.renamed import RENAMED, RENAMED_KEYS
from voslab.core import ConfigError, DataError


@given(
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30)
    | st.text("${}\\'\":.a", min_size=1, max_size=12)
)
@example("0~")
@example("${oc.env:HOME}.mp4")
@example("a\\${b}\\")
def test_any_path_arrives_as_it_is(path: str) -> None:
    if path.strip() != path or path[0] in "'\"[{" or path in ("~", "null", "true") or path.lower() in ("null", "nan"):
        return
    override = OverridesParser.create().parse_override(quote_path(f"video=/clips/{path}"))
    assert OmegaConf.create({"video": override.value()}).video == f"/clips/{path}"
    assert not override.is_sweep_override()


def test_lists_of_existing_files_are_still_sweeps(tmp_path: Path) -> None:
    files = [tmp_path / "a.ckpt", tmp_path / "b.ckpt"]
    for file in files:
        file.touch()
    argument = f"checkpoint={files[0]},{files[1]}"
    assert quote_path(argument) == argument


@pytest.mark.parametrize("argument", ["seed=1,2", "output='a b'", "model=crvos", "-m", "--cfg", "paths.data=/x/y"])
def test_the_rest_is_left_alone(argument: str) -> None:
    assert quote_path(argument) == argument


@pytest.mark.parametrize("name", ["5", "1e5", "true", "False", "1_000", ".5", "-3", "nan"])
def test_a_file_may_be_named_like_a_number(name: str) -> None:
    assert OverridesParser.create().parse_override(quote_path(f"video={name}")).value() == name
    assert quote_path("checkpoint=null") == "checkpoint=null"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("a.png: truncated"), "error: a.png: truncated"),
        (ConfigError("first\n  second\n"), "error: first second"),
        (
            DataError(
                "Caught DataError in DataLoader worker process 0.\nTraceback\nsrc.core.errors.DataError: b.png: empty\n"
            ),
            "error: b.png: empty",
        ),
    ],
)
def test_one_line_and_exit_code_two(capsys: pytest.CaptureFixture[str], error: Exception, line: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        fail(error)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == line + "\n"


def compose_error(*arguments: str) -> str:
    with pytest.raises(Exception, match=r".") as error, initialize_config_dir(str(CONFIGS), version_base="1.3"):
        compose("train", list(arguments))
    message = explain(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("sede=1", "sede: there is no 'sede' here; did you mean 'seed'?"),
        ("experimnt=demo", "experimnt: there is no 'experimnt' here; did you mean 'experiment'?"),
        ("model.network.backbon=x", "model.network.backbon: there is no 'backbon' here; did you mean 'backbone'?"),
        ("model.netwrk.width=3", "model.netwrk.width: there is no 'netwrk' here; did you mean 'network'?"),
        ("trainer.max_stepz=3", "trainer.max_stepz: there is no 'max_stepz' here; did you mean 'max_steps'?"),
        ("experiment=crvos_daviss", "experiment=crvos_daviss: no such choice; did you mean 'crvos_davis'? (there are"),
        ("trainer=gpuu", "trainer=gpuu: no such choice; did you mean 'gpu'? (there are"),
        ("data=null", "a group must name one of its choices"),
        ("seed=[1,2", "no viable alternative"),
        ("foo", "missing EQUAL"),
    ],
)
def test_a_slip_of_the_pen_gets_the_nearest_name(argument: str, message: str) -> None:
    assert message in compose_error(argument)


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        ("train", ["seed=abc"], "seed=abc: must be a whole number"),
        ("train", ["seed=-1"], "seed=-1: must be from 0 to 4294967295"),
        ("train", ["seed=100000000000000000000"], "must be from 0"),
        ("train", ["engine.size=abc"], "engine.size=abc: must be a whole number or null"),
        ("train", ["engine.size=true"], "engine.size=True: must be"),
        ("train", ["engine.precision=fp8"], "engine.precision=fp8: must be one of fp32, bf16, fp16"),
        ("train", ["+engine.sise=5"], "engine.sise: Settings takes no 'sise'; did you mean 'size'?"),
        ("segment", ["video=a.mp4"], "say mask=PATH"),
        ("segment", ["video=null", "mask=m.png"], "video=None: must name a file or folder"),
        ("segment", ["video=''", "mask=m.png"], "video=: must name"),
        ("segment", ["video=a.mp4", "mask=m.png", "inspect=maybe"], "inspect=maybe: must be true or false"),
        ("segment", ["video=a.mp4", "mask=m.png", "output=null"], "output=None: must name"),
        ("segment", ["video=[a.mp4]", "mask=m.png"], "video=['a.mp4']: must be one file or folder"),
        ("train", ["record=a/b"], "record=a/b: a study is a plain folder name"),
    ],
)
def test_values_of_the_wrong_type_are_refused_before_the_task_starts(
    program: str, arguments: list[str], message: str
) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(program, arguments)
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_values(program, config)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["clip.mp4", "mask.png"], "clip.mp4: options are written name=value"),
        (["--video", "clip.mp4"], "--video: options are written video=value"),
        (["--video=clip.mp4", "mask=m.png"], "--video=clip.mp4: options are written video=value"),
        (["video=a.mp4", "mask"], "mask: options are written name=value"),
    ],
)
def test_other_spellings_of_a_command_get_one_line(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["segment", *words])
    with pytest.raises(SystemExit) as stopped:
        entry("segment")(lambda config: None)()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: {said} (--help lists them)\n"


@pytest.mark.parametrize("error", [RuntimeError("ours"), ValueError("ours"), OSError("ours")])
def test_a_bug_of_ours_keeps_its_traceback(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: DictConfig) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["segment", "video=a", "mask=b", f"output={tmp_path}"])
    with pytest.raises(type(error), match="ours"):
        entry("segment")(broken)()


def test_a_run_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(sys, "argv", ["segment", "video=a", "mask=b", f"output={tmp_path}/file"])
    with pytest.raises(SystemExit) as stopped:
        entry("segment")(lambda config: None)()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/file: cannot be made the folder of this run (File exists)\n"
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("old", sorted(RENAMED))
def test_a_renamed_option_is_answered_with_its_new_name(
    old: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    group, _, choice = old.partition("/")
    assert (CONFIGS / group / f"{RENAMED[old]}.yaml").is_file()
    assert not (CONFIGS / f"{old}.yaml").exists()
    sweep = ["-m"] if group == "sweep" else []
    monkeypatch.setattr(sys, "argv", ["evaluate", *sweep, f"{group}={choice}"])
    with pytest.raises(SystemExit, match="2"):
        entry("evaluate")(lambda config: None)()
    assert capsys.readouterr().err == f"error: {group}={choice}: renamed; use {group}={RENAMED[old]}\n"


@pytest.mark.parametrize("sign", ["", "++"])
@pytest.mark.parametrize("old", sorted(RENAMED_KEYS))
def test_a_renamed_key_is_answered_with_its_new_name(
    old: str, sign: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["segment", "model=covos", f"{sign}{old}=1"])
    with pytest.raises(SystemExit, match="2"):
        entry("segment")(lambda config: None)()
    assert capsys.readouterr().err == f"error: {old}: renamed; use {RENAMED_KEYS[old]}\n"


def test_the_command_lists_its_programs_and_refuses_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["voslab", "--help"])
    main()
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in PROGRAMS)
    monkeypatch.setattr(sys, "argv", ["voslab", "trian"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err.startswith("error: voslab trian: no such program (there are train, evaluate,")


def test_every_program_is_a_module_of_the_package_and_of_the_checkout() -> None:
    root = CONFIGS.parent
    for name in PROGRAMS:
        assert (root / "src" / f"{name}.py").is_file()
        assert (root / "src" / "voslab" / "cli" / f"{name}.py").is_file()
        assert (CONFIGS / f"{name}.yaml").is_file()
