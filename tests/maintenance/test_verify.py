"""Every flipped bit and every cut is found and named, no run uses what is damaged, and edits are found by making again."""

import os
import random
import shutil
import time
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy_stages as toys
from samples import snapshot

from polylm.deployments.settings import Settings
from polylm.tasks import keys
from polylm.tasks.maintenance import pins, seal
from polylm.tasks.maintenance.files import MANIFEST, read_json, write_json
from polylm.tasks.maintenance.gc import collect
from polylm.tasks.maintenance.needs import Policy
from polylm.tasks.maintenance.recompute import Sample, parse_share, recomputed
from polylm.tasks.maintenance.verify import damaged, whole
from polylm.tasks.run import StageFailed, run
from polylm.tasks.session import session
from polylm.tasks.stage import NoParams, measure
from polylm.tasks.store import Store, StoreError, read_columns, read_record

KINDS = {"parts", "folders", "artifacts", "runs", "seen", "checked", "pins", "trash"}


def toy_run(root, mode="run", observer=None, **params):
    with session(Settings(store=root, workers=0), mode=mode, name="toys", observer=observer) as here:
        toys.toy_flow(toys.toy_pieces(2), **params)
    return here


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A store with every kind of file in it."""
    folder = tmp_path_factory.mktemp("pristine")
    here = toy_run(folder / "store", keep=toys.KeepParams(min_words={"short": 0.0, "long": 2.0})).store
    toy_run(here.root)
    pins.pin(here, "write_model")
    collect(here, Policy(keep_runs=1, older_than_days=0))
    (folder / "input.txt").write_text("as it came")
    os.utime(folder / "input.txt", (time.time() - 60,) * 2)
    here.input_digest(folder / "input.txt")
    write_json(here.root / "checked" / "count-1-old-new.json", {"part": "toy.0"})
    return here.root


@pytest.fixture
def store(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "store")
    return Store(tmp_path / "store")


def covered(store):
    """Every file that `verify` answers for: all but the insides of the trash and of work."""
    files = [path for path in sorted(store.root.rglob("*")) if path.is_file()]
    inside = {path: path.relative_to(store.root).parts for path in files}
    return [
        path for path in files if inside[path][0] in KINDS and (inside[path][0] != "trash" or len(inside[path]) == 3)
    ]


def flipped(data, chance):
    place = chance.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


def named(store):
    return {store.root / damage.path for damage in damaged(store.root).damage}


def test_a_whole_store_has_no_damage(store):
    found = damaged(store.root)
    assert found.damage == ()
    assert found.checked == len(covered(store))
    assert {path.relative_to(store.root).parts[0] for path in covered(store)} == KINDS


def rounds():
    flips = [pytest.param(flipped, seed, id=f"flips {seed}") for seed in range(6)]
    return [
        *flips,
        *(
            pytest.param(lambda data, chance: data[: chance.randrange(len(data))], seed, id=f"cuts {seed}")
            for seed in range(2)
        ),
    ]


@pytest.mark.parametrize(("harm", "seed"), rounds())
def test_every_flipped_bit_and_every_cut_is_found(store, harm, seed):
    chance = random.Random(seed)
    # A folder's files are checked against its manifest: harm to both is named once, by the manifest.
    manifests = [path for path in covered(store) if path.name == MANIFEST]
    for paths in (manifests, [path for path in covered(store) if path not in manifests]):
        whole = {path: path.read_bytes() for path in paths if path.stat().st_size}
        for path, data in whole.items():
            path.write_bytes(harm(data, chance))
        assert named(store) >= set(whole)
        for path, data in whole.items():
            path.write_bytes(data)
    assert damaged(store.root).damage == ()


@pytest.mark.parametrize("small", [seal.SMALL, 0], ids=["small", "large"])
def test_every_byte_of_one_part_is_guarded_where_it_is_read(store, monkeypatch, small):
    """Headers of pages and the footer too, which page checksums do not cover; by the seal, and by the values' digests."""
    monkeypatch.setattr(seal, "SMALL", small)
    path = next((store.root / "parts" / "encode").rglob("*.parquet"))
    data, record, rows = path.read_bytes(), read_record(path), read_columns(path)
    chance, refused = random.Random(0), 0
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
        try:
            assert store.record("rows", "encode", record.key) == record
            assert read_columns(path).equals(rows)
        except StoreError as error:
            assert str(path) in str(error)  # noqa: PT017
            refused += 1
    assert refused > len(data) / 2


@pytest.mark.parametrize("place", ["parts", "folders", "artifacts"])
def test_a_run_never_uses_what_is_damaged(store, place):
    before, chance = snapshot(store.root), random.Random(place)
    if place == "folders":
        paths = [path for path in covered(store) if path.name == MANIFEST]
    else:
        paths = [path for path in covered(store) if path.relative_to(store.root).parts[0] == place]
    for path in chance.sample(paths, min(12, len(paths))):
        data = path.read_bytes()
        path.write_bytes(flipped(data, chance))
        try:
            here = toy_run(store.root)
        except (StoreError, StageFailed) as error:
            assert (path.parent if path.name == MANIFEST else path).name in str(error)  # noqa: PT017
        else:
            assert all(report.built == [] for report in here.reports)  # what it read was as written
        path.write_bytes(data)
    assert snapshot(store.root) == before


def test_only_the_files_asked_for_are_read(store):
    one, other, gone = sorted((store.root / "parts" / "count").rglob("*.parquet"))[:3]
    for path in (one, other):
        path.write_bytes(path.read_bytes()[:-1])
    gone.unlink()
    found = damaged(store.root, only={one, gone})
    assert found.checked == 1
    assert {store.root / damage.path for damage in found.damage} == {one, gone}


def test_a_damaged_manifest_is_written_again_by_the_next_run(store):
    path = next((store.root / "artifacts" / "count").glob("*.json"))
    told = read_json(path)
    path.write_bytes(path.read_bytes().replace(b'"rows": 5', b'"rows": 6', 1))
    assert read_json(path) is None
    [damage] = damaged(store.root).damage
    assert damage.remedy.startswith(f"the next `polylm run toys --store {store.root}`")
    toy_run(store.root)
    assert read_json(path) == told
    assert damaged(store.root).damage == ()


@pytest.mark.parametrize("other", ["[]", '{"parts": [1], "jobs": 2}', '{"parts": [{"key": 1}], "shape": "rows"}'])
def test_a_manifest_of_other_json_is_damage_and_no_traceback(store, other):
    path = next((store.root / "artifacts" / "count").glob("*.json"))
    path.write_text(other)
    [damage] = damaged(store.root).damage
    assert damage.path == str(path.relative_to(store.root))
    toy_run(store.root)
    assert damaged(store.root).damage == ()


def test_damage_names_file_and_stage_and_the_run_that_makes_it_again(store):
    path = next((store.root / "parts" / "count").rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])
    latest = max((store.root / "runs").glob("*.json")).stem
    [damage] = damaged(store.root).damage
    assert (damage.path, damage.stage) == (str(path.relative_to(store.root)), "count")
    assert damage.remedy == f"delete it, then `polylm run toys --store {store.root}` (the run {latest}) makes it again"
    path.unlink()
    [damage] = damaged(store.root).damage
    assert str(damage).startswith(f"count: {path.relative_to(store.root)} (toy.")
    assert f"is gone: `polylm run toys --store {store.root}`" in str(damage)
    toy_run(store.root)
    assert damaged(store.root).damage == ()


def test_a_damaged_folder_is_deleted_whole(store):
    folder = next((store.root / "folders" / "write_model").iterdir())
    (folder / "bands.txt").write_text("other")
    [damage] = damaged(store.root).damage
    assert damage.remedy.startswith(
        f"delete {folder.relative_to(store.root)}, then `polylm run toys --store {store.root}`"
    )


def test_what_a_job_reads_by_path_is_read_whole_first(store):
    path = next((store.root / "parts" / "count").rglob("*.parquet"))
    folder = next((store.root / "folders" / "write_model").iterdir())
    assert (whole(path), whole(folder)) == (path, folder)
    whole.cache_clear()
    path.write_bytes(flipped(path.read_bytes(), random.Random(1)))
    (folder / "bands.txt").write_text("other")
    for damaged_one in (path, folder):
        with pytest.raises(StoreError, match=f"{damaged_one.name}.*delete .*"):
            whole(damaged_one)


def test_a_part_under_another_parts_name_is_found(store):
    one, other = sorted((store.root / "parts" / "count").rglob("*.parquet"))[:2]
    one.write_bytes(other.read_bytes())
    assert named(store) == {one}


def test_what_was_written_without_a_seal_is_named_and_still_read(store):
    path = next((store.root / "parts" / "count").rglob("*.parquet"))
    rows = read_columns(path)
    metadata = {b"polylm.record": pq.read_schema(path).metadata[b"polylm.record"]}
    pq.write_table(rows.replace_schema_metadata(metadata), path)
    assert read_columns(path).equals(rows)
    [damage] = damaged(store.root).damage
    assert damage.what == "is damaged (it has no seal)"


def test_a_sealed_part_is_a_plain_parquet_file(store):
    path = next((store.root / "parts" / "encode").rglob("*.parquet"))
    assert pq.read_table(path).replace_schema_metadata(None).equals(read_columns(path))
    assert path.read_bytes().count(b"POLYLMS1") == 1


def test_a_seal_covers_white_space():
    data = seal.seal_json({"name": "é", "parts": [1, 2]})
    assert seal.open_json(data, strict=True) == {"name": "é", "parts": [1, 2]}
    with pytest.raises(seal.SealBroken, match="does not match"):
        seal.open_json(data.replace(b"\n  1", b"\n\t 1"))


def edit(store, stage, column):
    """Rewrite a part as someone would who knows the store: other values, a record and a seal that match."""
    path = next((store.root / "parts" / stage).rglob("*.parquet"))
    record, rows = read_record(path), read_columns(path)
    place = rows.schema.get_field_index(column)
    other = rows.set_column(place, column, pa.nulls(rows.num_rows, rows.schema.field(column).type))
    path.unlink()
    store.commit_table(other, replace(record, columns=keys.contents(other)))
    return path


def test_making_parts_again_finds_an_edit_that_no_digest_shows(store):
    sample = Sample(1.0, seed=0)
    found = recomputed(sample, toy_run(store.root, "plan", sample))
    assert found.damage == ()
    assert found.checked > 20
    path = edit(store, "encode", "ids")
    assert damaged(store.root).damage == ()
    sample = Sample(1.0, seed=0)
    [damage] = recomputed(sample, toy_run(store.root, "plan", sample)).damage
    assert store.root / damage.path == path
    assert "was edited" in damage.what
    assert "ids differ" in damage.what


_tosses = iter(range(1000))


@measure(reads=["text"], writes={"toss": pa.uint32()})
def toss(rows, params: NoParams):
    """Give another number each time."""
    return {"toss": [next(_tosses)] * len(rows["text"])}


def test_making_parts_again_finds_a_stage_that_is_not_deterministic(tmp_path):
    def flow(mode, observer=None):
        with session(Settings(store=tmp_path / "store", workers=0), mode=mode, observer=observer) as here:
            run(toss, NoParams(), run(toys.read, toys.ReadParams(), toys.Pieces(*toys.toy_pieces(1))))
        return here

    flow("run")
    sample = Sample(1.0, seed=0)
    damage = recomputed(sample, flow("plan", sample)).damage
    assert len(damage) == 3
    assert all("not deterministic" in entry.what for entry in damage)


def test_a_sample_is_seeded_and_never_empty(store):
    samples = [Sample(share, seed) for share, seed in ((0.3, 1), (0.3, 1), (0.3, 2), (1e-9, 1))]
    for sample in samples:
        toy_run(store.root, "plan", sample)
    first, same, other, small = ([job.key for job in sample.chosen()] for sample in samples)
    assert first == same != other
    assert len(small) == 1


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("0.01", 0.01), ("100%", 1.0)])
def test_a_share_is_read_as_people_write_it(text, share):
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "0", "110%", "-1%", "all", "nan"])
def test_a_share_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected a share such as 1%"):
        parse_share(text)


def test_a_folder_that_is_no_store_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is no store"):
        damaged(tmp_path)
    assert damaged(Store(tmp_path / "new").open().root).checked == 0
