"""Success against trained parameters: read from a table, drawn, refused where it is none."""

import numpy as np
import pytest
from PIL import Image

from robosteer_core.cli import main
from robosteer_core.errors import UserError
from robosteer_core.evaluation.cost_plot import Trained, plot_success_by_parameters, read_results

TABLE = "name,parameters,successes,trials,ours\nbase,0,1,20,false\n8 heads,27648,17,20,true\nall heads,92160,15,20,false\n"
TEAL = (15, 118, 110)


def test_ours_stands_out_and_lies_left_of_what_trains_more(tmp_path, capsys):
    (tmp_path / "table.csv").write_text(TABLE)
    assert main(["heads", "plot", "--results", str(tmp_path / "table.csv"), "--title", "press"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "table.png")
    pixels = np.asarray(Image.open(tmp_path / "table.png").convert("RGB")).astype(int)
    _, columns = np.nonzero((np.abs(pixels - TEAL).max(-1) < 10))
    assert 0.2 * pixels.shape[1] < columns.mean() < 0.7 * pixels.shape[1] and np.ptp(columns) < 60


def test_one_row_is_a_picture_too(tmp_path):
    plot_success_by_parameters([Trained(name="base", parameters=0, successes=1, trials=3)], tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("text, words", [
    ("name,parameters\nbase,0\n", "successes: Field required"), (TABLE.replace("27648", "few"), "parameters: .*'few'"),
    (TABLE.replace("name,", "name,heads,"), "not permitted"), (TABLE.replace("17,20", "21,20"), "21 successes in 20 trials"), ("", "at least one row"),
])  # fmt: skip
def test_a_table_that_is_none_is_refused(tmp_path, text, words):
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        plot_success_by_parameters(read_results(tmp_path / "table.csv"), tmp_path / "plot.png")
    assert not (tmp_path / "plot.png").exists()
    with pytest.raises(UserError, match="is no table"):
        read_results(tmp_path / "absent.csv")
