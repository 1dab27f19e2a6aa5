"""The report of runs: its tables, its cases, and that the page is whole, safe and alive in a browser."""

from __future__ import annotations

import base64
import fcntl
import html
import io
import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from common.reporting.report import CaseOptions, build_report
from common.reporting.run_folder import find_runs
from tools.evaluate import main as evaluate
from tools.report import main as report

CLASSES = ["background", "LV", "<b>RV</b>"]
SHIFTS = {"good": (0, 0, 1, 1, 2), "bad": (3, 2, 3, 2, 1)}
CASES = ("patient1", "patient2", "patient3", "<script>window.hacked = 1</script>", "patient5")
EVIL = '"><script>hacked('
LPS = np.diag([-1.0, -1.0, 8.0, 1.0])


class Elements(HTMLParser):
    """All elements of a page with their attributes, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def save(path: Path, voxels: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, LPS), path)
    return str(path)


def label(shift: int) -> np.ndarray:
    """LV: 4 x 4 voxels in two of four slices, moved along x; RV: the same everywhere."""
    voxels = np.zeros((24, 20, 4), np.uint8)
    voxels[8 + shift : 12 + shift, 8:12, 1:3] = 1
    voxels[2:5, 2:6, 1:3] = 2
    return voxels


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five cases, two methods of known quality, their scores, and what their trainings wrote."""
    from torch.utils.tensorboard import SummaryWriter

    root = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(0)
    items = []
    for number, case in enumerate(CASES):
        image = save(root / "images" / f"i{number}.nii.gz", rng.normal(100, 20, (24, 20, 4)).astype(np.float32))
        scribble = np.full((24, 20, 4), 3, np.uint8)
        scribble[9:11, 9, 1:3], scribble[:, 0, 1] = 1, 0
        save(root / "images" / f"i{number}_scribble.nii.gz", scribble)
        items.append({"image": image, "label": save(root / "masks" / f"i{number}.nii.gz", label(0)), "case": case})
        for method, shifts in SHIFTS.items():
            save(root / "predictions" / method / f"i{number}_seg.nii.gz", label(shifts[number]))
    content = {"name": "made up", "num_classes": 3, "class_names": CLASSES, "test": items}
    (root / "datalist.json").write_text(json.dumps(content))
    folders = ",".join(f"{method}={root}/predictions/{method}" for method in SHIFTS)
    evaluate(predictions=folders, references=str(root / "datalist.json"), output=str(root / "scores"), jobs=1)
    for method in SHIFTS:
        with SummaryWriter(str(root / "training" / method)) as writer:
            for epoch in (1, 2, 3):
                writer.add_scalar("train_loss", 1 / epoch, epoch)
                writer.add_scalar("val_mean_dice", 0.2 * epoch, epoch)
    config = {"learning_rate": 0.01, "datalist": "$hidden", "_meta_": {"monai_version": "1.6.1"}}
    (root / "training" / "good" / "config_1.json").write_text(json.dumps(config))
    return root


@pytest.fixture(scope="module")
def options(study: Path) -> dict[str, str]:
    training = f"good={study}/training/good,{EVIL}={study}/training/bad"
    return {"runs": f"good={study}/scores/good,{EVIL}={study}/scores/bad", "training": training}


@pytest.fixture(scope="module")
def page(study: Path, options: dict[str, str]) -> Path:
    output = study / "made here" / "report.html"
    report(**options, output=str(output), title="A & B")
    return output


def cells(page: Path, score: str) -> dict[str, list[str]]:
    """The words of a score's table by run, spaces made one."""
    table = page.read_text().split(f"<h3>{score} ")[1].split("</table>")[0]
    rows = {}
    for row in table.split("<tr>")[2:]:
        name, *values = re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.DOTALL)
        rows[html.unescape(name)] = [" ".join(re.sub("<.*?>", "", value).split()) for value in values]
    return rows


def test_table_has_means_deviations_and_marks_the_best_ties_too(page: Path) -> None:
    # LV, Dice of a block moved by s: 2 * 4 (4 - s) / 32, so 1, 1, 0.75, 0.75, 0.5 and 0.25, 0.5, 0.25, 0.5, 0.75.
    # Deviations from 0.8: 0.2, 0.2, -0.05, -0.05, -0.3; squares add up to 0.175; sqrt(0.175 / 5) = 0.187.
    # All: half of it and half of 1, so 0.9 and half the deviation, 0.0935.
    rows = cells(page, "Dice")
    assert rows["good"] == [
        "▲ 0.800 (best) ± 0.187median 0.750, n 5",
        "▲ 1.000 (best) ± 0.000median 1.000, n 5",
        "▲ 0.900 (best) ± 0.094median 0.875, n 5",
    ]
    assert rows[EVIL] == [
        "0.450 ± 0.187median 0.500, n 5",
        "▲ 1.000 (best) ± 0.000median 1.000, n 5",
        "0.725 ± 0.094median 0.750, n 5",
    ]


def test_lower_distances_are_the_better_ones(page: Path) -> None:
    rows = cells(page, "HD95 (mm)")
    assert rows["good"][0].startswith("▲")
    assert not rows[EVIL][0].startswith("▲")


def test_best_median_and_worst_cases_are_shown(page: Path) -> None:
    shown = [
        (html.unescape(case), [html.unescape(role) for role in re.findall(r"<li class=\"\w+\">(.*?)</li>", rest)])
        for case, rest in re.findall(r"<article.*?<h3>(.*?)</h3>(.*?)</ul>", page.read_text(), re.DOTALL)
    ]
    # good: 1, 1, .875, .875, .75 and bad: .625, .75, .625, .75, .875 in the order of CASES, "<" comes before "p":
    # ranked patient1, 2, <, 3, 5 and patient5, <, 2, 1, 3.
    assert shown == [
        ("patient1", ["best of good"]),
        ("patient5", [f"best of {EVIL}", "worst of good"]),
        ("<script>window.hacked = 1</script>", ["median of good"]),
        ("patient2", [f"median of {EVIL}"]),
        ("patient3", [f"worst of {EVIL}"]),
    ]


def test_page_holds_all_it_shows(page: Path) -> None:
    text = page.read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert set(re.findall(r"url\((.{5})", text)) == {"data:"}
    elements = Elements(text).found
    for tag, attributes in elements:
        assert tag not in {"iframe", "object", "embed", "form", "base"}
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    policy = next(found["content"] for tag, found in elements if found.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "script-src 'sha256-" in policy


def test_what_comes_from_files_is_inert(page: Path) -> None:
    text = page.read_text()
    assert "<script>window.hacked" not in text
    assert EVIL not in text
    assert "<b>RV" not in text
    elements = Elements(text)
    assert [tag for tag, _ in elements.found].count("script") == 1
    assert not [tag for tag, _ in elements.found if tag == "b"]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    words = "".join(elements.words)
    assert all(word in words for word in (*CASES, EVIL, "<b>RV</b>", "A & B"))


def test_pictures_show_the_labels_of_the_slice(page: Path) -> None:
    text = page.read_text()
    key = re.search(r'<article class="case" id="(\w+)".*?<h3>patient1</h3>', text, re.DOTALL)
    assert key is not None
    found = dict(re.findall(rf"--{key[1]}-([\w-]+): url\((data:.*?)\);", text))
    # four slices; labels in the second and third only, of the annotation too
    assert sorted(name for name in found if name.startswith("image")) == [f"image-{place}" for place in range(4)]
    assert sorted(name for name in found if name.startswith("reference")) == ["reference-1", "reference-2"]
    assert sorted(name for name in found if name.startswith("annotation")) == ["annotation-1", "annotation-2"]
    assert "prediction-0-1" in found
    assert "prediction-1-1" in found
    assert found["prediction-0-1"] == found["reference-1"]  # moved by nothing
    assert found["prediction-1-1"] != found["reference-1"]
    picture = Image.open(io.BytesIO(base64.b64decode(found["reference-1"].partition(",")[2])))
    assert picture.mode == "P"
    assert len(np.unique(np.asarray(picture))) == 5  # nothing, and fillings and outlines of two classes


def test_settings_curves_and_versions_are_told(page: Path) -> None:
    text = page.read_text()
    assert "<h3>val_mean_dice</h3>" in text
    assert text.index("<h3>val_mean_dice</h3>") < text.index("<h3>train_loss</h3>")
    assert re.search(r"config: learning_rate</th><td>0.01</td><td></td>", text)
    assert re.search(r"bundle: monai_version</th><td>1.6.1</td>", text)
    assert re.search(r"training: epochs logged</th><td>3</td><td>3</td>", text)
    assert "$hidden" not in text
    assert re.search(r"Python 3\.\d+", text)


def test_same_input_gives_the_same_bytes(page: Path, options: dict[str, str], tmp_path: Path) -> None:
    report(**options, output=str(tmp_path / "again.html"), title="A & B")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_folder_of_an_evaluation_stands_for_its_methods(study: Path, tmp_path: Path) -> None:
    report(runs=str(study / "scores"), output=str(tmp_path / "r.html"))
    assert list(cells(tmp_path / "r.html", "Dice")) == ["bad", "good"]
    assert f"from {study}/scores/comparison.json" in (tmp_path / "r.html").read_text()


def test_missing_pieces_leave_out_a_section_and_say_why(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    document = json.loads((study / "scores" / "good" / "metrics.json").read_text())
    document["meta"] = {}
    (alone / "metrics.json").write_text(json.dumps(document))
    report(runs=str(alone), output=str(tmp_path / "r.html"))
    printed = capsys.readouterr().out
    for reason in (
        "alone: no metrics.csv beside its metrics.json",
        "alone: no curves of its training; give --training alone=FOLDER",
        "alone: its evaluation names no datalist that is here; give --datalist",
        "no run has a metrics.csv, which tells of single cases",
    ):
        assert f"note: {reason}\n" in printed
        assert reason in (tmp_path / "r.html").read_text()
    assert cells(tmp_path / "r.html", "Dice")["alone"][0].startswith("0.800")  # nothing to be better than


def test_case_whose_image_is_gone_is_left_out_by_name(study: Path, tmp_path: Path) -> None:
    content = json.loads((study / "datalist.json").read_text())
    content["test"][4]["image"] = str(study / "images" / "i4.nii")
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    report(
        runs=str(study / "scores" / "good"), datalist=str(tmp_path / "datalist.json"), output=str(tmp_path / "r.html")
    )
    text = (tmp_path / "r.html").read_text()
    assert re.search(r"Left out: patient5: .*i4\.nii: no such file", text)
    assert "<h3>patient1</h3>" in text


def test_page_that_cannot_be_small_enough_is_refused(study: Path) -> None:
    with pytest.raises(UserError, match=r"the page would have 0\.\d MB; allow more by --max_mb"):
        build_report(find_runs(f"{study}/scores"), title="t", cases=CaseOptions(), max_bytes=1000)


def test_pictures_shrink_until_the_page_is_small_enough(study: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    rng = np.random.default_rng(0)
    items = []
    for number, case in enumerate(CASES):
        noise = rng.normal(100, 20, (200, 160, 4)).astype(np.float32)
        labels = label(0).repeat(9, axis=0)[:200].repeat(8, axis=1)
        items.append({"image": save(big / f"i{number}.nii.gz", noise), "case": case})
        items[-1]["label"] = save(big / f"i{number}_gt.nii.gz", labels)
        save(big / "p" / f"i{number}_seg.nii.gz", labels)
    (big / "datalist.json").write_text(json.dumps({"test": items}))
    runs, datalist = str(study / "scores" / "good"), str(big / "datalist.json")
    few = {"runs": runs, "datalist": datalist, "predictions": f"good={big}/p", "output": str(tmp_path / "r.html")}
    report(**few)
    full = (tmp_path / "r.html").stat().st_size
    report(**few, max_mb=0.7 * full / 1e6)
    assert (tmp_path / "r.html").stat().st_size < 0.7 * full
    assert "pictures have at most" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": "nowhere"}, "nowhere: no such folder"),
        ({"runs": "{study}/images"}, r"images: holds no metrics\.json, not in a subfolder either"),
        ({"runs": "{study}/scores/good,{study}/scores/good"}, "two folders are called good"),
        ({"runs": "{study}/scores/good,,"}, "write folder or name=folder"),
        ({"output": "r.pdf"}, "let its name end in .html"),
        ({"output": "{study}/datalist.json/r.html"}, "cannot be written"),
        ({"score": "auc"}, "--score auc: choose one of dice, hd95, iou, assd"),
        ({"size": 3}, "--size is 3; give a whole number from 32 on"),
        ({"slices": 2.5}, "--slices is 2.5"),
        ({"max_mb": 0}, "--max_mb is 0; give a number from 0.1 on"),
        ({"against": "nobody"}, "--against nobody: no run is called so"),
        ({"comparison": "{study}/datalist.json"}, "datalist.json: holds no paired tests"),
        ({"comparison": "{study}/gone.json"}, "gone.json: cannot be read as JSON"),
        ({"datalist": "{study}/gone.json"}, "gone.json: no such datalist"),
        ({"section": "training", "datalist": "{study}/datalist.json"}, 'section "training" is missing or empty'),
        ({"annotations": "{study}/gone"}, "gone is no folder"),
        ({"predictions": "other={study}/images"}, "no run is called other"),
        ({"training": "good={study}/gone"}, "--training: .*gone is no folder"),
    ],
)
def test_wrong_options_are_one_line(study: Path, tmp_path: Path, change: dict, message: str) -> None:
    options = {"runs": f"{study}/scores/good", "output": str(tmp_path / "r.html")} | {
        key: value.format(study=study) if isinstance(value, str) else value for key, value in change.items()
    }
    with pytest.raises(UserError, match=message) as error:
        report(**options)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


class Browser:
    """Chromium without a window, driven over its debugging pipe: messages are JSON that ends in a zero byte."""

    def __init__(self, program: str, profile: Path) -> None:
        (to_read, self._to), (self._back, to_write) = os.pipe(), os.pipe()
        # out of the way of 3 and 4, which Chromium reads from and writes to
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (to_read, to_write)]
        flags = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        flags += "--disable-component-update --disable-sync --disable-dev-shm-usage --remote-debugging-pipe"
        self._process = subprocess.Popen(
            [program, *flags.split(), f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=lambda: [os.dup2(end, place) for end, place in zip(ends, (3, 4), strict=True)] and None,
            pass_fds=(3, 4),
            stderr=subprocess.DEVNULL,
        )
        for end in (to_read, to_write, *ends):
            os.close(end)
        self._rest, self._number, self._session = b"", 0, ""
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def wait_for(self, method: str) -> None:
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> object:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture_of(self, selector: str) -> bytes:
        rectangle = "(({x, y, width, height}) => ({x, y: y + scrollY, width, height, scale: 1}))"
        clip = self.value(f"{rectangle}(document.querySelector({selector!r}).getBoundingClientRect())")
        shot = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            code = {"ArrowRight": 39, "End": 35, "Home": 36}[key]
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._to)
        os.close(self._back)

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            assert select.select([self._back], [], [], 60)[0], "the browser does not answer"
            data = os.read(self._back, 2**16)
            assert data, "the browser has gone"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"none of {', '.join(names)} is installed: this test opens the page in a browser")
    opened = Browser(program, tmp_path / "profile")
    yield opened
    opened.close()


def test_page_lives_in_a_browser(page: Path, browser: Browser) -> None:
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait_for("Page.loadEventFired")
    assert browser.value("document.querySelector('h1').textContent") == "A & B"
    assert browser.value("document.querySelectorAll('svg .box').length") == 4 * 2 * 3  # scores, runs, classes and all
    words = "document.querySelector('.case output').value"
    shown = "getComputedStyle(document.querySelector('.case .image')).backgroundImage.length"
    assert browser.value(words) == "slice 2 of 4"  # the first of two with equally much of the reference
    assert browser.value(shown) > 200  # the data of a picture, not "none"

    # the slider follows the keys, and the pictures follow the slider
    browser.value("document.querySelector('.case input').focus()")
    before = browser.picture_of(".case .panels")
    browser.press("ArrowRight")
    assert browser.value(words) == "slice 3 of 4"
    after = browser.picture_of(".case .panels")
    assert after != before
    label = "getComputedStyle(document.querySelector('.case .label')).backgroundImage"
    assert browser.value(f"{label}.startsWith('url(\"data:image/png')")
    browser.press("End")
    assert browser.value(words) == "slice 4 of 4"
    assert browser.value(label) == "none"  # no label in this slice
    browser.press("Home")
    assert browser.value("document.querySelector('.case input').getAttribute('aria-valuetext')") == "slice 1 of 4"
    browser.value("document.querySelectorAll('.case input')[1].dispatchEvent(new Event('input'))")
    assert browser.value(words) == "slice 1 of 4"  # another case's slider leaves this one alone

    browser.value("(o => { o.value = 0; o.dispatchEvent(new Event('input')); })(document.querySelector('#opacity'))")
    assert browser.value("getComputedStyle(document.querySelector('.case .label')).opacity") == "0"

    # nothing went wrong, nothing was asked for, and nothing of the files' words ran
    assert browser.value("typeof window.hacked") == "undefined"
    faults = [event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert faults == []
    assert not [event for event in browser.events if event["method"] == "Runtime.consoleAPICalled"]
    asked = [
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}


def test_policy_forbids_requests_and_foreign_scripts(page: Path, browser: Browser) -> None:
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait_for("Page.loadEventFired")
    violated = """new Promise(done => {
        addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
        const element = document.createElement(%r);
        %s;
        document.body.append(element);
    })"""
    assert browser.value(violated % ("img", "element.src = 'http://127.0.0.1:9/x.png'")) == "img-src"
    assert browser.value(violated % ("script", "element.textContent = 'window.hacked = 1'")) == "script-src-elem"
    assert browser.value("typeof window.hacked") == "undefined"


def test_real_cases(data_root: Path, tmp_path: Path) -> None:
    files = sorted((data_root / "acdc" / "training").glob("patient*/*_gt.nii.gz"))[:2]
    if not files:
        pytest.skip("SCRIBBLE_DATA_ROOT holds no acdc/training")
    items = []
    for file in files:
        image = file.with_name(file.name.replace("_gt", ""))
        items.append({"image": str(image), "label": str(file), "case": image.name.removesuffix(".nii.gz")})
        reference = nib.Nifti1Image.from_filename(file)
        moved = np.roll(np.asarray(reference.dataobj), 3, axis=0).astype(np.uint8)
        (tmp_path / "p").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(moved, reference.affine), tmp_path / "p" / f"{items[-1]['case']}_seg.nii.gz")
    names = ["background", "RV", "MYO", "LV"]
    datalist = tmp_path / "datalist.json"
    datalist.write_text(json.dumps({"name": "acdc", "num_classes": 4, "class_names": names, "test": items}))
    evaluate(predictions=str(tmp_path / "p"), references=str(datalist), output=str(tmp_path / "scores"), jobs=1)
    annotations = data_root / "acdc" / "acdc_scribbles"
    report(
        runs=f"moved={tmp_path}/scores",
        annotations=str(annotations) if annotations.is_dir() else None,
        output=str(tmp_path / "r.html"),
    )
    text = (tmp_path / "r.html").read_text()
    assert all(f"<h3>{item['case']}</h3>" in text for item in items)
    assert len(text) < 5e6
