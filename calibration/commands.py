"""`robosteer calibrate ...`. Light: what is heavy is imported when a command runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(help="Calibrate the rig's cameras and check that they have not moved.", no_args_is_help=True)


@app.callback()
def _calibrate() -> None:
    """Calibrate the rig's cameras and check that they have not moved."""


BoardOption = Annotated[
    Optional[Path], typer.Option("--board", help="YAML of the board; without it the usual one, 7x5 squares of 36 mm")
]
JsonOption = Annotated[str, typer.Option("--json", help="file for the result, - for the standard output")]
FolderArgument = Annotated[
    Optional[Path], typer.Argument(help="folder of images and poses with a recording.json", metavar="[FOLDER]")
]
RigOption = Annotated[str, typer.Option(help="take the images now, with this rig: a YAML file, or the name of one in launch/")]
CameraOption = Annotated[str, typer.Option(help="name of the rig's camera")]
KeepOption = Annotated[
    Optional[Path], typer.Option(help="new folder for the images that are taken; runs/calibration/... by default")
]
ByHand = Annotated[
    bool, typer.Option("--by-hand", help="the operator leads the arm from pose to pose, instead of the arm by itself")
]


@app.command()
def board(
    out: Annotated[Path, typer.Option(help="the PDF; a YAML and a PNG go beside it")] = Path("board.pdf"),
    columns: Annotated[int, typer.Option(help="squares")] = 7,
    rows: Annotated[int, typer.Option(help="squares")] = 5,
    square_mm: float = 36.0,
    marker_mm: float = 27.0,
    dictionary: Annotated[str, typer.Option(help="one of OpenCV's, DICT_4X4_50 to DICT_7X7_1000")] = "DICT_4X4_50",
) -> None:
    """Write a ChArUco board to print, to scale and with a ruler."""
    import cv2
    import yaml

    from calibration.board import make_board
    from calibration.page import write_page

    made = make_board(columns=columns, rows=rows, square_m=square_mm / 1e3, marker_m=marker_mm / 1e3, dictionary=dictionary)
    out.parent.mkdir(parents=True, exist_ok=True)
    page = write_page(made, out)
    described = out.with_suffix(".yaml")
    described.write_text(
        "# A ChArUco board of `robosteer calibrate board`; metres.\n" + yaml.safe_dump(made.model_dump(), sort_keys=False)
    )
    cv2.imwrite(str(out.with_suffix(".png")), made.picture(5000, made.square_m / 2))
    typer.echo(
        f"{out}: {made.words()}, on {page}. Print it at 100 %, check its ruler with yours, glue it to something flat and "
        f"stiff. If its squares measure otherwise, correct square_m and marker_m in {described}"
    )


@app.command()
def intrinsics(
    folder: Annotated[Path, typer.Argument(help="folder of images of the board with a recording.json")],
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="find the lens anew, instead of checking the factory's values")
    ] = False,
    board: BoardOption = None,
    json_out: JsonOption = "",
) -> None:
    """Check a camera's factory intrinsics, or calibrate them: reprojection error per image, coverage of the image."""
    from dataclasses import asdict

    from calibration.board import load_board
    from calibration.intrinsics import calibrated_lens, factory_lens
    from calibration.recording import RecordedFolder
    from calibration.summary import finite
    from calibration.views import find_boards

    views = find_boards(RecordedFolder(folder), load_board(board), at_least=1)
    found = (calibrated_lens if calibrate else factory_lens)(views)
    for name, rms in found.rms_px.items():
        typer.echo(f"{name}: {rms:.3f} px", err=True)
    for reason in views.missed.values():
        typer.echo(reason, err=True)
    lens = found.lens
    typer.echo(
        f"{found.source}: fx {lens.fx:.2f} fy {lens.fy:.2f} cx {lens.cx:.2f} cy {lens.cy:.2f}; {found.total_rms_px:.3f} px "
        f"over {len(found.rms_px)} "
        f"images, {100 * found.coverage:.0f} % of the image covered", err=True,
    )  # fmt: skip
    typer.echo("accepted" if found.accepted else f"rejected: {'; '.join(found.advice)}", err=True)
    given = finite(
        {key: value for key, value in asdict(found).items() if key != "lens"} | {"lens": lens.model_dump(mode="json")}
    )
    _write(given | {"verdict": "accepted" if found.accepted else "rejected"}, json_out)


@app.command("hand-eye")
def hand_eye(
    folder: FolderArgument = None,
    rig: RigOption = "",
    camera: CameraOption = "wrist",
    poses: Annotated[int, typer.Option(min=5, help="how many views to take")] = 20,
    until_mm: Annotated[
        float, typer.Option(min=0, help="stop earlier when the expected error (one standard deviation) is below")
    ] = 0.0,
    by_hand: ByHand = False,
    keep: KeepOption = None,
    pairs: Annotated[
        Optional[Path],
        typer.Option(help="JSON list of [end effector in base, target in camera], 4x4, metres, instead of a folder"),
    ] = None,
    mount: Annotated[str, typer.Option(help="of --pairs: hand, fixed, or auto: where the camera sits")] = "auto",
    board: BoardOption = None,
    arm: Annotated[str, typer.Option(help="fr3 or panda: names the frames of the result of a folder")] = "fr3",
    out: Annotated[Path, typer.Option(help="folder of the results, <camera>.yaml each; a rejected one is not written")] = Path(
        "calibrations"
    ),
    report: Annotated[
        Optional[Path], typer.Option(help="HTML page with pictures; from images <out>/<camera>.html by default")
    ] = None,
    fixed_lens: Annotated[bool, typer.Option("--fixed-lens", help="take the intrinsics as they are")] = False,
    accept_mm: Annotated[float, typer.Option(min=0, help="largest leave-one-out error of an accepted calibration")] = 2.0,
    accept_deg: Annotated[float, typer.Option(min=0, help="likewise in degrees")] = 0.5,
    json_out: JsonOption = "",
) -> None:
    """Find where a camera sits, on the hand or on a stand, and say whether to trust it."""
    from calibration.acceptance import Criteria
    from calibration.hand_eye import calibrate_pairs
    from calibration.pairs import load_pairs
    from calibration.report import write_report
    from calibration.summary import summary, words
    from robosteer_core.errors import UserError

    if mount not in ("auto", "hand", "fixed"):
        raise UserError(f"--mount is hand, fixed or auto; found {mount!r}")
    if [pairs is not None, folder is not None, bool(rig)].count(True) != 1:
        raise UserError(
            "give one thing to calibrate from: a folder of images and poses, --pairs FILE.json, or --rig and --camera"
        )
    criteria = Criteria(loo_mm=accept_mm, loo_deg=accept_deg)
    if pairs is not None:
        found = calibrate_pairs(load_pairs(pairs), None if mount == "auto" else mount, criteria)
        typer.echo(words(found), err=True)
        if report is not None:
            write_report(report, found, title=pairs.name)
        return _write(summary(found), json_out)

    from calibration.board import load_board
    from calibration.image_hand_eye import calibrate_images
    from calibration.pairs import MIN_POSES
    from calibration.recording import RecordedFolder
    from calibration.result import result
    from calibration.views import find_boards
    from robosteer_core.camera_calibration import write_calibration

    used = load_board(board)
    if rig:
        folder, arm = _taken(rig, camera, used, keep, poses, until_mm, by_hand)
    recording = RecordedFolder(folder)
    given = recording.content.intrinsics
    if given is None:
        raise UserError(f"{folder} has no intrinsics; add those that `robosteer calibrate intrinsics --calibrate` finds")
    solved = calibrate_images(
        find_boards(recording, used, MIN_POSES), given, recording.content.camera.mount, criteria, fixed_lens
    )
    typer.echo(words(solved.calibration), err=True)
    made = result(solved, arm)
    path, page = out / f"{made.camera.name}.yaml", report or out / f"{made.camera.name}.html"
    write_report(page, solved.calibration, solved, f"{made.camera.name} ({made.camera.serial})")
    typer.echo(f"report: {page}", err=True)
    if made.verdict == "accepted":
        write_calibration(made, path)
        typer.echo(f"written: {path}", err=True)
    _write(
        summary(solved.calibration) | {"lens": made.lens.model_dump(mode="json"), "depth_scale": solved.depth_scale}, json_out
    )


@app.command()
def verify(
    stored: Annotated[Path, typer.Argument(help="<camera>.yaml of an earlier calibration")],
    folder: FolderArgument = None,
    rig: RigOption = "",
    poses: Annotated[int, typer.Option(min=5, help="how many views to take")] = 10,
    by_hand: ByHand = False,
    keep: KeepOption = None,
    board: Annotated[
        Optional[Path], typer.Option("--board", help="YAML of the board; without it the one of the calibration")
    ] = None,
    json_out: JsonOption = "",
) -> None:
    """Tell whether a camera has moved since it was calibrated. Exit code 1 when it has."""
    from dataclasses import asdict

    from calibration.board import load_board, make_board
    from calibration.recording import RecordedFolder
    from calibration.verification import MIN_VIEWS, verify
    from calibration.views import find_boards
    from robosteer_core.camera_calibration import read_calibration
    from robosteer_core.errors import UserError
    from robosteer_core.rig import load_rig

    if (folder is None) == (not rig):
        raise UserError("give one thing to compare with: a folder of new images and poses, or --rig")
    was = read_calibration(stored)
    used = load_board(board) if board else make_board(**was.board)
    if rig:
        was.require_serial(load_rig(rig).camera(was.camera.name).serial, str(stored))
        folder, _ = _taken(rig, was.camera.name, used, keep, poses, 0.0, by_hand)
    recording = RecordedFolder(folder)
    was.require_serial(recording.content.camera.serial, str(stored))
    found = verify(was, find_boards(recording, used, MIN_VIEWS))
    typer.echo(found.words, err=True)
    _write(asdict(found), json_out)
    if found.moved:
        raise typer.Exit(1)


def _taken(
    rig: str, camera: str, board: object, keep: Path | None, poses: int, until_mm: float, by_hand: bool
) -> tuple[Path, str]:
    """The folder of views that the rig has just taken, and the arm's model."""
    from datetime import datetime

    from calibration.live import take_views
    from robosteer_core.rig import load_rig

    config = load_rig(rig)
    folder = keep or Path("runs/calibration") / f"{config.name}-{camera}-{datetime.now():%Y%m%d-%H%M%S}"

    def ask(words: str) -> bool:
        return (
            typer.prompt(f"{words}; Enter when it stands there, q to end", default="", show_default=False, err=True).strip()
            != "q"
        )

    take_views(
        rig, camera, board, folder, poses, until_mm, ask if by_hand else None, lambda words: typer.echo(words, err=True)
    )
    typer.echo(f"images and poses: {folder}", err=True)
    return folder, config.arm.model


@app.command()
def touch(
    stored: Annotated[Path, typer.Argument(help="<camera>.yaml of an earlier calibration")],
    rig: Annotated[str, typer.Option(help="rig: a YAML file, or the name of one in launch/")],
    corner: Annotated[Optional[int], typer.Option(help="number of the board's corner; the middle one by default")] = None,
    height_mm: Annotated[float, typer.Option(min=3, help="how far above the corner the fingertips stop")] = 10.0,
    board: Annotated[
        Optional[Path], typer.Option("--board", help="YAML of the board; without it the one of the calibration")
    ] = None,
    json_out: JsonOption = "",
) -> None:
    """Look at the board on the table, and move the fingertips above one of its corners: see by how much they miss."""
    from calibration.board import load_board, make_board
    from calibration.live import touch
    from robosteer_core.camera_calibration import read_calibration

    was = read_calibration(stored)
    used = load_board(board) if board else make_board(**was.board)
    found, reached = touch(
        rig, was, used, used.middle if corner is None else corner, height_mm / 1e3, lambda words: typer.echo(words, err=True)
    )
    x, y, z = found.point_m
    typer.echo(
        f"the fingertips are {height_mm:g} mm above where corner {found.corner} is believed to be, x {x:.4f} y {y:.4f} z "
        f"{z:.4f} m; expected miss: at "
        f"most {found.miss_mm:.1f} mm (95 %, horizontal). Measure it; a larger one means that something moved, or a wrong tool length", err=True,
    )  # fmt: skip
    arrived = reached[:3, 3] - found.point_m
    _write(
        {
            "corner": found.corner,
            "point_m": [x, y, z],
            "miss_mm": found.miss_mm,
            "arrived_mm": [1e3 * value for value in arrived],
        },
        json_out,
    )


def _write(content: dict, where: str) -> None:
    text = json.dumps(content, indent=1)
    if where == "-":
        typer.echo(text)
    elif where:
        Path(where).write_text(text + "\n")
