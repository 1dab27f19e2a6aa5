"""What every bundle keeps to, read off its configuration files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from monai.bundle import ConfigParser, ckpt_export, create_workflow, verify_net_in_out
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from common.data.class_names import names_in_metadata
from common.handlers.atomic_checkpoint import load_weights
from common.model_settings import default_of, read_settings
from common.tracking import keys_of_tracking

REPO_ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.name for path in (REPO_ROOT / "bundles").iterdir() if (path / "configs").is_dir())
CONFIGS = ["train", "evaluate", "inference", "multi_gpu_train", "multi_gpu_evaluate", "metadata"]
TUNABLES = [
    *["dataset_dir", "datalist", "output_dir", "num_classes", "in_channels", "pixdim", "roi_size", "batch_size"],
    *["max_epochs", "learning_rate", "seed", "amp", "num_workers", "resume", "publish", "preset", "val_interval"],
]
# what may differ between a training and an inference with its weights
OF_THE_RUN = {"bundle_root", "dataset_dir", "output_dir", "device", "preset", "batch_size", "num_workers"}
OF_THE_RUN |= {"amp", "compile", "checkpointing"}
pytestmark = pytest.mark.parametrize("bundle", BUNDLES)


def config_path(bundle: str, name: str) -> Path:
    return REPO_ROOT / "bundles" / bundle / "configs" / f"{name}.json"


def config(bundle: str, name: str) -> dict:
    return json.loads(config_path(bundle, name).read_text())


def merged(bundle: str, *names: str) -> dict:
    return ConfigParser.load_config_files([str(config_path(bundle, name)) for name in names])


def test_every_file_is_there(bundle):
    folder = REPO_ROOT / "bundles" / bundle
    files = [f"configs/{name}.json" for name in CONFIGS]
    for name in [*files, "configs/logging.conf", "docs/README.md", "docs/data_license.txt", "LICENSE"]:
        assert (folder / name).is_file(), name


def test_models_holds_the_weights_and_their_settings_alone(bundle):
    names = {path.name for path in (REPO_ROOT / "bundles" / bundle / "models").glob("*")}
    assert names in (set(), {"model.json", "model.pt"})


def test_keys_that_users_and_programs_rely_on(bundle):
    train = config(bundle, "train")
    assert [key for key in TUNABLES if key not in train] == []
    for names in (["train"], ["train", "evaluate"], ["inference"], ["train", "multi_gpu_train"]):
        whole = merged(bundle, *names)
        weights = "weights=@weights" if "weights" in whole else ""
        # MONAI resolves `initialize` before the code of a packed bundle can be found
        assert whole["initialize"] == [], names
        assert whole["run"][0] == f"$bundle.start({weights})", names


def test_order_of_the_keys(bundle):
    landmarks = ["imports", "bundle_root", "dataset_dir", "num_classes", "network_def", "network", "loss", "optimizer"]
    landmarks += ["lr_scheduler", "train", "validate", "initialize", "run"]
    keys = list(config(bundle, "train"))
    positions = [keys.index(key) for key in landmarks]
    assert positions == sorted(positions)


@pytest.mark.parametrize("found", [True, False])
def test_mixed_precision_is_for_devices_that_have_it(bundle, found, monkeypatch):
    monkeypatch.setattr("common.distributed.has_bfloat16", lambda device: found)
    forms = [(["train"], "validate#evaluator"), (["train", "multi_gpu_train"], "validate#evaluator")]
    forms += [(["train", "evaluate"], "validate#evaluator"), (["inference"], "evaluator")]
    for names, evaluator in forms:
        parser = ConfigParser(merged(bundle, *names) | {"amp": True})
        assert parser.get_parsed_content(f"{evaluator}#amp") is found, names


def test_training_and_inference_agree(bundle):
    train, inference = config(bundle, "train"), config(bundle, "inference")
    remembered = settings_of(bundle)
    shared = [key for key in inference if key in train and not isinstance(train[key], (dict, list))]
    assert [key for key in shared if inference[key] != train[key] and key not in ("output_dir", *remembered)] == []
    assert inference["network_def"] == train["network_def"]
    assert train["validate"]["preprocessing"]["transforms"][0] == "@train#image_transforms"
    image_transforms = [_always(step) for step in train["train"]["image_transforms"]["transforms"]]
    assert inference["preprocessing"]["transforms"] == image_transforms
    assert inference["inferer"] == train["validate"]["inferer"]
    presets = {name: set(values) for name, values in inference["presets"].items()}
    for name, values in train["presets"].items():
        assert presets[name] == {key for key in values if key in inference}
        assert all(inference["presets"][name][key] == values[key] for key in presets[name])


def settings_of(bundle: str) -> dict[str, str]:
    """What a training writes beside its weights."""
    handlers = config(bundle, "train")["train"]["handlers"]
    (checkpoint,) = (handler for handler in handlers if handler["_target_"].endswith("AtomicCheckpoint"))
    assert checkpoint["training"] == "@provenance"
    told = {"bundle": bundle, "seed": "@seed", "class_names": "@class_names"}
    of_overlays = {"method": "pce"} if bundle == "baselines" else {}
    assert config(bundle, "train")["provenance"] == told | of_overlays
    return checkpoint["settings"]


def default_num_classes(bundle: str) -> int:
    return default_of(config(bundle, "inference")["num_classes"])


def test_weights_remember_what_shapes_network_and_preprocessing(bundle):
    train, evaluate, inference = (config(bundle, name) for name in ("train", "evaluate", "inference"))
    remembered = settings_of(bundle)
    assert remembered == {key: f"@{key}" for key in remembered}
    shared = {key for key in inference if key in train and not isinstance(train[key], dict)}
    assert set(remembered) == shared - OF_THE_RUN - {"imports", "initialize", "run", "network"}
    for key in remembered:
        default = default_num_classes(bundle) if key == "num_classes" else train[key]
        assert inference[key] == f"$settings.of(@weights, '{key}', {default!r})"
        # the classes that are scored are the datalist's
        assert evaluate.get(key) == (None if key == "num_classes" else inference[key])
    assert train["num_classes"] == f"$datalists.classes_of(@datalist, default={default_num_classes(bundle)})"


def test_the_bundles_weights_fit_every_way_of_loading(bundle, tmp_path):
    """Without ``run``, as MONAI Label and MONAI's own commands load a configuration, and so without a preset."""
    folder = REPO_ROOT / "bundles" / bundle
    weights = folder / "models" / "model.pt"
    recorded = read_settings(weights)
    assert set(recorded) == set(settings_of(bundle))
    for names in (["inference"], ["train", "evaluate"], ["train", "evaluate", "multi_gpu_evaluate"]):
        parser = ConfigParser(merged(bundle, *names))
        assert Path(parser.get_parsed_content("weights")) == weights
        load_weights(parser.get_parsed_content("network_def"), weights)
        assert {key: parser.get_parsed_content(key) for key in recorded} == recorded
    files = {
        "config_file": str(config_path(bundle, "inference")),
        "meta_file": str(config_path(bundle, "metadata")),
        "net_id": "network_def",
    }
    verify_net_in_out(**files, n=2, any=33, device="cpu")
    ckpt_export(**files, ckpt_file=str(weights), filepath=str(tmp_path / "model.ts"))
    assert (tmp_path / "model.ts").stat().st_size > 0


def test_the_weights_settings_tell_how_they_were_made_and_nothing_of_whom(bundle):
    content = json.loads((REPO_ROOT / "bundles" / bundle / "models" / "model.json").read_text())
    assert list(content) == ["settings", "versions", "training"]
    of_a_benchmark = {"benchmark", "precision", "same_class"}
    known = {"epochs", "iterations", *config(bundle, "train")["provenance"]}
    assert set(content["training"]) - of_a_benchmark == known
    assert known - {"method"} == {"bundle", "seed", "class_names", "epochs", "iterations"}
    assert content["training"]["class_names"] == names_in_metadata(config_path(bundle, "metadata"))
    assert content["training"]["bundle"] == bundle
    # the steps that the model card and the metadata tell
    assert f"{content['training']['iterations']:,} steps" in config(bundle, "metadata")["description"]
    assert not re.search(r"[/\\]|patient|frame", json.dumps(content))


def _always(step: dict) -> dict:
    return {key: value for key, value in step.items() if key != "allow_missing_keys"}


def references(config: object) -> set[str]:
    """The top-level keys that any value of a configuration refers to."""
    if isinstance(config, dict):
        return set().union(*(references(value) for value in config.values()), set())
    if isinstance(config, list):
        return set().union(*(references(value) for value in config), set())
    return set(re.findall(r"[@%](\w+)", config)) if isinstance(config, str) else set()


@pytest.mark.parametrize("names", [("train",), ("train", "demo"), ("inference",)])
def test_no_dead_top_level_key(bundle, names):
    whole = merged(bundle, *(name for name in names if config_path(bundle, name).is_file()))
    # read by MONAI itself or by the check at the start of a run
    read_elsewhere = {"imports", "initialize", "run", "preset", "presets", "_meta_", "handlers", "evaluator"}
    assert set(whole) - references(whole) - read_elsewhere == set()


def test_every_preset_key_exists(bundle):
    for name in ("train", "inference"):
        whole = config(bundle, name)
        for values in whole["presets"].values():
            assert set(values) <= set(whole)


def test_metadata(bundle):
    metadata = config(bundle, "metadata")
    assert next(iter(metadata["changelog"])) == metadata["version"]
    for key in ("name", "task", "description", "authors", "copyright", "intended_use", "references", "monai_version"):
        assert metadata[key], key
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert len(channels) == default_num_classes(bundle)
    assert "background" in channels["0"]


def test_classes_are_those_of_the_datalist(bundle, tmp_path):
    names = ["background", "liver", "spleen"]
    head = {"name": "toy", "num_classes": 3, "class_names": names, "test": []}
    (tmp_path / "datalist.json").write_text(json.dumps(head))
    parser = ConfigParser(merged(bundle, "train", "evaluate"))
    parser["dataset_dir"] = str(tmp_path)
    assert parser.get_parsed_content("num_classes") == 3
    table = next(handler for handler in parser["handlers"] if handler["_target_"].endswith("ScoreTable"))
    position = parser["handlers"].index(table)
    assert parser.get_parsed_content(f"handlers#{position}#class_names") == names
    parser["dataset_dir"] = str(tmp_path / "absent")
    assert parser.get_parsed_content("num_classes") == default_num_classes(bundle)


def test_readme_documents_every_tunable_and_names_no_other(bundle):
    text = (REPO_ROOT / "bundles" / bundle / "docs" / "README.md").read_text()
    train, inference = config(bundle, "train"), config(bundle, "inference")
    scalars = [k for k, v in train.items() if not isinstance(v, dict) and k not in ("imports", "initialize", "run")]
    internal = {"bundle_root", "network", "discriminator", "rank", "world_size"}
    assert [key for key in scalars if key not in internal and f"`{key}`" not in text] == []
    known = set(merged(bundle, "train", "evaluate")) | set(inference)
    known |= keys_of_tracking(config_path(bundle, "tracking"))
    blocks = "\n".join(re.findall(r"```bash(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    others = ("python -m tools ", "mlflow ", "tensorboard ")
    lines = [line for line in blocks.splitlines() if not line.startswith(others)]
    commands = re.findall(r"--(\w+)", "\n".join(lines))
    reserved = {"config_file", "meta_file", "net_id", "key_in_ckpt", "ckpt_file", "filepath", "tracking", "device"}
    reserved |= {"nproc_per_node", "standalone", "p", "n", "any"}
    assert set(commands) - known - reserved == set()


def test_readme_names_the_defaults(bundle):
    text = (REPO_ROOT / "bundles" / bundle / "docs" / "README.md").read_text()
    table = text.partition("### Keys")[2].partition("\n##")[0]
    named = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", table, re.MULTILINE))
    train = config(bundle, "train")
    fixed = {key: value for key, value in train.items() if key in named and not str(value).startswith("$")}
    given = {key: value if isinstance(value, str) else json.dumps(value) for key, value in fixed.items()}
    assert len(given) > 20
    assert {key: named[key].strip("`") for key in given} == given


def test_tracking_finds_the_handlers_of_every_way_to_run(bundle):
    """MONAI appends handlers of its own to lists that it looks for by these names; a reference would not do."""
    settings = config(bundle, "tracking")
    assert settings == config(BUNDLES[0], "tracking")
    assert settings["handlers_id"] == DEFAULT_MLFLOW_SETTINGS["handlers_id"]
    ways = {("train",): {"trainer", "validator"}, ("inference",): {"evaluator"}}
    ways |= {("train", "multi_gpu_train"): {"trainer", "validator"}}
    for names in (("train", "evaluate"), ("train", "evaluate", "multi_gpu_evaluate")):
        ways[names] = {"trainer", "validator", "evaluator"}
    for names, engines in ways.items():
        parser = ConfigParser(merged(bundle, *names))
        found = {name for name, ids in settings["handlers_id"].items() if ids["id"] in parser}
        assert found == engines
        assert all(isinstance(parser.get(settings["handlers_id"][name]["handlers"]), list) for name in found), names
    whole = merged(bundle, "train", "evaluate")
    assert whole["validate"]["evaluator"]["val_handlers"] == "@handlers"
    order = [handler["_target_"] for handler in whole["handlers"]]
    assert order.index("common.handlers.score_table.ScoreTable") < order.index("StatsHandler")


def test_outputs_have_the_shape_that_other_programs_read(bundle):
    handlers = config(bundle, "train")["train"]["handlers"]
    targets = [handler["_target_"].rpartition(".")[2] for handler in handlers]
    assert {"ListedOutput", "LearningRate"} <= set(targets)
    assert targets.index("LrScheduleHandler") < targets.index("LearningRate") < targets.index("StatsHandler")


@pytest.fixture(scope="module")
def small(phantom_dir, tmp_path_factory) -> dict:
    return {
        "dataset_dir": str(phantom_dir),
        "output_dir": str(tmp_path_factory.mktemp("contract")),
        "pixdim": [4.0, 4.0],
        "roi_size": [48, 48],
        "filters": 2,
    }


@pytest.mark.parametrize(
    ("kind", "names"), [("train", ["train"]), ("infer", ["train", "evaluate"]), ("infer", ["inference"])]
)
def test_workflow_properties(bundle, kind, names, small):
    workflow = create_workflow(
        workflow_type=kind,
        config_file=[str(config_path(bundle, name)) for name in names],
        meta_file=str(config_path(bundle, "metadata")),
        logging_file=None,
        **small,
    )
    assert workflow.check_properties() == []
