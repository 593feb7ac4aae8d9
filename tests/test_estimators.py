"""Pose estimators: hostile weights, refused devices, and rtmlib as a judge."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from keyreid.keypoints import HALPE26
from keyreid.pose import rtmpose
from keyreid.pose.estimators import PoseWeightsMissing
from keyreid.pose.letterbox import fit_whole, letterbox
from keyreid.pose.rtmpose import RTMPose, open_session
from keyreid.pose.simcc import paint_dots, scatter, write_dots
from keyreid.pose.vitpose import ViTPose
from keyreid.settings import rng_at

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
SIZES = ((256, 128), (128, 64), (256, 192), (200, 90), (61, 83))


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "The network of 17 coloured dots."
    return write_dots(tmp_path_factory.mktemp("pose") / "dots.onnx")


@pytest.fixture(scope="module")
def crops() -> list[np.ndarray]:
    "Pictures of dots on noise, one of each size."
    rng = rng_at(30, 9)
    painted = [paint_dots(scatter(17, size, rng), size) for size in SIZES]
    noise = [rng.integers(-6, 7, p.shape) for p in painted]
    return [(p + n).clip(0, 255).astype(np.uint8) for p, n in zip(painted, noise, strict=True)]


def test_rtmlib_gives_the_same_joints(dots: Path, crops: list[np.ndarray], capsys):
    rtmlib = pytest.importorskip("rtmlib", reason="rtmlib, the toolkit to agree with, is no extra")
    theirs = rtmlib.RTMPose(str(dots), model_input_size=(192, 256), device="cpu")
    ours = RTMPose(dots, device="cpu", padding=1.25)
    for crop in crops:
        places, scores = theirs(crop)
        found = ours(crop[None])[0]
        is_there = scores[0] > 0
        assert is_there.sum() > 15
        # half a grey level, which it rounds away, may move a peak by a bin of half a pixel
        step = 0.5 / fit_whole(crop.shape[:2], (256, 192)).scale[0]
        gap = np.abs(found[is_there, :2] - places[0, is_there])
        assert gap.max() <= step + 1e-4 and (gap < 1e-4).mean() > 0.9, crop.shape
        assert np.abs(found[:, 2] - scores[0]).max() < 0.01


def test_opencv_gives_the_same_picture(crops: list[np.ndarray]):
    cv2 = pytest.importorskip("cv2", reason="OpenCV, the library to agree with, is no extra")
    for crop in crops:
        fit = fit_whole(crop.shape[:2], (256, 192))
        matrix = np.array([[fit.scale[0], 0, fit.shift[0]], [0, fit.scale[1], fit.shift[1]]])
        theirs = cv2.warpAffine(crop, matrix, (192, 256), flags=cv2.INTER_LINEAR)
        x = torch.tensor(crop).permute(2, 0, 1)[None].float()
        ours = letterbox(x, fit)[0].permute(1, 2, 0).numpy()
        gap = np.abs(ours - theirs)  # it rounds to bytes, and places to 1/32 pixel
        assert gap.mean() < 0.5 and np.quantile(gap, 0.99) < 4


def write_graph(path: Path, shape: list, n_outputs: int = 2, kind: str = "FLOAT") -> Path:
    "A sound network that is no SimCC network: it hands its input on."
    from onnx import TensorProto, helper, save

    of_kind = getattr(TensorProto, kind)
    names = [f"out{i}" for i in range(n_outputs)]
    nodes = [helper.make_node("Identity", ["input"], [name]) for name in names]
    ends = [helper.make_tensor_value_info(name, of_kind, shape) for name in ["input", *names]]
    graph = helper.make_graph(nodes, "other", ends[:1], ends[1:])
    save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.mark.parametrize(
    ("shape", "n_outputs", "kind"),
    [
        (["n", 3, 256, 192], 1, "FLOAT"),
        (["n", 3, 256, 192], 3, "FLOAT"),
        (["n", 1, 256, 192], 2, "FLOAT"),
        (["n", 256, 192, 3], 2, "FLOAT"),
        (["n", 3, "height", "width"], 2, "FLOAT"),
        (["n", 3, 256], 2, "FLOAT"),
        (["n", 3, 256, 192], 2, "FLOAT16"),
        (["n", 3, 256, 192], 2, "UINT8"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, shape: list, n_outputs: int, kind: str):
    path = write_graph(tmp_path / "other.onnx", shape, n_outputs, kind)
    with pytest.raises(ValueError, match=r"RTMPose: other\.onnx takes .* SimCC network"):
        RTMPose(path, device="cpu")


def test_a_network_with_pictures_for_profiles_is_refused(tmp_path: Path):
    path = write_graph(tmp_path / "other.onnx", ["n", 3, 8, 8])
    with pytest.raises(ValueError, match=r"other\.onnx gives \[1, 3, 8, 8\]"):
        RTMPose(path, device="cpu")


@pytest.mark.parametrize("n_bytes", [0, 1, 10, 200, 1000, -1000, -1])
def test_truncated_networks_are_refused(tmp_path: Path, dots: Path, n_bytes: int):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(dots.read_bytes()[:n_bytes])
    with pytest.raises(ValueError, match=r"cut\.onnx .*download"):
        RTMPose(cut, device="cpu")


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>404</html>", b"\x80\x04\x95", b"\0" * 999, b"PK", b"PK\3\4"]
)
def test_what_is_no_network_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "page.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"page\.onnx"):
        RTMPose(path, device="cpu")


def test_damaged_archives_are_refused(tmp_path: Path, dots: Path):
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(dots, "20230605/end2end.onnx")
    assert len(RTMPose(whole, device="cpu").keypoint_names) == 17
    data = whole.read_bytes()
    middle = len(data) // 2
    damaged = (
        data[:middle] + bytes(b ^ 0xFF for b in data[middle : middle + 40]) + data[middle + 40 :]
    )
    for content in (data[:middle], damaged, data[:-30]):
        whole.write_bytes(content)
        with pytest.raises(ValueError, match=r"whole\.zip is no sound \.zip"):
            RTMPose(whole, device="cpu")


def test_missing_weights_are_named(tmp_path: Path):
    for weights in (tmp_path / "gone.onnx", tmp_path, ""):
        with pytest.raises(PoseWeightsMissing, match="Pose weights not found") as told:
            RTMPose(weights, device="cpu")
        assert "rtmpose-m" in str(told.value) and "keyreid pose import" in str(told.value)
    with pytest.raises(FileNotFoundError, match="vitpose-base-simple"):
        ViTPose(tmp_path / "gone", device="cpu")


def test_a_gpu_that_is_not_there_is_refused(dots: Path, monkeypatch: pytest.MonkeyPatch):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="'cuda' came"):
        RTMPose(dots, device="cuda")
    # where torch has a GPU and onnxruntime is the build without one
    with pytest.raises(ValueError, match="device cuda:0 needs CUDAExecutionProvider"):
        open_session(dots.read_bytes(), torch.device("cuda:0"))
    monkeypatch.setattr(rtmpose, "pick_device", lambda name: torch.device("cuda"))
    with pytest.raises(ValueError, match="onnxruntime-gpu"):
        RTMPose(dots)


def test_a_gpu_that_does_not_start_is_refused(dots: Path, monkeypatch: pytest.MonkeyPatch):
    import onnxruntime

    class Silent:
        "A session that took the CPU, whatever was asked for."

        def __init__(self, network, options, providers):
            assert providers == [("CUDAExecutionProvider", {"device_id": "1"})]

        def get_providers(self):
            return ["CPUExecutionProvider"]

    has = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: has)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Silent)
    with pytest.raises(ValueError, match="onnxruntime has CPUExecutionProvider here"):
        open_session(dots.read_bytes(), torch.device("cuda:1"))


@pytest.mark.gpu
def test_vitpose_on_a_gpu_is_vitpose_on_a_cpu(tmp_path: Path, crops: list[np.ndarray]):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    small = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, out_indices=[2])
    backbone = transformers.VitPoseBackboneConfig(image_size=[256, 192], **small)
    config = transformers.VitPoseConfig(backbone_config=backbone, num_labels=17)
    transformers.VitPoseForPoseEstimation(config).save_pretrained(tmp_path)
    on = {device: ViTPose(tmp_path, device=device) for device in ("cpu", "cuda")}
    for crop in crops:
        cpu, cuda = (on[device](crop[None])[0] for device in ("cpu", "cuda"))
        assert np.abs(cpu[:, 2] - cuda[:, 2]).max() < 1e-2
        assert np.median(np.abs(cpu - cuda)) < 0.05


def test_heavy_packages_wait_until_they_are_asked_for(root: Path):
    script = """
import sys
import keyreid.pose.estimators, keyreid.pose.rtmpose, keyreid.pose.vitpose
print(*{"onnx", "onnxruntime", "transformers", "cv2", "rtmlib"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stdout + done.stderr


def test_many_joints_at_small_sizes(tmp_path: Path):
    path = write_dots(tmp_path / "small.onnx", 26, (128, 96), batch=3)
    estimator = RTMPose(path, device="cpu", padding=1.0)
    assert estimator.keypoint_names == HALPE26 and estimator.batch_size == 3
    places = [scatter(26, (128, 64), rng_at(30, 8, i)) for i in range(5)]
    found = estimator(np.stack([paint_dots(p, (128, 64)) for p in places]))
    assert np.abs(found[..., :2] - places).max() < 0.5
