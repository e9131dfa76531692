"""Bulk prediction: every source becomes one row an image, on disks and S3; a restart adds what is missing, once."""

import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calipose.bulk.convert import convert, read_rows
from calipose.bulk.dataset import ModelOptions, PoseWorker
from calipose.bulk.run import BulkOptions, Summary, _Run, error_kind, predict_bulk
from calipose.bulk.schema import VERSION, entry_of_row, result_schema
from calipose.bulk.sources import Found, find, open_image, read_bytes, row_of_file, rows_of_shard
from calipose.bulk.store import HEADER, ResultFolder
from calipose.data.synthetic.scene import EASY, synthesize_scene
from calipose.draw import save_image
from calipose.errors import ImageError, InputError
from calipose.formats.entries import read_entries
from calipose.poses import Poses
from calipose.skeleton import COCO_17

pa = pytest.importorskip("pyarrow")
pytest.importorskip("ray")
duckdb = pytest.importorskip("duckdb")

MODEL = ModelOptions(model="onepass", short_side=64, min_score=0.0)
NUMBER = 6  # images
HEADER_ENTRIES = {
    "schema": VERSION, "model": "m-1", "calibration": "c-1", "min_score": 0.3, "skeleton": COCO_17.to_dict(),
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images, two of them in a folder below, and one file that is none."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "below").mkdir()
    rng = np.random.default_rng(0)
    for i in range(NUMBER):
        name = folder / "below" / f"{i}.jpg" if i > 3 else folder / f"{i}.jpg"
        save_image(name, synthesize_scene(rng, (96, 64), EASY).image)
    (folder / "bad.jpg").write_text("no image")
    (folder / ".hidden.jpg").write_text("no image")
    (folder / "dance.mp4").write_text("no video")
    return folder


def tar_of(folder: Path, path: Path, cut: int = 0) -> Path:
    """The images of a folder as a WebDataset shard, perhaps without its end."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for file in sorted(folder.glob("?.jpg")):
            tar.add(file, f"00/{file.name}")
            tar.addfile(tarfile.TarInfo(f"00/{file.stem}.json"))
    path.write_bytes(data.getvalue()[: cut or None])
    return path


def parquet_of(rows: dict[str, list], path: Path) -> Path:
    import pyarrow.parquet as pq

    pq.write_table(pa.table(rows), path)
    return path


def some_rows(start: int, stop: int) -> "pa.Table":
    """Results of images that nobody predicted; every fifth is broken."""
    keypoints = [{"x": 1.5 * j, "y": 2.0, "score": 0.5} for j in range(17)]
    pose = {"score": 0.75, "raw_score": 0.5, "p_oks50": None, "p_oks75": None, "keypoints": keypoints}
    common = {"skeleton": "coco-17", "model": "m-1", "calibration": None}
    rows = [
        {"key": f"/data/{i}.jpg", "error": "broken", **common}
        if i % 5 == 4
        else {"key": f"/data/{i}.jpg", "width": 40, "height": 30, "poses": [pose] * (i % 3), **common}
        for i in range(start, stop)
    ]
    return pa.Table.from_pylist(rows, schema=result_schema())


@pytest.fixture(scope="module")
def result(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict]:
    """A folder, a tar and a Parquet file predicted by one Ray; then a part of it again."""
    import ray

    place = tmp_path_factory.mktemp("bulk")
    out = str(place / "poses")
    tar = tar_of(images, place / "shard.tar")
    data = [(images / f"{i}.jpg").read_bytes() for i in range(4)]
    table = parquet_of({"name": ["a", "b", "c", "d"], "image": data}, place / "table.parquet")
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        sources = [str(images), str(tar), str(table)]
        first = predict_bulk(sources, out, MODEL, BulkOptions(workers=1, key="name"))
        rows = list(read_rows(out))
        for file in Path(out).glob("status=error/*"):
            file.unlink()
        (Path(out) / "status=ok" / ".part-1.parquet.99.part").write_text("half a part of a process that was killed")
        seen: list[tuple[int, int | None]] = []
        again = predict_bulk(
            [str(images)], out, MODEL, BulkOptions(workers=1), progress=lambda *counts: seen.append(counts)
        )
        yield {"out": out, "rows": rows, "first": first, "again": again, "seen": seen, "tar": tar}
    finally:
        ray.shutdown()


def test_every_image_has_one_row(result: dict, images: Path) -> None:
    keys = [row["key"] for row in result["rows"]]
    files = [str(path) for path in images.rglob("*.jpg") if path.name[0] != "."]
    in_tar = [f"{result['tar']}/00/{i}.jpg" for i in range(4)]
    assert sorted(keys) == sorted([*files, *in_tar, "a", "b", "c", "d"])
    first = result["first"]
    assert (first.images, first.earlier, first.passed_over, first.stopped) == (len(keys), 0, 1, False)
    assert first.poses == sum(len(row["poses"] or ()) for row in result["rows"]) > 0
    assert dict(first.broken) == {"cannot be decoded: it is damaged or not an image": 1}
    assert [row["key"] for row in result["rows"] if row["error"]] == [str(images / "bad.jpg")]


def test_a_restart_does_what_is_missing_once(result: dict) -> None:
    again = result["again"]
    assert (again.images, again.earlier, sum(again.broken.values())) == (1, len(result["rows"]) - 1, 1)
    assert result["seen"][-1] == (1, 1)
    rows = {row["key"]: row for row in read_rows(result["out"])}
    assert rows == {row["key"]: row for row in result["rows"]}
    assert len(list(read_rows(result["out"]))) == len(rows)
    assert not list(Path(result["out"]).glob("status=*/.*"))


def test_the_poses_are_the_predictor_s(result: dict, images: Path) -> None:
    predictor = MODEL.open()
    rows = {row["key"]: row for row in result["rows"]}
    for name in (str(images / "0.jpg"), str(images / "below" / "4.jpg")):
        want = predictor.predict(name)
        found = Poses.from_dict(entry_of_row(rows[name], COCO_17))
        assert len(found) == len(want) > 0
        np.testing.assert_allclose(found.keypoints_img, want.keypoints_img, atol=1e-4)
        np.testing.assert_allclose(found.p_oks75, want.p_oks75, atol=1e-6)


def test_what_reads_it(result: dict) -> None:
    pandas = pytest.importorskip("pandas")
    rows = result["rows"]
    table = pandas.read_parquet(result["out"])
    assert sorted(table["key"]) == sorted(row["key"] for row in rows)
    assert list(table.columns) == [*result_schema().names, "status"]
    query = f"select count(*), sum(len(poses)) from '{result['out']}/*/*.parquet' where status = 'ok'"
    poses = sum(len(row["poses"] or ()) for row in rows)
    assert duckdb.sql(query).fetchall()[0] == (len(rows) - 1, poses)
    x = duckdb.sql(f"select poses[1].keypoints[1].x from '{result['out']}/*/*.parquet' where key = 'a'").fetchall()[0]
    assert x == (next(row for row in rows if row["key"] == "a")["poses"][0]["keypoints"][0]["x"],)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder of twenty results in two parts each, four of them broken."""
    with ResultFolder(str(tmp_path / "poses")) as folder:
        folder.begin(HEADER_ENTRIES)
        for start in (0, 10):
            folder.add(some_rows(start, start + 10))
            folder.flush()
    return tmp_path / "poses"


def test_other_formats(written: Path, tmp_path: Path) -> None:
    assert convert(str(written), tmp_path / "r.json", "coco") == (16, 4)
    results = json.loads((tmp_path / "r.json").read_text())
    want = [i for i in range(20) if i % 5 != 4 for _ in range(i % 3)]
    assert [entry["image_id"] for entry in results] == want
    assert results[0]["keypoints"][3:6] == [1.5, 2.0, 0.5]
    convert(str(written), tmp_path / "r.jsonl", "jsonl")
    entries = list(read_entries(tmp_path / "r.jsonl"))
    assert [entry["file"] for entry in entries] == [f"/data/{i}.jpg" for i in range(20) if i % 5 != 4]
    assert "p_oks50" not in entries[1]["poses"][0]
    with pytest.raises(InputError, match="unknown format 'yaml'"):
        convert(str(written), tmp_path / "r.yaml", "yaml")
    with pytest.raises(InputError, match="'trc' holds frames of videos only"):
        convert(str(written), tmp_path / "r.zip", "trc")
    with pytest.raises(InputError, match=f"no {HEADER} there"):
        convert(str(tmp_path), tmp_path / "r.json")


def test_a_row_is_taken_once(written: Path) -> None:
    with ResultFolder(str(written)) as folder:
        folder.begin(HEADER_ENTRIES)
        assert len(folder.add(some_rows(15, 22))) == 2
        assert len(folder.add(some_rows(20, 23))) == 1
        with pytest.raises(InputError, match="another calipose bulk writes there"):
            ResultFolder(str(written)).__enter__()
    assert sorted(int(Path(row["key"]).stem) for row in read_rows(str(written))) == list(range(23))


@pytest.mark.parametrize(("key", "value"), [("model", "m-2"), ("min_score", 0.5), ("calibration", None)])
def test_rows_of_another_model_are_not_mixed(written: Path, key: str, value: object) -> None:
    with (
        ResultFolder(str(written)) as folder,
        pytest.raises(InputError, match=f"its rows are of {key} .*, not {value}"),
    ):
        folder.begin({**HEADER_ENTRIES, key: value})


def test_folders_that_cannot_be_used(written: Path, tmp_path: Path) -> None:
    (written / HEADER).write_text('{"schema": 99}')
    with pytest.raises(InputError, match="rows of schema 99; this Calipose knows up to 1"):
        convert(str(written), tmp_path / "r.json")
    (written / HEADER).unlink()
    with ResultFolder(str(written)) as folder, pytest.raises(InputError, match=f"holds Parquet files, but no {HEADER}"):
        folder.begin(HEADER_ENTRIES)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="this is a file; name a folder"):
        ResultFolder(str(tmp_path / "file")).__enter__()


def test_a_block_whose_worker_dies_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images come one by one; the one that kills the worker alone, too, gets a row that says so."""
    names, common = ["/a.jpg", "/b.jpg"], {"skeleton": "coco-17", "model": "m-1", "calibration": None}
    with ResultFolder(str(tmp_path / "poses")) as folder:
        folder.begin(HEADER_ENTRIES)
        run = _Run(folder, MODEL, BulkOptions(), Summary(), lambda *_: None, lambda: False)
        monkeypatch.setattr("calipose.bulk.run.blocks_of_files", lambda lost, size: (lost, size))
        row = {"key": "/a.jpg", "width": 1, "height": 1, "poses": [], **common}
        monkeypatch.setattr(run, "write", lambda *_, **__: run.take(pa.Table.from_pylist([row], result_schema())))
        run.one_by_one(Found(names, []), common)
        assert run.missing(Found(names, [])) == []
    rows = {row["key"]: row["error"] for row in read_rows(str(tmp_path / "poses"))}
    assert rows.keys() == set(names)
    assert rows["/a.jpg"] is None
    assert "the worker died with this image alone 4 times" in rows["/b.jpg"]


@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_an_image_of_a_shard_that_gets_no_row(
    kind: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing of a shard is asked for in blocks, then one by one, and then given up."""
    if kind == "tar":
        shard = str(tar_of(images, tmp_path / "shard.tar"))
    else:
        shard = str(parquet_of({"path": ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]}, tmp_path / "t.parquet"))
    keys = [row["key"] for row in rows_of_shard(shard)]
    common = {"skeleton": "coco-17", "model": "m-1", "calibration": None}
    with ResultFolder(str(tmp_path / "poses")) as folder:
        folder.begin(HEADER_ENTRIES)
        run = _Run(folder, MODEL, BulkOptions(), Summary(), lambda *_: None, lambda: False)
        run.lost_in_shards = True
        singles: list[bool] = []

        def write(_: object, may_lose: bool, single: bool = False) -> bool:
            assert may_lose
            given = keys[:3] if single else keys[:2]  # the last kills its worker alone, too
            rows = [{"key": key, "poses": [], **common} for key in given]
            run.take(pa.Table.from_pylist(rows, result_schema()))
            singles.append(single)
            return True

        monkeypatch.setattr(run, "write", write)
        monkeypatch.setattr(run, "shards", lambda shards: shards)
        run.one_by_one(Found([], [shard]), common)
    assert singles == [False, True]
    rows = {row["key"]: row["error"] for row in read_rows(str(tmp_path / "poses"))}
    assert rows.keys() == set(keys)
    assert [key for key, error in rows.items() if error] == keys[3:]


class DiesAtOne:
    """A worker without a model, which one image kills; before it dies, it notes how many images it held."""

    deaths = ""  # a file

    def __init__(self, _: ModelOptions) -> None: ...

    def __call__(self, table: "pa.Table") -> "pa.Table":
        import os

        from calipose.bulk.schema import result_schema

        keys = table.column("key").to_pylist()
        if any(key.endswith("poison") for key in keys):
            with open(self.deaths, "a") as file:
                file.write(f"{len(keys)}\n")
            os._exit(1)
        common = {"skeleton": "coco-17", "model": "m-1", "poses": []}
        return pa.Table.from_pylist([{"key": key, **common} for key in keys], schema=result_schema())


def test_an_image_that_kills_its_worker(result: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again as often as said and gets a row with its error; all others are predicted.

    Of a Parquet file, whose block it kills, and beside a tar, whose images are not lost.
    """
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr("calipose.bulk.dataset.PoseWorker", DiesAtOne)
    monkeypatch.setattr("calipose.bulk.dataset.MAX_RETRIES", 1)
    monkeypatch.setattr("calipose.bulk.run.MAX_RETRIES", 1)
    monkeypatch.setattr(DiesAtOne, "deaths", str(tmp_path / "deaths"))
    table = parquet_of({"name": ["a", "poison", "c"], "image": [b"x"] * 3}, tmp_path / "t.parquet")
    out = str(tmp_path / "poses")
    try:
        sources = [str(table), str(result["tar"])]
        summary = predict_bulk(sources, out, MODEL, BulkOptions(workers=1, key="name"))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    rows = {row["key"]: row["error"] for row in read_rows(out)}
    assert rows.keys() == {"a", "poison", "c", *(f"{result['tar']}/00/{i}.jpg" for i in range(4))}
    assert [key for key, error in rows.items() if error] == ["poison"]
    assert "the worker died with this image alone 2 times" in rows["poison"]
    assert (summary.images, sum(summary.broken.values())) == (7, 1)
    # The whole block, twice; the block again, in a run that leaves out what is lost; the image alone, twice.
    assert (tmp_path / "deaths").read_text().split() == ["3", "3", "3", "3", "1", "1"]


def test_sources(images: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{images}/0.jpg\nhttp://host/x.jpg\nhere.jpg\n")
    found = find([str(tmp_path / "list.txt"), f"{images}/*.jpg", str(images / "0.jpg")])
    assert found.files == [
        f"{images}/0.jpg", "http://host/x.jpg", f"{tmp_path}/here.jpg",
        *(f"{images}/{i}.jpg" for i in (1, 2, 3)), f"{images}/bad.jpg",
    ]  # fmt: skip
    assert find([str(images)]).videos == 1
    (tmp_path / "empty").mkdir()
    for nothing in (str(tmp_path / "empty"), f"{images}/*.webp"):
        with pytest.raises(InputError, match="no images, Parquet files or tars there"):
            find([nothing])
    with pytest.raises(InputError, match="no file system that pyarrow reads"):
        find(["nowhere://bucket/x"])


def test_shards(images: Path, tmp_path: Path) -> None:
    whole = tar_of(images, tmp_path / "whole.tar")
    assert [Path(row["key"]).name for row in rows_of_shard(str(whole))] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    cut = list(rows_of_shard(str(tar_of(images, tmp_path / "cut.tar", cut=3000))))
    assert cut[-1]["key"] == str(tmp_path / "cut.tar")
    assert "damaged" in cut[-1]["error"]
    table = parquet_of({"url": ["s3://b/x.jpg", "y.jpg", None], "n": [1, 2, 3]}, tmp_path / "t.parquet")
    first, second, third = rows_of_shard(str(table))
    assert (first["key"], first["place"]) == ("s3://b/x.jpg", b"s3://b/x.jpg")
    assert (second["key"], second["place"]) == ("y.jpg", f"{tmp_path}/y.jpg".encode())
    assert third["error"] == f"{table}#2: holds no image, but NoneType"
    assert [row["key"] for row in rows_of_shard(str(table), key="n")] == ["1", "2", "3"]
    (error,) = rows_of_shard(str(table), column="image")
    assert "no column 'image'; there are url, n" in error["error"]
    (structs,) = rows_of_shard(str(parquet_of({"image": [{"bytes": b"x", "path": None}]}, tmp_path / "s.parquet")))
    assert (structs["data"], structs["key"]) == (b"x", f"{tmp_path}/s.parquet#0")


def test_a_worker_names_what_is_wrong(images: Path) -> None:
    worker = PoseWorker(ModelOptions(model="onepass", short_side=64, batch_size=4))
    names = [str(images / name) for name in ("0.jpg", "bad.jpg", "1.jpg", "none.jpg", "2.jpg")]
    rows = worker.rows([row_of_file(name) for name in names])
    assert sorted(row["key"] for row in rows) == sorted(names)
    kinds = {Path(row["key"]).name: row["error"] and error_kind(row["key"], row["error"]) for row in rows}
    assert {name: kind for name, kind in kinds.items() if kind} == {
        "bad.jpg": "cannot be decoded: it is damaged or not an image",
        "none.jpg": "cannot be read: No such file or directory",
    }


def test_s3(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading, looking for images, and the folder of results, on an S3 server of this machine."""
    server = pytest.importorskip("moto.server")
    import logging

    from pyarrow.fs import S3FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        for name, value in {
            "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        files = S3FileSystem(allow_bucket_creation=True, endpoint_override=f"{host}:{port}", scheme="http")
        files.create_dir("bucket")
        for name in ("0.jpg", "bad.jpg"):
            with files.open_output_stream(f"bucket/images/{name}") as stream:
                stream.write((images / name).read_bytes())
        assert find(["s3://bucket/images"]).files == ["s3://bucket/images/0.jpg", "s3://bucket/images/bad.jpg"]
        assert find(["s3://bucket/images/?.jpg"]).files == ["s3://bucket/images/0.jpg"]
        assert open_image(row_of_file("s3://bucket/images/0.jpg")).shape == (64, 96, 3)
        with pytest.raises(ImageError, match=r"image s3://bucket/images/bad.jpg cannot be decoded"):
            open_image(row_of_file("s3://bucket/images/bad.jpg"))
        with pytest.raises(ImageError, match=r"image s3://bucket/none.jpg cannot be read"):
            read_bytes("s3://bucket/none.jpg")
        for start in (0, 10):
            with ResultFolder("s3://bucket/poses") as folder:
                folder.begin(HEADER_ENTRIES)
                assert len(folder.done) == start
                folder.add(some_rows(start, start + 10))
        assert len(list(read_rows("s3://bucket/poses"))) == 20
    finally:
        moto.stop()
