"""What attackers get against eps: a line per attacker and T, and what was not run is said."""

from figures import attackers


def row(attacker, eps, value, *, score="all", rate=0.05, norm="linf"):
    return {"attacker": attacker, "norm": norm, "eps": eps, "score": score, "rate": rate,
            "success": {"value": value}}


ROWS = [row("adaptive", 0.2, 1.0), row("adaptive", 0.1, 0.5), row("oblivious", 0.1, 0.25),
        row("oblivious", 0.1, 0.5, rate=0.01), row("all", 0.1, 0.5),
        row("oblivious", 0.1, 0.4, score="k_density"), row("oblivious", 3.0, 0.1, norm="l2")]


def test_a_line_per_attacker_and_threshold():
    density, every = attackers.panels({"RCE": ROWS}, "linf")
    shown = {curve.label: (curve.x.tolist(), curve.y.tolist(), curve.line) for curve in every.curves}
    assert shown == {"knows the detector, T 5 %": ([0.1, 0.2], [50, 100], "-"),
                     "knows no detector, T 5 %, tried to 0.1": ([0.1], [25], "-"),
                     "knows no detector, T 1 %, tried to 0.1": ([0.1], [50], "--")}
    assert len({curve.colour for curve in every.curves}) == 2
    # Of this score no attack that knows the detector was run.
    assert density.title == "RCE, K-density: oblivious only"
    assert every.title == "RCE, all scores at once"


def test_a_figure_per_norm(tmp_path):
    drawn = attackers.drawings({"RCE": ROWS, "CE": []}, "digits")
    assert list(drawn) == ["sr_curve_linf", "sr_curve_l2"] and not attackers.drawings({"CE": []}, "")
    drawn["sr_curve_l2"](tmp_path / "x.png")
    assert (tmp_path / "x.csv").read_text().splitlines()[1:] == [
        '"RCE, all scores at once: oblivious only",'
        '"knows no detector, T 5 %, tried to 3",3.0,10.0']
