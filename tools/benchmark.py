"""Train, predict and score the rows of a benchmark under one protocol, and write its tables.

    python -m tools benchmark --suite acdc --methods pce,dmpls --setting compact --budget 120
    python -m tools benchmark --report
    python -m tools benchmark --suite acdc --setting compact --methods dmpls --ship

A run is the folder <output>/<suite>/<setting>/<method>/seed<k>. Run the same command again to go on: what is finished
is skipped, what was cut off continues from its checkpoint.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from common.benchmarking.data_pack import pack_data, unpack_data
from common.benchmarking.model_card import with_weights
from common.benchmarking.result_pages import write_pages
from common.benchmarking.results import collect_result, collect_results, load_results
from common.benchmarking.runner import Benchmark
from common.benchmarking.shipping import check_shipped, origin_of
from common.benchmarking.shipping import ship as ship_weights
from common.benchmarking.suite import Row, Suite, known_suites, load_suite
from common.benchmarking.tables import with_tables
from common.errors import UserError
from common.files import atomic_file, read_text
from common.packing.bundle_folder import bundle_folder, bundle_folders
from common.setting_limits import check_device

PACKED = "pack.json"
UNPACKED = "unpacked"


def main(
    *,
    suite: str | None = None,
    methods: str | None = None,
    seeds: str = "1",
    setting: str | None = None,
    budget: float | None = None,
    data: str = "data/benchmark",
    output: str = "runs/benchmark",
    device: str | None = None,
    pack: str | None = None,
    bits: int = 8,
    part_mb: float = 24.0,
    report: bool = False,
    check: bool = False,
    ship: bool = False,
    results: str = "docs/results",
    table: str = "docs/reproduction.md",
    readme: str = "README.md",
) -> None:
    """Run a benchmark within a time budget, or write its tables, or pack its data.

    Args:
        suite: acdc (all scribbles), acdc_half (35 scribbles and 35 masks), mscmr, mnist or les_av, or a JSON file of
            the same form. With commas, several are packed or reported.
        methods: rows of the suite, or groups of rows such as robustness, with commas between them; by default those of
            the group main.
        seeds: seeds with commas between them; each is a run of its own.
        setting: a setting of the suite, such as compact (two CPU cores) or paper (the papers' scale); by default its
            first.
        budget: minutes after which all has to be over: training, prediction and scoring; by default there is no limit.
        data: folder of the suites' data: <suite>/datalist.json as `prepare` writes it, or what --pack wrote.
        output: folder of the runs.
        device: cpu, cuda or cuda:1; by default the first GPU if there is one.
        pack: instead of running, pack the data of the suites into this folder, to be carried elsewhere.
        bits: pack: 8 or 16 bits for a voxel.
        part_mb: pack: the most megabytes of a file.
        report: instead of running, copy the records of finished runs to --results, and write the tables into --table
            and, for each suite and setting with runs here, <output>/<suite>/<setting>/report.html.
        check: instead of running, see whether the tables in --table are those of the records in --results, and the
            figures in the bundles' metadata and READMEs those of the runs that their weights come from.
        ship: instead of running, make the weights of one finished run, its last iterate, those of its bundle, and write
            its figures into the bundle's metadata and README.
        results: folder of the records: <suite>/<method>_<setting>_seed<k>.json.
        table: Markdown file with the marks <!-- benchmark:begin --> and <!-- benchmark:end -->.
        readme: report, check, without --suite: Markdown file with the marks <!-- weights:begin --> and
            <!-- weights:end -->, around a table of the bundles' weights.

    Raises:
        UserError: an option or a file is faulty, a run fails, or the tables are out of date.
    """
    if sum((report, check, ship, pack is not None)) > 1:
        raise UserError("--report, --check, --ship and --pack are four tasks; give one of them")
    if report or check:
        weights = None if _words(suite) else Path(readme).expanduser()
        suites = _suites(suite) or [load_suite(name) for name in known_suites()]
        runs, folder, page = (Path(each).expanduser() for each in (output, results, table))
        _tables(suites, runs, folder, page, weights, check=check)
        return
    chosen = _suites(suite)
    if not chosen:
        raise UserError(f"--suite: name one of {', '.join(known_suites())}")
    if pack is not None:
        _pack(chosen, data, pack, bits, part_mb)
        return
    started = time.time()
    if len(chosen) > 1:
        raise UserError(f"--suite {suite}: name one suite to run")
    if budget is not None and (type(budget) not in (int, float) or not budget > 0):
        raise UserError(f"--budget is {budget!r}; give minutes above 0")
    if device is not None:
        check_device("device", device)
    [only] = chosen
    setting = next(iter(only.settings)) if setting is None else setting
    if setting not in only.settings:
        raise UserError(f"--setting {setting}: suite {only.name} has {', '.join(only.settings)}")
    rows, numbers = only.chosen(_words(methods)), _seeds(seeds)
    datalist = _datalist(only, Path(data).expanduser(), Path(output).expanduser())
    benchmark = Benchmark(
        only,
        setting,
        datalist,
        Path(output).expanduser().absolute(),
        device=device,
        deadline=None if budget is None else started + 60 * budget,
        tell=lambda line: print(line, flush=True),
    )
    if ship:
        _ship(benchmark, rows, numbers, Path(results).expanduser())
        return
    done = benchmark.run(rows, numbers)
    finished = sum(state == "finished" for state in done.values())
    print(f"{benchmark.folder}: {finished} of {len(done)} runs finished, {(time.time() - started) / 60:.1f} minutes")


def _tables(suites: list[Suite], runs: Path, folder: Path, table: Path, readme: Path | None, *, check: bool) -> None:
    if not check:
        for written in collect_results(runs, folder):
            print(written)
    records = load_results(folder)
    by_name = {each.name: each for each in suites}
    found = {bundle: origin_of(bundle, by_name, records) for bundle in bundle_folders()}
    origins = {bundle: origin for bundle, origin in found.items() if origin is not None}
    texts = {table: with_tables(table, suites, records)}
    texts |= {} if readme is None else {readme: with_weights(readme, list(origins.values()))}
    if check:
        for path, text in texts.items():
            if text != read_text(path):
                raise UserError(f"{path}: its tables are not those of {folder}; write them by `benchmark --report`")
            print(f"{path}: its tables are those of {folder}")
        for bundle, origin in origins.items():
            check_shipped(bundle, origin)
            print(f"{bundle.name}: its figures are those of the run that its weights come from")
        return
    for path, text in texts.items():
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(path)
    for page in write_pages(suites, runs, records):
        print(page)


def _ship(benchmark: Benchmark, rows: list[Row], seeds: list[int], results: Path) -> None:
    if len(rows) != 1 or len(seeds) != 1:
        raise UserError("--ship: name one row by --methods and one seed by --seeds")
    [row], [seed] = rows, seeds
    folder, bundle = benchmark.run_folder(row, seed), bundle_folder(row.bundle)
    for line in ship_weights(
        benchmark.suite, benchmark.setting, row, folder, benchmark.datalist, bundle, device=benchmark.device
    ):
        print(line)
    print(collect_result(folder, results))


def _pack(suites: list[Suite], data: str, folder: str, bits: int, part_mb: float) -> None:
    root = Path(data).expanduser()
    files = pack_data(
        {suite.name: _prepared(suite, root) for suite in suites}, Path(folder).expanduser(), bits=bits, part_mb=part_mb
    )
    for path in files:
        print(f"{path} ({path.stat().st_size / 2**20:.1f} MiB)")


def _suites(suite: str | None) -> list[Suite]:
    return [load_suite(name) for name in _words(suite)]


def _datalist(suite: Suite, data: Path, output: Path) -> Path:
    """The suite's datalist, which is unpacked first where the data come packed."""
    if (data / PACKED).is_file():
        made = {path.stem: path for path in unpack_data(data, output.absolute() / UNPACKED)}
        if suite.name not in made:
            raise UserError(f"{data}: holds the data of {', '.join(made)}, not of {suite.name}; pack it again")
        return made[suite.name]
    return _prepared(suite, data)


def _prepared(suite: Suite, data: Path) -> Path:
    path = data / suite.name / "datalist.json"
    if not path.is_file():
        raise UserError(f"{path}: no such datalist; {suite.prepare.format(output=path.parent)}")
    return path.absolute()


def _words(text: Any) -> list[str]:
    words = text if isinstance(text, (list, tuple)) else str(text or "").split(",")
    return [word.strip() for word in words if word.strip()]


def _seeds(seeds: Any) -> list[int]:
    words = _words(seeds)
    if not words or not all(word.isdigit() for word in words):
        raise UserError(f"--seeds is {seeds!r}; give whole numbers from 0 on, with commas between them")
    return [int(word) for word in words]
