"""A swarm has the same id in the next window, in the next run, under other table ids, and after a harmless change."""

from __future__ import annotations

from pathlib import Path

import pytest
import swarm_planted as planted
from hypothesis import given
from hypothesis import strategies as st
from swarm_driver import Run, shuffled
from swarm_planted import MAIN, MS, START

from sofa_otel.core.errors import InputError
from sofa_otel.core.kinds import Wait
from sofa_otel.core.symbols import Tables
from sofa_otel.processors.group.catalogue import Candidate, Catalogue, similarity, sketch_of, swarm_id
from sofa_otel.processors.group.grouper import Grouper


def captions(run: Run) -> dict[str, str]:
    return {run.infos[swarm].caption: swarm for swarm in run.time_by_swarm()}


def test_two_runs_of_a_program_have_the_same_ids() -> None:
    runs = [captions(Run(t, [planted.job(t, seed=seed)], planted.iterations())) for seed, t in ((1, Tables()), (2, Tables()))]
    assert runs[0] == runs[1]
    assert len(runs[0]) >= 4


def test_ids_do_not_depend_on_table_ids_or_batch_borders() -> None:
    tables = Tables()
    batch = planted.job(tables)
    one = Run(tables, [batch], planted.iterations())
    other = shuffled(tables, 7)
    moved = batch.rebased(other)
    two = Run(other, [moved.take(slice(0, 777)), moved.take(slice(777, None))], planted.iterations())
    assert sorted(one.windows, key=repr) == sorted(two.windows, key=repr)
    assert one.breakdowns == two.breakdowns
    assert {s: (i.caption, i.members) for s, i in one.infos.items()} == {s: (i.caption, i.members) for s, i in two.infos.items()}


def test_assign_gives_every_row_its_swarm() -> None:
    tables = Tables()
    batch = planted.job(tables)
    grouper = Grouper("job", 0, tables)
    nodes = grouper.feed(batch)
    index = grouper.assign(batch)
    assert index.dtype == "uint32"
    assert (grouper.node_swarms()[nodes] == index).all()
    names = {i.swarm: i.caption for i in grouper.infos()}
    assert {names[grouper.swarm_ids[i]].split(" ")[0] for i in set(index.tolist())} == {
        "get_batch",
        "Net.forward",
        "Net.backward",
        "Sgd.step",
    }


def test_ids_stay_through_a_run_whose_shares_drift() -> None:
    tables = Tables()
    batches = []
    for part, step_ms in enumerate((40.0, 55.0, 70.0)):
        batch = planted.job(tables, steps=150, step_ms=step_ms, seed=part)
        shift = part * 15_000 * MS
        batches.append(type(batch)(batch.header, tables, {**batch.columns, "start_ns": batch.start_ns + shift}))
    run = Run(tables, batches, [])
    assert len(run.time_by_swarm(inside=False)) == 4


def line_job(folder: Path, text: str, lines: list[int]) -> Run:
    source = folder / "main.py"
    source.write_text(text)
    tables = Tables()
    paths = [planted.path(tables, (("main", "__main__", line),), folder=str(folder)) for line in lines]
    batch = planted.samples(tables, [(START + i * MS, paths[i % len(paths)], Wait.ON_CPU) for i in range(4_000)], MS)
    return Run(tables, [batch], planted.iterations(40))


def test_a_line_swarm_shows_its_text_and_survives_an_edit_above_it(tmp_path: Path) -> None:
    text = "def main():\n    h = x @ w\n    g = h.T @ 'secret'  # comment\n    h = x @ w\n"
    before = captions(line_job(tmp_path, text, [2, 3, 4]))
    assert set(before) == {
        "main.main:2 h = x @ w · compute",
        "main.main:3 g = h.T @ '…' · compute",
        "main.main:4 h = x @ w · compute",
    }
    assert len(set(before.values())) == 3
    after = captions(line_job(tmp_path, "# a new line\n" + text, [3, 4, 5]))
    assert set(after.values()) == set(before.values())


def test_a_renamed_function_keeps_its_id_through_the_catalogue() -> None:
    def run(name: str, catalogue: Catalogue | None) -> tuple[Run, str]:
        tables = Tables()
        inner = [planted.path(tables, (*MAIN, (name, "m", 1), (f"helper{i}", "m", 2))) for i in range(8)]
        rest = [planted.path(tables, (*MAIN, (f"stage{i}", "m", 3))) for i in range(8)]
        rows = [(START + i * MS, (inner if i % 10 == 0 else rest)[(i // 10 + i) % 8], Wait.ON_CPU) for i in range(8_000)]
        made = Run(
            tables, [planted.samples(tables, rows, MS)], planted.iterations(80), grouper=Grouper("job", 0, tables, catalogue)
        )
        return made, next(s for c, s in captions(made).items() if c.startswith(name))

    first, old = run("compute_stats", None)
    saved = first.grouper.catalogue.to_bytes()
    _, new = run("compute_statistics", Catalogue.from_bytes(saved))
    assert new == old
    _, fresh = run("compute_statistics", None)
    assert fresh != old


def test_equal_frames_in_different_surroundings_are_two_swarms() -> None:
    tables = Tables()
    paths = [planted.path(tables, (*MAIN, (outer, "m", 1), ("helper", "m", 2))) for outer in ("encode", "decode_all", "pack")]
    own = [planted.path(tables, (*MAIN, (outer, "m", 1))) for outer in ("encode", "decode_all", "pack")]
    rows = [(START + i * MS, (paths if i % 2 else own)[i % 3], Wait.ON_CPU) for i in range(6_000)]
    run = Run(tables, [planted.samples(tables, rows, MS)], planted.iterations(60))
    assert len(run.time_by_swarm()) == 6


def test_catalogue_is_saved_and_loaded() -> None:
    catalogue = Catalogue()
    ids = catalogue.resolve([Candidate("m!f", "m!main", sketch_of({"m!f"})), Candidate("m!g", "m!main", ())])
    again = Catalogue.from_bytes(catalogue.to_bytes())
    assert again.resolve([Candidate("m!g", "m!main", ()), Candidate("m!f", "m!loop", sketch_of({"m!f"}))]) == ids[::-1]
    assert ids[0] == swarm_id("m!f")
    assert again.to_bytes() != b""


@pytest.mark.parametrize("data", [b"", b"[]", b'{"swarms": 3}', b'{"schema": "sofa/catalogue/v9", "swarms": []}', b"\xff\xfe"])
def test_a_broken_catalogue_is_an_input_error_that_names_the_file(data: bytes) -> None:
    with pytest.raises(InputError, match=r"swarms\.json"):
        Catalogue.from_bytes(data, "swarms.json")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("xy"), st.sets(st.sampled_from("klmnop"))), max_size=20))
def test_ids_of_one_cut_are_distinct_and_repeatable(groups: list[tuple[str, str, set[str]]]) -> None:
    candidates = [
        Candidate(key, host, sketch_of(members)) for key, host, members in {(k, h): (k, h, m) for k, h, m in groups}.values()
    ]
    catalogue = Catalogue()
    ids = catalogue.resolve(candidates)
    assert len(set(ids)) == len(ids)
    assert catalogue.resolve(candidates) == ids


def test_similarity_is_jaccard() -> None:
    assert similarity(sketch_of({"a", "b", "c"}), sketch_of({"b", "c", "d"})) == pytest.approx(0.5)
    assert similarity((), sketch_of({"a"})) == 0.0
    many = {f"f{i}" for i in range(2_000)}
    assert similarity(sketch_of(many), sketch_of({f"f{i}" for i in range(400, 2_000)})) == pytest.approx(0.8, abs=0.15)


def test_relations_tell_who_calls_whom() -> None:
    tables = Tables()
    inner = planted.path(tables, (*MAIN, ("work", "m", 1), ("kernel", "m", 2)))
    outer = planted.path(tables, (*MAIN, ("work", "m", 1)))
    rest = planted.path(tables, (*MAIN, ("rest", "m", 1)))
    rows = [(START + i * MS, (inner, outer, rest)[i % 3], Wait.ON_CPU) for i in range(3_000)]
    run = Run(tables, [planted.samples(tables, rows, MS)], planted.iterations(30))
    by = {run.infos[s].caption.split(" ")[0]: run.infos[s] for s in run.time_by_swarm()}
    assert ("caller", by["work"].swarm) in {(r.kind, r.swarm) for r in by["kernel"].relations}
    assert ("callee", by["kernel"].swarm) in {(r.kind, r.swarm) for r in by["work"].relations}
