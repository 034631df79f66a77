"""Configurations are read, overridden, checked and written; every message names its key and origin."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.config import Config
from detector.config_io import (
    ConfigError,
    dump_config,
    find_config,
    format_config,
    load_config,
    load_config_text,
    load_config_with_origins,
)
from detector.config_schema import all_keys, describe
from detector.errors import UserError

MINIMAL = """\
output_dir: runs/x
data:
  train: {annotations: t.json, images: t}
  val: {annotations: v.json, images: v}
  augment:
    - name: HorizontalFlip
      p: 0.5
optimizer:
  lr: 0.02
schedule:
  epochs: 12
"""


@pytest.fixture
def config_file(tmp_path, monkeypatch):
    """A function that writes x.yaml into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(text: str = MINIMAL) -> Path:
        path = Path("x.yaml")
        path.write_text(text, encoding="utf-8")
        return path

    return write


def error_of(path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


# Reading


def test_values_come_from_the_file_the_command_line_and_the_defaults(config_file):
    config = load_config(config_file(), ["optimizer.weight_decay=1e-3", "data.short_side=[480, 512]", "precision=bf16"])
    assert config.optimizer.lr == 0.02
    assert config.optimizer.weight_decay == 1e-3
    assert config.data.short_side == (480, 512)
    assert config.precision == "bf16"
    assert config.optimizer.momentum == 0.9


def test_origins_name_the_line_or_the_command_line(config_file):
    loaded = load_config_with_origins(config_file(), ["optimizer.momentum=0.8", "data.short_side=[480, 512]"])
    assert loaded.origins[("output_dir",)] == "x.yaml:1"
    assert loaded.origins[("data", "augment", 0, "p")] == "x.yaml:7"
    assert loaded.origins[("optimizer", "lr")] == "x.yaml:9"
    assert loaded.origins[("optimizer", "momentum")] == "the command line"
    assert loaded.origins[("data", "short_side", 1)] == "the command line"
    assert ("optimizer", "weight_decay") not in loaded.origins
    assert loaded.notes == ()


def test_an_integer_is_accepted_where_a_number_is_expected(config_file):
    config = load_config(config_file(), ["optimizer.lr=1"])
    assert config.optimizer.lr == 1.0
    assert isinstance(config.optimizer.lr, float)


def test_a_byte_order_mark_is_no_part_of_the_first_key(config_file):
    assert load_config(config_file("\ufeff" + MINIMAL)).output_dir == "runs/x"


def test_a_configuration_error_is_a_user_error():
    assert issubclass(ConfigError, UserError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"^x\.yaml: the file is empty; expected keys and values"),
        (b"# nothing\n", r"^x\.yaml: the file is empty"),
        (b"\n- 1\n", r"^x\.yaml:2: expected keys and values such as 'output_dir: runs/first', found a list"),
        (b"output_dir:runs/x\n", r"^x\.yaml:1: expected keys and values .* found only 'output_dir:runs/x'"),
        (b"output_dir: a\nseed: \xff\n", r"^x\.yaml:2: not UTF-8 text \(byte 0xff\)"),
        (b"output_dir: a\nseed: [1\n", r"^x\.yaml:3: not valid YAML"),
        (b"seed: 1\nseed: 2\n", r"^x\.yaml:2: duplicate key 'seed', already given in line 1"),
        (b"[" * 1_100_000, r"^x\.yaml: larger than 1000000 bytes, which no configuration is"),
    ],
)
def test_unreadable_files_are_named_with_their_line(config_file, content, message):
    config_file().write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_config("x.yaml")


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a YAML file, found a directory"):
        load_config(tmp_path)


def test_a_file_that_cannot_be_opened_is_named_with_the_reason(config_file, monkeypatch):
    path = config_file()

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"^x\.yaml: cannot be read: Permission denied"):
        load_config(path)


def test_text_is_read_like_a_file_and_errors_name_its_source():
    assert load_config_text(MINIMAL, "last.pt", ["seed=3"]).seed == 3
    with pytest.raises(ConfigError, match=r"^unknown key 'sed' \(from last\.pt:12\)"):
        load_config_text(MINIMAL + "sed: 3\n", "last.pt")
    with pytest.raises(ConfigError, match=r"^last\.pt:1: expected keys and values"):
        load_config_text("[]", "last.pt")


# Finding


def test_shipped_configurations_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("retina_demo") == find_config("retina_demo.yaml")
    assert find_config("retina_demo").is_file()
    Path("retina_demo").mkdir()  # a run folder of that name is not meant
    assert find_config("retina_demo").is_file()
    assert load_config("retina_demo").output_dir == "runs/retina_demo"


def test_a_file_of_the_given_path_comes_before_a_shipped_name(config_file):
    config_file().rename("retina_demo.yaml")
    assert find_config("retina_demo.yaml") == Path("retina_demo.yaml")
    assert load_config("retina_demo.yaml").output_dir == "runs/x"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("retina_dmo", r"no configuration 'retina_dmo': there is no such file\. Did you mean 'retina_demo'\?"),
        ("retina_dmo", r"The shipped configurations are retina_coco, retina_coco_r101, retina_coco_r18, retina_demo, "),
        ("elsewhere/retina_demo", r"no configuration 'elsewhere/retina_demo': there is no such file"),
        ("x" * 5000, r"configuration 'x+': File name too long"),
    ],
)
def test_an_unknown_name_lists_the_shipped_ones(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        load_config(name)


# Overrides


def test_an_override_splits_at_the_first_equals_sign(config_file):
    assert load_config(config_file(), ["output_dir=runs/lr=0.1"]).output_dir == "runs/lr=0.1"


def test_an_override_keeps_strings_that_yaml_1_1_would_change(config_file):
    assert load_config(config_file(), ["output_dir=on"]).output_dir == "on"


def test_a_mapping_on_the_command_line_replaces_only_the_keys_it_names(config_file):
    loaded = load_config_with_origins(config_file(), ["optimizer={momentum: 0.5}", "model={head: {num_convs: 1}}"])
    assert (loaded.config.optimizer.lr, loaded.config.optimizer.momentum) == (0.02, 0.5)
    assert loaded.config.model.head.num_convs == 1
    assert loaded.origins[("model",)] == "the command line"


def test_a_list_on_the_command_line_replaces_the_whole_list(config_file):
    loaded = load_config_with_origins(config_file(), ["data.augment=[{name: Blur}]"])
    assert loaded.config.data.augment == ({"name": "Blur"},)
    assert loaded.origins[("data", "augment", 0, "name")] == "the command line"
    assert ("data", "augment", 0, "p") not in loaded.origins


def test_of_two_overrides_of_one_key_the_later_counts(config_file):
    assert load_config(config_file(), ["seed=1", "seed=2"]).seed == 2


def test_an_override_fills_a_section_whose_keys_are_all_left_out(config_file):
    assert load_config(config_file(MINIMAL + "ema:\n"), ["ema.decay=0.99"]).ema.decay == 0.99


def test_max_steps_on_the_command_line_replaces_the_epochs_of_the_file(config_file):
    loaded = load_config_with_origins(config_file(), ["schedule.max_steps=300"])
    assert (loaded.config.schedule.max_steps, loaded.config.schedule.epochs) == (300, None)
    assert ("schedule", "epochs") not in loaded.origins
    assert loaded.notes == ("schedule.epochs: 12 (x.yaml:11) gives way to schedule.max_steps: 300 (the command line)",)


def test_epochs_on_the_command_line_replace_the_max_steps_of_a_resolved_file(config_file):
    Path("y.yaml").write_text(dump_config(load_config(config_file(), ["schedule.max_steps=300"])), encoding="utf-8")
    loaded = load_config_with_origins("y.yaml", ["schedule.epochs=2"])
    assert (loaded.config.schedule.max_steps, loaded.config.schedule.epochs) == (None, 2.0)
    assert len(loaded.notes) == 1


def test_milestones_in_epochs_replace_those_in_steps(config_file):
    path = config_file(MINIMAL + "  milestones: [10, 20]\n")
    schedule = load_config(path, ["schedule.milestones_epochs=[8]"]).schedule
    assert (schedule.milestones, schedule.milestones_epochs) == ((), (8.0,))


def test_switching_an_alternative_off_does_not_replace_the_other(config_file):
    loaded = load_config_with_origins(config_file(), ["schedule.max_steps=null"])
    assert loaded.config.schedule.epochs == 12
    assert loaded.notes == ()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr", r"^override 'optimizer\.lr' \(from the command line\): expected key=value, such as optimizer"),
        ("=3", r"^override '=3' \(from the command line\): expected key=value"),
        (
            "data.augment.0.p=1",
            r"^data\.augment\.0\.p \(from the command line\): data\.augment is a list, which is over",
        ),
        (
            "optimizer.lr.x=1",
            r"^optimizer\.lr\.x \(from the command line\): optimizer\.lr is a single value and has no",
        ),
        ("seed=[1", r"^seed \(from the command line\): not valid YAML: while parsing a flow sequence"),
        ("seed=!!int 3", r"^seed \(from the command line\): .*tags such as !!int are not allowed"),
        ("optimizer={lr: 1, lr: 2}", r"^optimizer \(from the command line\): duplicate key 'lr'"),
        ("output_dir=caf\udce9", r"^output_dir \(from the command line\): the character '\\udce9' is not allowed"),
        ("optimizer=3", r"^optimizer \(from the command line\): expected a section with the keys name, lr, .* found 3"),
    ],
)
def test_wrong_overrides_say_what_was_expected(config_file, override, message):
    assert re.search(message, error_of(config_file(), override))


def test_a_value_in_the_place_of_a_section_is_reported_once_in_spite_of_an_override_into_it(config_file):
    message = error_of(config_file(MINIMAL + "ema: 3\n"), "ema.decay=0.9")
    assert message == "ema (from x.yaml:12): expected a section with the key decay, found 3"


# Unknown keys


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optimizer.learning_rate=1",
            "unknown key 'optimizer.learning_rate' (from the command line). Did you mean 'optimizer.lr'?\n"
            "    The keys of 'optimizer' are name, lr, momentum, betas, weight_decay, decay_norm_and_bias, "
            "clip_grad_norm.",
        ),
        ("lr=1", "unknown key 'lr' (from the command line). Did you mean 'optimizer.lr'?\n    The top-level keys are "),
        ("optimizr.lr=1", "unknown key 'optimizr.lr' (from the command line). Did you mean 'optimizer.lr'?"),
        ("optimizer={lrr: 1}", "unknown key 'optimizer.lrr' (from the command line). Did you mean 'optimizer.lr'?"),
        ("batchsize=1", "Did you mean 'data.batch_size' or 'eval.batch_size'?"),
        ("zzz=1", "unknown key 'zzz' (from the command line).\n    The top-level keys are output_dir, seed, device"),
        ("data..train=1", "unknown key 'data..train' (from the command line)."),
    ],
)
def test_an_unknown_override_suggests_the_nearest_key_and_lists_the_section(config_file, override, message):
    assert message in error_of(config_file(), override)


def test_a_section_is_never_suggested_for_a_key_inside_it(config_file):
    assert "Did you mean 'optimizer'" not in error_of(config_file(), "optimizer.o=1")


def test_a_list_of_wrong_values_is_not_also_called_too_short(config_file):
    assert error_of(config_file(), "data.short_side=[x]").startswith("data.short_side[0] (from the command line)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizr:\n  lr: 1\n", "unknown key 'optimizr' (from x.yaml:12). Did you mean 'optimizer'?"),
        (
            "model:\n  hed: {}\n",
            "unknown key 'model.hed' (from x.yaml:13). Did you mean 'model.head'?\n    The keys of",
        ),
        ("eval.every: 3\n", "unknown key 'eval.every' (from x.yaml:12). Only the command line writes keys with dots; "),
    ],
)
def test_an_unknown_key_of_the_file_is_named_with_its_line(config_file, text, message):
    assert message in error_of(config_file(MINIMAL + text))


# Wrong values


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optimizer.lr=fast",
            "optimizer.lr (from the command line): expected auto or a number above 0, found the string 'fast'",
        ),
        (
            "optimizer.lr='0.1'",
            "optimizer.lr (from the command line): expected auto or a number above 0, found the string '0.1'",
        ),
        ("optimizer.lr=0", "optimizer.lr (from the command line): expected auto or a number above 0, found 0"),
        ("optimizer.lr=.nan", "optimizer.lr (from the command line): expected auto or a number above 0, found .nan"),
        ("optimizer.lr=-1e999", "optimizer.lr (from the command line): expected auto or a number above 0, found -.inf"),
        (
            "seed=true",
            "seed (from the command line): expected an integer of at least 0 and below 9223372036854775808, ",
        ),
        ("log_every=1e3", "log_every (from the command line): expected an integer of at least 1, found 1000.0"),
        ("deterministic=on", "deterministic (from the command line): expected true or false, found the string 'on'"),
        ("deterministic=1", "deterministic (from the command line): expected true or false, found 1"),
        ("device=tpu", "device (from the command line): expected auto, cpu or cuda, found the string 'tpu'"),
        (
            "output_dir=",
            "output_dir (from the command line): expected a string that is not empty, found nothing (null)",
        ),
        (
            "output_dir=''",
            "output_dir (from the command line): expected a string that is not empty, found the string ''",
        ),
        (
            "data.images_per_forward=many",
            "data.images_per_forward (from the command line): expected auto or an integer of at least 1, found the "
            "string 'many'",
        ),
        (
            "model.backbone.frozen_stages=9",
            "model.backbone.frozen_stages (from the command line): expected auto or an integer from 0 to 5, found 9",
        ),
        ("eval.every=0", "eval.every (from the command line): expected an integer of at least 1 or epoch, found 0"),
        ("ema.decay=2", "ema.decay (from the command line): expected a number above 0 and below 1 or null, found 2"),
        (
            "data.short_side=800",
            "data.short_side (from the command line): expected a list of at least one value, each an integer of at "
            "least 1, found 800",
        ),
        (
            "data.short_side=[]",
            "data.short_side (from the command line): expected a list of at least one value, each an integer of at "
            "least 1, found []",
        ),
        (
            "data.short_side=[800, x]",
            "data.short_side[1] (from the command line): expected an integer of at least 1, found the string 'x'",
        ),
        (
            "optimizer.betas=[0.9]",
            "optimizer.betas (from the command line): expected a list of 2 values, each a number of at least 0 and "
            "below 1, found [0.9]",
        ),
        (
            "data.buckets=[[800, 1344], [800]]",
            "data.buckets[1] (from the command line): expected a list of 2 values, each an integer of at least 1, "
            "found [800]",
        ),
        (
            "data.augment=[HorizontalFlip]",
            "data.augment[0] (from the command line): expected a mapping {key: value, ...}, found the string "
            "'HorizontalFlip'",
        ),
        ("data.augment=[{p: .inf}]", "data.augment[0].p (from the command line): expected a finite number, found .inf"),
        (
            f"optimizer.lr={'9' * 399}",
            f"optimizer.lr (from the command line): expected auto or a number above 0, found {'9' * 60}...",
        ),
        (
            "data.max_side={a: 1}",
            "data.max_side (from the command line): expected an integer of at least 1, found a section",
        ),
    ],
)
def test_a_wrong_value_gives_one_line_with_what_was_expected_and_found(config_file, override, message):
    found = error_of(config_file(), override)
    assert found.startswith(message)
    assert "\n" not in found


def test_a_missing_key_says_what_belongs_there(config_file):
    text = "output_dir: a\ndata:\n  train: {annotations: t.json}\nschedule: {epochs: 1}\n"
    assert error_of(config_file(text)) == (
        "data.train.images (default): the folder of the images is needed beside data.train.annotations "
        "(data.train.annotations from x.yaml:3)"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.short_side=[2000]", "data.max_side=1500"],
            "data.short_side (from the command line): 2000 is larger than data.max_side = 1500, so that size could "
            "never be reached (data.max_side from the command line)",
        ),
        (["data.short_side=[2000]"], "so that size could never be reached"),
        (
            ["data.batch_size=6", "data.images_per_forward=4"],
            "data.images_per_forward (from the command line): 4 does not",
        ),
        (
            ["assign.fg_iou_thresh=0.3"],
            "assign.bg_iou_thresh (default): 0.4 is above assign.fg_iou_thresh = 0.3 (assign.",
        ),
        (
            ["schedule.epochs=null"],
            "schedule (from x.yaml:10): exactly one of schedule.max_steps and schedule.epochs is",
        ),
        (
            ["schedule.epochs=3", "schedule.max_steps=4"],
            "schedule (from x.yaml:10): exactly one of schedule.max_steps and schedule.epochs is needed, both are set "
            "(schedule.max_steps from the command line, schedule.epochs from the command line)",
        ),
        (["schedule.milestones=[2, 1]"], "schedule.milestones (from the command line): [2, 1] must rise"),
        (["precision=fp16", "device=cpu"], "precision (from the command line): fp16 needs a GPU; use bf16 or fp32"),
    ],
)
def test_checks_across_keys_name_the_origin_of_the_key(config_file, overrides, message):
    found = error_of(config_file(), *overrides)
    assert message in found
    assert "\n" not in found


def test_all_errors_are_reported_together_without_jargon(config_file):
    text = MINIMAL.replace("lr: 0.02", "lr: fast\n  wd: 1") + "eval: {nms_thresh: 1.5, every: never}\n"
    message = error_of(config_file(text), "seed=-1", "foo=1", "log_every")
    assert message.startswith("7 errors in the configuration:\n- ")
    for part in (
        "unknown key 'foo' (from the command line)",
        "override 'log_every'",
        "seed (from the command line): expected an integer of at least 0",
        "optimizer.lr (from x.yaml:9): expected auto or a number above 0, found the string 'fast'",
        "unknown key 'optimizer.wd' (from x.yaml:10)",
        "eval.nms_thresh (from x.yaml:13): expected a number from 0 to 1, found 1.5",
        "eval.every (from x.yaml:13): expected an integer of at least 1 or epoch, found the string 'never'",
    ):
        assert part in message
    assert not re.search(r"pydantic|http|Input should|type=|literal|Traceback|constrained", message)


def test_milestones_and_warm_up_beyond_the_end_are_no_errors(config_file):
    schedule = load_config(config_file(), ["schedule.max_steps=10", "schedule.milestones=[60000]"]).schedule
    assert (schedule.max_steps, schedule.warmup_steps, schedule.milestones) == (10, 1000, (60000,))


def test_every_key_of_the_schema_can_be_described():
    assert {describe(tuple(key.split("."))) for key in all_keys()}.isdisjoint({"any value", ""})
    assert describe(("data", "augment", 0, "p")) == "any value"


# Writing


def test_a_dumped_configuration_loads_to_the_identical_one(config_file):
    config = load_config(
        config_file(), ["data.buckets=[[800, 1344]]", "data.augment=[{name: A, k: [1, {a: null}]}, {}]"]
    )
    config_file(dump_config(config))
    assert load_config("x.yaml") == config


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    lr=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    scales=st.lists(st.floats(min_value=1e-300, max_value=1e300), min_size=1),
    alpha=st.none() | st.floats(0, 1),
    decay=st.floats(0, 1, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 2**63 - 1),
    output_dir=st.text(min_size=1),
    argument=st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    name=st.text(),
)
def test_dumping_and_loading_keeps_every_bit(
    tmp_path_factory, lr, scales, alpha, decay, seed, output_dir, argument, name
):
    split = {"annotations": output_dir, "images": "a"}
    config = Config.model_validate(
        {
            "output_dir": output_dir,
            "seed": seed,
            "data": {"train": split, "val": split, "augment": ({name: argument},)},
            "model": {"anchors": {"scales": tuple(scales)}},
            "loss": {"cls": {"alpha": alpha}},
            "optimizer": {"lr": lr},
            "schedule": {"epochs": min(lr, 1e6)},
            "ema": {"decay": decay},
        }
    )
    path = tmp_path_factory.mktemp("dump") / "x.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert repr(load_config(path)) == repr(config)


def test_printing_shows_every_value_with_its_origin_and_is_a_configuration(config_file):
    loaded = load_config_with_origins(config_file(), ["schedule.max_steps=300", "seed=7"])
    text = format_config(loaded)
    lines = text.splitlines()
    assert lines[0] == "# schedule.epochs: 12 (x.yaml:11) gives way to schedule.max_steps: 300 (the command line)"
    for line in (
        "output_dir: runs/x  # x.yaml:1",
        "seed: 7  # the command line",
        "  short_side: [800]  # default",
        "    - {name: HorizontalFlip, p: 0.5}  # x.yaml:6",
        "  lr: 0.02  # x.yaml:9",
        "  max_steps: 300  # the command line",
        "  epochs: null  # default",
    ):
        assert line in lines
    assert all("#" in line or line.endswith(":") for line in lines)
    config_file(text)
    assert load_config("x.yaml") == loaded.config


def test_neither_loading_nor_an_error_imports_a_heavy_library():
    code = """
import sys
from detector.config_io import ConfigError, format_config, load_config_with_origins
format_config(load_config_with_origins("retina_demo"))
try:
    load_config_with_origins("retina_demo", ["optimizer.learning_rate=1", "seed=x"])
except ConfigError:
    heavy = {"torch", "torchvision", "numpy", "albumentations", "cv2", "pycocotools", "tensorboard", "rich"}
    print("imported:", sorted(heavy & set(sys.modules)))
"""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert result.stdout == "imported: []\n"
