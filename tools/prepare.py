"""Write the datalist of a public data set from the files that its owners publish."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from common.data.acdc import build_acdc_datalist
from common.data.chaos import build_chaos_datalist
from common.data.checks import check_items
from common.data.cityscapes import build_cityscapes_datalist
from common.data.datalist_writer import write_datalist
from common.data.les_av import build_les_av_datalist
from common.data.lvsc import build_lvsc_datalist
from common.data.mnist import build_mnist_datalist
from common.data.mscmr import build_mscmr_datalist
from common.data.ppss import build_ppss_datalist
from common.data.prepared_case import KIND_OF_SECTION
from common.errors import UserError
from common.files import remove_leftovers_below


class _DataSet(NamedTuple):
    """How a data set is prepared.

    Its options beside source and output, the default split, what is counted (things and, where they belong together,
    their groups), and the kinds of files (see :mod:`common.data.checks`) of sections where they are not the usual ones.
    """

    build: Callable[..., dict[str, Any]]
    options: tuple[str, ...]
    split: str = "maag"
    counted: tuple[str, ...] = ("volumes", "patients")
    kinds: Mapping[str, str] = MappingProxyType({})


# Dense masks with pixels that are not annotated.
_PARTLY_DENSE = dict.fromkeys(("training", "validation", "test"), "either")

_DATA_SETS = {
    "acdc": _DataSet(
        lambda source, output, scribbles, split: build_acdc_datalist(source, scribbles, split),
        ("scribbles", "split"),
        split="maag_split0",
    ),
    "lvsc": _DataSet(build_lvsc_datalist, ("form", "seed")),
    "chaos_t1": _DataSet(
        lambda source, output, **options: build_chaos_datalist(source, output, sequence="t1", **options),
        ("split", "form", "seed"),
    ),
    "chaos_t2": _DataSet(
        lambda source, output, **options: build_chaos_datalist(source, output, sequence="t2", **options),
        ("split", "form", "seed"),
    ),
    "ppss": _DataSet(build_ppss_datalist, ("form", "seed"), counted=("pictures", "cameras")),
    "mnist": _DataSet(build_mnist_datalist, ("form", "seed"), split="drawn", counted=("digits",)),
    "les_av": _DataSet(build_les_av_datalist, (), split="committed", counted=("photographs",), kinds=_PARTLY_DENSE),
    "mscmr": _DataSet(lambda source, output: build_mscmr_datalist(source), (), split="published"),
    "cityscapes": _DataSet(
        build_cityscapes_datalist, ("split", "form"), split="aachen", counted=("pictures",), kinds=_PARTLY_DENSE
    ),
}


def main(
    dataset: str,
    *,
    source: str,
    output: str,
    scribbles: str | None = None,
    split: str | None = None,
    form: str | None = None,
    seed: int = 0,
    check: bool = False,
) -> None:
    """Write <output>/datalist.json for a data set and print what it holds.

    No image of acdc, mscmr, les_av or cityscapes is copied or changed; the masks of the last two are written to the
    output folder as PNG, as are the pictures and masks of mnist and ppss. Images and masks of the other data sets are
    written there as NIfTI. chaos, lvsc and ppss get scribbles drawn from the masks.

    Args:
        dataset: the data set; acdc, lvsc, chaos_t1 (in-phase), chaos_t2, ppss, mnist, les_av, mscmr or cityscapes.
        source: the folder of the official download.
        output: the folder that gets datalist.json and the written files; earlier ones are replaced.
        scribbles: acdc: the folder of the scribble files; it must be given.
        split: acdc: maag_split0 (the default, the published one; needs all 100 patients), half35 or all64 (of 80
            patients), fold1 to fold5 of DMPLS's cross-validation (100 patients), which go to datalist_fold<k>.json, or
            folds for all five. chaos_t1, chaos_t2: maag (the default: 70/15/15, drawn with the seed) or
            attenscribble_fold1. cityscapes: aachen (the default: training pictures of that city) or all (of all
            training cities but bochum, which validates).
        form: how scribbles are drawn. lvsc: diag (the default), four, king or v2. chaos_t1, chaos_t2, ppss: skeleton
            (the default), thick or hull (the default of attenscribble_fold1). mnist: noisy pictures (the default) or
            clean ones. cityscapes: simulated (the default: training items have fine masks to simulate drawings from)
            or polygons (they have the official coarse ones).
        seed: seed of drawn splits, scribbles and noise.
        check: true also reads every listed file and stops at the first faulty one, before the datalist is written.
            Without it, the files of acdc and mscmr are not read at all.

    Raises:
        UserError: the data set or an option is unknown, or files are missing or faulty.
    """
    if dataset not in _DATA_SETS:
        raise UserError(f'unknown data set "{dataset}"; the known ones are {", ".join(_DATA_SETS)}')
    known = _DATA_SETS[dataset]
    given = {key: value for key, value in (("scribbles", scribbles), ("split", split), ("form", form)) if value}
    foreign = [key for key in given if key not in known.options]
    if foreign:
        allowed = ", ".join(f"--{key}" for key in ("source", "output", *known.options))
        raise UserError(f"{dataset} has no --{foreign[0]}; its options are {allowed}")
    if dataset == "acdc" and scribbles is None:
        raise UserError("acdc needs --scribbles, the folder of the *_scribble.nii.gz files")
    if type(seed) is not int or seed < 0:
        raise UserError(f"--seed is {seed!r}; give a number from 0 on")
    options = {"split": known.split, "seed": seed} | given
    several = dataset == "acdc" and options["split"] == "folds"
    for name in [f"fold{number}" for number in range(1, 6)] if several else [options["split"]]:
        _prepare(dataset, source, output, options | {"split": name}, check=check)


def _prepare(dataset: str, source: str, output: str, options: dict[str, Any], *, check: bool) -> None:
    known = _DATA_SETS[dataset]
    remove_leftovers_below(output)
    content = known.build(source, output, **{key: options[key] for key in known.options if key in options})
    if check:
        for section, kind in (KIND_OF_SECTION | dict(known.kinds)).items():
            check_items(content[section], num_classes=content["num_classes"], kind=kind)
    name = (
        f"datalist_{options['split']}.json" if dataset == "acdc" and options["split"][:4] == "fold" else "datalist.json"
    )
    path = os.path.join(os.path.abspath(output), name)
    write_datalist(path, content)
    how = f"split {options['split']}" + (f", seed {options['seed']}" if "seed" in known.options else "")
    print(f"{path}: {how}")
    for section in KIND_OF_SECTION:
        print(f"  {section}: {_count(content[section], *known.counted)}")


def _count(items: list[dict[str, Any]], things: str, groups: str = "") -> str:
    return f"{len(items)} {things}" + (f" of {len({item['patient'] for item in items})} {groups}" if groups else "")
